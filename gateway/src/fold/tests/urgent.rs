//! Alarms ahead of a backlog: told first, and the view is the verdict on what has been taken, whatever the
//! order, the rounds and the power cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use proptest::prelude::*;
use protocol::key::RecordKey;
use protocol::record::{Alarm, AlarmKind, Record};
use rules::event::View;
use rules::verdict_of;

use super::rig::{
    START_MS, contest, context, deliver_records, device, journey, opened, stored_view,
    told_and_queued,
};
use crate::fold::Fold;
use crate::store::memory::Memory;
use crate::store::{Commit, Store, history, outbox};

/// Where in the journey readings give way to alarms: too warm since minute 45, told at minute 66 and at 80,
/// and once more after the reset of minute 96, when it is cool again.
const ALARMS: [usize; 3] = [72, 86, 110];

/// The journey, with alarms in the place of some readings.
fn laden() -> Vec<(RecordKey, Record)> {
    let mut records = journey();
    for place in ALARMS {
        let record = &mut records[place].1;
        let uptime = record.uptime();
        *record = Record::Alarm(Alarm {
            uptime,
            kind: AlarmKind::TemperatureAbove(0),
            limit: 800,
            since: uptime,
            extreme: 1_150,
            count: 1,
            shock: None,
        });
    }
    records
}

fn is_alarm(place: usize) -> bool {
    matches!(laden()[place].1, Record::Alarm(_))
}

fn verdict(places: impl IntoIterator<Item = usize>) -> View {
    let records = laden();
    let records = places.into_iter().map(|place| records[place]).collect();
    verdict_of(&context(), "S-1", &BTreeMap::from([(device(), records)]))
}

fn codes(view: &View) -> BTreeSet<&str> {
    view.values().map(|event| event.code.as_str()).collect()
}

/// A fold that takes so many records in a round, and what was journalled for it.
struct Queue {
    disk: Memory,
    store: Store,
    fold: Fold,
    round_records: usize,
    /// What each commit brought, and which key it says is contested.
    commits: BTreeMap<Commit, (Vec<usize>, Option<usize>)>,
}

impl Queue {
    fn new(round_records: usize) -> Self {
        let disk = Memory::default();
        let store = disk.open();
        let mut queue = Self {
            fold: opened(store.clone(), context()),
            disk,
            store,
            round_records,
            commits: BTreeMap::new(),
        };
        queue.restart();
        queue
    }

    fn restart(&mut self) {
        self.store = self.disk.open();
        self.fold = opened(self.store.clone(), context());
        self.fold.round_records = self.round_records;
        if self.store.newest_folded() == self.store.newest_commit() {
            self.fold.catch_up().unwrap();
        }
    }

    fn deliver(&mut self, places: &[usize]) {
        deliver_records(&self.store, &laden(), places, START_MS);
        let commit = self.store.newest_commit();
        self.commits.insert(commit, (places.to_vec(), None));
    }

    fn contest(&mut self, place: usize) {
        contest(&self.store, &[place]);
        let commit = self.store.newest_commit();
        self.commits.insert(commit, (Vec::new(), Some(place)));
    }

    /// The verdict on every alarm there is and on what else the cursor has passed.
    fn expected(&self) -> View {
        let folded = self.store.newest_folded();
        let mut believed = BTreeSet::new();
        for (commit, (places, _)) in &self.commits {
            let counts = |place: &&usize| *commit <= folded || is_alarm(**place);
            believed.extend(places.iter().filter(counts));
        }
        for (commit, (_, contested)) in &self.commits {
            if let Some(place) = contested.filter(|place| *commit <= folded || is_alarm(*place)) {
                believed.remove(&place);
            }
        }
        verdict(believed)
    }
}

#[test]
fn an_alarm_behind_a_backlog_is_told_before_it_and_the_cursor_stays_in_its_order() {
    let mut queue = Queue::new(10);
    let count = laden().len();
    queue.deliver(&(0..60).collect::<Vec<_>>());
    queue.fold.catch_up().unwrap();
    let others: Vec<usize> = (60..count).filter(|place| !is_alarm(*place)).collect();
    others.chunks(10).for_each(|places| queue.deliver(places));
    queue.deliver(
        &(60..count)
            .filter(|place| is_alarm(*place))
            .collect::<Vec<_>>(),
    );
    let before = stored_view(&queue.store);
    assert!(!codes(&before).contains("EX_SHOCK"));
    assert!(!queue.store.alarms_unfolded_for().is_zero());

    queue.fold.advance().unwrap();
    assert_eq!(queue.store.newest_folded(), Commit(2), "one round");
    assert!(queue.store.alarms_unfolded_for().is_zero());
    let told = stored_view(&queue.store);
    assert!(codes(&told).contains("EX_SHOCK"), "{told:?}");
    assert!(codes(&told).contains("EX_TEMPERATURE"), "{told:?}");
    assert_eq!(told, queue.expected());
    let queued = outbox::pending(&queue.store, "file", 0, 1_000).unwrap();
    let queued: Vec<_> = queued.iter().map(|row| row.pointer.critical).collect();
    assert!(queued.contains(&true), "it is on its way to the sink");

    while queue.fold.advance().unwrap().is_some() {
        assert_eq!(stored_view(&queue.store), queue.expected());
    }
    assert_eq!(queue.store.newest_folded(), queue.store.newest_commit());
    assert_eq!(stored_view(&queue.store), verdict(0..count));
}

