//! A plan, trackers that follow it, and their records: what the tests of this folder share.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::downlink::Settings;
use protocol::key::{DeviceId, RecordKey};
use protocol::reading::{Battery, Door, FixQuality, Measured, Position, Reading};
use protocol::record::{
    Alarm, AlarmKind, Anchor, BootRecord, Record, ResetCause, SettingsRecord, Shock, TimeSource,
};
use protocol::units::{
    CentiCelsius, DeciPercent, Decimetres, DecimetresPerSecond, Latitude, Longitude, Lux, MilliG,
    MillimetresPerSecond, Milliseconds, Millivolts, Percent, Seconds, TiltDegrees, UptimeMs, UtcMs,
};
use rules::code::Code;
use rules::event::{Event, View};
use rules::plan::Plan;
use rules::{Context, Options};

/// Universal time of second 0: 2026-03-02T00:00:00Z.
pub(crate) const START_MS: i64 = 1_772_409_600_000;

/// A line of three fences along a meridian, 20 km apart.
pub(crate) const PLAN: &str = r#"
version = 7
[[fence]]
id = "plant"
name = "the plant"
lat = 50.0
lon = 8.0
radius_m = 500
[[fence]]
id = "hub"
name = "the hub"
lat = 50.18
lon = 8.0
radius_m = 500
[[fence]]
id = "shop"
name = "the shop"
lat = 50.36
lon = 8.0
radius_m = 500
[[profile]]
name = "cold"
settling = "0s"
max_gap = "15min"
shock = { class = "electronics" }
free_fall = { height_m = 0.5 }
[[profile.temperature]]
name = "warm"
above = 8.0
delay = "30min"
[[profile.humidity]]
name = "damp"
above = 75
delay = "10min"
[[profile.humidity]]
name = "dry"
below = 20
delay = "10min"
[[profile.tilt]]
name = "lying"
above = 60
delay = "2min"
severity = "critical"
[[profile.light]]
name = "opened"
above = 20
inclusive = true
delay = "0s"
clear_delay = "0s"
[[profile.door]]
name = "open"
delay = "5min"
clear_delay = "0s"
[[shipment]]
id = "S"
profile = "cold"
references = { order = "4711" }
[[shipment.unit]]
id = "A"
trackers = ["t-a"]
[[shipment.unit]]
id = "B"
trackers = ["t-b"]
[[shipment.stop]]
id = "load"
fence = "plant"
role = "pickup"
[[shipment.stop]]
id = "cross"
fence = "hub"
role = "hub"
[[shipment.stop]]
id = "drop"
fence = "shop"
role = "delivery"
"#;

/// Metres of one degree of latitude.
const METRES_PER_DEGREE: f64 = 6_371_008.8 * std::f64::consts::PI / 180.0;

pub(crate) type Records = Vec<(RecordKey, Record)>;

pub(crate) fn context() -> Context {
    Context::new(
        Arc::new(Plan::parse(PLAN).expect("the plan of the tests is sound")),
        Options::default(),
    )
}

pub(crate) fn device(name: &str) -> DeviceId {
    name.parse().expect("a device id")
}

/// One tracker writing its records.
#[derive(Clone)]
pub(crate) struct Scribe {
    pub(crate) epoch: u64,
    pub(crate) boot: u32,
    seq: u32,
    /// Second at which the boot began.
    booted_s: i64,
    pub(crate) records: Records,
}

impl Scribe {
    pub(crate) fn new(epoch: u64) -> Self {
        Self {
            epoch,
            boot: 0,
            seq: 0,
            booted_s: 0,
            records: Vec::new(),
        }
    }

    pub(crate) fn write(&mut self, record: Record) -> RecordKey {
        let key = RecordKey::new(self.epoch, self.boot, self.seq);
        self.seq += 1;
        self.records.push((key, record));
        key
    }

    pub(crate) fn uptime(&self, s: i64) -> UptimeMs {
        UptimeMs::saturating((s - self.booted_s) * 1_000)
    }

