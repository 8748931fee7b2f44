//! Seals: given the same one, the view of a shipment is the same in every order of arrival, whatever comes
//! behind it and wherever the power is cut.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use proptest::prelude::*;
use protocol::key::RecordKey;
use protocol::record::Record;
use protocol::units::UtcMs;
use rules::event::View;
use rules::plan::Plan;
use rules::{Context, Options, verdict_of};

use super::rig::{
    PLAN, START_MS, all, contest, deliver, device, journey, opened, stored_view, told_and_queued,
};
use crate::clock::Clock;
use crate::fold::Fold;
use crate::fold::posted::Posted;
use crate::store::memory::Memory;
use crate::store::seal::{self, EndedBy, Late, Totals};
use crate::store::{Store, view};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The planned end of the journey: the end of its last window.
const PLANNED_MS: i64 = START_MS + 3 * HOUR_MS;

/// The plan with a window for the delivery, and the next journey of the tracker from the reset on that begins
/// its last life, 122 minutes behind the start.
fn plan() -> String {
    let window = "role = \"delivery\"\nwindow = { from = 2026-03-01T01:00:00Z, until = 2026-03-01T03:00:00Z }\n";
    let taken_off = "[[shipment.unit.tracker]]\ndevice = \"t-1\"\nuntil = 2026-03-01T02:02:00Z\n";
    let next = r#"
[[shipment]]
id = "S-2"
profile = "cool"
[[shipment.unit]]
id = "pallet-2"
[[shipment.unit.tracker]]
device = "t-1"
from = 2026-03-01T02:02:00Z
[[shipment.stop]]
id = "pickup"
fence = "b"
role = "pickup"
"#;
    let first = PLAN.replace("role = \"delivery\"\n", window);
    first.replace("trackers = [\"t-1\"]\n", taken_off) + next
}

fn context_of(text: &str) -> Context {
    let plan = Plan::parse(text).unwrap_or_else(|faults| panic!("{faults:?}"));
    Context::new(Arc::new(plan), Options::default())
}

/// The verdict on a shipment from these places of the journey.
fn verdict(shipment: &str, places: impl IntoIterator<Item = usize>) -> View {
    let journey = journey();
    let records = places.into_iter().map(|place| journey[place]).collect();
    let records: BTreeMap<_, Vec<(RecordKey, Record)>> = BTreeMap::from([(device(), records)]);
    verdict_of(&context_of(&plan()), shipment, &records)
}

fn view_of(store: &Store, shipment: &str) -> View {
    let view = stored_view(store);
    view.into_iter()
        .filter(|(_, event)| event.shipment == shipment)
        .collect()
}

