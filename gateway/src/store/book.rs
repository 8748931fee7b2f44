//! What came of each device and what became of it. Written by the committer.
//!
//! ```text
//! i| device 0 0 k   received, stored, duplicate, contested, refused by reason
//! ```
//! The sum over all devices is the book of records in the counters: both change in the same batch.

use std::collections::BTreeMap;

use protocol::key::DeviceId;

use super::key::{Key, Kind};
use super::table::{decode, encode};
use super::{Batch, Store, StoreError};
use crate::account::{Book, Reason};

const KIND: &str = "book";

/// A book as it is kept.
type Kept = (u64, u64, u64, u64, BTreeMap<String, u64>);

/// Writes the book of a device.
///
/// # Errors
/// Never in practice: reasons are few.
pub fn put(batch: &mut Batch, device: &DeviceId, book: &Book) -> Result<(), StoreError> {
    let refused = book.refused.iter();
    let refused: BTreeMap<String, u64> = refused
        .map(|(reason, count)| (reason.as_str().to_owned(), *count))
        .collect();
    let kept: Kept = (
        book.received,
        book.stored,
        book.duplicate,
        book.contested,
        refused,
    );
    batch.put(key(device), encode(KIND, device, &kept)?);
    Ok(())
}

/// The book of a device; empty when nothing came of it.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn of(store: &Store, device: &DeviceId) -> Result<Book, StoreError> {
    let Some(bytes) = store.value(&key(device))? else {
        return Ok(Book::default());
    };
    let (received, stored, duplicate, contested, refused): Kept = decode(KIND, device, &bytes)?;
    let known = |reason: &Reason| Some((*reason, *refused.get(reason.as_str())?));
    Ok(Book {
        received,
        stored,
        duplicate,
        contested,
        refused: Reason::ALL.iter().filter_map(known).collect(),
    })
}

fn key(device: &DeviceId) -> Key {
    Key::device(Kind::Device, device).tail("k")
}
