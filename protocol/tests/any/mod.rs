//! Any value of every kind of message, for property tests.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use protocol::batch::BatchHeader;
use protocol::downlink::{Settings, SettingsField, SettingsRefusal, TimeReply, TimeRequest};
use protocol::key::{Boot, Epoch, RecordKey, Seq};
use protocol::reading::{Battery, Door, FixQuality, Measured, Missing, Position, Reading};
use protocol::record::{
    Alarm, AlarmKind, Anchor, BootRecord, Loss, LossReason, Numbered, Record, ResetCause,
    SettingsRecord, Shock, TimeSource,
};
use protocol::status::{Birth, SettingsAck, Status};
use protocol::units::Unit;

/// Any value of a unit, its ends often.
pub(crate) fn unit<T: Unit + 'static>() -> impl Strategy<Value = T> {
    prop_oneof![
        Just(T::MIN),
        Just(T::MAX),
        T::MIN..=T::MAX,
        (T::MIN.max(-200)..=T::MAX.min(200))
    ]
    .prop_map(|raw| T::from_raw(raw).expect("drawn from the unit's range"))
}

fn measured<T: Clone + std::fmt::Debug>(
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = Measured<T>> {
    let missing = proptest::sample::select(vec![
        Missing::NotFitted,
        Missing::NotSampled,
        Missing::NoFix,
        Missing::SensorFault,
        Missing::OutOfRange,
    ]);
    prop_oneof![3 => value.prop_map(Measured::Value), 1 => missing.prop_map(Measured::Missing)]
}

fn position() -> BoxedStrategy<Position> {
    any_position().boxed()
}

fn any_position() -> impl Strategy<Value = Position> {
    let quality = proptest::sample::select(vec![
        FixQuality::Gnss2d,
        FixQuality::Gnss3d,
        FixQuality::Differential,
        FixQuality::Rtk,
        FixQuality::DeadReckoning,
    ]);
    (
        unit(),
        unit(),
        unit(),
        unit(),
        measured(unit()),
        quality,
        any::<u8>(),
        unit(),
    )
        .prop_map(
            |(latitude, longitude, accuracy, speed, course, quality, satellites, age)| Position {
                latitude,
                longitude,
                accuracy,
                speed,
                course,
                quality,
                satellites,
                age,
            },
        )
}

fn reading() -> impl Strategy<Value = Reading> {
    let temperatures = [
        measured(unit()),
        measured(unit()),
        measured(unit()),
        measured(unit()),
    ];
    let battery = (unit(), unit()).prop_map(|(voltage, charge)| Battery { voltage, charge });
    let door = prop_oneof![Just(Door::Closed), Just(Door::Open)];
    let sensors = (
        measured(unit()),
        measured(battery),
        measured(unit()),
        measured(unit()),
        measured(door),
        measured(unit()),
    );
    (unit(), measured(position()), temperatures, sensors).prop_map(
        |(uptime, position, temperatures, (humidity, battery, tilt, light, door, radio))| Reading {
            uptime,
            position,
            temperatures,
            humidity,
            battery,
            tilt,
            light,
            door,
            radio,
        },
    )
}

fn alarm() -> impl Strategy<Value = Alarm> {
    let kind = prop_oneof![
        any::<u8>().prop_map(AlarmKind::TemperatureAbove),
        any::<u8>().prop_map(AlarmKind::TemperatureBelow),
        proptest::sample::select(vec![
            AlarmKind::HumidityAbove,
            AlarmKind::HumidityBelow,
            AlarmKind::Shock,
            AlarmKind::FreeFall,
            AlarmKind::Tilt,
            AlarmKind::Light,
            AlarmKind::Door,
            AlarmKind::Battery,
            AlarmKind::SensorFault,
        ]),
    ];
    let shock = (
        [unit(), unit(), unit()],
        option::of(unit()),
        option::of(unit()),
    )
        .prop_map(|(peak, duration, delta_v)| Shock {
            peak,
            duration,
            delta_v,
        });
    (
        unit(),
        kind,
        any::<i32>(),
        unit(),
        any::<i32>(),
        any::<u32>(),
        option::of(shock),
    )
        .prop_map(
            |(uptime, kind, limit, since, extreme, count, shock)| Alarm {
                uptime,
                kind,
                limit,
                since,
                extreme,
                count,
                shock,
            },
        )
}

fn cause() -> impl Strategy<Value = ResetCause> {
    proptest::sample::select(vec![
        ResetCause::Unknown,
        ResetCause::PowerOn,
        ResetCause::BrownOut,
        ResetCause::Watchdog,
        ResetCause::Software,
        ResetCause::Panic,
        ResetCause::Pin,
    ])
}

fn boot() -> impl Strategy<Value = BootRecord> {
    (
        unit(),
        unit(),
        option::of(any::<u32>().prop_map(Seq)),
        cause(),
        any::<[u8; 3]>(),
    )
        .prop_map(
            |(uptime, build_time, previous_last, cause, version)| BootRecord {
                uptime,
                build_time,
                previous_last,
                cause,
                version,
            },
        )
}

fn anchor() -> impl Strategy<Value = Anchor> {
    let source = proptest::sample::select(vec![
        TimeSource::Gnss,
        TimeSource::ClockChip,
        TimeSource::Gateway,
    ]);
    (unit(), unit(), source, unit(), any::<bool>()).prop_map(
        |(uptime, utc, source, uncertainty, rollover_corrected)| Anchor {
            uptime,
            utc,
            source,
            uncertainty,
            rollover_corrected,
        },
    )
}

fn key() -> impl Strategy<Value = RecordKey> {
    any::<(u64, u32, u32)>().prop_map(|(epoch, boot, seq)| RecordKey::new(epoch, boot, seq))
}

fn loss() -> impl Strategy<Value = Loss> {
    let reason = proptest::sample::select(vec![
        LossReason::RoutineFull,
        LossReason::AlarmsFull,
        LossReason::Corrupt,
        LossReason::PowerCut,
    ]);
    (unit(), key(), key(), any::<u32>(), reason).prop_map(|(uptime, first, last, count, reason)| {
        Loss {
            uptime,
            first,
            last,
            count,
            reason,
        }
    })
}

/// Any settings, also such that do not pass validation.
pub(crate) fn settings() -> impl Strategy<Value = Settings> {
    let rates = (unit(), unit(), unit(), unit());
    let limits = (option::of(unit()), option::of(unit()), unit());
    let shock = (unit(), unit(), unit());
    let others = (unit(), option::of(unit()), option::of(unit()));
    (any::<u32>(), rates, any::<u8>(), limits, shock, others).prop_map(
        |(version, rates, batch_readings, limits, shock, others)| Settings {
            version,
            sample_moving: rates.0,
            sample_resting: rates.1,
            sample_near_limit: rates.2,
            publish_interval: rates.3,
            batch_readings,
            temperature_above: limits.0,
            temperature_below: limits.1,
            temperature_margin: limits.2,
            shock_peak: shock.0,
            shock_delta_v: shock.1,
            shock_duration: shock.2,
            battery_low: others.0,
            light_above: others.1,
            tilt_above: others.2,
        },
    )
}

/// Any record.
pub(crate) fn numbered() -> impl Strategy<Value = Numbered> {
    let settings =
        (unit(), settings()).prop_map(|(uptime, settings)| SettingsRecord { uptime, settings });
    let record = prop_oneof![
        5 => reading().boxed().prop_map(Record::Reading).boxed(),
        1 => alarm().boxed().prop_map(Record::Alarm).boxed(),
        1 => boot().boxed().prop_map(Record::Boot).boxed(),
        1 => anchor().boxed().prop_map(Record::Anchor).boxed(),
        1 => settings.boxed().prop_map(Record::Settings).boxed(),
        1 => loss().boxed().prop_map(Record::Loss).boxed(),
    ];
    (any::<u32>(), record)
        .prop_map(|(seq, record)| Numbered {
            seq: Seq(seq),
            record,
        })
        .boxed()
}

/// Any batch: its header and up to 20 records.
pub(crate) fn batch() -> impl Strategy<Value = (BatchHeader, Vec<Numbered>)> {
    let header = (any::<u64>(), any::<u32>(), key(), any::<bool>()).prop_map(
        |(epoch, boot, oldest, same)| BatchHeader {
            epoch: Epoch(epoch),
            boot: Boot(boot),
            oldest_pending: if same {
                RecordKey::new(epoch, boot, oldest.seq.0)
            } else {
                oldest
            },
        },
    );
    (header, vec(numbered(), 0..20))
}

/// Any status.
pub(crate) fn status() -> impl Strategy<Value = Status> {
    let counters = (any::<u64>(), any::<u32>(), any::<u32>(), any::<u32>());
    let birth = (any::<[u8; 3]>(), "[ -~]{0,32}", counters, cause()).prop_map(
        |(version, hardware, (epoch, boot, settings_version, pending), cause)| {
            Status::Birth(Birth {
                version,
                hardware: hardware.as_str().try_into().expect("at most 32 bytes"),
                epoch: Epoch(epoch),
                boot: Boot(boot),
                cause,
                settings_version,
                pending,
            })
        },
    );
    prop_oneof![4 => birth, 1 => Just(Status::Offline), 1 => Just(Status::Lost)]
}

/// Any answer to settings.
pub(crate) fn ack() -> impl Strategy<Value = SettingsAck> {
    let field = proptest::sample::select(SettingsField::ALL.to_vec());
    let out_of_range = (field, any::<[i64; 3]>()).prop_map(|(field, [value, min, max])| {
        SettingsRefusal::OutOfRange {
            field,
            value,
            min,
            max,
        }
    });
    let refusal = prop_oneof![
        out_of_range,
        any::<u32>().prop_map(|in_force| SettingsRefusal::Stale { in_force }),
        Just(SettingsRefusal::LimitsCrossed),
        Just(SettingsRefusal::Undecodable),
        Just(SettingsRefusal::NotStored),
    ];
    let outcome = prop_oneof![Just(Ok(())), refusal.prop_map(Err)];
    (any::<u32>(), outcome).prop_map(|(version, outcome)| SettingsAck { version, outcome })
}

/// Any time request.
pub(crate) fn time_request() -> impl Strategy<Value = TimeRequest> {
    (any::<u64>(), unit()).prop_map(|(nonce, uptime)| TimeRequest { nonce, uptime })
}

/// Any time reply.
pub(crate) fn time_reply() -> impl Strategy<Value = TimeReply> {
    (any::<u64>(), unit(), unit()).prop_map(|(nonce, utc, uncertainty)| TimeReply {
        nonce,
        utc,
        uncertainty,
    })
}
