//! Limits: since when a condition holds, how far it went, how often it was seen.
//!
//! An alarm is raised with the first sample beyond a limit, so that it can overtake the backlog, and
//! raised again when the extreme has grown since the last report. It ends when the value is back
//! inside by a margin; the readings tell that, no alarm does. A missing value changes nothing: it is
//! neither beyond the limit nor proof of being inside.

use protocol::downlink::Settings;
use protocol::reading::{Door, Measured, Missing, TEMPERATURE_PROBES_MAX};
use protocol::record::{Alarm, AlarmKind};
use protocol::units::UptimeMs;

use crate::port::Sample;

/// How far inside a temperature limit the condition ends, in hundredths of a degree: more than the
/// noise of a sensor, less than what matters.
pub const TEMPERATURE_CLEAR_CENTI: i32 = 30;

/// How far above its limit a charge ends the condition, in percent.
pub const BATTERY_CLEAR_PERCENT: i32 = 5;

/// How far inside its limit a tilt ends the condition, in degrees.
pub const TILT_CLEAR_DEGREES: i32 = 5;

/// Share of the light limit below which the condition ends, in percent.
pub const LIGHT_CLEAR_PERCENT: i64 = 90;

/// A condition that keeps growing is reported again after this time at the earliest, in milliseconds.
pub const REPORT_AGAIN_MS: u64 = 600_000;

/// Conditions watched: two per temperature probe, tilt, light, battery, door, sensor fault.
pub const CONDITIONS: usize = 2 * TEMPERATURE_PROBES_MAX + 5;

/// Watches every condition.
#[derive(Clone, Debug)]
pub struct Limits {
    active: [Option<Active>; CONDITIONS],
}

/// A condition that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Active {
    since: UptimeMs,
    extreme: i32,
    reported: UptimeMs,
    reported_extreme: i32,
    /// Samples beyond the limit since the last report.
    count: u32,
}

/// What one look says about one condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Beyond the limit.
    Beyond { limit: i32, value: i32 },
    /// Certainly inside.
    Clear,
    /// Neither: keep what is known.
    Unsure,
}

