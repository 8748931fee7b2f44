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

use std::fs::{File, OpenOptions};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::folder::{io_error as io, make_folder, panic_text, sync_folder};
use super::{Batch, Engine, EngineError, Order, Row, Span, StoreError};

/// Size of a log segment, in bytes. sled sends nodes above a quarter of it to blob files.
const SEGMENT_BYTES: usize = 8 * 1024 * 1024;

/// Page cache, in bytes. A wish, not a bound: sled may hold more for a while.
const CACHE_BYTES: u64 = 128 * 1024 * 1024;

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
        let db = open_database(folder)?;
        let path = folder.join("db");
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
        Ok(self.db.apply_batch(writes)?)
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.db.get(key)?.map(|value| value.to_vec()))
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
        let rows: ::sled::Result<Vec<Row>> = match span.order {
            Order::Ascending => range.take(span.limit_rows).map(row).collect(),
            Order::Descending => range.rev().take(span.limit_rows).map(row).collect(),
        };
        Ok(rows?)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.db.flush()?;
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

/// sled panics on some damage instead of saying so; both become `Damaged`.
fn open_database(folder: &Path) -> Result<::sled::Db, StoreError> {
    let config = ::sled::Config::new()
        .path(folder)
        .segment_size(SEGMENT_BYTES)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None);
    let damaged = |detail: String| StoreError::Damaged {
        path: folder.to_owned(),
        detail,
    };
    match catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(::sled::Error::Io(source))) if is_lock(&source) => Err(StoreError::Locked {
            path: folder.to_owned(),
        }),
        Ok(Err(::sled::Error::Io(source))) => Err(io("open store", folder, source)),
        Ok(Err(error)) => Err(damaged(error.to_string())),
        Err(panic) => Err(damaged(panic_text(&*panic))),
    }
}

/// sled wraps the refused lock in an error of its own that only its text tells from others.
fn is_lock(error: &std::io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}
