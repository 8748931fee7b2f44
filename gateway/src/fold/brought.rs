//! What a chunk of the journal brings, by device.

use std::collections::BTreeMap;

use protocol::key::{DeviceId, RecordKey};
use protocol::record::Record;

use crate::store::content::Content;
use crate::store::damage::unreadable;
use crate::store::journal::{Chunk, Entry};
use crate::store::{Store, StoreError};

/// What a chunk brings of one device.
#[derive(Debug, Default)]
pub(super) struct Brought<'c> {
    /// New records in key order, as they are stored.
    pub(super) records: Vec<(RecordKey, &'c Content)>,
    /// Keys that are contested now.
    pub(super) contested: Vec<RecordKey>,
}

/// The chunk's entries by device, each device once.
pub(super) fn by_device(chunk: &Chunk) -> BTreeMap<&DeviceId, Brought<'_>> {
    let mut devices: BTreeMap<&DeviceId, Brought<'_>> = BTreeMap::new();
    for entry in &chunk.entries {
        match entry {
            Entry::Contested { device, key } => {
                devices.entry(device).or_default().contested.push(*key);
            }
            Entry::Records(arrived) => {
                let key = |seq| RecordKey {
                    epoch: arrived.epoch,
                    boot: arrived.boot,
                    seq,
                };
                let stored = arrived.records.iter();
                let records = stored.map(|stored| (key(stored.seq), &stored.content));
                let brought = devices.entry(&arrived.device).or_default();
                brought.records.extend(records);
            }
        }
    }
    for brought in devices.values_mut() {
        brought.records.sort_by_key(|(key, _)| *key);
    }
    devices
}

/// The record, if this version can read it. One that checks and cannot be read was written by another
/// version: it stays where it is, the verdict does without it, and the log says so.
pub(super) fn record(device: &DeviceId, key: RecordKey, content: &Content) -> Option<Record> {
    match content.decode() {
        Ok(numbered) => Some(numbered.record),
        Err(error) => {
            tracing::error!(%device, %key, "a stored record cannot be read: {error}");
            None
        }
    }
}

/// The same of a record on its way into the fold: one that cannot be read is counted, once.
pub(super) fn counted(
    store: &Store,
    device: &DeviceId,
    key: RecordKey,
    content: &Content,
) -> Result<Option<Record>, StoreError> {
    let record = record(device, key, content);
    if record.is_none() {
        unreadable::note(store, device, key)?;
    }
    Ok(record)
}
