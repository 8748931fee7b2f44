//! Where the records are that the fold has not taken yet: in the journal, or in the open group.
//!
//! The history has a record only after the fold took it. Until then a duplicate is compared with the
//! journal, and this index says with which commit. Its size is the fold's lag, which
//! [`super::commit::UNFOLDED_MAX_RECORDS`] bounds.
//!
//! A start does not wait for it. New records need no index, so what the journal held before is noted
//! step by step between groups, newest first: what a device sends again is most often what it sent last. A
//! key that was seen and is not in the index yet has it completed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use protocol::key::Seq;

use crate::store::content::Content;
use crate::store::journal::outline::{Backwards, Line, Outline};
use crate::store::journal::{self, Chunk, Entry};
use crate::store::seen::{BootId, Run};
use crate::store::{Commit, Store, StoreError};

/// Rows of the journal noted in one step: some milliseconds. Tests take one at a time.
const STEP_ROWS: usize = if cfg!(test) { 1 } else { 64 };

/// Where a record is, or that its key is contested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In this commit, at this index of its entries and of the entry's records, as long as it is open.
    At {
        commit: Commit,
        entry: usize,
        record: usize,
    },
    /// This commit holds the word that the key is contested.
    Contested { commit: Commit },
}

impl Place {
    const fn commit(self) -> Commit {
        match self {
            Self::At { commit, .. } | Self::Contested { commit } => commit,
        }
    }

    /// The place of the record `behind` this one in its entry.
    fn behind(self, numbers: u32) -> Self {
        match self {
            Self::At {
                commit,
                entry,
                record,
            } => Self::At {
                commit,
                entry,
                record: record.saturating_add(numbers as usize),
            },
            Self::Contested { .. } => self,
        }
    }
}

/// Records with consecutive numbers that lie behind each other in one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    last: Seq,
    /// Of the first one.
    place: Place,
}

/// The stretches of a boot, by their first number. They do not overlap.
struct Boot {
    id: Arc<BootId>,
    stretches: BTreeMap<Seq, Stretch>,
}

/// What a commit put into the index.
#[derive(Default)]
struct Noted {
    records: usize,
    stretches: Vec<(Arc<BootId>, Seq)>,
}

/// The index.
pub(super) struct Unfolded {
    boots: HashMap<Arc<BootId>, Boot>,
    /// What each commit put into it, oldest first.
    commits: VecDeque<(Commit, Noted)>,
    open: Noted,
    records: usize,
    /// What the journal held at the start and is not noted yet.
    before: Option<Backwards>,
    /// The chunk read last: a batch that comes again is compared with one chunk.
    last_read: Option<Chunk>,
}

impl Unfolded {
    /// The index of what the journal holds; [`Unfolded::step`] fills it.
    pub(super) fn of(store: &Store) -> Self {
        Self {
            boots: HashMap::new(),
            commits: VecDeque::new(),
            open: Noted::default(),
            records: 0,
            before: Some(Backwards::from_newest(store)),
            last_read: None,
        }
    }

    /// Notes some more of what the journal held at the start. Returns whether there may be more.
    pub(super) fn step(&mut self, store: &Store) -> Result<bool, StoreError> {
        let Some(before) = &mut self.before else {
            return Ok(false);
        };
        let rows = before.next(store, STEP_ROWS)?;
        let more = rows.len() == STEP_ROWS;
        for row in rows {
            self.note_older(&row);
        }
        if !more {
            self.before = None;
        }
        Ok(more)
    }

    /// Records in the index.
    pub(super) const fn records(&self) -> usize {
        self.records
    }

    /// Notes where a record of the open group is.
    pub(super) fn note(&mut self, id: &BootId, seq: Seq, place: Place) {
        self.records += 1;
        self.open.records += 1;
        let boot = boot_mut(&mut self.boots, id);
        match boot.covering(seq) {
            None if boot.lengthen(seq, place) => return,
            None => {}
            Some(first) => {
                if let Some((commit, behind)) = boot.cut(first, seq) {
                    let noted = (Arc::clone(&boot.id), behind);
                    match noted_in(&mut self.commits, commit) {
                        Some(of) => of.stretches.push(noted),
                        None => self.open.stretches.push(noted),
                    }
                }
            }
        }
        boot.stretches.insert(seq, Stretch { last: seq, place });
        self.open.stretches.push((Arc::clone(&boot.id), seq));
    }

