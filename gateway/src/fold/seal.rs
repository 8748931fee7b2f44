//! Seals: when the late horizon behind a shipment's end is over, its view stays as it is.
//!
//! A seal names the keys that the view rests on. It is written while the journal holds nothing, so these are
//! all keys that are stored; from then on its trackers have no duty to the shipment, and what else comes of
//! them is stored, counted and changes no event of it. So the verdict on a sealed shipment is that of the
//! keys under its seal, in whatever order they came.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::key::DeviceId;
use protocol::units::UtcMs;
use rules::code::Code;
use rules::event::Phase;
use rules::plan::shipment::Shipment;
use rules::timeline::Timeline;
use rules::{Context, Tracker};

use super::Fold;
use super::brought::Brought;
use super::posted::Posted;
use super::sealed_late::Lateness;
use super::steady::Look;
use crate::pki::digest::Digest;
use crate::store::seal::{self, Cover, EndedBy, Seal, Spell};
use crate::store::{Batch, Store, StoreError, journal, view};

/// Most shipments sealed at one look: each costs a barrier and a read of its trackers' runs, together a
/// thousandth of the time.
const LOOK_SEALS: usize = 16;

/// The sealed shipments of the plan, and what their trackers still send.
#[derive(Debug)]
pub(super) struct Seals {
    sealed: BTreeSet<String>,
    look: Option<Look>,
    lateness: Lateness,
}

impl Seals {
    /// The sealed shipments of the plan; their trackers lose their duties to them.
    pub(super) fn of(store: &Store, context: &mut Context) -> Result<Self, StoreError> {
        let shipments = context.plan().shipments.iter();
        let ids: Vec<String> = shipments.map(|shipment| shipment.id.clone()).collect();
        let (mut sealed, mut changed) = (BTreeSet::new(), Vec::new());
        for id in ids {
            if !seal::is_sealed(store, &id)? {
                continue;
            }
            let before = seal::of(store, &id)?.map(|seal| seal.definition);
            if before.is_some_and(|before| before != definition(context, &id)) {
                tracing::warn!(
                    shipment = id,
                    "the plan says something else of this shipment than when it was sealed: no event of it changes"
                );
                changed.push(id.clone());
            }
            context.release(&id);
            sealed.insert(id);
        }
        seal::note_changed_in_plan(store, &changed)?;
        Ok(Self {
            sealed,
            look: Look::load(store)?,
            lateness: Lateness::default(),
        })
    }

    /// Whether this shipment of the plan is sealed.
    pub(super) fn is_sealed(&self, shipment: &str) -> bool {
        self.sealed.contains(shipment)
    }
}

impl Fold {
    /// Seal the shipments whose late horizon is over, a few at a time, unless anything waits to be folded.
    pub(super) fn seal_due(&mut self, now: UtcMs) -> Result<(), StoreError> {
        let look = Look::next(self.seals.look, now.get());
        let Some(look) = look else {
            return Ok(());
        };
        look.keep(&self.store)?;
        self.seals.look = Some(look);
        if !look.is_steady() || self.trackers.pending() > 0 || !self.unjudged.is_empty() {
            return Ok(());
        }
        let mut due = Vec::new();
        for shipment in &self.context.plan().shipments {
            if due.len() < LOOK_SEALS
                && !self.seals.is_sealed(&shipment.id)
                && let Some(end) = self.end_before_horizon(shipment, now)?
            {
                due.push((shipment.clone(), end));
            }
        }
        for (shipment, end) in due {
            if !self.seal(&shipment, end, now)? {
                break;
            }
        }
        Ok(())
    }

    /// When a shipment ended and by what, if its late horizon is over.
    fn end_before_horizon(
        &self,
        shipment: &Shipment,
        now: UtcMs,
    ) -> Result<Option<(UtcMs, EndedBy)>, StoreError> {
        let horizon = self.context.options().late_horizon.as_millis();
        let horizon_ms = i64::try_from(horizon).unwrap_or(i64::MAX);
        let is_over = |end: &UtcMs| end.get().saturating_add(horizon_ms) <= now.get();
        let told = self.told.get(&shipment.id).into_iter().flatten();
        let mut delivered = told.filter(|(_, revision)| {
            revision.event.code == Code::Delivered && revision.phase != Phase::Retract
        });
        if let Some((id, revision)) = delivered.next() {
            if !is_over(&revision.event.occurred_at) {
                return Ok(None);
            }
            // A wrong clock, or a tracker that was away, tells of it long after: the horizon counts from when
            // the gateway knew.
            let posted: Option<Posted> = view::value(&self.store, &shipment.id, id.as_str())?;
            let known = posted.map(|posted| posted.recorded_at().max(revision.event.occurred_at));
            return Ok(known.filter(is_over).map(|end| (end, EndedBy::Delivery)));
        }
        let Some(planned) = shipment.planned_end().filter(is_over) else {
            return Ok(None);
        };
        let end = self.last_heard(shipment).max(Some(planned));
        Ok(end.filter(is_over).map(|end| (end, EndedBy::Plan)))
    }

