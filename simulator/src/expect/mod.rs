//! What must, must not and may be reported, from ground truth alone.
//!
//! A second opinion: nothing here knows the gateway's rules, only what their documentation promises.
//! A delivered event matches an expectation of the same shipment and code when it occurred within
//! the expectation's window (what the truth allows, widened by two sampling intervals and the
//! confirmation) and its place lies within three times its accuracy of where the truck was. One without
//! a place matches nothing, unless it is an exception from before its tracker's first fix.
//!
//! What lies inside the measurement margin is `May`: a temperature within the probe's error of its
//! bound, a duration within sampling of the delay, an impact near its threshold, and whatever is not
//! decided yet when event time stops. Everything else that is reported is unexpected.

mod compare;
mod condition;
mod milestone;

use std::time::Duration;

use protocol::units::UtcMs;
use serde::Serialize;

pub use compare::{Comparison, Counts, Delivered, DeliveredError, Finding, compare};

use crate::world::{Shipment, World};

/// Sampling interval of a tracker on the road, in seconds; the settings of a depot leave it as is.
pub(crate) const MOVING_INTERVAL_S: f64 = 60.0;

/// Sampling interval of a tracker at rest, in seconds.
pub(crate) const RESTING_INTERVAL_S: f64 = 300.0;

/// Longest time from the first fix beyond a fence to its confirmation, in seconds: three fixes of a
/// tracker that moves or has just halted.
pub(crate) const CONFIRMATION_S: f64 = 120.0;

/// The last position known may be so old when something happens, in seconds: two resting intervals.
const PLACE_AGE_S: f64 = 600.0;

/// Largest error of a time, in seconds: that of a time told by a satellite receiver.
pub(crate) const CLOCK_ERROR_S: f64 = 2.0;

/// Whether something has to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// It must.
    Must,
    /// It may: inside the measurement margin, or undecided when event time stopped.
    May,
}

/// One thing that is to be reported.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Expectation {
    /// Whose goods.
    pub shipment: String,
    /// Which code.
    pub code: &'static str,
    /// Whether it must.
    pub certainty: Certainty,
    /// It occurred at this time or later, in milliseconds since 1970.
    pub from_ms: i64,
    /// And at this time or earlier.
    pub to_ms: i64,
    /// In words, for people.
    pub why: String,
    /// Where the truck was within this time, in seconds of the world.
    #[serde(skip)]
    place_s: (f64, f64),
}

/// Something that looks a little like a reason to report, and is none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NearMiss {
    /// Whose goods.
    pub shipment: String,
    /// The code it must not raise.
    pub code: &'static str,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// In words, for people.
    pub why: String,
}

/// Everything that is expected of a world up to a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectations {
    /// Truth counts up to here.
    pub until: UtcMs,
    /// In the order of shipments.
    pub expected: Vec<Expectation>,
    /// In the order of shipments.
    pub near_misses: Vec<NearMiss>,
}

impl Expectations {
    /// What is expected of `world` when event time stops at `until` and every device has published what
    /// it had. `latency` is the longest time, in event time, from a sample to its arrival while there
    /// is reception; silence is judged by arrivals.
    #[must_use]
    pub fn of(world: &World, until: UtcMs, latency: Duration) -> Self {
        let mut expectations = Self {
            until,
            expected: Vec::new(),
            near_misses: Vec::new(),
        };
        for shipment in &world.shipments {
            let mut notes = Notes {
                world,
                shipment,
                until_s: world.second_of(until),
                latency_s: latency.as_secs_f64(),
                expectations: &mut expectations,
            };
            milestone::expect(&mut notes);
            condition::expect(&mut notes);
        }
        expectations
    }
}

/// Takes down what is expected of one shipment.
struct Notes<'a> {
    world: &'a World,
    shipment: &'a Shipment,
    until_s: f64,
    latency_s: f64,
    expectations: &'a mut Expectations,
}

/// When something happens, in seconds of the world.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Window {
    /// It cannot have occurred earlier, nor be known earlier.
    from_s: f64,
    /// It cannot have occurred later.
    to_s: f64,
    /// By then it is known, if it is to be known at all.
    known_s: f64,
    /// The place told is one of the truck's between these.
    place_s: (f64, f64),
}

impl Window {
    /// Occurs between `from_s` and `to_s` and is told with the last place known by then.
    const fn new(from_s: f64, to_s: f64, known_s: f64) -> Self {
        Self {
            from_s,
            to_s,
            known_s,
            place_s: (from_s - PLACE_AGE_S, to_s),
        }
    }

    /// Told with a place from between these instead.
    const fn placed(self, from_s: f64, to_s: f64) -> Self {
        Self {
            place_s: (from_s, to_s),
            ..self
        }
    }
}

impl Notes<'_> {
    /// Expect `code` within `window`, unless event time stopped before it could happen; `May` when it
    /// stopped before it is certainly known.
    fn expect(&mut self, code: &'static str, window: Window, sure: Certainty, why: String) {
        if self.until_s < window.from_s {
            return;
        }
        let undecided = self.until_s < window.known_s;
        let utc_ms = |at_s: f64| self.world.utc_at(at_s).get();
        self.expectations.expected.push(Expectation {
            shipment: self.shipment.id.clone(),
            code,
            certainty: if undecided { Certainty::May } else { sure },
            from_ms: utc_ms(window.from_s - CLOCK_ERROR_S),
            to_ms: utc_ms(window.to_s + CLOCK_ERROR_S),
            why,
            place_s: window.place_s,
        });
    }

    fn near_miss(&mut self, code: &'static str, at_s: f64, why: String) {
        if at_s <= self.until_s {
            self.expectations.near_misses.push(NearMiss {
                shipment: self.shipment.id.clone(),
                code,
                at_ms: self.world.utc_at(at_s).get(),
                why,
            });
        }
    }
}

#[cfg(test)]
mod tests;
