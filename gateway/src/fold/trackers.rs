//! What the trackers show: a cache of the history, kept up to date or rebuilt from it.

use std::collections::{BTreeMap, BTreeSet};

use protocol::key::{DeviceId, RecordKey};
use rules::event::View;
use rules::fact::Fact;
use rules::notify::Scope;
use rules::plan::shipment::Shipment;
use rules::tracker::Dirty;
use rules::verdict::{FACTS_MAX, verdict};
use rules::watch::Heard;
use rules::{Context, Offered, Tracker};

use super::brought::{Brought, counted};
use super::refold::{self, Passed};
use super::trail::{Spacing, Trail};
use crate::store::checkpoint;
use crate::store::content::Content;
use crate::store::history::{self, Kept};
use crate::store::{Batch, Store, StoreError};

/// The trackers that some shipment names, as far as they have been rebuilt.
#[derive(Debug)]
pub(super) struct Trackers {
    live: BTreeMap<DeviceId, Live>,
    /// Those that are not rebuilt yet.
    pending: BTreeSet<DeviceId>,
    /// Those of them that an alarm waits for.
    hurried: BTreeSet<DeviceId>,
    /// Devices that no shipment names and of which nothing is stored but their history.
    swept: BTreeSet<DeviceId>,
    /// How far marks are apart.
    pub(super) spacing: Spacing,
}

#[derive(Debug)]
struct Live {
    tracker: Tracker,
    trail: Trail,
    /// How many of its complete facts have been judged.
    judged: usize,
}

/// What became of what a round brought of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// No shipment names it, or it waits to be rebuilt from its history.
    Left,
    /// It is up to date.
    Folded,
    /// It must be folded again once the history is written.
    Stale(Stale),
}

/// What a tracker is folded again for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    /// Times became better known; nothing came late.
    Redated,
    /// A record came late.
    Late,
    /// A record is not to be believed any more: what the tracker knows of time may rest on it.
    Contested,
}

impl Trackers {
    /// All trackers of the plan, none of them rebuilt.
    pub(super) fn of(context: &Context) -> Self {
        Self {
            live: BTreeMap::new(),
            pending: context.trackers().cloned().collect(),
            hurried: BTreeSet::new(),
            swept: BTreeSet::new(),
            spacing: Spacing::ORDINARY,
        }
    }

    /// How many are not rebuilt yet.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Rebuild first what the shipments of `device` wait for.
    pub(super) fn hurry(&mut self, context: &Context, device: &DeviceId) {
        let shipments = context.shipments_of(device).into_iter();
        let shipments = shipments.filter_map(|id| context.plan().shipment(id));
        for device in shipments.flat_map(devices_of) {
            if self.pending.contains(device) {
                self.hurried.insert(device.clone());
            }
        }
    }

    /// Whether an alarm waits for a tracker to be rebuilt.
    pub(super) fn are_hurried(&self) -> bool {
        !self.hurried.is_empty()
    }

    /// Rebuild one of those that are not yet; `None` when there are none.
    pub(super) fn restore_next(
        &mut self,
        store: &Store,
        context: &Context,
    ) -> Result<Option<DeviceId>, StoreError> {
        let next = self.hurried.first().or_else(|| self.pending.first());
        let Some(device) = next.cloned() else {
            return Ok(None);
        };
        let mut batch = Batch::default();
        let trail = Trail::load(store, context, &device, &mut batch)?;
        store.apply(batch)?;
        self.restore(store, context, &device, trail)?;
        Ok(Some(device))
    }

    /// Take what a round brings of `device`, which the history does not hold yet unless it was being folded
    /// when the gateway ended. `batch` removes what becomes untrue, and must be applied before the
    /// round is written into the history, or with it.
    pub(super) fn take(
        &mut self,
        store: &Store,
        context: &Context,
        device: &DeviceId,
        brought: &Brought,
        batch: &mut Batch,
    ) -> Result<Taken, StoreError> {
        if !self.wake(store, context, device, batch)? {
            return Ok(Taken::Left);
        }
        let Some(live) = self.live.get_mut(device) else {
            return Ok(Taken::Left);
        };
        for key in brought.contested() {
            if history::value(store, device, key)? != Some(Kept::Contested) {
                live.trail.clear(batch)?;
                return Ok(Taken::Stale(Stale::Contested));
            }
        }
        let mut taken = Taken::Folded;
        for (key, known) in brought.records() {
            let named = (device, key, &known.content);
            let dirty = live.offer(store, context, named, taken)?;
            if let Some(dirty) = dirty {
                live.trail.spoil(&dirty, live.tracker.timeline(), batch)?;
                let late = dirty.is_late() || taken == Taken::Stale(Stale::Late);
                taken = Taken::Stale(if late { Stale::Late } else { Stale::Redated });
            }
        }
        Ok(taken)
    }

