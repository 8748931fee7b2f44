//! Alarms before the rounds of a backlog.
//!
//! When more waits than a round takes, what is urgent of all of it goes first, from the copies that were
//! journalled beside it: alarms enter the history and are judged, and the cursor stays. When it comes to their
//! commit, they are found in the history, as after a round that was cut off. For the verdict an alarm that
//! was taken ahead is a record that arrived before others, no more.
//!
//! An alarm opens nothing before its clock is known: of a boot whose first anchor waits in the journal, it is
//! judged when that anchor is folded.

use std::collections::{BTreeMap, BTreeSet};

use protocol::key::{DeviceId, RecordKey};

use super::Fold;
use super::brought::{self, Brought};
use crate::store::history::{self, Kept};
use crate::store::journal::{Chunk, Entry, Stored, urgent};
use crate::store::{Batch, Store, StoreError};

/// Alarms taken ahead of one round: some milliseconds, a tenth of what a round takes, so that a storm of
/// alarms does not hold up what else waits.
const URGENT_RECORDS: usize = 512;

impl Fold {
    /// Take the oldest alarms that wait, and leave their commits to their turn.
    pub(super) fn take_urgent(&mut self) -> Result<(), StoreError> {
        let mut copies = urgent::oldest(&self.store, URGENT_RECORDS)?;
        if copies.is_empty() {
            return Ok(());
        }
        let mut taken = Batch::default();
        urgent::taken(&mut taken, &copies);
        // A salvage may bring back the copy of a commit that was folded.
        copies.retain(|copy| copy.commit > self.store.newest_folded());
        let alarms = alarms(&copies);
        let devices = news(&self.store, brought::by_device(&mut copies), &alarms)?;
        for device in devices.keys() {
            self.trackers.hurry(&self.context, device);
        }
        // What is too late for a sealed shipment is counted when its turn comes.
        let (_, concerned) = self.bring(&devices)?;
        self.settle(&devices, taken, &concerned)
    }
}

/// The keys of the alarms among the copies.
fn alarms(copies: &[Chunk]) -> BTreeSet<(DeviceId, RecordKey)> {
    let mut alarms = BTreeSet::new();
    for entry in copies.iter().flat_map(|copy| &copy.entries) {
        if let Entry::Records(arrived) = entry {
            let key = |stored: &Stored| RecordKey {
                epoch: arrived.epoch,
                boot: arrived.boot,
                seq: stored.seq,
            };
            let keys = arrived.records.iter().map(key);
            alarms.extend(keys.map(|key| (arrived.device.clone(), key)));
        }
    }
    alarms
}

/// Of what is urgent, what may be taken before its turn: alarms that the history does not hold, and the word
/// that the key of an alarm is contested. About another record it waits: taken ahead of that record, it
/// would be forgotten when that comes.
fn news(
    store: &Store,
    mut devices: BTreeMap<DeviceId, Brought>,
    alarms: &BTreeSet<(DeviceId, RecordKey)>,
) -> Result<BTreeMap<DeviceId, Brought>, StoreError> {
    for (device, brought) in &mut devices {
        let mut kept = Vec::new();
        for (key, one) in brought.kept.drain(..) {
            let held = history::value(store, device, key)?;
            let is_news = match (&one, held) {
                (Kept::Known(_), None) => true,
                (Kept::Contested, None) => alarms.contains(&(device.clone(), key)),
                (Kept::Contested, Some(Kept::Known(known))) => known.content.is_alarm(),
                (Kept::Known(_) | Kept::Contested, Some(_)) => false,
            };
            if is_news {
                kept.push((key, one));
            }
        }
        brought.kept = kept;
    }
    devices.retain(|_, brought| !brought.kept.is_empty());
    Ok(devices)
}
