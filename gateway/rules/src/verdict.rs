//! The verdict on a shipment: a pure function of its plan and of what its trackers show.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::key::{DeviceId, RecordKey};
use protocol::record::Record;
use protocol::units::UtcMs;

use crate::code::Code;
use crate::condition::excursion::Episode;
use crate::condition::fall::Fall;
use crate::condition::shock::Battering;
use crate::context::{Context, Route};
use crate::event::{
    Confidence, Detail, EVIDENCE_MAX, Event, Evidence, Excursion, Severity, ShockDetail, Side,
    View, quantise,
};
use crate::fact::{Fact, FactKind};
use crate::identity::{Opening, Subject, event_id};
use crate::milestone::{Milestone, milestones};
use crate::plan::limit::LimitRule;
use crate::plan::profile::{FallRule, ShockRule};
use crate::plan::shipment::Shipment;
use crate::quantity::Quantity;
use crate::timeline::Dated;
use crate::tracker::Tracker;

/// Most facts of one shipment that are judged: a tracker that sees more than this is broken, and the
/// view must stay of a size that can be compared and sent.
pub const FACTS_MAX: usize = 4_096;

/// What is known of one shipment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Its events.
    pub view: View,
    /// Facts beyond [`FACTS_MAX`], the latest ones, which were left out.
    pub facts_omitted: usize,
}

/// The verdict on the shipment with this id, from the facts of all its trackers in any order; facts of
/// other shipments are ignored.
#[must_use]
pub fn verdict(context: &Context, shipment: &str, facts: &[Fact]) -> Verdict {
    let route = context.route(shipment);
    let shipment = route.and_then(|route| context.plan().shipments.get(route.shipment));
    let (Some(route), Some(shipment)) = (route, shipment) else {
        return Verdict::default();
    };
    let mut own: Vec<&Fact> = facts
        .iter()
        .filter(|fact| fact.shipment == route.shipment)
        .collect();
    own.sort_by(|a, b| a.order(b));
    let facts_omitted = own.len().saturating_sub(FACTS_MAX);
    own.truncate(FACTS_MAX);
    let reached = milestones(route, shipment, &own);
    let stages = reached
        .iter()
        .map(|milestone| stage(context, route, shipment, milestone));
    let episodes = own
        .iter()
        .filter_map(|fact| episode(context, shipment, fact));
    let view = stages
        .chain(episodes)
        .map(|event| (event.id.clone(), event))
        .collect();
    Verdict {
        view,
        facts_omitted,
    }
}

/// The same from all records of the shipment's trackers, in one call.
#[must_use]
pub fn verdict_of(
    context: &Context,
    shipment: &str,
    records: &BTreeMap<DeviceId, Vec<(RecordKey, Record)>>,
) -> View {
    let trackers = records
        .iter()
        .map(|(device, records)| Tracker::refold(context, device, records));
    let facts: Vec<Fact> = trackers
        .flat_map(|tracker| tracker.facts(context))
        .collect();
    verdict(context, shipment, &facts).view
}

/// An event with everything that follows from its fact alone.
fn event(context: &Context, shipment: &Shipment, fact: &Fact, what: What<'_>) -> Event {
    let subject = Subject {
        shipment: &shipment.id,
        rule: &what.rule,
        unit: what.unit,
        probe: what.probe,
        opening: what.opening,
    };
    Event {
        id: event_id(&subject),
        code: what.code,
        shipment: shipment.id.clone(),
        title: what.title,
        next_action: what.code.next_action().to_owned(),
        severity: what.severity,
        confidence: what.confidence,
        occurred_at: whole_seconds(fact.at.at),
        ended_at: what.ended.map(|dated| whole_seconds(dated.at)),
        time_quality: fact.at.quality,
        time_uncertainty_s: coarse_seconds(fact.at.uncertainty_ms),
        closed: what.closed,
        as_of: None,
        place: fact.place.clone(),
        actor: fact.device.clone(),
        references: shipment.references.clone(),
        unit: what.unit.map(str::to_owned),
        probe: what.probe,
        plan_version: context.plan().revision.version,
        detail: what.detail,
        evidence: evidence(what.evidence),
        rule: what.rule,
    }
}

/// What makes one event different from another.
struct What<'w> {
    code: Code,
    rule: String,
    unit: Option<&'w str>,
    probe: Option<u8>,
    opening: Opening<'w>,
    title: String,
    severity: Severity,
    confidence: Confidence,
    ended: Option<Dated>,
    closed: bool,
    detail: Detail,
    evidence: Vec<(&'w DeviceId, RecordKey)>,
}

