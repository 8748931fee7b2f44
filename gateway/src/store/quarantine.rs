//! What was refused, kept for people to look at. Written by the committer; payloads are dropped by people.
//!
//! ```text
//! q| 00 number u64        one refused payload, or both contents of a contested key
//! q| 01 device            what came when the quarantine was full: digest of the last, bytes, count
//! m| quarantine           what was ever kept: written by the committer alone
//! m| quarantine_dropped   what was ever dropped of it: written by whoever drops, alone
//! ```
//! Both are bounded: rows and bytes of the first by the constants below, the second by one row per
//! device. Nothing that was refused is ever forgotten, only its bytes may be: a payload that is dropped
//! stays in the counters and in an audit row.

use std::ops::ControlFlow;

use protocol::key::DeviceId;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::key::{Key, Kind, tail_text};
use super::table::{self, Table, decode, encode};
use super::{Batch, Store, StoreError, row_error};

/// Most payloads kept whole, in rows: a person looks at tens, a tool at thousands.
pub const KEPT_MAX_ROWS: u64 = 10_000;

/// Most bytes of payloads kept whole.
pub const KEPT_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Longest payload kept whole, in bytes: longer than the longest batch, shorter than a row.
pub const PAYLOAD_MAX_BYTES: usize = 16 * 1024;

const KIND: &str = "quarantine";

/// Name of the row that says what was dropped.
const DROPPED: &str = "quarantine_dropped";

const WHOLE: u8 = 0;
const OVERFLOW: u8 = 1;

/// Something refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Whose, as text.
    pub device: String,
    /// Last level of its topic.
    pub channel: String,
    /// Gateway's time at admission, milliseconds since 1970.
    pub received_at_ms: i64,
    /// Label of the reason; `contested` for a key with two contents.
    pub reason: String,
    /// What exactly was wrong, or the contested key.
    pub detail: String,
    /// The payload, or the two contents.
    pub payloads: Vec<Octets>,
}

/// What came from a device while the quarantine was full.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overflow {
    /// How many payloads.
    pub count: u64,
    /// Their bytes in all.
    pub bytes: u64,
    /// SHA-256 of the last.
    pub last_sha256: Octets,
    /// Length of the last.
    pub last_bytes: u64,
    /// Reason of the last.
    pub last_reason: String,
    /// Gateway's time of the last, milliseconds since 1970.
    pub last_received_at_ms: i64,
}

/// Bytes, written as a CBOR byte string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Octets(pub Vec<u8>);

impl Serialize for Octets {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ciborium::value::Value::deserialize(deserializer)?
            .into_bytes()
            .map(Self)
            .map_err(|_| serde::de::Error::custom("expected a byte string"))
    }
}

/// What was ever kept. The committer owns the only one; what it holds now is that less [`Dropped`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    next: u64,
    rows: u64,
    bytes: u64,
    /// Payloads of which only digest, length and count are kept.
    #[serde(default)]
    overflow: u64,
    #[serde(skip)]
    dropped: Dropped,
}

/// What people dropped of the payloads kept whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Payloads.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What became of something refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It is kept whole.
    Kept,
    /// Only digest, length and count are.
    Full,
}

