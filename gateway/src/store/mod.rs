//! The embedded store: one ordered tree, atomic batches, and the barrier.
//!
//! # How it is used
//!
//! ```text
//! let store = Store::open_on(engine, folder)?;  // refuses locked, damaged, foreign, newer stores
//! let mut batch = Batch::default();
//! journal::append(&mut batch, commit, &entries)?;   // typed functions fill the batch ...
//! seen::put(&mut batch, ...);
//! store.apply(batch)?;                          // ... which is applied whole or not at all
//! let durable = store.barrier()?;               // everything applied before survives a power cut
//! receipt.release(durable)?;                    // only now may a PUBACK leave
//! ```
//!
//! [`Store`] is cheap to clone and shared by committer, fold, delivery and control. Batches are
//! serialised; reads see the newest applied batch, durable or not. What must not be seen before it is
//! durable (an event leaving the gateway) needs no barrier of its own: the log is one, so a barrier
//! for a later commit covers every earlier batch, and a power cut loses only the end of the log.
//!
//! | rows | room | written by |
//! |---|---|---|
//! | `j\|` journal | [`journal`] | committer; the fold removes chunks it has folded |
//! | `u\|` copies of alarms | [`journal::urgent`] | as the journal |
//! | `d\|` seen runs | [`seen`] | committer |
//! | `i\|` devices | [`device`], [`doubt`], [`book`] | committer, pipeline |
//! | `k\|` identities | [`identity`] | commands, by control |
//! | `q\|` quarantine | [`quarantine`] | committer; [`damage`] sets damaged rows aside |
//! | `h\|` records | [`history`] | fold |
//! | `e\|` view | [`view`] | fold |
//! | `s\|` checkpoints | [`checkpoint`] | fold |
//! | `z\|` seals | [`seal`] | fold |
//! | `o\|` `x\|` outbox | [`outbox`] | fold appends, delivery removes |
//! | `p\|` plan revisions | [`revision`] | the start of a gateway |
//! | `w\|` wanted settings | [`settings`] | people's commands |
//! | `t\|` temporary ones | [`pressure`] | the look at the disk |
//! | `a\|` audit | [`audit`], [`salvage`] | people's commands, salvage |
//! | `c\|` `m\|` | [`table`] | sessions, cursors, [`broker`] |
//!
//! Every value carries a checksum of itself and its key. A row that fails it is set aside when it is
//! read, and counted; see [`damage`].
//!
//! # After an error
//!
//! A failed write, flush or sync is never tried again: the kernel may have dropped the dirty pages and
//! call the next sync a success. The store remembers the first failure and refuses every later write
//! and barrier with [`StoreError::Failed`]; the pipeline exits with code 3 and the next start recovers.
//! A call to the engine that does not return ends the process the same way; see [`Patience`].

pub mod audit;
mod backup;
mod behind;
pub mod book;
pub mod broker;
pub mod checkpoint;
pub mod content;
pub mod damage;
pub mod device;
pub mod doubt;
mod engine;
mod entry;
mod error;
mod folder;
pub mod history;
pub mod identity;
pub mod journal;
mod key;
#[cfg(test)]
pub(crate) mod memory;
mod opening;
pub mod outbox;
mod pages;
mod patience;
pub mod pressure;
pub mod quarantine;
mod read;
mod redb;
pub mod revision;
mod run;
pub mod salvage;
pub mod seal;
pub mod seen;
pub mod settings;
mod sled;
pub mod space;
#[cfg(test)]
mod suite;
pub mod table;
#[cfg(test)]
mod tests;
pub mod view;
mod witness;
mod wreck;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use self::behind::Behind;
pub use self::engine::{Engine, EngineError, Order, Row, Span};
pub use self::error::StoreError;
use self::error::row_error;
use self::key::{Key, successor};
pub use self::patience::{Patience, SLOW_AFTER, Stall};
pub use self::redb::Redb;
use self::space::Space;
use self::witness::Witness;
use crate::clock::monotonic;
use crate::config::StoreEngine;

/// Version of the layout of keys and values; stored under `m|format`.
pub const FORMAT_VERSION: u32 = 1;

