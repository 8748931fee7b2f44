//! sled 0.34, made honest: its flush is followed by a real sync.
//!
//! `flush` writes the log and calls `sync_file_range`, which neither waits for the file's metadata nor
//! empties the disk's cache. [`Sled::sync`] therefore calls fdatasync on the `db` file behind it, and
//! fsync on `conf` and the folder whenever those changed (they do at creation and when sled writes a
//! snapshot at start and end). On macOS the standard library turns a file sync into `F_FULLFSYNC`, on
//! Windows into `FlushFileBuffers`.
//!
//! The background flusher is off: the committer decides when, and a flush nobody waits for only
//! competes with it. Values never reach the blob files (see [`super::VALUE_MAX_BYTES`]), which nobody
//! syncs.
//!
//! # Opening after a cut
//!
//! sled writes its `conf` without a sync before it makes its log, and takes a `conf` that did not reach
//! the disk whole for damage from then on. So `conf` is made in a folder of its own, and gets its name when
//! it is whole.
//!
//! sled takes a snapshot that was being written for a whole one, and one that is ahead of the log for
//! damage. Snapshots are only an index over the log. So the former are removed, and when sled does not
//! open, the latter are set aside and it reads its whole log.

use std::fs::{File, OpenOptions};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::folder::{
    self, Panicked, io_error as io, is_mangled, make_folder, panic_text, sync_folder,
};
use super::{Batch, Engine, EngineError, Order, Row, Span, StoreError};
use crate::clock::monotonic;
use crate::config::StoreEngine;

/// Size of a log segment, in bytes. sled sends nodes above a quarter of it to blob files.
pub(super) const SEGMENT_BYTES: usize = 8 * 1024 * 1024;

/// Page cache, in bytes. A wish, not a bound: sled may hold more for a while.
const CACHE_BYTES: u64 = 128 * 1024 * 1024;

/// sled's parameters.
const CONF: &str = "conf";

/// Folder in which the parameters of a new database are made.
const MAKING: &str = "unfinished";

/// What the name of a snapshot begins with.
const SNAPSHOT: &str = "snap.";

/// What the name of a snapshot ends with while it is written.
const UNFINISHED: &str = ".generating";

/// What stands before the name of a snapshot while the store is opened without it.
const ASIDE: &str = "aside.";

/// How long opening waits for a lock that somebody holds: sled gives its own back on a thread of its own, a
/// moment after the last handle is gone.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// How often it looks.
const LOCK_LOOK: Duration = Duration::from_millis(10);

/// The default engine.
pub(super) struct Sled {
    db: ::sled::Db,
    /// Our own handle on sled's log, for the sync.
    log: File,
    folder: PathBuf,
    /// State of `conf` and of the folder at the last time they were synced.
    synced: Mutex<Option<Fingerprint>>,
}

/// What changes when `conf` or the folder's entries do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fingerprint {
    folder: SystemTime,
    conf: SystemTime,
    conf_bytes: u64,
}

impl Sled {
    /// Opens or creates the database in `folder`.
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        make_folder(folder)?;
        check_log(folder)?;
        if !folder.join(CONF).exists() {
            make_parameters(folder)?;
        }
        let db = open_database(folder)?;
        let path = folder.join(StoreEngine::Sled.file());
        let log = OpenOptions::new().read(true).write(true).open(&path);
        let log = log.map_err(|source| io("open store file", &path, source))?;
        let engine = Self {
            db,
            log,
            folder: folder.to_owned(),
            synced: Mutex::new(None),
        };
        let synced = engine.sync_all();
        synced.map_err(|source| io("sync store folder", folder, source))?;
        Ok(engine)
    }

    /// Syncs `conf` and the folder when they changed since the last time.
    fn sync_names(&self) -> std::io::Result<()> {
        let now = self.fingerprint()?;
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if synced.as_ref() != Some(&now) {
            File::open(self.folder.join("conf"))?.sync_all()?;
            sync_folder(&self.folder)?;
            *synced = Some(now);
        }
        Ok(())
    }

    /// Everything, at opening: also the folder that holds the store's.
    fn sync_all(&self) -> std::io::Result<()> {
        self.log.sync_all()?;
        sync_folder(&self.folder.join("blobs"))?;
        self.sync_names()?;
        match self.folder.canonicalize()?.parent() {
            Some(parent) => sync_folder(parent),
            None => Ok(()),
        }
    }

    fn fingerprint(&self) -> std::io::Result<Fingerprint> {
        let conf = std::fs::metadata(self.folder.join("conf"))?;
        Ok(Fingerprint {
            folder: std::fs::metadata(&self.folder)?.modified()?,
            conf: conf.modified()?,
            conf_bytes: conf.len(),
        })
    }
}