    /// The open group became a commit.
    pub(super) fn close(&mut self, commit: Commit) {
        if self.open.records > 0 {
            self.commits
                .push_back((commit, std::mem::take(&mut self.open)));
        }
    }

    /// The fold has taken everything up to `folded`; the history knows those records now.
    pub(super) fn forget(&mut self, folded: Commit) {
        while self
            .commits
            .front()
            .is_some_and(|(commit, _)| *commit <= folded)
            && let Some((commit, noted)) = self.commits.pop_front()
        {
            self.records -= noted.records;
            for (id, first) in noted.stretches {
                self.forget_stretch(&id, first, commit);
            }
        }
    }

    /// Where the record is, if the fold has not taken it. Notes more of the journal until it is found.
    pub(super) fn place(
        &mut self,
        store: &Store,
        id: &BootId,
        seq: Seq,
    ) -> Result<Option<Place>, StoreError> {
        loop {
            if let Some(place) = self.noted(id, seq) {
                return Ok(Some(place));
            }
            if !self.step(store)? {
                return Ok(self.noted(id, seq));
            }
        }
    }

    /// The content of a record in a commit that is closed; `None` when the fold took it meanwhile.
    pub(super) fn read(
        &mut self,
        store: &Store,
        commit: Commit,
        boot: &BootId,
        seq: Seq,
    ) -> Result<Option<Content>, StoreError> {
        if self
            .last_read
            .as_ref()
            .is_none_or(|chunk| chunk.commit != commit)
        {
            self.last_read = journal::chunk(store, commit)?;
        }
        let found = self
            .last_read
            .as_ref()
            .and_then(|chunk| find(chunk, boot, seq));
        Ok(found.cloned())
    }

    fn noted(&self, id: &BootId, seq: Seq) -> Option<Place> {
        let boot = self.boots.get(id)?;
        let first = boot.covering(seq)?;
        let stretch = boot.stretches.get(&first)?;
        Some(stretch.place.behind(seq.0 - first.0))
    }

    fn forget_stretch(&mut self, id: &Arc<BootId>, first: Seq, commit: Commit) {
        let Some(boot) = self.boots.get_mut(id) else {
            return;
        };
        // A later commit may have contested the key; its word stays.
        if boot
            .stretches
            .get(&first)
            .is_some_and(|stretch| stretch.place.commit() == commit)
        {
            boot.stretches.remove(&first);
        }
        if boot.stretches.is_empty() {
            self.boots.remove(id);
        }
    }

    /// Notes a row that is older than everything noted so far: what is there stays.
    fn note_older(&mut self, row: &Outline) {
        let commit = row.commit;
        let mut noted = match self.commits.pop_front() {
            Some((oldest, noted)) if oldest == commit => noted,
            other => {
                other
                    .into_iter()
                    .for_each(|other| self.commits.push_front(other));
                Noted::default()
            }
        };
        let records = noted.records;
        for (entry, line) in row.lines.iter().enumerate().rev() {
            match line {
                Line::Contested { boot, seq } => {
                    let place = Place::Contested { commit };
                    let run = Run {
                        first: *seq,
                        last: *seq,
                    };
                    noted.older(boot_mut(&mut self.boots, boot), run, place);
                }
                Line::Records { boot, runs } => {
                    let boot = boot_mut(&mut self.boots, boot);
                    let mut place = Place::At {
                        commit,
                        entry,
                        record: 0,
                    };
                    for run in runs {
                        noted.older(boot, *run, place);
                        place = place.behind(numbers(*run));
                    }
                }
            }
        }
        self.records += noted.records - records;
        self.commits.push_front((commit, noted));
    }
}