/// Every row of a shipment's view, revisions included.
fn rows_of(store: &Store, shipment: &str) -> Vec<Posted> {
    let mut rows = Vec::new();
    view::each(store, shipment, |_, posted: Posted| {
        rows.push(posted);
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    rows
}

fn start(store: Store) -> Fold {
    let mut fold = opened(store, context_of(&plan()));
    fold.catch_up().unwrap();
    fold
}

/// Look at the time at this moment.
fn at(fold: &mut Fold, ms: i64) {
    fold.clock = Clock::scaled(UtcMs::saturating(ms), 0);
    fold.watch().unwrap();
    fold.catch_up().unwrap();
}

/// A day of half hours from this moment on, after which a clock that jumped there is believed.
fn day_from(fold: &mut Fold, ms: i64) {
    (0..=48).for_each(|half_hour| at(fold, ms + half_hour * HOUR_MS / 2));
}

/// Places of the journey before and behind the moment when the tracker changes shipments.
fn by_shipment() -> (Vec<usize>, Vec<usize>) {
    let journey = journey();
    all()
        .into_iter()
        .partition(|place| journey[*place].0.epoch.0 == 7)
}

#[test]
fn a_shipment_is_sealed_when_the_horizon_behind_its_delivery_is_over_and_not_before() {
    let store = Memory::default().open();
    let mut fold = start(store.clone());
    deliver(&store, &all());
    fold.catch_up().unwrap();
    let view = view_of(&store, "S-1");
    let delivered = view
        .values()
        .find(|event| event.code.as_str() == "DELIVERED");
    let end_ms = delivered.unwrap().occurred_at.get();
    let before = rows_of(&store, "S-1");
    day_from(&mut fold, end_ms + 29 * DAY_MS - 1);
    assert!(!seal::is_sealed(&store, "S-1").unwrap());
    at(&mut fold, end_ms + 30 * DAY_MS + HOUR_MS / 2);
    let sealed = seal::of(&store, "S-1").unwrap().unwrap();
    assert_eq!(sealed.ended_by, EndedBy::Delivery);
    assert_eq!(sealed.ended_at_ms, end_ms);
    assert_eq!((sealed.trackers, sealed.keys), (1, all().len() as u64));
    let covers = seal::of_device(&store, &device()).unwrap();
    let [(shipment, cover)] = covers.as_slice() else {
        panic!("{covers:?}");
    };
    assert_eq!(shipment, "S-1");
    assert!(journey().iter().all(|(key, _)| cover.covers(*key)));
    assert!(!cover.covers(RecordKey::new(7, 1, 500)));
    assert_eq!(rows_of(&store, "S-1"), before);
    assert!(!seal::is_sealed(&store, "S-2").unwrap(), "it has no end");
    let once = seal::of(&store, "S-1").unwrap();
    day_from(&mut fold, end_ms + 31 * DAY_MS);
    assert_eq!(seal::of(&store, "S-1").unwrap(), once, "written once");
    let shipments = seal::totals(&store).unwrap().shipments;
    assert_eq!(shipments, 1);
}

#[test]
fn a_delivery_that_the_gateway_learnt_of_late_is_sealed_a_horizon_behind_that() {
    let store = Memory::default().open();
    // A plan that states no end: before it is told of, there is none.
    let mut fold = opened(store.clone(), context_of(PLAN));
    fold.catch_up().unwrap();
    let learnt_ms = START_MS + 100 * DAY_MS;
    day_from(&mut fold, learnt_ms - DAY_MS);
    deliver(&store, &all());
    fold.catch_up().unwrap();
    day_from(&mut fold, learnt_ms + 28 * DAY_MS);
    assert!(!seal::is_sealed(&store, "S-1").unwrap());
    day_from(&mut fold, learnt_ms + 29 * DAY_MS);
    let sealed = seal::of(&store, "S-1").unwrap().unwrap();
    assert_eq!(sealed.ended_at_ms, learnt_ms);
}

#[test]
fn without_a_delivery_the_end_is_the_planned_one_or_when_its_trackers_were_last_heard() {
    // Nothing ever came.
    let store = Memory::default().open();
    let mut fold = start(store.clone());
    day_from(&mut fold, PLANNED_MS + 29 * DAY_MS);
    let sealed = seal::of(&store, "S-1").unwrap().unwrap();
    assert_eq!((sealed.ended_by, sealed.keys), (EndedBy::Plan, 0));
    assert_eq!(sealed.ended_at_ms, PLANNED_MS);
    // The tracker of a plan without its removal went on for an hour behind the planned end.
    let text = PLAN.replace(
        "role = \"delivery\"\n",
        "role = \"delivery\"\nwindow = { from = 2026-03-01T00:10:00Z, until = 2026-03-01T00:30:00Z }\n",
    );
    let store = Memory::default().open();
    let mut fold = opened(store.clone(), context_of(&text));
    fold.catch_up().unwrap();
    deliver(&store, &all()[..90]);
    fold.catch_up().unwrap();
    let heard = fold
        .trackers
        .heard(&fold.context, &fold.context.plan().shipments[0]);
    let heard_ms = heard[&device()].at.get();
    assert!(heard_ms > START_MS + HOUR_MS);
    day_from(&mut fold, heard_ms + 29 * DAY_MS - HOUR_MS / 2);
    assert!(!seal::is_sealed(&store, "S-1").unwrap());
    at(&mut fold, heard_ms + 30 * DAY_MS);
    assert_eq!(
        seal::of(&store, "S-1").unwrap().unwrap().ended_at_ms,
        heard_ms
    );
}

#[test]
fn nothing_is_sealed_for_a_day_after_a_jump_of_the_clock_nor_while_a_commit_waits() {
    let store = Memory::default().open();
    let mut fold = start(store.clone());
    let (first, next) = by_shipment();
    deliver(&store, &first);
    fold.catch_up().unwrap();
    let jumped_ms = START_MS + 40 * DAY_MS;
    (0..48).for_each(|half_hour| at(&mut fold, jumped_ms + half_hour * HOUR_MS / 2));
    assert!(!seal::is_sealed(&store, "S-1").unwrap(), "the clock jumped");
    deliver(&store, &next[..1]);
    fold.clock = Clock::scaled(UtcMs::saturating(jumped_ms + DAY_MS), 0);
    fold.watch().unwrap();
    assert!(!seal::is_sealed(&store, "S-1").unwrap(), "a commit waits");
    fold.catch_up().unwrap();
    at(&mut fold, jumped_ms + DAY_MS + HOUR_MS / 2);
    let sealed = seal::of(&store, "S-1").unwrap().unwrap();
    assert_eq!(sealed.keys, first.len() as u64 + 1);
}

#[test]
fn late_keys_are_stored_counted_and_change_no_event_while_the_next_shipment_is_judged() {
    let disk = Memory::default();
    let store = disk.open();
    let mut fold = start(store.clone());
    let (first, next) = by_shipment();
    // A part of the warm stretch and of the stay in the store comes too late.
    let (late, early): (Vec<usize>, Vec<usize>) = first
        .iter()
        .partition(|place| (50..60).contains(*place) || **place > 100);
    deliver(&store, &early);
    fold.catch_up().unwrap();
    day_from(&mut fold, START_MS + 40 * DAY_MS);
    assert!(seal::is_sealed(&store, "S-1").unwrap());
    let before = rows_of(&store, "S-1");
    assert_eq!(view_of(&store, "S-1"), verdict("S-1", early.clone()));
    assert_ne!(
        verdict("S-1", early.clone()),
        verdict("S-1", first.clone()),
        "they would matter"
    );
    for places in [&late[..5], &next, &late[5..]] {
        deliver(&store, places);
        fold.catch_up().unwrap();
    }
    let contested = early[20];
    contest(&store, &[contested]);
    fold.catch_up().unwrap();
    fold.watch().unwrap();
    assert_eq!(rows_of(&store, "S-1"), before);
    let kept = all().into_iter().filter(|place| *place != contested);
    assert_eq!(view_of(&store, "S-2"), verdict("S-2", kept));
    assert!(!view_of(&store, "S-2").is_empty());
    let [(shipment, of_device)] = &seal::late_of(&store, &device()).unwrap()[..] else {
        panic!("one shipment");
    };
    let records = late.len() as u64;
    assert_eq!(shipment, "S-1");
    assert_eq!(
        *of_device,
        Late {
            records,
            contested: 1,
            last_ms: START_MS
        }
    );
    let totals = Totals {
        shipments: 1,
        late_records: records,
        late_contested: 1,
    };
    assert_eq!(seal::totals(&store).unwrap(), totals);
    let [told, queued] = told_and_queued(&store);
    assert_eq!(told, queued);
}

#[test]
fn a_tracker_that_no_shipment_watches_any_more_is_dated_by_the_first_records_of_its_boot() {
    let store = Memory::default().open();
    let text = plan();
    let (text, _) = text.split_once("[[shipment]]\nid = \"S-2\"").unwrap();
    let open = |store| {
        let mut fold = opened(store, context_of(text));
        fold.catch_up().unwrap();
        fold
    };
    let mut fold = open(store.clone());
    let (first, next) = by_shipment();
    let (late, early): (Vec<usize>, Vec<usize>) = first.iter().partition(|place| **place % 9 == 5);
    deliver(&store, &early);
    fold.catch_up().unwrap();
    day_from(&mut fold, START_MS + 40 * DAY_MS);
    assert!(seal::is_sealed(&store, "S-1").unwrap());
    assert!(
        fold.trackers.tracker(&device()).is_none(),
        "it has no duty left"
    );
    // What it saw when it was off the shipment is not late; its anchor comes with it.
    deliver(&store, &next);
    fold.catch_up().unwrap();
    assert!(seal::late_of(&store, &device()).unwrap().is_empty());
    for places in late.chunks(4) {
        deliver(&store, places);
        fold.catch_up().unwrap();
        fold = open(store.clone());
    }
    let counted = seal::late_of(&store, &device()).unwrap();
    assert_eq!(counted[0].1.records, late.len() as u64);
}

#[test]
fn a_plan_that_says_something_else_of_a_sealed_shipment_changes_nothing_and_is_told() {
    let store = Memory::default().open();
    let mut fold = start(store.clone());
    deliver(&store, &all());
    fold.catch_up().unwrap();
    day_from(&mut fold, START_MS + 40 * DAY_MS);
    let before = rows_of(&store, "S-1");
    assert!(!before.is_empty());
    assert!(seal::changed_in_plan(&store).unwrap().is_empty());
    let stricter = plan().replace("delay = \"20min\"", "delay = \"1min\"");
    for (text, changed) in [(stricter, vec!["S-1".to_owned()]), (plan(), Vec::new())] {
        let mut fold = opened(store.clone(), context_of(&text));
        fold.catch_up().unwrap();
        fold.watch().unwrap();
        assert_eq!(rows_of(&store, "S-1"), before);
        assert_eq!(seal::changed_in_plan(&store).unwrap(), changed);
    }
    // Nor does one that does not know it.
    let mut fold = opened(store.clone(), context_of(&plan().replace("S-1", "S-3")));
    fold.catch_up().unwrap();
    assert_eq!(rows_of(&store, "S-1"), before);
}

#[test]
fn a_seal_cut_off_on_its_way_is_written_again_and_one_that_is_damaged_still_holds() {
    let disk = Memory::default();
    let store = disk.open();
    let mut fold = start(store.clone());
    let (first, _) = by_shipment();
    let (early, late) = first.split_at(80);
    deliver(&store, early);
    fold.catch_up().unwrap();
    day_from(&mut fold, START_MS + 40 * DAY_MS);
    let whole = disk.keys(b"z|");
    let before = rows_of(&store, "S-1");
    // The power went before the head was written, with more keys under the seal than it has later.
    let head = whole.iter().find(|key| key.starts_with(b"z|\0")).unwrap();
    let cover = whole.iter().find(|key| key.starts_with(b"z|\x01")).unwrap();
    disk.tamper(|tree| {
        tree.remove(head);
        tree.remove(&b"m|seals"[..]);
        let row = tree[cover].clone();
        let mut stray = cover.clone();
        *stray.last_mut().unwrap() = 9;
        tree.insert(stray, row);
    });
    let mut fold = start(disk.open());
    let store = disk.open();
    assert!(!seal::is_sealed(&store, "S-1").unwrap());
    assert!(seal::of_device(&store, &device()).unwrap().is_empty());
    at(&mut fold, START_MS + 41 * DAY_MS + HOUR_MS / 2);
    assert!(seal::is_sealed(&store, "S-1").unwrap());
    assert_eq!(disk.keys(b"z|"), whole);
    assert_eq!(seal::totals(&store).unwrap().shipments, 1);
    // Its head is damaged: nobody can tell any more when it was sealed, but sealed it is.
    disk.damage(head);
    store.barrier().unwrap();
    for places in late.chunks(7) {
        disk.cut_power();
        let store = disk.open();
        let mut fold = start(store.clone());
        deliver(&store, places);
        fold.catch_up().unwrap();
        store.barrier().unwrap();
        assert!(seal::is_sealed(&store, "S-1").unwrap());
        assert_eq!(rows_of(&store, "S-1"), before);
    }
    assert_eq!(seal::of(&disk.open(), "S-1").unwrap(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// What comes before the seal may come in any order: view and seal are those of its keys. What comes
    /// behind it changes nothing but what is counted. The power is cut behind every commit, with checkpoints
    /// and without.
    #[test]
    fn given_the_same_seal_the_verdict_is_the_same_in_every_order(
        order in Just(by_shipment().0).prop_shuffle(),
        early in 20_usize..110,
        size in 5_usize..30,
        without_checkpoints in any::<bool>(),
    ) {
        let disk = Memory::default();
        let (early, late) = order.split_at(early);
        let cut = || {
            disk.open().barrier().unwrap();
            if without_checkpoints {
                disk.tamper(|tree| tree.retain(|key, _| !key.starts_with(b"s|")));
            }
            disk.cut_power();
            let store = disk.open();
            (start(store.clone()), store)
        };
        let (mut fold, mut store) = cut();
        for places in early.chunks(size) {
            deliver(&store, places);
            disk.cut_power();
            fold = start(disk.open());
            store = disk.open();
            prop_assert_eq!(&view_of(&store, "S-1"), &verdict("S-1", early_until(early, places)));
        }
        day_from(&mut fold, START_MS + 60 * DAY_MS);
        prop_assert!(seal::is_sealed(&store, "S-1").unwrap());
        let covers = seal::of_device(&store, &device()).unwrap();
        let covered = journey().iter().filter(|(key, _)| covers[0].1.covers(*key)).count();
        prop_assert_eq!(covered, early.len());
        let sealed_view = verdict("S-1", early.to_vec());
        let before = rows_of(&store, "S-1");
        for places in late.chunks(size) {
            deliver(&store, places);
            (fold, store) = cut();
            prop_assert_eq!(view_of(&store, "S-1"), sealed_view.clone());
            prop_assert_eq!(&rows_of(&store, "S-1"), &before);
        }
        at(&mut fold, START_MS + 62 * DAY_MS);
        prop_assert_eq!(seal::totals(&store).unwrap().late_records, late.len() as u64);
        prop_assert_eq!(seal::totals(&store).unwrap().shipments, 1);
        prop_assert_eq!(seal::of_device(&store, &device()).unwrap(), covers);
    }
}

/// Of `all` what has come up to and with `last`.
fn early_until(all: &[usize], last: &[usize]) -> Vec<usize> {
    let end = all
        .iter()
        .position(|place| Some(place) == last.last())
        .unwrap();
    all[..=end].to_vec()
}
