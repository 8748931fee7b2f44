//! What a round brings, by device.
//!
//! A round is one commit of the journal, or several when many wait: then verdicts, batches and barriers are
//! paid for once.

use std::collections::BTreeMap;

use protocol::key::{DeviceId, RecordKey};
use protocol::record::Record;

use crate::store::content::Content;
use crate::store::damage::unreadable;
use crate::store::history::{Kept, Known};
use crate::store::journal::{Chunk, Entry, Records};
use crate::store::{Store, StoreError};

/// What a round brings of one device.
#[derive(Debug, Default)]
pub(super) struct Brought {
    /// What the history is to hold of it, in key order: new records, and keys that are contested now. A record
    /// that came and was contested in the same round is not believed at all.
    pub(super) kept: Vec<(RecordKey, Kept)>,
}

impl Brought {
    /// Its records, in key order.
    pub(super) fn records(&self) -> impl Iterator<Item = (RecordKey, &Known)> {
        self.kept.iter().filter_map(|(key, kept)| match kept {
            Kept::Known(known) => Some((*key, known)),
            Kept::Contested => None,
        })
    }

    /// Keys that are contested now.
    pub(super) fn contested(&self) -> impl Iterator<Item = RecordKey> {
        let contested = self.kept.iter();
        let contested = contested.filter(|(_, kept)| *kept == Kept::Contested);
        contested.map(|(key, _)| *key)
    }

    /// The record under `key`, if the round brought it.
    pub(super) fn record(&self, key: RecordKey) -> Option<&Known> {
        let place = self.kept.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        match self.kept.get(place)? {
            (_, Kept::Known(known)) => Some(known),
            (_, Kept::Contested) => None,
        }
    }
}

/// What the chunks bring, each device once.
pub(super) fn by_device(chunks: &mut [Chunk]) -> BTreeMap<DeviceId, Brought> {
    let mut devices: BTreeMap<DeviceId, Brought> = BTreeMap::new();
    for entry in chunks.iter_mut().flat_map(|chunk| chunk.entries.drain(..)) {
        match entry {
            Entry::Contested { device, key } => {
                let brought = devices.entry(device).or_default();
                brought.kept.push((key, Kept::Contested));
            }
            Entry::Records(arrived) => {
                let brought = devices.entry(arrived.device.clone()).or_default();
                brought.kept.extend(known(arrived));
            }
        }
    }
    for Brought { kept } in devices.values_mut() {
        // What is contested comes first of its key, and stays.
        kept.sort_by_key(|(key, kept)| (*key, *kept != Kept::Contested));
        kept.dedup_by_key(|(key, _)| *key);
    }
    devices
}

fn known(arrived: Records) -> impl Iterator<Item = (RecordKey, Kept)> {
    let Records {
        epoch,
        boot,
        received_at,
        qos,
        records,
        ..
    } = arrived;
    records.into_iter().map(move |stored| {
        let key = RecordKey {
            epoch,
            boot,
            seq: stored.seq,
        };
        let known = Known {
            received_at,
            qos,
            content: stored.content,
        };
        (key, Kept::Known(known))
    })
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
