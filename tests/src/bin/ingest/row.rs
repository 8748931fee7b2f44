//! A row of the bench.

use std::fs::File;
use std::io::Write;

use anyhow::Result;
use gateway::clock::monotonic;
use serde_json::{Map, Value, json};
use tests::cost::Cost;
use tests::flood::{Outcome, Plan};

use crate::subject::{Drained, FENCES, Name, Subject};

/// Appends of the floor, enough for a steady median.
const FLOOR_APPENDS: u32 = 2_000;

/// Bytes of one append of the floor: one reading with its journal frame.
const FLOOR_BYTES: usize = 200;

/// Flat, in the order of printing.
#[derive(Debug)]
pub(crate) struct Row(Map<String, Value>);

impl Row {
    #[expect(
        clippy::cast_precision_loss,
        reason = "rates need no more than 52 bits"
    )]
    pub(crate) fn new(
        subject: &Subject,
        plan: &Plan,
        outcome: &Outcome,
        drained: Drained,
        spent: &Cost,
    ) -> Self {
        let gateway = subject.name == Name::Supercargo;
        let until_folded = (outcome.took + drained.took).as_secs_f64();
        let folded_per_s = drained.stored as f64 / until_folded;
        let written = spent.written_bytes as f64 / outcome.payload_bytes.max(1) as f64;
        let fields = json!({
            "name": subject.name.as_str(),
            "server_version": subject.version,
            "connections": plan.connections,
            "window": plan.window,
            "per_s_wanted": plan.per_s,
            "messages": outcome.acknowledged,
            "msgs_per_s": rounded(outcome.per_s(), 0),
            "folded_per_s": gateway.then(|| rounded(folded_per_s, 0)),
            "p50_us": outcome.percentile_us(0.5),
            "p99_us": outcome.percentile_us(0.99),
            "drain_s": rounded(drained.took.as_secs_f64(), 2),
            "rss_mb": rounded(spent.rss_mb, 1),
            "cpu_s": rounded(spent.cpu_s, 2),
            "bytes_written_per_payload_byte": rounded(written, 1),
            "fences": if gateway { FENCES } else { 0 },
            "plans": subject.shipments,
            "events": drained.events,
        });
        match fields {
            Value::Object(fields) => Self(fields),
            _ => Self(Map::new()),
        }
    }

    pub(crate) fn print(&self, json: bool) {
        if json {
            println!("{}", Value::Object(self.0.clone()));
            return;
        }
        let shown = self.0.iter().filter(|(_, value)| !value.is_null());
        let shown: Vec<_> = shown
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        println!("{}", shown.join("  "));
    }
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

/// What one append and its `fdatasync` take on this disk: no receipt can be faster.
pub(crate) fn floor() -> Result<Row> {
    let folder = tempfile::tempdir()?;
    let mut file = File::create(folder.path().join("log"))?;
    let mut took_us = Vec::new();
    for _ in 0..FLOOR_APPENDS {
        let start = monotonic();
        file.write_all(&[7; FLOOR_BYTES])?;
        file.sync_data()?;
        took_us.push(u32::try_from(start.elapsed().as_micros())?);
    }
    took_us.sort_unstable();
    let outcome = Outcome {
        latencies_us: took_us,
        ..Outcome::default()
    };
    let mut fields = Map::new();
    fields.insert("name".to_owned(), "append_fdatasync".into());
    fields.insert("p50_us".to_owned(), outcome.percentile_us(0.5).into());
    fields.insert("p99_us".to_owned(), outcome.percentile_us(0.99).into());
    Ok(Row(fields))
}