/// Largest value, in bytes. A leaf of sled holds about 17 values, and a node above a quarter of the
/// 8 MiB segment would go to a file that is never synced: 17 x 64 KiB stays below 2 MiB.
pub const VALUE_MAX_BYTES: usize = 64 * 1024;

/// Largest value with its checksum, in bytes.
const SEALED_MAX_BYTES: usize = VALUE_MAX_BYTES + damage::CHECKSUM_BYTES;

/// Most rows read by one scan: with the largest values one page is 16 MiB.
pub const PAGE_MAX_ROWS: usize = 256;

/// Number of a group commit; rises by one with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Commit(pub u64);

/// Proof that every commit up to this one survives a power cut.
///
/// Its field is private to the store, and [`Store::barrier`] alone fills it, after the engine synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Durable(Commit);

impl Durable {
    /// The newest commit covered.
    #[must_use]
    pub const fn commit(self) -> Commit {
        self.0
    }
}

/// Writes that happen together or not at all. Filled by the typed functions of this room's files.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Newest commit whose journal chunk is in this batch.
    commit: Option<Commit>,
    /// Newest commit that the fold takes in this batch.
    folded: Option<Commit>,
    /// Newest commit of which the copy of what is urgent is in this batch.
    urgent: Option<Commit>,
    /// Newest commit of which the fold takes what is urgent in this batch.
    urgent_taken: Option<Commit>,
}

impl Batch {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Number of keys written or removed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Adds the writes of `other`; where both write a key, `other` wins.
    pub fn append(&mut self, mut other: Self) {
        self.writes.append(&mut other.writes);
        self.commit = self.commit.max(other.commit);
        self.folded = self.folded.max(other.folded);
        self.urgent = self.urgent.max(other.urgent);
        self.urgent_taken = self.urgent_taken.max(other.urgent_taken);
    }

    /// The writes in key order; `None` removes. For engines.
    pub fn writes(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.writes
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    fn put(&mut self, key: Key, value: Vec<u8>) {
        let key = key.into_bytes();
        let sealed = damage::seal(&key, value);
        self.writes.insert(key, Some(sealed));
    }

    fn remove(&mut self, key: Key) {
        self.writes.insert(key.into_bytes(), None);
    }
}

/// The store. Clones share it.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let newest = self.newest_commit();
        f.debug_struct("Store")
            .field("newest_commit", &newest)
            .finish_non_exhaustive()
    }
}

struct Shared {
    engine: Box<dyn Engine>,
    /// How long calls to it may take.
    patience: Patience,
    /// Names the store in errors.
    folder: PathBuf,
    /// Engine of its backups.
    kind: StoreEngine,
    /// Remembers outside the engine what was promised.
    witness: Option<Witness>,
    /// Newest commit applied, durable or not.
    applied: AtomicU64,
    /// Newest commit the fold has taken.
    folded: watch::Sender<Commit>,
    /// Watches the disk, in a gateway that runs.
    space: OnceLock<Space>,
    /// Damaged rows set aside, ever.
    set_aside: AtomicU64,
    /// First failure of a write or sync.
    failure: OnceLock<(&'static str, String)>,
    /// Serialises batches, and while a backup runs notes the keys they touch.
    writer: Mutex<Writer>,
    /// When the commits that wait for the fold were applied. Apart from the writer, which may be held
    /// as long as a slow disk takes.
    behind: Mutex<Behind>,
    /// The same of the alarms that wait.
    urgent_behind: Mutex<Behind>,
}

#[derive(Default)]
struct Writer {
    touched: Option<BTreeSet<Vec<u8>>>,
}

impl Store {
    /// Applies `batch`, whole or not at all. An empty batch costs nothing.
    ///
    /// # Errors
    /// `TooLarge` before anything is written; `Failed` when the engine could not, now or earlier.
    pub fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        check_sizes(&batch)?;
        let mut writer = self.writer();
        self.refuse_after_failure()?;
        self.write(&mut writer, batch)
    }

