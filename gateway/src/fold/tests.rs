//! The fold against the rules in one call: whatever the order, whatever the crashes, the view is the
//! verdict.

use std::collections::BTreeMap;

use proptest::prelude::*;
use protocol::batch;
use protocol::key::Seq;
use protocol::reading::{Battery, FixQuality, Measured, Missing, Position, Reading};
use protocol::record::{
    Alarm, AlarmKind, Anchor, BootRecord, Numbered, Record, ResetCause, Shock, TimeSource,
};
use protocol::units::{
    CentiCelsius, Decimetres, DecimetresPerSecond, Latitude, Longitude, MilliG,
    MillimetresPerSecond, Milliseconds, Millivolts, Percent, Seconds, UptimeMs, UtcMs,
};
use rules::code::Code;
use rules::event::{Event, Phase, View};
use rules::plan::Plan;
use rules::verdict_of;

use super::*;
use crate::store::content::Content;
use crate::store::journal::Stored;
use crate::store::memory::Memory;
use crate::store::{damage, outbox};

const START_MS: i64 = 1_772_323_200_000;
const MINUTE_MS: u64 = 60_000;

const PLAN: &str = r#"
version = 1
[[fence]]
id = "a"
name = "Depot A"
lat = 50.0
lon = 8.0
radius_m = 300
[[fence]]
id = "b"
name = "Store B"
lat = 50.2
lon = 8.0
radius_m = 300
[[profile]]
name = "cool"
max_gap = "10min"
settling = "0s"
silent_after = "2h"
shock = { class = "electronics" }
[[profile.temperature]]
name = "hot"
above = 8.0
inclusive = false
delay = "20min"
severity = "critical"
[[shipment]]
id = "S-1"
profile = "cool"
[[shipment.unit]]
id = "pallet-1"
trackers = ["t-1"]
[[shipment.stop]]
id = "pickup"
fence = "a"
role = "pickup"
[[shipment.stop]]
id = "delivery"
fence = "b"
role = "delivery"
"#;

fn device() -> DeviceId {
    "t-1".parse().unwrap()
}

fn context() -> Context {
    let plan = Plan::parse(PLAN).unwrap_or_else(|faults| panic!("{faults:?}"));
    Context::new(Arc::new(plan), rules::Options::default())
}

/// A journey: half an hour in the depot, an hour on the road, too warm for 40 minutes of it, a blow,
/// an hour in the store.
fn journey() -> Vec<Record> {
    let boot = BootRecord {
        uptime: UptimeMs::saturating(0),
        build_time: UtcMs::saturating(START_MS - 1),
        previous_last: None,
        cause: ResetCause::PowerOn,
        version: [1, 0, 0],
    };
    let anchor = Anchor {
        uptime: UptimeMs::saturating(0),
        utc: UtcMs::saturating(START_MS),
        source: TimeSource::Gnss,
        uncertainty: Milliseconds::saturating(10),
        rollover_corrected: false,
    };
    let mut records = vec![Record::Boot(boot), Record::Anchor(anchor)];
    for minute in 0..150 {
        records.push(Record::Reading(reading(minute)));
        if minute == 62 {
            records.push(Record::Alarm(blow(minute)));
        }
    }
    records
}

fn reading(minute: u64) -> Reading {
    let driven = minute.clamp(30, 90) - 30;
    let latitude = 500_000_000 + i32::try_from(driven).unwrap() * 2_000_000 / 60;
    let speed = if (31..90).contains(&minute) { 61 } else { 0 };
    let celsius = if (45..85).contains(&minute) {
        1_150
    } else {
        450
    };
    let mut reading = Reading::empty(uptime(minute));
    reading.position = Measured::Value(Position {
        latitude: Latitude::new(latitude).unwrap(),
        longitude: Longitude::new(80_000_000).unwrap(),
        accuracy: Decimetres::saturating(50),
        speed: DecimetresPerSecond::saturating(speed),
        course: Measured::Missing(Missing::NotSampled),
        quality: FixQuality::Gnss3d,
        satellites: 9,
        age: Seconds::saturating(0),
    });
    reading.temperatures[0] = Measured::Value(CentiCelsius::new(celsius).unwrap());
    reading.battery = Measured::Value(Battery {
        voltage: Millivolts::saturating(3_700),
        charge: Percent::saturating(80),
    });
    reading
}

