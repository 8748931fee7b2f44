//! The law Truth: whatever the order in which records come, the same records give the same events, and
//! a receiver of all revisions ends with the view.

mod rig;

use std::collections::BTreeMap;

use protocol::key::{DeviceId, RecordKey};
use protocol::reading::Door;
use protocol::record::{AlarmKind, Record};
use rig::{Dice, Scribe};
use rules::event::{EventId, Phase, View};
use rules::identity::digest;
use rules::notify::{Told, diff};
use rules::tracker::Mark;
use rules::{Context, Offered, Tracker, verdict, verdict_of};

/// Seeds of one run; a failure prints its own.
const SEEDS: std::ops::Range<u64> = 0..16;

/// A ride with everything that can go wrong: reboots without the time, new epochs, warm spells, gaps,
/// shocks, alarms, missing fixes, clocks that drift, trouble around.
fn troubled_ride(dice: &mut Dice) -> Scribe {
    let mut scribe = Scribe::new(dice.draw());
    scribe.boot(0);
    let (warm_from, warm_for) = (dice.below(9_000), dice.below(4_000));
    let drift_ppm = dice.below(80) - 40;
    let mut s = 10;
    while s < 12_000 {
        if dice.one_in(60) {
            if dice.one_in(3) {
                scribe.epoch = dice.draw();
            }
            scribe.boot(s);
        }
        if dice.one_in(25) {
            scribe.anchor(s, s * drift_ppm / 1_000);
        }
        if dice.one_in(90) {
            scribe.settings(s);
        }
        if dice.one_in(60) {
            scribe.shock(s, 20 + dice.below(40), 1_000 + dice.below(2_000));
        }
        let warm = (warm_from..warm_from + warm_for).contains(&s);
        if warm && dice.one_in(10) && scribe.uptime(s).get() > 600_000 {
            scribe.hot_alarm(s, s - dice.below(600), 850);
        }
        let position = (!dice.one_in(5)).then(|| rig::truck(s));
        let centi = (!dice.one_in(8)).then_some(if warm { 790 + dice.below(80) } else { 500 });
        scribe.reading(s, position, centi);
        if dice.one_in(4) {
            trouble_around(&mut scribe, dice, s);
        }
        s += if dice.one_in(50) { 1_500 } else { 60 };
    }
    if dice.one_in(2) {
        scribe.anchor(s, 0);
    }
    scribe
}

/// Damp and dry air, goods that lie, light and doors, by reading and by alarm, and falls.
fn trouble_around(scribe: &mut Scribe, dice: &mut Dice, s: i64) {
    let door = if dice.one_in(3) {
        Door::Open
    } else {
        Door::Closed
    };
    let around = [70, 55, 15].map(|middle| middle + dice.below(20) - 6);
    scribe.surroundings(s, around, door);
    let lasted_ms = dice.below(400_000);
    match dice.below(12) {
        0 => scribe.alarm(s, AlarmKind::Light, lasted_ms, [20, 400]),
        1 => scribe.alarm(s, AlarmKind::Door, lasted_ms, [0, 0]),
        2 => scribe.alarm(s, AlarmKind::Tilt, lasted_ms, [60, 90]),
        3 => scribe.alarm(s, AlarmKind::HumidityAbove, lasted_ms, [750, 800]),
        4 => scribe.alarm(s, AlarmKind::FreeFall, 200 + dice.below(300), [300, 50]),
        _ => {}
    }
}

/// A tracker with its records, and places from which its fold can go on.
struct Kept {
    tracker: Tracker,
    records: BTreeMap<RecordKey, Record>,
    marks: Vec<Mark>,
    /// Records folded again.
    again: u64,
}

impl Kept {
    fn new(context: &Context, device: &DeviceId) -> Self {
        Self {
            tracker: Tracker::new(context, device),
            records: BTreeMap::new(),
            marks: Vec::new(),
            again: 0,
        }
    }