    /// Fold a tracker again whose past changed; the history is written.
    pub(super) fn refold(
        &mut self,
        store: &Store,
        context: &Context,
        device: &DeviceId,
        stale: Stale,
    ) -> Result<(), StoreError> {
        if stale == Stale::Contested {
            if let Some(live) = self.live.remove(device) {
                self.restore(store, context, device, live.trail)?;
            }
            return Ok(());
        }
        let Some(live) = self.live.get_mut(device) else {
            return Ok(());
        };
        let mut batch = Batch::default();
        let mark = live.trail.newest(store, &mut batch)?;
        if !live.tracker.rewind(context, mark) {
            live.trail.clear(&mut batch)?;
            // The start always fits.
            let _ = live.tracker.rewind(context, None);
        }
        store.apply(batch)?;
        let spacing = self.spacing;
        let passed = refold::fold_behind(store, context, device, &mut live.tracker, spacing)?;
        live.keep(store, passed, spacing)
    }

    /// Store a mark of `device` when it has been long since the last one.
    pub(super) fn keep_up(&mut self, store: &Store, device: &DeviceId) -> Result<(), StoreError> {
        let records = self.spacing.running_records;
        let live = self.live.get_mut(device);
        live.map_or(Ok(()), |live| live.keep_up(store, records))
    }

    /// Store marks of all trackers that would take long to rebuild at the next start.
    pub(super) fn close(&mut self, store: &Store) -> Result<(), StoreError> {
        let records = self.spacing.closing_records;
        let mut all = self.live.values_mut();
        all.try_for_each(|live| live.keep_up(store, records))
    }

    /// Make sure that nothing stored of `device` can become untrue unseen. Whether it is live.
    fn wake(
        &mut self,
        store: &Store,
        context: &Context,
        device: &DeviceId,
        batch: &mut Batch,
    ) -> Result<bool, StoreError> {
        if self.live.contains_key(device) {
            return Ok(true);
        }
        if self.swept.contains(device) {
            return Ok(false);
        }
        if !self.pending.contains(device) {
            // Kept under a plan that named it. It may come back with that plan, and would be untrue.
            checkpoint::clear(store, batch, device)?;
            self.swept.insert(device.clone());
            return Ok(false);
        }
        let trail = Trail::load(store, context, device, batch)?;
        if trail.is_empty() {
            return Ok(false);
        }
        self.restore(store, context, device, trail)?;
        Ok(true)
    }

    fn restore(
        &mut self,
        store: &Store,
        context: &Context,
        device: &DeviceId,
        mut trail: Trail,
    ) -> Result<(), StoreError> {
        let (tracker, passed) = loop {
            let mut batch = Batch::default();
            let base = trail.base(store, &mut batch)?;
            let made = refold::resume(store, context, device, base, self.spacing)?;
            if made.is_none() {
                tracing::warn!(%device, "a stored mark does not fit the history; it is removed");
                trail.pop(&mut batch)?;
            }
            store.apply(batch)?;
            if let Some(made) = made {
                break made;
            }
        };
        let mut live = Live {
            tracker,
            trail,
            judged: 0,
        };
        live.keep(store, passed, self.spacing)?;
        self.pending.remove(device);
        self.hurried.remove(device);
        self.live.insert(device.clone(), live);
        Ok(())
    }

    /// Forget `device`, whose duties changed; it is rebuilt when it has any left.
    pub(super) fn release(&mut self, context: &Context, device: &DeviceId) {
        self.live.remove(device);
        self.pending.remove(device);
        self.hurried.remove(device);
        if !context.duties(device).is_empty() {
            self.pending.insert(device.clone());
        }
    }

    /// Whether all trackers of a shipment have been rebuilt.
    pub(super) fn are_whole(&self, shipment: &Shipment) -> bool {
        devices_of(shipment).all(|device| !self.pending.contains(device))
    }

    /// A tracker that has been rebuilt.
    pub(super) fn tracker(&self, device: &DeviceId) -> Option<&Tracker> {
        self.live.get(device).map(|live| &live.tracker)
    }

    /// The verdict on a shipment from what its trackers show. For [`Scope::Changed`] only episodes of
    /// `devices` count, and of the complete ones only those that were not judged yet. Returns how much
    /// the view says: when there are more facts than are judged, always everything.
    pub(super) fn verdict(
        &self,
        context: &Context,
        shipment: &Shipment,
        devices: &BTreeSet<DeviceId>,
        scope: Scope,
    ) -> (View, Scope) {
        let live = self.of_shipment(shipment);
        let most: usize = live.map(|(_, live)| live.tracker.facts_max()).sum();
        let scope = if most > FACTS_MAX {
            Scope::Whole
        } else {
            scope
        };
        let mut facts: Vec<Fact> = Vec::new();
        for (device, live) in self.of_shipment(shipment) {
            match scope {
                Scope::Whole => facts.extend(live.tracker.facts(context)),
                Scope::Changed => live.changed_facts(context, devices.contains(device), &mut facts),
            }
        }
        let verdict = verdict(context, &shipment.id, &facts);
        if verdict.facts_omitted > 0 {
            tracing::warn!(
                shipment = shipment.id,
                omitted = verdict.facts_omitted,
                "more facts than a verdict holds; the latest are left out"
            );
        }
        (verdict.view, scope)
    }

