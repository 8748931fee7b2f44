//! What was refused, kept for people to look at. Written by the committer.
//!
//! ```text
//! q| 00 number u64   one refused payload, or both contents of a contested key
//! q| 01 device       what came when the quarantine was full: digest of the last, bytes, count
//! ```
//! Both are bounded: rows and bytes of the first by the constants below, the second by one row per
//! device. Nothing that was refused is ever forgotten, only its bytes may be.

use std::ops::ControlFlow;

use protocol::key::DeviceId;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::key::{Key, Kind};
use super::table::{self, Table, decode, encode};
use super::{Batch, Store, StoreError};

/// Most payloads kept whole, in rows: a person looks at tens, a tool at thousands.
pub const KEPT_MAX_ROWS: u64 = 10_000;

/// Most bytes of payloads kept whole.
pub const KEPT_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Longest payload kept whole, in bytes: longer than the longest batch, shorter than a row.
pub const PAYLOAD_MAX_BYTES: usize = 16 * 1024;

const KIND: &str = "quarantine";
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

/// How full it is. The committer owns the only one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    next: u64,
    rows: u64,
    bytes: u64,
    /// Payloads of which only digest, length and count are kept.
    #[serde(default)]
    overflow: u64,
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
        Ok(table::value(store, Table::Meta, KIND)?.unwrap_or_default())
    }

    /// Payloads kept whole.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of the payloads kept whole.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
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
        let bytes: usize = refused.payloads.iter().map(|payload| payload.0.len()).sum();
        let room = self.rows < KEPT_MAX_ROWS && self.bytes + bytes as u64 <= KEPT_MAX_BYTES;
        if room && bytes <= PAYLOAD_MAX_BYTES {
            let value = encode(KIND, self.next, refused)?;
            batch.put(whole(self.next), value);
            self.next += 1;
            self.rows += 1;
            self.bytes += bytes as u64;
            table::put(batch, Table::Meta, KIND, self)?;
            return Ok(Room::Kept);
        }
        let mut digest = Sha256::new();
        refused
            .payloads
            .iter()
            .for_each(|payload| digest.update(&payload.0));
        *overflow = Overflow {
            count: overflow.count + 1,
            bytes: overflow.bytes + bytes as u64,
            last_sha256: Octets(digest.finalize().to_vec()),
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
    store.walk(&prefix(WHOLE), None, |rest, value| {
        visit(decode(KIND, rest.escape_ascii(), &value)?)
    })
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
            overflow: 0,
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
