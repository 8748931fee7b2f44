//! Rows that check and say nothing to this version: counted, each once, and left where they are.
//!
//! ```text
//! q| 03 key        the key of such a row
//! m| unreadable    how many, by the letter of their kind
//! ```
//! Another version may read them, so nothing is set aside. Written by the fold, which meets them.

use std::ops::ControlFlow;

use protocol::key::{DeviceId, RecordKey};

use super::Counts;
use crate::store::key::{Key, Kind};
use crate::store::table::{self, Table};
use crate::store::{Batch, Store, StoreError};

/// Most rows named, about 6 MB; further ones are in the log only.
const NAMED_MAX_ROWS: u64 = 100_000;

/// Name of the row that counts them.
const COUNTS: &str = "unreadable";

/// Letter of records in the history, where all records come to lie.
const RECORDS: &str = "h";

/// Notes that a stored record cannot be read; once, however often it is met.
///
/// # Errors
/// When the store fails.
pub fn note(store: &Store, device: &DeviceId, key: RecordKey) -> Result<(), StoreError> {
    let name = prefix().raw(Key::record(device, key).bytes());
    let mut counts = counts(store)?;
    let count = counts.entry(RECORDS.to_owned()).or_default();
    if *count >= NAMED_MAX_ROWS || store.value(&name)?.is_some() {
        return Ok(());
    }
    *count += 1;
    let mut batch = Batch::default();
    batch.put(name, Vec::new());
    table::put(&mut batch, Table::Meta, COUNTS, &counts)?;
    store.apply(batch)
}

/// How many rows, by the letter of their kind.
///
/// # Errors
/// When they cannot be read.
pub fn counts(store: &Store) -> Result<Counts, StoreError> {
    Ok(table::value(store, Table::Meta, COUNTS)?.unwrap_or_default())
}

/// How many records of a device.
///
/// # Errors
/// When they cannot be read.
pub fn of(store: &Store, device: &DeviceId) -> Result<u64, StoreError> {
    let mut records = 0;
    let all = prefix().raw(Key::device(Kind::History, device).bytes());
    store.walk(&all, None, |_, _| {
        records += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(records)
}

fn prefix() -> Key {
    Key::of(Kind::Quarantine).u8(3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory;

    #[test]
    fn a_record_that_cannot_be_read_is_counted_once_under_its_device() {
        let store = memory::store();
        let [one, other]: [DeviceId; 2] = ["t-1", "t-10"].map(|name| name.parse().unwrap());
        for seq in [1, 2, 1] {
            note(&store, &one, RecordKey::new(7, 0, seq)).unwrap();
        }
        note(&store, &other, RecordKey::new(7, 0, 1)).unwrap();
        assert_eq!(
            [&one, &other].map(|of_it| of(&store, of_it).unwrap()),
            [2, 1]
        );
        assert_eq!(counts(&store).unwrap()[RECORDS], 3);
    }
}
