//! A profile: which conditions the goods stand, and how long.

use std::time::Duration;

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
