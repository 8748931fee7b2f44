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

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::folder::{io_error, sync_folder};
use super::key::{Key, Kind, split_part};
use super::sled::Sled;
use super::table::{self, Table};
use super::witness::Witness;
use super::wreck::{Change, Wreck};
use super::{
    Batch, Commit, Engine, Order, PAGE_MAX_ROWS, Patience, Row, Span, Store, StoreError, damage,
    journal, quarantine, seen, successor, view,
};
use crate::clock::wall_utc;
use crate::config::StoreEngine;

/// What the names of the rows that hold reports begin with.
const REPORTS: &str = "salvage/";

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
    /// As [`Store::open_on`], and when the damaged store cannot be read or the new one not written. A
    /// damaged store of another engine than sled is refused.
    pub fn open_or_salvage(
        kind: StoreEngine,
        folder: &Path,
        patience: &Patience,
    ) -> Result<(Self, Option<Report>), StoreError> {
        put_in_place(folder)?;
        let fault = match Self::open_watched(kind, folder, patience) {
            Ok(store) => return Ok((store, None)),
            Err(StoreError::Damaged { detail, .. } | StoreError::Read { cause: detail })
                if kind == StoreEngine::Sled =>
            {
                detail
            }
            Err(error) => return Err(error),
        };
        tracing::error!(store = %folder.display(), "store is damaged ({fault}): salvage begins");
        let report = patience.opening(folder, || salvage(folder, fault))?;
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

/// Copies what checks, and puts the copy in the place of the damaged store.
fn salvage(folder: &Path, fault: String) -> Result<Report, StoreError> {
    let salvaging = beside(folder, "salvaging");
    if salvaging.exists() {
        let removed = fs::remove_dir_all(&salvaging);
        removed.map_err(|source| io_error("remove an unfinished copy", &salvaging, source))?;
    }
    let promised = Witness::open(folder)?.promised();
    let mut copy = Copy::new(Sled::open(&salvaging)?);
    replay(folder, &mut copy)?;
    let now = wall_utc().get();
    let dated = dated(folder, now);
    let mut report = Report {
        at_ms: now,
        fault,
        set_aside_as: dated.display().to_string(),
        damaged: copy.damaged,
        promised_commit: promised.0,
        ..Report::default()
    };
    let store = Store::with_engine(Box::new(copy.engine), folder)?;
    report.newest_commit = derive_cursors(&store, promised)?.0;
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

fn replay(folder: &Path, copy: &mut Copy) -> Result<(), StoreError> {
    let read = |source| io_error("read damaged store", folder, source);
    let wreck = Wreck::open(folder).map_err(read)?;
    let replayed = wreck.replay(|change| copy.take(change));
    replayed.map_err(|source| io_error("salvage store", folder, source))
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

/// The store that is filled.
struct Copy {
    engine: Sled,
    damaged: u64,
}

impl Copy {
    const fn new(engine: Sled) -> Self {
        Self { engine, damaged: 0 }
    }

    fn take(&mut self, change: Change) -> io::Result<()> {
        let mut batch = Batch::default();
        match change {
            Change::Page { lo, hi, rows } => {
                self.clear(&mut batch, lo, hi)?;
                rows.into_iter().for_each(|row| self.keep(&mut batch, row));
            }
            Change::Set(row) => self.keep(&mut batch, row),
            Change::Remove(key) => drop(batch.writes.insert(key, None)),
            Change::Unplaced(_) => self.damaged += 1,
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.engine.apply(&batch).map_err(io::Error::other)
    }

    fn keep(&mut self, batch: &mut Batch, (key, sealed): Row) {
        match damage::unseal(&key, sealed.clone()) {
            Ok(_) => drop(batch.writes.insert(key, Some(sealed))),
            Err(_) => self.damaged += 1,
        }
    }

    /// Removes what a page held before.
    fn clear(&self, batch: &mut Batch, lo: Vec<u8>, hi: Vec<u8>) -> io::Result<()> {
        let mut span = Span {
            from: lo,
            until: (!hi.is_empty()).then_some(hi),
            order: Order::Ascending,
            limit_rows: PAGE_MAX_ROWS,
        };
        loop {
            let rows = self.engine.scan(&span).map_err(io::Error::other)?;
            let Some((last, _)) = rows.last() else {
                return Ok(());
            };
            span.from = successor(last);
            batch
                .writes
                .extend(rows.into_iter().map(|(key, _)| (key, None)));
        }
    }
}

/// Writes the cursors as the rows have them. Returns the newest commit of which something was found.
fn derive_cursors(store: &Store, promised: Commit) -> Result<Commit, StoreError> {
    let number = |name: &str| {
        Ok::<u64, StoreError>(table::value(store, Table::Meta, name)?.unwrap_or_default())
    };
    let mut batch = Batch::default();
    let (oldest, newest) = journal::ends(store)?;
    let found = newest.0.max(number("commit")?).max(number("folded")?);
    let newest = found.max(promised.0);
    table::put(&mut batch, Table::Meta, "commit", &newest)?;
    let folded = oldest.map_or(newest, |oldest| {
        number("folded")
            .unwrap_or_default()
            .min(oldest.0.saturating_sub(1))
    });
    table::put(&mut batch, Table::Meta, "folded", &folded)?;
    let mut sequence = number("sequence")?;
    view::each_of_all(store, |_, _, numbered: Numbered| {
        sequence = sequence.max(numbered.sequence);
        Ok(ControlFlow::Continue(()))
    })?;
    table::put(&mut batch, Table::Meta, "sequence", &sequence)?;
    for (sink, place) in outbox_tails(store)? {
        let name = format!("outbox/{sink}");
        let reached = place.max(number(&name)?);
        table::put(&mut batch, Table::Meta, &name, &reached)?;
    }
    store.apply(batch)?;
    Ok(Commit(found))
}

/// What a salvage needs to know of a row of the view.
#[derive(Deserialize)]
struct Numbered {
    sequence: u64,
}

/// The last place in the queue of each sink.
fn outbox_tails(store: &Store) -> Result<BTreeMap<String, u64>, StoreError> {
    let mut tails = BTreeMap::new();
    store.walk(&Key::of(Kind::Outbox), None, |rest, _| {
        let named = split_part(rest).and_then(|(sink, place)| Some((sink, place.try_into().ok()?)));
        if let Some((sink, place)) = named {
            tails.insert(sink, u64::from_be_bytes(place));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(tails)
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
