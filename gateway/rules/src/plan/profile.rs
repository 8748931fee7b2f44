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
use super::reader::{Table, Unique};
use super::value::{self, ID_ALLOWED};
use crate::event::{Severity, Side};

/// Limits for one kind of goods.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Unique name.
    pub name: String,
    /// Temperature limits; each probe is judged by each.
    pub temperature: Vec<TemperatureRule>,
    /// Shock limits; `None`: shocks are not judged.
    pub shock: Option<ShockRule>,
    /// Charge at or below which a tracker's battery is low, in percent.
    pub battery_low_percent: u8,
    /// Longest time between two readings for which the first one holds; `None`: three times the
    /// longest sampling interval of the settings in force.
    pub max_gap: Option<Duration>,
    /// Silence that is reported.
    pub silent_after: Duration,
    /// Time after attachment during which temperatures are not judged: the probe takes on the
    /// temperature of the goods.
    pub settling: Duration,
}

/// One bound on temperature.
#[derive(Clone, Debug, PartialEq)]
pub struct TemperatureRule {
    /// Unique in the profile; part of event ids.
    pub name: String,
    /// Degrees Celsius.
    pub bound: f64,
    /// Which side is bad.
    pub side: Side,
    /// Whether the bound itself is bad.
    pub inclusive: bool,
    /// Continuous time beyond the bound that opens an event.
    pub delay: Duration,
    /// How far inside the bound an open episode must come back to end, in kelvin.
    pub hysteresis: f64,
    /// How long it must stay there.
    pub clear_delay: Duration,
    /// Severity of the event.
    pub severity: Severity,
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

/// Classes of fragility that a profile may name instead of thresholds; the velocity change is that of
/// a half-sine pulse, `2/pi * A * g0 * tau`.
const SHOCK_CLASSES: [(&str, ShockRule); 4] = [
    ("very_fragile", ShockRule::of_class(10.0, 0.687)),
    ("electronics", ShockRule::of_class(25.0, 1.561)),
    ("boxed_pallets", ShockRule::of_class(50.0, 3.434)),
    ("robust", ShockRule::of_class(75.0, 5.151)),
];

/// Most temperature rules of one profile.
const TEMPERATURE_RULES_MAX: usize = 8;

/// Longest delay, gap, silence or settling time: 30 days, the default late horizon.
const DURATION_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Coldest and hottest bound in degrees Celsius: what the wire can carry.
const BOUND_C: std::ops::RangeInclusive<f64> = -273.15..=327.67;

/// Hysteresis when a rule does not say, in kelvin: above the noise of a probe, below what matters.
const HYSTERESIS_K: f64 = 0.3;

/// Clear delay when a rule does not say.
const CLEAR_DELAY: Duration = Duration::from_secs(5 * 60);

/// Charge that is low when a profile does not say, in percent.
const BATTERY_LOW_PERCENT: i64 = 15;

/// Silence that is reported when a profile does not say.
const SILENT_AFTER: Duration = Duration::from_secs(2 * 3_600);

/// Settling time when a profile does not say.
const SETTLING: Duration = Duration::from_secs(10 * 60);

const SEVERITIES: [(&str, Severity); 3] = [
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

impl TemperatureRule {
    fn read(table: &Table<'_, '_>, faults: &mut Faults<'_>) -> Option<Self> {
        table.check_keys(
            &[
                "name",
                "above",
                "below",
                "inclusive",
                "delay",
                "hysteresis",
                "clear_delay",
                "severity",
            ],
            faults,
        );
        let name = table.required("name", ID_ALLOWED, faults, value::id);
        let above = table.optional("above", faults, value::number(BOUND_C, "C"));
        let below = table.optional("below", faults, value::number(BOUND_C, "C"));
        let bound = match (above, below) {
            (Some(bound), None) => Some((bound, Side::Above)),
            (None, Some(bound)) => Some((bound, Side::Below)),
            _ => {
                let allowed = "one of above and below";
                table.refuse(Problem::new("no bound, or two", allowed), faults);
                None
            }
        };
        let inclusive = table.optional("inclusive", faults, value::flag);
        let delay = value::duration(DURATION_MAX);
        let delay = table.required("delay", "a duration, such as \"10h\"", faults, delay);
        let hysteresis = value::number(0.0..=5.0, "kelvin");
        let hysteresis = table.optional("hysteresis", faults, hysteresis);
        let clear_delay = table.optional("clear_delay", faults, value::duration(DURATION_MAX));
        let severity = table.optional("severity", faults, value::choice(&SEVERITIES));
        let (bound, side) = bound?;
        Some(Self {
            name: name?,
            bound,
            side,
            inclusive: inclusive.unwrap_or(false),
            delay: delay?,
            hysteresis: hysteresis.unwrap_or(HYSTERESIS_K),
            clear_delay: clear_delay.unwrap_or(CLEAR_DELAY),
            severity: severity.unwrap_or(Severity::Critical),
        })
    }

    fn read_all(profile: &Table<'_, '_>, faults: &mut Faults<'_>) -> Vec<Self> {
        let mut seen = Unique::new("of the profile's temperature rules");
        let tables = profile.tables("temperature", TEMPERATURE_RULES_MAX, faults);
        let rules = tables.iter().filter_map(|table| {
            let rule = Self::read(table, faults)?;
            seen.check(table, "name", &rule.name, faults);
            Some(rule)
        });
        rules.collect()
    }
}

impl Profile {
    pub(super) fn read(table: &Table<'_, '_>, faults: &mut Faults<'_>) -> Option<Self> {
        table.check_keys(
            &[
                "name",
                "temperature",
                "shock",
                "battery_low_percent",
                "max_gap",
                "silent_after",
                "settling",
            ],
            faults,
        );
        let name = table.required("name", ID_ALLOWED, faults, value::id);
        let temperature = TemperatureRule::read_all(table, faults);
        let shock = table
            .table("shock", faults)
            .and_then(|table| ShockRule::read(&table, faults));
        let battery_low = table.optional("battery_low_percent", faults, value::integer(0..=100));
        let max_gap = table.optional("max_gap", faults, value::duration(DURATION_MAX));
        let silent_after = table.optional("silent_after", faults, value::duration(DURATION_MAX));
        let settling = table.optional("settling", faults, value::duration(DURATION_MAX));
        let battery_low = battery_low.unwrap_or(BATTERY_LOW_PERCENT);
        Some(Self {
            name: name?,
            temperature,
            shock,
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
