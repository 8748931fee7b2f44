//! A run: records of one boot with numbers close to each other, in one row of the history.
//!
//! ```text
//! value:  2  then for each record, in the order of their numbers, CBOR:
//!   gap u32        numbers left out since the record before; the first has the number of the row's key
//!   how u8         0: the key is contested, and nothing follows; else 1 + quality of service
//!   received i64   milliseconds from the reception of the record before; of the first one, since 1970
//!   content bytes
//! ```
//! All numbers of a row lie in one window of [`WINDOW_NUMBERS`]. So whoever looks for a record need not
//! look farther back than the start of its window, whatever rows there are.

use core::convert::Infallible;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use minicbor::encode::Error as Unwritten;
use minicbor::{Decoder, Encoder};
use protocol::key::{RecordKey, Seq};
use protocol::units::UtcMs;

use super::content::Content;
use super::entry::infallible;
use super::history::{Kept, Known};

/// First byte of a run.
pub(super) const RUN: u8 = 2;

/// Numbers of a window. With the longest contents a run of all of them takes 26 KB of the 64 KiB that a
/// value may have; with usual ones 6 KB, so that sled's leaves of some 17 values stay below 100 KB.
pub(super) const WINDOW_NUMBERS: u32 = 128;

/// What a row holds, by key.
pub(super) type Entries = BTreeMap<RecordKey, Kept>;

/// The lowest key of the window of `key`.
pub(super) const fn window(key: RecordKey) -> RecordKey {
    RecordKey {
        seq: Seq(key.seq.0 - key.seq.0 % WINDOW_NUMBERS),
        ..key
    }
}

/// Puts `kept` among `entries`: what is contested stays so.
pub(super) fn merge(entries: &mut Entries, key: RecordKey, kept: Kept) {
    match entries.entry(key) {
        Entry::Vacant(place) => drop(place.insert(kept)),
        Entry::Occupied(mut held) if kept == Kept::Contested => drop(held.insert(kept)),
        Entry::Occupied(_) => {}
    }
}

/// The value of a row of entries in key order.
pub(super) fn encode<'k>(entries: impl Iterator<Item = (RecordKey, &'k Kept)>) -> Vec<u8> {
    let mut value = vec![RUN];
    let mut encoder = Encoder::new(&mut value);
    let mut place = None;
    for (key, kept) in entries {
        infallible(write(&mut encoder, &mut place, key.seq, kept));
    }
    value
}

/// Number and reception of the record before.
type Place = Option<(Seq, i64)>;

fn write(
    encoder: &mut Encoder<&mut Vec<u8>>,
    place: &mut Place,
    seq: Seq,
    kept: &Kept,
) -> Result<(), Unwritten<Infallible>> {
    let (next, mut received) = place.map_or((seq.0, 0), |(last, at)| (last.0 + 1, at));
    encoder.u32(seq.0 - next)?;
    match kept {
        Kept::Contested => drop(encoder.u8(0)?),
        Kept::Known(known) => {
            let at = known.received_at.get();
            encoder.u8(known.qos.saturating_add(1))?;
            encoder.i64(at.wrapping_sub(received))?;
            encoder.bytes(known.content.bytes())?;
            received = at;
        }
    }
    *place = Some((seq, received));
    Ok(())
}

/// What the run under the key `first` holds, behind the byte that says it is one; `None` when it is no run.
pub(super) fn decode(first: RecordKey, bytes: &[u8]) -> Option<Vec<(RecordKey, Kept)>> {
    let mut decoder = Decoder::new(bytes);
    let mut entries = Vec::new();
    let mut place: Place = None;
    while decoder.position() < bytes.len() {
        let (next, received) = match place {
            Some((last, received)) => (last.0.checked_add(1)?, received),
            None => (first.seq.0, 0),
        };
        let seq = Seq(next.checked_add(decoder.u32().ok()?)?);
        let key = RecordKey { seq, ..first };
        let (kept, received) = match decoder.u8().ok()?.checked_sub(1) {
            None => (Kept::Contested, received),
            Some(qos) => {
                let received = received.wrapping_add(decoder.i64().ok()?);
                let content = Content::from_stored(decoder.bytes().ok()?.to_vec());
                let known = Known {
                    received_at: UtcMs::saturating(received),
                    qos,
                    content,
                };
                (Kept::Known(known), received)
            }
        };
        entries.push((key, kept));
        place = Some((seq, received));
    }
    let last = place?.0;
    let of_one_window = window(RecordKey { seq: last, ..first }) == window(first);
    of_one_window.then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::VALUE_MAX_BYTES;
    use crate::store::content::CONTENT_MAX_BYTES;

    fn known(received_ms: i64, qos: u8, length: usize) -> Kept {
        Kept::Known(Known {
            received_at: UtcMs::saturating(received_ms),
            qos,
            content: Content::from_stored(vec![qos; length]),
        })
    }

    fn key(seq: u32) -> RecordKey {
        RecordKey::new(7, 3, seq)
    }

    fn value(entries: &Entries) -> Vec<u8> {
        encode(entries.iter().map(|(key, kept)| (*key, kept)))
    }

    fn back(entries: &Entries) -> Option<Entries> {
        let value = value(entries);
        let first = entries.keys().next().unwrap();
        Some(decode(*first, &value[1..])?.into_iter().collect())
    }

    #[test]
    fn runs_with_gaps_and_contested_keys_at_any_place_come_back() {
        let last = u32::MAX - WINDOW_NUMBERS + 1;
        for start in [0, WINDOW_NUMBERS, last] {
            let entries = Entries::from([
                (key(start), Kept::Contested),
                (key(start + 1), known(-5, 0, 3)),
                (key(start + 2), known(i64::MAX, 2, 0)),
                (key(start + 9), Kept::Contested),
                (key(start + (WINDOW_NUMBERS - 1)), known(i64::MIN, 1, 30)),
            ]);
            assert_eq!(back(&entries).as_ref(), Some(&entries));
        }
    }

    #[test]
    fn the_longest_run_fits_a_value() {
        let numbers = 0..WINDOW_NUMBERS;
        let far_apart = |seq| i64::from(seq % 2) * 4_000_000_000_000;
        let entries: Entries = numbers
            .map(|seq| (key(seq), known(far_apart(seq), 1, CONTENT_MAX_BYTES)))
            .collect();
        assert!(value(&entries).len() <= VALUE_MAX_BYTES);
        assert_eq!(back(&entries).as_ref(), Some(&entries));
    }

    #[test]
    fn what_is_no_run_is_refused() {
        let entries = Entries::from([(key(1), known(9, 1, 3)), (key(5), known(8, 1, 3))]);
        let value = value(&entries);
        assert_eq!(decode(key(1), &[]), None, "a run of nothing");
        for length in 2..value.len() {
            let cut = decode(key(1), &value[1..length]);
            assert!(
                cut.is_none_or(|found| found.len() == 1),
                "cut to {length} bytes"
            );
        }
        // Under another key it would reach beyond its window.
        assert_eq!(decode(key(WINDOW_NUMBERS - 2), &value[1..]), None);
        assert_eq!(decode(key(u32::MAX), &value[1..]), None);
    }

    #[test]
    fn a_contested_key_stays_contested_whatever_else_is_said_of_it() {
        let mut entries = Entries::from([(key(1), known(9, 1, 3))]);
        merge(&mut entries, key(1), Kept::Contested);
        merge(&mut entries, key(1), known(9, 1, 3));
        assert_eq!(entries, Entries::from([(key(1), Kept::Contested)]));
    }
}
