//! Journal to view: the rules applied in key order.
//!
//! The fold takes commits from the journal in order. It writes their records into the history (again
//! after a crash, with the same result), brings the trackers concerned up to date, asks the rules for
//! the verdict of the shipments concerned, and then changes view, outbox and cursor in one batch. What
//! it keeps in memory is a cache of the history, rebuilt at every start; so after any crash the view is
//! again the verdict of what is stored.
//!
//! Rows of the outbox are made durable before sinks are woken: otherwise a power cut could take back a
//! revision number that a receiver has already seen with other content.

mod clocks;
mod judge;
mod mend;
pub mod posted;
#[cfg(test)]
mod tests;
mod trackers;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use protocol::key::{DeviceId, RecordKey};
use rules::Context;
use rules::event::{Revision, Severity};
use rules::notify::Told;
use tokio::sync::watch;

use self::clocks::Clocks;
use self::posted::Posted;
use self::trackers::Trackers;
use crate::clock::Clock;
use crate::store::history::{self, Known};
use crate::store::journal::{self, Chunk, Entry, Records};
use crate::store::outbox::{Pointer, Tails};
use crate::store::table::{self, Table};
use crate::store::{Batch, Commit, Store, StoreError, view};

/// Name of the row that holds the sequence of the newest revision.
const SEQUENCE_ROW: &str = "sequence";

/// Applies the rules to what the journal brings.
#[derive(Debug)]
pub struct Fold {
    store: Store,
    context: Arc<Context>,
    /// Sinks that are told, by name.
    sinks: Vec<String>,
    clock: Clock,
    trackers: Trackers,
    clocks: Clocks,
    told: BTreeMap<String, Told>,
    tails: Tails,
    sequence: u64,
    /// Damaged rows of the store when view and outbox were last known to be whole.
    rows_set_aside: u64,
    /// Sequence of the newest revision that sinks may read.
    wake: watch::Sender<u64>,
}

/// Which shipments a change concerns.
#[derive(Default)]
struct Concerned {
    shipments: BTreeSet<String>,
    /// Those of them that a late record concerns.
    late: BTreeSet<String>,
}

impl Fold {
    /// Rebuild from the history, bring the view up to the present plan and take what waits in the
    /// journal. `wake` carries the sequence of the newest revision, for sinks and followers.
    ///
    /// # Errors
    /// When the store fails or holds damaged rows.
    pub fn open(
        store: Store,
        context: Context,
        sinks: Vec<String>,
        clock: Clock,
        wake: watch::Sender<u64>,
    ) -> Result<Self, StoreError> {
        let mut told: BTreeMap<String, Told> = BTreeMap::new();
        view::each_of_all(&store, |shipment, _, posted: Posted| {
            let revision = posted.revision;
            told.entry(shipment)
                .or_default()
                .insert(revision.event.id.clone(), revision);
            Ok(ControlFlow::Continue(()))
        })?;
        let sequence = table::value(&store, Table::Meta, SEQUENCE_ROW)?.unwrap_or_default();
        wake.send_replace(sequence);
        let trackers = Trackers::rebuild(&store, &context)?;
        let (context, tails) = (Arc::new(context), Tails::default());
        let rows_set_aside = store.rows_set_aside();
        let mut fold = Self {
            store,
            context,
            sinks,
            clock,
            trackers,
            clocks: Clocks::default(),
            told,
            tails,
            sequence,
            rows_set_aside,
            wake,
        };
        let shipments = fold.context.plan().shipments.iter();
        let every = shipments.map(|shipment| shipment.id.clone()).collect();
        let concerned = Concerned {
            shipments: every,
            late: BTreeSet::new(),
        };
        fold.commit(Batch::default(), &concerned)?;
        if fold.rows_set_aside > 0 {
            fold.requeue()?;
        }
        fold.catch_up()?;
        Ok(fold)
    }

