//! A profile: which conditions the goods stand, and how long.
//!
//! # Shipped profiles
//!
//! | profile | rules | source |
//! |---|---|---|
//! | `vaccine_2_8` | above 8.0 C for 10 h; below -0.5 C for 60 min; both exclusive, in one event | WHO PQS E006, alarm settings of temperature monitors for vaccine refrigerators |
//! | `frozen` | above -10 C for 60 min; below -25 C for 60 min | trade practice for goods at -18 to -20 C |
//! | `ultracold` | above -60 C for 30 min; below -90 C for 30 min | trade practice for goods at -90 to -60 C |
//!
//! The worked case of `vaccine_2_8` is a test: 4.0 C at 0 s and 8.01 C at 900, 1800, 28800 and 39600 s is
//! hot since 900 s, in alarm from 36900 s, and 2700 s in alarm at 39600 s; exactly 8.0 C for 11 h is no
//! alarm.
//!
//! Profiles that need cumulative counters (WHO shipping indicators) or the mean kinetic temperature
//! (controlled cold and controlled room temperature, USP <1160>) are not shipped: without those rules
//! their names would promise more than is judged.
//!
//! EU GDP (2013/C 343/01) 9.2 asks that an excursion is reported to the distributor and the recipient;
//! the events of these rules are that report's content.
//!
//! # Classes of fragility
//!
//! | class | peak | velocity change of a half-sine |
//! |---|---|---|
//! | `very_fragile` | 10 g | 11 ms: 0.687 m/s |
//! | `electronics` | 25 g | 10 ms: 1.561 m/s |
//! | `boxed_pallets` | 50 g | 11 ms: 3.434 m/s |
//! | `robust` | 75 g | 11 ms: 5.151 m/s |

use std::time::Duration;

use super::fault::{Faults, Problem};
use super::limit::LimitRule;
use super::reader::Table;
use super::value::{self, ID_ALLOWED};
use crate::event::Severity;

/// Limits for one kind of goods.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Unique name.
    pub name: String,
    /// Limits, quantity by quantity; each probe is judged by each of its quantity.
    pub limits: Vec<LimitRule>,
    /// Shock limits; `None`: shocks are not judged.
    pub shock: Option<ShockRule>,
    /// The smallest fall that is an event; `None`: falls are not judged.
    pub free_fall: Option<FallRule>,
    /// Charge at or below which a tracker's battery is low, in percent.
    pub battery_low_percent: u8,
    /// Longest time between two readings for which the first one holds; `None`: three times the
    /// longest sampling interval of the settings in force.
    pub max_gap: Option<Duration>,
    /// Silence that is reported.
    pub silent_after: Duration,
    /// Time after attachment during which temperature and humidity are not judged: the probe takes on the
    /// state of the goods.
    pub settling: Duration,
}

/// When an impact is an event: peak, and velocity change or duration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShockRule {
    /// Smallest peak in g.
    pub peak_g: f64,
    /// Smallest velocity change in metres per second.
    pub delta_v: f64,
    /// Or smallest duration.
    pub duration: Duration,
}

/// When a fall is an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FallRule {
    /// Smallest height in metres.
    pub height_m: f64,
}

/// Classes of fragility that a profile may name instead of thresholds; the velocity change is that of
/// a half-sine pulse, `2/pi * A * g0 * tau`.
const SHOCK_CLASSES: [(&str, ShockRule); 4] = [
    ("very_fragile", ShockRule::of_class(10.0, 0.687)),
    ("electronics", ShockRule::of_class(25.0, 1.561)),
    ("boxed_pallets", ShockRule::of_class(50.0, 3.434)),
    ("robust", ShockRule::of_class(75.0, 5.151)),
];

/// Longest delay, gap, silence or settling time: 30 days, the default late horizon.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Charge that is low when a profile does not say, in percent.
const BATTERY_LOW_PERCENT: i64 = 15;

/// Silence that is reported when a profile does not say.
const SILENT_AFTER: Duration = Duration::from_secs(2 * 3_600);

/// Settling time when a profile does not say.
const SETTLING: Duration = Duration::from_secs(10 * 60);

