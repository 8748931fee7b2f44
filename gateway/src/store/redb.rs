//! redb 4: a copy-on-write tree in one file.
//!
//! A batch is a commit without durability: readers see it at once, and nothing of it is needed on disk
//! until [`Redb::sync`], which is an empty commit that is made durable and takes every earlier one with
//! it. So a barrier costs one or two syncs of the file, however many batches came before.
//!
//! Until then redb keeps the pages in memory, and only then do they take space on the disk: the file grows
//! with holes. How much free space is still to be taken is therefore bounded by [`UNSYNCED_MAX_BYTES`]; the
//! watch over the disk relies on it.
//!
//! redb writes its file's first bytes last, so that a file whose making was cut short is no database, and
//! refuses it from then on. A new store is therefore made under another name and renamed when it is
//! whole; what is left of an earlier attempt is removed.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use ::redb::backends::FileBackend;
use ::redb::{
    Builder, Database, DatabaseError, Durability, OwnedAccessGuard, ReadOnlyTable,
    ReadableDatabase as _, ReadableTableMetadata as _, StorageBackend, StorageError,
    TableDefinition,
};

use super::folder::{
    Panicked, guarded, io_error, is_mangled, make_folder, panic_text, sync_folder,
};
use super::{Batch, Engine, EngineError, Order, Row, Span, StoreError, pages, witness};
use crate::config::StoreEngine;

/// The one table.
const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

/// Page cache, in bytes; batches that are not synced are kept in it too.
const CACHE_BYTES: usize = 128 * 1024 * 1024;

/// Changes without durability after which a batch is made durable at once, in bytes: twice that much, for pages
/// are powers of two, and a batch of the fold stay below [`FLOOR_BYTES`](super::space::FLOOR_BYTES).
const UNSYNCED_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// What a changed row is reckoned at besides itself, in bytes: the page that it shares with others is copied.
const PAGE_BYTES: u64 = 4 * 1024;

/// Key and value where they are. While they are held, no commit frees the pages that they lie in.
type Found = (
    OwnedAccessGuard<&'static [u8]>,
    OwnedAccessGuard<&'static [u8]>,
);

/// A database under way to its name.
const UNFINISHED: &str = "store.redb.unfinished";

/// The engine `redb`.
pub struct Redb {
    db: Database,
    /// Changes since the last sync, in bytes; changed only within a transaction that writes.
    unsynced: AtomicU64,
    /// Length of what holds the database.
    length: Box<dyn Fn() -> io::Result<u64> + Send + Sync>,
}

impl fmt::Debug for Redb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redb").finish_non_exhaustive()
    }
}

