//! What a store that cannot be opened still holds goes into a new one.
//!
//! ```text
//! store  --every row that checks-->  store.salvaging  --complete-->  store.salvaged
//! store  --renamed-->  store.damaged-20260301T120000Z
//! store.salvaged  --renamed-->  store
//! ```
//! Nothing is deleted: the damaged folder stays under its dated name. A crash on the way is harmless: an
//! incomplete copy is begun anew, a complete one is put in place at the next start. Cursors are derived
//! anew from the rows, never below what was promised; seen runs are counted anew. The last batch may come
//! back in part; the fold does again what it needs.
//!
//! What each engine's files still hold is read without the engine: by `wreck.rs` for sled, by
//! `pages.rs` for redb. Both give rows sealed as they were found, and only what passes the checksum
//! of key and value is believed.

mod copy;
mod cursors;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::copy::{Copy, Hold, Listing};
use super::folder::{self, io_error, sync_folder};
use super::key::Key;
use super::table::{self, Table};
use super::wreck::{Change, Wreck};
use super::{Batch, Patience, Store, StoreError, pages, quarantine, seen, witness};
use crate::clock::wall_utc;
use crate::config::StoreEngine;

/// What the names of the rows that hold reports begin with.
const REPORTS: &str = "salvage/";

/// What can be told of a store's files without its engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Rows that check, by the letter of their kind.
    pub rows: BTreeMap<String, u64>,
    /// Versions of rows that do not, older ones included.
    pub damaged: u64,
    /// Newest commit of which something was found.
    pub newest_commit: u64,
    /// Newest commit that was acknowledged.
    pub promised_commit: u64,
}

/// What became of a damaged store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// What was wrong.
    pub fault: String,
    /// Where the damaged folder is now.
    pub set_aside_as: String,
    /// Rows that check, by the letter of their kind.
    pub rows: BTreeMap<String, u64>,
    /// Versions of rows that do not, older ones included.
    pub damaged: u64,
    /// Newest commit of which something was found.
    pub newest_commit: u64,
    /// Newest commit that was acknowledged.
    pub promised_commit: u64,
}

impl Store {
    /// Opens or creates the store in `folder`, its calls watched by `patience`; a damaged one is salvaged
    /// first.
    ///
    /// # Errors
    /// As [`Store::open_on`], and when the damaged store cannot be read or the new one not written.
    pub fn open_or_salvage(
        kind: StoreEngine,
        folder: &Path,
        patience: &Patience,
    ) -> Result<(Self, Option<Report>), StoreError> {
        put_in_place(folder)?;
        let fault = match Self::open_watched(kind, folder, patience) {
            Ok(store) => return Ok((store, None)),
            Err(StoreError::Damaged { detail, .. } | StoreError::Read { cause: detail }) => detail,
            Err(error) => return Err(error),
        };
        tracing::error!(store = %folder.display(), "store is damaged ({fault}): salvage begins");
        let report = patience.opening(folder, || salvage(kind, folder, fault))?;
        tracing::error!(
            rows = report.rows.values().sum::<u64>(),
            damaged = report.damaged,
            newest_commit = report.newest_commit,
            promised_commit = report.promised_commit,
            set_aside_as = report.set_aside_as,
            "store is salvaged: what checked is in a new one, the damaged folder is kept"
        );
        let store = Self::open_watched(kind, folder, patience)?;
        Ok((store, Some(report)))
    }
}