#[test]
fn without_its_copy_the_same_alarm_waits_for_its_turn() {
    // The control of the test above.
    let mut queue = Queue::new(10);
    let count = laden().len();
    queue.deliver(&(0..60).collect::<Vec<_>>());
    queue.fold.catch_up().unwrap();
    let places: Vec<usize> = (60..count).collect();
    places.chunks(10).for_each(|places| queue.deliver(places));
    queue
        .disk
        .tamper(|tree| tree.retain(|key, _| !key.starts_with(b"u|")));
    queue.fold.advance().unwrap();
    let told = stored_view(&queue.store);
    assert!(!codes(&told).contains("EX_TEMPERATURE"), "{told:?}");
    assert_ne!(told, queue.expected());
    queue.fold.catch_up().unwrap();
    assert_eq!(stored_view(&queue.store), verdict(0..count));
}

#[test]
fn an_alarm_that_comes_alone_or_with_little_else_is_judged_in_its_commit() {
    let mut queue = Queue::new(1_000);
    let count = laden().len();
    for first in (0..count).step_by(20) {
        queue.deliver(&(first..count.min(first + 20)).collect::<Vec<_>>());
        queue.fold.advance().unwrap();
        assert_eq!(queue.store.newest_folded(), queue.store.newest_commit());
        assert_eq!(stored_view(&queue.store), verdict(0..count.min(first + 20)));
        assert!(queue.disk.keys(b"u|").is_empty(), "no copy is left");
    }
}

#[test]
fn an_alarm_whose_boot_has_no_time_yet_is_told_with_the_anchor_that_dates_it() {
    let mut queue = Queue::new(10);
    let count = laden().len();
    let blow = (0..count).find(|place| is_alarm(*place)).unwrap();
    let others: Vec<usize> = (0..count).filter(|place| *place != blow).collect();
    others.chunks(10).for_each(|places| queue.deliver(places));
    queue.deliver(&[blow]);
    queue.fold.take_urgent().unwrap();
    assert!(queue.disk.keys(b"u|").is_empty());
    assert!(stored_view(&queue.store).is_empty());
    // Boot and anchor are in the first round.
    queue.fold.advance().unwrap();
    assert!(codes(&stored_view(&queue.store)).contains("EX_SHOCK"));
    assert_eq!(stored_view(&queue.store), queue.expected());
}

#[test]
fn an_alarm_of_a_tracker_that_is_not_rebuilt_has_it_rebuilt_first() {
    let mut queue = Queue::new(10);
    let count = laden().len();
    queue.deliver(&(0..60).collect::<Vec<_>>());
    queue.fold.catch_up().unwrap();
    queue.store.barrier().unwrap();
    let is_checkpoint = |key: &[u8]| key.starts_with(b"s|");
    queue
        .disk
        .tamper(|tree| tree.retain(|key, _| !is_checkpoint(key)));
    let places: Vec<usize> = (60..count).collect();
    places.chunks(10).for_each(|places| queue.deliver(places));
    queue.restart();
    let pending = queue.fold.pending();
    assert_eq!(*pending.borrow(), 1);
    // Its turn by itself is far away.
    queue.fold.rebuild_after += std::time::Duration::from_secs(3_600);
    queue.fold.advance().unwrap();
    assert_eq!(*pending.borrow(), 0);
    assert!(codes(&stored_view(&queue.store)).contains("EX_SHOCK"));
    assert_eq!(stored_view(&queue.store), queue.expected());
}

