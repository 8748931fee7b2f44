//! A copy of the store while it is in use.
//!
//! Not every engine has snapshots, so the copy is made as a running machine is moved: rows are copied in key
//! order while writers go on, and the keys they touch are noted; those are copied again, and again,
//! and when few are left the writers wait for the last of them. The copy is then the store at that
//! moment: every batch is in it whole or not at all.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::folder::{self, sync_folder};
use super::{Batch, Engine, Order, PAGE_MAX_ROWS, Span, Store, StoreError, Writer, successor};

/// Most keys that writers may touch while one pass copies, in keys: about 100 MB of memory. A busier
/// store is backed up at a quieter time.
const TOUCHED_MAX_KEYS: usize = 1_000_000;

/// Keys left that writers wait for, in keys: about 20 ms at 200,000 writes/s.
const LAST_PASS_MAX_KEYS: usize = 4_096;

/// Passes before writers must wait, however many keys are left. Each pass is shorter than the one
/// before unless the copy is slower than the writers.
const PASSES_MAX: u32 = 8;

pub(super) fn run(store: &Store, to: &Path) -> Result<(), StoreError> {
    if to.exists() {
        return Err(fault(to, "exists already; name a folder that does not"));
    }
    let partial = partial_name(to);
    if partial.exists() {
        let removed = std::fs::remove_dir_all(&partial);
        removed.map_err(|error| fault(&partial, format!("remove an unfinished copy: {error}")))?;
    }
    let copied = folder::open(store.0.kind, &partial).and_then(|copy| {
        let copied = copy_all(store, &*copy, to);
        store.writer().touched = None;
        // Behind the last pass, so that nobody waits for the disk it is on.
        copied.and_then(|()| copy.sync().map_err(|error| fault(to, error)))
    });
    if let Err(error) = copied {
        // The unfinished copy is removed now or by the next attempt; the first error tells more.
        let _ = std::fs::remove_dir_all(&partial);
        return Err(error);
    }
    let renamed = std::fs::rename(&partial, to).and_then(|()| match absolute_parent(to)? {
        Some(parent) => sync_folder(&parent),
        None => Ok(()),
    });
    renamed.map_err(|error| fault(to, format!("rename the finished copy: {error}")))
}

fn copy_all(store: &Store, copy: &dyn Engine, to: &Path) -> Result<(), StoreError> {
    store.writer().touched = Some(BTreeSet::new());
    copy_rows(store, copy, to)?;
    for _ in 0..PASSES_MAX {
        let touched = {
            let mut writer = store.writer();
            if noted(&writer, to)? <= LAST_PASS_MAX_KEYS {
                return finish(store, copy, &mut writer, to);
            }
            writer.touched.replace(BTreeSet::new()).unwrap_or_default()
        };
        copy_keys(store, copy, touched, to)?;
    }
    finish(store, copy, &mut store.writer(), to)
}

/// The last pass, with the writers waiting.
fn finish(
    store: &Store,
    copy: &dyn Engine,
    writer: &mut Writer,
    to: &Path,
) -> Result<(), StoreError> {
    noted(writer, to)?;
    let touched = writer.touched.take().unwrap_or_default();
    copy_keys(store, copy, touched, to)
}

fn copy_rows(store: &Store, copy: &dyn Engine, to: &Path) -> Result<(), StoreError> {
    let mut span = Span {
        from: Vec::new(),
        until: None,
        order: Order::Ascending,
        limit_rows: PAGE_MAX_ROWS,
    };
    loop {
        let rows = store.raw_scan(&span)?;
        let Some((last, _)) = rows.last() else {
            return Ok(());
        };
        span.from = successor(last);
        let mut batch = Batch::default();
        for (key, value) in rows {
            batch.writes.insert(key, Some(value));
        }
        copy.apply(&batch).map_err(|error| fault(to, error))?;
        noted(&store.writer(), to)?;
    }
}

fn copy_keys(
    store: &Store,
    copy: &dyn Engine,
    keys: BTreeSet<Vec<u8>>,
    to: &Path,
) -> Result<(), StoreError> {
    let mut keys = keys.into_iter().peekable();
    while keys.peek().is_some() {
        let mut batch = Batch::default();
        for key in keys.by_ref().take(PAGE_MAX_ROWS) {
            let value = store.raw_value(&key)?;
            batch.writes.insert(key, value);
        }
        // The writers wait for the last pass.
        let _call = store.0.patience.begin("write to the backup");
        copy.apply(&batch).map_err(|error| fault(to, error))?;
    }
    Ok(())
}

/// How many keys writers have touched since the pass began, if that is still bounded.
fn noted(writer: &Writer, to: &Path) -> Result<usize, StoreError> {
    match writer.touched.as_ref().map_or(0, BTreeSet::len) {
        keys if keys > TOUCHED_MAX_KEYS => Err(fault(
            to,
            format!(
                "more than {TOUCHED_MAX_KEYS} keys changed during one pass; try at a quieter time"
            ),
        )),
        keys => Ok(keys),
    }
}

fn partial_name(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    to.with_file_name(name)
}

fn absolute_parent(path: &Path) -> std::io::Result<Option<PathBuf>> {
    Ok(std::path::absolute(path)?.parent().map(Path::to_owned))
}

fn fault(path: &Path, fault: impl ToString) -> StoreError {
    StoreError::Backup {
        path: path.to_owned(),
        fault: fault.to_string(),
    }
}
