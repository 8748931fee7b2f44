//! What the trackers show: a cache of the history, kept up to date or rebuilt from it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use protocol::key::{DeviceId, RecordKey};
use protocol::record::Record;
use rules::event::View;
use rules::fact::Fact;
use rules::plan::shipment::Shipment;
use rules::watch::Heard;
use rules::{Context, Offered, Tracker, verdict};

use crate::store::content::Content;
use crate::store::history::{self, Kept};
use crate::store::journal::{Chunk, Entry};
use crate::store::{Store, StoreError};

/// The trackers that some shipment names.
#[derive(Debug, Default)]
pub(super) struct Trackers(BTreeMap<DeviceId, Tracker>);

impl Trackers {
    /// Every tracker of the plan from its history.
    pub(super) fn rebuild(store: &Store, context: &Context) -> Result<Self, StoreError> {
        let mut trackers = BTreeMap::new();
        for device in context.trackers() {
            trackers.insert(device.clone(), refold(store, context, device)?);
        }
        Ok(Self(trackers))
    }

    /// Take what `chunk` brings of `device`; the history holds it already. Whether a shipment's past
    /// changed: a late record, or one that is contested now.
    pub(super) fn advance(
        &mut self,
        store: &Store,
        context: &Context,
        device: &DeviceId,
        chunk: &Chunk,
    ) -> Result<bool, StoreError> {
        let Some(tracker) = self.0.get_mut(device) else {
            return Ok(false);
        };
        let (records, contested) = brought(device, chunk);
        let mut late = contested;
        let mut stale = contested;
        for (key, record) in records {
            if stale {
                break;
            }
            let offered = tracker.offer(context, key, &record);
            late |= offered == Offered::Late;
            stale |= offered != Offered::Folded;
        }
        if stale {
            *tracker = refold(store, context, device)?;
        }
        Ok(late)
    }

    /// A tracker that some shipment names.
    pub(super) fn tracker(&self, device: &DeviceId) -> Option<&Tracker> {
        self.0.get(device)
    }

    /// The verdict on a shipment from what its trackers show.
    pub(super) fn verdict(&self, context: &Context, shipment: &Shipment) -> View {
        let facts: Vec<Fact> = self
            .of(shipment)
            .flat_map(|(_, tracker)| tracker.facts(context))
            .collect();
        let verdict = verdict(context, &shipment.id, &facts);
        if verdict.facts_omitted > 0 {
            tracing::warn!(
                shipment = shipment.id,
                omitted = verdict.facts_omitted,
                "more facts than a verdict holds; the latest are left out"
            );
        }
        verdict.view
    }

    /// When each tracker of a shipment was last heard, in event time.
    pub(super) fn heard(
        &self,
        context: &Context,
        shipment: &Shipment,
    ) -> BTreeMap<DeviceId, Heard> {
        let heard = |(device, tracker): (&DeviceId, &Tracker)| {
            tracker.heard(context).map(|heard| (device.clone(), heard))
        };
        self.of(shipment).filter_map(heard).collect()
    }

    /// The trackers of a shipment, each once.
    fn of<'a>(
        &'a self,
        shipment: &'a Shipment,
    ) -> impl Iterator<Item = (&'a DeviceId, &'a Tracker)> {
        let attached = shipment.units.iter().flat_map(|unit| &unit.trackers);
        let devices: std::collections::BTreeSet<&DeviceId> =
            attached.map(|attachment| &attachment.device).collect();
        devices
            .into_iter()
            .filter_map(|device| self.0.get_key_value(device))
    }
}

fn refold(store: &Store, context: &Context, device: &DeviceId) -> Result<Tracker, StoreError> {
    let mut records = Vec::new();
    history::each(store, device, None, |key, kept| {
        if let Kept::Known(known) = kept
            && let Some(record) = record(device, key, &known.content)
        {
            records.push((key, record));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(Tracker::refold(context, device, &records))
}

/// What a chunk holds of a device: its records in key order, and whether a key of it became contested.
fn brought(device: &DeviceId, chunk: &Chunk) -> (Vec<(RecordKey, Record)>, bool) {
    let mut records = Vec::new();
    let mut contested = false;
    for entry in &chunk.entries {
        match entry {
            Entry::Contested { device: whose, .. } => contested |= whose == device,
            Entry::Records(arrived) if arrived.device == *device => {
                for stored in &arrived.records {
                    let key = RecordKey {
                        epoch: arrived.epoch,
                        boot: arrived.boot,
                        seq: stored.seq,
                    };
                    let read = record(device, key, &stored.content);
                    records.extend(read.map(|record| (key, record)));
                }
            }
            Entry::Records(_) => {}
        }
    }
    records.sort_by_key(|(key, _)| *key);
    (records, contested)
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