    /// Take every commit that waits in the journal, as long as there is space to write at all. Returns
    /// how many records were taken.
    ///
    /// # Errors
    /// When the store fails or holds damaged rows.
    pub fn catch_up(&mut self) -> Result<u64, StoreError> {
        let mut records = 0;
        loop {
            if !self.store.room().may_write() {
                return Ok(records);
            }
            // Before looking: what is committed meanwhile is for the next look.
            let newest = self.store.newest_commit();
            let Some(chunk) = self.oldest_chunk()? else {
                self.pass(newest)?;
                return Ok(records);
            };
            records += self.take(&chunk)?;
        }
    }

    /// Move the cursor over commits that left nothing in the journal: duplicates, births, goodbyes.
    fn pass(&self, newest: Commit) -> Result<(), StoreError> {
        if self.store.newest_folded() >= newest {
            return Ok(());
        }
        let mut batch = Batch::default();
        journal::fold_passed(&mut batch, newest)?;
        self.store.apply(batch)
    }

    /// Say who has been silent too long at the present event time, and who is heard again, and whose
    /// clock is implausible; restore
    /// what damage took.
    ///
    /// # Errors
    /// When the store fails.
    pub fn watch(&mut self) -> Result<(), StoreError> {
        if !self.store.room().may_write() {
            return Ok(());
        }
        self.mend()?;
        let now = self.clock.event_now();
        let context = Arc::clone(&self.context);
        let clocks = self.clocks.states();
        let mut batch = Batch::default();
        for shipment in &context.plan().shipments {
            let revisions = self.missed(shipment, &clocks, now);
            self.post(&mut batch, &shipment.id, revisions)?;
        }
        self.publish(batch)
    }

    fn oldest_chunk(&self) -> Result<Option<Chunk>, StoreError> {
        let mut oldest = None;
        journal::each(&self.store, Commit(0), |chunk| {
            oldest = Some(chunk);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(oldest)
    }

    fn take(&mut self, chunk: &Chunk) -> Result<u64, StoreError> {
        let records = self.keep(chunk)?;
        let mut concerned = Concerned::default();
        for device in devices(chunk) {
            let late = self
                .trackers
                .advance(&self.store, &self.context, &device, chunk)?;
            if let Some(tracker) = self.trackers.tracker(&device) {
                let tolerance = self.context.options().clock_tolerance;
                self.clocks.look(&device, tracker, chunk, tolerance);
            }
            for shipment in self.context.shipments_of(&device) {
                concerned.shipments.insert(shipment.to_owned());
                if late {
                    concerned.late.insert(shipment.to_owned());
                }
            }
        }
        let mut batch = Batch::default();
        journal::fold_taken(&mut batch, chunk)?;
        self.commit(batch, &concerned)?;
        Ok(records)
    }

    /// Write the chunk's records into the history. Doing so twice changes nothing.
    fn keep(&self, chunk: &Chunk) -> Result<u64, StoreError> {
        let mut batch = Batch::default();
        let mut count = 0;
        for entry in &chunk.entries {
            match entry {
                Entry::Contested { device, key } => history::contest(&mut batch, device, *key),
                Entry::Records(arrived) => {
                    for stored in &arrived.records {
                        let known = Known {
                            received_at: arrived.received_at,
                            qos: arrived.qos,
                            content: stored.content.clone(),
                        };
                        let Records { epoch, boot, .. } = *arrived;
                        let key = RecordKey {
                            epoch,
                            boot,
                            seq: stored.seq,
                        };
                        history::put(&mut batch, &arrived.device, key, &known);
                        count += 1;
                    }
                }
            }
        }
        self.store.apply(batch)?;
        Ok(count)
    }
}

/// What sinks are told about a revision.
fn pointer(shipment: &str, revision: &Revision) -> Pointer {
    Pointer {
        shipment: shipment.to_owned(),
        event: revision.event.id.0.clone(),
        revision: revision.rev,
        critical: revision.event.severity == Severity::Critical,
    }
}

/// The devices of which the chunk holds something, each once.
fn devices(chunk: &Chunk) -> BTreeSet<DeviceId> {
    let device = |entry: &Entry| match entry {
        Entry::Records(arrived) => arrived.device.clone(),
        Entry::Contested { device, .. } => device.clone(),
    };
    chunk.entries.iter().map(device).collect()
}
