//! What people did: one row an act, written in the batch of the change it tells of.
//!
//! ```text
//! a| act/number     who, when, what, to which device, what came of it; number of 20 digits, from 0
//! a| salvage/...    what a salvage did; see [`super::salvage`]
//! m| audit          numbers of the oldest act that is kept and of the next one
//! ```
//! Whoever writes an act holds the right to change things (`Desk::turn`), so numbers are given once.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::table::{self, Table};
use super::{Batch, Store, StoreError, row_error};

/// Most acts kept, about 3 MB; the oldest goes in the batch of the newest, and is counted. Ten a day are
/// kept for 27 years.
pub const ACTS_MAX: u64 = 100_000;

/// Longest detail or result kept, in bytes: a request may have 32 KiB; settings all named at once have 600.
pub const DETAIL_MAX_BYTES: usize = 1_024;

/// What the names of acts begin with.
const ACTS: &str = "act/";

/// Name of the row that holds the numbers.
const NUMBERS_ROW: &str = "audit";

/// Who did something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// User id: of the process at the other end of the socket, or of the one that opened the store.
    pub uid: Option<u32>,
    /// Its name, where the machine knows one.
    pub user: Option<String>,
    /// `socket`: through a running gateway; `store`: without one; `gateway`: nobody, it did so itself.
    pub by: String,
}

/// One thing that was done, or was not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// By whom.
    pub who: Who,
    /// As the command is called: `settings set`.
    pub what: String,
    /// To which device, if to one.
    pub device: Option<String>,
    /// What was asked for.
    pub detail: String,
    /// `done`, or what else became of it.
    pub result: String,
}

/// Numbers of acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    /// Of the oldest that is kept; so many were dropped.
    pub oldest: u64,
    /// Of the next one.
    pub next: u64,
}

impl Numbers {
    /// How many are kept.
    #[must_use]
    pub const fn kept(self) -> u64 {
        self.next.saturating_sub(self.oldest)
    }
}

/// Writes an act into the batch of what it tells of; its number. Beyond [`ACTS_MAX`] the oldest goes.
///
/// # Errors
/// When the store fails.
pub fn note(store: &Store, batch: &mut Batch, act: &Act) -> Result<u64, StoreError> {
    let mut numbers = numbers(store)?;
    let number = numbers.next;
    numbers.next += 1;
    amend(batch, number, act)?;
    while numbers.kept() > ACTS_MAX {
        table::remove(batch, Table::Audit, &name(numbers.oldest));
        numbers.oldest += 1;
    }
    table::put(batch, Table::Meta, NUMBERS_ROW, &numbers)?;
    Ok(number)
}

/// Writes an act anew under its number: what was done in several batches.
///
/// # Errors
/// Never in practice: an act is bounded.
pub fn amend(batch: &mut Batch, number: u64, act: &Act) -> Result<(), StoreError> {
    let mut act = act.clone();
    for text in [&mut act.detail, &mut act.result] {
        text.truncate(text.floor_char_boundary(DETAIL_MAX_BYTES));
    }
    table::put(batch, Table::Audit, &name(number), &act)
}

/// The numbers of acts; by the rows when a salvage lost them.
///
/// # Errors
/// When they cannot be read.
pub fn numbers(store: &Store) -> Result<Numbers, StoreError> {
    if let Some(numbers) = table::value(store, Table::Meta, NUMBERS_ROW)? {
        return Ok(numbers);
    }
    let mut found: Option<Numbers> = None;
    each(store, |number, _| {
        let oldest = found.map_or(number, |before| before.oldest);
        let next = number + 1;
        found = Some(Numbers { oldest, next });
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found.unwrap_or_default())
}

/// Visits the acts in the order in which they were done, until `visit` breaks.
///
/// # Errors
/// When they cannot be read, or `visit` fails.
pub fn each(
    store: &Store,
    mut visit: impl FnMut(u64, Act) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    table::each(store, Table::Audit, ACTS, |name, act| {
        let number = name.strip_prefix(ACTS).and_then(|text| text.parse().ok());
        let number = number.ok_or_else(|| row_error("audit", &name, "name has no number"))?;
        visit(number, act)
    })
}

fn name(number: u64) -> String {
    format!("{ACTS}{number:020}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::Memory;

    fn act(at_ms: i64, detail: &str) -> Act {
        Act {
            at_ms,
            detail: detail.to_owned(),
            ..Act::default()
        }
    }

    fn kept(store: &Store) -> Vec<(u64, i64)> {
        let mut kept = Vec::new();
        each(store, |number, act| {
            kept.push((number, act.at_ms));
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        kept
    }

    #[test]
    fn acts_come_back_in_order_and_the_oldest_go_at_the_bound_and_are_counted() {
        let disk = Memory::default();
        let store = disk.open();
        let mut batch = Batch::default();
        // As if so many had been written and dropped before.
        let before = Numbers {
            oldest: 5,
            next: 5 + ACTS_MAX - 1,
        };
        table::put(&mut batch, Table::Meta, NUMBERS_ROW, &before).unwrap();
        for number in [5, 6, 7] {
            amend(&mut batch, number, &act(1, "")).unwrap();
        }
        store.apply(batch).unwrap();
        for at in [2, 3] {
            let mut batch = Batch::default();
            note(&store, &mut batch, &act(at, "")).unwrap();
            store.apply(batch).unwrap();
        }
        let last = 5 + ACTS_MAX;
        assert_eq!(kept(&store), [(6, 1), (7, 1), (last - 1, 2), (last, 3)]);
        let numbers = numbers(&store).unwrap();
        assert_eq!((numbers.oldest, numbers.kept()), (6, ACTS_MAX));
    }

    #[test]
    fn a_long_detail_is_cut_between_characters_and_lost_numbers_are_found_by_the_rows() {
        let disk = Memory::default();
        let store = disk.open();
        let mut batch = Batch::default();
        amend(&mut batch, 41, &act(1, &"é".repeat(DETAIL_MAX_BYTES))).unwrap();
        amend(&mut batch, 42, &act(2, "")).unwrap();
        store.apply(batch).unwrap();
        let mut details = Vec::new();
        each(&store, |_, act| {
            details.push(act.detail.len());
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        assert_eq!(details, [DETAIL_MAX_BYTES, 0]);
        let mut batch = Batch::default();
        assert_eq!(note(&store, &mut batch, &act(3, "")).unwrap(), 43);
        store.apply(batch).unwrap();
        let numbers = numbers(&store).unwrap();
        assert_eq!((numbers.oldest, numbers.next), (41, 44));
        // A damaged act is gone and counted; the others are told.
        disk.damage(format!("a|{}", name(42)).as_bytes());
        assert_eq!(kept(&store), [(41, 1), (43, 3)]);
        assert_eq!(store.rows_set_aside(), 1);
    }
}
