//! Scenarios: what a world is made of, as TOML.
//!
//! Every key has a default, so the empty file is the demo scenario. A `[min, max]` pair is drawn from
//! evenly; a fault's `{ at_least, share }` strikes the larger of both. `scenarios/demo.toml` states
//! every key with its meaning, and a test holds that file equal to [`Scenario::default`].
//!
//! ```toml
//! seed = 42
//! trackers = 40
//! lanes = ["br-santos-campinas", "uk-felixstowe-manchester"]
//! [temperature]
//! failing = { at_least = 2, share = 0.25 }
//! ```

mod check;

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Most trackers in one world: the fleet opens one connection and one task for each.
pub const TRACKERS_MAX: usize = 1_000;

/// Longest horizon in hours; truth is tabulated up to there.
pub const HORIZON_MAX_HOURS: u32 = 24 * 14;

/// An even draw between two values, both included.
pub type Span = [f64; 2];

/// A whole scenario.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// For people.
    pub name: String,
    /// Everything random follows from it.
    pub seed: u64,
    /// Event time at which the world begins, before the seed moves it by up to a day.
    pub start: DateTime<Utc>,
    /// Hours of truth; later the world stands still.
    pub horizon_hours: u32,
    /// Trackers in all, 1 to [`TRACKERS_MAX`].
    pub trackers: usize,
    /// Ids of the lanes used, in turn; empty means all.
    pub lanes: Vec<String>,
    /// What is carried.
    pub cargo: Cargo,
    /// How trucks drive.
    pub legs: Legs,
    /// Reefers and doors.
    pub temperature: Temperature,
    /// Impacts.
    pub shock: Shock,
    /// Batteries.
    pub battery: Battery,
    /// Trackers that go dark.
    pub silence: Silence,
    /// Receivers.
    pub gnss: Gnss,
}

/// Shares of what is carried; the rest is dry electronics.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cargo {
    /// Share of shipments at 2 to 8 C.
    pub chilled_share: f64,
    /// Share of shipments at -20 C.
    pub frozen_share: f64,
}

/// How trucks drive.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Legs {
    /// Shipments with a short way, which deliver early.
    pub early: usize,
    /// Their distance from pickup to delivery, km.
    pub early_km: Span,
    /// Their time at the pickup stop, minutes.
    pub early_loading_minutes: Span,
    /// Distance of all others, km, as far as the lane allows.
    pub km: Span,
    /// Time at the pickup stop, minutes.
    pub loading_minutes: Span,
    /// Cruising speed per stretch, km/h.
    pub cruise_kmh: Span,
    /// Share of shipments with a hub on the way.
    pub hub_share: f64,
    /// Time at the hub, minutes.
    pub hub_minutes: Span,
    /// Share of shipments that queue outside the delivery fence: a near miss.
    pub queue_share: f64,
    /// Time in that queue, minutes.
    pub queue_minutes: Span,
    /// Share of shipments with two trackers.
    pub pair_share: f64,
    /// Driving time after which the driver rests, hours.
    pub rest_after_hours: f64,
    /// How long the driver rests, minutes.
    pub rest_minutes: f64,
}

/// How many a fault strikes: the larger of both.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Strikes {
    /// At least so many.
    pub at_least: usize,
    /// Or this share, 0 to 1.
    pub share: f64,
}

impl Strikes {
    /// How many of `population` are struck.
    #[must_use]
    pub fn of(self, population: usize) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of 0 to 1, as parsed, of a population is no larger than it"
        )]
        let shared = (self.share * population as f64).round() as usize;
        shared.max(self.at_least).min(population)
    }
}

/// Reefers and doors.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Temperature {
    /// Reefer shipments whose unit fails.
    pub failing: Strikes,
    /// When the first failure begins, minutes after the start.
    pub first_failure_minutes: Span,
    /// When other failures begin, minutes after the start.
    pub failure_minutes: Span,
    /// How long a failure lasts, minutes.
    pub repair_minutes: Span,
    /// Door openings on the road per hour: near misses.
    pub doors_per_hour: f64,
    /// How long a door stays open, minutes.
    pub door_minutes: Span,
    /// Largest error of a probe, C.
    pub probe_noise_c: f64,
    /// Outside temperature, mean of the day, C.
    pub ambient_c: Span,
}

/// Impacts.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shock {
    /// Trackers that suffer a hard impact.
    pub hard: Strikes,
    /// When the first hard impact happens, minutes after the start.
    pub first_minutes: Span,
    /// When the others happen, minutes after the start.
    pub minutes: Span,
    /// Peak of a hard impact, as a multiple of what the cargo bears.
    pub hard_times_limit: Span,
    /// Small bumps per hour and tracker: near misses.
    pub bumps_per_hour: f64,
    /// Peak of a bump, as a multiple of what the cargo bears.
    pub bump_times_limit: Span,
    /// Length of the half-sine, milliseconds.
    pub pulse_ms: Span,
}

/// Batteries.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Battery {
    /// Trackers with a worn battery.
    pub weak: Strikes,
    /// Charge of a worn battery at the start, percent.
    pub weak_percent: Span,
    /// Its discharge, percent per hour.
    pub weak_percent_per_hour: Span,
    /// Charge of all others at the start, percent.
    pub percent: Span,
    /// Their discharge, percent per hour.
    pub percent_per_hour: Span,
}

