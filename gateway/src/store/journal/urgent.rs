//! Copies of what the fold takes before its turn while many commits wait: alarms, and the word that a key
//! is contested, which may be that of an alarm.
//!
//! ```text
//! value of u|commit|part: as that of j|commit|part, with the urgent entries alone
//! ```
//! A copy is written in the batch of its commit, whose chunk in the journal stays whole, and goes when the fold
//! took it, ahead of the commit or with it. So it can be lost without harm: the alarm is then taken in its
//! turn.

use std::ops::ControlFlow;

use super::{Chunk, each_by, oldest_of, put, remove_of, split};
use crate::store::entry::{Entry, Records};
use crate::store::key::{Key, Kind};
use crate::store::{Batch, Commit, Order, PAGE_MAX_ROWS, Row, Span, Store, StoreError};

/// Adds the copy of a commit, if anything of it is urgent.
pub(super) fn append(batch: &mut Batch, commit: Commit, entries: &[Entry]) {
    let urgent: Vec<Entry> = entries.iter().filter_map(urgent).collect();
    if !urgent.is_empty() {
        put(batch, Kind::Urgent, commit, &urgent);
        batch.urgent = Some(commit);
    }
}

/// The oldest copies, until they have `records_max` records; one at least, if there is any.
///
/// # Errors
/// When they cannot be read or are damaged.
pub fn oldest(store: &Store, records_max: usize) -> Result<Vec<Chunk>, StoreError> {
    oldest_of(store, Kind::Urgent, records_max)
}

/// The newest commit of which there is a copy.
pub(in crate::store) fn newest(store: &Store) -> Result<Option<Commit>, StoreError> {
    let prefix = Key::of(Kind::Urgent);
    let rows = store.scan(&Span {
        from: prefix.bytes().to_vec(),
        until: prefix.after_all(),
        order: Order::Descending,
        limit_rows: 1,
    })?;
    let commit = |(key, _): &Row| {
        let rest = key.strip_prefix(prefix.bytes()).unwrap_or_default();
        split(rest).map(|(commit, _)| commit)
    };
    rows.first().map(commit).transpose()
}

/// Removes copies that the fold has taken, in its own batch. They must be the oldest there are.
pub fn taken(batch: &mut Batch, copies: &[Chunk]) {
    for copy in copies {
        remove_of(batch, Kind::Urgent, copy);
        batch.urgent_taken = batch.urgent_taken.max(Some(copy.commit));
    }
}

/// Removes the copies of all commits up to `folded`, which the fold takes in this batch.
///
/// # Errors
/// When they cannot be read or are damaged.
pub fn passed(store: &Store, batch: &mut Batch, folded: Commit) -> Result<(), StoreError> {
    each_by(store, Kind::Urgent, (Commit(0), PAGE_MAX_ROWS), |copy| {
        if copy.commit > folded {
            return Ok(ControlFlow::Break(()));
        }
        taken(batch, &[copy]);
        Ok(ControlFlow::Continue(()))
    })
}

/// What of an entry is urgent.
fn urgent(entry: &Entry) -> Option<Entry> {
    let records = match entry {
        Entry::Contested { .. } => return Some(entry.clone()),
        Entry::Records(records) => records,
    };
    let alarms = records.records.iter();
    let alarms: Vec<_> = alarms.filter(|stored| stored.content.is_alarm()).collect();
    if alarms.is_empty() {
        return None;
    }
    Some(Entry::Records(Records {
        device: records.device.clone(),
        records: alarms.into_iter().cloned().collect(),
        ..*records
    }))
}

#[cfg(test)]
mod tests;