impl Engine for Sled {
    fn apply(&self, batch: &Batch) -> Result<(), EngineError> {
        let mut writes = ::sled::Batch::default();
        for (key, value) in batch.writes() {
            match value {
                Some(value) => writes.insert(key, value),
                None => writes.remove(key),
            }
        }
        guarded(|| self.db.apply_batch(writes))
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let value = guarded(|| self.db.get(key))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(&self, span: &Span) -> Result<Vec<Row>, EngineError> {
        let range = match &span.until {
            Some(until) if *until <= span.from => return Ok(Vec::new()),
            Some(until) => self.db.range(span.from.as_slice()..until.as_slice()),
            None => self.db.range(span.from.as_slice()..),
        };
        let row = |row: ::sled::Result<(::sled::IVec, ::sled::IVec)>| {
            row.map(|(key, value)| (key.to_vec(), value.to_vec()))
        };
        guarded(|| match span.order {
            Order::Ascending => range.take(span.limit_rows).map(row).collect(),
            Order::Descending => range.rev().take(span.limit_rows).map(row).collect(),
        })
    }

    fn sync(&self) -> Result<(), EngineError> {
        guarded(|| self.db.flush())?;
        self.log.sync_data()?;
        Ok(self.sync_names()?)
    }

    fn size_bytes(&self) -> Result<u64, EngineError> {
        Ok(self.db.size_on_disk()?)
    }

    fn live_bytes(&self) -> Result<u64, EngineError> {
        let mut bytes = 0;
        for row in &*self.db {
            let (key, value) = row?;
            bytes += (key.len() + value.len()) as u64;
        }
        Ok(bytes)
    }
}

/// Looks at the log before sled does, which loses what it does not understand.
fn check_log(folder: &Path) -> Result<(), StoreError> {
    let checked = super::wreck::before_opening(folder);
    checked.map_err(|error| {
        if is_mangled(&error) {
            return StoreError::Damaged {
                path: folder.to_owned(),
                detail: error.to_string(),
            };
        }
        io("read store file", &folder.join("db"), error)
    })
}

/// sled panics on some damage instead of saying so; both become errors.
fn guarded<T>(work: impl FnOnce() -> ::sled::Result<T>) -> Result<T, EngineError> {
    folder::guarded(|| Ok(work()?))
}

/// Whether the engine's files are to blame, not the machine: what is full or read-only is not damaged.
pub(super) fn is_damage(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    match error.downcast_ref::<::sled::Error>() {
        Some(::sled::Error::Io(source)) => is_mangled(source),
        Some(_) => true,
        None => error.is::<Panicked>(),
    }
}

/// Makes sled's parameters in a folder of their own, and moves them when they are whole.
fn make_parameters(folder: &Path) -> Result<(), StoreError> {
    let making = folder.join(MAKING);
    let failed = |source| io("create store in", &making, source);
    remove_made(&making).map_err(failed)?;
    std::fs::create_dir(&making).map_err(failed)?;
    drop(open_as_it_is(&making)?);
    let move_whole = || {
        File::open(making.join(CONF))?.sync_all()?;
        std::fs::rename(making.join(CONF), folder.join(CONF))?;
        sync_folder(folder)
    };
    move_whole().map_err(failed)?;
    // What cannot be removed now, because sled has not yet closed it, is in nobody's way.
    let _ = remove_made(&making);
    Ok(())
}

/// Removes what an earlier making has left.
fn remove_made(making: &Path) -> std::io::Result<()> {
    if !making.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(making)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    std::fs::remove_dir(making)
}

/// Opens, without the snapshots when it does not open with them.
fn open_database(folder: &Path) -> Result<::sled::Db, StoreError> {
    let failed = |source| io("look for snapshots in", folder, source);
    for unfinished in snapshots(folder, true).map_err(failed)? {
        std::fs::remove_file(unfinished).map_err(failed)?;
    }
    let snapshots = snapshots(folder, false).map_err(failed)?;
    match open_as_it_is(folder) {
        Err(StoreError::Damaged { detail, .. }) if !snapshots.is_empty() => {
            tracing::warn!(
                detail,
                "the store does not open with its index; reading its whole log"
            );
            open_without(&snapshots, folder)
        }
        opened => opened,
    }
}

/// Sets the snapshots aside while the whole log is read; they come back when that was not the reason.
fn open_without(snapshots: &[PathBuf], folder: &Path) -> Result<::sled::Db, StoreError> {
    let failed = |source| io("set snapshots aside in", folder, source);
    let put_aside = |snapshot: &PathBuf| {
        let name = snapshot.file_name().unwrap_or_default().to_string_lossy();
        (snapshot.clone(), folder.join(format!("{ASIDE}{name}")))
    };
    let moved: Vec<(PathBuf, PathBuf)> = snapshots.iter().map(put_aside).collect();
    for (snapshot, aside) in &moved {
        std::fs::rename(snapshot, aside).map_err(failed)?;
    }
    // What the snapshots stood for is read again, so it is looked at as well.
    let opened = check_log(folder).and_then(|()| open_as_it_is(folder));
    for (snapshot, aside) in &moved {
        let done = match &opened {
            Ok(_) => std::fs::remove_file(aside),
            Err(_) => std::fs::rename(aside, snapshot),
        };
        done.map_err(failed)?;
    }
    opened
}

/// The snapshots in `folder`: those that were being written, or the others.
fn snapshots(folder: &Path, unfinished: bool) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if text.starts_with(SNAPSHOT) && text.ends_with(UNFINISHED) == unfinished {
            found.push(folder.join(name));
        }
    }
    Ok(found)
}

