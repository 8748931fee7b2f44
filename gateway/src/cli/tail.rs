//! The demo's own receiver: reads what the file sink has delivered.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use chrono::{DateTime, FixedOffset};
use serde::Deserialize;

use super::live::EventLine;

/// Follows a growing file of CloudEvents.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    read_bytes: u64,
    /// Everything delivered so far, in order.
    pub(super) told: Vec<Told>,
}

/// One notification, as far as the demo shows and compares it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Told {
    pub(super) event_id: String,
    pub(super) rev: u32,
    pub(super) phase: String,
    pub(super) shipment: String,
    pub(super) code: String,
    pub(super) title: String,
    pub(super) next_action: String,
    pub(super) occurred_at: DateTime<FixedOffset>,
    pub(super) ended_at: Option<DateTime<FixedOffset>>,
    pub(super) place: Option<Place>,
}

/// Where it happened.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Place {
    pub(super) lat: f64,
    pub(super) lon: f64,
    pub(super) accuracy_m: f64,
}

/// The envelope.
#[derive(Deserialize)]
struct CloudEvent {
    data: Told,
}

impl Tail {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self {
            path,
            read_bytes: 0,
            told: Vec::new(),
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
            let CloudEvent { data } = serde_json::from_str(line)?;
            news.push(data.line());
            self.told.push(data);
        }
        Ok(news)
    }

    /// Events by code that stand: the last revision of each, retracted ones left out.
    pub(super) fn codes(&self) -> BTreeMap<String, u64> {
        let mut last: BTreeMap<&str, &Told> = BTreeMap::new();
        for told in &self.told {
            let newest = last.entry(&told.event_id).or_insert(told);
            if told.rev >= newest.rev {
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

impl Told {
    fn line(&self) -> EventLine {
        EventLine {
            time: self.occurred_at.format("%H:%M").to_string(),
            phase: self.phase.clone(),
            code: self.code.clone(),
            shipment: self.shipment.clone(),
            title: self.title.clone(),
            next: self.next_action.clone(),
        }
    }
}
