//! Which records the journal holds, newest first, without what they say.
//!
//! Whoever only wants to know where records are reads this: neither the contents nor their numbers are
//! kept one by one, so that a journal of millions of records is gone through in the time of reading it.

use protocol::key::Seq;

use super::{split, unseal};
use crate::store::entry;
use crate::store::key::{Key, Kind};
use crate::store::seen::{BootId, Run};
use crate::store::{Commit, Order, Span, Store, StoreError};

/// What an entry of a commit is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// New records of one payload, in the order of the entry.
    Records {
        /// Whose.
        boot: BootId,
        /// Their numbers, as runs.
        runs: Vec<Run>,
    },
    /// The word that a key is contested.
    Contested {
        /// Whose.
        boot: BootId,
        /// Which.
        seq: Seq,
    },
}

/// The lines of one row of the journal: a commit, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Which commit.
    pub commit: Commit,
    /// Its entries, in their order.
    pub lines: Vec<Line>,
}

/// A walk through the journal, from the newest commit of when it began to the oldest.
#[derive(Debug)]
pub struct Backwards {
    /// Everything before this key is still to come.
    until: Vec<u8>,
}

impl Backwards {
    /// Begins behind the newest commit applied.
    #[must_use]
    pub fn from_newest(store: &Store) -> Self {
        let behind = store.newest_commit().0.saturating_add(1);
        Self {
            until: Key::of(Kind::Journal).u64(behind).into_bytes(),
        }
    }

    /// The next rows, at most `limit_rows`, newest first; fewer only at the end. What the fold takes
    /// meanwhile is not seen.
    ///
    /// # Errors
    /// When one cannot be read or is damaged.
    pub fn next(&mut self, store: &Store, limit_rows: usize) -> Result<Vec<Outline>, StoreError> {
        let prefix = Key::of(Kind::Journal);
        let rows = store.scan(&Span {
            from: prefix.bytes().to_vec(),
            until: Some(self.until.clone()),
            order: Order::Descending,
            limit_rows,
        })?;
        if let Some((last, _)) = rows.last() {
            self.until.clone_from(last);
        }
        let outline = |(key, value): &(Vec<u8>, Vec<u8>)| {
            let rest = key.strip_prefix(prefix.bytes()).unwrap_or_default();
            let (commit, _) = split(rest)?;
            let lines = unseal(commit, value, entry::outline)?;
            Ok(Outline { commit, lines })
        };
        rows.iter().map(outline).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::content::{CONTENT_MAX_BYTES, Content};
    use crate::store::journal::{self, Entry, Records, Stored};
    use crate::store::{Batch, memory};
    use protocol::key::{Boot, Epoch, RecordKey};
    use protocol::units::UtcMs;

    fn boot() -> BootId {
        BootId {
            device: "t-1".parse().unwrap(),
            epoch: Epoch(u64::MAX),
            boot: Boot(3),
        }
    }

    fn records(seqs: impl IntoIterator<Item = u32>) -> Entry {
        let BootId {
            device,
            epoch,
            boot,
        } = boot();
        let stored = |seq| Stored {
            seq: Seq(seq),
            content: Content::from_stored(vec![7; CONTENT_MAX_BYTES]),
        };
        Entry::Records(Records {
            device,
            epoch,
            boot,
            received_at: UtcMs::saturating(-1),
            qos: 1,
            oldest_pending: RecordKey::new(1, 2, 3),
            records: seqs.into_iter().map(stored).collect(),
        })
    }

    fn numbers(lines: &[Line]) -> Vec<u32> {
        let mut found = Vec::new();
        for line in lines {
            match line {
                Line::Records { runs, .. } => runs
                    .iter()
                    .for_each(|run| found.extend(run.first.0..=run.last.0)),
                Line::Contested { seq, .. } => found.push(seq.0),
            }
        }
        found
    }

    #[test]
    fn the_walk_goes_from_the_newest_part_to_the_oldest_and_names_every_record_once() {
        let store = memory::store();
        let contested = Entry::Contested {
            device: boot().device,
            key: RecordKey::new(u64::MAX, 3, 7),
        };
        let commits = [
            (1, vec![records([7, 8, 9, 20, 4])]),
            (2, vec![records(100..1_500), contested, records([5])]),
            (256, vec![records([u32::MAX])]),
        ];
        for (commit, entries) in &commits {
            let mut batch = Batch::default();
            journal::append(&mut batch, Commit(*commit), entries).unwrap();
            store.apply(batch).unwrap();
        }
        let mut walk = Backwards::from_newest(&store);
        let mut rows = Vec::new();
        loop {
            let step = walk.next(&store, 2).unwrap();
            let last = step.len() < 2;
            rows.extend(step);
            if last {
                break;
            }
        }
        let order: Vec<u64> = rows.iter().map(|row| row.commit.0).collect();
        assert!(order.is_sorted_by(|one, next| one >= next), "{order:?}");
        assert!(order.len() > 4, "commit 2 has several parts: {order:?}");
        rows.reverse();
        let of = |commit| {
            let of = rows.iter().filter(|row| row.commit == Commit(commit));
            of.flat_map(|row| numbers(&row.lines)).collect::<Vec<_>>()
        };
        assert_eq!(of(1), [7, 8, 9, 20, 4]);
        assert_eq!(of(2), (100..1_500).chain([7, 5]).collect::<Vec<_>>());
        assert_eq!(of(256), [u32::MAX]);
        let first = rows.first().unwrap();
        assert!(
            matches!(&first.lines[..], [Line::Records { runs, .. }] if runs.len() == 3),
            "{first:?}"
        );
    }
}
