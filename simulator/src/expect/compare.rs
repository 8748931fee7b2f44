//! Comparing what was delivered with what was expected.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use protocol::units::UtcMs;
use serde::{Deserialize, Serialize};

use super::{Certainty, Expectation, Expectations, PLACE_AGE_S, RESTING_INTERVAL_S};
use crate::world::World;
use crate::world::fence::segment_distance_m;
use crate::world::lane::Point;

/// Accuracy assumed of an event that does not say its own, in metres: that of the worst fix.
const WORST_ACCURACY_M: f64 = 11.5;

/// A place may be off by so many times its accuracy.
const PLACE_TIMES_ACCURACY: f64 = 3.0;

/// Step in which the truck's path is followed, in seconds; between two points it is straight.
const PATH_STEP_S: f64 = 5.0;

/// One notification as a sink received it; any order, doubles allowed.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Delivered {
    /// Id of the event, the same in all its revisions.
    pub event_id: String,
    /// Revision, from 1.
    pub revision: u32,
    /// `open`, `update`, `close`, `amend` or `retract`.
    pub phase: String,
    /// Whose goods.
    pub shipment: String,
    /// Status code.
    pub code: String,
    /// When it happened, in milliseconds since 1970.
    pub occurred_at_ms: i64,
    /// When it ended, in milliseconds since 1970.
    pub ended_at_ms: Option<i64>,
    /// Degrees north.
    pub lat: Option<f64>,
    /// Degrees east.
    pub lon: Option<f64>,
    /// Radius of 95 % in metres.
    pub accuracy_m: Option<f64>,
}

/// Why a line is no delivered event.
#[derive(Debug)]
pub struct DeliveredError {
    /// Line, from 1.
    pub line: usize,
    source: serde_json::Error,
}

impl fmt::Display for DeliveredError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is no delivered event", self.line)
    }
}

impl std::error::Error for DeliveredError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Delivered {
    /// Events from JSON Lines; empty lines are skipped.
    ///
    /// # Errors
    /// The first line that is none.
    pub fn parse_lines(text: &str) -> Result<Vec<Self>, DeliveredError> {
        let lines = text.lines().enumerate();
        let lines = lines.filter(|(_, line)| !line.trim().is_empty());
        lines
            .map(|(index, line)| {
                serde_json::from_str(line).map_err(|source| DeliveredError {
                    line: index + 1,
                    source,
                })
            })
            .collect()
    }
}

/// Numbers of one code, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Had to be reported.
    pub expected: usize,
    /// Of these, were.
    pub matched: usize,
    /// Of these, were not.
    pub missing: usize,
    /// Were reported without reason.
    pub unexpected: usize,
    /// Might be reported or not.
    pub ambiguous: usize,
}

/// A missing or unexpected event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Whose goods.
    pub shipment: String,
    /// Which code.
    pub code: String,
    /// When it should have occurred at the earliest, or was said to, in milliseconds since 1970.
    pub at_ms: i64,
    /// In words, for people.
    pub sentence: String,
}

/// What came of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// Of all codes.
    pub counts: Counts,
    /// By code.
    pub codes: BTreeMap<String, Counts>,
    /// Had to be reported and was not.
    pub missing: Vec<Finding>,
    /// Was reported without reason.
    pub unexpected: Vec<Finding>,
}

impl Comparison {
    /// Whether nothing is missing and nothing unexpected.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty()
    }
}

/// Compare the final state of every delivered event with the expectations.
#[must_use]
pub fn compare(world: &World, expectations: &Expectations, delivered: &[Delivered]) -> Comparison {
    let mut left = final_states(delivered);
    left.sort_by_key(|event| event.occurred_at_ms);
    let mut comparison = Comparison::default();
    // Those that must come first, and the narrowest end first, so that no event is wasted on an
    // expectation that another one could have met.
    let mut expected: Vec<&Expectation> = expectations.expected.iter().collect();
    expected.sort_by_key(|one| (one.certainty == Certainty::May, one.to_ms));
    for one in expected {
        let met = left.iter().position(|event| matches(world, one, event));
        let met = met.map(|index| left.remove(index));
        comparison.note(one, met.is_some(), &left);
    }
    for event in left {
        let sentence = unexpected_sentence(world, expectations, event);
        comparison.note_unexpected(event, sentence);
    }
    comparison
}

impl Comparison {
    fn count(&mut self, code: &str, change: impl Fn(&mut Counts)) {
        change(&mut self.counts);
        change(self.codes.entry(code.to_owned()).or_default());
    }

    fn note(&mut self, one: &Expectation, met: bool, left: &[&Delivered]) {
        if one.certainty == Certainty::May {
            return self.count(one.code, |counts| counts.ambiguous += 1);
        }
        self.count(one.code, |counts| {
            counts.expected += 1;
            counts.matched += usize::from(met);
            counts.missing += usize::from(!met);
        });
        if !met {
            self.missing.push(Finding {
                shipment: one.shipment.clone(),
                code: one.code.to_owned(),
                at_ms: one.from_ms,
                sentence: missing_sentence(one, left),
            });
        }
    }

    fn note_unexpected(&mut self, event: &Delivered, sentence: String) {
        self.count(&event.code, |counts| counts.unexpected += 1);
        self.unexpected.push(Finding {
            shipment: event.shipment.clone(),
            code: event.code.clone(),
            at_ms: event.occurred_at_ms,
            sentence,
        });
    }
}

