//! Every record of every device, in key order. Written by the fold.
//!
//! ```text
//! value:  0                              the key is contested: the record is unknown
//!         1  received_at i64 BE  qos u8  content
//!         2  several records: see `run`; the row's key is that of the first
//! ```
//! Rows may overlap: what comes late stands in a row of its own between the numbers of another. Readers
//! merge them, and give each key once, in order; a key that one row calls contested is contested. A row
//! changes only in its place and never loses a key, so that a reader beside the fold misses nothing.

use std::ops::ControlFlow;

use protocol::key::{Boot, DeviceId, Epoch, RecordKey, Seq};
use protocol::units::UtcMs;

use super::content::Content;
use super::key::{Key, Kind, split_in_epoch, split_part, split_record};
use super::run::{self, Entries, RUN, WINDOW_NUMBERS, merge, window};
use super::{Batch, Order, Span, Store, StoreError, row_error, successor};

const CONTESTED: u8 = 0;
const KNOWN: u8 = 1;

/// A row is written again with what comes next as long as it has at most so many records then: a tracker
/// that sends one at a time has few rows, and each record is written some four times.
const GROWN_RECORDS: usize = 8;

/// What is kept under a record's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The record.
    Known(Known),
    /// Two different contents arrived under the key.
    Contested,
}

/// A record and how it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Gateway's time at admission.
    pub received_at: UtcMs,
    /// How it came, as a byte of `receipt::Reception`: 0 and 1 are the endpoint's quality of service.
    pub qos: u8,
    /// What it says.
    pub content: Content,
}

/// Writes a record in a row of its own. For keys under which no row stands; [`keep`] is for any.
pub fn put(batch: &mut Batch, device: &DeviceId, key: RecordKey, known: &Known) {
    let content = known.content.bytes();
    let mut value = Vec::with_capacity(10 + content.len());
    value.push(KNOWN);
    value.extend_from_slice(&known.received_at.get().to_be_bytes());
    value.push(known.qos);
    value.extend_from_slice(content);
    batch.put(Key::record(device, key), value);
}

/// Puts the tombstone of a contested key in a row of its own. For keys under which no run stands; [`keep`] is
/// for any.
pub fn contest(batch: &mut Batch, device: &DeviceId, key: RecordKey) {
    batch.put(Key::record(device, key), vec![CONTESTED]);
}

/// Cuts what was taken of a device, in key order, into what may share a row.
pub fn runs(taken: &[(RecordKey, Kept)]) -> impl Iterator<Item = &[(RecordKey, Kept)]> {
    taken.chunk_by(|(one, _), (other, _)| window(*one) == window(*other))
}

/// Writes one of the [`runs`] of a device, beside what is there already. Doing so twice changes nothing.
/// `batch` must hold no other row of its window.
///
/// # Errors
/// When what is there cannot be read.
pub fn keep(
    store: &Store,
    batch: &mut Batch,
    device: &DeviceId,
    run: &[(RecordKey, Kept)],
) -> Result<(), StoreError> {
    let (Some((first, _)), Some((last, _))) = (run.first(), run.last()) else {
        return Ok(());
    };
    if run.iter().any(|(_, kept)| *kept == Kept::Contested) {
        return keep_contested(store, batch, device, (*last, run));
    }
    let before = rows_to(store, device, *first, (Order::Descending, 1))?.pop();
    let grown =
        |at: RecordKey, row: &Entries| at == *first || row.len() + run.len() <= GROWN_RECORDS;
    match before {
        Some((at, mut row)) if grown(at, &row) => {
            for (key, kept) in run {
                merge(&mut row, *key, kept.clone());
            }
            write(batch, device, at, row.iter());
        }
        _ => write(
            batch,
            device,
            *first,
            run.iter().map(|(key, kept)| (key, kept)),
        ),
    }
    Ok(())
}

/// The same for a run with contested keys, which must be so in every row that holds them.
fn keep_contested(
    store: &Store,
    batch: &mut Batch,
    device: &DeviceId,
    (last, run): (RecordKey, &[(RecordKey, Kept)]),
) -> Result<(), StoreError> {
    let mut rows = rows_to(store, device, last, (Order::Ascending, WINDOW_ROWS))?;
    let mut new = Entries::new();
    for (key, kept) in run {
        let mut held = false;
        for (_, row) in rows.iter_mut().filter(|(_, row)| row.contains_key(key)) {
            held = true;
            merge(row, *key, kept.clone());
        }
        if !held {
            new.insert(*key, kept.clone());
        }
    }
    let first = new.keys().next().copied();
    rows.extend(first.map(|first| (first, new)));
    for (at, row) in &rows {
        write(batch, device, *at, row.iter());
    }
    Ok(())
}

