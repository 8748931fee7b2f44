//! The fold against the rules in one call: whatever the order, whatever the crashes, the view is the
//! verdict.

mod restart;
mod rig;
mod seal;
mod urgent;

use std::ops::ControlFlow;

use protocol::key::Seq;
use protocol::record::Record;
use protocol::units::UtcMs;
use rules::code::Code;
use rules::event::Phase;

use self::rig::{
    START_MS, all, blow_at, contest, context, deliver, deliver_at, deliver_records, device,
    journey, open, stored_view, told_and_queued, verdict,
};
use super::posted::Posted;
use super::*;
use crate::store::content::Content;
use crate::store::damage::unreadable;
use crate::store::journal::{Entry, Records, Stored};
use crate::store::memory::Memory;
use crate::store::{damage, view};

#[test]
fn a_journey_in_order_gives_its_milestones_and_exceptions() {
    let store = Memory::default().open();
    let mut fold = open(store.clone());
    for places in all().chunks(20) {
        deliver(&store, places);
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
    fold.catch_up().unwrap();
    deliver(&store, &all());
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

#[test]
fn whatever_row_is_damaged_the_fold_goes_on_and_sinks_are_told_what_is_stated() {
    for (prefix, while_running) in ["e|", "o|", "h|", "j|"]
        .into_iter()
        .flat_map(|prefix| [(prefix, true), (prefix, false)])
    {
        let disk = Memory::default();
        let store = disk.open();
        let mut fold = open(store.clone());
        let all = all();
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

#[test]
fn a_record_that_this_version_cannot_read_is_left_where_it_is_and_counted_once() {
    let disk = Memory::default();
    let store = disk.open();
    let mut fold = open(store.clone());
    deliver(&store, &all());
    fold.catch_up().unwrap();
    // One byte that is no record, as the last of its boot.
    let (last, _) = journey().pop().unwrap();
    let newer = Stored {
        seq: Seq(last.seq.0 + 1),
        content: Content::from_stored(vec![1, 0xff]),
    };
    let mut batch = Batch::default();
    let records = Records {
        device: device(),
        epoch: last.epoch,
        boot: last.boot,
        received_at: UtcMs::saturating(START_MS),
        qos: 1,
        oldest_pending: last,
        records: vec![newer],
    };
    let commit = Commit(store.newest_commit().0 + 1);
    journal::append(&mut batch, commit, &[Entry::Records(records)]).unwrap();
    store.apply(batch).unwrap();
    store.barrier().unwrap();
    fold.catch_up().unwrap();
    let counted = |store: &Store| {
        let counts = unreadable::counts(store).unwrap();
        (counts["h"], unreadable::of(store, &device()).unwrap())
    };
    assert_eq!(counted(&store), (1, 1));
    // A new life meets it again, in the history.
    store.barrier().unwrap();
    drop(fold);
    let store = disk.open();
    let fold = open(store.clone());
    assert_eq!(counted(&fold.store), (1, 1));
    assert_eq!(stored_view(&store), verdict(0..journey().len()));
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
    let all = all();
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
    for (_, record) in &mut records {
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
    deliver(&store, &all());
    fold.catch_up().unwrap();
    let blow = blow_at();
    contest(&store, &[blow]);
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