/// The highest revision of every event, without those that were retracted.
fn final_states(delivered: &[Delivered]) -> Vec<&Delivered> {
    let mut states: BTreeMap<&str, &Delivered> = BTreeMap::new();
    for event in delivered {
        let state = states.entry(&event.event_id).or_insert(event);
        if event.revision > state.revision {
            *state = event;
        }
    }
    let standing = states
        .into_values()
        .filter(|event| event.phase != "retract");
    standing.collect()
}

fn matches(world: &World, one: &Expectation, event: &Delivered) -> bool {
    one.shipment == event.shipment
        && one.code == event.code
        && (one.from_ms..=one.to_ms).contains(&event.occurred_at_ms)
        && misplaced(world, one, event).is_none()
}

/// Why the place of an event is not that of its expectation.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Misplaced {
    /// It tells none, though its tracker had one to tell.
    Untold,
    /// So far from the truck's path, in metres.
    Away(f64),
}

fn misplaced(world: &World, one: &Expectation, event: &Delivered) -> Option<Misplaced> {
    let (Some(lat), Some(lon)) = (event.lat, event.lon) else {
        return (!may_lack_place(world, one)).then_some(Misplaced::Untold);
    };
    let allowed_m = PLACE_TIMES_ACCURACY * event.accuracy_m.unwrap_or(WORST_ACCURACY_M);
    let away_m = away_m(world, one, Point { lat, lon })?;
    (away_m > allowed_m).then_some(Misplaced::Away(away_m))
}

/// An exception needs no place when it happened before its tracker surely had a first fix, two
/// intervals of rest after it was switched on. A milestone rests on a fix and always has one.
fn may_lack_place(world: &World, one: &Expectation) -> bool {
    let Some(shipment) = world.shipments.iter().find(|s| s.id == one.shipment) else {
        return true;
    };
    let trackers = &world.trackers[shipment.trackers.clone()];
    let boots = trackers.iter().map(|tracker| tracker.boot_s);
    let fixed_s = boots.fold(0.0, f64::max) + 2.0 * RESTING_INTERVAL_S;
    one.code.starts_with("EX_") && one.place_s.0 + PLACE_AGE_S < fixed_s
}

/// How far a place is from the truck's path while the expectation allows it, in metres.
fn away_m(world: &World, one: &Expectation, point: Point) -> Option<f64> {
    let shipment = world.shipments.iter().find(|s| s.id == one.shipment)?;
    let (from_s, to_s) = one.place_s;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a window is hours at most and not negative"
    )]
    let steps = ((to_s - from_s) / PATH_STEP_S).ceil() as u32;
    let at = |step: u32| {
        world
            .vehicle(shipment, from_s + f64::from(step) * PATH_STEP_S)
            .point
    };
    let distances = (0..steps).map(|step| segment_distance_m(at(step), at(step + 1), point));
    Some(distances.fold(f64::INFINITY, f64::min))
}

fn missing_sentence(one: &Expectation, left: &[&Delivered]) -> String {
    let (from, to) = (time(one.from_ms), time(one.to_ms));
    let similar = left
        .iter()
        .filter(|event| event.shipment == one.shipment && event.code == one.code)
        .min_by_key(|event| event.occurred_at_ms.abs_diff(one.from_ms));
    let instead = similar.map_or(String::new(), |event| {
        format!("; reported instead at {}", time(event.occurred_at_ms))
    });
    format!(
        "{} of {} is missing: {}, so it had to occur between {from} and {to}{instead}",
        one.code, one.shipment, one.why
    )
}

fn unexpected_sentence(world: &World, expectations: &Expectations, event: &Delivered) -> String {
    let mut reason = String::from("nothing in the world calls for it");
    let same = |shipment: &str, code: &str| shipment == event.shipment && code == event.code;
    let away = |at_ms: i64| at_ms.abs_diff(event.occurred_at_ms);
    let misses = expectations.near_misses.iter();
    let misses = misses.filter(|miss| same(&miss.shipment, miss.code));
    if let Some(miss) = misses.min_by_key(|miss| away(miss.at_ms)) {
        let at = time(miss.at_ms);
        reason = format!("the nearest cause is none: at {at} {}", miss.why);
    }
    let expected = expectations.expected.iter();
    let expected = expected.filter(|one| same(&one.shipment, one.code));
    if let Some(one) = expected.min_by_key(|one| away(one.from_ms)) {
        let (from, to) = (time(one.from_ms), time(one.to_ms));
        reason = match misplaced(world, one, event) {
            Some(Misplaced::Untold) => {
                format!("{} ({from} to {to}), but it tells no place", one.why)
            }
            Some(Misplaced::Away(metres)) => format!(
                "{} ({from} to {to}), but {metres:.0} m away from there",
                one.why
            ),
            None => format!(
                "{}, but between {from} and {to}, or already reported",
                one.why
            ),
        };
    }
    format!(
        "{} of {} at {} (event {}) is unexpected: {reason}",
        event.code,
        event.shipment,
        time(event.occurred_at_ms),
        event.event_id
    )
}

fn time(utc_ms: i64) -> String {
    let utc = DateTime::<Utc>::from_timestamp_millis(UtcMs::saturating(utc_ms).get());
    utc.unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Secs, true)
}