pub(super) const SEVERITIES: [(&str, Severity); 3] = [
    ("info", Severity::Info),
    ("warning", Severity::Warning),
    ("critical", Severity::Critical),
];

impl ShockRule {
    /// The class whose limit is a half-sine of `peak_g` with velocity change `delta_v`; in
    /// between, an impact of at least 20 ms counts at any velocity change.
    const fn of_class(peak_g: f64, delta_v: f64) -> Self {
        Self {
            peak_g,
            delta_v,
            duration: Duration::from_millis(20),
        }
    }

    fn read(table: &Table<'_, '_>, faults: &mut Faults<'_>) -> Option<Self> {
        table.check_keys(&["class", "peak_g", "delta_v", "duration"], faults);
        let class = table.optional("class", faults, value::choice(&SHOCK_CLASSES));
        let peak_g = table.optional("peak_g", faults, value::number(0.1..=1_000.0, "g"));
        let delta_v = table.optional("delta_v", faults, value::number(0.001..=1_000.0, "m/s"));
        let longest = Duration::from_secs(60);
        let duration = table.optional("duration", faults, value::duration(longest));
        if class.is_none() && (peak_g.is_none() || delta_v.is_none() || duration.is_none()) {
            let allowed = "a class, or all of peak_g, delta_v and duration";
            table.refuse(Problem::new("incomplete", allowed), faults);
        }
        Some(Self {
            peak_g: peak_g.or(class.map(|class| class.peak_g))?,
            delta_v: delta_v.or(class.map(|class| class.delta_v))?,
            duration: duration.or(class.map(|class| class.duration))?,
        })
    }
}

impl FallRule {
    fn read(table: &Table<'_, '_>, faults: &mut Faults<'_>) -> Option<Self> {
        table.check_keys(&["height_m"], faults);
        let height = value::number(0.01..=100.0, "m");
        let height_m = table.required("height_m", "metres, 0.01 to 100", faults, height);
        Some(Self {
            height_m: height_m?,
        })
    }
}

impl Profile {
    pub(super) fn read(table: &Table<'_, '_>, faults: &mut Faults<'_>) -> Option<Self> {
        table.check_keys(
            &[
                "name",
                "temperature",
                "humidity",
                "tilt",
                "light",
                "door",
                "shock",
                "free_fall",
                "battery_low_percent",
                "max_gap",
                "silent_after",
                "settling",
            ],
            faults,
        );
        let name = table.required("name", ID_ALLOWED, faults, value::id);
        let limits = LimitRule::read_all(table, faults);
        let shock = table
            .table("shock", faults)
            .and_then(|table| ShockRule::read(&table, faults));
        let free_fall = table
            .table("free_fall", faults)
            .and_then(|table| FallRule::read(&table, faults));
        let battery_low = table.optional("battery_low_percent", faults, value::integer(0..=100));
        let max_gap = table.optional("max_gap", faults, value::duration(DURATION_MAX));
        let silent_after = table.optional("silent_after", faults, value::duration(DURATION_MAX));
        let settling = table.optional("settling", faults, value::duration(DURATION_MAX));
        let battery_low = battery_low.unwrap_or(BATTERY_LOW_PERCENT);
        Some(Self {
            name: name?,
            limits,
            shock,
            free_fall,
            battery_low_percent: u8::try_from(battery_low).unwrap_or(u8::MAX),
            max_gap,
            silent_after: silent_after.unwrap_or(SILENT_AFTER),
            settling: settling.unwrap_or(SETTLING),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classes_follow_the_half_sine_formula() {
        let half_sine = |g: f64, ms: f64| 2.0 / std::f64::consts::PI * g * 9.806_65 * ms / 1_000.0;
        let pulses_ms = [11.0, 10.0, 11.0, 11.0];
        for ((name, class), ms) in SHOCK_CLASSES.iter().zip(pulses_ms) {
            let expected = half_sine(class.peak_g, ms);
            assert!(
                (class.delta_v - expected).abs() < 0.001,
                "{name}: {expected}"
            );
        }
    }
}
