//! After rows of the view or of the outbox were set aside as damaged: what is told is told again.
//!
//! The fold knows what it told. A view row that is gone is written anew, and a sink whose queue and
//! whose last confirmation both lack a revision gets its pointer again. So a receiver may get a revision
//! twice, which it knows by its id, and never misses one.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use rules::event::Revision;
use rules::notify::Told;

use super::posted::Posted;
use super::{Fold, pointer};
use crate::store::{Batch, StoreError, outbox, view};

/// Queued rows read at once, in rows: some 100 KiB.
const PAGE_ROWS: usize = 1_000;

impl Fold {
    /// Restore what damage took from view and outbox, if there was any since the last look.
    pub(super) fn mend(&mut self) -> Result<(), StoreError> {
        let set_aside = self.store.rows_set_aside();
        if set_aside == self.rows_set_aside {
            return Ok(());
        }
        self.rows_set_aside = set_aside;
        self.harmed = true;
        let mut batch = Batch::default();
        self.restate(&mut batch)?;
        self.publish(batch)?;
        self.requeue()
    }

    /// The number under which a revision goes on: behind every one that a sink has confirmed, because the
    /// row that knew may have been damaged, or be an older version of itself.
    pub(super) fn continued(&self, mut revision: Revision) -> Result<Revision, StoreError> {
        if !self.harmed {
            return Ok(revision);
        }
        for sink in &self.sinks {
            let sent = outbox::last_sent(&self.store, sink, &revision.event.id.0)?;
            revision.rev = revision.rev.max(sent.unwrap_or_default() + 1);
        }
        Ok(revision)
    }

    /// Write the view rows that are gone.
    fn restate(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        for (shipment, told) in std::mem::take(&mut self.told) {
            let gone = self.gone(&shipment, &told);
            // Put back before anything may fail: it is the only memory of what was told.
            self.told.insert(shipment.clone(), told);
            self.post(batch, &shipment, gone?)?;
        }
        Ok(())
    }

    fn gone(&self, shipment: &str, told: &Told) -> Result<Vec<Revision>, StoreError> {
        let mut gone = Vec::new();
        for (id, revision) in told {
            let row: Option<Posted> = view::value(&self.store, shipment, &id.0)?;
            if row.is_none() {
                gone.push(revision.clone());
            }
        }
        Ok(gone)
    }

    /// Append the pointers that are in no queue and were never confirmed, and wake the sinks.
    pub(super) fn requeue(&mut self) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for sink in self.sinks.clone() {
            let queued = self.queued(&sink)?;
            let mut missing = Vec::new();
            view::each_of_all(&self.store, |shipment, event, posted: Posted| {
                let revision = posted.revision.rev;
                let sent = outbox::last_sent(&self.store, &sink, &event)?;
                let known = sent.is_some_and(|sent| sent >= revision);
                if !known && !queued.contains(&(event, revision)) {
                    missing.push(pointer(&shipment, &posted.revision));
                }
                Ok(ControlFlow::Continue(()))
            })?;
            for pointer in missing {
                self.tails.push(&self.store, &mut batch, &sink, &pointer)?;
            }
        }
        if !batch.is_empty() {
            self.store.apply(batch)?;
            self.store.barrier()?;
            self.wake.send_replace(self.sequence);
        }
        Ok(())
    }

    /// Event and revision of every row in a sink's queue.
    fn queued(&self, sink: &str) -> Result<BTreeSet<(String, u32)>, StoreError> {
        let mut queued = BTreeSet::new();
        let mut behind = 0;
        loop {
            let rows = outbox::pending(&self.store, sink, behind, PAGE_ROWS)?;
            let Some(last) = rows.last() else {
                return Ok(queued);
            };
            behind = last.seq;
            let named = |row: outbox::Queued| (row.pointer.event, row.pointer.revision);
            queued.extend(rows.into_iter().map(named));
        }
    }
}
