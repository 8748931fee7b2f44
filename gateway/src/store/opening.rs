//! How a store is opened: by its engine, with what was promised compared and the format checked.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::watch;

use super::journal::urgent;
use super::table::{self, Table};
use super::witness::{self, Witness};
use super::{
    Batch, Commit, Engine, FORMAT_VERSION, Patience, Shared, Store, StoreError, damage, folder,
    journal, wreck,
};
use crate::clock::monotonic;
use crate::config::StoreEngine;

impl Store {
    /// Opens or creates the store in `folder` on the default engine.
    ///
    /// # Errors
    /// As [`Store::open_on`].
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_on(StoreEngine::Sled, folder)
    }

    /// Opens or creates the store in `folder` on an engine that nobody watches: for tests and benches.
    ///
    /// # Errors
    /// When it is locked, damaged, of another engine or of a newer version, or the folder cannot be made.
    pub fn open_on(kind: StoreEngine, folder: &Path) -> Result<Self, StoreError> {
        Self::open_through(kind, folder, &Patience::endless(), |engine| engine)
    }

    /// Opens or creates the store in `folder` on an engine whose calls `patience` watches.
    ///
    /// # Errors
    /// As [`Store::open_on`].
    pub fn open_watched(
        kind: StoreEngine,
        folder: &Path,
        patience: &Patience,
    ) -> Result<Self, StoreError> {
        Self::open_through(kind, folder, patience, |engine| engine)
    }

    /// The same, with `wrap` between store and engine: how fault campaigns make an operation fail, or
    /// the process end, at a place of their choice. The shipped binary has nothing in between.
    ///
    /// # Errors
    /// As [`Store::open_on`].
    pub fn open_through(
        kind: StoreEngine,
        folder: &Path,
        patience: &Patience,
        wrap: impl FnOnce(Box<dyn Engine>) -> Box<dyn Engine>,
    ) -> Result<Self, StoreError> {
        let (engine, witness) = patience.opening(folder, || {
            let engine = witness::sound(folder).and_then(|()| folder::open(kind, folder))?;
            Ok::<_, StoreError>((wrap(engine), Witness::open(folder)?))
        })?;
        let store = Self::assemble(engine, kind, folder, patience, Some(witness))?;
        wreck::after_opening(folder);
        Ok(store)
    }

    /// The store on an engine of the caller's own; `folder` names it in errors. Its backups are made by
    /// the default engine, and nobody watches its calls.
    ///
    /// # Errors
    /// When the store is of a newer version or cannot be read or written.
    pub fn with_engine(engine: Box<dyn Engine>, folder: &Path) -> Result<Self, StoreError> {
        Self::with_patience(engine, folder, &Patience::endless())
    }

    /// The same, with the calls watched by `patience`.
    ///
    /// # Errors
    /// As [`Store::with_engine`].
    pub fn with_patience(
        engine: Box<dyn Engine>,
        folder: &Path,
        patience: &Patience,
    ) -> Result<Self, StoreError> {
        Self::assemble(engine, StoreEngine::Sled, folder, patience, None)
    }

    fn assemble(
        engine: Box<dyn Engine>,
        kind: StoreEngine,
        folder: &Path,
        patience: &Patience,
        witness: Option<Witness>,
    ) -> Result<Self, StoreError> {
        let store = Self(Arc::new(Shared {
            engine: patience.over(engine),
            patience: patience.clone(),
            folder: folder.to_owned(),
            kind,
            witness,
            applied: AtomicU64::new(0),
            folded: watch::Sender::new(Commit(0)),
            space: OnceLock::new(),
            set_aside: AtomicU64::new(0),
            failure: OnceLock::new(),
            writer: Mutex::default(),
            behind: Mutex::default(),
            urgent_behind: Mutex::default(),
        }));
        let newest = journal::newest_commit(&store)?;
        if let Some(witness) = &store.0.witness {
            witness.check(folder, newest)?;
        }
        store.check_format(folder)?;
        let set_aside = damage::counts(&store)?.values().sum();
        store.0.set_aside.store(set_aside, Ordering::SeqCst);
        store.0.applied.store(newest.0, Ordering::SeqCst);
        let folded = journal::newest_folded(&store)?;
        store.0.folded.send_replace(folded);
        if folded < newest {
            store.behind().applied(newest, monotonic());
            if let Some(urgent) = urgent::newest(&store)? {
                store.urgent_behind().applied(urgent, monotonic());
            }
        }
        Ok(store)
    }

    fn check_format(&self, folder: &Path) -> Result<(), StoreError> {
        let found: Option<u32> = table::value(self, Table::Meta, "format")?;
        match found {
            Some(found) if found > FORMAT_VERSION => Err(StoreError::Newer {
                path: folder.to_owned(),
                found,
                known: FORMAT_VERSION,
            }),
            Some(_) => Ok(()),
            None => {
                let mut batch = Batch::default();
                table::put(&mut batch, Table::Meta, "format", &FORMAT_VERSION)?;
                self.apply(batch)?;
                self.barrier().map(drop)
            }
        }
    }
}
