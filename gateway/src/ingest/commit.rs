//! The committer: groups of publications, one batch and one barrier each, then their receipts.
//!
//! ```text
//! receive .. gather .. admit .. ONE batch (chunk, runs, devices, quarantine, counters) .. barrier .. receipts
//! ```
//! It runs on a thread of its own, because the store blocks. While one group is at its barrier the next
//! one gathers in the channel, so groups grow with the load and a lone publication does not wait.
//!
//! A full store holds the group back: nothing is taken and nothing acknowledged until there is space.
//!
//! A failed write or barrier ends the committer with the error: the receipts of the group are dropped
//! (no PUBACK), nothing is tried again, and the pipeline ends the process with exit code 3.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::admit::{Admission, Sealed};
use crate::account::{Account, Tally};
use crate::clock::Clock;
use crate::receipt::{Publication, Receipt};
use crate::store::table::{self, Table};
use crate::store::{Commit, Store, StoreError};

/// Publications that wait for the committer, all connections together: a second of a fleet of 4,000 at
/// one a second. Beyond it the sessions wait, and with them their devices.
pub const QUEUE_MAX_PUBLICATIONS: usize = 4_096;

/// Most publications in one group. At 20 records each this is a chunk of about 3 MB, written in well
/// under 100 ms.
pub const GROUP_MAX_PUBLICATIONS: usize = 1_024;

/// Most payload bytes in one group: bounds the memory of a group of the largest batches.
pub const GROUP_MAX_BYTES: usize = 1024 * 1024;

/// How long a group waits for more after its first publication, in milliseconds of wall time: below
/// the time of a barrier on most disks, so that it costs a lone publication little.
pub const GATHER_MAX_MS: u64 = 1;

/// Records the fold may lag behind before the committer waits for it. The index of them takes about
/// 100 bytes each.
pub const UNFOLDED_MAX_RECORDS: usize = 2_000_000;

/// How often a full store is looked at, in wall time: readings go on well within a second of space.
const FULL_LOOK: Duration = Duration::from_millis(100);

/// The channel between sessions and committer.
#[must_use]
pub fn queue() -> (mpsc::Sender<Publication>, mpsc::Receiver<Publication>) {
    mpsc::channel(QUEUE_MAX_PUBLICATIONS)
}

/// The counters as the last commit left them.
///
/// # Errors
/// When they cannot be read.
pub fn account(store: &Store) -> Result<Account, StoreError> {
    let kept: Option<BTreeMap<String, u64>> = table::value(store, Table::Meta, ACCOUNT)?;
    Ok(Account::resume(Tally::from_kept(&kept.unwrap_or_default())))
}

/// Name of the row that holds the counters.
const ACCOUNT: &str = "account";

/// A running committer.
#[derive(Debug)]
pub struct Committer {
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<Result<(), StoreError>>,
    committed: watch::Receiver<Commit>,
}

/// What a committer works with.
#[derive(Debug)]
pub struct Parts {
    /// Where to.
    pub store: Store,
    /// From [`account`].
    pub account: Account,
    /// Labels records with the time of their reception.
    pub clock: Clock,
    /// From [`queue`].
    pub publications: mpsc::Receiver<Publication>,
}

impl Committer {
    /// Starts the committer on a thread of its own.
    ///
    /// # Errors
    /// When the journal cannot be read, or the system gives no thread.
    pub fn spawn(parts: Parts) -> Result<Self, StoreError> {
        let (stop, stopping) = watch::channel(false);
        let (committed, commits) = watch::channel(parts.store.newest_commit());
        let (end, ended) = oneshot::channel();
        let worker = Worker {
            admission: Admission::open(&parts.store)?,
            folded: parts.store.watch_folded(),
            parts,
            stopping,
            committed,
        };
        let spawned = std::thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || {
                let result = worker.run();
                if let Err(error) = &result {
                    tracing::error!("committer ends: {error}");
                }
                // The pipeline may have gone; then nobody wants to know.
                let _ = end.send(result);
            });
        spawned.map_err(|error| thread_error(&error))?;
        Ok(Self {
            stop,
            ended,
            committed: commits,
        })
    }

    /// The newest commit that holds something for the fold and is durable. The fold reads the journal from
    /// its own cursor up to here; values in between may be skipped.
    #[must_use]
    pub fn watch_committed(&self) -> watch::Receiver<Commit> {
        self.committed.clone()
    }

    /// Takes what is in the channel, commits it, and ends. Later publications are not taken.
    ///
    /// # Errors
    /// What ended it, if it was not this.
    pub async fn stop(mut self) -> Result<(), StoreError> {
        self.stop.send_replace(true);
        self.ended().await
    }

    /// Waits until it ends: by itself when every sender of the channel is gone, or by a failure.
    ///
    /// # Errors
    /// What ended it: the process must end with it.
    pub async fn ended(&mut self) -> Result<(), StoreError> {
        match (&mut self.ended).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Failed {
                operation: "commit",
                cause: "the committer panicked".to_owned(),
            }),
        }
    }
}

