//! Journal to view: the rules applied in key order.
//!
//! The fold takes commits from the journal in order, and when many wait several at once. It writes their records into the history (again
//! after a crash, with the same result), brings the trackers concerned up to date, asks the rules for
//! the verdict of the shipments concerned, and then changes view, outbox and cursor in one batch. What
//! it keeps in memory is a cache of the history, and so are the checkpoints it leaves in the store; so
//! after any crash the view is again the verdict of what is stored.
//!
//! Alarms do not wait for the rounds of a backlog: see `urgent.rs`.
//!
//! At start nothing is rebuilt. Each step of [`Fold::advance`] takes a round of commits, and rebuilds one tracker
//! from its newest checkpoint, or from its first record when there is none that can be used. A shipment
//! is judged when all its trackers have been rebuilt, never before: half of what it shows would take back
//! what was said.
//!
//! Rows of the outbox are made durable before sinks are woken: otherwise a power cut could take back a
//! revision number that a receiver has already seen with other content.

mod brought;
mod clocks;
mod judge;
mod lost_session;
mod mend;
pub mod posted;
mod refold;
mod salvaged;
mod seal;
mod sealed_late;
mod steady;
#[cfg(test)]
mod tests;
mod trackers;
mod trail;
mod urgent;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::key::DeviceId;
use rules::Context;
use rules::event::{Revision, Severity};
use rules::notify::Told;
use tokio::sync::watch;

use self::brought::Brought;
use self::clocks::Clocks;
use self::seal::Seals;
use self::trackers::{Stale, Taken, Trackers};
use crate::clock::{Clock, monotonic};
use crate::store::history;
use crate::store::journal::{self, Chunk};
use crate::store::outbox::{Pointer, Tails};
use crate::store::salvage::{self, Report};
use crate::store::table::{self, Table};
use crate::store::{Batch, Commit, Store, StoreError};

/// Name of the row that holds the sequence of the newest revision.
const SEQUENCE_ROW: &str = "sequence";

/// Most history rows of one batch, which holds the store's lock: half a millisecond.
const HISTORY_BATCH_ROWS: usize = 64;

/// Commits that wait are taken together until they have so many records: a twentieth of a second, so that
/// the view stays far less than two seconds behind, and what a round costs is a small share.
const ROUND_RECORDS: usize = 8_192;

/// While commits wait, they get so many times the time that rebuilding trackers takes: a long history
/// must not make the journal wait for it.
const COMMITS_SHARE: u32 = 4;

/// Trackers that an alarm waits for are rebuilt for so long between two rounds, however many commits wait:
/// about as long as both take.
const HURRY_MAX: Duration = Duration::from_millis(100);

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
    /// What was told of each shipment that has been judged.
    told: BTreeMap<String, Told>,
    /// Shipments that have not been judged since the start.
    unjudged: BTreeSet<String>,
    seals: Seals,
    tails: Tails,
    sequence: u64,
    /// Damaged rows of the store when view and outbox were last known to be whole.
    rows_set_aside: u64,
    /// Whether damage may have taken rows that know what sinks were told.
    harmed: bool,
    /// Salvages that may not have been told yet.
    salvages: Vec<Report>,
    /// Whether pointers may be missing in the outbox: rows were damaged before the start.
    requeue_due: bool,
    /// Sequence of the newest revision that sinks may read.
    wake: watch::Sender<u64>,
    /// How many trackers wait to be rebuilt.
    pending: watch::Sender<usize>,
    /// No tracker is rebuilt before, as long as commits wait.
    rebuild_after: Instant,
    /// Commits that wait are taken together until they have so many records.
    round_records: usize,
}

/// Which shipments a change concerns.
#[derive(Default)]
struct Concerned {
    shipments: BTreeSet<String>,
    /// Those of them that a late record concerns.
    late: BTreeSet<String>,
    /// Those of them whose past changed: they are judged anew as a whole.
    past: BTreeSet<String>,
    /// The trackers concerned.
    devices: BTreeSet<DeviceId>,
}