    /// Start a new boot at second `s`.
    pub(crate) fn boot(&mut self, s: i64) {
        self.boot += 1;
        self.seq = 0;
        self.booted_s = s;
        self.write(Record::Boot(BootRecord {
            uptime: UptimeMs::saturating(0),
            build_time: UtcMs::saturating(START_MS - 86_400_000),
            previous_last: None,
            cause: ResetCause::PowerOn,
            version: [1, 0, 0],
        }));
    }

    pub(crate) fn anchor(&mut self, s: i64, error_ms: i64) {
        let uptime = self.uptime(s);
        self.write(Record::Anchor(Anchor {
            uptime,
            utc: UtcMs::saturating(START_MS + s * 1_000 + error_ms),
            source: TimeSource::Gnss,
            uncertainty: Milliseconds::saturating(50),
            rollover_corrected: false,
        }));
    }

    pub(crate) fn settings(&mut self, s: i64) {
        let uptime = self.uptime(s);
        let settings = Settings::DEFAULT;
        self.write(Record::Settings(SettingsRecord { uptime, settings }));
    }

    /// A sample `north_m` metres north of the plant at `speed_mps`, if there is a fix, and `centi`.
    pub(crate) fn reading(
        &mut self,
        s: i64,
        position: Option<(f64, f64)>,
        centi: Option<i64>,
    ) -> RecordKey {
        let mut reading = Reading::empty(self.uptime(s));
        if let Some((north_m, speed_mps)) = position {
            reading.position = Measured::Value(position_at(north_m, speed_mps));
        }
        if let Some(centi) = centi {
            reading.temperatures[0] = Measured::Value(CentiCelsius::saturating(centi));
        }
        reading.battery = Measured::Value(Battery {
            voltage: Millivolts::saturating(3_700),
            charge: Percent::saturating(80),
        });
        self.write(Record::Reading(reading))
    }

    pub(crate) fn shock(&mut self, s: i64, peak_g: i64, delta_v_mmps: i64) {
        let uptime = self.uptime(s);
        self.write(Record::Alarm(Alarm {
            uptime,
            kind: AlarmKind::Shock,
            limit: 25_000,
            since: uptime,
            extreme: i32::try_from(peak_g * 1_000).expect("tens of g"),
            count: 1,
            shock: Some(Shock {
                peak: [
                    MilliG::saturating(peak_g * 1_000),
                    MilliG::saturating(0),
                    MilliG::saturating(0),
                ],
                duration: Some(Milliseconds::saturating(11)),
                delta_v: Some(MillimetresPerSecond::saturating(delta_v_mmps)),
            }),
        }));
    }

    /// A sample of what is around the goods: percent of humidity, degrees from upright, lux, door.
    pub(crate) fn surroundings(&mut self, s: i64, [humid, tilt, lux]: [i64; 3], door: Door) {
        let mut reading = Reading::empty(self.uptime(s));
        reading.humidity = Measured::Value(DeciPercent::saturating(humid * 10));
        reading.tilt = Measured::Value(TiltDegrees::saturating(tilt));
        reading.light = Measured::Value(Lux::saturating(lux));
        reading.door = Measured::Value(door);
        self.write(Record::Reading(reading));
    }

    /// The device says that something other than an impact has gone on for `lasted_ms` before second `s`.
    pub(crate) fn alarm(&mut self, s: i64, kind: AlarmKind, lasted_ms: i64, values: [i32; 2]) {
        let uptime = self.uptime(s);
        let since = uptime.get().saturating_sub(lasted_ms.unsigned_abs());
        let [limit, extreme] = values;
        self.write(Record::Alarm(Alarm {
            uptime,
            kind,
            limit,
            since: UptimeMs::saturating(since.cast_signed()),
            extreme,
            count: 1,
            shock: None,
        }));
    }

    /// The device says that probe 0 is beyond 8.0 C since second `since_s`.
    pub(crate) fn hot_alarm(&mut self, s: i64, since_s: i64, extreme_centi: i32) {
        let (uptime, since) = (self.uptime(s), self.uptime(since_s));
        self.write(Record::Alarm(Alarm {
            uptime,
            kind: AlarmKind::TemperatureAbove(0),
            limit: 800,
            since,
            extreme: extreme_centi,
            count: 1,
            shock: None,
        }));
    }

