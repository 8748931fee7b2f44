//! The demo's own receiver: reads what the file sink has delivered.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use chrono::DateTime;
use serde::Deserialize;
use simulator::expect::Delivered;

use super::live::EventLine;

/// Follows a growing file of CloudEvents.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    read_bytes: u64,
    /// Everything delivered so far, in order.
    pub(super) delivered: Vec<Delivered>,
}

/// The parts of a CloudEvent the demo shows and compares.
#[derive(Deserialize)]
struct Told {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    event_id: String,
    rev: u32,
    phase: String,
    shipment: String,
    code: String,
    title: String,
    next_action: String,
    occurred_at: String,
    ended_at: Option<String>,
    place: Option<Place>,
}

#[derive(Deserialize)]
struct Place {
    lat: f64,
    lon: f64,
    accuracy_m: f64,
}

impl Tail {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self {
            path,
            read_bytes: 0,
            delivered: Vec::new(),
        }
    }

    /// What has been delivered since the last call. A line that is not finished yet is left for later.
    pub(super) fn news(&mut self) -> io::Result<Vec<EventLine>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened?,
        };
        file.seek(SeekFrom::Start(self.read_bytes))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        self.read_bytes += whole.len() as u64;
        let mut news = Vec::new();
        for line in whole.lines() {
            let told: Told = serde_json::from_str(line)?;
            news.push(told.data.line());
            self.delivered.push(told.data.delivered()?);
        }
        Ok(news)
    }

    /// Events by code that stand: the last revision of each, retracted ones left out.
    pub(super) fn codes(&self) -> BTreeMap<String, u64> {
        let mut last: BTreeMap<&str, &Delivered> = BTreeMap::new();
        for told in &self.delivered {
            let newest = last.entry(&told.event_id).or_insert(told);
            if told.revision >= newest.revision {
                *newest = told;
            }
        }
        let mut codes = BTreeMap::new();
        for event in last.values().filter(|event| event.phase != "retract") {
            *codes.entry(event.code.clone()).or_default() += 1;
        }
        codes
    }
}

impl Data {
    fn line(&self) -> EventLine {
        // RFC 3339: the time of day stands at a fixed place.
        let time = self.occurred_at.get(11..16).unwrap_or_default().to_owned();
        EventLine {
            time,
            phase: self.phase.clone(),
            code: self.code.clone(),
            shipment: self.shipment.clone(),
            title: self.title.clone(),
            next: self.next_action.clone(),
        }
    }

    fn delivered(self) -> io::Result<Delivered> {
        let ended_at_ms = self.ended_at.as_deref().map(millis).transpose()?;
        Ok(Delivered {
            occurred_at_ms: millis(&self.occurred_at)?,
            ended_at_ms,
            event_id: self.event_id,
            revision: self.rev,
            phase: self.phase,
            shipment: self.shipment,
            code: self.code,
            lat: self.place.as_ref().map(|place| place.lat),
            lon: self.place.as_ref().map(|place| place.lon),
            accuracy_m: self.place.as_ref().map(|place| place.accuracy_m),
        })
    }
}

fn millis(text: &str) -> io::Result<i64> {
    let time = DateTime::parse_from_rfc3339(text);
    let fault = |error| io::Error::new(io::ErrorKind::InvalidData, format!("{text}: {error}"));
    time.map(|time| time.timestamp_millis()).map_err(fault)
}
