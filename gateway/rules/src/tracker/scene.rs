//! What one step looks at, and where its facts go.

use protocol::key::{DeviceId, RecordKey};

use crate::context::{Context, Duty};
use crate::event::Place;
use crate::fact::{Fact, FactKind};
use crate::place::fix::Fix;
use crate::timeline::{Stamp, Timeline};

/// Oldest fix that still says where something happened, in milliseconds.
const PLACE_AGE_MAX_MS: i64 = 3_600_000;

/// Everything that one step may look at, and where its facts go.
pub(super) struct Scene<'s> {
    pub(super) context: &'s Context,
    pub(super) device: &'s DeviceId,
    pub(super) timeline: &'s Timeline,
    pub(super) duty: &'s Duty,
    pub(super) position: usize,
    pub(super) key: RecordKey,
    pub(super) stamp: Stamp,
    pub(super) max_gap_ms: i64,
    pub(super) facts: &'s mut Vec<Fact>,
}

impl Scene<'_> {
    /// Tell a fact of the moment `at`, shown by the record `key`, at `fix`.
    pub(super) fn tell(&mut self, key: RecordKey, at: &Stamp, fix: Option<&Fix>, kind: FactKind) {
        let fact = fact(
            self.context,
            self.device,
            self.duty,
            self.position,
            (key, at, fix),
            kind,
        );
        self.facts.push(fact);
    }
}

/// A fact of one duty: shown by a record, at a moment, at a fix if there was one.
pub(super) fn fact(
    context: &Context,
    device: &DeviceId,
    duty: &Duty,
    position: usize,
    (key, at, fix): (RecordKey, &Stamp, Option<&Fix>),
    kind: FactKind,
) -> Fact {
    Fact {
        shipment: duty.shipment,
        unit: duty.unit,
        duty: position,
        device: device.clone(),
        key,
        at: at.dated,
        place: fix.and_then(|fix| place(context, at, fix)),
        kind,
    }
}

/// Where `fix` was, if it is of the time of `at`.
fn place(context: &Context, at: &Stamp, fix: &Fix) -> Option<Place> {
    let apart_ms = at.since_ms(&fix.at).max(fix.at.since_ms(at));
    (apart_ms <= PLACE_AGE_MAX_MS).then(|| context.place(fix.point, fix.accuracy_m))
}