/// Writes a row of entries in key order.
fn write<'k>(
    batch: &mut Batch,
    device: &DeviceId,
    at: RecordKey,
    entries: impl ExactSizeIterator<Item = (&'k RecordKey, &'k Kept)>,
) {
    let mut entries = entries.map(|(key, kept)| (*key, kept)).peekable();
    match (entries.len(), entries.peek()) {
        (1, Some((_, Kept::Known(known)))) => put(batch, device, at, known),
        (1, Some((_, Kept::Contested))) => contest(batch, device, at),
        _ => batch.put(Key::record(device, at), run::encode(entries)),
    }
}

/// Most rows of a window: one for each number.
const WINDOW_ROWS: usize = WINDOW_NUMBERS as usize;

/// The rows of the window of `last` that begin no later than there, with their keys.
fn rows_to(
    store: &Store,
    device: &DeviceId,
    last: RecordKey,
    (order, limit_rows): (Order, usize),
) -> Result<Vec<(RecordKey, Entries)>, StoreError> {
    let span = Span {
        from: Key::record(device, window(last)).into_bytes(),
        until: Some(successor(Key::record(device, last).bytes())),
        order,
        limit_rows,
    };
    let prefix = Key::device(Kind::History, device);
    let row = |(key, value): (Vec<u8>, Vec<u8>)| {
        let at = key.strip_prefix(prefix.bytes()).and_then(split_record);
        let at = at.ok_or_else(|| misnamed(device))?;
        let entries = decode(device, at, &value)?;
        Ok((at, entries.into_iter().collect()))
    };
    store.scan(&span)?.into_iter().map(row).collect()
}

/// What is kept under a key; `None` when nothing was folded under it.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn value(store: &Store, device: &DeviceId, key: RecordKey) -> Result<Option<Kept>, StoreError> {
    let mut found = None;
    for (_, mut row) in rows_to(store, device, key, (Order::Ascending, WINDOW_ROWS))? {
        match row.remove(&key) {
            Some(Kept::Contested) => return Ok(Some(Kept::Contested)),
            Some(known) => found = Some(known),
            None => {}
        }
    }
    Ok(found)
}

/// Visits what is kept of a device in key order, from `from` on, until `visit` breaks.
///
/// # Errors
/// When a row cannot be read or is damaged, or `visit` fails.
pub fn each(
    store: &Store,
    device: &DeviceId,
    from: Option<RecordKey>,
    mut visit: impl FnMut(RecordKey, Kept) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let prefix = Key::device(Kind::History, device);
    let first = from.map(|key| Key::record(device, window(key)).into_bytes());
    let named = |rest: &[u8]| split_record(rest);
    sweep(store, device, (&prefix, first), named, |key, kept| {
        if from.is_some_and(|from| key < from) {
            return Ok(ControlFlow::Continue(()));
        }
        visit(key, kept)
    })
}

/// Visits what is kept of one epoch of a device in key order, from behind the key `behind` on, until
/// `visit` breaks.
///
/// # Errors
/// When a row cannot be read or is damaged, or `visit` fails.
pub fn each_of_epoch(
    store: &Store,
    device: &DeviceId,
    epoch: Epoch,
    behind: Option<RecordKey>,
    mut visit: impl FnMut(RecordKey, Kept) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let prefix = Key::device(Kind::History, device).u64(epoch.0);
    let first = behind.map(|key| Key::record(device, window(key)).into_bytes());
    let named = |rest: &[u8]| split_in_epoch(epoch, rest);
    sweep(store, device, (&prefix, first), named, |key, kept| {
        if behind.is_some_and(|behind| key <= behind) {
            return Ok(ControlFlow::Continue(()));
        }
        visit(key, kept)
    })
}