fn stage(
    context: &Context,
    route: &Route,
    shipment: &Shipment,
    milestone: &Milestone<'_>,
) -> Event {
    let stop = shipment.stops.get(milestone.stop);
    let fence = route.fences.get(milestone.stop).copied().flatten();
    let fence = fence.and_then(|position| context.fence(position));
    let name = fence.map_or("", |fence| fence.name.as_str());
    let title = match milestone.code {
        Code::InTransit => format!("In transit, coming from {name}"),
        Code::OutForDelivery => format!("Out for delivery to {name}"),
        code => format!("{}: {name}", code.title()),
    };
    let also = milestone
        .also
        .iter()
        .map(|fact| (&fact.device, deciding(fact)));
    let first = (&milestone.fact.device, deciding(milestone.fact));
    let what = What {
        code: milestone.code,
        rule: format!("milestone/{}", milestone.code),
        unit: None,
        probe: None,
        opening: Opening::Stop(stop.map_or("", |stop| stop.id.as_str())),
        title,
        severity: Milestone::SEVERITY,
        confidence: milestone.confidence,
        ended: None,
        closed: true,
        detail: milestone.detail(shipment),
        evidence: std::iter::once(first).chain(also).collect(),
    };
    event(context, shipment, milestone.fact, what)
}

const fn deciding(fact: &Fact) -> RecordKey {
    match fact.kind {
        FactKind::Rested { decided_by, .. } => decided_by,
        _ => fact.key,
    }
}

/// The event of a fact that is an episode.
fn episode(context: &Context, shipment: &Shipment, fact: &Fact) -> Option<Event> {
    let duty = context.duties(&fact.device).get(fact.duty)?;
    let unit = shipment.units.get(fact.unit).map(|unit| unit.id.as_str());
    let mut what = What {
        code: Code::DataGap,
        rule: "data_gap".to_owned(),
        unit,
        probe: None,
        opening: Opening::Record(&fact.device, fact.key),
        title: String::new(),
        severity: Severity::Warning,
        confidence: Confidence::Certain,
        ended: None,
        closed: true,
        detail: Detail::Gap {
            unobserved_s: 0,
            max_gap_s: 0,
        },
        evidence: vec![(&fact.device, fact.key)],
    };
    match &fact.kind {
        FactKind::Excursion {
            probe,
            rule,
            episode,
        } => excursion(&mut what, &fact.device, *probe, duty.rule(*rule)?, episode),
        FactKind::Battered(battering) => {
            what.evidence.push((&fact.device, battering.worst.key));
            battered(&mut what, battering, duty.shock()?);
        }
        FactKind::Fell(fall) => fell(&mut what, fall, &duty.profile.free_fall?),
        FactKind::BatteryLow(low) => {
            what.code = Code::Battery;
            what.rule = "battery".to_owned();
            what.title = format!("Tracker battery at {} % or less", low.limit_percent);
            what.ended = low.ended.map(|stamp| stamp.dated);
            what.closed = low.ended.is_some();
            what.detail = Detail::Battery {
                charge_percent: low.lowest_percent,
                limit_percent: low.limit_percent,
            };
        }
        FactKind::Gap(gap) => {
            let unobserved_s = gap.until.since_ms(&gap.from) / 1_000;
            if gap.during_excursion {
                what.severity = Severity::Critical;
            }
            what.title = format!("No readings for {}", words(unobserved_s));
            what.ended = Some(gap.until.dated);
            what.evidence.push((&fact.device, gap.until_key));
            what.detail = Detail::Gap {
                unobserved_s,
                max_gap_s: gap.max_gap_ms / 1_000,
            };
        }
        FactKind::Arrived { .. }
        | FactKind::Departed { .. }
        | FactKind::Moving
        | FactKind::Rested { .. } => return None,
    }
    Some(event(context, shipment, fact, what))
}

fn excursion<'w>(
    what: &mut What<'w>,
    device: &'w DeviceId,
    probe: u8,
    rule: &LimitRule,
    episode: &Episode,
) {
    let figures = &episode.figures;
    let quantity = rule.quantity;
    let delay_s = seconds(rule.delay);
    let bound = quantise(rule.bound, 100.0);
    what.code = quantity.code();
    what.rule = format!("{quantity}/{}", rule.name);
    what.probe = quantity.is_temperature().then_some(probe);
    what.title = in_words(quantity, rule.side, bound, delay_s);
    what.severity = rule.severity;
    what.confidence = episode.confidence;
    what.ended = episode.ended.map(|stamp| stamp.dated);
    what.closed = episode.ended.is_some();
    let value = |steps| quantise(quantity.in_units(steps), 100.0);
    what.detail = Detail::Excursion(Excursion {
        quantity,
        bound,
        side: rule.side,
        inclusive: rule.inclusive,
        delay_s,
        min: value(figures.min),
        max: value(figures.max),
        mean: quantise(figures.mean() / f64::from(quantity.per_unit()), 100.0),
        duration_s: figures.covered_ms / 1_000,
        alarm_s: episode.alarm_ms / 1_000,
        unobserved_s: figures.unobserved_ms / 1_000,
    });
    let keys = [
        episode.opened_by,
        episode.decided_by,
        figures.worst,
        figures.last,
    ];
    what.evidence = keys.into_iter().map(|key| (device, key)).collect();
}

