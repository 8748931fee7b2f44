//! What comes of a tracker after a seal and belongs before it.
//!
//! A record is late for a sealed shipment when its key is not under the seal and its time lies where the
//! tracker was on the shipment, up to the moment of the seal: what a tracker sees afterwards is not late. One
//! that nothing dates counts as late for the newest seal, because it may be.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use protocol::key::{Boot, DeviceId, Epoch, RecordKey, Seq};
use protocol::record::Record;
use rules::timeline::Timeline;

use super::brought::{Brought, record};
use crate::store::history::{self, Kept};
use crate::store::seal::{self, Cover, Late};
use crate::store::{Store, StoreError};

/// First records of a boot that are read for its clock, when no shipment watches the tracker any more: an
/// anchor is among the first few when there is any.
const CLOCK_RECORDS: usize = 256;

/// One boot of a device.
type Life = (Epoch, Boot);

/// What is known of the trackers that seals name.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    /// By tracker, since it was first heard in this life of the gateway: until when something that it sees may
    /// concern a sealed shipment, in milliseconds since 1970; `None` when no seal names it.
    until_ms: BTreeMap<DeviceId, Option<i64>>,
    /// Clock of the newest boot of each tracker that is not folded.
    clocks: BTreeMap<DeviceId, (Life, Timeline)>,
    /// Trackers of which the log has told.
    told: BTreeSet<DeviceId>,
}

impl Lateness {
    /// A seal that names `device` was written.
    pub(super) fn forget(&mut self, device: &DeviceId) {
        self.until_ms.remove(device);
    }

    /// What a round brings of `device` too late, by shipment; `timeline` is that of its tracker, if it is folded.
    pub(super) fn of(
        &mut self,
        store: &Store,
        device: &DeviceId,
        brought: &Brought,
        timeline: Option<&Timeline>,
    ) -> Result<BTreeMap<String, Late>, StoreError> {
        let mut late = BTreeMap::new();
        let Some(until_ms) = self.until_ms(store, device)? else {
            return Ok(late);
        };
        let times = self.times(store, device, brought, timeline)?;
        let is_past = |at_ms: &Option<i64>| at_ms.is_none_or(|at_ms| at_ms <= until_ms);
        if brought.contested().next().is_none() && !times.iter().any(|(_, at_ms)| is_past(at_ms)) {
            return Ok(late);
        }
        let covers = seal::of_device(store, device)?;
        for (key, at_ms) in &times {
            let received_ms = brought
                .record(*key)
                .map_or(0, |known| known.received_at.get());
            for shipment in missed(&covers, *key, *at_ms) {
                let of_shipment: &mut Late = late.entry(shipment.to_owned()).or_default();
                of_shipment.add(&Late {
                    records: 1,
                    contested: 0,
                    last_ms: received_ms,
                });
            }
        }
        for key in brought.contested() {
            for (shipment, _) in covers.iter().filter(|(_, cover)| cover.covers(key)) {
                let of_shipment: &mut Late = late.entry(shipment.clone()).or_default();
                of_shipment.contested += 1;
            }
        }
        if !late.is_empty() && self.told.insert(device.clone()) {
            tracing::warn!(
                %device,
                shipments = ?late.keys().collect::<Vec<_>>(),
                "records came too late for sealed shipments: they are stored, counted and change no event"
            );
        }
        Ok(late)
    }

    fn until_ms(&mut self, store: &Store, device: &DeviceId) -> Result<Option<i64>, StoreError> {
        if let Some(known) = self.until_ms.get(device) {
            return Ok(*known);
        }
        let covers = seal::of_device(store, device)?;
        let until_ms = covers
            .iter()
            .map(|(_, cover)| cover.concerned_until_ms())
            .max();
        self.until_ms.insert(device.clone(), until_ms);
        Ok(until_ms)
    }

    /// The new records, and when they were, in milliseconds since 1970, as far as that is known.
    fn times(
        &mut self,
        store: &Store,
        device: &DeviceId,
        brought: &Brought,
        timeline: Option<&Timeline>,
    ) -> Result<Vec<(RecordKey, Option<i64>)>, StoreError> {
        let decoded = brought.records().filter_map(|(key, known)| {
            let record = record(device, key, &known.content)?;
            Some((key, record))
        });
        let decoded: Vec<(RecordKey, Record)> = decoded.collect();
        let mut times = Vec::new();
        for of_boot in decoded.chunk_by(|(one, _), (other, _)| life(*one) == life(*other)) {
            match timeline {
                Some(timeline) => times.extend(dated(timeline, of_boot)),
                None => times.extend(self.dated_by_boot(store, device, of_boot)?),
            }
        }
        Ok(times)
    }

    /// The same of records of one boot, by its first records and these.
    fn dated_by_boot(
        &mut self,
        store: &Store,
        device: &DeviceId,
        of_boot: &[(RecordKey, Record)],
    ) -> Result<Vec<(RecordKey, Option<i64>)>, StoreError> {
        let Some(boot) = of_boot.first().map(|(key, _)| life(*key)) else {
            return Ok(Vec::new());
        };
        if let Some((_, timeline)) = self.clocks.get(device).filter(|(of, _)| *of == boot) {
            let times: Vec<_> = dated(timeline, of_boot).collect();
            if times.iter().all(|(_, at_ms)| at_ms.is_some()) {
                return Ok(times);
            }
        }
        let mut records = first_of(store, device, boot)?;
        records.extend_from_slice(of_boot);
        let timeline = Timeline::of(records.iter().map(|(key, record)| (*key, record)));
        let times = dated(&timeline, of_boot).collect();
        self.clocks.insert(device.clone(), (boot, timeline));
        Ok(times)
    }
}

const fn life(key: RecordKey) -> Life {
    (key.epoch, key.boot)
}

fn dated(
    timeline: &Timeline,
    records: &[(RecordKey, Record)],
) -> impl Iterator<Item = (RecordKey, Option<i64>)> {
    records.iter().map(|(key, record)| {
        let stamp = timeline.stamp(*key, record.uptime());
        (*key, stamp.map(|stamp| stamp.dated.at.get()))
    })
}

/// The sealed shipments for which a record is too late.
fn missed(
    covers: &[(String, Cover)],
    key: RecordKey,
    at_ms: Option<i64>,
) -> impl Iterator<Item = &str> {
    let newest = covers.iter().map(|(_, cover)| cover.sealed_at_ms).max();
    let missed = covers.iter().filter(move |(_, cover)| {
        let concerns = match at_ms {
            Some(at_ms) => cover.concerns(at_ms),
            None => newest == Some(cover.sealed_at_ms),
        };
        concerns && !cover.covers(key)
    });
    missed.map(|(shipment, _)| shipment.as_str())
}

/// The first records of a boot.
fn first_of(
    store: &Store,
    device: &DeviceId,
    (epoch, boot): Life,
) -> Result<Vec<(RecordKey, Record)>, StoreError> {
    let before = boot.0.checked_sub(1).map(|before| RecordKey {
        epoch,
        boot: Boot(before),
        seq: Seq(u32::MAX),
    });
    let mut records = Vec::new();
    history::each_of_epoch(store, device, epoch, before, |key, kept| {
        if key.boot != boot || records.len() == CLOCK_RECORDS {
            return Ok(ControlFlow::Break(()));
        }
        if let Kept::Known(known) = kept
            && let Some(record) = record(device, key, &known.content)
        {
            records.push((key, record));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(records)
}
