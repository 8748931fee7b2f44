//! How many records per second become durable, on each engine, and how many bytes that writes:
//! `cargo run --release -p gateway --example ingest_rate -- FOLDER [GROUPS]`.
//!
//! Groups of 256 records (4 batches of 64, from 4 devices) go through admission, one batch and one
//! barrier each, on one thread; then the same with a fold that moves every record into the history.
//! FOLDER must be on the disk to be measured, and must not exist. Bytes written are those that this process
//! handed to the kernel (Linux only).

use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

use gateway::clock::{monotonic, wall_utc};
use gateway::config::StoreEngine;
use gateway::ingest::admit::Admission;
use gateway::receipt::Commit;
use gateway::store::history::{self, Known};
use gateway::store::journal::{self, Entry};
use gateway::store::{Batch, Store};
use protocol::batch::{BatchEncoder, BatchHeader};
use protocol::key::{Boot, Epoch, RecordKey, Seq};
use protocol::reading::{Battery, FixQuality, Measured, Missing, Position, Reading};
use protocol::record::{Numbered, Record};
use protocol::topic::{Channel, Topic};
use protocol::units::{
    CentiCelsius, Dbm, Decimetres, DecimetresPerSecond, Latitude, Longitude, Millivolts, Percent,
    Seconds, UptimeMs,
};

/// Groups, when nobody says how many.
const GROUPS: u32 = 2_000;
const DEVICES: u32 = 4;
const RECORDS_PER_BATCH: u32 = 64;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "ingest_rate.store".to_owned());
    let groups = std::env::args().nth(2);
    let groups = groups.map_or(Ok(GROUPS), |groups| groups.parse())?;
    for engine in StoreEngine::ALL {
        let folder = Path::new(&folder).join(engine.as_str());
        measure(engine, &folder.join("journal"), groups, false)?;
        measure(engine, &folder.join("history"), groups, true)?;
    }
    Ok(())
}

fn measure(engine: StoreEngine, folder: &Path, count: u32, with_fold: bool) -> anyhow::Result<()> {
    anyhow::ensure!(!folder.exists(), "{} exists already", folder.display());
    let written_before = written_bytes()?;
    let store = Store::open_on(engine, folder)?;
    let mut admission = Admission::open(&store)?;
    let groups: Vec<Vec<(Topic, Vec<u8>)>> = (0..count).map(group).collect();
    let payload_bytes: usize = groups
        .iter()
        .flatten()
        .map(|(_, payload)| payload.len())
        .sum();
    let begun = monotonic();
    for group in groups {
        admission.begin(wall_utc())?;
        for (topic, payload) in group {
            admission.admit(&topic, &payload, 1)?;
        }
        let sealed = admission.seal()?;
        let commit = sealed.commit;
        store.apply(sealed.batch)?;
        admission.settle(commit);
        store.barrier()?;
        if with_fold {
            fold(&store, commit)?;
        }
    }
    store.barrier()?;
    let seconds = begun.elapsed().as_secs_f64();
    let records = f64::from(count * DEVICES * RECORDS_PER_BATCH);
    let payload = payload_bytes as f64;
    let live = store.live_bytes()? as f64 / payload;
    let on_disk = store.size_bytes()? as f64 / payload;
    drop(store);
    let written = (written_bytes()? - written_before) as f64 / payload;
    writeln!(
        std::io::stdout(),
        "{}, {}: {:.0} records/s, {:.0} barriers/s; for each of {:.0} payload bytes per record \
         {written:.1} bytes written, {on_disk:.1} on disk, {live:.1} live",
        engine.as_str(),
        if with_fold {
            "journal and history"
        } else {
            "journal only"
        },
        records / seconds,
        f64::from(count) / seconds,
        payload / records,
    )?;
    Ok(())
}

/// What this process has handed to the kernel to write, in bytes; its output to people is negligible.
fn written_bytes() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/io")?;
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
    Ok(line.unwrap_or_default().parse()?)
}

fn fold(store: &Store, commit: Commit) -> anyhow::Result<()> {
    let mut batch = Batch::default();
    journal::each(store, commit, |chunk| {
        for entry in &chunk.entries {
            let Entry::Records(records) = entry else {
                continue;
            };
            for stored in &records.records {
                let key = RecordKey::new(records.epoch.0, records.boot.0, stored.seq.0);
                let known = Known {
                    received_at: records.received_at,
                    qos: records.qos,
                    content: stored.content.clone(),
                };
                history::put(&mut batch, &records.device, key, &known);
            }
        }
        journal::fold_taken(&mut batch, &chunk)?;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(store.apply(batch)?)
}

fn group(number: u32) -> Vec<(Topic, Vec<u8>)> {
    (0..DEVICES)
        .map(|device| batch(device, number * RECORDS_PER_BATCH))
        .collect()
}

#[expect(clippy::expect_used, reason = "fixed names and sizes that fit")]
fn batch(device: u32, first: u32) -> (Topic, Vec<u8>) {
    let header = BatchHeader {
        epoch: Epoch(7),
        boot: Boot(0),
        oldest_pending: RecordKey::new(7, 0, first),
    };
    let mut buffer = [0; 8_192];
    let mut encoder = BatchEncoder::new(&mut buffer, header).expect("the header fits");
    for seq in first..first + RECORDS_PER_BATCH {
        let record = Record::Reading(reading(seq));
        let numbered = Numbered {
            seq: Seq(seq),
            record,
        };
        encoder.push(&numbered).expect("64 readings fit into 8 KiB");
    }
    let device = format!("bench-{device}").parse().expect("a device id");
    (
        Topic::new(device, Channel::Readings),
        encoder.finish().to_vec(),
    )
}

/// A moving tracker; the low bits stand for noise.
fn reading(seq: u32) -> Reading {
    let (step, noise) = (
        i64::from(seq),
        i64::from(seq.wrapping_mul(2_654_435_761) >> 22),
    );
    let mut reading = Reading::empty(UptimeMs::saturating(step * 60_000 + noise));
    reading.position = Measured::Value(Position {
        latitude: Latitude::saturating(519_000_000 + step * 80 + noise),
        longitude: Longitude::saturating(44_000_000 + step * 120 - noise),
        accuracy: Decimetres::saturating(40 + noise % 20),
        speed: DecimetresPerSecond::saturating(200 + noise % 30),
        course: Measured::Missing(Missing::NotSampled),
        quality: FixQuality::Gnss3d,
        satellites: 9,
        age: Seconds::saturating(0),
    });
    reading.temperatures[0] = Measured::Value(CentiCelsius::saturating(400 + noise % 50));
    reading.battery = Measured::Value(Battery {
        voltage: Millivolts::saturating(3_900 - step % 100),
        charge: Percent::saturating(90),
    });
    reading.radio = Measured::Value(Dbm::saturating(-80 - noise % 10));
    reading
}
