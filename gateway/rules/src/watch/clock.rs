//! Trackers whose clock cannot be right, judged by when their records are received.
//!
//! Receive time enters no verdict: what a tracker says is dated by its own anchors. It only shows that a
//! clock is implausible, which is told as an expectation (`EX_CLOCK`): made for the moment at which it was
//! seen (`as_of`), closed when a later record shows a good clock, never retracted.
//!
//! - *refused*: the newest anchor of the boot lies too far before the firmware was built.
//! - *ahead*: a record's time has not come yet when the record is received. Nothing innocent explains it.
//! - *behind*: a record's time lies back when it is received. A tracker that was out of reach sends old
//!   records too, but then the distance shrinks with every batch. So it must be steady, to a tenth of
//!   the tolerance, for [`STEADY_MS`] of receive time and [`STEADY_RECORDS`] records. A tracker whose
//!   delay varies by more is not called behind: a false alarm would be worse.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::key::{DeviceId, RecordKey};
use protocol::units::UtcMs;

use super::{Heard, closed, millis, opened};
use crate::code::Code;
use crate::event::{
    ClockProblem, Confidence, Detail, Event, Evidence, Revision, Severity, TimeQuality,
};
use crate::identity::{Opening, Subject, event_id};
use crate::notify::Told;
use crate::plan::Plan;
use crate::plan::shipment::{Attachment, Shipment, Unit};

/// How long a distance must stay the same before a clock is called behind, in milliseconds of receive
/// time: ten readings of a tracker on the road.
pub const STEADY_MS: i64 = 600_000;

/// How many records must come at that distance: two alone may agree by chance, before and after a pause
/// on the way.
pub const STEADY_RECORDS: u32 = 5;

/// Name of the rule in event ids.
const CLOCK_RULE: &str = "clock";

/// The newest record of a tracker, as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Its key.
    pub key: RecordKey,
    /// When the gateway received it.
    pub received_at: UtcMs,
    /// Its event time, if there is one.
    pub at: Option<UtcMs>,
    /// Whether the newest time of its boot is refused.
    pub refused: bool,
}

/// What is known of a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockState {
    /// Its time agreed with the gateway's when a record was received then.
    Good(UtcMs),
    /// It is implausible.
    Implausible(ClockFault),
}

/// How a clock is implausible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockFault {
    /// In which way.
    pub problem: ClockProblem,
    /// First record that showed it.
    pub key: RecordKey,
    /// When the gateway received that.
    pub seen_at: UtcMs,
    /// How far its time was from the gateway's, in milliseconds, ahead positive; `None` without a time.
    pub off_ms: Option<i64>,
}

/// Watches the clock of one tracker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockWatch {
    state: Option<ClockState>,
    /// Since when records come with the same distance behind.
    behind: Option<Behind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Behind {
    since: UtcMs,
    off_ms: i64,
    records: u32,
}

/// What one record says of a clock.
enum Word {
    Good,
    Bad(ClockProblem),
    Unclear,
}

impl ClockWatch {
    /// Take the newest record of the tracker.
    pub fn observe(&mut self, seen: &Sighting, tolerance: Duration) {
        let off_ms = seen.at.map(|at| at.get() - seen.received_at.get());
        let problem = match self.weigh(seen, off_ms, millis(tolerance)) {
            Word::Unclear => return,
            Word::Good => {
                self.state = Some(ClockState::Good(seen.received_at));
                return;
            }
            Word::Bad(problem) => problem,
        };
        if !matches!(self.state, Some(ClockState::Implausible(_))) {
            self.state = Some(ClockState::Implausible(ClockFault {
                problem,
                key: seen.key,
                seen_at: seen.received_at,
                off_ms,
            }));
        }
    }

    /// What is known; `None` before the first record that tells.
    #[must_use]
    pub const fn state(&self) -> Option<ClockState> {
        self.state
    }

