//! What is said upstream: events, their revisions and the evidence they rest on.
//!
//! An [`Event`] is the verdict's present statement about one milestone or one episode. It has one id
//! for life; when late data changes what is known, the same id gets a higher revision. Floating point
//! values are quantised (see [`quantise`]) before they enter an event, so that equal verdicts are
//! equal bytes.

use core::fmt;
use std::collections::BTreeMap;

use protocol::key::{DeviceId, RecordKey};
use protocol::units::UtcMs;
use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::quantity::Quantity;

/// Most pieces of evidence kept with one event: the first ones, the extremes and the last one decide;
/// more would make an event larger than a sink accepts.
pub const EVIDENCE_MAX: usize = 16;

/// Name of an event: 32 hex digits, formed by [`crate::identity::event_id`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventId(pub String);

impl EventId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name of a case: what people work on. It is the id of the event that opened it, and later
/// events that replace that one inherit it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CaseId(pub String);

impl fmt::Display for CaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Someone should look at it.
    Warning,
    /// Someone must act now.
    Critical,
}

/// How sure the verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// The readings show it.
    Certain,
    /// The readings allow it and none contradicts it, but part of the time is unobserved.
    Possible,
    /// Concluded from other things than direct observation.
    Inferred,
}

/// Where something was observed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Degrees north, quantised to 1e-6.
    pub lat: f64,
    /// Degrees east, quantised to 1e-6.
    pub lon: f64,
    /// Radius in metres that holds the true position with 95 % confidence, quantised to 0.1.
    pub accuracy_m: f64,
    /// Id of the fence the event is about or lies in.
    pub fence: Option<String>,
    /// The place in words: "Rotterdam cold store", or "51.924, 4.478".
    pub name: String,
}

/// How the event's time is known. Coarse on purpose: each further anchor of a device makes earlier
/// times a little better, and that alone is nothing to tell anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeQuality {
    /// From anchors of the same boot.
    Anchored,
    /// The boot has no anchor; bounded by the boots before or after it.
    Bounded,
}

/// One record the verdict rests on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Evidence {
    /// Whose record.
    #[serde(with = "crate::serial::device")]
    pub device: DeviceId,
    /// Its key, `epoch/boot/seq`.
    #[serde(with = "crate::serial::key")]
    pub key: RecordKey,
}

/// Measured facts of one event. Which variant goes with a code is fixed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Detail {
    /// A milestone: the stop it belongs to.
    Stop {
        /// Id of the plan's stop.
        stop: String,
        /// Place of the stop in the plan, from 0.
        index: u32,
    },
    /// Values of one quantity over an episode (`EX_TEMPERATURE`, `EX_HUMIDITY`, `EX_TILT`, `EX_LIGHT`,
    /// `EX_DOOR_OPEN`).
    Excursion(Excursion),
    /// An impact (`EX_SHOCK`).
    Shock(ShockDetail),
    /// A fall (`EX_FREE_FALL`).
    Fall {
        /// Height in metres that a fall from rest has in that time, quantised to 0.01.
        height_m: f64,
        /// How long it was.
        duration_ms: i64,
        /// Smallest height that is an event, in metres.
        limit_m: f64,
        /// Falls reported by the device in this record.
        count: u32,
    },
    /// Battery (`EX_BATTERY`).
    Battery {
        /// Lowest charge in percent.
        charge_percent: u8,
        /// Limit in percent.
        limit_percent: u8,
    },
    /// Missing readings (`EX_DATA_GAP`).
    Gap {
        /// Seconds without a usable reading.
        unobserved_s: i64,
        /// The longest gap that is tolerated, in seconds.
        max_gap_s: i64,
    },
    /// A tracker that is not heard (`EX_SILENT`).
    Silence {
        /// Last event time known of the tracker; `None` when it was never heard.
        #[serde(with = "crate::serial::utc_option")]
        last_heard: Option<UtcMs>,
        /// The longest silence that is tolerated, in seconds.
        limit_s: i64,
    },
    /// A clock that cannot be right (`EX_CLOCK`).
    Clock {
        /// In which way.
        problem: ClockProblem,
        /// Seconds from the gateway's time to the tracker's, ahead positive; `None` when its time is refused.
        off_s: Option<i64>,
        /// The largest distance that is tolerated, in seconds.
        tolerance_s: i64,
    },
    /// A damaged store, and what came back of it (`EX_STORE_DAMAGED`).
    Salvage(Salvaged),
}

/// What came back of a damaged store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Salvaged {
    /// Rows that checked.
    pub rows: u64,
    /// Versions of rows that did not, older ones included.
    pub damaged: u64,
    /// Newest commit of which something was found.
    pub newest_commit: u64,
    /// Newest commit that was acknowledged.
    pub promised_commit: u64,
    /// What was wrong.
    pub fault: String,
    /// Where the damaged folder is.
    pub set_aside_as: String,
}

/// How a clock is implausible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockProblem {
    /// Its time lies too far before the firmware was built, and dates nothing.
    Refused,
    /// Its time had not come yet.
    Ahead,
    /// Its time lies back by a steady distance.
    Behind,
}

