//! The clocks of the trackers, as far as the time of reception shows.
//!
//! Known of the records received since the gateway started: a clock of which nothing came since stays as
//! it was told.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::key::{DeviceId, RecordKey};
use rules::Tracker;
use rules::watch::clock::{ClockState, ClockWatch, Sighting};

use super::brought::{Brought, record};

/// The watches, by tracker.
#[derive(Debug, Default)]
pub(super) struct Clocks(BTreeMap<DeviceId, ClockWatch>);

impl Clocks {
    /// Look at the newest record of `device`, if the round brought it. `tracker` has taken the round.
    pub(super) fn look(
        &mut self,
        device: &DeviceId,
        tracker: &Tracker,
        brought: &Brought,
        tolerance: Duration,
    ) {
        let newest = tracker.newest();
        if let Some(seen) = newest.and_then(|key| sighting(device, tracker, brought, key)) {
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

/// The record `key` of `device` as the round brought it; `None` when it did not.
fn sighting(
    device: &DeviceId,
    tracker: &Tracker,
    brought: &Brought,
    key: RecordKey,
) -> Option<Sighting> {
    let known = brought.record(key)?;
    let record = record(device, key, &known.content)?;
    let stamp = tracker.timeline().stamp(key, record.uptime());
    Some(Sighting {
        key,
        received_at: known.received_at,
        at: stamp.map(|stamp| stamp.dated.at),
        refused: tracker.timeline().is_newest_refused(key),
    })
}