/// Visits what the rows under `prefix` hold, from `first` on, each key once and in order. `named` reads the
/// end of a row's key.
fn sweep(
    store: &Store,
    device: &DeviceId,
    (prefix, first): (&Key, Option<Vec<u8>>),
    named: impl Fn(&[u8]) -> Option<RecordKey>,
    mut visit: impl FnMut(RecordKey, Kept) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let mut held = Entries::new();
    let mut told = |entries: Entries| -> Result<ControlFlow<()>, StoreError> {
        for (key, kept) in entries {
            if visit(key, kept)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    };
    let mut stopped = false;
    store.walk(prefix, first, |rest, value| {
        let at = named(rest).ok_or_else(|| misnamed(device))?;
        // No later row has anything before this one's key.
        let open = held.split_off(&at);
        if told(std::mem::replace(&mut held, open))?.is_break() {
            stopped = true;
            return Ok(ControlFlow::Break(()));
        }
        for (key, kept) in decode(device, at, &value)? {
            merge(&mut held, key, kept);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if stopped {
        return Ok(());
    }
    told(held).map(drop)
}

fn misnamed(device: &DeviceId) -> StoreError {
    row_error("record", device, "key is not 16 bytes long")
}

/// The epochs of which something is kept of a device, in order of their numbers: one read each.
///
/// # Errors
/// When a row cannot be read or is damaged.
pub fn epochs(store: &Store, device: &DeviceId) -> Result<Vec<Epoch>, StoreError> {
    let prefix = Key::device(Kind::History, device);
    let mut span = Span {
        from: prefix.bytes().to_vec(),
        until: prefix.after_all(),
        order: Order::Ascending,
        limit_rows: 1,
    };
    let mut epochs = Vec::new();
    while let Some((row, _)) = store.scan(&span)?.first() {
        let key = row.strip_prefix(prefix.bytes()).and_then(split_record);
        let key = key.ok_or_else(|| misnamed(device))?;
        epochs.push(key.epoch);
        let last = RecordKey {
            epoch: key.epoch,
            boot: Boot(u32::MAX),
            seq: Seq(u32::MAX),
        };
        span.from = successor(Key::record(device, last).bytes());
    }
    Ok(epochs)
}

/// Visits the devices of which records are kept, in order of their names, until `visit` breaks.
///
/// # Errors
/// When a row cannot be read.
pub fn each_device(
    store: &Store,
    mut visit: impl FnMut(DeviceId) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    super::device::each_device(store, Kind::History, &mut visit)
}

/// The row that holds what two versions of it hold; `rest` is its key behind the letter of its kind.
///
/// # Errors
/// When one of them is damaged.
pub(super) fn merge_versions(rest: &[u8], one: &[u8], other: &[u8]) -> Result<Batch, StoreError> {
    let named = split_part(rest).and_then(|(device, at)| {
        let device: DeviceId = device.parse().ok()?;
        Some((device, split_record(at)?))
    });
    let (device, at) =
        named.ok_or_else(|| row_error("record", rest.escape_ascii(), "key names no record"))?;
    let mut entries: Entries = decode(&device, at, one)?.into_iter().collect();
    for (key, kept) in decode(&device, at, other)? {
        merge(&mut entries, key, kept);
    }
    let mut batch = Batch::default();
    write(&mut batch, &device, at, entries.iter());
    Ok(batch)
}

/// What a row under the key `at` holds.
fn decode(
    device: &DeviceId,
    at: RecordKey,
    value: &[u8],
) -> Result<Vec<(RecordKey, Kept)>, StoreError> {
    let known = |rest: &[u8]| {
        let (received_at, rest) = rest.split_first_chunk::<8>()?;
        let (qos, content) = rest.split_first()?;
        Some(Kept::Known(Known {
            received_at: UtcMs::saturating(i64::from_be_bytes(*received_at)),
            qos: *qos,
            content: Content::from_stored(content.to_vec()),
        }))
    };
    let entries = match value {
        [CONTESTED] => Some(vec![(at, Kept::Contested)]),
        [KNOWN, rest @ ..] => known(rest).map(|kept| vec![(at, kept)]),
        [RUN, rest @ ..] => run::decode(at, rest),
        _ => None,
    };
    entries.ok_or_else(|| {
        let name = format!("{device} {at}");
        row_error("record", name, "neither records nor a tombstone")
    })
}

#[cfg(test)]
mod tests;