impl Redb {
    /// Opens or creates the database in `folder`.
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        make_folder(folder)?;
        let path = folder.join(StoreEngine::Redb.file());
        if !path.exists() {
            create(folder)?;
        }
        let io = |source| io_error("open store file", &path, source);
        let checked = pages::before_opening(folder, witness::promised_in(folder));
        checked.map_err(|error| match error {
            error if is_mangled(&error) => damaged(folder, error.to_string()),
            error => io(error),
        })?;
        let file = open_file(&path).map_err(io)?;
        let measured = file.try_clone().map_err(io)?;
        let db = database(
            || {
                let backend = FileBackend::new(file)?;
                let mut builder = Builder::new();
                let mut db = builder
                    .set_cache_size(CACHE_BYTES)
                    .create_with_backend(backend)?;
                // Of a database that was closed in good order redb believes what it notes of free pages.
                db.check_integrity()?;
                Ok(db)
            },
            folder,
        )?;
        Ok(Self {
            db,
            unsynced: AtomicU64::new(0),
            length: Box::new(move || Ok(measured.metadata()?.len())),
        })
    }

    /// The engine on storage of the caller's choice, which may fail or lose what was not synced: for
    /// tests. `folder` names it in errors.
    ///
    /// # Errors
    /// When what the storage holds is damaged or cannot be read.
    pub fn on(storage: impl StorageBackend + Clone, folder: &Path) -> Result<Self, StoreError> {
        let measured = storage.clone();
        let db = database(
            || {
                Builder::new()
                    .set_cache_size(CACHE_BYTES)
                    .create_with_backend(storage)
            },
            folder,
        )?;
        let engine = Self {
            db,
            unsynced: AtomicU64::new(0),
            length: Box::new(move || measured.len()),
        };
        let made = guarded(|| make_table(&engine.db));
        made.map_err(|error| damaged(folder, error.to_string()))?;
        Ok(engine)
    }

    /// How a batch is committed: none of it has to be on the disk before the next sync, unless much waits for
    /// that already. Asked within the transaction.
    fn durability(&self, batch: &Batch) -> Durability {
        let bytes = batch
            .writes()
            .map(|(key, value)| PAGE_BYTES + (key.len() + value.map_or(0, <[u8]>::len)) as u64);
        let before = self.unsynced.fetch_add(bytes.sum(), Ordering::Relaxed);
        if before < UNSYNCED_MAX_BYTES {
            return Durability::None;
        }
        self.unsynced.store(0, Ordering::Relaxed);
        Durability::Immediate
    }

    fn rows(&self) -> Result<ReadOnlyTable<&'static [u8], &'static [u8]>, EngineError> {
        Ok(self.db.begin_read()?.open_table(ROWS)?)
    }
}

impl Engine for Redb {
    fn apply(&self, batch: &Batch) -> Result<(), EngineError> {
        guarded(|| {
            let mut transaction = self.db.begin_write()?;
            transaction.set_durability(self.durability(batch))?;
            {
                let mut rows = transaction.open_table(ROWS)?;
                for (key, value) in batch.writes() {
                    match value {
                        Some(value) => drop(rows.insert(key, value)?),
                        None => drop(rows.remove(key)?),
                    }
                }
            }
            Ok(transaction.commit()?)
        })
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        guarded(|| {
            let value = self.rows()?.get_owned(key)?;
            Ok(value.map(|value| value.value().to_vec()))
        })
    }

    fn scan(&self, span: &Span) -> Result<Vec<Row>, EngineError> {
        let until = match &span.until {
            Some(until) if *until <= span.from => return Ok(Vec::new()),
            Some(until) => Bound::Excluded(until.as_slice()),
            None => Bound::Unbounded,
        };
        guarded(|| {
            let rows = self.rows()?;
            let range =
                rows.range_owned::<&[u8]>((Bound::Included(span.from.as_slice()), until))?;
            let row = |row: Result<Found, StorageError>| {
                row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec()))
            };
            let found: Result<Vec<Row>, StorageError> = match span.order {
                Order::Ascending => range.take(span.limit_rows).map(row).collect(),
                Order::Descending => range.rev().take(span.limit_rows).map(row).collect(),
            };
            Ok(found?)
        })
    }

    fn sync(&self) -> Result<(), EngineError> {
        let mut transaction = self.db.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        self.unsynced.store(0, Ordering::Relaxed);
        Ok(transaction.commit()?)
    }

    fn size_bytes(&self) -> Result<u64, EngineError> {
        Ok((self.length)()?)
    }

    fn live_bytes(&self) -> Result<u64, EngineError> {
        Ok(self.rows()?.stats()?.stored_bytes())
    }
}

/// Makes an empty database under another name, and gives it its own once it is whole.
fn create(folder: &Path) -> Result<(), StoreError> {
    let unfinished = folder.join(UNFINISHED);
    let io = |source| io_error("create store file", &unfinished, source);
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let file = open_file(&unfinished).map_err(io)?;
    let db = database(
        || Builder::new().create_with_backend(FileBackend::new(file)?),
        folder,
    )?;
    let made = make_table(&db);
    made.map_err(|error| io(io::Error::other(error)))?;
    drop(db);
    let named = std::fs::rename(&unfinished, folder.join(StoreEngine::Redb.file()));
    let named = named.and_then(|()| sync_names(folder));
    named.map_err(io)
}

