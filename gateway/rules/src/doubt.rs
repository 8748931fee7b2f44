//! What a stored record says that is not believed.
//!
//! A doubt is no refusal: the record is stored and acknowledged, and whatever else it says counts. The
//! rules leave the doubtful part out; the gateway counts it once, when it admits the record, and names
//! the device. So a doubt never enters a verdict, and a verdict never depends on it being counted.

use protocol::reading::{Measured, Missing, Reading, TEMPERATURE_PROBES_MAX};
use protocol::record::{Alarm, AlarmKind, Loss, Record};
use protocol::units::{CentiCelsius, DeciPercent, Lux, MilliG, Percent, TiltDegrees, Unit};

use crate::place::fix::is_nowhere;
use crate::timeline::is_countable;

/// Why something in a stored record is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Doubt {
    /// A time too far before the firmware was built.
    ClockRefused,
    /// A time that has not come yet.
    ClockAhead,
    /// An uptime longer than any device lives.
    Uptime,
    /// The point 0, 0.
    PositionNowhere,
    /// A sensor answered outside its physical range.
    ValueOutOfRange,
    /// An alarm with values that cannot be.
    AlarmImpossible,
    /// A loss that cannot be.
    LossImpossible,
}

impl Doubt {
    /// Every doubt.
    pub const ALL: &'static [Self] = &[
        Self::ClockRefused,
        Self::ClockAhead,
        Self::Uptime,
        Self::PositionNowhere,
        Self::ValueOutOfRange,
        Self::AlarmImpossible,
        Self::LossImpossible,
    ];

    /// Label of the metric, in `snake_case`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClockRefused => "clock_refused",
            Self::ClockAhead => "clock_ahead",
            Self::Uptime => "uptime_impossible",
            Self::PositionNowhere => "position_nowhere",
            Self::ValueOutOfRange => "value_out_of_range",
            Self::AlarmImpossible => "alarm_impossible",
            Self::LossImpossible => "loss_impossible",
        }
    }

    /// What happened, for the manual.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::ClockRefused => {
                "A device's time lies more than 365 days before its firmware was built."
            }
            Self::ClockAhead => {
                "A device's time was more than a day ahead of the gateway's when it came."
            }
            Self::Uptime => "A device claims to run for more than 140,000 years.",
            Self::PositionNowhere => {
                "A position is exactly 0, 0: a receiver's way to say that it has none."
            }
            Self::ValueOutOfRange => {
                "A sensor answered with a value outside its physical range, as the device says."
            }
            Self::AlarmImpossible => {
                "An alarm's limit or extreme lies outside the physical range of its kind, its probe does \
                 not exist, or a fall took longer than 10 s."
            }
            Self::LossImpossible => {
                "A loss record's range runs backwards or over several boots, or it counts none or more \
                 than its range holds."
            }
        }
    }

    /// What the gateway does about it, for the manual.
    #[must_use]
    pub const fn treatment(self) -> &'static str {
        match self {
            Self::ClockRefused => "the time dates nothing; EX_CLOCK is told",
            Self::ClockAhead => {
                "the time is believed, since receive time decides no verdict; EX_CLOCK is told"
            }
            Self::Uptime => "it is taken as 140,000 years",
            Self::PositionNowhere | Self::ValueOutOfRange => {
                "the value is left out, the rest of the reading counts"
            }
            Self::AlarmImpossible => "the alarm opens nothing",
            Self::LossImpossible => "it explains nothing that is missing",
        }
    }
}

/// What is doubtful in `record` itself, clocks apart: whether a time is refused depends on the boot's
/// other records (see [`crate::timeline::is_refused`]).
pub fn of(record: &Record) -> impl Iterator<Item = Doubt> {
    let uptime = (!is_countable(record.uptime())).then_some(Doubt::Uptime);
    let [first, second] = match record {
        Record::Reading(reading) => [
            has_no_place(reading).then_some(Doubt::PositionNowhere),
            has_value_out_of_range(reading).then_some(Doubt::ValueOutOfRange),
        ],
        Record::Alarm(alarm) => [
            (!is_possible_alarm(alarm)).then_some(Doubt::AlarmImpossible),
            None,
        ],
        Record::Loss(loss) => [
            (!is_possible_loss(loss)).then_some(Doubt::LossImpossible),
            None,
        ],
        Record::Boot(_) | Record::Anchor(_) | Record::Settings(_) => [None, None],
    };
    [uptime, first, second].into_iter().flatten()
}