impl Fill {
    /// As left by the last commit.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn load(store: &Store) -> Result<Self, StoreError> {
        let mut fill: Self = table::value(store, Table::Meta, KIND)?.unwrap_or_default();
        fill.refresh(store)?;
        Ok(fill)
    }

    /// Takes note of what was dropped meanwhile.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn refresh(&mut self, store: &Store) -> Result<(), StoreError> {
        self.dropped = dropped(store)?;
        Ok(())
    }

    /// The number that the next payload gets; numbers are never used again.
    #[must_use]
    pub const fn next_number(&self) -> u64 {
        self.next
    }

    /// Payloads kept whole.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows.saturating_sub(self.dropped.rows)
    }

    /// Bytes of the payloads kept whole.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.dropped.bytes)
    }

    /// Payloads of which only digest, length and count are kept.
    #[must_use]
    pub const fn overflow(&self) -> u64 {
        self.overflow
    }

    /// Keeps something refused, whole if there is room. `overflow` is the device's row so far.
    ///
    /// # Errors
    /// Never in practice: what is written is bounded below a row's size.
    pub fn keep(
        &mut self,
        batch: &mut Batch,
        device: &DeviceId,
        refused: &Refused,
        overflow: &mut Overflow,
    ) -> Result<Room, StoreError> {
        let bytes = refused.payload_bytes();
        let room = self.rows() < KEPT_MAX_ROWS && self.bytes() + bytes as u64 <= KEPT_MAX_BYTES;
        if room && bytes <= PAYLOAD_MAX_BYTES {
            let value = encode(KIND, self.next, refused)?;
            batch.put(whole(self.next), value);
            self.next += 1;
            self.rows += 1;
            self.bytes += bytes as u64;
            table::put(batch, Table::Meta, KIND, self)?;
            return Ok(Room::Kept);
        }
        *overflow = Overflow {
            count: overflow.count + 1,
            bytes: overflow.bytes + bytes as u64,
            last_sha256: refused.sha256(),
            last_bytes: bytes as u64,
            last_reason: refused.reason.clone(),
            last_received_at_ms: refused.received_at_ms,
        };
        batch.put(overflow_key(device), encode(KIND, device, overflow)?);
        self.overflow += 1;
        table::put(batch, Table::Meta, KIND, self)?;
        Ok(Room::Full)
    }
}

impl Refused {
    /// Bytes of its payloads.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payloads.iter().map(|payload| payload.0.len()).sum()
    }

    /// SHA-256 of its payloads, one behind the other.
    #[must_use]
    pub fn sha256(&self) -> Octets {
        let mut digest = Sha256::new();
        let mut payloads = self.payloads.iter();
        payloads
            .by_ref()
            .for_each(|payload| digest.update(&payload.0));
        Octets(digest.finalize().to_vec())
    }
}

/// What was ever dropped.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn dropped(store: &Store) -> Result<Dropped, StoreError> {
    Ok(table::value(store, Table::Meta, DROPPED)?.unwrap_or_default())
}

/// Removes payloads kept whole. `dropped` is what was ever dropped, these included.
///
/// # Errors
/// Never in practice: the row is small.
pub fn remove(
    batch: &mut Batch,
    numbers: impl IntoIterator<Item = u64>,
    dropped: Dropped,
) -> Result<(), StoreError> {
    for number in numbers {
        batch.remove(whole(number));
    }
    table::put(batch, Table::Meta, DROPPED, &dropped)
}

/// What came from a device while the quarantine was full.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn overflow(store: &Store, device: &DeviceId) -> Result<Option<Overflow>, StoreError> {
    let value = store.value(&overflow_key(device))?;
    value.map(|value| decode(KIND, device, &value)).transpose()
}

/// Visits what is kept whole, oldest first, until `visit` breaks.
///
/// # Errors
/// When a row cannot be read or is damaged, or `visit` fails.
pub fn each(
    store: &Store,
    mut visit: impl FnMut(Refused) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    each_numbered(store, 0, |_, refused| visit(refused))
}

/// Visits what is kept whole from a number on, with its number, oldest first, until `visit` breaks.
///
/// # Errors
/// When a row cannot be read or is damaged, or `visit` fails.
pub fn each_numbered(
    store: &Store,
    from: u64,
    mut visit: impl FnMut(u64, Refused) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    store.walk(
        &prefix(WHOLE),
        Some(whole(from).into_bytes()),
        |rest, value| {
            let number = rest.try_into().map(u64::from_be_bytes);
            let number = number.map_err(|_| row_error(KIND, rest.escape_ascii(), "no number"))?;
            visit(number, decode(KIND, number, &value)?)
        },
    )
}