    /// Take a record; one that was there already changes nothing. With `gullible` marks are believed
    /// whatever came late.
    fn take(&mut self, context: &Context, key: RecordKey, record: &Record, gullible: bool) {
        if self.records.insert(key, *record).is_some() {
            return;
        }
        match self.tracker.offer(context, key, record) {
            Offered::Folded => {
                if self.records.len().is_multiple_of(7) {
                    self.marks.extend(self.tracker.mark());
                }
            }
            Offered::Late(dirty) | Offered::Redated(dirty) => {
                let timeline = self.tracker.timeline();
                self.marks
                    .retain(|mark| gullible || !dirty.spoils(timeline, &mark.reach));
                self.refold(context);
            }
        }
    }

    fn refold(&mut self, context: &Context) {
        let mark = self.marks.last().cloned();
        let end = mark.as_ref().map(|mark| mark.reach.key);
        assert!(self.tracker.rewind(context, mark));
        let timeline = self.tracker.timeline();
        let end = end.map(|key| timeline.fold_key(key));
        let mut behind: Vec<_> = self.records.iter().collect();
        behind.retain(|(key, _)| end.is_none_or(|end| timeline.fold_key(**key) > end));
        behind.sort_by_key(|(key, _)| timeline.fold_key(**key));
        for (key, record) in behind {
            self.tracker.fold(context, *key, record);
            self.again += 1;
            if self.again.is_multiple_of(7) {
                self.marks.extend(self.tracker.mark());
            }
        }
    }
}

/// What a gateway does with records as they come.
struct Gateway {
    context: Context,
    trackers: BTreeMap<DeviceId, Kept>,
    /// A control: marks are believed whatever came late.
    gullible: bool,
    told: Told,
    /// What a receiver that applies every revision believes.
    believed: BTreeMap<EventId, String>,
}

impl Gateway {
    fn new() -> Self {
        Self {
            context: rig::context(),
            gullible: false,
            trackers: BTreeMap::new(),
            told: Told::new(),
            believed: BTreeMap::new(),
        }
    }

    fn deliver(&mut self, device: &DeviceId, key: RecordKey, record: &Record) {
        let kept = self
            .trackers
            .entry(device.clone())
            .or_insert_with(|| Kept::new(&self.context, device));
        kept.take(&self.context, key, record, self.gullible);
    }

    fn view(&self) -> View {
        let facts = self
            .trackers
            .values()
            .map(|kept| kept.tracker.facts(&self.context));
        let facts: Vec<_> = facts.flatten().collect();
        verdict(&self.context, "S", &facts).view
    }

    fn tell(&mut self, view: &View) {
        for revision in diff(&self.told, view, false) {
            let id = revision.event.id.clone();
            let newest = self.told.get(&id).map_or(0, |before| before.rev);
            assert_eq!(revision.rev, newest + 1, "revisions rise by one");
            if revision.phase == Phase::Retract {
                self.believed.remove(&id);
            } else {
                self.believed.insert(id.clone(), digest(&revision.event));
            }
            self.told.insert(id, revision);
        }
    }

    /// The view from scratch, by one call.
    fn verdict_of_everything(&self) -> View {
        let records = self.trackers.iter().map(|(device, kept)| {
            let records = kept.records.iter().map(|(key, record)| (*key, *record));
            (device.clone(), records.collect())
        });
        verdict_of(&self.context, "S", &records.collect())
    }
}

fn digests(view: &View) -> BTreeMap<EventId, String> {
    view.iter()
        .map(|(id, event)| (id.clone(), digest(event)))
        .collect()
}

/// All records of both trackers, with their device.
fn records(dice: &mut Dice) -> Vec<(DeviceId, RecordKey, Record)> {
    let devices = ["t-a", "t-b"].map(rig::device);
    let rides = devices.map(|device| (device, troubled_ride(dice).records));
    let flat = rides.into_iter().flat_map(|(device, records)| {
        records
            .into_iter()
            .map(move |(key, record)| (device.clone(), key, record))
    });
    flat.collect()
}

