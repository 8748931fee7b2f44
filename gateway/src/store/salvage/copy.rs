//! The rows that check, as the files of a damaged store give them, one change after the other.

use std::collections::BTreeMap;
use std::io;

use ciborium::Value;

use super::super::key::{Key, Kind};
use super::super::wreck::Change;
use super::super::{
    Batch, Commit, Engine, Order, PAGE_MAX_ROWS, Row, Span, damage, history, successor,
};

/// Where rows go.
pub(super) trait Hold {
    fn write(&mut self, batch: Batch) -> io::Result<()>;

    /// The value of a row, checksum behind; `None` when there is none, or when values are not kept.
    fn value(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// The keys from `from` until `until` (`None`: to the end), at most [`PAGE_MAX_ROWS`].
    fn keys(&self, from: &[u8], until: Option<&[u8]>) -> io::Result<Vec<Vec<u8>>>;
}

impl Hold for Box<dyn Engine> {
    fn write(&mut self, batch: Batch) -> io::Result<()> {
        self.apply(&batch).map_err(io::Error::other)
    }

    fn value(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Engine::value(&**self, key).map_err(io::Error::other)
    }

    fn keys(&self, from: &[u8], until: Option<&[u8]>) -> io::Result<Vec<Vec<u8>>> {
        let span = Span {
            from: from.to_vec(),
            until: until.map(<[u8]>::to_vec),
            order: Order::Ascending,
            limit_rows: PAGE_MAX_ROWS,
        };
        let rows = self.scan(&span).map_err(io::Error::other)?;
        Ok(rows.into_iter().map(|(key, _)| key).collect())
    }
}

/// Only the keys, and the values of cursors: what a survey needs.
#[derive(Debug, Default)]
pub(super) struct Listing(BTreeMap<Vec<u8>, Vec<u8>>);

impl Hold for Listing {
    fn write(&mut self, batch: Batch) -> io::Result<()> {
        for (key, sealed) in batch.writes {
            match sealed {
                Some(sealed) if is(Kind::Meta, &key) => drop(self.0.insert(key, sealed)),
                Some(_) => drop(self.0.insert(key, Vec::new())),
                None => drop(self.0.remove(&key)),
            }
        }
        Ok(())
    }

    fn value(&self, _: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn keys(&self, from: &[u8], until: Option<&[u8]>) -> io::Result<Vec<Vec<u8>>> {
        let behind = self.0.range(from.to_vec()..).map(|(key, _)| key);
        let within = behind.take_while(|key| until.is_none_or(|until| key.as_slice() < until));
        Ok(within.take(PAGE_MAX_ROWS).cloned().collect())
    }
}

impl Listing {
    pub(super) fn rows_by_kind(&self) -> BTreeMap<String, u64> {
        let mut rows = BTreeMap::new();
        for key in self.0.keys() {
            let letter = key.first().copied().map(char::from).unwrap_or_default();
            *rows.entry(letter.to_string()).or_default() += 1;
        }
        rows
    }

    /// Newest commit of which a chunk or the cursors know.
    pub(super) fn newest_commit(&self) -> Commit {
        let journal = Key::of(Kind::Journal);
        let behind = journal.after_all().unwrap_or_default();
        let last = self.0.range(journal.bytes().to_vec()..behind).next_back();
        let number = last.and_then(|(key, _)| key.get(2..)?.first_chunk::<8>());
        let chunk = number.map_or(0, |number| u64::from_be_bytes(*number));
        let cursor = |name: &str| {
            let key = Key::of(Kind::Meta).tail(name).into_bytes();
            let sealed = self.0.get(&key)?.clone();
            let value = damage::unseal(&key, sealed).ok()?;
            ciborium::from_reader::<u64, _>(value.as_slice()).ok()
        };
        let cursors = ["commit", "folded"].map(|name| cursor(name).unwrap_or_default());
        Commit(cursors.into_iter().fold(chunk, u64::max))
    }
}

/// What is filled with the rows that check.
pub(super) struct Copy<H> {
    hold: H,
    damaged: u64,
    /// Of each cursor the version that is furthest on: all of them only ever rise.
    furthest: BTreeMap<Vec<u8>, (u128, Vec<u8>)>,
}

impl<H: Hold> Copy<H> {
    pub(super) const fn new(hold: H) -> Self {
        Self {
            hold,
            damaged: 0,
            furthest: BTreeMap::new(),
        }
    }