impl Limits {
    /// Nothing is beyond its limit yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            active: [None; CONDITIONS],
        }
    }

    /// Look at a sample; what has to be reported comes out.
    pub fn check(
        &mut self,
        sample: &Sample,
        settings: &Settings,
        now: UptimeMs,
    ) -> heapless::Vec<Alarm, CONDITIONS> {
        let looks = looks(sample, settings);
        self.active
            .iter_mut()
            .zip(looks)
            .filter_map(|(active, (kind, look))| report(active, kind, look, now))
            .collect()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

fn report(
    active: &mut Option<Active>,
    kind: AlarmKind,
    look: Look,
    now: UptimeMs,
) -> Option<Alarm> {
    let (limit, value) = match look {
        Look::Beyond { limit, value } => (limit, value),
        Look::Unsure => return None,
        Look::Clear => {
            *active = None;
            return None;
        }
    };
    let first = active.is_none();
    let known = active.get_or_insert(Active::new(value, now));
    known.count = known.count.saturating_add(1);
    if worse(kind, value, known.extreme) {
        known.extreme = value;
    }
    let grown = worse(kind, known.extreme, known.reported_extreme);
    let since_report = now.get().saturating_sub(known.reported.get());
    let again = grown && since_report >= REPORT_AGAIN_MS;
    if !(first || again) {
        return None;
    }
    let alarm = Alarm {
        uptime: now,
        kind,
        limit,
        since: known.since,
        extreme: known.extreme,
        count: known.count,
        shock: None,
    };
    known.reported = now;
    known.reported_extreme = known.extreme;
    known.count = 0;
    Some(alarm)
}

impl Active {
    const fn new(value: i32, now: UptimeMs) -> Self {
        Self {
            since: now,
            extreme: value,
            reported: now,
            reported_extreme: value,
            count: 0,
        }
    }
}

const fn worse(kind: AlarmKind, value: i32, than: i32) -> bool {
    match kind {
        AlarmKind::TemperatureBelow(_) | AlarmKind::HumidityBelow | AlarmKind::Battery => {
            value < than
        }
        _ => value > than,
    }
}

fn looks(sample: &Sample, settings: &Settings) -> [(AlarmKind, Look); CONDITIONS] {
    let mut looks = [(AlarmKind::SensorFault, sensor_fault(sample)); CONDITIONS];
    let above = settings
        .temperature_above
        .map(|limit| i32::from(limit.get()));
    let below = settings
        .temperature_below
        .map(|limit| i32::from(limit.get()));
    let (pairs, rest) = looks.split_at_mut(2 * TEMPERATURE_PROBES_MAX);
    let probes = (0_u8..).zip(sample.temperatures);
    for (pair, (probe, temperature)) in pairs.chunks_exact_mut(2).zip(probes) {
        let value = temperature.value().map(|value| i32::from(value.get()));
        let (high, low) = (
            beyond_above(value, above, |limit| limit - TEMPERATURE_CLEAR_CENTI),
            beyond_below(value, below, |limit| limit + TEMPERATURE_CLEAR_CENTI),
        );
        pair.copy_from_slice(&[
            (AlarmKind::TemperatureAbove(probe), high),
            (AlarmKind::TemperatureBelow(probe), low),
        ]);
    }
    let others = [
        (AlarmKind::Tilt, tilt(sample, settings)),
        (AlarmKind::Light, light(sample, settings)),
        (AlarmKind::Battery, battery(sample, settings)),
        (AlarmKind::Door, door(sample)),
    ];
    for (slot, other) in rest.iter_mut().zip(others) {
        *slot = other;
    }
    looks
}

fn tilt(sample: &Sample, settings: &Settings) -> Look {
    let value = sample.tilt.value().map(|tilt| i32::from(tilt.get()));
    let limit = settings.tilt_above.map(|limit| i32::from(limit.get()));
    beyond_above(value, limit, |limit| limit - TILT_CLEAR_DEGREES)
}

fn light(sample: &Sample, settings: &Settings) -> Look {
    let lux = |lux: protocol::units::Lux| i32::try_from(lux.get()).unwrap_or(i32::MAX);
    let clear = |limit| {
        let share = i64::from(limit) * LIGHT_CLEAR_PERCENT / 100;
        i32::try_from(share).unwrap_or(limit)
    };
    beyond_above(
        sample.light.value().map(lux),
        settings.light_above.map(lux),
        clear,
    )
}

/// At or below its limit, unlike the others.
fn battery(sample: &Sample, settings: &Settings) -> Look {
    let charge = sample
        .battery
        .value()
        .map(|battery| i32::from(battery.charge.get()));
    let limit = i32::from(settings.battery_low.get());
    match beyond_below(charge, Some(limit + 1), |limit| {
        limit + BATTERY_CLEAR_PERCENT
    }) {
        Look::Beyond { value, .. } => Look::Beyond { limit, value },
        other => other,
    }
}

fn door(sample: &Sample) -> Look {
    match sample.door {
        Measured::Value(Door::Open) => Look::Beyond { limit: 0, value: 0 },
        Measured::Value(Door::Closed) => Look::Clear,
        Measured::Missing(_) => Look::Unsure,
    }
}

/// Any fitted sensor that does not answer, or answers nonsense.
fn sensor_fault(sample: &Sample) -> Look {
    let faulty = sample.temperatures.iter().any(broken)
        || broken(&sample.humidity)
        || broken(&sample.battery)
        || broken(&sample.tilt)
        || broken(&sample.light)
        || broken(&sample.door)
        || broken(&sample.radio);
    if faulty {
        Look::Beyond { limit: 0, value: 0 }
    } else {
        Look::Clear
    }
}

const fn broken<T>(value: &Measured<T>) -> bool {
    matches!(
        value,
        Measured::Missing(Missing::SensorFault | Missing::OutOfRange)
    )
}

fn beyond_above(value: Option<i32>, limit: Option<i32>, clear: impl Fn(i32) -> i32) -> Look {
    match (value, limit) {
        (_, None) => Look::Clear,
        (None, _) => Look::Unsure,
        (Some(value), Some(limit)) if value > limit => Look::Beyond { limit, value },
        (Some(value), Some(limit)) if value <= clear(limit) => Look::Clear,
        _ => Look::Unsure,
    }
}

fn beyond_below(value: Option<i32>, limit: Option<i32>, clear: impl Fn(i32) -> i32) -> Look {
    match (value, limit) {
        (_, None) => Look::Clear,
        (None, _) => Look::Unsure,
        (Some(value), Some(limit)) if value < limit => Look::Beyond { limit, value },
        (Some(value), Some(limit)) if value >= clear(limit) => Look::Clear,
        _ => Look::Unsure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::reading::Battery;
    use protocol::units::{CentiCelsius, Millivolts, Percent};

    fn at(s: i64) -> UptimeMs {
        UptimeMs::saturating(s * 1_000)
    }

    fn sample(centi: i64) -> Sample {
        let mut sample = Sample::NOTHING_FITTED;
        sample.temperatures[1] = Measured::Value(CentiCelsius::saturating(centi));
        sample
    }

    /// Alarms of a series of (seconds, centi-Celsius), as (since, extreme, count).
    fn series(limits: &mut Limits, points: &[(i64, i64)]) -> Vec<(u64, i32, u32)> {
        let check = |(s, centi): &(i64, i64)| {
            let alarms = limits.check(&sample(*centi), &Settings::DEFAULT, at(*s));
            let summary = |alarm: &Alarm| (alarm.since.get() / 1_000, alarm.extreme, alarm.count);
            alarms.iter().map(summary).collect::<Vec<_>>()
        };
        points.iter().flat_map(check).collect()
    }

    #[test]
    fn a_limit_crossed_is_reported_once_and_again_only_when_it_grew() {
        let points = [
            (0, 800),
            (60, 801),
            (120, 850),
            (180, 840),
            (660, 845),
            (1_320, 845),
        ];
        let mut limits = Limits::new();
        assert_eq!(series(&mut limits, &points), [(60, 801, 1), (60, 850, 3)]);
    }

    #[test]
    fn a_condition_ends_inside_by_the_margin_only() {
        let mut limits = Limits::new();
        let points = [(0, 900), (60, 771), (120, 900), (180, 770), (240, 900)];
        assert_eq!(series(&mut limits, &points), [(0, 900, 1), (240, 900, 1)]);
    }

    #[test]
    fn freezing_is_a_condition_of_its_own() {
        let mut limits = Limits::new();
        let alarms = limits.check(&sample(-51), &Settings::DEFAULT, at(5));
        assert_eq!(alarms.len(), 1);
        assert_eq!(alarms[0].kind, AlarmKind::TemperatureBelow(1));
        assert_eq!((alarms[0].limit, alarms[0].extreme), (-50, -51));
    }

    #[test]
    fn a_missing_value_neither_raises_nor_ends_a_condition() {
        let mut limits = Limits::new();
        assert_eq!(series(&mut limits, &[(0, 900)]).len(), 1);
        let mut blind = Sample::NOTHING_FITTED;
        blind.temperatures[1] = Measured::Missing(Missing::NotSampled);
        assert!(limits.check(&blind, &Settings::DEFAULT, at(60)).is_empty());
        assert!(series(&mut limits, &[(120, 900)]).is_empty());
    }

    #[test]
    fn a_charge_at_its_limit_is_low() {
        let charge = |percent| {
            let mut sample = Sample::NOTHING_FITTED;
            sample.battery = Measured::Value(Battery {
                voltage: Millivolts::saturating(3_600),
                charge: Percent::saturating(percent),
            });
            Limits::new().check(&sample, &Settings::DEFAULT, at(0))
        };
        assert!(charge(16).is_empty());
        assert_eq!(charge(15)[0].kind, AlarmKind::Battery);
        assert_eq!((charge(14)[0].limit, charge(14)[0].extreme), (15, 14));
    }

    #[test]
    fn a_sensor_that_fails_is_reported_once() {
        let mut limits = Limits::new();
        let mut broken = Sample::NOTHING_FITTED;
        broken.humidity = Measured::Missing(Missing::SensorFault);
        let first = limits.check(&broken, &Settings::DEFAULT, at(0));
        assert_eq!(first[0].kind, AlarmKind::SensorFault);
        assert!(
            limits
                .check(&broken, &Settings::DEFAULT, at(900))
                .is_empty()
        );
    }
}
