//! A journey, a store to deliver it to, and the verdict on it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use protocol::batch;
use protocol::key::{DeviceId, RecordKey};
use protocol::reading::{Battery, FixQuality, Measured, Missing, Position, Reading};
use protocol::record::{
    Alarm, AlarmKind, Anchor, BootRecord, Numbered, Record, ResetCause, Shock, TimeSource,
};
use protocol::units::{
    CentiCelsius, Decimetres, DecimetresPerSecond, Latitude, Longitude, MilliG,
    MillimetresPerSecond, Milliseconds, Millivolts, Percent, Seconds, UptimeMs, UtcMs,
};
use rules::Context;
use rules::event::{Event, Phase, View};
use rules::plan::Plan;
use rules::verdict_of;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::fold::Fold;
use crate::fold::posted::Posted;
use crate::fold::trail::Spacing;
use crate::store::content::Content;
use crate::store::journal::{self, Entry, Records, Stored};
use crate::store::seen::{self, BootId, Run};
use crate::store::{Batch, Commit, Store, outbox, view};

pub(super) const START_MS: i64 = 1_772_323_200_000;
const MINUTE_MS: u64 = 60_000;

pub(super) const PLAN: &str = r#"
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

pub(super) fn device() -> DeviceId {
    "t-1".parse().unwrap()
}

pub(super) fn context() -> Context {
    let plan = Plan::parse(PLAN).unwrap_or_else(|faults| panic!("{faults:?}"));
    Context::new(Arc::new(plan), rules::Options::default())
}

/// A journey: half an hour in the depot, an hour on the road, too warm for 40 minutes of it, a blow,
/// an hour in the store. An anchor every half hour, each a little better than the last; a reset on the
/// way, and a new life of the counters at the end, with a number below that of the first.
pub(super) fn journey() -> Vec<(RecordKey, Record)> {
    let mut scribe = Scribe {
        next: RecordKey::new(7, 1, 0),
        booted_minute: 0,
        records: Vec::new(),
    };
    scribe.boot();
    scribe.anchor(0);
    for minute in 0..150 {
        match minute {
            96 => scribe.reset(RecordKey::new(7, 2, 0), minute),
            122 => scribe.reset(RecordKey::new(3, 0, 0), minute),
            _ => {}
        }
        if minute % 30 == 10 {
            scribe.anchor(minute);
        }
        scribe.write(Record::Reading(scribe.reading(minute)));
        if minute == 62 {
            scribe.write(Record::Alarm(scribe.blow(minute)));
        }
    }
    scribe.records
}

/// Where in the journey the blow is told.
pub(super) fn blow_at() -> usize {
    let is_alarm = |(_, record): &(RecordKey, Record)| matches!(record, Record::Alarm(_));
    journey().iter().position(is_alarm).unwrap()
}

struct Scribe {
    next: RecordKey,
    booted_minute: u64,
    records: Vec<(RecordKey, Record)>,
}

impl Scribe {
    fn write(&mut self, record: Record) {
        self.records.push((self.next, record));
        self.next.seq.0 += 1;
    }

    fn reset(&mut self, first: RecordKey, minute: u64) {
        self.next = first;
        self.booted_minute = minute;
        self.boot();
    }

    fn boot(&mut self) {
        self.write(Record::Boot(BootRecord {
            uptime: UptimeMs::saturating(0),
            build_time: UtcMs::saturating(START_MS - 1),
            previous_last: None,
            cause: ResetCause::PowerOn,
            version: [1, 0, 0],
        }));
    }

    fn anchor(&mut self, minute: u64) {
        let drifted_ms = i64::try_from(minute * (MINUTE_MS + 3)).unwrap();
        self.write(Record::Anchor(Anchor {
            uptime: self.uptime(minute),
            utc: UtcMs::saturating(START_MS + drifted_ms),
            source: TimeSource::Gnss,
            uncertainty: Milliseconds::saturating(10),
            rollover_corrected: false,
        }));
    }