/// The names on the way to the store: its own, and its folder's.
fn sync_names(folder: &Path) -> io::Result<()> {
    sync_folder(folder)?;
    match folder.canonicalize()?.parent() {
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}

/// Reading a table that nobody has made is an error.
fn make_table(db: &Database) -> Result<(), EngineError> {
    let transaction = db.begin_write()?;
    transaction.open_table(ROWS)?;
    Ok(transaction.commit()?)
}

/// Opens, telling damage from what the machine does not give.
fn database(
    open: impl FnOnce() -> Result<Database, DatabaseError>,
    folder: &Path,
) -> Result<Database, StoreError> {
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => Err(StoreError::Locked {
            path: folder.to_owned(),
        }),
        // What is no database, too short or no longer in its form is told as invalid data.
        Ok(Err(DatabaseError::Storage(StorageError::Io(source)))) if !is_mangled(&source) => {
            Err(io_error("open store", folder, source))
        }
        Ok(Err(error)) => Err(damaged(folder, error.to_string())),
        Err(panic) => Err(damaged(folder, panic_text(&*panic))),
    }
}

/// Whether the file is to blame, not the machine.
pub(super) fn is_damage(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    match error.downcast_ref::<StorageError>() {
        Some(StorageError::Io(source)) => is_mangled(source),
        Some(error) => matches!(error, StorageError::Corrupted(_)),
        None => error.is::<Panicked>(),
    }
}