/// sled panics on some damage instead of saying so; both become `Damaged`.
fn open_as_it_is(folder: &Path) -> Result<::sled::Db, StoreError> {
    let config = ::sled::Config::new()
        .path(folder)
        .segment_size(SEGMENT_BYTES)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None);
    let damaged = |detail: String| StoreError::Damaged {
        path: folder.to_owned(),
        detail,
    };
    let begun = monotonic();
    let mut opened = catch_unwind(AssertUnwindSafe(|| config.open()));
    while matches!(&opened, Ok(Err(::sled::Error::Io(source))) if is_lock(source))
        && begun.elapsed() < LOCK_WAIT
    {
        std::thread::sleep(LOCK_LOOK);
        opened = catch_unwind(AssertUnwindSafe(|| config.open()));
    }
    match opened {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(::sled::Error::Io(source))) if is_lock(&source) => Err(StoreError::Locked {
            path: folder.to_owned(),
        }),
        Ok(Err(::sled::Error::Io(source))) if !is_mangled(&source) => {
            Err(io("open store", folder, source))
        }
        Ok(Err(error)) => Err(damaged(error.to_string())),
        Err(panic) => Err(damaged(panic_text(&*panic))),
    }
}

/// sled wraps the refused lock in an error of its own that only its text tells from others.
fn is_lock(error: &std::io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Commit, Store, journal};

    fn commit(store: &Store, number: u64) {
        let mut batch = Batch::default();
        journal::append(&mut batch, Commit(number), &[]).unwrap();
        store.apply(batch).unwrap();
        store.barrier().unwrap();
    }

    #[test]
    fn a_snapshot_that_is_unfinished_or_ahead_of_the_log_does_not_keep_the_store_from_opening() {
        for name in ["snap.00000000000FFFFF.generating", "snap.00000000000FFFFF"] {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path()).unwrap();
            commit(&store, 1);
            drop(store);
            std::fs::write(folder.path().join(name), b"torn").unwrap();
            let store = Store::open(folder.path()).unwrap();
            assert_eq!(store.newest_commit(), Commit(1), "{name}");
            assert!(!folder.path().join(name).exists(), "{name}");
        }
    }

    #[test]
    fn parameters_that_were_not_whole_when_the_power_was_cut_are_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let making = folder.path().join(MAKING);
        std::fs::create_dir(&making).unwrap();
        std::fs::write(making.join(CONF), b"segm").unwrap();
        let store = Store::open(folder.path()).unwrap();
        commit(&store, 1);
        drop(store);
        assert_eq!(
            Store::open(folder.path()).unwrap().newest_commit(),
            Commit(1)
        );
    }
}
