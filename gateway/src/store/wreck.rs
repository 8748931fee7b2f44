//! What a damaged log of sled still holds, read without sled.
//!
//! ```text
//! db       segments of 8 MiB, each: header 20 bytes, messages, padding
//! message  crc32 u32 LE  kind u8  length  segment number  page  body      (the three in the middle: varints)
//! node     next  merging child (varints)  merging u8  prefix length u8  lo  hi  0 u8  count  keys  values
//! link     0 u8  key  value            a row set             (keys lack the prefix that their page's keys share)
//!          1 u8  key                   a row removed
//! ```
//! Compression is not compiled in. Every message carries a checksum, so messages are found again behind a
//! damaged place. Applied in the order of their places in the endless log (segment number x segment size +
//! offset) they give the newest state of every page that still has a sound version. A page whose newest
//! version is lost goes back to an older one: rows may then be older, and removed rows may be back.

mod prefixes;
mod torn;

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::Path;

use self::prefixes::Prefixes;
use self::torn::TORN;
pub(super) use self::torn::{after_opening, before_opening};
use super::Row;
use super::sled::SEGMENT_BYTES;

/// Length of a segment's header, in bytes.
const SEGMENT_HEADER_BYTES: usize = 20;

/// Kinds of messages: from canceled to a link outside the log.
const KINDS: std::ops::RangeInclusive<u8> = 1..=11;
/// The rest of the segment is padding.
const CAP: u8 = 2;
const NODE: u8 = 8;
const LINK: u8 = 10;

/// Longest head of a message, in bytes.
const HEAD_MAX_BYTES: u64 = 32;

/// Piece of a segment that is tried when the whole cannot be read, in bytes: a page of the disk.
const PIECE_BYTES: usize = 4096;

/// Where a sound message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    /// Place in the endless log: its order.
    lsn: u64,
    /// Place of the body in the file.
    at: u64,
    bytes: usize,
    kind: u8,
    page: u64,
}

/// What a message did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// These rows, sealed as found, are all there is from `lo` up to `hi` (an empty one: to the end).
    Page {
        lo: Vec<u8>,
        hi: Vec<u8>,
        rows: Vec<Row>,
    },
    Set(Row),
    /// A row, sealed as found, of which nobody knows how old it is.
    Spare(Row),
    Remove(Vec<u8>),
    /// A row was found whose key cannot be told, or a place that should hold something and is not readable.
    Unplaced,
}

/// The sound messages of a log.
#[derive(Debug)]
pub(super) struct Wreck {
    /// The log, and what was kept of it before sled opened it.
    files: Vec<File>,
    found: Vec<(Found, usize)>,
    /// Places in the log that should hold messages and hold none that is sound.
    gaps: usize,
}

impl Wreck {
    /// Finds every sound message in the folder's log. Keeps 48 bytes of memory for each.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let mut files = vec![File::open(folder.join("db"))?];
        files.extend(File::open(folder.join(TORN)));
        let (mut all, mut gaps) = (Vec::new(), 0);
        for (number, file) in files.iter_mut().enumerate() {
            let bytes = file.metadata()?.len();
            let (mut found, mut segments) = (Vec::new(), Vec::new());
            for base in (0..bytes).step_by(SEGMENT_BYTES) {
                let left = usize::try_from(bytes - base);
                let length = left.map_or(SEGMENT_BYTES, |left| left.min(SEGMENT_BYTES));
                segments.push(find(&read_around(file, base, length), base, &mut found));
            }
            gaps = gaps.max(gaps_of(&segments));
            all.extend(found.into_iter().map(|found| (found, number)));
        }
        all.sort_unstable();
        all.dedup_by_key(|(found, _)| *found);
        Ok(Self {
            files,
            found: all,
            gaps,
        })
    }

    /// Visits what the messages did, in their order.
    pub(super) fn replay<E>(self, mut visit: impl FnMut(Change) -> Result<(), E>) -> Result<(), E> {
        self.replay_placed(|_, change| visit(change))
    }

    /// The same, with the place of each message in the file.
    pub(super) fn replay_placed<E>(
        mut self,
        mut visit: impl FnMut(Range<u64>, Change) -> Result<(), E>,
    ) -> Result<(), E> {
        for _ in 0..self.gaps {
            visit(0..0, Change::Unplaced)?;
        }
        let mut prefixes = Prefixes::default();
        for (message, number) in &self.found {
            let Some(file) = self.files.get_mut(*number) else {
                continue;
            };
            let body = read_around(file, message.at, message.bytes);
            let change = match message.kind {
                NODE => node(&body, message.page, &mut prefixes),
                _ => link(&body, message.page, &mut prefixes),
            };
            if let Some(change) = change {
                let end = message.at + message.bytes as u64;
                visit(message.at.saturating_sub(HEAD_MAX_BYTES)..end, change)?;
            }
        }
        Ok(())
    }
}

/// `length` bytes from `at` on; what cannot be read is zero.
fn read_around(file: &mut File, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut fill = |at: u64, part: &mut [u8]| {
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(part)
    };
    if fill(at, &mut bytes).is_err() {
        let mut place = at;
        for part in bytes.chunks_mut(PIECE_BYTES) {
            if fill(place, part).is_err() {
                part.fill(0);
            }
            place += part.len() as u64;
        }
    }
    bytes
}

/// What the messages of a segment say of it.
#[derive(Default)]
struct Scanned {
    /// Its number in the endless log.
    number: Option<u64>,
    /// Stretches between its messages that hold none that is sound.
    gaps: usize,
    /// Whether its last message was found, behind which there is padding.
    sealed: bool,
}

