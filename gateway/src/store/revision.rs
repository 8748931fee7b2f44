//! Which plans the gateway has judged by: immutable revisions, never removed.
//!
//! ```text
//! p| number u64               head: what it is called, when it was first used, digests of its sources
//! p| number u64, part u16     a part of the texts of its sources, in their order, one behind the other
//! ```
//! A revision is there when its head is; the head is written behind the parts. A plan that is the same as
//! that of the newest revision adds nothing. One that comes back after another is a new revision: which
//! plan was in force when follows from the order alone. Their texts count against the store's budget like
//! everything else; no bound removes one, because an auditor asks for the oldest.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use protocol::units::UtcMs;
use serde::{Deserialize, Serialize};

use super::key::{Key, Kind};
use super::table::{self, Table, decode, encode};
use super::{Batch, Order, Span, Store, StoreError, VALUE_MAX_BYTES, row_error};
use crate::config::PLAN_MAX_BYTES;
use crate::pki::digest::Digest;

const KIND: &str = "plan revision";

/// Name of the row that holds the newest number given: a damaged head gives its number to nobody else.
const NUMBER_ROW: &str = "revision";

/// Largest part, in bytes: what a row may hold.
const PART_BYTES: usize = VALUE_MAX_BYTES;

/// Most bytes of the texts of one revision: the largest plan file, and 1 MiB for the profiles that come
/// with the program (1 KiB each).
pub const TEXTS_MAX_BYTES: u64 = PLAN_MAX_BYTES + (1 << 20);

/// Parts of one batch, which is then 1 MiB: the store's lock is held for milliseconds.
const BATCH_PARTS: usize = 16;

/// One text that a plan consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `plan`, or `profile NAME` for one that comes with the program.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Of its text.
    pub digest: Digest,
}

/// A plan as it was used, without its texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// From 1 on, in the order of first use.
    pub number: u64,
    /// Of everything that a verdict takes from it: names, texts and options.
    pub digest: Digest,
    /// When a gateway first started with it, in milliseconds since 1970.
    pub first_used_at_ms: i64,
    /// What differs from the newest revision before it that could be read: names of sources, `options`.
    /// Nothing in the first one, nor when the one before was kept anew because it was damaged.
    pub differs_in: Vec<String>,
    /// The version that the plan states; 0 without a plan.
    pub plan_version: u32,
    /// From when it holds by its own word, in milliseconds since 1970.
    pub effective_from_ms: Option<i64>,
    /// Version of the program that first used it; no part of the digest.
    pub program: String,
    /// Options of the configuration that decide with it.
    pub options: BTreeMap<String, String>,
    /// In the order of their texts.
    pub sources: Vec<Source>,
}

/// A plan as a gateway is about to use it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// Names and texts.
    pub sources: Vec<(String, String)>,
    /// Options of the configuration that decide with it.
    pub options: BTreeMap<String, String>,
    /// The version that the plan states; 0 without a plan.
    pub plan_version: u32,
    /// From when it holds by its own word, in milliseconds since 1970.
    pub effective_from_ms: Option<i64>,
    /// Version of the program that uses it.
    pub program: String,
}

/// Keeps a plan, unless it is that of the newest revision. It is durable on return; the number of its
/// revision, and whether that is new.
///
/// # Errors
/// When the store fails, or the texts are longer than [`TEXTS_MAX_BYTES`].
pub fn keep(store: &Store, offered: &Offered, at: UtcMs) -> Result<(u64, bool), StoreError> {
    let before = newest(store)?;
    let revision = named(store, offered, before.as_ref(), at)?;
    if let Some(before) = before {
        let same = before.digest == revision.digest;
        if same && before.number == newest_number(store)? && texts(store, &before)?.is_some() {
            return Ok((before.number, false));
        }
    }
    write_texts(store, revision.number, &offered.sources)?;
    let mut batch = Batch::default();
    batch.put(
        head_key(revision.number),
        encode(KIND, revision.number, &revision)?,
    );
    table::put(&mut batch, Table::Meta, NUMBER_ROW, &revision.number)?;
    store.apply(batch)?;
    store.barrier()?;
    Ok((revision.number, true))
}

