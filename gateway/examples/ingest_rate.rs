//! How many records per second become durable, on each engine, and how many bytes that writes:
//! `cargo run --release -p gateway --example ingest_rate -- FOLDER [GROUPS]`.
//!
//! Groups of 256 records (4 batches of 64, from 4 devices) go through admission, one batch and one
//! barrier each, on one thread; then the same with a fold that moves every record into the history: a row
//! for each, runs as the gateway writes them, and block files outside the store, which it does not have.
//! FOLDER must be on the disk to be measured, and must not exist. Bytes written are those that this process
//! handed to the kernel (Linux only).

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

use gateway::clock::{monotonic, wall_utc};
use gateway::config::StoreEngine;
use gateway::ingest::admit::Admission;
use gateway::receipt::Commit;
use gateway::store::history::{self, Kept, Known};
use gateway::store::journal::{self, Chunk, Entry};
use gateway::store::{Batch, Store};
use protocol::batch::{BatchEncoder, BatchHeader};
use protocol::key::{Boot, DeviceId, Epoch, RecordKey, Seq};
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

/// Commits of one block file: 16,384 records, some 700 KB.
const BLOCK_COMMITS: u64 = 64;

/// Where records go from the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    Journal,
    Rows,
    Runs,
    Blocks,
}

impl Keeping {
    const ALL: [Self; 4] = [Self::Journal, Self::Rows, Self::Runs, Self::Blocks];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Journal => "journal only",
            Self::Rows => "a row per record",
            Self::Runs => "runs",
            Self::Blocks => "block files",
        }
    }
}

fn main() -> anyhow::Result<()> {
    let folder = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "ingest_rate.store".to_owned());
    let groups = std::env::args().nth(2);
    let groups = groups.map_or(Ok(GROUPS), |groups| groups.parse())?;
    for engine in StoreEngine::ALL {
        let folder = Path::new(&folder).join(engine.as_str());
        for keeping in Keeping::ALL {
            measure(engine, &folder.join(keeping.as_str()), groups, keeping)?;
        }
    }
    Ok(())
}

fn measure(engine: StoreEngine, folder: &Path, count: u32, keeping: Keeping) -> anyhow::Result<()> {
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
        fold(&store, commit, keeping)?;
        if keeping == Keeping::Blocks && commit.0.is_multiple_of(BLOCK_COMMITS) {
            block(&store, folder, commit)?;
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
        keeping.as_str(),
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

fn fold(store: &Store, commit: Commit, keeping: Keeping) -> anyhow::Result<()> {
    if matches!(keeping, Keeping::Journal | Keeping::Blocks) {
        return Ok(());
    }
    let mut batch = Batch::default();
    journal::each(store, commit, |chunk| {
        for (device, taken) in taken(&chunk) {
            if keeping == Keeping::Runs {
                for run in history::runs(&taken) {
                    history::keep(store, &mut batch, &device, run)?;
                }
                continue;
            }
            for (key, kept) in &taken {
                if let Kept::Known(known) = kept {
                    history::put(&mut batch, &device, *key, known);
                }
            }
        }
        journal::fold_taken(&mut batch, &chunk)?;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(store.apply(batch)?)
}

/// What a commit brought of each device, in key order.
fn taken(chunk: &Chunk) -> BTreeMap<DeviceId, Vec<(RecordKey, Kept)>> {
    let mut devices: BTreeMap<DeviceId, Vec<(RecordKey, Kept)>> = BTreeMap::new();
    for entry in &chunk.entries {
        let Entry::Records(records) = entry else {
            continue;
        };
        let kept = records.records.iter().map(|stored| {
            let key = RecordKey::new(records.epoch.0, records.boot.0, stored.seq.0);
            let known = Known {
                received_at: records.received_at,
                qos: records.qos,
                content: stored.content.clone(),
            };
            (key, Kept::Known(known))
        });
        let device = devices.entry(records.device.clone()).or_default();
        device.extend(kept);
    }
    devices
}

/// All that waits in the journal as one block file: written, synced, named, its name synced, and only then
/// removed from the journal.
fn block(store: &Store, folder: &Path, newest: Commit) -> anyhow::Result<()> {
    let mut devices: BTreeMap<DeviceId, Vec<(RecordKey, Kept)>> = BTreeMap::new();
    let mut batch = Batch::default();
    journal::each(store, Commit(0), |chunk| {
        for (device, taken) in taken(&chunk) {
            devices.entry(device).or_default().extend(taken);
        }
        journal::fold_taken(&mut batch, &chunk)?;
        Ok(ControlFlow::Continue(()))
    })?;
    let mut bytes = Vec::new();
    for (device, taken) in devices {
        bytes.extend_from_slice(device.as_str().as_bytes());
        for (key, kept) in taken {
            let Kept::Known(known) = kept else { continue };
            let content = known.content.bytes();
            bytes.extend_from_slice(&key.seq.0.to_be_bytes());
            bytes.extend_from_slice(&u16::try_from(content.len())?.to_be_bytes());
            bytes.extend_from_slice(content);
        }
    }
    let checksum = crc32fast::hash(&bytes).to_le_bytes();
    bytes.extend_from_slice(&checksum);
    let blocks = folder.join("block-files");
    fs::create_dir_all(&blocks)?;
    let unnamed = blocks.join("unfinished");
    let mut file = fs::File::create(&unnamed)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&unnamed, blocks.join(format!("{:016x}", newest.0)))?;
    fs::File::open(&blocks)?.sync_all()?;
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
