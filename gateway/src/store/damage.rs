//! Rows that fail their checksum: noticed when they are read, set aside, counted; the rest is served.
//!
//! ```text
//! value of every row:  what its room wrote   crc32 u32 LE of key and value
//! q| 02 key            a row set aside: the bytes as they were found
//! ```
//! The checksum covers the key, so a row under a wrong key is noticed too. What a missing row means is
//! the affair of its room:
//!
//! | row set aside | what becomes of it |
//! |---|---|
//! | `j\|` `h\|` | its records are unknown; a device that still has them may send them again, and they are stored then |
//! | `u\|` | its alarms are folded when the turn of their commit comes |
//! | `d\|` | the runs of its boot are counted anew from journal and history |
//! | `e\|` `o\|` `x\|` | the fold states its verdict again; a receiver may get a revision twice |
//! | `s\|` | a cache; it is rebuilt |
//! | `q\|` `a\|` `c\|` `w\|` `i\|` | it is gone, and counted; a session starts clean, settings must be set again |
//! | `t\|` | the device keeps its slower settings until some are set by people |
//! | `z\|` | the shipment stays sealed; when and why it was, or which keys that covers, cannot be told any more |
//! | `p\|` | a plan that judged cannot be shown any more; the one in use is kept anew at the next start |
//! | `k\|` | the device is no longer registered: refused, or a stranger where those are let in; `device add` mends it |
//! | `m\|` | the store cannot be trusted with its cursors: it is refused, and `salvage` derives them anew |
//!
//! Nothing is deleted: what was set aside stays under its new key.

pub mod unreadable;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use protocol::key::DeviceId;

use super::key::{Key, Kind};
use super::table::{self, Table, decode, encode};
use super::{Batch, EngineError, Row, Store, StoreError, folder, witness};

/// Length of the checksum behind each value, in bytes.
pub(super) const CHECKSUM_BYTES: usize = 4;

/// Name of the row that counts what was set aside.
const COUNTS: &str = "damaged";

/// Rows set aside, by the letter of their kind.
pub type Counts = BTreeMap<String, u64>;

impl Store {
    /// Damaged rows that were set aside, ever; their kinds are in [`counts`].
    #[must_use]
    pub fn rows_set_aside(&self) -> u64 {
        self.0.set_aside.load(Ordering::SeqCst)
    }

    /// Notes damage that the engine found, so that the next start salvages. Returns the cause.
    pub(super) fn suspected(&self, cause: EngineError) -> EngineError {
        if folder::is_damage(self.0.kind, &cause) {
            witness::suspect(&self.0.folder, &cause.to_string());
        }
        cause
    }

    /// The store as a whole cannot be trusted.
    fn ruined(&self, detail: String) -> StoreError {
        if self.0.witness.is_some() {
            witness::suspect(&self.0.folder, &detail);
        }
        StoreError::Damaged {
            path: self.0.folder.clone(),
            detail,
        }
    }
}

/// `value` with the checksum of it and its key behind it.
pub(super) fn seal(key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let checksum = checksum(key, &value);
    value.extend_from_slice(&checksum);
    value
}

/// The value, if its checksum is right; else the bytes as they were found.
pub(super) fn unseal(key: &[u8], mut sealed: Vec<u8>) -> Result<Vec<u8>, Vec<u8>> {
    match sealed.split_last_chunk::<CHECKSUM_BYTES>() {
        Some((value, found)) if *found == checksum(key, value) => {
            sealed.truncate(value.len());
            Ok(sealed)
        }
        _ => Err(sealed),
    }
}

fn checksum(key: &[u8], value: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().to_le_bytes()
}

/// How many rows were set aside, by the letter of their kind.
///
/// # Errors
/// When it cannot be read.
pub fn counts(store: &Store) -> Result<Counts, StoreError> {
    Ok(table::value(store, Table::Meta, COUNTS)?.unwrap_or_default())
}

/// Rows of a device that were set aside, by the letter of their kind, as far as the keys tell: a chunk of the
/// journal (`j`) is of many devices.
///
/// # Errors
/// When they cannot be read.
pub fn of(store: &Store, device: &DeviceId) -> Result<Counts, StoreError> {
    let mut counts = Counts::new();
    let mut add = |key: &[u8]| {
        let kind = key.first().copied().map(char::from).unwrap_or_default();
        *counts.entry(kind.to_string()).or_default() += 1;
    };
    for kind in [Kind::History, Kind::Seen, Kind::Fold, Kind::Device] {
        let rows = Key::device(kind, device);
        store.walk(&Key::set_aside(rows.bytes()), None, |_, _| {
            add(rows.bytes());
            Ok(ControlFlow::Continue(()))
        })?;
    }
    for kind in [Kind::Desired, Kind::Slowed, Kind::Identity, Kind::Session] {
        let row = Key::of(kind).tail(device.as_str());
        if store.value(&Key::set_aside(row.bytes()))?.is_some() {
            add(row.bytes());
        }
    }
    Ok(counts)
}

