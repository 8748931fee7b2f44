//! The thread that folds: woken by commits, and by time for what did not come.

use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::clock::monotonic;
use crate::fold::Fold;
use crate::store::{Commit, StoreError};

/// Wall time between two looks at who is silent. Short enough for a clock scaled a thousandfold.
const WATCH_PERIOD: Duration = Duration::from_millis(200);

/// The fold, shared by its thread and by whoever needs it to be done now.
#[derive(Clone, Debug)]
pub(super) struct Folder(Arc<Mutex<Fold>>);

impl Folder {
    pub(super) fn new(fold: Fold) -> Self {
        Self(Arc::new(Mutex::new(fold)))
    }

    /// Fold what the journal holds and look at the time, now.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        let mut fold = self.fold()?;
        fold.catch_up()?;
        fold.watch()
    }

    /// Fold in a thread of its own until `commits` is closed; then what is left, without rebuilding more
    /// trackers. The outcome says how it ended.
    pub(super) fn spawn(
        &self,
        mut commits: watch::Receiver<Commit>,
    ) -> std::io::Result<oneshot::Receiver<Result<(), StoreError>>> {
        let (ended, outcome) = oneshot::channel();
        let folder = self.clone();
        let runtime = tokio::runtime::Handle::current();
        let body = move || {
            let outcome = folder.run(&runtime, &mut commits);
            // Whoever stops in good order closes the store next, and must be the last to have it.
            drop(folder);
            // Nobody waits for the outcome when the gateway has already given up.
            let _ = ended.send(outcome);
        };
        thread::Builder::new().name("fold".to_owned()).spawn(body)?;
        Ok(outcome)
    }

    fn run(
        &self,
        runtime: &Handle,
        commits: &mut watch::Receiver<Commit>,
    ) -> Result<(), StoreError> {
        let mut watched = monotonic();
        loop {
            let busy = self.fold()?.advance()?.is_some();
            if !busy || watched.elapsed() >= WATCH_PERIOD {
                self.fold()?.watch()?;
                watched = monotonic();
            }
            let closed = if busy {
                commits.has_changed().is_err()
            } else {
                let wait = async { tokio::time::timeout(WATCH_PERIOD, commits.changed()).await };
                matches!(runtime.block_on(wait), Ok(Err(_)))
            };
            if closed {
                let mut fold = self.fold()?;
                fold.close()?;
                return fold.watch();
            }
        }
    }

    /// A panic in the fold leaves its cache half changed: going on could state something false.
    fn fold(&self) -> Result<MutexGuard<'_, Fold>, StoreError> {
        self.0.lock().map_err(|_| StoreError::Failed {
            operation: "fold",
            cause: "it panicked earlier; restart the gateway".to_owned(),
        })
    }
}