/// What an excursion is called: "Temperature above 8 °C for 30 min or longer".
fn in_words(quantity: Quantity, side: Side, bound: f64, delay_s: i64) -> String {
    let side = match side {
        Side::Above => "above",
        Side::Below => "below",
    };
    let what = match quantity {
        Quantity::Temperature => "Temperature",
        Quantity::Humidity => "Humidity",
        Quantity::Tilt => "Tilt",
        Quantity::Light => "Light",
        Quantity::Door => "Door open",
    };
    let beyond = match quantity {
        Quantity::Door => what.to_owned(),
        Quantity::Tilt => format!("{what} {side} {bound}°"),
        _ => format!("{what} {side} {bound} {}", quantity.unit()),
    };
    match delay_s {
        0 => beyond,
        _ => format!("{beyond} for {} or longer", words(delay_s)),
    }
}

fn fell(what: &mut What<'_>, fall: &Fall, rule: &FallRule) {
    let height_m = quantise(fall.height_m(), 100.0);
    what.code = Code::FreeFall;
    what.rule = "free_fall".to_owned();
    what.title = format!("Dropped from {height_m} m");
    what.detail = Detail::Fall {
        height_m,
        duration_ms: fall.duration_ms,
        limit_m: quantise(rule.height_m, 100.0),
        count: fall.count,
    };
}

fn battered(what: &mut What<'_>, battering: &Battering, rule: &ShockRule) {
    what.code = Code::Shock;
    what.rule = "shock".to_owned();
    what.severity = battering.severity(rule);
    what.confidence = battering.ground.confidence();
    what.ended = (battering.until != battering.first.at).then_some(battering.until.dated);
    let detail = shock(battering, rule);
    what.title = format!("Shock of {:.0} g", detail.peak_g);
    what.detail = Detail::Shock(detail);
}

fn shock(battering: &Battering, rule: &ShockRule) -> ShockDetail {
    let worst = &battering.worst;
    ShockDetail {
        peak_g: f64::from(worst.peak_milli_g) / 1_000.0,
        limit_g: quantise(rule.peak_g, 1_000.0),
        duration_ms: worst.duration_ms,
        delta_v: worst.delta_v_mmps.map(|v| f64::from(v) / 1_000.0),
        count: battering.count,
        decided_by: battering.ground.in_words(rule),
    }
}

/// Sorted, each once, at most [`EVIDENCE_MAX`].
fn evidence(keys: Vec<(&DeviceId, RecordKey)>) -> Vec<Evidence> {
    let named = keys.into_iter().map(|(device, key)| Evidence {
        device: device.clone(),
        key,
    });
    let mut evidence: Vec<Evidence> = named.collect();
    evidence.sort();
    evidence.dedup();
    evidence.truncate(EVIDENCE_MAX);
    evidence
}

/// The nearest whole second: finer is noise of the device's clock.
fn whole_seconds(time: UtcMs) -> UtcMs {
    UtcMs::saturating((time.get() + 500).div_euclid(1_000) * 1_000)
}

/// `uncertainty_ms` in seconds, rounded up to a power of ten.
fn coarse_seconds(uncertainty_ms: i64) -> i64 {
    let powers = (0..).map(|exponent| 10_i64.pow(exponent)).take(12);
    let mut enough = powers.filter(|seconds| seconds * 1_000 >= uncertainty_ms);
    enough.next().unwrap_or(i64::MAX)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// A duration for people: "45 s", "90 min", "10 h".
fn words(seconds: i64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ if seconds % 3_600 == 0 || seconds >= 36_000 => format!("{} h", seconds / 3_600),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uncertainty_is_told_in_powers_of_ten() {
        let told = [0, 1_000, 1_001, 9_999, 10_000, 31_536_000_000].map(coarse_seconds);
        assert_eq!(told, [1, 1, 10, 10, 10, 100_000_000]);
    }

    #[test]
    fn durations_read_well() {
        let told = [0, 45, 120, 5_400, 7_200, 9_000, 36_000].map(words);
        assert_eq!(
            told,
            [
                "0 s",
                "45 s",
                "2 min",
                "90 min",
                "2 h",
                "2 h 30 min",
                "10 h"
            ]
        );
    }
}