/// The records of a seed in one of four bad orders.
fn disordered(seed: u64, dice: &mut Dice) -> Vec<(DeviceId, RecordKey, Record)> {
    let mut inputs = records(dice);
    match seed % 4 {
        0 => dice.shuffle(&mut inputs),
        1 => inputs.reverse(),
        2 => inputs.chunks_mut(40).for_each(|batch| dice.shuffle(batch)),
        _ => inputs.sort_by_key(|(_, key, _)| (key.seq, key.boot)),
    }
    inputs
}

#[test]
fn any_order_of_delivery_gives_the_same_view_and_the_same_belief() {
    let mut events = 0;
    for seed in SEEDS {
        let mut dice = Dice(seed);
        let inputs = disordered(seed, &mut dice);
        let mut gateway = Gateway::new();
        for (count, (device, key, record)) in inputs.iter().enumerate() {
            gateway.deliver(device, *key, record);
            if dice.one_in(10) {
                gateway.deliver(device, *key, record);
            }
            if count % 37 == 0 || count + 1 == inputs.len() {
                let view = gateway.view();
                let expected = gateway.verdict_of_everything();
                assert_eq!(view, expected, "seed {seed}, after {} records", count + 1);
                gateway.tell(&view);
                assert_eq!(gateway.believed, digests(&view), "seed {seed}");
            }
        }
        events += gateway.view().len();
    }
    assert!(
        events > 160,
        "the rides must show something: {events} events"
    );
}

#[test]
fn without_refolding_shuffled_records_would_give_other_events() {
    // The control: it shows that the test above can fail.
    let mut different = 0;
    for seed in SEEDS {
        let mut dice = Dice(seed);
        let mut inputs = records(&mut dice);
        dice.shuffle(&mut inputs);
        let context = rig::context();
        let mut facts = Vec::new();
        let mut gateway = Gateway::new();
        for device in ["t-a", "t-b"].map(rig::device) {
            let mut tracker = Tracker::new(&context, &device);
            for (_, key, record) in inputs.iter().filter(|(of, _, _)| *of == device) {
                let _ = tracker.offer(&context, *key, record);
            }
            facts.extend(tracker.facts(&context));
        }
        for (device, key, record) in &inputs {
            gateway.deliver(device, *key, record);
        }
        different += usize::from(verdict(&context, "S", &facts).view != gateway.view());
    }
    assert!(different > 14, "{different}");
}

#[test]
fn marks_believed_although_something_came_late_would_give_other_events() {
    // The control: it shows that the first test sees a mark which is no longer true.
    let mut different = 0;
    for seed in SEEDS {
        let mut dice = Dice(seed);
        let inputs = disordered(seed, &mut dice);
        let mut gateway = Gateway::new();
        gateway.gullible = true;
        for (device, key, record) in &inputs {
            gateway.deliver(device, *key, record);
        }
        different += usize::from(gateway.view() != gateway.verdict_of_everything());
    }
    assert!(different > 5, "{different}");
}

#[test]
fn an_anchor_in_good_order_refolds_no_more_than_since_the_mark_before_the_last_one() {
    let mut scribe = Scribe::new(1);
    scribe.boot(0);
    for s in 0..2_000 {
        if s % 100 == 0 {
            scribe.anchor(s * 60, s);
        }
        scribe.reading(s * 60 + 1, None, Some(500));
    }
    let (context, device) = (rig::context(), rig::device("t-a"));
    let mut kept = Kept::new(&context, &device);
    for (key, record) in &scribe.records {
        kept.take(&context, *key, record, false);
    }
    assert_eq!(
        kept.tracker,
        Tracker::refold(&context, &device, &scribe.records)
    );
    assert!(kept.again > 0 && kept.again < 20 * 110, "{}", kept.again);
}