/// The reports of all salvages, oldest first.
///
/// # Errors
/// When they cannot be read.
pub fn reports(store: &Store) -> Result<Vec<Report>, StoreError> {
    let mut reports = Vec::new();
    table::each(store, Table::Audit, REPORTS, |_, report| {
        reports.push(report);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(reports)
}

/// What a salvage of the store in `folder` would bring back. Nothing is changed.
///
/// # Errors
/// When the files cannot be read.
pub fn survey(kind: StoreEngine, folder: &Path) -> Result<Survey, StoreError> {
    let mut copy = Copy::new(Listing::default());
    replay(kind, folder, &mut copy)?;
    let finished = copy.finish();
    let (listing, damaged) = finished.map_err(|source| io_error("survey", folder, source))?;
    Ok(Survey {
        rows: listing.rows_by_kind(),
        damaged,
        newest_commit: listing.newest_commit().0,
        promised_commit: witness::promised_in(folder).0,
    })
}

/// Copies what checks, and puts the copy in the place of the damaged store.
fn salvage(kind: StoreEngine, folder: &Path, fault: String) -> Result<Report, StoreError> {
    let salvaging = beside(folder, "salvaging");
    if salvaging.exists() {
        let removed = fs::remove_dir_all(&salvaging);
        removed.map_err(|source| io_error("remove an unfinished copy", &salvaging, source))?;
    }
    let promised = witness::promised_in(folder);
    let mut copy = Copy::new(folder::open(kind, &salvaging)?);
    replay(kind, folder, &mut copy)?;
    let finished = copy.finish();
    let (engine, damaged) = finished.map_err(|source| io_error("salvage", folder, source))?;
    let now = wall_utc().get();
    let dated = dated(folder, now);
    let mut report = Report {
        at_ms: now,
        fault,
        set_aside_as: dated.display().to_string(),
        damaged,
        promised_commit: promised.0,
        ..Report::default()
    };
    let store = Store::with_engine(engine, folder)?;
    report.newest_commit = cursors::derive(&store, promised)?.0;
    seen::recount(&store)?;
    quarantine::recount(&store)?;
    report.rows = rows_by_kind(&store)?;
    let mut batch = Batch::default();
    table::put(
        &mut batch,
        Table::Audit,
        &format!("{REPORTS}{now:016}"),
        &report,
    )?;
    store.apply(batch)?;
    store.barrier()?;
    drop(store);
    rename(&salvaging, &beside(folder, "salvaged"))?;
    put_in_place(folder)?;
    Ok(report)
}

fn replay<H: Hold>(kind: StoreEngine, folder: &Path, copy: &mut Copy<H>) -> Result<(), StoreError> {
    let mut take = |change: Change| copy.take(change);
    let replayed = match kind {
        StoreEngine::Sled => Wreck::open(folder).and_then(|wreck| wreck.replay(&mut take)),
        StoreEngine::Redb => pages::replay(folder, &mut take),
    };
    replayed.map_err(|source| io_error("read damaged store", folder, source))
}

/// Finishes what a salvage began when it was complete.
fn put_in_place(folder: &Path) -> Result<(), StoreError> {
    let salvaged = beside(folder, "salvaged");
    if !salvaged.exists() {
        return Ok(());
    }
    if folder.exists() {
        rename(folder, &dated(folder, wall_utc().get()))?;
    }
    rename(&salvaged, folder)
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    let parent = from
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let renamed = fs::rename(from, to).and_then(|()| sync_folder(parent.unwrap_or(Path::new("."))));
    renamed.map_err(|source| io_error("rename store folder", from, source))
}

/// The folder's name with something behind it.
fn beside(folder: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    folder.with_file_name(name)
}

/// A name with a date that is not taken.
fn dated(folder: &Path, now_ms: i64) -> PathBuf {
    let at = chrono::DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
    let name = at.format("damaged-%Y%m%dT%H%M%SZ").to_string();
    let names = std::iter::once(name.clone()).chain((2_u32..).map(|turn| format!("{name}-{turn}")));
    let mut free = names
        .map(|name| beside(folder, &name))
        .filter(|path| !path.exists());
    free.next().unwrap_or_else(|| beside(folder, &name))
}

fn rows_by_kind(store: &Store) -> Result<BTreeMap<String, u64>, StoreError> {
    let mut rows = BTreeMap::new();
    store.walk(&Key::all(), None, |key, _| {
        let letter = key.first().copied().map(char::from).unwrap_or_default();
        *rows.entry(letter.to_string()).or_default() += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(rows)
}

#[cfg(test)]
mod tests;