impl Noted {
    /// Notes a run that is older than what is in the index; only what is free there is taken.
    fn older(&mut self, boot: &mut Boot, run: Run, place: Place) {
        let Run { first, last } = run;
        self.records += numbers(run) as usize;
        if boot.is_free(run) {
            boot.stretches.insert(first, Stretch { last, place });
            self.stretches.push((Arc::clone(&boot.id), first));
            return;
        }
        for seq in (first.0..=last.0).map(Seq) {
            let place = place.behind(seq.0 - first.0);
            if boot.covering(seq).is_none() && !boot.lengthen(seq, place) {
                boot.stretches.insert(seq, Stretch { last: seq, place });
                self.stretches.push((Arc::clone(&boot.id), seq));
            }
        }
    }
}

impl Boot {
    /// The first number of the stretch that covers `seq`.
    fn covering(&self, seq: Seq) -> Option<Seq> {
        let (first, stretch) = self.stretches.range(..=seq).next_back()?;
        (stretch.last >= seq).then_some(*first)
    }

    /// Whether no number of `run` is covered.
    fn is_free(&self, run: Run) -> bool {
        let before = self.stretches.range(..=run.last).next_back();
        before.is_none_or(|(_, stretch)| stretch.last < run.first)
    }

    /// Adds a record to the stretch before it, if it lies behind it there. Nothing may cover it.
    fn lengthen(&mut self, seq: Seq, place: Place) -> bool {
        let Some((first, before)) = self.stretches.range_mut(..seq).next_back() else {
            return false;
        };
        let next = before.last.0.checked_add(1) == Some(seq.0);
        let behind =
            matches!(place, Place::At { .. }) && before.place.behind(seq.0 - first.0) == place;
        if next && behind {
            before.last = seq;
        }
        next && behind
    }

    /// Makes room for `seq` in the stretch that begins at `first` and covers it. Returns the first number of what
    /// now is a stretch of its own behind it, and the commit it is in.
    fn cut(&mut self, first: Seq, seq: Seq) -> Option<(Commit, Seq)> {
        let stretch = self.stretches.remove(&first)?;
        if first < seq {
            let last = Seq(seq.0 - 1);
            self.stretches.insert(first, Stretch { last, ..stretch });
        }
        let behind = Seq(seq.0.checked_add(1)?);
        if behind > stretch.last {
            return None;
        }
        let place = stretch.place.behind(behind.0 - first.0);
        let last = stretch.last;
        self.stretches.insert(behind, Stretch { last, place });
        Some((place.commit(), behind))
    }
}

fn boot_mut<'a>(boots: &'a mut HashMap<Arc<BootId>, Boot>, id: &BootId) -> &'a mut Boot {
    let id = match boots.get(id) {
        Some(boot) => Arc::clone(&boot.id),
        None => Arc::new(id.clone()),
    };
    boots.entry(Arc::clone(&id)).or_insert_with(|| Boot {
        id,
        stretches: BTreeMap::new(),
    })
}

/// What a closed commit put into the index.
fn noted_in(commits: &mut VecDeque<(Commit, Noted)>, commit: Commit) -> Option<&mut Noted> {
    let at = commits.binary_search_by_key(&commit, |(commit, _)| *commit);
    commits.get_mut(at.ok()?).map(|(_, noted)| noted)
}

/// How many numbers a run holds.
fn numbers(run: Run) -> u32 {
    (run.last.0 - run.first.0).saturating_add(1)
}

