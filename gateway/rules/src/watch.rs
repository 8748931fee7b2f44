//! Expectations: what should have come and did not. Outside the verdict.
//!
//! A verdict rests on records alone; an expectation rests on their absence, so it needs a moment to be
//! made for. It carries that moment as `as_of`, is closed when what was missed comes after all, and is
//! never retracted: at its time the statement was true.

pub mod clock;
pub mod salvage;

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::key::{DeviceId, RecordKey};
use protocol::units::UtcMs;

use crate::code::Code;
use crate::event::{
    Confidence, Detail, Event, Evidence, Phase, Place, Revision, Severity, TimeQuality, View,
};
use crate::identity::{Opening, Subject, case_id, event_id};
use crate::notify::Told;
use crate::plan::Plan;
use crate::plan::shipment::{Attachment, Shipment, Unit};

/// Name of the rule in event ids.
const SILENCE_RULE: &str = "silent";

/// The newest record of a tracker that has a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// Its key.
    pub key: RecordKey,
    /// Its event time.
    pub at: UtcMs,
    /// Where the tracker was last seen.
    pub place: Option<Place>,
}

/// The trackers of `shipment` that have been silent longer than its profile allows at `now`.
///
/// A tracker that was never heard is not expected: nothing says when it was switched on. `as_of` is the
/// moment the limit was reached, so that the statement does not change while time goes on.
#[must_use]
pub fn silences(
    plan: &Plan,
    shipment: &Shipment,
    heard: &BTreeMap<DeviceId, Heard>,
    now: UtcMs,
) -> View {
    let mut view = View::new();
    let Some(profile) = plan.profile(&shipment.profile) else {
        return view;
    };
    for unit in &shipment.units {
        for attachment in unit
            .trackers
            .iter()
            .filter(|attachment| attachment.covers(now))
        {
            let Some(last) = heard.get(&attachment.device) else {
                continue;
            };
            let limit = profile.silent_after;
            let due = last.at.get().saturating_add(millis(limit));
            if now.get() > due {
                let event = silence(plan, shipment, unit, attachment, last, limit);
                view.insert(event.id.clone(), event);
            }
        }
    }
    view
}

/// What to tell now that `silent` is what is being missed: new silences open, silences that ended close
/// at the moment their tracker was heard again.
///
/// A tracker that hands in an old backlog is heard again and again, each time of a moment long past: that
/// is one silence, which goes on until something comes in time.
#[must_use]
pub fn revise(told: &Told, silent: &View, heard: &BTreeMap<DeviceId, Heard>) -> Vec<Revision> {
    let open = told.values().filter(|before| is_open_silence(before));
    let open: Vec<_> = open.collect();
    let goes_on = |event: &Event| open.iter().any(|before| is_of_one(&before.event, event));
    let fresh = silent
        .values()
        .filter(|event| !told.contains_key(&event.id) && !goes_on(event));
    let opened = fresh.cloned().map(opened);
    let over = open
        .iter()
        .filter(|before| !silent.values().any(|event| is_of_one(&before.event, event)));
    let closed = over.map(|before| {
        let back = heard.get(&before.event.actor).map(|last| last.at);
        closed(before, back.unwrap_or(before.event.occurred_at))
    });
    opened.chain(closed).collect()
}

/// A statement made for the first time.
fn opened(event: Event) -> Revision {
    Revision {
        rev: 1,
        phase: Phase::Open,
        case_id: case_id(&event.id),
        predecessors: Vec::new(),
        late: false,
        event,
    }
}

/// A statement that ended at `at`, or at its beginning if that is later.
fn closed(before: &Revision, at: UtcMs) -> Revision {
    let event = Event {
        closed: true,
        ended_at: Some(at.max(before.event.occurred_at)),
        ..before.event.clone()
    };
    Revision {
        event,
        rev: before.rev.saturating_add(1),
        phase: Phase::Close,
        late: false,
        ..before.clone()
    }
}

fn is_open_silence(told: &Revision) -> bool {
    told.event.code == Code::Silent && !told.event.closed
}

/// Whether both are silences of one tracker on one unit.
fn is_of_one(before: &Event, now: &Event) -> bool {
    (&before.actor, &before.unit) == (&now.actor, &now.unit)
}

