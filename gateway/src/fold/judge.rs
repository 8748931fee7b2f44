//! From trackers to revisions: the verdict of the shipments concerned, and what to tell.

use std::sync::Arc;

use protocol::units::UtcMs;
use rules::event::Revision;
use rules::notify;
use rules::plan::shipment::Shipment;
use rules::watch;

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

    /// Silences that began or ended.
    pub(super) fn missed(&self, shipment: &Shipment, now: UtcMs) -> Vec<Revision> {
        let heard = self.trackers.heard(&self.context, shipment);
        let silent = watch::silences(self.context.plan(), shipment, &heard, now);
        match self.told.get(&shipment.id) {
            Some(told) => watch::revise(told, &silent, &heard),
            None => watch::revise(&notify::Told::new(), &silent, &heard),
        }
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
