//! One row of a store, changed or taken away behind the gateway's back, so that the engine finds nothing wrong.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use gateway::config::StoreEngine;
use protocol::key::RecordKey;
use rand::RngExt;
use rand_pcg::Pcg32;
use redb::{Database, ReadableDatabase as _, TableDefinition};

use crate::ledger::Name;

/// Table of the engine redb.
const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

/// The engine sled's log segments, in bytes.
const SEGMENT_BYTES: usize = 8 * 1024 * 1024;

/// What a record's row begins with.
const RECORDS: &[u8] = b"h|";

/// First sequence number of a reading: behind boot and anchor.
const FIRST_READING: u32 = 2;

/// Last byte of a record's content, counted from the end of its value: a checksum of four bytes follows. It is
/// the strength of the radio signal.
const LAST_OF_CONTENT: usize = 5;

/// Flip a bit of the content of the last record in one row; what the row held before.
pub(super) fn damage(store: &Path, engine: StoreEngine, chance: &mut Pcg32) -> Result<Vec<u8>> {
    change(store, engine, chance, |value| {
        let mut value = value.to_vec();
        let at = value.len().checked_sub(LAST_OF_CONTENT)?;
        value[at] ^= 1;
        Some(value)
    })
}

/// Take one row away; what it held.
pub(super) fn remove(store: &Path, engine: StoreEngine, chance: &mut Pcg32) -> Result<Vec<u8>> {
    change(store, engine, chance, |_| None)
}

/// Put what `change` makes of a value in its place; nothing removes the row. What it was.
fn change(
    store: &Path,
    engine: StoreEngine,
    chance: &mut Pcg32,
    change: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> Result<Vec<u8>> {
    match engine {
        StoreEngine::Sled => {
            let config = sled::Config::new().path(store).segment_size(SEGMENT_BYTES);
            let db = config.flush_every_ms(None).open()?;
            let keys = db.scan_prefix(RECORDS).keys();
            let keys: Vec<_> = keys.map(|key| Ok(key?.to_vec())).collect::<Result<_>>()?;
            let key = &reading(keys, chance)?;
            let value = db.get(key)?.context("a value")?;
            match change(&value) {
                Some(value) => drop(db.insert(key, value)?),
                None => drop(db.remove(key)?),
            }
            db.flush()?;
            Ok(value.to_vec())
        }
        StoreEngine::Redb => {
            let db = Database::create(store.join(engine.file()))?;
            let records = db.begin_read()?.open_table(ROWS)?;
            let of_records = records.range_owned(RECORDS..&b"h}"[..])?;
            let keys: Vec<_> = of_records
                .map(|row| Ok(row?.0.value().to_vec()))
                .collect::<Result<_>>()?;
            let key = &reading(keys, chance)?;
            let value = records.get_owned(key.as_slice())?.context("a value")?;
            let before = value.value().to_vec();
            let changed = change(&before);
            drop((value, records));
            let transaction = db.begin_write()?;
            {
                let mut rows = transaction.open_table(ROWS)?;
                match changed {
                    Some(value) => drop(rows.insert(key.as_slice(), value.as_slice())?),
                    None => drop(rows.remove(key.as_slice())?),
                }
            }
            transaction.commit()?;
            Ok(before)
        }
    }
}

/// One of the readings among these keys.
fn reading(mut keys: Vec<Vec<u8>>, chance: &mut Pcg32) -> Result<Vec<u8>> {
    keys.retain(|key| name(key).is_ok_and(|name| name.key.seq.0 >= FIRST_READING));
    ensure!(!keys.is_empty(), "the history holds no reading");
    Ok(keys.swap_remove(chance.random_range(0..keys.len())))
}

/// `h| device 0 0 epoch u64 boot u32 seq u32` of the first record, as the store lays out a row of records; a device id has no zero.
fn name(key: &[u8]) -> Result<Name> {
    let parts = || {
        let (device, rest) = key
            .strip_prefix(RECORDS)?
            .split_at_checked(key.len() - 20)?;
        let (epoch, rest) = rest.strip_prefix(&[0, 0])?.split_first_chunk::<8>()?;
        let (boot, seq) = rest.split_first_chunk::<4>()?;
        let key = RecordKey::new(
            u64::from_be_bytes(*epoch),
            u32::from_be_bytes(*boot),
            u32::from_be_bytes(seq.try_into().ok()?),
        );
        let device = std::str::from_utf8(device).ok()?.parse().ok()?;
        Some(Name { device, key })
    };
    parts().with_context(|| format!("{} is no record", key.escape_ascii()))
}