fn thread_error(cause: &std::io::Error) -> StoreError {
    StoreError::Failed {
        operation: "start of the committer",
        cause: cause.to_string(),
    }
}

struct Worker {
    parts: Parts,
    admission: Admission,
    folded: watch::Receiver<Commit>,
    stopping: watch::Receiver<bool>,
    committed: watch::Sender<Commit>,
}

impl Worker {
    fn run(mut self) -> Result<(), StoreError> {
        let waiting = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| thread_error(&error))?;
        loop {
            self.catch_up()?;
            waiting.block_on(self.wait_for_fold());
            match waiting.block_on(self.gather()) {
                Some(group) if waiting.block_on(self.finds_room()) => self.commit(group)?,
                // The receipts of a group without room are dropped: its devices send it again.
                Some(_) => {}
                None => return self.parts.store.barrier().map(drop),
            }
        }
    }

    /// Goes on with the index of what the journal held at the start: a step before each group, and more
    /// while nothing waits.
    fn catch_up(&mut self) -> Result<(), StoreError> {
        let publications = &self.parts.publications;
        while self.admission.step()? && publications.is_empty() && !*self.stopping.borrow() {}
        Ok(())
    }

    /// Holds the group back while the store is full. What arrives meanwhile waits in the channel, and
    /// behind it in the sessions. An orderly stop does not wait: then there is no room.
    async fn finds_room(&mut self) -> bool {
        while self.parts.store.room().shortage().is_some() {
            if *self.stopping.borrow() {
                return false;
            }
            tokio::select! {
                () = tokio::time::sleep(FULL_LOOK) => {}
                () = stopped(&mut self.stopping) => {}
            }
        }
        true
    }

    /// Holds the next group back while the fold is too far behind; an orderly stop does not wait.
    async fn wait_for_fold(&mut self) {
        while !*self.stopping.borrow() && self.admission.unfolded_records() > UNFOLDED_MAX_RECORDS {
            tokio::select! {
                changed = self.folded.changed() => if changed.is_err() { return },
                () = stopped(&mut self.stopping) => {}
            }
        }
    }

    /// The next group; `None` when there will be none.
    async fn gather(&mut self) -> Option<Vec<Publication>> {
        let publications = &mut self.parts.publications;
        let first = tokio::select! {
            first = publications.recv() => first?,
            () = stopped(&mut self.stopping), if !publications.is_closed() => {
                publications.close();
                publications.recv().await?
            }
        };
        let deadline = Instant::now() + Duration::from_millis(GATHER_MAX_MS);
        let mut bytes = first.payload.len();
        let mut group = vec![first];
        while group.len() < GROUP_MAX_PUBLICATIONS && bytes < GROUP_MAX_BYTES {
            match timeout_at(deadline, publications.recv()).await {
                Ok(Some(publication)) => {
                    bytes += publication.payload.len();
                    group.push(publication);
                }
                Ok(None) | Err(_) => break,
            }
        }
        Some(group)
    }

    fn commit(&mut self, group: Vec<Publication>) -> Result<(), StoreError> {
        self.admission.begin(self.parts.clock.event_now())?;
        let mut receipts: Vec<Receipt> = Vec::with_capacity(group.len());
        for publication in group {
            let qos = publication.reception().byte();
            let Publication { topic, payload, .. } = &publication;
            let commit = self.admission.admit(topic, payload, qos)?;
            receipts.extend(publication.due.map(|due| due.waits_for(commit)));
        }
        let sealed = self.admission.seal()?;
        let (commit, for_fold) = (sealed.commit, sealed.for_fold);
        self.apply(sealed)?;
        let durable = self.parts.store.barrier()?;
        for receipt in receipts {
            if receipt.release(durable).is_err() {
                return Err(StoreError::Failed {
                    operation: "barrier",
                    cause: format!("it does not cover commit {}", commit.0),
                });
            }
        }
        if for_fold {
            self.committed.send_replace(commit);
        }
        Ok(())
    }

    /// The group and the counters with it, in one batch.
    fn apply(&mut self, sealed: Sealed) -> Result<(), StoreError> {
        let mut batch = sealed.batch;
        let mut counts = self.parts.account.tally();
        counts.add(&sealed.tally);
        table::put(&mut batch, Table::Meta, ACCOUNT, &counts.kept())?;
        self.parts.store.apply(batch)?;
        self.parts.account.add(&sealed.tally);
        self.admission.settle(sealed.commit);
        Ok(())
    }
}

/// Returns when the pipeline asked to stop, or is gone.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means the handle was dropped: nobody can ask any more, so end in order.
    let _ = stopping.wait_for(|stop| *stop).await;
}
