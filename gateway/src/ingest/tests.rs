//! Admission against a naive model, and the committer's promises.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::prelude::*;
use protocol::batch::{BatchEncoder, BatchHeader};
use protocol::key::{Boot, DeviceId, Epoch, RecordKey, Seq};
use protocol::reading::{Measured, Reading};
use protocol::record::{Numbered, Record};
use protocol::topic::{Channel, Topic};
use protocol::units::{CentiCelsius, UptimeMs, UtcMs};
use tokio::sync::mpsc;

use super::admit::Admission;
use super::commit::{self, Committer, Parts};
use crate::account::{Account, Reason, Tally};
use crate::clock::Clock;
use crate::receipt::{Commit, Due, Origin, Publication};
use crate::store::history::{self, Kept, Known};
use crate::store::journal::{self, Entry};
use crate::store::memory::Memory;
use crate::store::quarantine;
use crate::store::{Batch, Store, StoreError};

const EPOCH: u64 = 0x0123_4567_89ab_cdef;

fn device(number: u8) -> DeviceId {
    format!("t-{number}").parse().unwrap()
}

fn readings(number: u8) -> Topic {
    Topic::new(device(number), Channel::Readings)
}

/// A batch of readings; `variant` decides their content.
fn payload(boot: u32, readings: &[(u32, i64)]) -> Vec<u8> {
    let header = BatchHeader {
        epoch: Epoch(EPOCH),
        boot: Boot(boot),
        oldest_pending: RecordKey::new(EPOCH, boot, 0),
    };
    let mut buffer = [0; 4_096];
    let mut encoder = BatchEncoder::new(&mut buffer, header).unwrap();
    for (seq, variant) in readings {
        let mut reading = Reading::empty(UptimeMs::saturating(i64::from(*seq) * 1_000));
        reading.temperatures[0] = Measured::Value(CentiCelsius::saturating(*variant));
        let record = Record::Reading(reading);
        encoder
            .push(&Numbered {
                seq: Seq(*seq),
                record,
            })
            .unwrap();
    }
    encoder.finish().to_vec()
}

/// The fold, as far as records go: history, and the journal emptied.
pub(super) fn fold(store: &Store) {
    fold_some(store, usize::MAX);
}