#[test]
fn the_power_may_fail_after_every_write_while_alarms_are_taken_ahead() {
    let count = laden().len();
    let contested = ALARMS[1];
    let mut queue = Queue::new(15);
    queue.deliver(&(0..50).collect::<Vec<_>>());
    queue.fold.catch_up().unwrap();
    queue.store.barrier().unwrap();
    for first in (50..count).step_by(9) {
        queue.deliver(&(first..count.min(first + 9)).collect::<Vec<_>>());
    }
    queue.disk.remember_writes();
    // The word comes when the alarm was told.
    queue.fold.advance().unwrap();
    queue.contest(contested);
    queue.fold.catch_up().unwrap();
    let believed = || (0..count).filter(|place| *place != contested);
    assert_eq!(stored_view(&queue.store), verdict(believed()));
    let moments = queue.disk.moments();
    assert!(moments.len() > 20, "{}", moments.len());
    for (number, moment) in moments.into_iter().enumerate() {
        queue.disk = Memory::holding(moment);
        queue.restart();
        let word_came = queue.store.newest_commit() == *queue.commits.keys().last().unwrap();
        queue.fold.catch_up().unwrap();
        let store = &queue.store;
        assert_eq!(store.newest_folded(), store.newest_commit());
        let expected = if word_came {
            verdict(believed())
        } else {
            verdict(0..count)
        };
        assert_eq!(stored_view(store), expected, "write {number}");
        let [told, queued] = told_and_queued(store);
        assert_eq!(told, queued, "write {number}");
        assert!(queue.disk.keys(b"u|").is_empty(), "write {number}");
        assert_eq!(kept(store), count, "write {number}");
        let rows = outbox::pending(store, "file", 0, 10_000).unwrap();
        let once: BTreeSet<_> = rows
            .iter()
            .map(|row| (&row.pointer.event, row.pointer.revision))
            .collect();
        assert_eq!(
            once.len(),
            rows.len(),
            "nothing is told twice: write {number}"
        );
    }
}

/// How many keys the history holds.
fn kept(store: &Store) -> usize {
    let mut keys = Vec::new();
    history::each(store, &device(), None, |key, _| {
        keys.push(key);
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count, "a key comes twice");
    count
}

/// In order but for some of it, the alarms among them.
fn delivery() -> impl Strategy<Value = Vec<usize>> {
    let count = laden().len();
    let swaps = proptest::collection::vec((0..count, 0..count), 0..6);
    let mostly_in_order = swaps.prop_map(move |swaps| {
        let mut order: Vec<usize> = (0..count).collect();
        swaps.into_iter().for_each(|(a, b)| order.swap(a, b));
        order
    });
    prop_oneof![
        3 => mostly_in_order,
        1 => Just((0..count).collect::<Vec<_>>()).prop_shuffle(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// After every step of the fold the view is the verdict on all alarms and on the commits that were taken,
    /// and in the end on everything; contested alarms and readings, power cuts and starts included.
    #[test]
    fn with_alarms_ahead_the_view_is_the_verdict_in_every_order_and_after_every_crash(
        order in delivery(),
        size in 3_usize..20,
        round_records in 1_usize..60,
        waves in 1_usize..4,
        contested in proptest::collection::vec(proptest::option::weighted(0.1, 0..100_usize), 60),
        cuts in proptest::collection::vec(any::<bool>(), 60),
    ) {
        let mut queue = Queue::new(round_records);
        // Not for ever: a round that tells nothing new is not durable, and is taken again after a cut.
        let mut cuts = cuts.into_iter();
        let mut contested = contested.into_iter().cycle();
        let mut come: Vec<usize> = Vec::new();
        let mut gone: BTreeSet<usize> = BTreeSet::new();
        let parts: Vec<&[usize]> = order.chunks(size).collect();
        for wave in parts.chunks(parts.len().div_ceil(waves)) {
            for places in wave {
                queue.deliver(places);
                come.extend_from_slice(places);
                // As likely an alarm as a reading.
                if let Some(number) = contested.next().flatten() {
                    let alarms = come.iter().copied().filter(|place| is_alarm(*place));
                    let alarm = alarms.into_iter().nth(number % 4);
                    let place = alarm.unwrap_or(come[number % come.len()]);
                    if gone.insert(place) {
                        queue.contest(place);
                    }
                }
            }
            while queue.fold.advance().unwrap().is_some() {
                prop_assert_eq!(stored_view(&queue.store), queue.expected());
                if cuts.next() == Some(true) {
                    queue.disk.cut_power();
                    queue.restart();
                }
            }
        }
        let believed = come.iter().copied().filter(|place| !gone.contains(place));
        prop_assert_eq!(stored_view(&queue.store), verdict(believed));
        let [told, queued] = told_and_queued(&queue.store);
        prop_assert_eq!(told, queued);
        prop_assert_eq!(kept(&queue.store), come.len());
        prop_assert!(queue.disk.keys(b"u|").is_empty());
    }
}