/// The gaps of all segments; one that was not sealed has another at its end, unless it is the newest.
fn gaps_of(segments: &[Scanned]) -> usize {
    let newest = segments.iter().filter_map(|segment| segment.number).max();
    let gaps = |segment: &Scanned| {
        let open = !segment.sealed && segment.number < newest;
        segment.gaps + usize::from(open && segment.number.is_some())
    };
    segments.iter().map(gaps).sum()
}

/// Notes the sound nodes and links of a segment.
fn find(segment: &[u8], base: u64, found: &mut Vec<Found>) -> Scanned {
    let mut scanned = Scanned::default();
    let (mut at, mut behind) = (SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES);
    while let Some(rest) = segment.get(at..).filter(|rest| !rest.is_empty()) {
        let Some((head, message)) = message(rest) else {
            at += 1;
            continue;
        };
        if matches!(message.kind, NODE | LINK) {
            found.push(Found {
                lsn: message
                    .segment
                    .saturating_mul(SEGMENT_BYTES as u64)
                    .saturating_add(at as u64),
                at: base + (at + head) as u64,
                bytes: message.bytes,
                kind: message.kind,
                page: message.page,
            });
        }
        // Behind a torn end the messages of an earlier use of the segment can follow.
        let number = *scanned.number.get_or_insert(message.segment);
        if number == message.segment && !scanned.sealed {
            scanned.gaps += usize::from(at > behind);
            scanned.sealed = message.kind == CAP;
        }
        at += head + message.bytes;
        behind = at;
    }
    scanned
}

struct Message {
    kind: u8,
    bytes: usize,
    segment: u64,
    page: u64,
}

/// The message at the start of `bytes`, if it is sound, and the length of its head.
fn message(bytes: &[u8]) -> Option<(usize, Message)> {
    let (checksum, mut rest) = bytes.split_first_chunk::<4>()?;
    let kind = byte(&mut rest)?;
    if !KINDS.contains(&kind) {
        return None;
    }
    let length = usize::try_from(varint(&mut rest)?).ok()?;
    let (segment, page) = (varint(&mut rest)?, varint(&mut rest)?);
    let body = rest.get(..length)?;
    let head = bytes.len() - rest.len();
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(bytes.get(4..head)?);
    let sound = hasher.finalize() ^ u32::MAX == u32::from_le_bytes(*checksum);
    sound.then_some((
        head,
        Message {
            kind,
            bytes: length,
            segment,
            page,
        },
    ))
}

/// A leaf; nodes above the leaves hold no rows.
fn node(mut body: &[u8], page: u64, prefixes: &mut Prefixes) -> Option<Change> {
    let rest = &mut body;
    let (_next, _merging_child, _merging) = (varint(rest)?, varint(rest)?, byte(rest)?);
    let prefix_bytes = usize::from(byte(rest)?);
    let (lo, hi) = (text(rest)?, text(rest)?);
    if byte(rest)? != 0 {
        return None;
    }
    let count = varint(rest)?;
    let prefix = lo.get(..prefix_bytes)?;
    let keys: Option<Vec<_>> = (0..count).map(|_| text(rest)).collect();
    let values: Option<Vec<_>> = (0..count).map(|_| text(rest)).collect();
    prefixes.note(page, prefix);
    let rows = keys?.into_iter().zip(values?);
    let rows: Vec<Row> = rows
        .map(|(key, value)| ([prefix, key].concat(), value.to_vec()))
        .collect();
    rows.iter().for_each(|(key, _)| prefixes.note_key(key));
    Some(Change::Page {
        lo: lo.to_vec(),
        hi: hi.to_vec(),
        rows,
    })
}

fn link(mut body: &[u8], page: u64, prefixes: &mut Prefixes) -> Option<Change> {
    let rest = &mut body;
    let (kind, short) = (byte(rest)?, text(rest)?);
    match kind {
        0 => {
            let value = text(rest)?.to_vec();
            Some(match prefixes.placed(page, short, &value) {
                Some(key) => {
                    prefixes.note_key(&key);
                    Change::Set((key, value))
                }
                None => Change::Unplaced,
            })
        }
        1 => {
            let prefix = prefixes.of_pages.get(&page)?;
            Some(Change::Remove([prefix, short].concat()))
        }
        _ => None,
    }
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (first, behind) = rest.split_first()?;
    *rest = behind;
    Some(*first)
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (taken, behind) = rest.split_at_checked(bytes)?;
    *rest = behind;
    Some(taken)
}

/// Bytes behind their length.
fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let bytes = usize::try_from(varint(rest)?).ok()?;
    take(rest, bytes)
}

/// sled's variable length integers: up to 240 in one byte, larger ones behind a byte that tells the length.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let first = byte(rest)?;
    Some(match first {
        0..=240 => u64::from(first),
        241..=248 => 240 + 256 * (u64::from(first) - 241) + u64::from(byte(rest)?),
        249 => 2288 + 256 * u64::from(byte(rest)?) + u64::from(byte(rest)?),
        250..=255 => {
            let bytes = take(rest, usize::from(first) - 247)?;
            let mut number = [0; 8];
            number.get_mut(..bytes.len())?.copy_from_slice(bytes);
            u64::from_le_bytes(number)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_sled_writes_them() {
        for (bytes, number) in [
            (&[240][..], 240),
            (&[241, 0], 240),
            (&[248, 255], 2_287),
            (&[249, 0, 0], 2_288),
            (&[250, 0xF0, 0x08, 0x01], 67_824),
            (&[255, 1, 2, 3, 4, 5, 6, 7, 8], 0x0807_0605_0403_0201),
        ] {
            let mut rest = bytes;
            assert_eq!(varint(&mut rest), Some(number));
            assert!(rest.is_empty());
        }
        assert_eq!(varint(&mut &[255, 1][..]), None);
    }
}