/// The oldest `most` commits of it.
fn fold_some(store: &Store, most: usize) {
    let mut chunks = Vec::new();
    journal::each(store, Commit(0), |chunk| {
        chunks.push(chunk);
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    for chunk in chunks.into_iter().take(most) {
        let mut batch = Batch::default();
        for entry in &chunk.entries {
            match entry {
                Entry::Contested { device, key } => history::contest(&mut batch, device, *key),
                Entry::Records(records) => {
                    for stored in &records.records {
                        let key = RecordKey::new(records.epoch.0, records.boot.0, stored.seq.0);
                        let known = Known {
                            received_at: records.received_at,
                            qos: records.qos,
                            content: stored.content.clone(),
                        };
                        history::put(&mut batch, &records.device, key, &known);
                    }
                }
            }
        }
        journal::fold_taken(&mut batch, &chunk).unwrap();
        store.apply(batch).unwrap();
    }
}

/// What a key holds: the temperature it came with, or `None` when it is contested.
type Model = BTreeMap<(u8, u32, u32), Option<i64>>;

#[derive(Clone, Debug)]
struct Arrival {
    device: u8,
    boot: u32,
    readings: Vec<(u32, i64)>,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    Nothing,
    FoldOldest,
    Fold,
    /// The group is applied, then the process ends and starts again.
    Restart,
    /// The power fails before the group is applied.
    PowerCut,
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let variant = prop_oneof![9 => Just(400_i64), 1 => Just(500_i64)];
    let readings = prop::collection::vec((0_u32..14, variant), 1..10);
    (0_u8..2, 0_u32..2, readings).prop_map(|(device, boot, readings)| Arrival {
        device,
        boot,
        readings,
    })
}

fn steps() -> impl Strategy<Value = Vec<(Vec<Arrival>, Then)>> {
    let then = prop_oneof![
        3 => Just(Then::Nothing),
        3 => Just(Then::FoldOldest),
        1 => Just(Then::Fold),
        1 => Just(Then::Restart),
        1 => Just(Then::PowerCut),
    ];
    prop::collection::vec((prop::collection::vec(arrival(), 0..5), then), 1..14)
}

fn model_admit(model: &mut Model, arrival: &Arrival, counts: &mut Tally) {
    for (seq, variant) in &arrival.readings {
        let key = (arrival.device, arrival.boot, *seq);
        counts.records.received += 1;
        match model.get(&key) {
            None => {
                counts.records.stored += 1;
                model.insert(key, Some(*variant));
            }
            Some(Some(known)) if known == variant => counts.records.duplicate += 1,
            Some(_) => {
                counts.records.contested += 1;
                model.insert(key, None);
            }
        }
    }
}

fn temperature(kept: &Kept) -> Option<i64> {
    let Kept::Known(known) = kept else {
        return None;
    };
    let Record::Reading(reading) = known.content.decode().unwrap().record else {
        panic!("only readings were sent");
    };
    reading.temperatures[0]
        .value()
        .map(|value| i64::from(value.get()))
}

fn stored(store: &Store) -> Model {
    let mut found = Model::new();
    for number in 0..2 {
        history::each(store, &device(number), None, |key, kept| {
            found.insert((number, key.boot.0, key.seq.0), temperature(&kept));
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    }
    found
}

/// Applies the group as the committer does, without counters.
fn commit_group(store: &Store, admission: &mut Admission) -> Tally {
    let sealed = admission.seal().unwrap();
    store.apply(sealed.batch).unwrap();
    admission.settle(sealed.commit);
    assert_eq!(store.barrier().unwrap().commit(), sealed.commit);
    sealed.tally
}

proptest! {
    /// Duplicates, batches cut anew, two contents under a key, a fold that lags, restarts and power
    /// cuts: what is stored, what is contested and every count are those of a map in memory.
    #[test]
    fn admission_is_a_map_from_keys_to_contents(steps in steps(), always_restart in any::<bool>()) {
        let disk = Memory::default();
        let mut store = disk.open();
        let mut admission = Admission::open(&store).unwrap();
        let (mut model, mut expected, mut counted) = (Model::new(), Tally::default(), Tally::default());
        for (group, then) in steps {
            admission.begin(UtcMs::saturating(0)).unwrap();
            for arrival in &group {
                let payload = payload(arrival.boot, &arrival.readings);
                admission.admit(&readings(arrival.device), &payload, 1).unwrap();
            }
            if matches!(then, Then::PowerCut) {
                disk.cut_power();
            } else {
                group.iter().for_each(|arrival| model_admit(&mut model, arrival, &mut expected));
                counted.add(&commit_group(&store, &mut admission));
            }
            match then {
                Then::Nothing => {}
                Then::FoldOldest => fold_some(&store, 1),
                Then::Fold => fold(&store),
                Then::Restart | Then::PowerCut => {}
            }
            if always_restart || matches!(then, Then::Restart | Then::PowerCut) {
                store = disk.open();
                admission = Admission::open(&store).unwrap();
            }
            counted.assert_balanced();
        }
        counted.elsewhere.clear();
        prop_assert_eq!(counted, expected);
        fold(&store);
        prop_assert_eq!(stored(&store), model);
    }
}

#[test]
fn both_contents_of_a_contested_key_are_in_the_quarantine() {
    let store = Memory::default().open();
    let mut admission = Admission::open(&store).unwrap();
    for variant in [400, 500, 400] {
        admission.begin(UtcMs::saturating(9)).unwrap();
        admission
            .admit(&readings(0), &payload(0, &[(1, variant)]), 1)
            .unwrap();
        commit_group(&store, &mut admission);
    }
    let mut rows = Vec::new();
    quarantine::each(&store, |refused| {
        rows.push(refused);
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (rows[0].reason.as_str(), rows[0].payloads.len()),
        ("contested", 2)
    );
    assert_ne!(rows[0].payloads[0], rows[0].payloads[1]);
}

#[test]
fn a_batch_cut_anew_is_a_duplicate_record_by_record() {
    let store = Memory::default().open();
    let mut admission = Admission::open(&store).unwrap();
    admission.begin(UtcMs::saturating(0)).unwrap();
    admission
        .admit(
            &readings(0),
            &payload(0, &[(1, 400), (2, 410), (3, 420)]),
            1,
        )
        .unwrap();
    commit_group(&store, &mut admission);
    admission.begin(UtcMs::saturating(0)).unwrap();
    admission
        .admit(&readings(0), &payload(0, &[(2, 410)]), 1)
        .unwrap();
    admission
        .admit(&readings(0), &payload(0, &[(3, 420), (4, 430)]), 1)
        .unwrap();
    let tally = commit_group(&store, &mut admission);
    assert_eq!((tally.records.duplicate, tally.records.stored), (2, 1));
}

/// Puts one batch of readings in a commit of its own.
fn arrive(store: &Store, admission: &mut Admission, records: &[(u32, i64)]) -> Tally {
    admission.begin(UtcMs::saturating(0)).unwrap();
    let payload = payload(0, records);
    admission.admit(&readings(0), &payload, 1).unwrap();
    let tally = commit_group(store, admission);
    tally.assert_balanced();
    tally
}

/// The first four of six records are in the history, the others in the journal; one row of each is damaged.
#[test]
fn a_record_whose_row_was_damaged_is_stored_when_it_comes_again_and_once_only() {
    let all: Vec<(u32, i64)> = (1..=6).map(|seq| (seq, 400)).collect();
    let damages = [("h|", 1), ("j|", 2)];
    for (kind, lost) in damages {
        for (restarts, is_noticed_before) in
            [(false, false), (true, false), (false, true), (true, true)]
        {
            let disk = Memory::default();
            let mut store = disk.open();
            let mut admission = Admission::open(&store).unwrap();
            arrive(&store, &mut admission, &all[..4]);
            fold(&store);
            arrive(&store, &mut admission, &all[4..]);
            disk.damage(&disk.keys(kind.as_bytes())[0]);
            if restarts {
                store = disk.open();
                admission = Admission::open(&store).unwrap();
            }
            if is_noticed_before {
                store.check_rows().unwrap();
            }
            for again in [lost, 0] {
                let tally = arrive(&store, &mut admission, &all);
                let counts = (
                    tally.records.stored,
                    tally.records.duplicate,
                    tally.records_again,
                );
                assert_eq!(
                    counts,
                    (again, 6 - again, again),
                    "{kind} {restarts} {is_noticed_before}"
                );
                if restarts {
                    store = disk.open();
                    admission = Admission::open(&store).unwrap();
                }
            }
            fold(&store);
            assert_eq!(stored(&store).len(), 6);
            let tally = arrive(&store, &mut admission, &all);
            assert_eq!((tally.records.duplicate, tally.records_again), (6, 0));
            let other = arrive(&store, &mut admission, &[(1, 500), (5, 500)]);
            assert_eq!(
                other.records.contested, 2,
                "what came again is compared as before"
            );
        }
    }
}

#[test]
fn a_key_that_was_contested_stays_so_although_its_row_was_damaged() {
    for restarts in [false, true] {
        let disk = Memory::default();
        let mut store = disk.open();
        let mut admission = Admission::open(&store).unwrap();
        arrive(&store, &mut admission, &[(1, 400), (2, 400)]);
        arrive(&store, &mut admission, &[(1, 500)]);
        fold(&store);
        disk.damage(&disk.keys(b"h|")[0]);
        if restarts {
            store = disk.open();
            admission = Admission::open(&store).unwrap();
        }
        for variant in [400, 500] {
            let tally = arrive(&store, &mut admission, &[(1, variant)]);
            assert_eq!((tally.records.contested, tally.records_again), (1, 0));
        }
        fold(&store);
        let expected = [((0, 0, 1), None), ((0, 0, 2), Some(400))];
        assert_eq!(stored(&store), Model::from(expected));
        assert_eq!(quarantined(&store), 1, "both contents are there already");
    }
}

fn quarantined(store: &Store) -> usize {
    let mut rows = 0;
    quarantine::each(store, |_| {
        rows += 1;
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    rows
}

/// A gateway's committer on a disk in memory.
struct Rig {
    disk: Memory,
    store: Store,
    account: Account,
    publications: mpsc::Sender<Publication>,
    committer: Committer,
}

fn rig(disk: Memory) -> Rig {
    let store = disk.open();
    let account = commit::account(&store).unwrap();
    let (publications, receiver) = commit::queue();
    let parts = Parts {
        store: store.clone(),
        account: account.clone(),
        clock: Clock::scaled(UtcMs::saturating(1_000), 0),
        publications: receiver,
    };
    Rig {
        disk,
        store,
        account,
        publications,
        committer: Committer::spawn(parts).unwrap(),
    }
}

fn publication(topic: Topic, payload: Vec<u8>, due: Option<Due>) -> Publication {
    Publication {
        topic,
        payload,
        origin: Origin::Endpoint,
        due,
    }
}

#[tokio::test]
async fn receipts_are_released_in_order_and_what_they_promise_survives_a_power_cut() {
    let rig = rig(Memory::default());
    let (acknowledge, mut released) = mpsc::channel(64);
    for seq in 0..40_u16 {
        let due = Due::new(seq + 1, acknowledge.clone());
        let payload = payload(0, &[(u32::from(seq / 2), 400)]);
        rig.publications
            .send(publication(readings(0), payload, Some(due)))
            .await
            .unwrap();
    }
    for expected in 1..=40 {
        assert_eq!(released.recv().await, Some(expected));
    }
    rig.disk.cut_power();
    let store = rig.disk.open();
    fold(&store);
    assert_eq!(stored(&store).len(), 20);
    let counts = commit::account(&store).unwrap().tally();
    counts.assert_balanced();
    assert_eq!((counts.records.stored, counts.records.duplicate), (20, 20));
    assert_eq!(counts, rig.account.tally());
    rig.committer.stop().await.unwrap();
}

#[tokio::test]
async fn a_failed_barrier_acknowledges_nothing_and_ends_the_committer() {
    let mut rig = rig(Memory::default());
    let (acknowledge, mut released) = mpsc::channel(8);
    rig.disk.fail_syncs();
    let due = Due::new(1, acknowledge);
    let payload = payload(0, &[(1, 400)]);
    rig.publications
        .send(publication(readings(0), payload, Some(due)))
        .await
        .unwrap();
    let ended = rig.committer.ended().await.unwrap_err();
    assert!(
        matches!(
            ended,
            StoreError::Failed {
                operation: "sync",
                ..
            }
        ),
        "{ended}"
    );
    assert_eq!(released.recv().await, None, "the receipt was dropped");
}

#[tokio::test]
async fn a_stop_commits_what_is_in_the_channel_and_takes_no_more() {
    let rig = rig(Memory::default());
    let (acknowledge, mut released) = mpsc::channel(600);
    for seq in 0..600_u16 {
        let due = Due::new(seq + 1, acknowledge.clone());
        let payload = payload(0, &[(u32::from(seq), 400)]);
        rig.publications
            .send(publication(readings(0), payload, Some(due)))
            .await
            .unwrap();
    }
    let committed = rig.committer.watch_committed();
    rig.committer.stop().await.unwrap();
    drop(acknowledge);
    let mut count = 0;
    while released.recv().await.is_some() {
        count += 1;
    }
    assert_eq!(count, 600);
    assert!(rig.publications.is_closed());
    assert_eq!(
        rig.store.barrier().unwrap().commit(),
        rig.store.newest_commit()
    );
    assert_eq!(*committed.borrow(), rig.store.newest_commit());
}

#[tokio::test]
async fn refused_payloads_statements_and_unpromised_records_are_stored_counted_and_acknowledged() {
    let rig = rig(Memory::default());
    let (acknowledge, mut released) = mpsc::channel(8);
    let due = |packet_id| Some(Due::new(packet_id, acknowledge.clone()));
    let status = Topic::new(device(0), Channel::Status);
    let mut offline = [0; 80];
    let length = protocol::status::Status::Offline
        .encode(&mut offline)
        .unwrap();
    let sent = [
        publication(readings(0), b"nonsense".to_vec(), due(1)),
        publication(status.clone(), offline[..length].to_vec(), due(2)),
        publication(status, vec![0x82, 9, 0], due(3)),
        publication(readings(0), payload(0, &[(1, 400), (2, 400)]), None),
    ];
    for one in sent {
        rig.publications.send(one).await.unwrap();
    }
    for expected in 1..=3 {
        assert_eq!(released.recv().await, Some(expected));
    }
    let account = rig.account.clone();
    rig.committer.stop().await.unwrap();
    let counts = account.tally();
    counts.assert_balanced();
    assert_eq!(counts.records.refused[&Reason::Undecodable], 1);
    assert_eq!(counts.statements.refused[&Reason::WireVersion], 1);
    assert_eq!((counts.statements.stored, counts.records.stored), (1, 2));
    assert_eq!(counts.records_unpromised, 2);
    let presence = crate::store::device::Field::Presence;
    let stated = crate::store::device::stated(&rig.store, &device(0), presence).unwrap();
    assert_eq!(stated.unwrap().payload.0, offline[..length]);
}