/// Trackers that go dark.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Silence {
    /// Trackers without radio for a while; they go on sampling and report later.
    pub radio: Strikes,
    /// When the radio goes, minutes after the start.
    pub radio_minutes: Span,
    /// For how long, minutes.
    pub radio_for_minutes: Span,
    /// Trackers that sleep for a while: nothing is sampled.
    pub asleep: Strikes,
    /// For how long, minutes; begins on the open road.
    pub asleep_for_minutes: Span,
}

/// Receivers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gnss {
    /// Largest error per axis at a dilution of 1, metres.
    pub error_m: f64,
    /// Tunnels per 100 km.
    pub tunnels_per_100_km: f64,
    /// Length of a tunnel, metres.
    pub tunnel_m: Span,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: "demo".into(),
            seed: 1,
            start: DateTime::from_timestamp_millis(DEMO_START_MS).unwrap_or_default(),
            horizon_hours: 48,
            trackers: 24,
            lanes: Vec::new(),
            cargo: Cargo::default(),
            legs: Legs::default(),
            temperature: Temperature::default(),
            shock: Shock::default(),
            battery: Battery::default(),
            silence: Silence::default(),
            gnss: Gnss::default(),
        }
    }
}

/// 2026-03-02T00:00:00Z, a Monday.
const DEMO_START_MS: i64 = 1_772_409_600_000;

impl Default for Cargo {
    fn default() -> Self {
        Self {
            chilled_share: 0.5,
            frozen_share: 0.25,
        }
    }
}

impl Default for Legs {
    fn default() -> Self {
        Self {
            early: 4,
            early_km: [40.0, 110.0],
            early_loading_minutes: [20.0, 30.0],
            km: [160.0, 800.0],
            loading_minutes: [25.0, 90.0],
            cruise_kmh: [72.0, 86.0],
            hub_share: 0.4,
            hub_minutes: [40.0, 70.0],
            queue_share: 0.3,
            queue_minutes: [25.0, 50.0],
            pair_share: 0.15,
            rest_after_hours: 4.0,
            rest_minutes: 45.0,
        }
    }
}

impl Default for Temperature {
    fn default() -> Self {
        Self {
            failing: Strikes {
                at_least: 2,
                share: 0.15,
            },
            first_failure_minutes: [20.0, 40.0],
            failure_minutes: [30.0, 240.0],
            repair_minutes: [150.0, 240.0],
            doors_per_hour: 0.15,
            door_minutes: [5.0, 14.0],
            probe_noise_c: 0.1,
            ambient_c: [24.0, 30.0],
        }
    }
}

impl Default for Shock {
    fn default() -> Self {
        Self {
            hard: Strikes {
                at_least: 2,
                share: 0.15,
            },
            first_minutes: [30.0, 120.0],
            minutes: [30.0, 360.0],
            hard_times_limit: [1.4, 1.8],
            bumps_per_hour: 0.5,
            bump_times_limit: [0.1, 0.55],
            pulse_ms: [11.0, 14.0],
        }
    }
}

impl Default for Battery {
    fn default() -> Self {
        Self {
            weak: Strikes {
                at_least: 1,
                share: 0.08,
            },
            weak_percent: [18.0, 22.0],
            weak_percent_per_hour: [2.5, 4.0],
            percent: [55.0, 98.0],
            percent_per_hour: [0.1, 0.4],
        }
    }
}

impl Default for Silence {
    fn default() -> Self {
        Self {
            radio: Strikes {
                at_least: 1,
                share: 0.0,
            },
            radio_minutes: [60.0, 120.0],
            radio_for_minutes: [165.0, 185.0],
            asleep: Strikes {
                at_least: 1,
                share: 0.0,
            },
            asleep_for_minutes: [60.0, 80.0],
        }
    }
}

impl Default for Gnss {
    fn default() -> Self {
        Self {
            error_m: 3.0,
            tunnels_per_100_km: 0.5,
            tunnel_m: [600.0, 2_500.0],
        }
    }
}

/// Why a scenario is refused.
#[derive(Debug)]
pub enum ScenarioError {
    /// No such TOML; the source says line and column.
    Undecodable(toml::de::Error),
    /// A number outside its range.
    OutOfRange {
        /// Key.
        key: &'static str,
        /// Value.
        value: f64,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A lane that does not exist.
    UnknownLane {
        /// As written.
        lane: String,
        /// Those that exist.
        known: Vec<String>,
    },
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecodable(_) => f.write_str("scenario cannot be decoded"),
            Self::OutOfRange {
                key,
                value,
                allowed,
            } => write!(f, "scenario: {key} is {value}, allowed is {allowed}"),
            Self::UnknownLane { lane, known } => {
                write!(
                    f,
                    "scenario: no lane {lane}, known are {}",
                    known.join(", ")
                )
            }
        }
    }
}

impl std::error::Error for ScenarioError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Undecodable(source) => Some(source),
            Self::OutOfRange { .. } | Self::UnknownLane { .. } => None,
        }
    }
}
