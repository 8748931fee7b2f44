use super::*;

use std::time::Duration;

use protocol::batch;
use protocol::key::{Boot, Epoch, RecordKey, Seq};
use protocol::reading::Reading;
use protocol::record::{Alarm, AlarmKind, Numbered, Record};
use protocol::units::{UptimeMs, UtcMs};

use crate::store::content::Content;
use crate::store::entry::Stored;
use crate::store::journal;
use crate::store::memory::{self, Memory};

fn stored(seq: u32, alarm: bool) -> Stored {
    let uptime = UptimeMs::saturating(1_000);
    let record = if alarm {
        Record::Alarm(Alarm {
            uptime,
            kind: AlarmKind::Door,
            limit: 0,
            since: uptime,
            extreme: 1,
            count: 1,
            shock: None,
        })
    } else {
        Record::Reading(Reading::empty(uptime))
    };
    let seq = Seq(seq);
    let numbered = Numbered { seq, record };
    let content = Content::of(&batch::Entry {
        numbered,
        unknown: &[],
    });
    let content = content.unwrap();
    assert_eq!(content.is_alarm(), alarm);
    Stored { seq, content }
}

/// An entry of these numbers; multiples of ten are alarms.
fn records(seqs: impl IntoIterator<Item = u32>) -> Entry {
    Entry::Records(Records {
        device: "t-1".parse().unwrap(),
        epoch: Epoch(1),
        boot: Boot(2),
        received_at: UtcMs::saturating(5),
        qos: 1,
        oldest_pending: RecordKey::new(1, 2, 0),
        records: seqs
            .into_iter()
            .map(|seq| stored(seq, seq % 10 == 0))
            .collect(),
    })
}

fn contested() -> Entry {
    Entry::Contested {
        device: "t-1".parse().unwrap(),
        key: RecordKey::new(1, 2, 3),
    }
}

fn append_to(store: &Store, commit: u64, entries: &[Entry]) {
    let mut batch = Batch::default();
    journal::append(&mut batch, Commit(commit), entries).unwrap();
    store.apply(batch).unwrap();
}

fn commits(store: &Store) -> Vec<u64> {
    let copies = oldest(store, usize::MAX).unwrap();
    copies.iter().map(|copy| copy.commit.0).collect()
}

#[test]
fn alarms_and_contested_keys_of_a_commit_are_copied_and_nothing_else() {
    let store = memory::store();
    append_to(&store, 1, &[records([1, 2, 3])]);
    append_to(
        &store,
        2,
        &[records([9, 10, 11, 20]), records([5]), contested()],
    );
    let copies = oldest(&store, usize::MAX).unwrap();
    assert_eq!(copies.len(), 1);
    assert_eq!(copies[0].commit, Commit(2));
    assert_eq!(copies[0].entries, [records([10, 20]), contested()]);
    // The chunk stays whole.
    let chunk = journal::chunk(&store, Commit(2)).unwrap().unwrap();
    assert_eq!(
        chunk.entries,
        [records([9, 10, 11, 20]), records([5]), contested()]
    );
}

#[test]
fn copies_go_when_they_are_taken_or_their_commit_is_and_not_before() {
    let disk = Memory::default();
    let store = disk.open();
    for commit in 1..=5 {
        append_to(&store, commit, &[records([1, 10])]);
    }
    assert_eq!(commits(&store), [1, 2, 3, 4, 5]);
    let first = oldest(&store, 2).unwrap();
    assert_eq!(first.len(), 2);
    let mut batch = Batch::default();
    taken(&mut batch, &first);
    store.apply(batch).unwrap();
    assert_eq!(commits(&store), [3, 4, 5]);
    assert_eq!(store.newest_folded(), Commit(0), "the cursor stays");
    let mut batch = Batch::default();
    passed(&store, &mut batch, Commit(4)).unwrap();
    store.apply(batch).unwrap();
    assert_eq!(commits(&store), [5]);
    assert_eq!(disk.keys(b"j|").len(), 5, "the journal is whole");
}

#[test]
fn alarms_wait_until_their_copies_are_taken_and_over_a_start_as_well() {
    let disk = Memory::default();
    let store = disk.open();
    append_to(&store, 1, &[records([1])]);
    assert_eq!(store.alarms_unfolded_for(), Duration::ZERO);
    append_to(&store, 2, &[records([10])]);
    assert!(store.alarms_unfolded_for() > Duration::ZERO);
    let again = disk.open();
    assert!(again.alarms_unfolded_for() > Duration::ZERO);
    let mut batch = Batch::default();
    taken(&mut batch, &oldest(&store, usize::MAX).unwrap());
    store.apply(batch).unwrap();
    assert_eq!(store.alarms_unfolded_for(), Duration::ZERO);
    assert_eq!(disk.open().alarms_unfolded_for(), Duration::ZERO);
}