    fn reading(&self, minute: u64) -> Reading {
        let driven = minute.clamp(30, 90) - 30;
        let latitude = 500_000_000 + i32::try_from(driven).unwrap() * 2_000_000 / 60;
        let speed = if (31..90).contains(&minute) { 61 } else { 0 };
        let celsius = if (45..85).contains(&minute) {
            1_150
        } else {
            450
        };
        let mut reading = Reading::empty(self.uptime(minute));
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

    fn blow(&self, minute: u64) -> Alarm {
        let g = MilliG::saturating(40_000);
        Alarm {
            uptime: self.uptime(minute),
            kind: AlarmKind::Shock,
            limit: 25_000,
            since: self.uptime(minute),
            extreme: 40_000,
            count: 1,
            shock: Some(Shock {
                peak: [g, MilliG::saturating(0), MilliG::saturating(0)],
                duration: Some(Milliseconds::saturating(11)),
                delta_v: Some(MillimetresPerSecond::saturating(2_700)),
            }),
        }
    }

    fn uptime(&self, minute: u64) -> UptimeMs {
        UptimeMs::new((minute - self.booted_minute) * MINUTE_MS).unwrap()
    }
}

/// Appends entries as one durable commit.
pub(super) fn append(store: &Store, entries: &[Entry]) {
    let mut batch = Batch::default();
    let commit = Commit(store.newest_commit().0 + 1);
    journal::append(&mut batch, commit, entries).unwrap();
    entries.iter().for_each(|entry| see(&mut batch, entry));
    store.apply(batch).unwrap();
    store.barrier().unwrap();
}

/// Notes the numbers of an entry as seen, as the committer does.
fn see(batch: &mut Batch, entry: &Entry) {
    let Entry::Records(records) = entry else {
        return;
    };
    let boot = BootId {
        device: records.device.clone(),
        epoch: records.epoch,
        boot: records.boot,
    };
    for Stored { seq, .. } in &records.records {
        let (first, last) = (*seq, *seq);
        seen::put(batch, &boot, Run { first, last });
    }
}

/// Appends these records of the journey as one durable commit.
pub(super) fn deliver(store: &Store, places: &[usize]) {
    deliver_at(store, places, START_MS);
}

/// The same, received at a moment.
pub(super) fn deliver_at(store: &Store, places: &[usize], received_ms: i64) {
    deliver_records(store, &journey(), places, received_ms);
}

/// Those of other records, received at a moment.
pub(super) fn deliver_records(
    store: &Store,
    records: &[(RecordKey, Record)],
    places: &[usize],
    received_ms: i64,
) {
    let entry = |place: &usize| {
        let (key, record) = records[*place];
        let numbered = Numbered {
            seq: key.seq,
            record,
        };
        let content = Content::of(&batch::Entry {
            numbered,
            unknown: &[],
        });
        Entry::Records(Records {
            device: device(),
            epoch: key.epoch,
            boot: key.boot,
            received_at: UtcMs::saturating(received_ms),
            qos: 1,
            oldest_pending: key,
            records: vec![Stored {
                seq: key.seq,
                content: content.unwrap(),
            }],
        })
    };
    append(store, &places.iter().map(entry).collect::<Vec<_>>());
}

/// Appends that these records of the journey are contested, as one durable commit.
pub(super) fn contest(store: &Store, places: &[usize]) {
    let journey = journey();
    let entry = |place: &usize| Entry::Contested {
        device: device(),
        key: journey[*place].0,
    };
    append(store, &places.iter().map(entry).collect::<Vec<_>>());
}

/// A fold that has done nothing yet, and leaves marks often.
pub(super) fn opened(store: Store, context: Context) -> Fold {
    let clock = Clock::scaled(UtcMs::saturating(START_MS), 1);
    let sinks = vec!["file".to_owned()];
    let mut fold = Fold::open(store, context, sinks, clock, watch::channel(0).0).unwrap();
    fold.trackers.spacing = Spacing {
        running_records: 5,
        closing_records: 1,
    };
    fold
}

/// A fold that has rebuilt everything and taken what waited.
pub(super) fn open(store: Store) -> Fold {
    let mut fold = opened(store, context());
    fold.catch_up().unwrap();
    fold
}

pub(super) fn stored_view(store: &Store) -> View {
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

pub(super) fn verdict(places: impl IntoIterator<Item = usize>) -> View {
    let journey = journey();
    let records = places.into_iter().map(|place| journey[place]).collect();
    verdict_of(&context(), "S-1", &BTreeMap::from([(device(), records)]))
}

/// All of the journey.
pub(super) fn all() -> Vec<usize> {
    (0..journey().len()).collect()
}

/// Every event with its newest revision, in the view and in the queue of the sink.
pub(super) fn told_and_queued(store: &Store) -> [BTreeMap<String, u32>; 2] {
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
