//! What was received, in the order of commits, until the fold has taken it.
//!
//! ```text
//! value of j|commit|part:  "SCJ1"  version u8  crc32 u32 LE (of the rest)  CBOR:
//!   [ entry, ... ]
//!   entry = [0, device, epoch, boot, received_at, qos, 3 x oldest pending, [[seq, content], ...]]
//!         | [1, device, epoch, boot, seq]
//! ```
//! One value per group commit is six times as fast as one per record. A commit larger than a value may
//! be goes into several parts of the same batch, so it still appears whole or not at all.

pub mod outline;
pub mod urgent;

use std::ops::ControlFlow;

use minicbor::{Decoder, Encoder};

use super::content::CONTENT_MAX_BYTES;
use super::entry::{self, infallible};
pub use super::entry::{Entry, Records, Stored};
use super::key::{Key, Kind};
use super::table::{self, Table};
use super::{Batch, Commit, PAGE_MAX_ROWS, Store, StoreError, VALUE_MAX_BYTES, row_error};
use protocol::key::{DeviceId, RecordKey};

const MAGIC: &[u8; 4] = b"SCJ1";
const VERSION: u8 = 1;
/// Magic, version and checksum.
const HEAD_BYTES: usize = 9;

/// Most a part may hold before the next one is begun, in bytes: one more record of the largest size
/// and one more entry head still fit below the largest value.
const PART_FULL_BYTES: usize = VALUE_MAX_BYTES - CONTENT_MAX_BYTES - 1024;

/// Rows that are read at once for the fold, which wants some 30 commits of 250 records when many wait, and
/// usually finds one.
const OLDEST_PAGE_ROWS: usize = 16;

/// A commit as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which.
    pub commit: Commit,
    /// What it holds.
    pub entries: Vec<Entry>,
    parts: u16,
}

/// Adds a commit to `batch`. An empty one only advances the number.
///
/// # Errors
/// Never in practice: the commit's number fits a row.
pub fn append(batch: &mut Batch, commit: Commit, entries: &[Entry]) -> Result<(), StoreError> {
    put(batch, Kind::Journal, commit, entries);
    urgent::append(batch, commit, entries);
    table::put(batch, Table::Meta, "commit", &commit.0)?;
    batch.commit = Some(commit);
    Ok(())
}

fn put(batch: &mut Batch, kind: Kind, commit: Commit, entries: &[Entry]) {
    let mut parts = Parts::default();
    for entry in entries {
        match entry {
            Entry::Contested { device, key } => parts.contested(device, *key),
            Entry::Records(records) => parts.records(records),
        }
    }
    for (number, body) in (0_u16..).zip(parts.finish()) {
        batch.put(part_key(kind, commit, number), seal(&body));
    }
}

