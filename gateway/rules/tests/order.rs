//! The law Truth: whatever the order in which records come, the same records give the same events, and
//! a receiver of all revisions ends with the view.

mod rig;

use std::collections::BTreeMap;

use protocol::key::{DeviceId, RecordKey};
use protocol::record::Record;
use rig::{Dice, Records, Scribe};
use rules::event::{EventId, Phase, View};
use rules::identity::digest;
use rules::notify::{Told, diff};
use rules::{Context, Offered, Tracker, verdict, verdict_of};

/// Seeds of one run; a failure prints its own.
const SEEDS: std::ops::Range<u64> = 0..16;

/// A ride with everything that can go wrong: reboots without the time, new epochs, warm spells, gaps,
/// shocks, alarms, missing fixes, clocks that drift.
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
        s += if dice.one_in(50) { 1_500 } else { 60 };
    }
    if dice.one_in(2) {
        scribe.anchor(s, 0);
    }
    scribe
}

/// What a gateway does with records as they come.
struct Gateway {
    context: Context,
    stored: BTreeMap<DeviceId, BTreeMap<RecordKey, Record>>,
    trackers: BTreeMap<DeviceId, Tracker>,
    told: Told,
    /// What a receiver that applies every revision believes.
    believed: BTreeMap<EventId, String>,
}

impl Gateway {
    fn new() -> Self {
        Self {
            context: rig::context(),
            stored: BTreeMap::new(),
            trackers: BTreeMap::new(),
            told: Told::new(),
            believed: BTreeMap::new(),
        }
    }

    fn deliver(&mut self, device: &DeviceId, key: RecordKey, record: &Record) {
        let stored = self.stored.entry(device.clone()).or_default();
        if stored.insert(key, *record).is_some() {
            return;
        }
        let tracker = self
            .trackers
            .entry(device.clone())
            .or_insert_with(|| Tracker::new(&self.context, device));
        if tracker.offer(&self.context, key, record) != Offered::Folded {
            let all: Records = stored.iter().map(|(key, record)| (*key, *record)).collect();
            *tracker = Tracker::refold(&self.context, device, &all);
        }
    }

    fn view(&self) -> View {
        let facts = self
            .trackers
            .values()
            .map(|tracker| tracker.facts(&self.context));
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
        let records = self.stored.iter().map(|(device, records)| {
            let records = records.iter().map(|(key, record)| (*key, *record));
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

#[test]
fn any_order_of_delivery_gives_the_same_view_and_the_same_belief() {
    let mut events = 0;
    for seed in SEEDS {
        let mut dice = Dice(seed);
        let mut inputs = records(&mut dice);
        match seed % 4 {
            0 => dice.shuffle(&mut inputs),
            1 => inputs.reverse(),
            2 => inputs.chunks_mut(40).for_each(|batch| dice.shuffle(batch)),
            _ => inputs.sort_by_key(|(_, key, _)| (key.seq, key.boot)),
        }
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
