//! A journal full of readings that nobody has folded yet.

use anyhow::{Context, Result};
use gateway::store::content::Content;
use gateway::store::journal::{self, Entry, Records, Stored};
use gateway::store::{Batch, Commit, Store};
use protocol::batch;
use protocol::record::Numbered;
use protocol::units::UtcMs;

use crate::device::{BOOT_UTC_MS, Device, Payload};

/// Commits between two barriers while the journal is filled.
const BARRIER_COMMITS: u64 = 1_000;

/// How readings are cut into publications, and those into commits.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Readings of one publication.
    pub records: u32,
    /// Publications of one group commit.
    pub publications: usize,
}

/// Journals `readings` of so many trackers, which take turns, and makes them durable. Returns the bytes of
/// their payloads.
///
/// # Errors
/// When the store fails.
pub fn fill(
    store: &Store,
    seed: u64,
    (readings, trackers): (u32, u32),
    shape: Shape,
) -> Result<u64> {
    let devices: Result<Vec<Device>> = (0..trackers).map(|i| Device::new(seed, i)).collect();
    let mut devices = devices?;
    let publications = readings.div_ceil(shape.records);
    let mut entries = Vec::new();
    let mut payload_bytes = 0;
    let mut commit = Commit(0);
    for (number, device) in (0..publications).zip((0..devices.len()).cycle()) {
        let device = devices.get_mut(device).context("a device")?;
        let payload = device.batch(shape.records)?;
        payload_bytes += payload.bytes.len() as u64;
        entries.push(entry(&payload)?);
        if entries.len() == shape.publications || number + 1 == publications {
            commit.0 += 1;
            let mut batch = Batch::default();
            journal::append(&mut batch, commit, &entries)?;
            store.apply(batch)?;
            entries.clear();
            if commit.0.is_multiple_of(BARRIER_COMMITS) {
                store.barrier()?;
            }
        }
    }
    store.barrier()?;
    Ok(payload_bytes)
}

fn entry(payload: &Payload) -> Result<Entry> {
    let (first, _) = payload.records.first().context("an empty payload")?;
    let mut records = Vec::new();
    for (name, record) in &payload.records {
        let numbered = Numbered {
            seq: name.key.seq,
            record: *record,
        };
        let content = Content::of(&batch::Entry {
            numbered,
            unknown: &[],
        });
        records.push(Stored {
            seq: name.key.seq,
            content: content.ok().context("a record longer than the longest")?,
        });
    }
    Ok(Entry::Records(Records {
        device: first.device.clone(),
        epoch: first.key.epoch,
        boot: first.key.boot,
        received_at: UtcMs::saturating(BOOT_UTC_MS),
        qos: 1,
        oldest_pending: first.key,
        records,
    }))
}