/// Visits the keys of the rows that were set aside, in order, until `visit` breaks.
///
/// # Errors
/// When they cannot be read, or `visit` fails.
pub(super) fn each(
    store: &Store,
    mut visit: impl FnMut(&[u8]) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    store.walk(&Key::set_aside(&[]), None, |key, _| visit(key))
}

/// Moves rows that failed their checksum out of the way, those of them that are still as they were found.
pub(super) fn set_aside(store: &Store, rows: Vec<Row>) -> Result<(), StoreError> {
    let mut writer = store.writer();
    store.refuse_after_failure()?;
    let counts_key = Key::of(Kind::Meta).tail(COUNTS);
    let counted = store.raw_value(counts_key.bytes())?;
    let counted = counted.and_then(|sealed| unseal(counts_key.bytes(), sealed).ok());
    let counted = counted.and_then(|bytes| decode::<Counts>("meta", COUNTS, &bytes).ok());
    let mut counts = counted.unwrap_or_default();
    let mut batch = Batch::default();
    let mut moved = 0;
    for (key, found) in rows {
        if store.raw_value(&key)?.as_ref() != Some(&found) {
            continue;
        }
        let kind = key.first().copied().map(char::from).unwrap_or_default();
        if kind == 'm' {
            return Err(store.ruined(format!("row {} fails its checksum", key.escape_ascii())));
        }
        tracing::error!(row = %key.escape_ascii(), "a damaged row is set aside");
        *counts.entry(kind.to_string()).or_default() += 1;
        moved += 1;
        batch.put(Key::set_aside(&key), found);
        batch.writes.insert(key, None);
    }
    if moved == 0 {
        return Ok(());
    }
    batch.put(counts_key, encode("meta", COUNTS, &counts)?);
    store.write(&mut writer, batch)?;
    store.0.set_aside.fetch_add(moved, Ordering::SeqCst);
    Ok(())
}

#[cfg(test)]
mod tests {
    use protocol::key::{Boot, Epoch, RecordKey, Seq};
    use protocol::units::UtcMs;

    use super::*;
    use crate::store::content::Content;
    use crate::store::history::{self, Kept, Known};
    use crate::store::journal::{self, Entry, Records, Stored};
    use crate::store::memory::Memory;
    use crate::store::seen::{self, BootId, Run};
    use crate::store::{Commit, PAGE_MAX_ROWS};

