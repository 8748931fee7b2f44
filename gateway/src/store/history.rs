//! Every record of every device, in key order. Written by the fold.
//!
//! ```text
//! value:  0                              the key is contested: the record is unknown
//!         1  received_at i64 BE  qos u8  content
//! ```

use std::ops::ControlFlow;

use protocol::key::{Boot, DeviceId, Epoch, RecordKey, Seq};
use protocol::units::UtcMs;

use super::content::Content;
use super::key::{Key, Kind, split_in_epoch, split_record};
use super::{Batch, Order, Span, Store, StoreError, row_error, successor};

const CONTESTED: u8 = 0;
const KNOWN: u8 = 1;

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

/// Writes a record.
pub fn put(batch: &mut Batch, device: &DeviceId, key: RecordKey, known: &Known) {
    let content = known.content.bytes();
    let mut value = Vec::with_capacity(10 + content.len());
    value.push(KNOWN);
    value.extend_from_slice(&known.received_at.get().to_be_bytes());
    value.push(known.qos);
    value.extend_from_slice(content);
    batch.put(Key::record(device, key), value);
}

/// Puts the tombstone of a contested key in the record's place.
pub fn contest(batch: &mut Batch, device: &DeviceId, key: RecordKey) {
    batch.put(Key::record(device, key), vec![CONTESTED]);
}

/// What is kept under a key; `None` when nothing was folded under it.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn value(store: &Store, device: &DeviceId, key: RecordKey) -> Result<Option<Kept>, StoreError> {
    let value = store.value(&Key::record(device, key))?;
    value.map(|value| decode(device, key, &value)).transpose()
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
    let first = from.map(|key| Key::record(device, key).into_bytes());
    store.walk(&prefix, first, |rest, value| {
        let key = split_record(rest)
            .ok_or_else(|| row_error("record", device, "key is not 16 bytes long"))?;
        visit(key, decode(device, key, &value)?)
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
    let first = behind.map(|key| successor(Key::record(device, key).bytes()));
    store.walk(&prefix, first, |rest, value| {
        let key = split_in_epoch(epoch, rest)
            .ok_or_else(|| row_error("record", device, "key is not 16 bytes long"))?;
        visit(key, decode(device, key, &value)?)
    })
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
        let key = key.ok_or_else(|| row_error("record", device, "key is not 16 bytes long"))?;
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

fn decode(device: &DeviceId, key: RecordKey, value: &[u8]) -> Result<Kept, StoreError> {
    let known = |rest: &[u8]| {
        let (received_at, rest) = rest.split_first_chunk::<8>()?;
        let (qos, content) = rest.split_first()?;
        Some(Kept::Known(Known {
            received_at: UtcMs::saturating(i64::from_be_bytes(*received_at)),
            qos: *qos,
            content: Content::from_stored(content.to_vec()),
        }))
    };
    let kept = match value {
        [CONTESTED] => Some(Kept::Contested),
        [KNOWN, rest @ ..] => known(rest),
        _ => None,
    };
    kept.ok_or_else(|| {
        let name = format!("{device} {key}");
        row_error("record", name, "neither a record nor a tombstone")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory;

    fn device(name: &str) -> DeviceId {
        name.parse().unwrap()
    }

    fn known(byte: u8) -> Known {
        Known {
            received_at: UtcMs::saturating(-5),
            qos: 1,
            content: Content::from_stored(vec![byte; 3]),
        }
    }

    #[test]
    fn records_of_a_device_come_back_in_key_order_across_pages_and_from_a_key_on() {
        let store = memory::store();
        for seq in (0..1_000_u32).rev() {
            let mut batch = Batch::default();
            put(
                &mut batch,
                &device("t"),
                RecordKey::new(1, 0, seq),
                &known(1),
            );
            put(
                &mut batch,
                &device("t-2"),
                RecordKey::new(1, 0, seq),
                &known(2),
            );
            store.apply(batch).unwrap();
        }
        let mut keys = Vec::new();
        each(
            &store,
            &device("t"),
            Some(RecordKey::new(1, 0, 10)),
            |key, kept| {
                assert_eq!(kept, Kept::Known(known(1)));
                keys.push(key.seq.0);
                Ok(ControlFlow::Continue(()))
            },
        )
        .unwrap();
        assert_eq!(keys, (10..1_000).collect::<Vec<u32>>());
    }

    #[test]
    fn a_contested_key_is_a_tombstone_in_its_place() {
        let store = memory::store();
        let key = RecordKey::new(u64::MAX, 1, 2);
        let mut batch = Batch::default();
        put(&mut batch, &device("t"), key, &known(1));
        store.apply(batch).unwrap();
        let mut batch = Batch::default();
        contest(&mut batch, &device("t"), key);
        store.apply(batch).unwrap();
        assert_eq!(
            value(&store, &device("t"), key).unwrap(),
            Some(Kept::Contested)
        );
    }

    #[test]
    fn epochs_are_named_once_and_each_is_visited_alone_from_behind_a_key() {
        let store = memory::store();
        let mut batch = Batch::default();
        for epoch in [0, 7, u64::MAX] {
            for (boot, seq) in [(0, 0), (3, 1), (3, 2), (u32::MAX, u32::MAX)] {
                let key = RecordKey::new(epoch, boot, seq);
                put(&mut batch, &device("t"), key, &known(1));
            }
        }
        put(
            &mut batch,
            &device("t-"),
            RecordKey::new(8, 0, 0),
            &known(1),
        );
        store.apply(batch).unwrap();
        let all = [Epoch(0), Epoch(7), Epoch(u64::MAX)];
        assert_eq!(epochs(&store, &device("t")).unwrap(), all);
        assert_eq!(epochs(&store, &device("u")).unwrap(), []);
        for epoch in all {
            let mut keys = Vec::new();
            let behind = Some(RecordKey::new(epoch.0, 3, 1));
            each_of_epoch(&store, &device("t"), epoch, behind, |key, _| {
                keys.push((key.epoch, key.boot.0, key.seq.0));
                Ok(ControlFlow::Continue(()))
            })
            .unwrap();
            assert_eq!(keys, [(epoch, 3, 2), (epoch, u32::MAX, u32::MAX)]);
        }
    }

    #[test]
    fn every_device_is_named_once() {
        let store = memory::store();
        let mut batch = Batch::default();
        for name in ["b", "a", "a-1", "ab"] {
            for seq in 0..3 {
                put(
                    &mut batch,
                    &device(name),
                    RecordKey::new(9, 9, seq),
                    &known(0),
                );
            }
        }
        store.apply(batch).unwrap();
        let mut names = Vec::new();
        each_device(&store, |device| {
            names.push(device.to_string());
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        assert_eq!(names, ["a", "a-1", "ab", "b"]);
    }
}