    /// What these trackers show now has been judged.
    pub(super) fn judged(&mut self, devices: &BTreeSet<DeviceId>) {
        for device in devices {
            if let Some(live) = self.live.get_mut(device) {
                live.judged = live.tracker.complete_facts().len();
            }
        }
    }

    /// When each tracker of a shipment was last heard, in event time.
    pub(super) fn heard(
        &self,
        context: &Context,
        shipment: &Shipment,
    ) -> BTreeMap<DeviceId, Heard> {
        let heard = |(device, live): (&DeviceId, &Live)| {
            let heard = live.tracker.heard(context)?;
            Some((device.clone(), heard))
        };
        self.of_shipment(shipment).filter_map(heard).collect()
    }

    /// The trackers of a shipment, each once.
    fn of_shipment<'a>(
        &'a self,
        shipment: &'a Shipment,
    ) -> impl Iterator<Item = (&'a DeviceId, &'a Live)> {
        let devices: BTreeSet<&DeviceId> = devices_of(shipment).collect();
        devices
            .into_iter()
            .filter_map(|device| self.live.get_key_value(device))
    }
}

/// The trackers of a shipment; one that has changed units comes more than once.
fn devices_of(shipment: &Shipment) -> impl Iterator<Item = &DeviceId> {
    let attached = shipment.units.iter().flat_map(|unit| &unit.trackers);
    attached.map(|attachment| &attachment.device)
}

impl Live {
    /// All of the journey, and of the episodes those that may have changed since it was judged.
    fn changed_facts(&self, context: &Context, grew: bool, facts: &mut Vec<Fact>) {
        let complete = self.tracker.complete_facts().iter().enumerate();
        let counts = |(place, fact): &(usize, &Fact)| *place >= self.judged || fact.kind.is_stage();
        facts.extend(complete.filter(counts).map(|(_, fact)| fact.clone()));
        if grew {
            facts.extend(self.tracker.open_facts(context));
        }
    }

    /// Take one record. Returns what it changes about the past, if it does.
    fn offer(
        &mut self,
        store: &Store,
        context: &Context,
        (device, key, content): (&DeviceId, RecordKey, &Content),
        taken: Taken,
    ) -> Result<Option<Dirty>, StoreError> {
        let Some(record) = counted(store, device, key, content)? else {
            return Ok(None);
        };
        if content.is_alarm() && history::value(store, device, key)?.is_some() {
            // Taken ahead of its commit, and perhaps contested since.
            return Ok(None);
        }
        if taken == Taken::Folded {
            self.trail.brink.pass(&self.tracker, &record);
        }
        let dirty = match taken {
            Taken::Stale(_) => self.tracker.learn(key, &record),
            Taken::Left | Taken::Folded => match self.tracker.offer(context, key, &record) {
                Offered::Folded => None,
                Offered::Redated(dirty) | Offered::Late(dirty) => Some(dirty),
            },
        };
        // A record that the history holds already was folded from there.
        let is_stored = || match history::value(store, device, key)? {
            Some(Kept::Known(known)) => Ok(known.content == *content),
            Some(Kept::Contested) | None => Ok(false),
        };
        match dirty {
            Some(dirty) if !is_stored()? => Ok(Some(dirty)),
            _ => Ok(None),
        }
    }

    /// Keep the marks made while folding again.
    fn keep(&mut self, store: &Store, passed: Passed, spacing: Spacing) -> Result<(), StoreError> {
        if passed.recent.is_some() {
            self.trail.recent = passed.recent;
        }
        if passed.brink.mark.is_some() {
            self.trail.brink = passed.brink;
        } else {
            self.trail.brink.is_last = passed.brink.is_last;
        }
        let covered = self.trail.covered();
        let mut marks = passed.marks;
        marks.retain(|mark| mark.reach.records > covered);
        if marks.is_empty() {
            return self.keep_up(store, spacing.running_records);
        }
        let mut batch = Batch::default();
        self.trail.add(&mut batch, &self.tracker, &marks)?;
        store.apply(batch)
    }

    fn keep_up(&mut self, store: &Store, spacing_records: u64) -> Result<(), StoreError> {
        let covered = self.trail.covered();
        let Some(reach) = self.tracker.reach() else {
            return Ok(());
        };
        if reach.records < covered + spacing_records {
            return Ok(());
        }
        let lasting = self.trail.lasting().cloned();
        let Some(mark) = lasting.or_else(|| self.tracker.mark()) else {
            return Ok(());
        };
        let mut batch = Batch::default();
        self.trail.add(&mut batch, &self.tracker, &[mark])?;
        store.apply(batch)
    }
}