/// The commit's entries; `None` when it was empty or is folded.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn chunk(store: &Store, commit: Commit) -> Result<Option<Chunk>, StoreError> {
    let mut found = None;
    each(store, commit, |chunk| {
        found = (chunk.commit == commit).then_some(chunk);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// The oldest commits that are not folded, until they have `records_max` records; one at least, if any waits.
///
/// # Errors
/// When they cannot be read or are damaged.
pub fn oldest(store: &Store, records_max: usize) -> Result<Vec<Chunk>, StoreError> {
    oldest_of(store, Kind::Journal, records_max)
}

fn oldest_of(store: &Store, kind: Kind, records_max: usize) -> Result<Vec<Chunk>, StoreError> {
    let (mut chunks, mut records) = (Vec::new(), 0);
    each_by(store, kind, (Commit(0), OLDEST_PAGE_ROWS), |chunk| {
        records += chunk.entries.iter().map(Entry::len).sum::<usize>();
        chunks.push(chunk);
        let enough = records >= records_max;
        Ok(if enough {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    Ok(chunks)
}

/// Visits the commits from `from` on, in order, until `visit` breaks.
///
/// # Errors
/// When one cannot be read or is damaged, or `visit` fails.
pub fn each(
    store: &Store,
    from: Commit,
    visit: impl FnMut(Chunk) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    each_by(store, Kind::Journal, (from, PAGE_MAX_ROWS), visit)
}

fn each_by(
    store: &Store,
    kind: Kind,
    (from, page_rows): (Commit, usize),
    mut visit: impl FnMut(Chunk) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let prefix = Key::of(kind);
    let first = part_key(kind, from, 0).into_bytes();
    let mut open: Option<Chunk> = None;
    let mut stopped = false;
    store.walk_by(&prefix, (Some(first), page_rows), |rest, value| {
        let (commit, part) = split(rest)?;
        if open.as_ref().is_some_and(|chunk| chunk.commit != commit)
            && let Some(chunk) = open.take()
            && visit(chunk)?.is_break()
        {
            stopped = true;
            return Ok(ControlFlow::Break(()));
        }
        let chunk = open.get_or_insert_with(|| Chunk {
            commit,
            entries: Vec::new(),
            parts: 0,
        });
        chunk.entries.extend(unseal(commit, &value, entry::read)?);
        chunk.parts = part.saturating_add(1);
        Ok(ControlFlow::Continue(()))
    })?;
    match open {
        Some(chunk) if !stopped => visit(chunk).map(drop),
        _ => Ok(()),
    }
}

/// Removes a commit that the fold has taken, in the fold's own batch, and moves the cursor.
///
/// # Errors
/// When the cursor cannot be written.
pub fn fold_taken(batch: &mut Batch, chunk: &Chunk) -> Result<(), StoreError> {
    remove(batch, chunk);
    fold_passed(batch, chunk.commit)
}

/// Removes a commit and leaves the cursor where it is.
pub(super) fn remove(batch: &mut Batch, chunk: &Chunk) {
    remove_of(batch, Kind::Journal, chunk);
}

fn remove_of(batch: &mut Batch, kind: Kind, chunk: &Chunk) {
    for part in 0..chunk.parts {
        batch.remove(part_key(kind, chunk.commit, part));
    }
}

/// Moves the cursor to a commit up to which nothing is left in the journal.
///
/// # Errors
/// When the cursor cannot be written.
pub fn fold_passed(batch: &mut Batch, commit: Commit) -> Result<(), StoreError> {
    table::put(batch, Table::Meta, "folded", &commit.0)?;
    batch.folded = Some(commit);
    Ok(())
}

/// The oldest and the newest commit of which a chunk is there; 0 for the newest of none.
pub(super) fn ends(store: &Store) -> Result<(Option<Commit>, Commit), StoreError> {
    let (mut oldest, mut newest) = (None, Commit(0));
    store.walk(&Key::of(Kind::Journal), None, |rest, _| {
        (newest, _) = split(rest)?;
        oldest.get_or_insert(newest);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((oldest, newest))
}

/// Newest commit ever appended, folded or not; 0 in a new store.
pub(super) fn newest_commit(store: &Store) -> Result<Commit, StoreError> {
    let newest = table::value(store, Table::Meta, "commit")?;
    Ok(Commit(newest.unwrap_or_default()))
}

/// Newest commit the fold has taken; 0 in a new store.
pub(super) fn newest_folded(store: &Store) -> Result<Commit, StoreError> {
    let newest = table::value(store, Table::Meta, "folded")?;
    Ok(Commit(newest.unwrap_or_default()))
}

fn part_key(kind: Kind, commit: Commit, part: u16) -> Key {
    Key::of(kind).u64(commit.0).u16(part)
}

fn split(rest: &[u8]) -> Result<(Commit, u16), StoreError> {
    let halves = rest.split_first_chunk::<8>();
    let halves = halves.and_then(|(commit, part)| Some((commit, part.try_into().ok()?)));
    let (commit, part) =
        halves.ok_or_else(|| row_error("journal key", rest.escape_ascii(), "not 10 bytes long"))?;
    Ok((
        Commit(u64::from_be_bytes(*commit)),
        u16::from_be_bytes(part),
    ))
}

/// The bodies of a commit's parts while they are filled.
#[derive(Default)]
struct Parts {
    full: Vec<Vec<u8>>,
    entries: Vec<u8>,
    count: u64,
}

impl Parts {
    fn contested(&mut self, device: &DeviceId, key: RecordKey) {
        self.room_bytes();
        entry::write_contested(&mut self.entries, device, key);
        self.count += 1;
    }

    fn records(&mut self, records: &Records) {
        let mut rest = records.records.as_slice();
        while !rest.is_empty() {
            let room = self.room_bytes();
            let (now, later) = rest.split_at(entry::fitting(rest, room));
            entry::write_records(&mut self.entries, records, now);
            self.count += 1;
            rest = later;
        }
    }

    /// Bytes left in this part, or in the next when this one is full.
    fn room_bytes(&mut self) -> usize {
        if self.entries.len() >= PART_FULL_BYTES {
            self.close();
        }
        PART_FULL_BYTES - self.entries.len()
    }

    fn close(&mut self) {
        let mut body = Vec::with_capacity(self.entries.len() + 9);
        infallible(Encoder::new(&mut body).array(self.count).map(drop));
        body.append(&mut self.entries);
        self.full.push(body);
        self.count = 0;
    }

    fn finish(mut self) -> Vec<Vec<u8>> {
        if self.count > 0 {
            self.close();
        }
        self.full
    }
}

/// A part's body behind its head.
fn seal(body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEAD_BYTES + body.len());
    value.extend_from_slice(MAGIC);
    value.push(VERSION);
    value.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    value.extend_from_slice(body);
    value
}

/// The entries of a part as `read` takes them, if its head and checksum are right.
fn unseal<T>(
    commit: Commit,
    value: &[u8],
    read: impl Fn(&mut Decoder<'_>) -> Result<T, String>,
) -> Result<Vec<T>, StoreError> {
    let fault = |fault: String| row_error("journal chunk", commit.0, fault);
    let body = checked_body(value).map_err(fault)?;
    let mut decoder = Decoder::new(body);
    let count = decoder.array().map_err(|error| fault(error.to_string()))?;
    let count = count.ok_or_else(|| fault("no definite array".to_owned()))?;
    (0..count)
        .map(|_| read(&mut decoder).map_err(fault))
        .collect()
}

fn checked_body(value: &[u8]) -> Result<&[u8], String> {
    let (magic, rest) = value
        .split_first_chunk::<4>()
        .ok_or("shorter than its head")?;
    let (version, rest) = rest.split_first().ok_or("shorter than its head")?;
    let (checksum, body) = rest
        .split_first_chunk::<4>()
        .ok_or("shorter than its head")?;
    if magic != MAGIC {
        return Err(format!("begins with {}, not SCJ1", magic.escape_ascii()));
    }
    if *version != VERSION {
        return Err(format!("version {version}, known is {VERSION}"));
    }
    let (stored, found) = (u32::from_le_bytes(*checksum), crc32fast::hash(body));
    if stored != found {
        return Err(format!("checksum is {found:08x}, should be {stored:08x}"));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::content::Content;
    use crate::store::memory;
    use protocol::key::{Boot, Epoch, Seq};
    use protocol::units::UtcMs;

    fn records(device: &str, count: u32) -> Entry {
        let stored = |seq| Stored {
            seq: Seq(seq),
            content: Content::from_stored(vec![seq as u8; CONTENT_MAX_BYTES]),
        };
        Entry::Records(Records {
            device: device.parse().unwrap(),
            epoch: Epoch(u64::MAX),
            boot: Boot(3),
            received_at: UtcMs::saturating(-1),
            qos: 1,
            oldest_pending: RecordKey::new(1, 2, 3),
            records: (0..count).map(stored).collect(),
        })
    }

    fn contested() -> Entry {
        Entry::Contested {
            device: "t".parse().unwrap(),
            key: RecordKey::new(4, 5, 6),
        }
    }

    fn append_to(store: &Store, commit: u64, entries: &[Entry]) {
        let mut batch = Batch::default();
        append(&mut batch, Commit(commit), entries).unwrap();
        store.apply(batch).unwrap();
    }

    fn commits(store: &Store, from: u64) -> Vec<u64> {
        let mut found = Vec::new();
        each(store, Commit(from), |chunk| {
            found.push(chunk.commit.0);
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        found
    }

    #[test]
    fn a_commit_larger_than_a_value_comes_back_whole() {
        let store = memory::store();
        let entries = [
            records("t-1", 64),
            contested(),
            records("t-2", 2_000),
            contested(),
        ];
        append_to(&store, 7, &entries);
        let chunk = chunk(&store, Commit(7)).unwrap().unwrap();
        assert!(chunk.parts > 1);
        assert_eq!(oldest(&store, 1).unwrap().first(), Some(&chunk));
        let mut joined: Vec<Entry> = Vec::new();
        for entry in chunk.entries {
            match (joined.last_mut(), entry) {
                (Some(Entry::Records(last)), Entry::Records(next))
                    if last.device == next.device =>
                {
                    last.records.extend(next.records);
                }
                (_, entry) => joined.push(entry),
            }
        }
        assert_eq!(joined, entries);
    }

    #[test]
    fn commits_come_in_order_from_the_one_asked_for_until_the_visitor_breaks() {
        let store = memory::store();
        for commit in [256, 3, 1] {
            append_to(&store, commit, &[records("t", 300)]);
        }
        append_to(&store, 300, &[]);
        let numbers = |records_max| -> Vec<u64> {
            let chunks = oldest(&store, records_max).unwrap();
            chunks.iter().map(|chunk| chunk.commit.0).collect()
        };
        assert_eq!(numbers(0), [1]);
        assert_eq!(numbers(300), [1]);
        assert_eq!(numbers(301), [1, 3]);
        assert_eq!(numbers(usize::MAX), [1, 3, 256]);
        assert_eq!(commits(&store, 0), [1, 3, 256]);
        assert_eq!(commits(&store, 2), [3, 256]);
        assert_eq!(store.newest_commit(), Commit(300));
        let mut first = None;
        each(&store, Commit(0), |chunk| {
            assert!(first.is_none());
            first = Some(chunk.commit);
            Ok(ControlFlow::Break(()))
        })
        .unwrap();
        assert_eq!(first, Some(Commit(1)));
    }

    #[test]
    fn a_folded_commit_is_gone_with_all_its_parts_and_the_cursor_has_moved() {
        let store = memory::store();
        append_to(&store, 1, &[records("t", 2_000)]);
        append_to(&store, 2, &[contested()]);
        let first = chunk(&store, Commit(1)).unwrap().unwrap();
        let mut batch = Batch::default();
        fold_taken(&mut batch, &first).unwrap();
        assert_eq!(store.newest_folded(), Commit(0));
        store.apply(batch).unwrap();
        assert_eq!(commits(&store, 0), [2]);
        assert_eq!(store.newest_folded(), Commit(1));
        assert_eq!(chunk(&store, Commit(1)).unwrap(), None);
    }

    #[test]
    fn every_damaged_byte_of_a_chunk_is_noticed() {
        let mut parts = Parts::default();
        parts.contested(&"t".parse().unwrap(), RecordKey::new(1, 2, 3));
        let body = parts.finish().remove(0);
        let value = seal(&body);
        assert_eq!(unseal(Commit(1), &value, entry::read).unwrap().len(), 1);
        for at in 0..value.len() {
            let mut damaged = value.clone();
            damaged[at] ^= 0x10;
            assert!(
                unseal(Commit(1), &damaged, entry::read).is_err(),
                "byte {at}"
            );
        }
        for length in 0..value.len() {
            assert!(
                unseal(Commit(1), &value[..length], entry::read).is_err(),
                "length {length}"
            );
        }
    }
}