fn silence(
    plan: &Plan,
    shipment: &Shipment,
    unit: &Unit,
    attachment: &Attachment,
    last: &Heard,
    limit: Duration,
) -> Event {
    let due = UtcMs::saturating(last.at.get().saturating_add(millis(limit)));
    let subject = Subject {
        shipment: &shipment.id,
        rule: SILENCE_RULE,
        unit: Some(&unit.id),
        probe: None,
        opening: Opening::Record(&attachment.device, last.key),
    };
    let limit_s = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    Event {
        id: event_id(&subject),
        code: Code::Silent,
        shipment: shipment.id.clone(),
        rule: SILENCE_RULE.to_owned(),
        title: Code::Silent.title().to_owned(),
        next_action: Code::Silent.next_action().to_owned(),
        severity: Severity::Warning,
        confidence: Confidence::Certain,
        occurred_at: due,
        ended_at: None,
        time_quality: TimeQuality::Anchored,
        time_uncertainty_s: 1,
        closed: false,
        as_of: Some(due),
        place: last.place.clone(),
        actor: attachment.device.clone(),
        references: shipment.references.clone(),
        unit: Some(unit.id.clone()),
        probe: None,
        plan_version: plan.revision.version,
        detail: Detail::Silence {
            last_heard: Some(last.at),
            limit_s,
        },
        evidence: vec![Evidence {
            device: attachment.device.clone(),
            key: last.key,
        }],
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::profile::Profile;

    const HOUR_MS: i64 = 3_600_000;

    fn plan() -> Plan {
        let device = "t-1".parse().unwrap();
        let attachment = Attachment {
            device,
            from: None,
            until: Some(at(100)),
        };
        let unit = Unit {
            id: "U-1".to_owned(),
            key: None,
            trackers: vec![attachment],
        };
        let shipment = Shipment {
            id: "S-1".to_owned(),
            references: BTreeMap::new(),
            parties: BTreeMap::new(),
            profile: "quiet".to_owned(),
            units: vec![unit],
            stops: Vec::new(),
        };
        let profile = Profile {
            name: "quiet".to_owned(),
            limits: Vec::new(),
            free_fall: None,
            shock: None,
            battery_low_percent: 15,
            max_gap: None,
            silent_after: Duration::from_secs(2 * 3_600),
            settling: Duration::ZERO,
        };
        let mut plan = Plan::empty();
        plan.profiles.push(profile);
        plan.shipments.push(shipment);
        plan
    }

    fn at(hours: i64) -> UtcMs {
        UtcMs::saturating(hours * HOUR_MS)
    }

    fn heard(seq: u32, hours: i64) -> BTreeMap<DeviceId, Heard> {
        let last = Heard {
            key: RecordKey::new(1, 1, seq),
            at: at(hours),
            place: None,
        };
        BTreeMap::from([("t-1".parse().unwrap(), last)])
    }

    fn tell(told: &mut Told, heard: &BTreeMap<DeviceId, Heard>, now: UtcMs) -> Vec<Revision> {
        let plan = plan();
        let silent = silences(&plan, &plan.shipments[0], heard, now);
        let revisions = revise(told, &silent, heard);
        for revision in &revisions {
            told.insert(revision.event.id.clone(), revision.clone());
        }
        revisions
    }

    #[test]
    fn silence_opens_once_after_its_limit_and_closes_when_the_tracker_is_heard() {
        let mut told = Told::new();
        assert!(
            tell(&mut told, &heard(1, 10), at(12)).is_empty(),
            "the limit itself is in time"
        );
        let opened = tell(
            &mut told,
            &heard(1, 10),
            UtcMs::saturating(12 * HOUR_MS + 1),
        );
        assert_eq!(opened.len(), 1);
        assert_eq!(opened[0].phase, Phase::Open);
        assert_eq!(opened[0].event.as_of, Some(at(12)));
        assert!(
            tell(&mut told, &heard(1, 10), at(20)).is_empty(),
            "told once"
        );
        let closed = tell(&mut told, &heard(2, 21), at(21));
        assert_eq!(closed.len(), 1);
        assert_eq!((closed[0].phase, closed[0].rev), (Phase::Close, 2));
        assert_eq!(closed[0].event.ended_at, Some(at(21)));
        assert!(tell(&mut told, &heard(2, 21), at(22)).is_empty());
    }

    #[test]
    fn a_backlog_handed_in_batch_by_batch_is_one_silence() {
        let mut told = Told::new();
        assert_eq!(tell(&mut told, &heard(1, 10), at(50)).len(), 1);
        for (seq, hours) in [(2, 20), (3, 30), (4, 40)] {
            let revisions = tell(&mut told, &heard(seq, hours), at(50));
            assert!(revisions.is_empty(), "still silent: {revisions:?}");
        }
        let closed = tell(&mut told, &heard(5, 50), at(50));
        assert_eq!(closed.len(), 1);
        assert_eq!(closed[0].event.ended_at, Some(at(50)));
        let opened = tell(&mut told, &heard(5, 50), at(53));
        assert_eq!(opened.len(), 1, "a new silence is told anew");
        assert_eq!(opened[0].phase, Phase::Open);
    }

    #[test]
    fn a_tracker_that_was_never_heard_or_has_been_detached_is_not_missed() {
        let mut told = Told::new();
        assert!(tell(&mut told, &BTreeMap::new(), at(50)).is_empty());
        assert!(
            tell(&mut told, &heard(1, 10), at(100)).is_empty(),
            "detached at 100 h"
        );
    }
}
