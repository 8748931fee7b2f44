//! What the gateway has of each tracker, for the demo's live view: received data, never the truth.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use protocol::key::{DeviceId, RecordKey};
use protocol::reading::{Position, Reading};
use protocol::record::Record;
use protocol::units::UtcMs;
use rules::timeline::Timeline;

use crate::store::history::{self, Kept};
use crate::store::{Store, StoreError};

/// Follows the histories of all trackers.
#[derive(Default)]
pub(super) struct Heard(BTreeMap<DeviceId, Newest>);

/// The newest that is known of one tracker.
#[derive(Default)]
pub(super) struct Newest {
    timeline: Timeline,
    read_to: Option<RecordKey>,
    /// Its newest reading, and when that was taken.
    pub(super) reading: Option<(Reading, Option<UtcMs>)>,
    /// Its newest position, from that reading or an older one.
    pub(super) position: Option<Position>,
}

impl Heard {
    /// The newest of a device, with what has come since the last call.
    pub(super) fn newest(
        &mut self,
        store: &Store,
        device: &DeviceId,
    ) -> Result<&Newest, StoreError> {
        let newest = self.0.entry(device.clone()).or_default();
        history::each(store, device, newest.read_to, |key, kept| {
            if let Kept::Known(known) = kept
                && let Ok(numbered) = known.content.decode()
            {
                newest.take(key, &numbered.record);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(newest)
    }
}

impl Newest {
    fn take(&mut self, key: RecordKey, record: &Record) {
        self.read_to = Some(key);
        self.timeline.learn(key, record);
        if let Record::Reading(reading) = record {
            let stamp = self.timeline.stamp(key, reading.uptime);
            self.reading = Some((*reading, stamp.map(|stamp| stamp.dated.at)));
            self.position = reading.position.value().or(self.position);
        }
    }

    /// Temperature of the first probe that has one, in degrees Celsius.
    pub(super) fn celsius(&self) -> Option<f64> {
        let (reading, _) = self.reading.as_ref()?;
        let values = reading.temperatures.iter();
        values
            .filter_map(|value| value.value())
            .map(|value| value.celsius())
            .next()
    }

    /// Charge in percent.
    pub(super) fn battery(&self) -> Option<u8> {
        let (reading, _) = self.reading.as_ref()?;
        Some(reading.battery.value()?.charge.get())
    }
}
