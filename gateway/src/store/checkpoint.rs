//! What the fold keeps of its trackers so as not to start over: a cache, rebuilt from the history.
//!
//! ```text
//! s|device|slot u32 part u16:  a part of what is kept in a slot; the parts joined are
//!   version u8  parts u16 LE  CBOR
//! ```
//! What a slot means is the fold's business. A slot that is missing, damaged, of another version or too
//! large to be kept is no error: whoever reads it does without.

use std::ops::ControlFlow;

use protocol::key::DeviceId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::key::{Key, Kind};
use super::{Batch, Store, StoreError, VALUE_MAX_BYTES, row_error};

/// Version of what is kept. Another one is not read.
const VERSION: u8 = 1;
/// Version and number of parts.
const HEAD_BYTES: usize = 3;
/// Largest part, in bytes: what a row may hold.
const PART_BYTES: usize = VALUE_MAX_BYTES;
/// Most parts of one slot: 1 MiB, thirty times what a tracker needs after a month. More is not kept.
const PARTS_MAX: usize = 16;

/// Where something is kept of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// Keeps `value` in a slot. Returns in how many parts; 0 when it is too large and was not kept.
///
/// # Errors
/// When it cannot be written as CBOR.
pub fn put<T: Serialize>(
    batch: &mut Batch,
    device: &DeviceId,
    slot: Slot,
    value: &T,
) -> Result<u16, StoreError> {
    let mut bytes = vec![0; HEAD_BYTES];
    ciborium::into_writer(value, &mut bytes)
        .map_err(|error| row_error("fold state", device, error))?;
    let parts = bytes.len().div_ceil(PART_BYTES);
    let parts = u16::try_from(parts).unwrap_or(u16::MAX);
    if usize::from(parts) > PARTS_MAX {
        return Ok(0);
    }
    let [low, high] = parts.to_le_bytes();
    if let Some(head) = bytes.first_chunk_mut() {
        *head = [VERSION, low, high];
    }
    for (number, part) in (0..parts).zip(bytes.chunks(PART_BYTES)) {
        batch.put(key(device, slot, number), part.to_vec());
    }
    Ok(parts)
}

/// What is kept in a slot; `None` when that is nothing, or nothing that can be used.
///
/// # Errors
/// When it cannot be read.
pub fn value<T: DeserializeOwned>(
    store: &Store,
    device: &DeviceId,
    slot: Slot,
) -> Result<Option<T>, StoreError> {
    let Some(mut bytes) = store.value(&key(device, slot, 0))? else {
        return Ok(None);
    };
    let Some([version, low, high]) = bytes.first_chunk::<HEAD_BYTES>().copied() else {
        return Ok(None);
    };
    if version != VERSION {
        return Ok(None);
    }
    for number in 1..u16::from_le_bytes([low, high]) {
        match store.value(&key(device, slot, number))? {
            Some(part) => bytes.extend_from_slice(&part),
            None => return Ok(None),
        }
    }
    let body = bytes.get(HEAD_BYTES..).unwrap_or_default();
    Ok(ciborium::from_reader(body).ok())
}

/// Removes what is kept in `parts` parts of a slot, from part `first` on.
pub fn remove(batch: &mut Batch, device: &DeviceId, slot: Slot, first: u16, parts: u16) {
    for number in first..parts {
        batch.remove(key(device, slot, number));
    }
}

/// Removes everything that is kept of a device.
///
/// # Errors
/// When its rows cannot be read.
pub fn clear(store: &Store, batch: &mut Batch, device: &DeviceId) -> Result<(), StoreError> {
    let prefix = Key::device(Kind::Fold, device);
    store.walk(&prefix, None, |rest, _| {
        batch.remove(Key::device(Kind::Fold, device).raw(rest));
        Ok(ControlFlow::Continue(()))
    })
}

fn key(device: &DeviceId, slot: Slot, part: u16) -> Key {
    Key::device(Kind::Fold, device).u32(slot.0).u16(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory;

    const SLOT: Slot = Slot(7);

    fn device(name: &str) -> DeviceId {
        name.parse().unwrap()
    }

    fn kept(store: &Store) -> Option<String> {
        value(store, &device("t"), SLOT).unwrap()
    }

    fn keep(store: &Store, text: &str) -> u16 {
        let mut batch = Batch::default();
        let parts = put(&mut batch, &device("t"), SLOT, &text).unwrap();
        store.apply(batch).unwrap();
        parts
    }

    #[test]
    fn what_is_larger_than_a_row_comes_back_whole_and_a_shorter_one_hides_its_rest() {
        let store = memory::store();
        assert_eq!(kept(&store), None);
        let long = "x".repeat(3 * PART_BYTES);
        assert_eq!(keep(&store, &long), 4);
        assert_eq!(kept(&store), Some(long));
        assert_eq!(keep(&store, "short"), 1);
        assert_eq!(kept(&store).as_deref(), Some("short"));
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let store = memory::store();
        assert_eq!(keep(&store, &"x".repeat(PARTS_MAX * PART_BYTES)), 0);
        assert_eq!(kept(&store), None);
    }

    #[test]
    fn a_damaged_part_a_missing_one_and_another_version_make_it_nothing() {
        let disk = memory::Memory::default();
        let store = disk.open();
        for number in 0..2 {
            keep(&store, &"x".repeat(PART_BYTES));
            assert!(kept(&store).is_some());
            disk.damage(key(&device("t"), SLOT, number).bytes());
            assert_eq!(kept(&store), None, "part {number} is damaged");
            assert_eq!(kept(&store), None, "part {number} is missing");
        }
        for whole in [&b""[..], &[VERSION], &[VERSION + 1, 1, 0, 0x61, b'x']] {
            let mut batch = Batch::default();
            batch.put(key(&device("t"), SLOT, 0), whole.to_vec());
            store.apply(batch).unwrap();
            assert_eq!(kept(&store), None, "{whole:?}");
        }
    }

    #[test]
    fn clearing_a_device_leaves_the_others() {
        let store = memory::store();
        for name in ["t", "t-1"] {
            for slot in 0..3 {
                let mut batch = Batch::default();
                put(&mut batch, &device(name), Slot(slot), &slot).unwrap();
                store.apply(batch).unwrap();
            }
        }
        let mut batch = Batch::default();
        clear(&store, &mut batch, &device("t")).unwrap();
        assert_eq!(batch.len(), 3);
        store.apply(batch).unwrap();
        assert_eq!(value::<u32>(&store, &device("t"), Slot(1)).unwrap(), None);
        assert_eq!(value(&store, &device("t-1"), Slot(1)).unwrap(), Some(1));
    }
}