/// Visits all revisions in their order, until `visit` breaks.
///
/// # Errors
/// When they cannot be read, or `visit` fails.
pub fn each(
    store: &Store,
    mut visit: impl FnMut(Revision) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let mut number = 0;
    while let Some(revision) = at_or_after(store, number)? {
        number = revision.number + 1;
        if visit(revision)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// The revision with this number.
///
/// # Errors
/// When it cannot be read.
pub fn numbered(store: &Store, number: u64) -> Result<Option<Revision>, StoreError> {
    let head = store.value(&head_key(number))?;
    head.map(|bytes| decode(KIND, number, &bytes)).transpose()
}

/// The newest revision that can be read.
///
/// # Errors
/// When the store fails.
pub fn newest(store: &Store) -> Result<Option<Revision>, StoreError> {
    let mut number = newest_number(store)?;
    while number > 0 {
        if let Some(revision) = numbered(store, number)? {
            return Ok(Some(revision));
        }
        number -= 1;
    }
    Ok(None)
}

/// The texts of a revision, in the order of its sources; `None` when a part of them is missing or is not
/// what it was.
///
/// # Errors
/// When they cannot be read.
pub fn texts(store: &Store, revision: &Revision) -> Result<Option<Vec<String>>, StoreError> {
    let mut bytes = Vec::new();
    let mut expected = 0_u16;
    let prefix = head_key(revision.number);
    store.walk(&prefix, None, |rest, part| {
        // The head has the prefix as its key.
        let Ok(found) = rest.try_into().map(u16::from_be_bytes) else {
            return Ok(ControlFlow::Continue(()));
        };
        if found == expected {
            bytes.extend_from_slice(&part);
        }
        expected = expected.saturating_add(1);
        Ok(ControlFlow::Continue(()))
    })?;
    let mut rest = bytes.as_slice();
    let mut texts = Vec::new();
    for source in &revision.sources {
        let length = usize::try_from(source.bytes).unwrap_or(usize::MAX);
        let Some((text, behind)) = rest.split_at_checked(length) else {
            return Ok(None);
        };
        rest = behind;
        match str::from_utf8(text) {
            Ok(read) if Digest::of(text) == source.digest => texts.push(read.to_owned()),
            _ => return Ok(None),
        }
    }
    Ok(Some(texts))
}

fn named(
    store: &Store,
    offered: &Offered,
    before: Option<&Revision>,
    at: UtcMs,
) -> Result<Revision, StoreError> {
    let number = newest_number(store)? + 1;
    let bytes: usize = offered.sources.iter().map(|(_, text)| text.len()).sum();
    if bytes as u64 > TEXTS_MAX_BYTES {
        let name = number.to_string();
        return Err(StoreError::TooLarge {
            kind: KIND,
            name,
            bytes,
        });
    }
    let source = |(name, text): &(String, String)| Source {
        name: name.clone(),
        bytes: text.len() as u64,
        digest: Digest::of(text.as_bytes()),
    };
    let sources: Vec<Source> = offered.sources.iter().map(source).collect();
    let mut covered = Vec::new();
    ciborium::into_writer(&(&sources, &offered.options), &mut covered)
        .map_err(|error| row_error(KIND, number, error))?;
    Ok(Revision {
        number,
        digest: Digest::of(&covered),
        first_used_at_ms: at.get(),
        differs_in: before
            .map(|before| differences(before, &sources, &offered.options))
            .unwrap_or_default(),
        plan_version: offered.plan_version,
        effective_from_ms: offered.effective_from_ms,
        program: offered.program.clone(),
        options: offered.options.clone(),
        sources,
    })
}

/// Names of what is not the same in both, those of `sources` first.
fn differences(
    before: &Revision,
    sources: &[Source],
    options: &BTreeMap<String, String>,
) -> Vec<String> {
    let changed = sources
        .iter()
        .filter(|source| !before.sources.contains(source));
    let gone = before
        .sources
        .iter()
        .filter(|old| sources.iter().all(|source| source.name != old.name));
    let names = changed.chain(gone).map(|source| source.name.clone());
    let options = (before.options != *options).then(|| "options".to_owned());
    names.chain(options).collect()
}

/// Writes the parts; those of an attempt that a power cut ended are removed first.
fn write_texts(store: &Store, number: u64, sources: &[(String, String)]) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    store.walk(&head_key(number), None, |rest, _| {
        batch.remove(head_key(number).raw(rest));
        Ok(ControlFlow::Continue(()))
    })?;
    store.apply(batch)?;
    let joined: String = sources.iter().map(|(_, text)| text.as_str()).collect();
    let parts: Vec<&[u8]> = joined.as_bytes().chunks(PART_BYTES).collect();
    let mut part = 0_u16;
    for parts in parts.chunks(BATCH_PARTS) {
        let mut batch = Batch::default();
        for bytes in parts {
            batch.put(head_key(number).u16(part), bytes.to_vec());
            part += 1;
        }
        store.apply(batch)?;
    }
    Ok(())
}

/// The first revision from `number` on.
fn at_or_after(store: &Store, number: u64) -> Result<Option<Revision>, StoreError> {
    for number in number..=newest_number(store)? {
        if let Some(revision) = numbered(store, number)? {
            return Ok(Some(revision));
        }
    }
    Ok(None)
}

/// The newest number that was given; by the cursor, or by the rows when a salvage lost it.
fn newest_number(store: &Store) -> Result<u64, StoreError> {
    let given: Option<u64> = table::value(store, Table::Meta, NUMBER_ROW)?;
    if let Some(given) = given {
        return Ok(given);
    }
    let prefix = Key::of(Kind::Revision);
    let last = store.scan(&Span {
        from: prefix.bytes().to_vec(),
        until: prefix.after_all(),
        order: Order::Descending,
        limit_rows: 1,
    })?;
    let number = last.first().and_then(|(key, _)| {
        let rest = key.strip_prefix(prefix.bytes())?;
        rest.first_chunk::<8>().copied().map(u64::from_be_bytes)
    });
    Ok(number.unwrap_or_default())
}

fn head_key(number: u64) -> Key {
    Key::of(Kind::Revision).u64(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::{self, Memory};

    fn offered(plan: &str, delay: &str) -> Offered {
        Offered {
            sources: vec![
                ("plan".to_owned(), plan.to_owned()),
                ("profile frozen".to_owned(), "cold".to_owned()),
            ],
            options: [("temperature_delay".to_owned(), delay.to_owned())].into(),
            plan_version: 3,
            effective_from_ms: Some(5),
            program: "0.1.0".to_owned(),
        }
    }

    fn all(store: &Store) -> Vec<Revision> {
        let mut all = Vec::new();
        each(store, |revision| {
            all.push(revision);
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        all
    }

    const fn at(ms: i64) -> UtcMs {
        UtcMs::saturating(ms)
    }

    #[test]
    fn a_plan_is_kept_once_and_anew_when_anything_that_decides_changes_or_comes_back() {
        let disk = Memory::default();
        let store = disk.open();
        assert_eq!(keep(&store, &offered("a", "1"), at(1)).unwrap(), (1, true));
        assert_eq!(keep(&store, &offered("a", "1"), at(2)).unwrap(), (1, false));
        assert_eq!(keep(&store, &offered("b", "1"), at(3)).unwrap(), (2, true));
        assert_eq!(keep(&store, &offered("b", "2"), at(4)).unwrap(), (3, true));
        assert_eq!(keep(&store, &offered("a", "1"), at(5)).unwrap(), (4, true));
        // A gateway without a plan, and the same by a later program.
        let mut none = Offered::default();
        assert_eq!(keep(&store, &none, at(6)).unwrap(), (5, true));
        none.program = "0.2.0".to_owned();
        assert_eq!(keep(&store, &none, at(7)).unwrap(), (5, false));
        drop(store);
        disk.cut_power();
        let store = disk.open();
        let told: Vec<_> = all(&store)
            .iter()
            .map(|r| (r.number, r.first_used_at_ms, r.differs_in.join(",")))
            .collect();
        let told: Vec<_> = told
            .iter()
            .map(|(n, at, d)| (*n, *at, d.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (1, 1, ""),
                (2, 3, "plan"),
                (3, 4, "options"),
                (4, 5, "plan,options"),
                (5, 6, "plan,profile frozen,options"),
            ]
        );
        assert_eq!(all(&store)[0].digest, all(&store)[3].digest);
        let first = numbered(&store, 2).unwrap().unwrap();
        assert_eq!(texts(&store, &first).unwrap().unwrap(), ["b", "cold"]);
        assert_eq!(numbered(&store, 6).unwrap(), None);
    }

    #[test]
    fn a_text_larger_than_a_row_or_a_batch_comes_back_as_it_was_read() {
        let store = memory::store();
        let large = "é fence\n".repeat((BATCH_PARTS + 2) * PART_BYTES / 9);
        let (number, _) = keep(&store, &offered(&large, "1"), at(1)).unwrap();
        let revision = numbered(&store, number).unwrap().unwrap();
        let read = texts(&store, &revision).unwrap().unwrap();
        assert_eq!(read, [large.as_str(), "cold"]);
        let huge = "x".repeat(usize::try_from(TEXTS_MAX_BYTES).unwrap());
        let refused = keep(&store, &offered(&huge, "1"), at(2)).unwrap_err();
        assert!(matches!(refused, StoreError::TooLarge { .. }), "{refused}");
        assert_eq!(all(&store).len(), 1);
    }

    #[test]
    fn parts_without_a_head_are_no_revision_and_are_written_over() {
        let store = memory::store();
        let long = "x".repeat(3 * PART_BYTES);
        // The power went before the head was written.
        write_texts(&store, 1, &[("plan".to_owned(), long)]).unwrap();
        assert_eq!(newest(&store).unwrap(), None);
        let (number, new) = keep(&store, &offered("short", "1"), at(1)).unwrap();
        assert!(new);
        let revision = numbered(&store, number).unwrap().unwrap();
        let read = texts(&store, &revision).unwrap().unwrap();
        assert_eq!(read, ["short", "cold"]);
    }

    #[test]
    fn a_damaged_head_gives_its_number_to_nobody_and_a_damaged_text_is_not_told() {
        let disk = Memory::default();
        let store = disk.open();
        keep(&store, &offered("a", "1"), at(1)).unwrap();
        keep(&store, &offered("b", "1"), at(2)).unwrap();
        disk.damage(head_key(2).bytes());
        assert_eq!(keep(&store, &offered("b", "1"), at(3)).unwrap(), (3, true));
        let numbers: Vec<_> = all(&store).iter().map(|found| found.number).collect();
        assert_eq!(numbers, [1, 3]);
        assert_eq!(store.rows_set_aside(), 1);
        disk.damage(head_key(3).u16(0).bytes());
        let newest = newest(&store).unwrap().unwrap();
        assert_eq!(texts(&store, &newest).unwrap(), None);
        // The text is kept anew, so that it is there whole.
        assert_eq!(keep(&store, &offered("b", "1"), at(4)).unwrap(), (4, true));
        assert_eq!(numbered(&store, 4).unwrap().unwrap().differs_in, [""; 0]);
        // Without its cursor, as after a salvage, numbers go on behind the rows that are there.
        let mut batch = Batch::default();
        table::remove(&mut batch, Table::Meta, NUMBER_ROW);
        store.apply(batch).unwrap();
        assert_eq!(keep(&store, &offered("b", "1"), at(5)).unwrap(), (4, false));
        assert_eq!(keep(&store, &offered("c", "1"), at(6)).unwrap(), (5, true));
    }
}