/// Longest fall that is believed, in milliseconds: from 490 m, without the air.
const FALL_MAX_MS: u64 = 10_000;

/// Whether an alarm can be what it says.
#[must_use]
pub fn is_possible_alarm(alarm: &Alarm) -> bool {
    let range = match alarm.kind {
        AlarmKind::TemperatureAbove(probe) | AlarmKind::TemperatureBelow(probe) => {
            if usize::from(probe) >= TEMPERATURE_PROBES_MAX {
                return false;
            }
            range::<CentiCelsius>()
        }
        AlarmKind::HumidityAbove | AlarmKind::HumidityBelow => range::<DeciPercent>(),
        AlarmKind::FreeFall if !falls_to_earth(alarm) => return false,
        AlarmKind::Shock | AlarmKind::FreeFall => range::<MilliG>(),
        AlarmKind::Tilt => range::<TiltDegrees>(),
        AlarmKind::Light => range::<Lux>(),
        AlarmKind::Battery => range::<Percent>(),
        // They have no limit and no extreme.
        AlarmKind::Door | AlarmKind::SensorFault => i64::MIN..=i64::MAX,
    };
    let values = [alarm.limit, alarm.extreme].map(i64::from);
    values.iter().all(|value| range.contains(value))
}

/// Whether a fall lasted as long as one may.
const fn falls_to_earth(alarm: &Alarm) -> bool {
    let (until, since) = (alarm.uptime.get(), alarm.since.get());
    since <= until && until - since <= FALL_MAX_MS
}

/// Whether a loss can be what it says.
#[must_use]
pub fn is_possible_loss(loss: &Loss) -> bool {
    let (first, last) = (loss.first, loss.last);
    let one_boot = (first.epoch, first.boot) == (last.epoch, last.boot);
    let behind = u64::from(last.seq.0) + 1;
    let held = behind.checked_sub(u64::from(first.seq.0));
    one_boot && held.is_some_and(|held| (1..=held).contains(&u64::from(loss.count)))
}

fn has_no_place(reading: &Reading) -> bool {
    reading.position.value().is_some_and(|at| is_nowhere(&at))
}

fn has_value_out_of_range(reading: &Reading) -> bool {
    let Reading {
        uptime: _,
        position,
        temperatures,
        humidity,
        battery,
        tilt,
        light,
        door,
        radio,
    } = reading;
    let beside = [
        is_out_of_range(position),
        is_out_of_range(humidity),
        is_out_of_range(battery),
        is_out_of_range(tilt),
        is_out_of_range(light),
        is_out_of_range(door),
        is_out_of_range(radio),
    ];
    beside.contains(&true) || temperatures.iter().any(is_out_of_range)
}

const fn is_out_of_range<T>(measured: &Measured<T>) -> bool {
    matches!(measured, Measured::Missing(Missing::OutOfRange))
}

const fn range<U: Unit>() -> std::ops::RangeInclusive<i64> {
    U::MIN..=U::MAX
}

#[cfg(test)]
mod tests {
    use protocol::key::RecordKey;
    use protocol::reading::{FixQuality, Position};
    use protocol::record::LossReason;
    use protocol::units::{
        Decimetres, DecimetresPerSecond, Latitude, Longitude, Seconds, UptimeMs,
    };

    use super::*;

    fn doubts(record: Record) -> Vec<Doubt> {
        of(&record).collect()
    }

    fn reading(latitude: i32, longitude: i32) -> Reading {
        let mut reading = Reading::empty(UptimeMs::saturating(1_000));
        reading.position = Measured::Value(Position {
            latitude: Latitude::new(latitude).unwrap(),
            longitude: Longitude::new(longitude).unwrap(),
            accuracy: Decimetres::saturating(50),
            speed: DecimetresPerSecond::saturating(0),
            course: Measured::Missing(Missing::NotSampled),
            quality: FixQuality::Gnss3d,
            satellites: 8,
            age: Seconds::saturating(1),
        });
        reading
    }

    fn alarm(kind: AlarmKind, limit: i32, extreme: i32) -> Alarm {
        Alarm {
            uptime: UptimeMs::saturating(5_000),
            kind,
            limit,
            since: UptimeMs::saturating(5_000),
            extreme,
            count: 1,
            shock: None,
        }
    }

