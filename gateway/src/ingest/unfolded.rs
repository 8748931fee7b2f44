//! Where the records are that the fold has not taken yet: in the journal, or in the open group.
//!
//! The history has a record only after the fold took it. Until then a duplicate is compared with the
//! journal, and this index says with which commit. Its size is the fold's lag, which
//! [`super::commit::UNFOLDED_MAX_RECORDS`] bounds.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::ControlFlow;

use protocol::key::Seq;

use crate::store::content::Content;
use crate::store::journal::{self, Chunk, Entry, Records};
use crate::store::seen::BootId;
use crate::store::{Commit, Store, StoreError};

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
}

/// Numbers of one boot that a commit put into the index.
type Noted = (BootId, Vec<Seq>);

/// The index.
pub(super) struct Unfolded {
    boots: HashMap<BootId, BTreeMap<Seq, Place>>,
    /// What each commit put into the index, oldest first.
    commits: VecDeque<(Commit, Vec<Noted>)>,
    open: Vec<Noted>,
    records: usize,
    /// The chunk read last: a batch that comes again is compared with one chunk.
    last_read: Option<Chunk>,
}

impl Unfolded {
    /// The index of what the journal holds.
    pub(super) fn load(store: &Store) -> Result<Self, StoreError> {
        let mut index = Self {
            boots: HashMap::new(),
            commits: VecDeque::new(),
            open: Vec::new(),
            records: 0,
            last_read: None,
        };
        journal::each(store, Commit(0), |chunk| {
            index.note_chunk(&chunk);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(index)
    }

    /// Records in the index.
    pub(super) const fn records(&self) -> usize {
        self.records
    }

    /// Notes where a record of the open group is.
    pub(super) fn note(&mut self, boot: &BootId, seq: Seq, place: Place) {
        self.records += 1;
        self.boots
            .entry(boot.clone())
            .or_default()
            .insert(seq, place);
        match self.open.last_mut() {
            Some((last, seqs)) if last == boot => seqs.push(seq),
            _ => self.open.push((boot.clone(), vec![seq])),
        }
    }

    /// The open group became a commit.
    pub(super) fn close(&mut self, commit: Commit) {
        if !self.open.is_empty() {
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
            && let Some((commit, boots)) = self.commits.pop_front()
        {
            for (boot, seqs) in boots {
                self.forget_of(&boot, &seqs, commit);
            }
        }
    }

    /// Where the record is, if the fold has not taken it.
    pub(super) fn place(&self, boot: &BootId, seq: Seq) -> Option<Place> {
        self.boots.get(boot)?.get(&seq).copied()
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

    fn forget_of(&mut self, boot: &BootId, seqs: &[Seq], commit: Commit) {
        self.records -= seqs.len();
        let Some(places) = self.boots.get_mut(boot) else {
            return;
        };
        for seq in seqs {
            // A later commit may have contested the key; its word stays.
            if places
                .get(seq)
                .is_some_and(|place| place.commit() == commit)
            {
                places.remove(seq);
            }
        }
        if places.is_empty() {
            self.boots.remove(boot);
        }
    }

    fn note_chunk(&mut self, chunk: &Chunk) {
        let commit = chunk.commit;
        for (entry, found) in chunk.entries.iter().enumerate() {
            match found {
                Entry::Records(records) => {
                    let boot = boot_of(records);
                    for (record, stored) in records.records.iter().enumerate() {
                        let place = Place::At {
                            commit,
                            entry,
                            record,
                        };
                        self.note(&boot, stored.seq, place);
                    }
                }
                Entry::Contested { device, key } => {
                    let boot = BootId {
                        device: device.clone(),
                        epoch: key.epoch,
                        boot: key.boot,
                    };
                    self.note(&boot, key.seq, Place::Contested { commit });
                }
            }
        }
        self.close(commit);
    }
}

/// The boot an entry's records belong to.
pub(super) fn boot_of(records: &Records) -> BootId {
    BootId {
        device: records.device.clone(),
        epoch: records.epoch,
        boot: records.boot,
    }
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