    pub(crate) fn battery(&mut self, s: i64, percent: i64) {
        let mut reading = Reading::empty(self.uptime(s));
        reading.temperatures[0] = Measured::Value(CentiCelsius::saturating(500));
        reading.battery = Measured::Value(Battery {
            voltage: Millivolts::saturating(3_300),
            charge: Percent::saturating(percent),
        });
        self.write(Record::Reading(reading));
    }
}

pub(crate) fn position_at(north_m: f64, speed_mps: f64) -> Position {
    #[expect(clippy::cast_possible_truncation, reason = "degrees on Earth in 1e-7")]
    let latitude = ((50.0 + north_m / METRES_PER_DEGREE) * 1e7).round() as i64;
    #[expect(clippy::cast_possible_truncation, reason = "road speeds")]
    let speed = (speed_mps * 10.0).round() as i64;
    Position {
        latitude: Latitude::saturating(latitude),
        longitude: Longitude::saturating(80_000_000),
        accuracy: Decimetres::saturating(80),
        speed: DecimetresPerSecond::saturating(speed),
        course: Measured::Missing(protocol::reading::Missing::NotSampled),
        quality: FixQuality::Gnss3d,
        satellites: 9,
        age: Seconds::saturating(0),
    }
}

/// Where a truck is that loads for an hour, drives 20 km at 20 m/s, is handled for an hour, drives
/// another 20 km and stays: metres north of the plant and speed.
pub(crate) fn truck(s: i64) -> (f64, f64) {
    #[expect(clippy::cast_precision_loss, reason = "a day of seconds")]
    let metres = |s: i64| s as f64 * 20.0;
    match s {
        ..3_600 => (0.0, 0.0),
        3_600..4_600 => (metres(s - 3_600), 20.0),
        4_600..8_200 => (20_000.0, 0.0),
        8_200..9_200 => (20_000.0 + metres(s - 8_200), 20.0),
        _ => (40_000.0, 0.0),
    }
}

/// Readings once a minute of a tracker on that truck, at 5 C, until `end_s`.
pub(crate) fn ride(scribe: &mut Scribe, from_s: i64, end_s: i64) {
    for s in (from_s..end_s).step_by(60) {
        scribe.reading(s, Some(truck(s)), Some(500));
    }
}

/// A tracker that is switched on at second 0, knows the time at once, and rides along.
pub(crate) fn whole_ride(epoch: u64) -> Scribe {
    let mut scribe = Scribe::new(epoch);
    scribe.boot(0);
    scribe.settings(0);
    scribe.anchor(1, 0);
    ride(&mut scribe, 10, 12_000);
    scribe
}

/// Records of the shipment's two trackers.
pub(crate) fn fleet(a: Scribe, b: Scribe) -> BTreeMap<DeviceId, Records> {
    BTreeMap::from([(device("t-a"), a.records), (device("t-b"), b.records)])
}

pub(crate) fn with_code(view: &View, code: Code) -> Vec<&Event> {
    view.values().filter(|event| event.code == code).collect()
}

/// Seconds since the start at which the only event of `code` occurred.
pub(crate) fn second_of(view: &View, code: Code) -> Option<i64> {
    let events = with_code(view, code);
    assert!(events.len() <= 1, "{code} once: {events:#?}");
    events
        .first()
        .map(|event| (event.occurred_at.get() - START_MS) / 1_000)
}

/// A small deterministic source of numbers (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below `bound`.
    pub(crate) fn below(&mut self, bound: i64) -> i64 {
        i64::try_from(self.draw() % bound.unsigned_abs()).expect("below an i64")
    }

    pub(crate) fn one_in(&mut self, bound: i64) -> bool {
        self.below(bound) == 0
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let bound = i64::try_from(last).expect("a slice is shorter") + 1;
            let other = usize::try_from(self.below(bound)).expect("not negative");
            items.swap(last, other);
        }
    }
}