/// What the readings of an excursion show. Values in the unit of the quantity, quantised to 0.01.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Excursion {
    /// What went beyond its bound.
    #[serde(default, skip_serializing_if = "Quantity::is_temperature")]
    pub quantity: Quantity,
    /// The bound of the rule.
    pub bound: f64,
    /// Which side of the bound is bad.
    pub side: Side,
    /// Whether a value equal to the bound is bad.
    pub inclusive: bool,
    /// How long beyond the bound opens the event, in seconds.
    pub delay_s: i64,
    /// Lowest value.
    pub min: f64,
    /// Highest value.
    pub max: f64,
    /// Mean, weighted by the time each reading holds.
    pub mean: f64,
    /// Seconds of the episode that readings cover.
    pub duration_s: i64,
    /// Seconds since the delay was reached; 0 while only the delay runs.
    pub alarm_s: i64,
    /// Seconds between readings too far apart to count.
    pub unobserved_s: i64,
}

/// Which side of a bound is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Values above the bound.
    Above,
    /// Values below the bound.
    Below,
}

/// What is known of an impact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShockDetail {
    /// Largest magnitude in g, quantised to 0.001.
    pub peak_g: f64,
    /// The profile's peak threshold in g.
    pub limit_g: f64,
    /// Time above 10 % of the peak in milliseconds; `None` in a sensor's peak-detect mode.
    pub duration_ms: Option<u32>,
    /// Velocity change in metres per second, quantised to 0.001; `None` in peak-detect mode.
    pub delta_v: Option<f64>,
    /// Impacts reported by the device in this record.
    pub count: u32,
    /// What the rule did, in words: which thresholds decided and what was unknown.
    pub decided_by: String,
}

/// The verdict's statement about one milestone or episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// One id for life.
    pub id: EventId,
    /// What.
    pub code: Code,
    /// Whose goods.
    pub shipment: String,
    /// The rule that decided: `milestone`, or the name of a profile's rule.
    pub rule: String,
    /// In plain language.
    pub title: String,
    /// What is expected to be done or to happen next.
    pub next_action: String,
    /// How much it matters.
    pub severity: Severity,
    /// How sure it is.
    pub confidence: Confidence,
    /// When it happened: event time, in whole seconds.
    #[serde(with = "crate::serial::utc")]
    pub occurred_at: UtcMs,
    /// When an episode ended; `None` for milestones and for episodes still going on.
    #[serde(with = "crate::serial::utc_option")]
    pub ended_at: Option<UtcMs>,
    /// How the time is known.
    pub time_quality: TimeQuality,
    /// Largest error of the times in seconds, rounded up to a power of ten.
    pub time_uncertainty_s: i64,
    /// Whether the statement is complete: a milestone, or an episode that ended.
    pub closed: bool,
    /// For expectations: the moment the statement was made for.
    #[serde(with = "crate::serial::utc_option")]
    pub as_of: Option<UtcMs>,
    /// Where, if known.
    pub place: Option<Place>,
    /// Tracker that observed it; `gateway` for what concerns the gateway itself.
    #[serde(with = "crate::serial::device")]
    pub actor: DeviceId,
    /// The customer's names for the shipment: order, customer, delivery note.
    pub references: BTreeMap<String, String>,
    /// Logistic unit concerned, by its plan id; `None` for the shipment as a whole.
    pub unit: Option<String>,
    /// Temperature probe, from 0.
    pub probe: Option<u8>,
    /// Version of the plan that was applied.
    pub plan_version: u32,
    /// Measured facts.
    pub detail: Detail,
    /// Records that decided, at most [`EVIDENCE_MAX`], in order.
    pub evidence: Vec<Evidence>,
}

/// What a notification tells its receiver to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// New: a milestone reached (already complete), or an episode that began.
    Open,
    /// An episode goes on and its facts changed.
    Update,
    /// An episode ended.
    Close,
    /// A complete statement was corrected by late data.
    Amend,
    /// The statement no longer holds: undo what was done because of it.
    Retract,
}

/// One notification: the full state of an event, and what changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// State of the event; for a retraction the last state that was stated.
    pub event: Event,
    /// Rises by one with each revision of the event, from 1.
    pub rev: u32,
    /// What changed.
    pub phase: Phase,
    /// The case it belongs to.
    pub case_id: CaseId,
    /// Events this one replaces, for merges and splits.
    pub predecessors: Vec<EventId>,
    /// Whether it rests on data that came after later data had been judged.
    pub late: bool,
}

impl Revision {
    /// Id of the notification, `<event_id>-<rev>`: receivers drop duplicates by it.
    #[must_use]
    pub fn notification_id(&self) -> String {
        format!("{}-{}", self.event.id, self.rev)
    }
}

/// The verdict of one shipment: its events by id.
pub type View = BTreeMap<EventId, Event>;

/// `value` rounded to a multiple of `1 / per_unit` (10, 100, 1000, ...), never minus zero.
///
/// Results of different summation orders or optimisation levels may differ in the last bits; after
/// quantising they are equal and digest equally.
#[must_use]
pub fn quantise(value: f64, per_unit: f64) -> f64 {
    let rounded = (value * per_unit).round() / per_unit;
    // Adding zero turns -0.0 into 0.0 and leaves every other value alone.
    rounded + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantising_hides_the_last_bits_and_the_sign_of_zero() {
        assert_eq!(quantise(0.1 + 0.2, 100.0).to_bits(), 0.3_f64.to_bits());
        assert_eq!(quantise(-0.001, 100.0).to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn evidence_survives_json() {
        let evidence = Evidence {
            device: "t-1".parse().unwrap(),
            key: RecordKey::new(0xfeed, 2, 7),
        };
        let json = serde_json::to_string(&evidence).unwrap();
        assert_eq!(json, r#"{"device":"t-1","key":"000000000000feed/2/7"}"#);
        assert_eq!(serde_json::from_str::<Evidence>(&json).unwrap(), evidence);
    }
}