    #[test]
    fn every_damaged_byte_of_a_row_is_noticed_and_so_is_a_wrong_key() {
        let sealed = seal(b"h|key", b"value".to_vec());
        assert_eq!(unseal(b"h|key", sealed.clone()), Ok(b"value".to_vec()));
        assert!(unseal(b"h|kez", sealed.clone()).is_err());
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 0x04;
            assert!(unseal(b"h|key", damaged).is_err(), "byte {at}");
            assert!(
                unseal(b"h|key", sealed[..at].to_vec()).is_err(),
                "length {at}"
            );
        }
    }

    fn device() -> DeviceId {
        "t".parse().unwrap()
    }

    fn known(seq: u32) -> Known {
        Known {
            received_at: UtcMs::saturating(0),
            qos: 1,
            content: Content::from_stored(seq.to_be_bytes().to_vec()),
        }
    }

    fn record(seq: u32) -> RecordKey {
        RecordKey::new(1, 0, seq)
    }

    fn write_history(store: &Store, records: u32) {
        let mut batch = Batch::default();
        for seq in 0..records {
            history::put(&mut batch, &device(), record(seq), &known(seq));
        }
        store.apply(batch).unwrap();
    }

    fn history_of(store: &Store) -> Vec<u32> {
        let mut found = Vec::new();
        history::each(store, &device(), None, |key, kept| {
            assert_eq!(kept, Kept::Known(known(key.seq.0)));
            found.push(key.seq.0);
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        found
    }

    #[test]
    fn damaged_rows_are_set_aside_and_counted_and_the_rest_is_served_across_pages() {
        let disk = Memory::default();
        let store = disk.open();
        let records = 2 * PAGE_MAX_ROWS as u32 + 9;
        write_history(&store, records);
        let damaged = [0, 7, PAGE_MAX_ROWS as u32 - 1, records - 1];
        for seq in damaged {
            disk.damage(Key::record(&device(), record(seq)).bytes());
        }
        let sound: Vec<u32> = (0..records).filter(|seq| !damaged.contains(seq)).collect();
        assert_eq!(history_of(&store), sound);
        assert_eq!(history::value(&store, &device(), record(7)).unwrap(), None);
        let expected = Counts::from([("h".to_owned(), 4)]);
        assert_eq!(counts(&store).unwrap(), expected);
        assert_eq!(store.rows_set_aside(), 4);
        store.barrier().unwrap();
        let store = disk.open();
        assert_eq!(store.rows_set_aside(), 4, "the count outlives the process");
        let mut kept = Vec::new();
        each(&store, |key| {
            kept.push(key.to_vec());
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        let keys = damaged.map(|seq| Key::record(&device(), record(seq)).into_bytes());
        assert_eq!(kept, keys);
    }

    #[test]
    fn a_damaged_cursor_is_refused_naming_the_row() {
        let disk = Memory::default();
        let store = disk.open();
        let mut batch = Batch::default();
        journal::append(&mut batch, Commit(4), &[]).unwrap();
        store.apply(batch).unwrap();
        disk.damage(b"m|commit");
        let refused = Store::with_engine(Box::new(disk), std::path::Path::new("depot"));
        let refused = refused.unwrap_err();
        assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
        assert!(refused.to_string().contains("m|commit"), "{refused}");
    }

    #[test]
    fn damaged_runs_are_counted_anew_from_journal_and_history() {
        let disk = Memory::default();
        let store = disk.open();
        let boot = BootId {
            device: device(),
            epoch: Epoch(1),
            boot: Boot(0),
        };
        write_history(&store, 3);
        let mut batch = Batch::default();
        let entry = Entry::Records(Records {
            device: device(),
            epoch: Epoch(1),
            boot: Boot(0),
            received_at: UtcMs::saturating(0),
            qos: 1,
            oldest_pending: record(0),
            records: [3, 8]
                .map(|seq| Stored {
                    seq: Seq(seq),
                    content: known(seq).content,
                })
                .to_vec(),
        });
        journal::append(&mut batch, Commit(1), &[entry]).unwrap();
        for (first, last) in [(0, 3), (8, 8)] {
            let (first, last) = (Seq(first), Seq(last));
            seen::put(&mut batch, &boot, Run { first, last });
        }
        store.apply(batch).unwrap();
        let runs = || seen::at_or_after(&store, &boot, Seq(0), 9).unwrap();
        let whole = runs();
        disk.damage(
            &[
                Key::boot(Kind::Seen, &boot.device, boot.epoch, boot.boot).bytes(),
                &[0; 4],
            ]
            .concat(),
        );
        assert_eq!(runs().len(), 1);
        assert_eq!(seen::mend(&store).unwrap(), 1);
        assert_eq!(runs(), whole);
    }

    #[test]
    fn a_devices_damaged_rows_are_told_by_kind_and_no_other_devices() {
        let disk = Memory::default();
        let store = disk.open();
        let [one, other]: [DeviceId; 2] = ["t-1", "t-10"].map(|name| name.parse().unwrap());
        for device in [&one, &other] {
            let mut batch = Batch::default();
            for key in [
                Key::record(device, RecordKey::new(1, 0, 4)),
                Key::record(device, RecordKey::new(1, 0, 5)),
                Key::device(Kind::Device, device).tail("o"),
                Key::of(Kind::Desired).tail(device.as_str()),
            ] {
                batch.put(key, vec![1]);
            }
            store.apply(batch).unwrap();
        }
        let keys = |device: &DeviceId| {
            let kinds = [&b"h|"[..], b"i|", b"w|"];
            let rows = kinds.into_iter().flat_map(|kind| disk.keys(kind));
            let named = |key: &Vec<u8>| {
                let name = key[2..].strip_prefix(device.as_str().as_bytes());
                name.is_some_and(|rest| rest.first().is_none_or(|byte| *byte == 0))
            };
            rows.filter(named).collect::<Vec<_>>()
        };
        keys(&one).iter().for_each(|key| disk.damage(key));
        disk.damage(&keys(&other)[0]);
        store.check_rows().unwrap();
        let told = |device| of(&store, device).unwrap().into_iter().collect::<Vec<_>>();
        let expected = [("h", 2), ("i", 1), ("w", 1)].map(|(kind, rows)| (kind.to_owned(), rows));
        assert_eq!(told(&one), expected);
        assert_eq!(told(&other), [("h".to_owned(), 1)]);
    }
}
