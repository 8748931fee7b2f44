//! From trackers to revisions: the verdict of the shipments concerned, and what to tell.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use protocol::key::DeviceId;
use protocol::units::UtcMs;
use rules::event::Revision;
use rules::notify::{self, Scope, Told};
use rules::plan::shipment::Shipment;
use rules::watch;
use rules::watch::clock::{ClockState, revise_clocks};

use super::posted::Posted;
use super::{Concerned, Fold, SEQUENCE_ROW, pointer};
use crate::store::table::{self, Table};
use crate::store::{Batch, Store, StoreError, view};

impl Fold {
    /// Judge the shipments concerned, as far as all their trackers have been rebuilt, and write what
    /// changed together with `batch`.
    pub(super) fn commit(
        &mut self,
        mut batch: Batch,
        concerned: &Concerned,
    ) -> Result<(), StoreError> {
        let context = Arc::clone(&self.context);
        for id in &concerned.shipments {
            let Some(shipment) = context.plan().shipment(id) else {
                continue;
            };
            if !self.trackers.are_whole(shipment) {
                continue;
            }
            let mut scope = Scope::Changed;
            if self.unjudged.remove(id) {
                let told = told(&self.store, id)?;
                self.told.insert(id.clone(), told);
                scope = Scope::Whole;
            }
            if concerned.past.contains(id) {
                scope = Scope::Whole;
            }
            let trackers = &self.trackers;
            let (view, scope) = trackers.verdict(&context, shipment, &concerned.devices, scope);
            let told = self.told.entry(id.clone()).or_default();
            let late = concerned.late.contains(id);
            let revisions = notify::diff_within(told, &view, late, scope);
            self.post(&mut batch, id, revisions)?;
        }
        self.publish(batch)?;
        self.trackers.judged(&concerned.devices);
        // Only now: whoever sees that nothing is pending shall find the view of it.
        let pending = self.trackers.pending();
        self.pending
            .send_if_modified(|before| std::mem::replace(before, pending) != pending);
        Ok(())
    }

    /// Silences that began or ended, clocks that became implausible or good.
    pub(super) fn missed(
        &self,
        shipment: &Shipment,
        clocks: &BTreeMap<DeviceId, ClockState>,
        now: UtcMs,
    ) -> Vec<Revision> {
        let heard = self.trackers.heard(&self.context, shipment);
        let plan = self.context.plan();
        let silent = watch::silences(plan, shipment, &heard, now);
        let nothing = Told::new();
        let told = self.told.get(&shipment.id).unwrap_or(&nothing);
        let tolerance = self.context.options().clock_tolerance;
        let mut revisions = watch::revise(told, &silent, &heard);
        revisions.extend(revise_clocks(
            plan, shipment, told, clocks, &heard, tolerance, now,
        ));
        revisions
    }

    /// Put revisions into the view and the outbox of every sink.
    pub(super) fn post(
        &mut self,
        batch: &mut Batch,
        shipment: &str,
        revisions: Vec<Revision>,
    ) -> Result<(), StoreError> {
        for revision in revisions {
            self.sequence += 1;
            let revision = self.continued(revision)?;
            let pointer = pointer(shipment, &revision);
            for sink in &self.sinks {
                self.tails.push(&self.store, batch, sink, &pointer)?;
            }
            let posted = Posted {
                revision: revision.clone(),
                recorded_ms: self.clock.event_now().get(),
                sequence: self.sequence,
            };
            view::put(batch, shipment, &pointer.event, &posted)?;
            table::put(batch, Table::Meta, SEQUENCE_ROW, &self.sequence)?;
            let told = self.told.entry(shipment.to_owned()).or_default();
            told.insert(revision.event.id.clone(), revision);
        }
        Ok(())
    }

    /// Apply `batch`; if it tells something new, make it durable and wake the sinks.
    pub(super) fn publish(&mut self, batch: Batch) -> Result<(), StoreError> {
        let news = *self.wake.borrow() != self.sequence;
        self.store.apply(batch)?;
        if news {
            self.store.barrier()?;
            self.wake.send_replace(self.sequence);
        }
        Ok(())
    }
}

/// What was told of a shipment.
pub(super) fn told(store: &Store, shipment: &str) -> Result<Told, StoreError> {
    let mut told = Told::new();
    view::each(store, shipment, |_, posted: Posted| {
        let revision = posted.revision;
        told.insert(revision.event.id.clone(), revision);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(told)
}