fn blow(minute: u64) -> Alarm {
    let g = MilliG::saturating(40_000);
    Alarm {
        uptime: uptime(minute),
        kind: AlarmKind::Shock,
        limit: 25_000,
        since: uptime(minute),
        extreme: 40_000,
        count: 1,
        shock: Some(Shock {
            peak: [g, MilliG::saturating(0), MilliG::saturating(0)],
            duration: Some(Milliseconds::saturating(11)),
            delta_v: Some(MillimetresPerSecond::saturating(2_700)),
        }),
    }
}

fn uptime(minute: u64) -> UptimeMs {
    UptimeMs::new(minute * MINUTE_MS).unwrap()
}

fn key(seq: usize) -> RecordKey {
    RecordKey::new(7, 1, u32::try_from(seq).unwrap())
}

/// Appends records of these sequence numbers as one durable commit.
fn deliver(store: &Store, seqs: &[usize]) {
    deliver_at(store, seqs, START_MS);
}

/// The same, received at a moment.
fn deliver_at(store: &Store, seqs: &[usize], received_ms: i64) {
    deliver_records(store, &journey(), seqs, received_ms);
}

fn deliver_records(store: &Store, records: &[Record], seqs: &[usize], received_ms: i64) {
    let stored = |seq: &usize| {
        let seq_number = Seq(u32::try_from(*seq).unwrap());
        let numbered = Numbered {
            seq: seq_number,
            record: records[*seq],
        };
        let content = Content::of(&batch::Entry {
            numbered,
            unknown: &[],
        })
        .unwrap();
        Stored {
            seq: seq_number,
            content,
        }
    };
    let entry = Entry::Records(Records {
        device: device(),
        epoch: key(0).epoch,
        boot: key(0).boot,
        received_at: UtcMs::saturating(received_ms),
        qos: 1,
        oldest_pending: key(0),
        records: seqs.iter().map(stored).collect(),
    });
    let mut batch = Batch::default();
    let commit = Commit(store.newest_commit().0 + 1);
    journal::append(&mut batch, commit, &[entry]).unwrap();
    store.apply(batch).unwrap();
    store.barrier().unwrap();
}

fn open(store: Store) -> Fold {
    let clock = Clock::scaled(UtcMs::saturating(START_MS), 1);
    Fold::open(
        store,
        context(),
        vec!["file".to_owned()],
        clock,
        watch::channel(0).0,
    )
    .unwrap()
}

