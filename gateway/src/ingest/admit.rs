//! What is new, what is known, what is contested: one group of publications on its way to one commit.
//!
//! A record is known by its key. When the key was seen, the contents decide: the same content is a
//! duplicate, another one makes the key contested: both go to the quarantine, and the journal tells the
//! fold to forget the record, whichever came first. Contents are compared as stored, decoded and absolute,
//! because the bytes of a batch change when a device batches anew.
//!
//! When the row with the content was set aside as damaged, the record is stored again; what was contested stays so.
//!
//! Everything of a group goes into one batch: the journal's chunk, seen runs, devices, quarantine,
//! counters. A publication's receipt waits for that commit, a duplicate's too: its original may be in
//! the same group, or in an earlier one whose barrier is still to come.

use std::collections::HashMap;

use protocol::batch::BatchHeader;
use protocol::key::{DeviceId, Seq};
use protocol::record::Numbered;
use protocol::topic::Topic;
use protocol::units::UtcMs;

use super::complaint::Complaints;
use super::decode::{Arrival, Refusal, Statement, decode, subject};
use super::doubt;
use super::ledger::Books;
use super::lost::{self, Lost};
use super::runs::Runs;
use super::statement;
use super::unfolded::{Place, Unfolded};
use crate::account::{Reason, Tally};
use crate::receipt::{Origin, Reception};
use crate::store::content::Content;
use crate::store::device::{self, Pending, Stated};
use crate::store::history::{self, Kept};
use crate::store::journal::{self, Entry, Records, Stored};
use crate::store::quarantine::{self, Fill, Octets, Overflow, Refused, Room};
use crate::store::seen::{self, BootId};
use crate::store::{Batch, Commit, Store, StoreError};

/// Decides what becomes of publications. There is one in a gateway, in the committer.
pub struct Admission {
    store: Store,
    runs: Runs,
    unfolded: Unfolded,
    fill: Fill,
    /// Damaged rows of the store when the runs were last known to be whole.
    rows_set_aside: u64,
    complaints: Complaints,
    lost: Lost,
    group: Group,
}

/// A group that is open.
struct Group {
    commit: Commit,
    received_at: UtcMs,
    entries: Vec<Entry>,
    batch: Batch,
    tally: Tally,
    doubts: doubt::Register,
    books: Books,
    /// Rows of devices whose payloads found the quarantine full.
    overflows: HashMap<DeviceId, Overflow>,
    in_force: statement::Register,
}

/// A group ready to be applied.
#[derive(Debug)]
pub struct Sealed {
    /// Its number.
    pub commit: Commit,
    /// Everything it writes, but for the counters.
    pub batch: Batch,
    /// What it adds to the counters.
    pub tally: Tally,
    /// Whether it holds anything for the fold.
    pub for_fold: bool,
}

impl Group {
    fn new(commit: Commit, received_at: UtcMs) -> Self {
        Self {
            commit,
            received_at,
            entries: Vec::new(),
            batch: Batch::default(),
            tally: Tally::default(),
            doubts: doubt::Register::default(),
            books: Books::default(),
            overflows: HashMap::new(),
            in_force: statement::Register::default(),
        }
    }
}

/// What is known under a key that was seen.
enum Before {
    Content(Content),
    Contested,
    /// Seen, but in neither journal nor history.
    Nowhere,
}

