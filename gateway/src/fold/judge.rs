//! From trackers to revisions: the verdict of the shipments concerned, and what to tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::key::DeviceId;
use protocol::units::UtcMs;
use rules::event::Revision;
use rules::notify;
use rules::plan::shipment::Shipment;
use rules::watch;
use rules::watch::clock::{ClockState, revise_clocks};

use super::posted::Posted;
use super::{Concerned, Fold, SEQUENCE_ROW, pointer};
use crate::store::table::{self, Table};
use crate::store::{Batch, StoreError, view};

impl Fold {
    /// Judge the shipments concerned and write what changed together with `batch`.
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
            let view = self.trackers.verdict(&context, shipment);
            let told = self.told.entry(id.clone()).or_default();
            let revisions = notify::diff(told, &view, concerned.late.contains(id));
            self.post(&mut batch, id, revisions)?;
        }
        self.publish(batch)
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
        let nothing = notify::Told::new();
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