fn stored_view(store: &Store) -> View {
    let mut events = View::new();
    view::each_of_all(store, |_, _, posted: Posted| {
        let Event { id, code, .. } = posted.revision.event.clone();
        if posted.revision.phase != Phase::Retract && !code.is_outside_verdict() {
            events.insert(id, posted.revision.event);
        }
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    events
}

fn verdict(seqs: impl IntoIterator<Item = usize>) -> View {
    let journey = journey();
    let records = seqs
        .into_iter()
        .map(|seq| (key(seq), journey[seq]))
        .collect();
    verdict_of(&context(), "S-1", &BTreeMap::from([(device(), records)]))
}

#[test]
fn a_journey_in_order_gives_its_milestones_and_exceptions() {
    let store = Memory::default().open();
    let mut fold = open(store.clone());
    for seqs in (0..journey().len()).collect::<Vec<_>>().chunks(20) {
        deliver(&store, seqs);
        fold.catch_up().unwrap();
    }
    let view = stored_view(&store);
    let codes: Vec<&str> = view.values().map(|event| event.code.as_str()).collect();
    for code in [
        "EX_TEMPERATURE",
        "EX_SHOCK",
        "PICKED_UP",
        "IN_TRANSIT",
        "DELIVERED",
    ] {
        assert_eq!(
            codes.iter().filter(|found| **found == code).count(),
            1,
            "{code}: {codes:?}"
        );
    }
    assert_eq!(view, verdict(0..journey().len()));
}

#[test]
fn a_commit_that_left_nothing_in_the_journal_is_not_waited_for() {
    let store = Memory::default().open();
    let mut fold = open(store.clone());
    deliver(&store, &[0, 1, 2]);
    let newest = Commit(store.newest_commit().0 + 1);
    let mut batch = Batch::default();
    journal::append(&mut batch, newest, &[]).unwrap();
    store.apply(batch).unwrap();
    assert_eq!(fold.catch_up().unwrap(), 3);
    assert_eq!(store.newest_folded(), newest);
}

#[test]
fn what_sinks_were_woken_for_survives_a_power_cut() {
    let disk = Memory::default();
    let store = disk.open();
    let (wake, posted) = watch::channel(0);
    let clock = Clock::scaled(UtcMs::saturating(START_MS), 1);
    let sinks = vec!["file".to_owned()];
    let mut fold = Fold::open(store.clone(), context(), sinks, clock, wake).unwrap();
    deliver(&store, &(0..journey().len()).collect::<Vec<_>>());
    fold.catch_up().unwrap();
    let told = |store: &Store| {
        let mut rows = Vec::new();
        view::each_of_all(store, |_, _, posted: Posted| {
            rows.push(posted);
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        rows
    };
    let before = told(&store);
    let newest = before.iter().map(|posted| posted.sequence).max();
    assert_eq!(
        newest,
        Some(*posted.borrow()),
        "sinks were woken for all of it"
    );
    disk.cut_power();
    assert_eq!(told(&disk.open()), before);
}

/// Every event with its newest revision, in the view and in the queue of the sink.
fn told_and_queued(store: &Store) -> [BTreeMap<String, u32>; 2] {
    let (mut told, mut queued) = (BTreeMap::new(), BTreeMap::new());
    view::each_of_all(store, |_, event, row: Posted| {
        told.insert(event, row.revision.rev);
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    for row in outbox::pending(store, "file", 0, 100_000).unwrap() {
        let newest = queued.entry(row.pointer.event).or_default();
        *newest = row.pointer.revision.max(*newest);
    }
    [told, queued]
}

#[test]
fn whatever_row_is_damaged_the_fold_goes_on_and_sinks_are_told_what_is_stated() {
    for (prefix, while_running) in ["e|", "o|", "h|", "j|"]
        .into_iter()
        .flat_map(|prefix| [(prefix, true), (prefix, false)])
    {
        let disk = Memory::default();
        let store = disk.open();
        let mut fold = open(store.clone());
        let all: Vec<usize> = (0..journey().len()).collect();
        let (before, after) = all.split_at(140);
        deliver(&store, before);
        fold.catch_up().unwrap();
        deliver(&store, &after[..5]);
        deliver(&store, &after[5..]);
        let damaged = disk.keys(prefix.as_bytes()).remove(0);
        disk.damage(&damaged);
        if !while_running {
            store.barrier().unwrap();
            drop(fold);
            fold = open(disk.open());
        }
        // Whoever reads the row finds the damage; the fold mends it in its next round.
        fold.store.check_rows().unwrap();
        fold.watch().unwrap();
        fold.catch_up().unwrap();
        let store = disk.open();
        assert_eq!(store.newest_folded(), store.newest_commit());
        let [told, queued] = told_and_queued(&store);
        assert_eq!(told, queued, "{prefix}, while running: {while_running}");
        assert!(told.len() > 3, "{told:?}");
        let of_kind = damage::counts(&store).unwrap();
        assert_eq!(of_kind.get(&prefix[..1]), Some(&1), "{of_kind:?}");
    }
}

/// Phases of what was told of clocks, by revision.
fn clocks_told(store: &Store) -> Vec<(Phase, u32)> {
    let mut told = Vec::new();
    view::each_of_all(store, |_, _, posted: Posted| {
        if posted.revision.event.code == Code::Clock {
            told.push((posted.revision.phase, posted.revision.rev));
        }
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    told
}

#[test]
fn a_clock_ahead_of_reception_is_told_once_closed_when_good_and_no_part_of_the_verdict() {
    let store = Memory::default().open();
    let mut fold = open(store.clone());
    let all: Vec<usize> = (0..journey().len()).collect();
    let (early, late) = all.split_at(80);
    deliver_at(&store, early, START_MS);
    fold.catch_up().unwrap();
    fold.watch().unwrap();
    assert_eq!(clocks_told(&store), [(Phase::Open, 1)]);
    fold.watch().unwrap();
    store.barrier().unwrap();
    drop(fold);
    let mut fold = open(store.clone());
    fold.watch().unwrap();
    assert_eq!(
        clocks_told(&store),
        [(Phase::Open, 1)],
        "a restart opens no second"
    );
    deliver_at(&store, late, START_MS + 150 * 60_000);
    fold.catch_up().unwrap();
    fold.watch().unwrap();
    assert_eq!(clocks_told(&store), [(Phase::Close, 2)]);
    assert_eq!(stored_view(&store), verdict(all));
}

#[test]
fn a_refused_clock_is_told_although_nothing_of_the_tracker_has_a_time() {
    let store = Memory::default().open();
    let mut fold = open(store.clone());
    let year_ms = 366 * 86_400_000;
    let mut records = journey();
    for record in &mut records {
        if let Record::Anchor(anchor) = record {
            anchor.utc = UtcMs::saturating(anchor.utc.get() - year_ms);
        }
    }
    deliver_records(&store, &records, &[0, 1, 2, 3], START_MS);
    fold.catch_up().unwrap();
    fold.watch().unwrap();
    assert_eq!(clocks_told(&store), [(Phase::Open, 1)]);
    assert!(stored_view(&store).is_empty());
}

#[test]
fn a_contested_record_is_forgotten() {
    let store = Memory::default().open();
    let mut fold = open(store.clone());
    deliver(&store, &(0..journey().len()).collect::<Vec<_>>());
    fold.catch_up().unwrap();
    let blow = journey()
        .iter()
        .position(|record| matches!(record, Record::Alarm(_)))
        .unwrap();
    let contested = Entry::Contested {
        device: device(),
        key: key(blow),
    };
    let mut batch = Batch::default();
    journal::append(
        &mut batch,
        Commit(store.newest_commit().0 + 1),
        &[contested],
    )
    .unwrap();
    store.apply(batch).unwrap();
    fold.catch_up().unwrap();
    let view = stored_view(&store);
    assert!(
        view.values().all(|event| event.code.as_str() != "EX_SHOCK"),
        "retracted"
    );
    assert_eq!(
        view,
        verdict((0..journey().len()).filter(|seq| *seq != blow))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// After every commit the view is the verdict on what has come so far; a power cut after some of
    /// them loses nothing; and each sink's newest pointers add up to the view.
    #[test]
    fn the_view_is_the_verdict_in_every_order_and_after_every_crash(
        order in Just((0..journey().len()).collect::<Vec<_>>()).prop_shuffle(),
        size in 5_usize..40,
        crashes in proptest::collection::vec(any::<bool>(), 40),
    ) {
        let disk = Memory::default();
        let mut store = disk.open();
        let mut fold = open(store.clone());
        let mut come = Vec::new();
        for (seqs, crash) in order.chunks(size).zip(crashes.into_iter().cycle()) {
            deliver(&store, seqs);
            come.extend_from_slice(seqs);
            fold.catch_up().unwrap();
            if crash {
                disk.cut_power();
                store = disk.open();
                fold = open(store.clone());
            }
            prop_assert_eq!(stored_view(&store), verdict(come.iter().copied()));
        }
        let [told, queued] = told_and_queued(&store);
        prop_assert_eq!(told, queued);
    }
}