/// Visits what came while the quarantine was full, by device, until `visit` breaks.
///
/// # Errors
/// When a row cannot be read or is damaged, or `visit` fails.
pub fn each_overflow(
    store: &Store,
    mut visit: impl FnMut(DeviceId, Overflow) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    store.walk(&prefix(OVERFLOW), None, |rest, value| {
        let device = tail_text(rest).and_then(|name| name.parse().ok());
        let device: DeviceId =
            device.ok_or_else(|| row_error(KIND, rest.escape_ascii(), "no device in its key"))?;
        let overflow = decode(KIND, &device, &value)?;
        visit(device, overflow)
    })
}

/// Counts anew how full it is, from the rows: the count may have been lost.
pub(super) fn recount(store: &Store) -> Result<(), StoreError> {
    let counted = Fill::load(store)?;
    let (mut next, mut rows, mut bytes) = (counted.next, 0, 0);
    store.walk(&prefix(WHOLE), None, |rest, value| {
        let refused: Refused = decode(KIND, rest.escape_ascii(), &value)?;
        let number = rest
            .first_chunk::<8>()
            .map_or(0, |rest| u64::from_be_bytes(*rest));
        next = next.max(number.saturating_add(1));
        rows += 1;
        let lengths = refused
            .payloads
            .iter()
            .map(|payload| payload.0.len() as u64);
        bytes += lengths.sum::<u64>();
        Ok(ControlFlow::Continue(()))
    })?;
    let fill = Fill {
        next,
        rows,
        bytes,
        ..counted
    };
    let mut batch = Batch::default();
    table::put(&mut batch, Table::Meta, KIND, &fill)?;
    store.apply(batch)
}

fn prefix(kind: u8) -> Key {
    Key::of(Kind::Quarantine).u8(kind)
}

fn whole(number: u64) -> Key {
    prefix(WHOLE).u64(number)
}

fn overflow_key(device: &DeviceId) -> Key {
    prefix(OVERFLOW).tail(device.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory;

    fn refused(bytes: usize) -> Refused {
        Refused {
            device: "t".to_owned(),
            channel: "readings".to_owned(),
            received_at_ms: 5,
            reason: "undecodable".to_owned(),
            detail: "decode batch at byte 0".to_owned(),
            payloads: vec![Octets(vec![7; bytes])],
        }
    }

    #[test]
    fn a_full_quarantine_keeps_digest_length_and_count() {
        let store = memory::store();
        let device: DeviceId = "t".parse().unwrap();
        let mut fill = Fill {
            next: 3,
            rows: KEPT_MAX_ROWS - 1,
            bytes: 0,
            ..Fill::default()
        };
        let mut batch = Batch::default();
        let mut lost = Overflow::default();
        let rooms = [10, 20, 30].map(|bytes| {
            fill.keep(&mut batch, &device, &refused(bytes), &mut lost)
                .unwrap()
        });
        assert_eq!(rooms, [Room::Kept, Room::Full, Room::Full]);
        store.apply(batch).unwrap();
        let mut whole = Vec::new();
        each(&store, |refused| {
            whole.push(refused);
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        assert_eq!(whole, [refused(10)]);
        let kept = overflow(&store, &device).unwrap().unwrap();
        assert_eq!((kept.count, kept.bytes, kept.last_bytes), (2, 50, 30));
        assert_eq!(kept.last_sha256.0, Sha256::digest([7; 30]).to_vec());
        let fill = Fill::load(&store).unwrap();
        assert_eq!((fill.rows(), fill.bytes()), (KEPT_MAX_ROWS, 10));
        assert_eq!(fill.overflow(), 2);
    }

    #[test]
    fn a_payload_too_long_for_a_row_is_only_digested() {
        let device: DeviceId = "t".parse().unwrap();
        let mut batch = Batch::default();
        let long = refused(PAYLOAD_MAX_BYTES + 1);
        let room = Fill::default().keep(&mut batch, &device, &long, &mut Overflow::default());
        assert_eq!(room.unwrap(), Room::Full);
    }
}