impl Fold {
    /// A fold that goes on where the last one stopped, once it is advanced. `wake` carries the sequence of
    /// the newest revision, for sinks and followers.
    ///
    /// # Errors
    /// When the store fails or holds damaged rows.
    pub fn open(
        store: Store,
        mut context: Context,
        sinks: Vec<String>,
        clock: Clock,
        wake: watch::Sender<u64>,
    ) -> Result<Self, StoreError> {
        let sequence = table::value(&store, Table::Meta, SEQUENCE_ROW)?.unwrap_or_default();
        wake.send_replace(sequence);
        let rows_set_aside = store.rows_set_aside();
        let salvages = salvage::reports(&store)?;
        let harmed = rows_set_aside > 0 || !salvages.is_empty();
        let seals = Seals::of(&store, &mut context)?;
        let trackers = Trackers::of(&context);
        let shipments = context.plan().shipments.iter();
        let unjudged = shipments.map(|shipment| shipment.id.clone());
        let unjudged = unjudged.filter(|id| !seals.is_sealed(id)).collect();
        Ok(Self {
            store,
            sinks,
            clock,
            clocks: Clocks::default(),
            told: BTreeMap::new(),
            unjudged,
            seals,
            tails: Tails::default(),
            sequence,
            requeue_due: harmed,
            rows_set_aside,
            harmed,
            salvages,
            wake,
            pending: watch::Sender::new(trackers.pending()),
            rebuild_after: monotonic(),
            round_records: ROUND_RECORDS,
            trackers,
            context: Arc::new(context),
        })
    }

    /// How many trackers wait to be rebuilt: until it is none, the view of their shipments is that of
    /// before the start.
    #[must_use]
    pub fn pending(&self) -> watch::Receiver<usize> {
        self.pending.subscribe()
    }

    /// Take every commit that waits in the journal and rebuild every tracker, as long as there is space
    /// to write at all. Returns how many records were taken.
    ///
    /// # Errors
    /// When the store fails or holds damaged rows.
    pub fn catch_up(&mut self) -> Result<u64, StoreError> {
        let mut records = 0;
        while let Some(taken) = self.advance()? {
            records += taken;
        }
        Ok(records)
    }

    /// Take the oldest commits of the journal, and rebuild one tracker if its turn has come. Returns how many
    /// records were taken; `None` when there was nothing to do, or no space to write.
    ///
    /// # Errors
    /// When the store fails or holds damaged rows.
    pub fn advance(&mut self) -> Result<Option<u64>, StoreError> {
        if !self.store.room().may_write() {
            return Ok(None);
        }
        let taken = self.take_oldest()?;
        let begun = monotonic();
        let mut rebuilt = false;
        while self.trackers.are_hurried() && begun.elapsed() < HURRY_MAX {
            rebuilt = self.rebuild_one()?;
        }
        if rebuilt || (taken.is_some() && begun < self.rebuild_after) {
            return Ok(taken.or(rebuilt.then_some(0)));
        }
        let rebuilt = self.rebuild_one()?;
        self.rebuild_after = begun + begun.elapsed() * (1 + COMMITS_SHARE);
        Ok(taken.or(rebuilt.then_some(0)))
    }

    /// Take every commit that waits in the journal, and leave checkpoints for a quick start, as long as
    /// there is space to write at all.
    ///
    /// # Errors
    /// When the store fails or holds damaged rows.
    pub fn close(&mut self) -> Result<(), StoreError> {
        while self.store.room().may_write() {
            if self.take_oldest()?.is_none() {
                return self.trackers.close(&self.store);
            }
        }
        Ok(())
    }

    fn take_oldest(&mut self) -> Result<Option<u64>, StoreError> {
        // Before looking: what is committed meanwhile is for the next look.
        let newest = self.store.newest_commit();
        let waiting = journal::oldest(&self.store, self.round_records)?;
        let Some(last) = waiting.last() else {
            return self.pass(newest).map(|()| None);
        };
        if last.commit < newest {
            self.take_urgent()?;
        }
        self.take(waiting).map(Some)
    }

