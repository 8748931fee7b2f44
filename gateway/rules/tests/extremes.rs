//! Whatever a device claims, the rules neither panic nor grow without bound.

mod rig;

use std::collections::BTreeMap;

use protocol::downlink::Settings;
use protocol::key::{RecordKey, Seq};
use protocol::reading::{Battery, Door, FixQuality, Measured, Missing, Position, Reading};
use protocol::record::{
    Alarm, AlarmKind, Anchor, BootRecord, Loss, LossReason, Record, ResetCause, SettingsRecord,
    Shock, TimeSource,
};
use protocol::units::Unit;
use rig::{Dice, Records};
use rules::event::EVIDENCE_MAX;
use rules::verdict_of;

/// Some value of a unit: often its least, its greatest, or zero.
fn unit<U: Unit>(dice: &mut Dice) -> U {
    let raw = match dice.below(6) {
        0 => U::MIN,
        1 => U::MAX,
        2 => 0,
        3 => dice.below(20_000),
        _ => dice.below(i64::MAX),
    };
    let raw = raw.clamp(U::MIN, U::MAX);
    U::from_raw(raw).expect("clamped to the range of the unit")
}

fn measured<T>(dice: &mut Dice, value: impl FnOnce(&mut Dice) -> T) -> Measured<T> {
    if dice.one_in(4) {
        Measured::Missing(Missing::SensorFault)
    } else {
        Measured::Value(value(dice))
    }
}

fn reading(dice: &mut Dice) -> Reading {
    Reading {
        uptime: unit(dice),
        position: measured(dice, |dice| Position {
            latitude: unit(dice),
            longitude: unit(dice),
            accuracy: unit(dice),
            speed: unit(dice),
            course: measured(dice, unit),
            quality: FixQuality::Gnss2d,
            satellites: 4,
            age: unit(dice),
        }),
        temperatures: std::array::from_fn(|_| measured(dice, unit)),
        humidity: measured(dice, unit),
        battery: measured(dice, |dice| Battery {
            voltage: unit(dice),
            charge: unit(dice),
        }),
        tilt: measured(dice, unit),
        light: measured(dice, unit),
        door: measured(dice, |_| Door::Open),
        radio: measured(dice, unit),
    }
}

fn raw_i32(dice: &mut Dice) -> i32 {
    let choices = [i32::MIN, i32::MAX, 0, 900, -900];
    let raw = usize::try_from(dice.below(5)).expect("below five");
    choices[raw]
}

fn alarm(dice: &mut Dice) -> Alarm {
    let kinds = [
        AlarmKind::TemperatureAbove(0),
        AlarmKind::TemperatureBelow(3),
        AlarmKind::TemperatureAbove(255),
        AlarmKind::Shock,
        AlarmKind::Battery,
        AlarmKind::Tilt,
        AlarmKind::HumidityAbove,
        AlarmKind::HumidityBelow,
        AlarmKind::Light,
        AlarmKind::Door,
        AlarmKind::FreeFall,
        AlarmKind::SensorFault,
    ];
    Alarm {
        uptime: unit(dice),
        kind: kinds[usize::try_from(dice.below(12)).expect("below twelve")],
        limit: raw_i32(dice),
        since: unit(dice),
        extreme: raw_i32(dice),
        count: u32::MAX,
        shock: dice.one_in(2).then(|| Shock {
            peak: std::array::from_fn(|_| unit(dice)),
            duration: dice.one_in(2).then(|| unit(dice)),
            delta_v: dice.one_in(2).then(|| unit(dice)),
        }),
    }
}

fn record(dice: &mut Dice) -> Record {
    match dice.below(8) {
        0 => Record::Anchor(Anchor {
            uptime: unit(dice),
            utc: unit(dice),
            source: TimeSource::Gateway,
            uncertainty: unit(dice),
            rollover_corrected: false,
        }),
        1 => Record::Boot(BootRecord {
            uptime: unit(dice),
            build_time: unit(dice),
            previous_last: Some(Seq(u32::MAX)),
            cause: ResetCause::Unknown,
            version: [0; 3],
        }),
        2 => Record::Settings(SettingsRecord {
            uptime: unit(dice),
            settings: Settings {
                sample_resting: unit(dice),
                ..Settings::DEFAULT
            },
        }),
        3 => Record::Loss(Loss {
            uptime: unit(dice),
            first: RecordKey::new(0, 0, 0),
            last: RecordKey::new(u64::MAX, u32::MAX, u32::MAX),
            count: u32::MAX,
            reason: LossReason::Corrupt,
        }),
        4 | 5 => Record::Alarm(alarm(dice)),
        _ => Record::Reading(reading(dice)),
    }
}

fn nonsense(dice: &mut Dice) -> Records {
    let mut records = BTreeMap::new();
    for _ in 0..dice.below(400) {
        let epoch = if dice.one_in(20) { u64::MAX } else { 1 };
        let boot = if dice.one_in(10) { u32::MAX } else { 1 };
        let seq = u32::try_from(dice.below(1_000)).expect("below a thousand");
        records.insert(RecordKey::new(epoch, boot, seq), record(dice));
    }
    records.into_iter().collect()
}

#[test]
fn nonsense_gives_bounded_events_and_no_panic() {
    let context = rig::context();
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let records = ["t-a", "t-b"].map(|name| (rig::device(name), nonsense(&mut dice)));
        let view = verdict_of(&context, "S", &records.into());
        for event in view.values() {
            assert!(event.evidence.len() <= EVIDENCE_MAX, "seed {seed}");
            let json = serde_json::to_string(event);
            let json = json.unwrap_or_else(|error| panic!("seed {seed}: {error}: {event:?}"));
            let back = serde_json::from_str(&json);
            assert_eq!(back.ok().as_ref(), Some(event), "seed {seed}: {json}");
        }
    }
}