impl Admission {
    /// Goes on where the store stands.
    ///
    /// # Errors
    /// When runs were damaged and cannot be counted anew, or the quarantine cannot be read.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        seen::mend(store)?;
        Ok(Self {
            rows_set_aside: store.rows_set_aside(),
            runs: Runs::new(store.clone()),
            unfolded: Unfolded::of(store),
            fill: Fill::load(store)?,
            complaints: Complaints::default(),
            lost: Lost::default(),
            group: Group::new(next(store), UtcMs::saturating(0)),
            store: store.clone(),
        })
    }

    /// Opens a group that was received now.
    ///
    /// # Errors
    /// When runs were damaged and cannot be counted anew.
    pub fn begin(&mut self, received_at: UtcMs) -> Result<(), StoreError> {
        let set_aside = self.store.rows_set_aside();
        if set_aside != self.rows_set_aside {
            seen::mend(&self.store)?;
            self.runs = Runs::new(self.store.clone());
            self.rows_set_aside = set_aside;
        }
        self.unfolded.forget(self.store.newest_folded());
        self.complaints.settle();
        self.group = Group::new(next(&self.store), received_at);
        Ok(())
    }

    /// Takes a publication into the group; `qos` is the byte of its [`Reception`]. Returns the commit its
    /// receipt waits for.
    ///
    /// # Errors
    /// When the store cannot be read; nothing of the group may then be acknowledged.
    pub fn admit(&mut self, topic: &Topic, payload: &[u8], qos: u8) -> Result<Commit, StoreError> {
        let before = self.group.tally.records.clone();
        match decode(topic.channel, payload) {
            Ok(Arrival::Records { header, records }) => {
                self.records(&topic.device, header, records, qos)?;
            }
            Ok(Arrival::Statement(said)) => self.statement(&topic.device, &said, payload)?,
            Err(refusal) => self.refuse(topic, payload, &refusal)?,
        }
        let Group { books, tally, .. } = &mut self.group;
        books.note(&topic.device, &before, &tally.records);
        Ok(self.group.commit)
    }

    /// Closes the group.
    ///
    /// # Errors
    /// Never in practice: what was admitted fits its rows.
    pub fn seal(&mut self) -> Result<Sealed, StoreError> {
        let group = std::mem::replace(
            &mut self.group,
            Group::new(next(&self.store), UtcMs::saturating(0)),
        );
        let mut batch = group.batch;
        journal::append(&mut batch, group.commit, &group.entries)?;
        self.runs.write(&mut batch);
        group.doubts.write(&mut batch)?;
        group.books.write(&self.store, &mut batch)?;
        let holds = |entry: &Entry| match entry {
            Entry::Records(records) => !records.records.is_empty(),
            Entry::Contested { .. } => true,
        };
        Ok(Sealed {
            commit: group.commit,
            for_fold: group.entries.iter().any(holds),
            batch,
            tally: group.tally,
        })
    }

    /// The sealed group is applied.
    pub fn settle(&mut self, commit: Commit) {
        self.runs.settle();
        self.unfolded.close(commit);
    }

    /// Goes on with the index of what the journal held at the start, for some milliseconds. Returns
    /// whether there may be more.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn step(&mut self) -> Result<bool, StoreError> {
        self.unfolded.step(&self.store)
    }

    /// Records that the fold has not taken yet, as far as they are in the index.
    pub fn unfolded_records(&mut self) -> usize {
        self.unfolded.forget(self.store.newest_folded());
        self.unfolded.records()
    }

    fn records(
        &mut self,
        device: &DeviceId,
        header: BatchHeader,
        records: Vec<(Numbered, Content)>,
        qos: u8,
    ) -> Result<(), StoreError> {
        let boot = BootId {
            device: device.clone(),
            epoch: header.epoch,
            boot: header.boot,
        };
        let tally = &mut self.group.tally;
        tally.records.received += records.len() as u64;
        let came = Reception::of_byte(qos);
        if !came.promised {
            tally.records_unpromised += records.len() as u64;
        }
        if came.origin == Origin::Broker {
            tally.records_by_broker += records.len() as u64;
        }
        let entry = self.open_entry(device, header, qos);
        for (numbered, content) in records {
            self.record(&boot, entry, &numbered, content)?;
        }
        let pending = Pending {
            received_at: self.group.received_at,
            epoch: header.epoch,
            oldest: header.oldest_pending,
        };
        device::note_pending(&mut self.group.batch, device, pending)
    }

    /// An entry for the new ones of a batch's records; one that stays empty is not written.
    fn open_entry(&mut self, device: &DeviceId, header: BatchHeader, qos: u8) -> usize {
        self.group.entries.push(Entry::Records(Records {
            device: device.clone(),
            epoch: header.epoch,
            boot: header.boot,
            received_at: self.group.received_at,
            qos,
            oldest_pending: header.oldest_pending,
            records: Vec::new(),
        }));
        self.group.entries.len() - 1
    }

    fn record(
        &mut self,
        boot: &BootId,
        entry: usize,
        numbered: &Numbered,
        content: Content,
    ) -> Result<(), StoreError> {
        if self.runs.insert(boot, numbered.seq)? {
            return self.store_record(boot, entry, numbered, content);
        }
        match self.before(boot, numbered.seq)? {
            Before::Content(before) if before == content => {
                self.group.tally.records.duplicate += 1;
                Ok(())
            }
            Before::Content(before) => self.contest(boot, numbered.seq, before, content),
            Before::Contested => {
                self.group.tally.records.contested += 1;
                Ok(())
            }
            Before::Nowhere if self.lost.was_contested(&self.store, boot, numbered.seq)? => {
                self.group.tally.records.contested += 1;
                self.bury(boot, numbered.seq);
                Ok(())
            }
            // Storing it again is safe, losing it is not.
            Before::Nowhere => {
                self.group.tally.records_again += 1;
                self.store_record(boot, entry, numbered, content)
            }
        }
    }

    fn store_record(
        &mut self,
        boot: &BootId,
        entry: usize,
        numbered: &Numbered,
        content: Content,
    ) -> Result<(), StoreError> {
        let seq = numbered.seq;
        if let Some(Entry::Records(records)) = self.group.entries.get_mut(entry) {
            let place = Place::At {
                commit: self.group.commit,
                entry,
                record: records.records.len(),
            };
            records.records.push(Stored { seq, content });
            self.unfolded.note(boot, seq, place);
        }
        self.group.tally.records.stored += 1;
        self.doubt(boot, numbered)?;
        let group = &mut self.group;
        statement::count(&numbered.record, &mut group.tally);
        let heard = (&mut group.batch, group.received_at);
        group.in_force.note(&self.store, heard, boot, numbered)
    }

    /// Counts what is not believed of a new record; the record stays stored.
    fn doubt(&mut self, boot: &BootId, numbered: &Numbered) -> Result<(), StoreError> {
        let received_at = self.group.received_at;
        let cases = self
            .group
            .doubts
            .note(&self.store, boot, numbered, received_at)?;
        doubt::count(&cases, &mut self.group.tally);
        for case in &cases {
            self.complaints.doubted(&boot.device, case);
        }
        Ok(())
    }

    /// What is known under a key that was seen: not yet folded, or in the history.
    fn before(&mut self, boot: &BootId, seq: Seq) -> Result<Before, StoreError> {
        let content = match self.unfolded.place(&self.store, boot, seq)? {
            Some(Place::Contested { .. }) => return Ok(Before::Contested),
            Some(Place::At {
                commit,
                entry,
                record,
            }) if commit == self.group.commit => self.group.content(entry, record),
            Some(Place::At { commit, .. }) => self.unfolded.read(&self.store, commit, boot, seq)?,
            None => None,
        };
        if let Some(content) = content {
            return Ok(Before::Content(content));
        }
        Ok(
            match history::value(&self.store, &boot.device, boot.record(seq))? {
                Some(Kept::Known(known)) => Before::Content(known.content),
                Some(Kept::Contested) => Before::Contested,
                None => Before::Nowhere,
            },
        )
    }

    fn contest(
        &mut self,
        boot: &BootId,
        seq: Seq,
        before: Content,
        now: Content,
    ) -> Result<(), StoreError> {
        let key = boot.record(seq);
        self.group.tally.records.contested += 1;
        self.bury(boot, seq);
        self.complaints.contested(&boot.device, key);
        self.quarantine(
            &boot.device,
            Refused {
                device: boot.device.to_string(),
                channel: String::new(),
                received_at_ms: self.group.received_at.get(),
                reason: lost::CONTESTED.to_owned(),
                detail: key.to_string(),
                payloads: [before, now]
                    .map(|one| Octets(one.bytes().to_vec()))
                    .to_vec(),
            },
        )
    }

    /// Tells the fold that the record under a key is unknown.
    fn bury(&mut self, boot: &BootId, seq: Seq) {
        let (device, key, commit) = (boot.device.clone(), boot.record(seq), self.group.commit);
        self.group.entries.push(Entry::Contested { device, key });
        self.unfolded.note(boot, seq, Place::Contested { commit });
    }

    fn statement(
        &mut self,
        device: &DeviceId,
        said: &Statement,
        payload: &[u8],
    ) -> Result<(), StoreError> {
        let book = &mut self.group.tally.statements;
        book.received += 1;
        book.stored += 1;
        if let Statement::Answer(ack) = said {
            self.complaints.answered(device, ack);
        }
        let stated = Stated {
            received_at_ms: self.group.received_at.get(),
            payload: Octets(payload.to_vec()),
        };
        statement::note(&self.store, &mut self.group.batch, device, said, &stated)
    }

    fn refuse(
        &mut self,
        topic: &Topic,
        payload: &[u8],
        refusal: &Refusal,
    ) -> Result<(), StoreError> {
        let book = self.group.tally.book(subject(topic.channel));
        book.refuse(refusal.reason);
        self.complaints.refused(topic, refusal);
        self.quarantine(
            &topic.device,
            Refused {
                device: topic.device.to_string(),
                channel: topic.channel.as_str().to_owned(),
                received_at_ms: self.group.received_at.get(),
                reason: refusal.reason.as_str().to_owned(),
                detail: refusal.detail.clone(),
                payloads: vec![Octets(payload.to_vec())],
            },
        )
    }

    fn quarantine(&mut self, device: &DeviceId, refused: Refused) -> Result<(), StoreError> {
        let mut overflow = match self.group.overflows.remove(device) {
            Some(overflow) => overflow,
            None => quarantine::overflow(&self.store, device)?.unwrap_or_default(),
        };
        self.fill.refresh(&self.store)?;
        let batch = &mut self.group.batch;
        if self.fill.keep(batch, device, &refused, &mut overflow)? == Room::Full {
            let elsewhere = &mut self.group.tally.elsewhere;
            *elsewhere.entry(Reason::QuarantineFull).or_default() += 1;
        }
        self.group.overflows.insert(device.clone(), overflow);
        Ok(())
    }
}

impl Group {
    fn content(&self, entry: usize, record: usize) -> Option<Content> {
        match self.entries.get(entry)? {
            Entry::Records(records) => Some(records.records.get(record)?.content.clone()),
            Entry::Contested { .. } => None,
        }
    }
}

fn next(store: &Store) -> Commit {
    Commit(store.newest_commit().0 + 1)
}