fn find<'a>(chunk: &'a Chunk, boot: &BootId, seq: Seq) -> Option<&'a Content> {
    let records = chunk.entries.iter().filter_map(|entry| match entry {
        Entry::Records(records) => Some(records),
        Entry::Contested { .. } => None,
    });
    records
        .filter(|records| {
            (&records.device, records.epoch, records.boot) == (&boot.device, boot.epoch, boot.boot)
        })
        .flat_map(|records| &records.records)
        .find(|stored| stored.seq == seq)
        .map(|stored| &stored.content)
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;
    use protocol::batch;
    use protocol::key::{self, Epoch, RecordKey};
    use protocol::reading::Reading;
    use protocol::record::{Numbered, Record};
    use protocol::units::{UptimeMs, UtcMs};

    use crate::store::journal::{Records, Stored};
    use crate::store::{Batch, memory};

    const NUMBERS: u32 = 24;

    fn boot() -> BootId {
        BootId {
            device: "t-1".parse().unwrap(),
            epoch: Epoch(1),
            boot: key::Boot(2),
        }
    }

    fn content(seq: u32) -> Content {
        let numbered = Numbered {
            seq: Seq(seq),
            record: Record::Reading(Reading::empty(UptimeMs::saturating(0))),
        };
        let unknown = &[];
        Content::of(&batch::Entry { numbered, unknown }).unwrap()
    }

    /// An entry of consecutive numbers, or the word that the first of them is contested.
    fn entry(first: u32, count: u32, contested: bool) -> Entry {
        let BootId {
            device,
            epoch,
            boot,
        } = boot();
        if contested {
            let key = RecordKey::new(epoch.0, boot.0, first);
            return Entry::Contested { device, key };
        }
        let stored = |seq| Stored {
            seq: Seq(seq),
            content: content(seq),
        };
        Entry::Records(Records {
            device,
            epoch,
            boot,
            received_at: UtcMs::saturating(0),
            qos: 1,
            oldest_pending: RecordKey::new(1, 2, 0),
            records: (first..first + count).map(stored).collect(),
        })
    }

    /// Every record of an entry, with its place.
    fn places(commit: Commit, index: usize, entry: &Entry) -> Vec<(Seq, Place)> {
        match entry {
            Entry::Contested { key, .. } => vec![(key.seq, Place::Contested { commit })],
            Entry::Records(records) => {
                let place = |record| Place::At {
                    commit,
                    entry: index,
                    record,
                };
                let numbers = records.records.iter().map(|stored| stored.seq);
                numbers.zip((0..).map(place)).collect()
            }
        }
    }

    fn all(index: &Unfolded) -> Vec<(Seq, Place)> {
        let place = |seq| Some((Seq(seq), index.noted(&boot(), Seq(seq))?));
        (0..2 * NUMBERS).filter_map(place).collect()
    }

    proptest! {
        #[test]
        fn noted_as_it_came_or_read_from_the_journal_the_newest_word_about_a_record_is_found(
            commits in prop::collection::vec(
                prop::collection::vec((0..NUMBERS, 1..NUMBERS, any::<bool>()), 1..4), 1..6),
            folded in 0..6_u64,
        ) {
            let store = memory::store();
            let mut live = Unfolded::of(&store);
            prop_assert!(!live.step(&store).unwrap());
            let mut newest = BTreeMap::new();
            for (commit, entries) in (1..).map(Commit).zip(&commits) {
                let entries: Vec<Entry> = entries.iter().map(|(a, b, c)| entry(*a, *b, *c)).collect();
                for (index, entry) in entries.iter().enumerate() {
                    for (seq, place) in places(commit, index, entry) {
                        live.note(&boot(), seq, place);
                        newest.insert(seq, place);
                    }
                }
                live.close(commit);
                let mut batch = Batch::default();
                journal::append(&mut batch, commit, &entries).unwrap();
                store.apply(batch).unwrap();
            }
            let mut read = Unfolded::of(&store);
            while read.step(&store).unwrap() {}
            prop_assert_eq!(live.records(), read.records());
            for index in [&mut live, &mut read] {
                prop_assert_eq!(all(index), newest.clone().into_iter().collect::<Vec<_>>());
                index.forget(Commit(folded));
            }
            newest.retain(|_, place| place.commit().0 > folded);
            prop_assert_eq!(live.records(), read.records());
            for index in [&live, &read] {
                prop_assert_eq!(all(index), newest.clone().into_iter().collect::<Vec<_>>());
                prop_assert_eq!(index.boots.is_empty(), newest.is_empty());
            }
        }
    }
}