    /// When one of its trackers was last heard while it was on the shipment.
    fn last_heard(&self, shipment: &Shipment) -> Option<UtcMs> {
        let heard = self.trackers.heard(&self.context, shipment);
        let attached = shipment.units.iter().flat_map(|unit| &unit.trackers);
        let last = attached.filter_map(|attachment| {
            let at = heard.get(&attachment.device)?.at;
            Some(attachment.until.map_or(at, |until| until.min(at)))
        });
        last.max()
    }

    /// Seal a shipment that ended. Not when something came meanwhile that is not folded yet: then it returns
    /// `false`.
    fn seal(
        &mut self,
        shipment: &Shipment,
        (ended_at, ended_by): (UtcMs, EndedBy),
        now: UtcMs,
    ) -> Result<bool, StoreError> {
        let mut covers = Vec::new();
        for (device, attached_ms) in attached(shipment) {
            let cover = Cover {
                attached_ms,
                sealed_at_ms: now.get(),
                runs: Vec::new(),
            };
            let cover = cover.with_runs_of(&self.store, &device)?;
            covers.push((device, cover));
        }
        let is_whole = self.store.rows_set_aside() == self.rows_set_aside;
        // Looked at last: a commit that changed the runs meanwhile is still there.
        if !is_whole || !journal::oldest(&self.store, 1)?.is_empty() {
            return Ok(false);
        }
        let sealed = Seal {
            ended_at_ms: ended_at.get(),
            ended_by,
            sealed_at_ms: now.get(),
            definition: definition(&self.context, &shipment.id),
            trackers: covers.len() as u64,
            keys: covers.iter().map(|(_, cover)| cover.keys()).sum(),
        };
        seal::write(&self.store, &shipment.id, &sealed, &covers)?;
        tracing::info!(
            shipment = shipment.id,
            ended_by = ended_by.as_str(),
            trackers = sealed.trackers,
            keys = sealed.keys,
            "sealed: what comes of it from now on is stored and changes no event of it"
        );
        self.release(shipment, covers.iter().map(|(device, _)| device));
        Ok(true)
    }

    /// Judge the shipment no more.
    fn release<'d>(&mut self, shipment: &Shipment, devices: impl Iterator<Item = &'d DeviceId>) {
        Arc::make_mut(&mut self.context).release(&shipment.id);
        for device in devices {
            self.trackers.release(&self.context, device);
            self.seals.lateness.forget(device);
        }
        self.told.remove(&shipment.id);
        self.seals.sealed.insert(shipment.id.clone());
        self.pending.send_replace(self.trackers.pending());
    }

    /// Count what a round brought too late for sealed shipments, with `batch`. The history has the round.
    pub(super) fn note_late(
        &mut self,
        batch: &mut Batch,
        devices: &BTreeMap<DeviceId, Brought>,
    ) -> Result<(), StoreError> {
        let mut late = Vec::new();
        for (device, brought) in devices {
            let tracker = self.trackers.tracker(device);
            let timeline: Option<&Timeline> = tracker.map(Tracker::timeline);
            let of_device = self
                .seals
                .lateness
                .of(&self.store, device, brought, timeline)?;
            late.extend(
                of_device
                    .into_iter()
                    .map(|(id, late)| (device.clone(), id, late)),
            );
        }
        seal::note_late(&self.store, batch, &late)
    }
}

/// When each tracker was on the shipment.
fn attached(shipment: &Shipment) -> BTreeMap<DeviceId, Vec<Spell>> {
    let mut attached: BTreeMap<DeviceId, Vec<Spell>> = BTreeMap::new();
    for attachment in shipment.units.iter().flat_map(|unit| &unit.trackers) {
        let ms = |time: Option<UtcMs>| time.map(UtcMs::get);
        let times = (ms(attachment.from), ms(attachment.until));
        attached
            .entry(attachment.device.clone())
            .or_default()
            .push(times);
    }
    attached
}

/// Names everything of the plan that decides about a shipment.
fn definition(context: &Context, shipment: &str) -> Digest {
    Digest::of(&context.definition(shipment).unwrap_or_default())
}
