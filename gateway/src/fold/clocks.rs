//! The clocks of the trackers, as far as the time of reception shows.
//!
//! Known of the records received since the gateway started: a clock of which nothing came since stays as
//! it was told.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::key::{DeviceId, RecordKey};
use rules::Tracker;
use rules::watch::clock::{ClockState, ClockWatch, Sighting};

use super::brought::record;
use crate::store::journal::{Chunk, Entry};

/// The watches, by tracker.
#[derive(Debug, Default)]
pub(super) struct Clocks(BTreeMap<DeviceId, ClockWatch>);

impl Clocks {
    /// Look at the newest record of `device`, if `chunk` brought it. `tracker` has taken the chunk.
    pub(super) fn look(
        &mut self,
        device: &DeviceId,
        tracker: &Tracker,
        chunk: &Chunk,
        tolerance: Duration,
    ) {
        let newest = tracker.newest();
        if let Some(seen) = newest.and_then(|key| sighting(device, tracker, chunk, key)) {
            let watch = self.0.entry(device.clone()).or_default();
            watch.observe(&seen, tolerance);
        }
    }

    /// What is known of each.
    pub(super) fn states(&self) -> BTreeMap<DeviceId, ClockState> {
        let state = |(device, watch): (&DeviceId, &ClockWatch)| {
            watch.state().map(|state| (device.clone(), state))
        };
        self.0.iter().filter_map(state).collect()
    }
}

/// The record `key` of `device` as `chunk` brought it; `None` when it did not.
fn sighting(
    device: &DeviceId,
    tracker: &Tracker,
    chunk: &Chunk,
    key: RecordKey,
) -> Option<Sighting> {
    for entry in &chunk.entries {
        let Entry::Records(arrived) = entry else {
            continue;
        };
        if (&arrived.device, arrived.epoch, arrived.boot) != (device, key.epoch, key.boot) {
            continue;
        }
        let found = arrived.records.iter().find(|stored| stored.seq == key.seq);
        if let Some(stored) = found {
            let record = record(device, key, &stored.content)?;
            let stamp = tracker.timeline().stamp(key, record.uptime());
            return Some(Sighting {
                key,
                received_at: arrived.received_at,
                at: stamp.map(|stamp| stamp.dated.at),
                refused: tracker.timeline().is_newest_refused(key),
            });
        }
    }
    None
}
