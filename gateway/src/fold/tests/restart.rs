//! Crashes, starts and checkpoints: none of them changes the view.

use std::sync::Arc;

use proptest::prelude::*;
use rules::event::View;
use rules::plan::Plan;
use rules::{Context, Options};

use super::rig::{
    PLAN, all, blow_at, contest, context, deliver, device, journey, open, opened, stored_view,
    told_and_queued, verdict,
};
use crate::fold::Fold;
use crate::fold::brought::by_device;
use crate::store::memory::{Memory, Tree};
use crate::store::{Batch, Commit, Store, journal, outbox};

/// What happens to what is stored while the gateway is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mishap {
    Nothing,
    /// All checkpoints are deleted.
    Deleted,
    /// One row of them is gone.
    Missing(usize),
    /// One row of them is damaged.
    Damaged(usize),
    /// The next commit is folded under a plan by which the rules judge otherwise.
    OtherPlan,
    /// The next commit is folded under a plan that does not name the tracker.
    ForeignPlan,
}

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        4 => Just(Mishap::Nothing),
        1 => Just(Mishap::Deleted),
        1 => (0..100_usize).prop_map(Mishap::Missing),
        1 => (0..100_usize).prop_map(Mishap::Damaged),
        1 => Just(Mishap::OtherPlan),
        1 => Just(Mishap::ForeignPlan),
    ]
}

fn is_checkpoint(key: &[u8]) -> bool {
    key.starts_with(b"s|")
}

/// The `number`-th checkpoint row, counted around.
fn checkpoint(tree: &Tree, number: usize) -> Option<Vec<u8>> {
    let keys: Vec<&Vec<u8>> = tree.keys().filter(|key| is_checkpoint(key)).collect();
    keys.get(number % keys.len().max(1))
        .map(|key| (*key).clone())
}

fn suffer(disk: &Memory, mishap: Mishap) {
    disk.tamper(|tree| match mishap {
        Mishap::Deleted => tree.retain(|key, _| !is_checkpoint(key)),
        Mishap::Missing(number) => {
            if let Some(key) = checkpoint(tree, number) {
                tree.remove(&key);
            }
        }
        Mishap::Damaged(number) => {
            let key = checkpoint(tree, number);
            let value = key.and_then(|key| tree.get_mut(&key));
            if let Some(byte) = value.and_then(|value| value.last_mut()) {
                *byte ^= 0x40;
            }
        }
        Mishap::Nothing | Mishap::OtherPlan | Mishap::ForeignPlan => {}
    });
}

/// The plan that a mishap puts in force for one commit.
fn plan_during(mishap: Mishap) -> Option<Context> {
    let text = match mishap {
        Mishap::OtherPlan => PLAN.replace("delay = \"20min\"", "delay = \"1min\""),
        Mishap::ForeignPlan => PLAN.replace("\"t-1\"", "\"t-2\""),
        _ => return None,
    };
    let plan = Plan::parse(&text).unwrap();
    Some(Context::new(Arc::new(plan), Options::default()))
}

/// A gateway that is cut off, mistreated and started again.
struct Machine {
    disk: Memory,
    store: Store,
    fold: Fold,
}

impl Machine {
    fn new() -> Self {
        let disk = Memory::default();
        let store = disk.open();
        let fold = open(store.clone());
        Self { disk, store, fold }
    }

    fn cut_power(&mut self) {
        self.disk.cut_power();
        self.store = self.disk.open();
    }

    fn restart(&mut self) {
        self.fold = open(self.store.clone());
    }

    fn view(&self) -> View {
        stored_view(&self.store)
    }
}