    pub(super) fn take(&mut self, change: Change) -> io::Result<()> {
        let mut batch = Batch::default();
        match change {
            Change::Page { lo, hi, rows } => {
                self.clear(&mut batch, lo, hi)?;
                rows.into_iter().for_each(|row| self.keep(&mut batch, row));
            }
            Change::Set(row) => self.keep(&mut batch, row),
            Change::Spare(row) => self.keep_spare(&mut batch, row)?,
            Change::Remove(key) => drop(batch.writes.insert(key, None)),
            Change::Unplaced => self.damaged += 1,
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.hold.write(batch)
    }

    /// What was filled, and how many versions of rows did not check.
    pub(super) fn finish(mut self) -> io::Result<(H, u64)> {
        let mut batch = Batch::default();
        let cursors = std::mem::take(&mut self.furthest).into_iter();
        let cursors = cursors.map(|(key, (_, sealed))| (key, Some(sealed)));
        batch.writes.extend(cursors);
        self.hold.write(batch)?;
        Ok((self.hold, self.damaged))
    }

    fn keep(&mut self, batch: &mut Batch, (key, sealed): Row) {
        let Ok(value) = damage::unseal(&key, sealed.clone()) else {
            self.damaged += 1;
            return;
        };
        // Checkpoints may be older than the records, and then their verdict is not that of the records.
        if is(Kind::Fold, &key) {
            return;
        }
        if is(Kind::Meta, &key) {
            let reached = reached(&value);
            let known = self.furthest.get(&key);
            if known.is_none_or(|(known, _)| *known <= reached) {
                self.furthest.insert(key, (reached, sealed));
            }
            return;
        }
        batch.writes.insert(key, Some(sealed));
    }

    /// Keeps a row of which nobody knows how old it is, where there is none. Only rows that never change come this
    /// way, and rows of the history, which only grow: of those the versions are put together.
    fn keep_spare(&mut self, batch: &mut Batch, (key, sealed): Row) -> io::Result<()> {
        if is(Kind::History, &key)
            && let Some(there) = self.hold.value(&key)?
        {
            batch.append(merged(&key, &there, &sealed).unwrap_or_default());
            return Ok(());
        }
        let there = self.hold.keys(&key, Some(&successor(&key)))?;
        if there.is_empty() || is(Kind::Meta, &key) {
            self.keep(batch, (key, sealed));
        }
        Ok(())
    }

    /// Removes what a page held before.
    fn clear(&self, batch: &mut Batch, lo: Vec<u8>, hi: Vec<u8>) -> io::Result<()> {
        let until = (!hi.is_empty()).then_some(hi.as_slice());
        let mut from = lo;
        loop {
            let keys = self.hold.keys(&from, until)?;
            let Some(last) = keys.last() else {
                return Ok(());
            };
            from = successor(last);
            batch.writes.extend(keys.into_iter().map(|key| (key, None)));
        }
    }
}

/// The row of the history that holds what both versions hold, if that is more than the first does.
fn merged(key: &[u8], there: &[u8], spare: &[u8]) -> Option<Batch> {
    let rest = key.strip_prefix(Key::of(Kind::History).bytes())?;
    let [one, other] = [there, spare].map(|sealed| damage::unseal(key, sealed.to_vec()).ok());
    let batch = history::merge_versions(rest, &one?, &other?).ok()?;
    let changed = batch
        .writes
        .values()
        .any(|row| row.as_deref() != Some(there));
    changed.then_some(batch)
}

fn is(kind: Kind, key: &[u8]) -> bool {
    key.starts_with(Key::of(kind).bytes())
}

/// How far on a cursor or a counter is: the sum of its numbers.
fn reached(value: &[u8]) -> u128 {
    fn sum(value: &Value) -> u128 {
        match value {
            Value::Integer(number) => u128::try_from(i128::from(*number)).unwrap_or_default(),
            Value::Array(parts) => parts.iter().map(sum).sum(),
            Value::Map(parts) => parts.iter().map(|(_, part)| sum(part)).sum(),
            _ => 0,
        }
    }
    ciborium::from_reader(value).map_or(0, |value| sum(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(key: &[u8], value: &[u8]) -> Row {
        (key.to_vec(), damage::seal(key, value.to_vec()))
    }

    fn number(number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(&number, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_cursor_never_goes_back_whichever_version_is_found_last() {
        let mut copy = Copy::new(Listing::default());
        for reached in [3, 7, 5] {
            let row = sealed(b"m|commit", &number(reached));
            copy.take(Change::Set(row)).unwrap();
        }
        let (lo, hi) = (b"m|".to_vec(), b"n".to_vec());
        let rows = vec![sealed(b"m|commit", &number(6))];
        copy.take(Change::Page { lo, hi, rows }).unwrap();
        let (listing, damaged) = copy.finish().unwrap();
        assert_eq!((listing.newest_commit(), damaged), (Commit(7), 0));
    }

    #[test]
    fn a_spare_row_fills_a_gap_and_replaces_nothing() {
        let mut copy = Copy::new(Listing::default());
        copy.take(Change::Set(sealed(b"j|1", b"new"))).unwrap();
        copy.take(Change::Spare(sealed(b"j|1", b"old"))).unwrap();
        copy.take(Change::Spare(sealed(b"j|2", b"old"))).unwrap();
        let mut wrong = sealed(b"j|3", b"old");
        wrong.1[0] ^= 1;
        copy.take(Change::Spare(wrong)).unwrap();
        let (listing, damaged) = copy.finish().unwrap();
        let keys: Vec<_> = listing.0.keys().map(Vec::as_slice).collect();
        assert_eq!((keys, damaged), (vec![&b"j|1"[..], b"j|2"], 1));
    }
}