    fn weigh(&mut self, seen: &Sighting, off_ms: Option<i64>, tolerance_ms: i64) -> Word {
        if seen.refused {
            return Word::Bad(ClockProblem::Refused);
        }
        let Some(off_ms) = off_ms else {
            return Word::Unclear;
        };
        if off_ms >= -tolerance_ms {
            self.behind = None;
            return if off_ms > tolerance_ms {
                Word::Bad(ClockProblem::Ahead)
            } else {
                Word::Good
            };
        }
        let fresh = Behind {
            since: seen.received_at,
            off_ms,
            records: 0,
        };
        let behind = self.behind.get_or_insert(fresh);
        if (behind.off_ms - off_ms).abs() > tolerance_ms / 10 {
            *behind = fresh;
        }
        behind.records = behind.records.saturating_add(1);
        let for_ms = seen.received_at.get() - behind.since.get();
        if for_ms >= STEADY_MS && behind.records >= STEADY_RECORDS {
            Word::Bad(ClockProblem::Behind)
        } else {
            Word::Unclear
        }
    }
}

/// What to tell of the clocks of `shipment` at `now`: implausible ones open once, and close when they are
/// good or their tracker is no longer attached. A clock of which nothing is known stays as it was told.
#[must_use]
pub fn revise_clocks(
    plan: &Plan,
    shipment: &Shipment,
    told: &Told,
    clocks: &BTreeMap<DeviceId, ClockState>,
    heard: &BTreeMap<DeviceId, Heard>,
    tolerance: Duration,
    now: UtcMs,
) -> Vec<Revision> {
    let mut revisions = Vec::new();
    for before in open(told) {
        let state = clocks.get(&before.event.actor);
        let over = match state {
            Some(ClockState::Good(since)) => Some(*since),
            _ if !is_attached(shipment, &before.event, now) => Some(now),
            _ => None,
        };
        revisions.extend(over.map(|at| closed(before, at)));
    }
    let attached = shipment
        .units
        .iter()
        .flat_map(|unit| unit.trackers.iter().map(move |tracker| (unit, tracker)));
    for (unit, tracker) in attached.filter(|(_, tracker)| tracker.covers(now)) {
        let Some(ClockState::Implausible(fault)) = clocks.get(&tracker.device) else {
            continue;
        };
        let mut event = implausible(plan, shipment, unit, tracker, fault, tolerance);
        event.place = heard
            .get(&tracker.device)
            .and_then(|last| last.place.clone());
        let known = told.contains_key(&event.id)
            || open(told).any(|before| is_about(&before.event, unit, tracker));
        if !known {
            revisions.push(opened(event));
        }
    }
    revisions
}

fn open(told: &Told) -> impl Iterator<Item = &Revision> {
    told.values()
        .filter(|before| before.event.code == Code::Clock && !before.event.closed)
}

fn is_about(event: &Event, unit: &Unit, tracker: &Attachment) -> bool {
    event.actor == tracker.device && event.unit.as_ref() == Some(&unit.id)
}

fn is_attached(shipment: &Shipment, event: &Event, now: UtcMs) -> bool {
    shipment.units.iter().any(|unit| {
        let mut trackers = unit.trackers.iter();
        trackers.any(|tracker| tracker.covers(now) && is_about(event, unit, tracker))
    })
}