    /// Rebuild one tracker, or do what waits until there is none left. Whether there was anything to do.
    fn rebuild_one(&mut self) -> Result<bool, StoreError> {
        if !self.salvages.is_empty() {
            self.tell_salvages()?;
            return Ok(true);
        }
        if let Some(device) = self.trackers.restore_next(&self.store, &self.context)? {
            let mut concerned = Concerned::default();
            concerned.add(&self.context, &device, None);
            self.commit(Batch::default(), &concerned)?;
            return Ok(true);
        }
        if !self.unjudged.is_empty() {
            // Shipments without trackers.
            let concerned = Concerned {
                shipments: self.unjudged.clone(),
                ..Concerned::default()
            };
            self.commit(Batch::default(), &concerned)?;
            return Ok(true);
        }
        if std::mem::take(&mut self.requeue_due) {
            self.requeue()?;
            return Ok(true);
        }
        Ok(false)
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
    /// clock is implausible, and which brokers had lost their sessions; restore what damage took, and seal
    /// what is over.
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
        let judged = |id: &str| !self.unjudged.contains(id) && !self.seals.is_sealed(id);
        let shipments = context.plan().shipments.iter();
        let judged: Vec<_> = shipments.filter(|shipment| judged(&shipment.id)).collect();
        for shipment in judged {
            let revisions = self.missed(shipment, &clocks, now);
            self.post(&mut batch, &shipment.id, revisions)?;
        }
        self.tell_lost_sessions(&mut batch)?;
        self.publish(batch)?;
        drop(context);
        self.seal_due(now)
    }

    /// Take commits that follow each other.
    fn take(&mut self, mut chunks: Vec<Chunk>) -> Result<u64, StoreError> {
        let mut taken = Batch::default();
        for chunk in &chunks {
            journal::fold_taken(&mut taken, chunk)?;
        }
        if let Some(last) = chunks.last() {
            journal::urgent::passed(&self.store, &mut taken, last.commit)?;
        }
        let devices = brought::by_device(&mut chunks);
        let (records, concerned) = self.bring(&devices)?;
        self.note_late(&mut taken, &devices)?;
        self.settle(&devices, taken, &concerned)?;
        Ok(records)
    }

    /// Take what was brought of devices into the history and into their trackers. Returns how many records it
    /// was, and which shipments they concern.
    fn bring(
        &mut self,
        devices: &BTreeMap<DeviceId, Brought>,
    ) -> Result<(u64, Concerned), StoreError> {
        let context = Arc::clone(&self.context);
        let (mut concerned, mut stale) = (Concerned::default(), Vec::new());
        let mut untrue = Batch::default();
        for (device, brought) in devices {
            let trackers = &mut self.trackers;
            match trackers.take(&self.store, &context, device, brought, &mut untrue)? {
                Taken::Left => {}
                Taken::Folded => concerned.add(&context, device, None),
                Taken::Stale(why) => {
                    concerned.add(&context, device, Some(why));
                    stale.push((device.clone(), why));
                }
            }
        }
        let records = self.keep(devices, untrue)?;
        for (device, why) in &stale {
            self.trackers.refold(&self.store, &context, device, *why)?;
        }
        let tolerance = context.options().clock_tolerance;
        for (device, brought) in devices {
            if let Some(tracker) = self.trackers.tracker(device) {
                self.clocks.look(device, tracker, brought, tolerance);
            }
        }
        Ok((records, concerned))
    }

    /// Judge what was brought, in one batch with `taken`, which says that it is done.
    fn settle(
        &mut self,
        devices: &BTreeMap<DeviceId, Brought>,
        taken: Batch,
        concerned: &Concerned,
    ) -> Result<(), StoreError> {
        self.commit(taken, concerned)?;
        for device in devices.keys() {
            self.trackers.keep_up(&self.store, device)?;
        }
        Ok(())
    }

    /// Write what a round brought into the history, behind what `batch` holds already. Doing so twice
    /// changes nothing. Returns how many records it brought.
    fn keep(
        &self,
        devices: &BTreeMap<DeviceId, Brought>,
        mut batch: Batch,
    ) -> Result<u64, StoreError> {
        let mut count = 0;
        for (device, brought) in devices {
            count += brought.records().count() as u64;
            for run in history::runs(&brought.kept) {
                if batch.len() >= HISTORY_BATCH_ROWS {
                    self.store.apply(std::mem::take(&mut batch))?;
                }
                history::keep(&self.store, &mut batch, device, run)?;
            }
        }
        self.store.apply(batch)?;
        Ok(count)
    }
}

impl Concerned {
    fn add(&mut self, context: &Context, device: &DeviceId, stale: Option<Stale>) {
        self.devices.insert(device.clone());
        for shipment in context.shipments_of(device) {
            self.shipments.insert(shipment.to_owned());
            if stale.is_some() {
                self.past.insert(shipment.to_owned());
            }
            if stale.is_some_and(|stale| stale != Stale::Redated) {
                self.late.insert(shipment.to_owned());
            }
        }
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