    /// The batch to the engine, by whoever holds the writer.
    fn write(&self, writer: &mut Writer, batch: Batch) -> Result<(), StoreError> {
        let applied = self.0.engine.apply(&batch);
        applied.map_err(|cause| self.fail("write", &*self.suspected(cause)))?;
        if let Some(commit) = batch.commit {
            self.0.applied.fetch_max(commit.0, Ordering::SeqCst);
            self.behind().applied(commit, monotonic());
        }
        if let Some(folded) = batch.folded {
            self.0.folded.send_replace(folded);
            self.behind().taken(folded);
        }
        if let Some(commit) = batch.urgent {
            self.urgent_behind().applied(commit, monotonic());
        }
        if let Some(taken) = batch.folded.max(batch.urgent_taken) {
            self.urgent_behind().taken(taken);
        }
        if let Some(touched) = &mut writer.touched {
            touched.extend(batch.writes.into_keys());
        }
        Ok(())
    }

    /// Waits until everything applied before the call survives a power cut.
    ///
    /// # Errors
    /// `Failed` when that is not certain. It stays so: a second try could lie.
    pub fn barrier(&self) -> Result<Durable, StoreError> {
        let applied = Commit(self.0.applied.load(Ordering::SeqCst));
        self.refuse_after_failure()?;
        let synced = self.0.engine.sync();
        synced.map_err(|cause| self.fail("sync", &*cause))?;
        self.refuse_after_failure()?;
        if let Some(witness) = &self.0.witness {
            let _call = self.0.patience.begin("note of the barrier");
            let noted = witness.note(applied);
            noted.map_err(|cause| self.fail("note of the barrier", &cause))?;
        }
        Ok(Durable(applied))
    }

    /// Newest commit applied, durable or not.
    #[must_use]
    pub fn newest_commit(&self) -> Commit {
        Commit(self.0.applied.load(Ordering::SeqCst))
    }

    /// Newest commit the fold has taken; what came later is in the journal.
    #[must_use]
    pub fn newest_folded(&self) -> Commit {
        *self.0.folded.borrow()
    }

    /// How long the oldest commit that the fold has not taken has been waiting; since the store was
    /// opened, when it was there before. At most a tenth of a second too long, never too short.
    #[must_use]
    pub fn unfolded_for(&self) -> Duration {
        self.behind().age(monotonic())
    }

    /// The same of the oldest alarm that the fold has not taken.
    #[must_use]
    pub fn alarms_unfolded_for(&self) -> Duration {
        self.urgent_behind().age(monotonic())
    }

    /// Tells when the fold takes commits.
    #[must_use]
    pub fn watch_folded(&self) -> watch::Receiver<Commit> {
        self.0.folded.subscribe()
    }

    /// Copies the store to the folder `to` while it is in use: the copy is one moment of it, durable,
    /// and appears under its name only when complete.
    ///
    /// # Errors
    /// When `to` exists, or reading or writing failed.
    pub fn backup(&self, to: &Path) -> Result<(), StoreError> {
        backup::run(self, to)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // A panic while the lock was held leaves nothing half done: the engine's batch is atomic.
        self.0.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn behind(&self) -> MutexGuard<'_, Behind> {
        // A panic while it was held can only have lost a mark: the age is an estimate by design.
        self.0.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn urgent_behind(&self) -> MutexGuard<'_, Behind> {
        // As above.
        let behind = self.0.urgent_behind.lock();
        behind.unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse_after_failure(&self) -> Result<(), StoreError> {
        if let Some(stall) = self.stall() {
            return Err(StoreError::Stalled { stall });
        }
        match self.0.failure.get() {
            None => Ok(()),
            Some((operation, cause)) => Err(StoreError::Failed {
                operation,
                cause: cause.clone(),
            }),
        }
    }

    fn fail(&self, operation: &'static str, cause: &dyn std::error::Error) -> StoreError {
        let (operation, cause) = self
            .0
            .failure
            .get_or_init(|| (operation, cause.to_string()))
            .clone();
        StoreError::Failed { operation, cause }
    }
}

fn check_sizes(batch: &Batch) -> Result<(), StoreError> {
    let mut values = batch.writes();
    let large = values.find(|(_, value)| value.is_some_and(|value| value.len() > SEALED_MAX_BYTES));
    match large {
        None => Ok(()),
        Some((key, value)) => Err(StoreError::TooLarge {
            kind: "key",
            name: key.escape_ascii().to_string(),
            bytes: value.map_or(0, <[u8]>::len),
        }),
    }
}
