//! Whatever happens, every record is confirmed, lost and told, or pending.

mod rig;

use std::cell::RefCell;
use std::collections::BTreeSet;

use firmware::tracker::{Account, Input};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use protocol::downlink::Settings;
use protocol::key::{Epoch, RecordKey};
use protocol::record::{Loss, Record};
use protocol::topic::Channel;
use protocol::units::{MilliG, Seconds};
use rig::{Rig, at};

/// Histories tried. The generator is seeded alike in every run, so a failure comes again.
const CASES: u32 = 150;

/// What can happen to a tracker.
#[derive(Clone, Debug)]
enum Event {
    Wait(i64),
    Up,
    Down,
    Prompt(bool),
    Confirm(usize),
    Temperature(i64),
    Shock(i64),
    Hear(f64),
    Batch(u8, u16),
    Flush,
    Reboot,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (1_i64..20_000).prop_map(Event::Wait),
        3 => Just(Event::Up),
        3 => Just(Event::Down),
        2 => any::<bool>().prop_map(Event::Prompt),
        4 => (0_usize..8).prop_map(Event::Confirm),
        4 => (-200_i64..1_000).prop_map(Event::Temperature),
        4 => (20_i64..60).prop_map(Event::Shock),
        2 => (0.0..60.0).prop_map(Event::Hear),
        1 => (1_u8..=64, 5_u16..600).prop_map(|(most, s)| Event::Batch(most, s)),
        1 => Just(Event::Flush),
        1 => Just(Event::Reboot),
    ]
}

/// A rig, and what must be true of its history.
struct History {
    rig: Rig,
    settings: Settings,
    /// Samples taken before the present boot.
    samples_before: u64,
    /// Per life of the tracker: its counters' name and how many records it made.
    lives: Vec<(Epoch, u32, u64)>,
}

/// How much of what should be tried came up.
#[derive(Debug, Default)]
struct Seen {
    losses: u64,
    loss_records: usize,
    reboots: usize,
}

impl History {
    fn new() -> Self {
        Self {
            rig: Rig::new(),
            settings: Settings::DEFAULT,
            samples_before: 0,
            lives: Vec::new(),
        }
    }

    fn apply(&mut self, event: &Event) {
        let rig = &mut self.rig;
        match *event {
            Event::Wait(s) => rig.run_to(rig.now.get().cast_signed() / 1_000 + s),
            Event::Up if !rig.connected => rig.up(),
            Event::Down if rig.connected => rig.down(),
            Event::Prompt(prompt) => rig.prompt = prompt,
            Event::Confirm(index) if index < rig.open.len() => rig.confirm(index),
            Event::Temperature(centi) => rig.set_temperature(centi),
            Event::Shock(g) => {
                rig.handle(Input::Peak([g * 1_000, 0, 0].map(MilliG::saturating)));
            }
            Event::Hear(minutes) => rig.hear(40_000, minutes, minutes),
            Event::Batch(most, s) => self.settle(most, s),
            Event::Flush => rig.handle(Input::Flush),
            Event::Reboot => self.reboot(),
            Event::Up | Event::Down | Event::Confirm(_) => {}
        }
        self.check();
    }

    fn settle(&mut self, most: u8, s: u16) {
        self.settings.version += 1;
        self.settings.batch_readings = most;
        self.settings.sample_resting = Seconds::saturating(i64::from(s));
        let mut buffer = [0; Settings::MAX_BYTES];
        let length = self.settings.encode(&mut buffer).expect("it fits");
        self.rig.downlink(Channel::Settings, &buffer[..length]);
    }

    fn reboot(&mut self) {
        let key = self.rig.tracker.key(protocol::key::Seq(0));
        let made = self.rig.counters().records.made;
        self.lives.push((key.epoch, key.boot.0, made));
        self.rig.reboot();
        self.samples_before = self.rig.tracker.board_mut().samples;
    }

    fn check(&mut self) {
        let counters = self.rig.counters();
        for account in [counters.records, counters.readings] {
            assert_eq!(
                account.made,
                account.confirmed + account.lost + account.pending
            );
        }
        let samples = self.rig.tracker.board_mut().samples - self.samples_before;
        assert_eq!(counters.readings.made, samples);
        let arrived = self.arrived();
        assert_eq!(counters.records.confirmed, arrived.len() as u64);
        let readings = arrived
            .iter()
            .filter(|key| matches!(self.rig.gateway.records[*key], Record::Reading(_)));
        assert_eq!(counters.readings.confirmed, readings.count() as u64);
        let pending = self.rig.tracker.oldest_pending();
        assert_eq!(pending.is_some(), counters.records.pending > 0);
        assert!(pending.is_none_or(|key| !arrived.contains(&key)));
    }