    fn loss(first: (u32, u32), last: (u32, u32), count: u32) -> Loss {
        Loss {
            uptime: UptimeMs::saturating(0),
            first: RecordKey::new(1, first.0, first.1),
            last: RecordKey::new(1, last.0, last.1),
            count,
            reason: LossReason::RoutineFull,
        }
    }

    #[test]
    fn every_doubt_has_its_own_label_and_its_words() {
        let labels: std::collections::BTreeSet<_> =
            Doubt::ALL.iter().map(|doubt| doubt.as_str()).collect();
        assert_eq!(labels.len(), Doubt::ALL.len());
        for doubt in Doubt::ALL {
            assert!(!doubt.sentence().is_empty() && !doubt.treatment().is_empty());
        }
    }

    #[test]
    fn the_point_zero_and_values_out_of_range_are_doubted_and_others_are_not() {
        assert_eq!(
            doubts(Record::Reading(reading(0, 0))),
            [Doubt::PositionNowhere]
        );
        let mut on_the_equator = reading(0, 90_000_000);
        assert_eq!(doubts(Record::Reading(on_the_equator)), []);
        on_the_equator.temperatures[3] = Measured::Missing(Missing::SensorFault);
        assert_eq!(doubts(Record::Reading(on_the_equator)), []);
        on_the_equator.temperatures[3] = Measured::Missing(Missing::OutOfRange);
        assert_eq!(
            doubts(Record::Reading(on_the_equator)),
            [Doubt::ValueOutOfRange]
        );
    }

    #[test]
    fn an_uptime_longer_than_any_life_is_doubted() {
        let mut long = reading(1, 1);
        long.uptime = UptimeMs::saturating(1 << 52);
        assert_eq!(doubts(Record::Reading(long)), []);
        long.uptime = UptimeMs::saturating((1 << 52) + 1);
        assert_eq!(doubts(Record::Reading(long)), [Doubt::Uptime]);
    }

    #[test]
    fn an_alarm_outside_the_range_of_its_kind_is_impossible() {
        use AlarmKind as Kind;
        for (kind, limit, extreme) in [
            (Kind::TemperatureAbove(3), 800, 32_767),
            (Kind::TemperatureBelow(0), 200, -27_315),
            (Kind::HumidityAbove, 600, 1_000),
            (Kind::Shock, 2_500, -1_000_000),
            (Kind::Tilt, 30, 180),
            (Kind::Battery, 15, 0),
            (Kind::Door, 0, 0),
        ] {
            assert!(is_possible_alarm(&alarm(kind, limit, extreme)), "{kind:?}");
        }
        let fall = |since, uptime| Alarm {
            uptime: UptimeMs::saturating(uptime),
            since: UptimeMs::saturating(since),
            ..alarm(Kind::FreeFall, 300, 40)
        };
        assert!(is_possible_alarm(&fall(5_000, 15_000)));
        assert!(!is_possible_alarm(&fall(5_000, 15_001)));
        assert!(!is_possible_alarm(&fall(5_000, 4_999)));
        for (kind, limit, extreme) in [
            (Kind::TemperatureAbove(4), 800, 900),
            (Kind::TemperatureAbove(0), 800, 32_768),
            (Kind::TemperatureBelow(0), -27_316, 100),
            (Kind::HumidityAbove, 600, 1_001),
            (Kind::Shock, 2_500, i32::MIN),
            (Kind::Tilt, 30, 181),
            (Kind::Battery, 15, 101),
        ] {
            assert!(!is_possible_alarm(&alarm(kind, limit, extreme)), "{kind:?}");
        }
    }

    #[test]
    fn a_loss_covers_one_boot_forwards_and_counts_no_more_than_its_range() {
        assert!(is_possible_loss(&loss((1, 3), (1, 3), 1)));
        assert!(is_possible_loss(&loss((1, 0), (1, u32::MAX), u32::MAX)));
        for impossible in [
            loss((1, 3), (1, 2), 1),
            loss((1, 3), (2, 9), 1),
            loss((1, 3), (1, 5), 4),
            loss((1, 3), (1, 5), 0),
        ] {
            assert!(!is_possible_loss(&impossible), "{impossible:?}");
        }
    }
}
