//! The thread that folds: woken by commits, and by time for what did not come.

use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

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

    /// Fold in a thread of its own until `commits` is closed; then once more. The outcome says how
    /// it ended.
    pub(super) fn spawn(
        &self,
        mut commits: watch::Receiver<Commit>,
    ) -> std::io::Result<oneshot::Receiver<Result<(), StoreError>>> {
        let (ended, outcome) = oneshot::channel();
        let folder = self.clone();
        let runtime = tokio::runtime::Handle::current();
        let body = move || {
            let wait = async |commits: &mut watch::Receiver<Commit>| match tokio::time::timeout(
                WATCH_PERIOD,
                commits.changed(),
            )
            .await
            {
                Ok(Ok(())) | Err(_) => true,
                Ok(Err(_)) => false,
            };
            let outcome = loop {
                if let Err(error) = folder.settle() {
                    break Err(error);
                }
                if !runtime.block_on(wait(&mut commits)) {
                    break folder.settle();
                }
            };
            // Nobody waits for the outcome when the gateway has already given up.
            let _ = ended.send(outcome);
        };
        thread::Builder::new().name("fold".to_owned()).spawn(body)?;
        Ok(outcome)
    }

    /// A panic in the fold leaves its cache half changed: going on could state something false.
    fn fold(&self) -> Result<MutexGuard<'_, Fold>, StoreError> {
        self.0.lock().map_err(|_| StoreError::Failed {
            operation: "fold",
            cause: "it panicked earlier; restart the gateway".to_owned(),
        })
    }
}