fn implausible(
    plan: &Plan,
    shipment: &Shipment,
    unit: &Unit,
    tracker: &Attachment,
    fault: &ClockFault,
    tolerance: Duration,
) -> Event {
    let subject = Subject {
        shipment: &shipment.id,
        rule: CLOCK_RULE,
        unit: Some(&unit.id),
        probe: None,
        opening: Opening::Record(&tracker.device, fault.key),
    };
    Event {
        id: event_id(&subject),
        code: Code::Clock,
        shipment: shipment.id.clone(),
        rule: CLOCK_RULE.to_owned(),
        title: Code::Clock.title().to_owned(),
        next_action: Code::Clock.next_action().to_owned(),
        severity: Severity::Warning,
        confidence: Confidence::Certain,
        // The gateway's time: the tracker's own is what is in doubt.
        occurred_at: fault.seen_at,
        ended_at: None,
        time_quality: TimeQuality::Anchored,
        time_uncertainty_s: 1,
        closed: false,
        as_of: Some(fault.seen_at),
        place: None,
        actor: tracker.device.clone(),
        references: shipment.references.clone(),
        unit: Some(unit.id.clone()),
        probe: None,
        plan_version: plan.revision.version,
        detail: Detail::Clock {
            problem: fault.problem,
            off_s: fault.off_ms.map(|ms| ms / 1_000),
            tolerance_s: millis(tolerance) / 1_000,
        },
        evidence: vec![Evidence {
            device: tracker.device.clone(),
            key: fault.key,
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Phase;

    const TOLERANCE: Duration = Duration::from_secs(3_600);
    const HOUR_MS: i64 = 3_600_000;
    const NOW_MS: i64 = 1_772_409_600_000;

    fn sighting(seq: u32, received_ms: i64, off_ms: Option<i64>) -> Sighting {
        Sighting {
            key: RecordKey::new(1, 0, seq),
            received_at: UtcMs::saturating(NOW_MS + received_ms),
            at: off_ms.map(|off_ms| UtcMs::saturating(NOW_MS + received_ms + off_ms)),
            refused: false,
        }
    }

    fn problem(watch: &ClockWatch) -> Option<ClockProblem> {
        match watch.state() {
            Some(ClockState::Implausible(fault)) => Some(fault.problem),
            _ => None,
        }
    }

    #[test]
    fn a_time_ahead_is_told_at_once_and_the_tolerance_itself_is_allowed() {
        let mut watch = ClockWatch::default();
        watch.observe(&sighting(1, 0, Some(HOUR_MS)), TOLERANCE);
        assert_eq!(
            watch.state(),
            Some(ClockState::Good(UtcMs::saturating(NOW_MS)))
        );
        watch.observe(&sighting(2, 1, Some(HOUR_MS + 1)), TOLERANCE);
        assert_eq!(problem(&watch), Some(ClockProblem::Ahead));
        watch.observe(&sighting(3, 2, Some(2 * HOUR_MS)), TOLERANCE);
        let Some(ClockState::Implausible(fault)) = watch.state() else {
            panic!("still implausible");
        };
        assert_eq!(fault.key.seq.0, 2, "the record that showed it first");
        assert_eq!(fault.off_ms, Some(HOUR_MS + 1));
    }

    #[test]
    fn a_backlog_that_is_caught_up_with_is_no_wrong_clock() {
        let mut watch = ClockWatch::default();
        // Three days of backlog in an hour.
        for minute in 0..=60 {
            let left_ms = (60 - i64::from(minute)) * 72 * HOUR_MS / 60;
            let seen = sighting(minute, i64::from(minute) * 60_000, Some(-left_ms));
            watch.observe(&seen, TOLERANCE);
            assert_eq!(problem(&watch), None, "minute {minute}");
        }
        assert!(matches!(watch.state(), Some(ClockState::Good(_))));
    }

    #[test]
    fn a_steady_distance_is_a_clock_behind_and_a_pause_on_the_way_does_not_close_it() {
        let mut watch = ClockWatch::default();
        let mut at = |minute: i64, off_ms: i64| {
            let seq = u32::try_from(minute).unwrap();
            watch.observe(&sighting(seq, minute * 60_000, Some(off_ms)), TOLERANCE);
            problem(&watch)
        };
        for minute in 0..10 {
            assert_eq!(at(minute, -2 * HOUR_MS), None, "minute {minute}");
        }
        assert_eq!(at(10, -2 * HOUR_MS), Some(ClockProblem::Behind));
        assert_eq!(at(11, -50 * HOUR_MS), Some(ClockProblem::Behind));
        assert_eq!(at(12, -HOUR_MS), None, "good again");
    }

    #[test]
    fn two_batches_of_a_backlog_that_agree_by_chance_are_no_wrong_clock() {
        let mut watch = ClockWatch::default();
        for (seq, minute) in [(1, 0), (2, 20), (3, 21)] {
            watch.observe(
                &sighting(seq, minute * 60_000, Some(-72 * HOUR_MS)),
                TOLERANCE,
            );
        }
        assert_eq!(problem(&watch), None);
    }

    #[test]
    fn a_refused_time_is_told_and_a_record_without_a_time_changes_nothing() {
        let mut watch = ClockWatch::default();
        watch.observe(&sighting(1, 0, None), TOLERANCE);
        assert_eq!(watch.state(), None);
        let refused = Sighting {
            refused: true,
            ..sighting(2, 1, None)
        };
        watch.observe(&refused, TOLERANCE);
        assert_eq!(problem(&watch), Some(ClockProblem::Refused));
        watch.observe(&sighting(3, 2, None), TOLERANCE);
        assert_eq!(problem(&watch), Some(ClockProblem::Refused));
        watch.observe(&sighting(4, 3, Some(0)), TOLERANCE);
        assert_eq!(problem(&watch), None);
    }

    /// Shipment S-1 with tracker t-1, attached until hour 100.
    fn plan() -> Plan {
        let tracker = Attachment {
            device: "t-1".parse().unwrap(),
            from: None,
            until: Some(UtcMs::saturating(100 * HOUR_MS)),
        };
        let unit = Unit {
            id: "U-1".to_owned(),
            key: None,
            trackers: vec![tracker],
        };
        let mut plan = Plan::empty();
        plan.shipments.push(Shipment {
            id: "S-1".to_owned(),
            references: BTreeMap::new(),
            parties: BTreeMap::new(),
            profile: "none".to_owned(),
            units: vec![unit],
            stops: Vec::new(),
        });
        plan
    }

    fn tell(told: &mut Told, state: Option<ClockState>, hour: i64) -> Vec<Revision> {
        let plan = plan();
        let device: DeviceId = "t-1".parse().unwrap();
        let clocks = state.map(|state| (device, state)).into_iter().collect();
        let (heard, now) = (BTreeMap::new(), UtcMs::saturating(hour * HOUR_MS));
        let shipment = &plan.shipments[0];
        let revisions = revise_clocks(&plan, shipment, told, &clocks, &heard, TOLERANCE, now);
        for revision in &revisions {
            told.insert(revision.event.id.clone(), revision.clone());
        }
        revisions
    }

    fn fault(seq: u32, hour: i64) -> Option<ClockState> {
        Some(ClockState::Implausible(ClockFault {
            problem: ClockProblem::Refused,
            key: RecordKey::new(1, 0, seq),
            seen_at: UtcMs::saturating(hour * HOUR_MS),
            off_ms: None,
        }))
    }

    #[test]
    fn an_implausible_clock_opens_once_also_over_a_restart_and_closes_when_it_is_good() {
        let mut told = Told::new();
        let opened = tell(&mut told, fault(1, 5), 6);
        assert_eq!((opened.len(), opened[0].phase), (1, Phase::Open));
        assert_eq!(opened[0].event.as_of, Some(UtcMs::saturating(5 * HOUR_MS)));
        assert!(tell(&mut told, fault(1, 5), 7).is_empty(), "told once");
        assert!(
            tell(&mut told, None, 8).is_empty(),
            "unknown after a restart"
        );
        assert!(
            tell(&mut told, fault(9, 9), 9).is_empty(),
            "the open one stands"
        );
        let good = ClockState::Good(UtcMs::saturating(10 * HOUR_MS));
        let closed = tell(&mut told, Some(good), 11);
        assert_eq!((closed.len(), closed[0].phase), (1, Phase::Close));
        let ended_at = closed[0].event.ended_at;
        assert_eq!(ended_at, Some(UtcMs::saturating(10 * HOUR_MS)));
        assert!(tell(&mut told, Some(good), 12).is_empty());
        let again = tell(&mut told, fault(20, 13), 13);
        assert_ne!(
            again[0].event.id, closed[0].event.id,
            "another fault, another event"
        );
    }

    #[test]
    fn a_tracker_that_is_detached_is_not_told_and_its_open_event_closes() {
        let mut told = Told::new();
        assert_eq!(tell(&mut told, fault(1, 98), 99).len(), 1);
        let closed = tell(&mut told, fault(1, 98), 100);
        assert_eq!((closed.len(), closed[0].phase), (1, Phase::Close));
        assert!(tell(&mut Told::new(), fault(2, 100), 101).is_empty());
    }
}