    /// Keys of the present boot that the gateway has confirmed.
    fn arrived(&self) -> BTreeSet<RecordKey> {
        let present = self.rig.tracker.key(protocol::key::Seq(0));
        let same = |key: &&RecordKey| (key.epoch, key.boot) == (present.epoch, present.boot);
        self.rig
            .gateway
            .records
            .keys()
            .filter(same)
            .copied()
            .collect()
    }

    /// Everything is let out, and what did not come was told.
    fn finish(&mut self, seen: &mut Seen) {
        self.rig.prompt = true;
        self.rig.down();
        self.rig.up();
        // Two more batches: the second tells what making room for the first one's losses cost.
        let longest = 2 * i64::from(self.settings.sample_resting.get().max(300)) + 600;
        self.rig
            .run_to(self.rig.now.get().cast_signed() / 1_000 + 2 * longest);
        self.rig.handle(Input::Stop);
        self.check();
        let Account {
            made,
            lost,
            pending,
            ..
        } = self.rig.counters().records;
        assert_eq!(pending, 0);
        let arrived = self.arrived();
        let losses: Vec<Loss> = self.losses(&arrived);
        let missing = (0..made).map(|seq| {
            let seq = u32::try_from(seq).expect("a short history");
            self.rig.tracker.key(protocol::key::Seq(seq))
        });
        let missing: Vec<RecordKey> = missing.filter(|key| !arrived.contains(key)).collect();
        assert_eq!(missing.len() as u64, lost);
        let told: u64 = losses.iter().map(|loss| u64::from(loss.count)).sum();
        assert_eq!(told, lost, "{losses:?}");
        for key in missing {
            let covers = |loss: &Loss| (loss.first..=loss.last).contains(&key);
            assert!(losses.iter().any(covers), "{key} is not told");
        }
        self.check_lives();
        seen.losses += lost;
        seen.loss_records += losses.len();
        seen.reboots += self.lives.len();
    }

    fn losses(&self, arrived: &BTreeSet<RecordKey>) -> Vec<Loss> {
        let loss = |key| match self.rig.gateway.records[key] {
            Record::Loss(loss) => Some(loss),
            _ => None,
        };
        arrived.iter().filter_map(loss).collect()
    }

    /// Boots count up, and each knows at most what the one before it used.
    fn check_lives(&self) {
        for pair in self.lives.windows(2) {
            assert_eq!(pair[0].0, pair[1].0);
            assert_eq!(pair[0].1 + 1, pair[1].1);
        }
        for (key, record) in &self.rig.gateway.records {
            let Record::Boot(boot) = record else { continue };
            let Some(last) = boot.previous_last else {
                continue;
            };
            let before = self.lives.iter().find(|life| life.1 + 1 == key.boot.0);
            assert!(
                u64::from(last.0) < before.expect("a life before").2,
                "{key}"
            );
        }
    }
}

#[test]
fn made_is_confirmed_and_lost_and_pending_in_every_history() {
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, seed);
    let histories = prop::collection::vec(event(), 1..60);
    let seen = RefCell::new(Seen::default());
    let outcome = runner.run(&histories, |events| {
        let mut history = History::new();
        events.iter().for_each(|event| history.apply(event));
        history.finish(&mut seen.borrow_mut());
        Ok(())
    });
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    let seen = seen.into_inner();
    assert!(
        seen.losses > 10_000 && seen.loss_records > 50 && seen.reboots > 50,
        "{seen:?}"
    );
}

#[test]
fn what_a_batch_says_is_over_never_comes_again() {
    let mut rig = Rig::new();
    rig.prompt = false;
    let mut over: Option<RecordKey> = None;
    for round in 1..200 {
        rig.run_to(round * 900);
        match round % 7 {
            0 => rig.down(),
            1 => rig.up(),
            step if rig.connected && rig.open.len() > 1 => {
                let index = usize::try_from(step).unwrap() % 2;
                let message = rig.open[index].clone();
                check_batch(&message, &mut over, &rig);
                rig.confirm(index);
            }
            _ => {}
        }
        rig.set_temperature(round % 10 * 100);
    }
    assert!(over.is_some_and(|key| key.seq.0 > 300), "{over:?}");
    assert!(rig.counters().records.lost > 0);
    assert!(rig.now >= at(199 * 900));
}

/// Records below an earlier batch's oldest pending are known already or never come.
fn check_batch(message: &firmware::port::Message, over: &mut Option<RecordKey>, rig: &Rig) {
    if !matches!(message.channel, Channel::Readings | Channel::Alarms) {
        return;
    }
    let batch = protocol::batch::Batch::decode(&message.payload).expect("a batch");
    for entry in &batch {
        let key = batch.header().key(entry.numbered.seq);
        let late = over.is_some_and(|over| key < over);
        assert!(
            !late || rig.gateway.records.contains_key(&key),
            "{key} after {over:?}"
        );
    }
    *over = (*over).max(Some(batch.header().oldest_pending));
}