/// In order but for some of it: what a fleet with bad coverage sends.
fn delivery() -> impl Strategy<Value = Vec<usize>> {
    let count = journey().len();
    let swaps = proptest::collection::vec((0..count, 0..count), 0..6);
    let mostly_in_order = swaps.prop_map(move |swaps| {
        let mut order: Vec<usize> = (0..count).collect();
        swaps.into_iter().for_each(|(a, b)| order.swap(a, b));
        order
    });
    prop_oneof![
        2 => mostly_in_order,
        1 => Just((0..count).collect::<Vec<_>>()).prop_shuffle(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// After every commit the view is the verdict on what has come so far and is not contested; the
    /// power is cut after every one of them, whatever happens to the checkpoints; and each sink's newest
    /// pointers add up to the view.
    #[test]
    fn the_view_is_the_verdict_in_every_order_and_after_every_crash(
        order in delivery(),
        size in 5_usize..40,
        mishaps in proptest::collection::vec(proptest::option::weighted(0.7, mishap()), 40),
        contested in proptest::collection::vec(proptest::option::weighted(0.1, 0..100_usize), 40),
    ) {
        let mut machine = Machine::new();
        let mut come: Vec<usize> = Vec::new();
        let events = mishaps.into_iter().zip(contested).cycle();
        for (places, (mishap, contested)) in order.chunks(size).zip(events) {
            deliver(&machine.store, places);
            come.extend_from_slice(places);
            if let Some(number) = contested {
                let place = come.remove(number % come.len());
                contest(&machine.store, &[place]);
            }
            if let Some(context) = mishap.and_then(plan_during) {
                let mut fold = opened(machine.store.clone(), context);
                fold.catch_up().unwrap();
                machine.cut_power();
                machine.restart();
            }
            machine.fold.catch_up().unwrap();
            if let Some(mishap) = mishap {
                machine.cut_power();
                suffer(&machine.disk, mishap);
                machine.restart();
            }
            prop_assert_eq!(machine.view(), verdict(come.iter().copied()));
        }
        let [told, queued] = told_and_queued(&machine.store);
        prop_assert_eq!(told, queued);
    }
}

#[test]
fn checkpoints_that_outlive_a_late_record_give_another_view() {
    // The control: it shows that the property above sees a checkpoint that is not removed.
    let mut different = 0;
    for begin in (10..all().len() - 20).step_by(10) {
        let mut machine = Machine::new();
        let late: Vec<usize> = (begin..begin + 15).collect();
        let others: Vec<usize> = all()
            .into_iter()
            .filter(|place| !late.contains(place))
            .collect();
        for places in others.chunks(10) {
            deliver(&machine.store, places);
            machine.fold.catch_up().unwrap();
        }
        let kept = std::cell::RefCell::new(Tree::new());
        machine.disk.tamper(|tree| {
            let rows = tree.iter().filter(|(key, _)| is_checkpoint(key));
            *kept.borrow_mut() = rows
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
        });
        deliver(&machine.store, &late);
        machine.fold.catch_up().unwrap();
        assert_eq!(machine.view(), verdict(all()), "from {begin} on");
        machine.disk.tamper(|tree| {
            tree.retain(|key, _| !is_checkpoint(key));
            tree.extend(kept.borrow().clone());
        });
        machine.store = machine.disk.open();
        machine.restart();
        different += usize::from(machine.view() != verdict(all()));
    }
    assert!(different > 3, "{different}");
}

/// The history of the journey's tracker is taken away: only checkpoints know it.
fn forget_history(disk: &Memory) {
    disk.tamper(|tree| tree.retain(|key, _| !key.starts_with(b"h|")));
}

#[test]
fn an_orderly_stop_leaves_checkpoints_that_a_start_needs_no_history_for() {
    let mut machine = Machine::new();
    for places in all().chunks(10) {
        deliver(&machine.store, places);
        machine.fold.catch_up().unwrap();
    }
    machine.fold.close().unwrap();
    forget_history(&machine.disk);
    machine.store = machine.disk.open();
    machine.restart();
    assert_eq!(machine.view(), verdict(all()));
}

#[test]
fn a_start_after_a_crash_reads_only_what_came_behind_the_newest_checkpoint() {
    let mut machine = Machine::new();
    let (most, rest) = (&all()[..100], &all()[100..]);
    deliver(&machine.store, most);
    machine.fold.catch_up().unwrap();
    machine.fold.close().unwrap();
    machine.store.barrier().unwrap();
    forget_history(&machine.disk);
    machine.cut_power();
    deliver(&machine.store, &rest[..20]);
    machine.restart();
    deliver(&machine.store, &rest[20..]);
    machine.fold.catch_up().unwrap();
    assert_eq!(machine.view(), verdict(all()));
}

#[test]
fn a_commit_that_was_being_folded_when_the_power_failed_costs_no_checkpoint() {
    let mut machine = Machine::new();
    deliver(&machine.store, &all()[..100]);
    machine.fold.catch_up().unwrap();
    machine.fold.close().unwrap();
    deliver(&machine.store, &all()[100..]);
    // Its history is written and durable, its cursor is not.
    let mut waiting = journal::oldest(&machine.store, usize::MAX).unwrap();
    let brought = by_device(&mut waiting);
    machine.fold.keep(&brought, Batch::default()).unwrap();
    machine.store.barrier().unwrap();
    machine.cut_power();
    machine.restart();
    assert_eq!(machine.view(), verdict(all()));
    // Had it been taken for late, the marks of before would be gone.
    machine.disk.tamper(|tree| {
        let first = tree.keys().find(|key| key.starts_with(b"h|")).cloned();
        tree.remove(&first.unwrap());
    });
    machine.store = machine.disk.open();
    machine.restart();
    assert_eq!(machine.view(), verdict(all()));
}

#[test]
fn a_record_that_is_contested_while_it_still_waits_is_never_believed() {
    let last = journey().len() - 1;
    for (place, crash) in [
        (blow_at(), false),
        (blow_at(), true),
        (last, false),
        (last, true),
    ] {
        let mut machine = Machine::new();
        let split = place - 10;
        deliver(&machine.store, &all()[..split]);
        machine.fold.catch_up().unwrap();
        machine.fold.close().unwrap();
        // Three commits that are taken together.
        deliver(&machine.store, &all()[split..=place]);
        contest(&machine.store, &[place]);
        deliver(&machine.store, &all()[place + 1..]);
        if crash {
            let mut waiting = journal::oldest(&machine.store, usize::MAX).unwrap();
            let brought = by_device(&mut waiting);
            machine.fold.keep(&brought, Batch::default()).unwrap();
            machine.store.barrier().unwrap();
            machine.cut_power();
            machine.restart();
        }
        machine.fold.catch_up().unwrap();
        let believed = all().into_iter().filter(|other| *other != place);
        assert_eq!(machine.view(), verdict(believed), "{place} {crash}");
    }
}

#[test]
fn a_round_that_was_cut_off_may_be_taken_again_in_other_parts() {
    let mut machine = Machine::new();
    let places = all();
    for part in places.chunks(15) {
        deliver(&machine.store, part);
    }
    let mut waiting = journal::oldest(&machine.store, usize::MAX).unwrap();
    assert!(waiting.len() > 5);
    let brought = by_device(&mut waiting);
    machine.fold.keep(&brought, Batch::default()).unwrap();
    machine.store.barrier().unwrap();
    machine.cut_power();
    let mut fold = opened(machine.store.clone(), context());
    for commit in 1..=waiting.len() as u64 {
        let one = journal::oldest(&machine.store, 0).unwrap();
        assert_eq!(one[0].commit, Commit(commit));
        fold.take(one).unwrap();
    }
    fold.catch_up().unwrap();
    assert_eq!(machine.view(), verdict(all()));
    machine.restart();
    assert_eq!(machine.view(), verdict(all()));
}

/// The journey's plan with a second tracker, which is never heard, on the same shipment.
fn two_trackers() -> Context {
    let text = PLAN.replace("[\"t-1\"]", "[\"t-1\", \"t-0\"]");
    Context::new(Arc::new(Plan::parse(&text).unwrap()), Options::default())
}

#[test]
fn a_shipment_is_not_judged_before_all_its_trackers_are_rebuilt() {
    let disk = Memory::default();
    let store = disk.open();
    let mut fold = opened(store.clone(), two_trackers());
    deliver(&store, &all()[..120]);
    fold.catch_up().unwrap();
    store.barrier().unwrap();
    let told = told_and_queued(&store);
    assert!(told[0].len() > 3, "{told:?}");
    suffer(&disk, Mishap::Deleted);

    let store = disk.open();
    let mut fold = opened(store.clone(), two_trackers());
    let pending = fold.pending();
    assert_eq!(*pending.borrow(), 2);
    // What comes meanwhile goes into the history; the cursor moves, the view stays.
    deliver(&store, &all()[120..]);
    fold.advance().unwrap();
    assert_eq!(*pending.borrow(), 1, "t-0 is rebuilt, t-1 is not");
    assert_eq!(store.newest_folded(), store.newest_commit());
    assert_eq!(told_and_queued(&store), told);
    fold.watch().unwrap();
    assert_eq!(
        told_and_queued(&store),
        told,
        "nobody is silent who was not asked"
    );
    fold.catch_up().unwrap();
    assert_eq!(*pending.borrow(), 0);
    assert_eq!(stored_view(&store), verdict(all()));
    let revisions = outbox::pending(&store, "file", 0, 1_000).unwrap();
    let mut once: Vec<_> = revisions
        .iter()
        .map(|row| (row.pointer.event.clone(), row.pointer.revision))
        .collect();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), revisions.len(), "nothing is told twice");
}

#[test]
fn a_tracker_that_no_plan_names_leaves_no_checkpoint_behind() {
    let mut machine = Machine::new();
    deliver(&machine.store, &all()[..100]);
    machine.fold.catch_up().unwrap();
    assert!(machine.disk.keys(b"s|").len() > 2);
    let foreign = plan_during(Mishap::ForeignPlan).unwrap();
    let mut fold = opened(machine.store.clone(), foreign);
    deliver(&machine.store, &all()[100..]);
    fold.catch_up().unwrap();
    assert_eq!(machine.disk.keys(b"s|").len(), 0);
    machine.restart();
    assert_eq!(machine.view(), verdict(all()));
    assert_eq!(context().shipments_of(&device()).len(), 1);
}