fn damaged(folder: &Path, detail: String) -> StoreError {
    StoreError::Damaged {
        path: folder.to_owned(),
        detail,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::store::space::FLOOR_BYTES;
    use crate::store::{Commit, Store, journal};

    /// Storage in memory, of which the writes and syncs fail from a certain one on.
    #[derive(Clone, Debug, Default)]
    struct Storage(Arc<Mutex<Disk>>);

    #[derive(Debug, Default)]
    struct Disk {
        bytes: Vec<u8>,
        /// Writes and syncs left before all of them fail.
        left: Option<u32>,
        failed: bool,
        /// Bytes written, ever.
        written: u64,
    }

    impl Storage {
        fn fail_after(&self, calls: u32) {
            self.0.lock().unwrap().left = Some(calls);
        }

        /// What a machine would find that lost nothing but the calls that failed.
        fn copy(&self) -> Self {
            let bytes = self.0.lock().unwrap().bytes.clone();
            let disk = Disk {
                bytes,
                ..Disk::default()
            };
            Self(Arc::new(Mutex::new(disk)))
        }

        fn has_failed(&self) -> bool {
            self.0.lock().unwrap().failed
        }
    }

    impl Disk {
        fn spend(&mut self) -> io::Result<()> {
            match &mut self.left {
                None => Ok(()),
                Some(0) => {
                    self.failed = true;
                    Err(io::Error::other("input/output error"))
                }
                Some(left) => {
                    *left -= 1;
                    Ok(())
                }
            }
        }
    }

    impl StorageBackend for Storage {
        fn len(&self) -> io::Result<u64> {
            Ok(self.0.lock().unwrap().bytes.len() as u64)
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            let disk = self.0.lock().unwrap();
            let from = usize::try_from(offset).unwrap();
            out.copy_from_slice(&disk.bytes[from..from + out.len()]);
            Ok(())
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            let mut disk = self.0.lock().unwrap();
            disk.spend()?;
            disk.bytes.resize(usize::try_from(len).unwrap(), 0);
            Ok(())
        }

        fn sync_data(&self) -> io::Result<()> {
            self.0.lock().unwrap().spend()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            let mut disk = self.0.lock().unwrap();
            disk.spend()?;
            let from = usize::try_from(offset).unwrap();
            disk.bytes[from..from + data.len()].copy_from_slice(data);
            disk.written += data.len() as u64;
            Ok(())
        }
    }

    fn open(storage: &Storage) -> Store {
        let folder = Path::new("storage");
        let engine = Redb::on(storage.clone(), folder).unwrap();
        Store::with_engine(Box::new(engine), folder).unwrap()
    }

    fn commit(store: &Store, number: u64) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for part in 0..3_u8 {
            let value = number.to_be_bytes().to_vec();
            batch.writes.insert(vec![b'a', b'|', part], Some(value));
        }
        journal::append(&mut batch, Commit(number), &[])?;
        store.apply(batch)?;
        store.barrier().map(drop)
    }

    #[test]
    fn whichever_write_or_sync_fails_the_commit_is_not_promised_and_is_whole_or_absent() {
        let storage = Storage::default();
        commit(&open(&storage), 1).unwrap();
        let mut failed_at = 0;
        for calls in 0.. {
            let storage = storage.copy();
            let store = open(&storage);
            storage.fail_after(calls);
            let promised = commit(&store, 2);
            if !storage.has_failed() {
                promised.unwrap();
                break;
            }
            failed_at += 1;
            let first = promised.unwrap_err();
            assert!(matches!(first, StoreError::Failed { .. }), "{first}");
            let again = store.barrier().unwrap_err();
            assert_eq!(again.to_string(), first.to_string());
            let reopened = open(&storage.copy());
            let newest = reopened.newest_commit();
            assert!([Commit(1), Commit(2)].contains(&newest), "call {calls}");
            for part in 0..3_u8 {
                let value = reopened.0.engine.value(&[b'a', b'|', part]).unwrap();
                assert_eq!(value, Some(newest.0.to_be_bytes().to_vec()), "call {calls}");
            }
        }
        assert!(failed_at >= 3, "pages, header and sync: {failed_at}");
    }

    #[test]
    fn what_takes_space_only_at_the_next_sync_is_bounded_however_much_was_applied() {
        let storage = Storage::default();
        let engine = Redb::on(storage.clone(), Path::new("storage")).unwrap();
        let written = || storage.0.lock().unwrap().written;
        let mut keys = (0_u32..).map(|number| number.wrapping_mul(0x9e37_79b1).to_be_bytes());
        for _ in 0..160 {
            let rows = keys.by_ref().take(64);
            let writes = rows
                .map(|key| (key.to_vec(), Some(vec![7; 1_024])))
                .collect();
            let batch = Batch {
                writes,
                ..Batch::default()
            };
            engine.apply(&batch).unwrap();
        }
        let before = written();
        assert!(before > 160 * 64 * 1_024 / 2, "{before} bytes before it");
        engine.sync().unwrap();
        let late = written() - before;
        assert!(late <= FLOOR_BYTES / 2, "{late} bytes at the sync");
    }

    #[test]
    fn a_store_whose_making_was_cut_short_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(UNFINISHED), vec![0; 8_192]).unwrap();
        let store = Store::open_on(StoreEngine::Redb, folder.path()).unwrap();
        assert!(!folder.path().join(UNFINISHED).exists());
        commit(&store, 1).unwrap();
        drop(store);
        let store = Store::open_on(StoreEngine::Redb, folder.path()).unwrap();
        assert_eq!(store.newest_commit(), Commit(1));
    }

    #[test]
    fn a_file_that_is_no_database_is_damage_and_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(StoreEngine::Redb.file());
        for content in [vec![7; 4_096], Vec::from(*b"short")] {
            std::fs::write(&path, &content).unwrap();
            let refused = Store::open_on(StoreEngine::Redb, folder.path()).unwrap_err();
            assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
            assert!(refused.to_string().contains("restore a backup"));
            assert_eq!(std::fs::read(&path).unwrap(), content);
        }
    }
}
