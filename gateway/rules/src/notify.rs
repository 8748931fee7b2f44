//! View before, view after: the revisions to send.
//!
//! What was told of an event is its last [`Revision`]; the difference to the view is what must be told
//! now. An id that vanishes is retracted. An episode that takes its place, or swallows it, names it as
//! a predecessor and keeps the case, so that people's work on the case is not lost:
//!
//! - the new episode that overlaps a vanished one longest, in event time, inherits its case;
//! - an episode that inherits several cases keeps the oldest;
//! - an event that was told before keeps its own case.

use std::collections::BTreeMap;

use crate::code::Code;
use crate::event::{CaseId, Event, EventId, Phase, Revision, View};
use crate::identity::{case_id, digest};

/// The last revision told of each event, retracted ones included.
pub type Told = BTreeMap<EventId, Revision>;

/// How much of what is true a view says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Whole,
    /// All milestones, and of the episodes those that may have changed. While nothing changes about the
    /// past, no episode vanishes, and a complete one stays as it is.
    Changed,
}

/// The revisions that lead a receiver from `told` to `view`, in order of event id.
///
/// `late` says whether the change rests on data that came after later data had been judged.
#[must_use]
pub fn diff(told: &Told, view: &View, late: bool) -> Vec<Revision> {
    diff_within(told, view, late, Scope::Whole)
}

/// The same for a view that says as much as `scope` promises.
#[must_use]
pub fn diff_within(told: &Told, view: &View, late: bool, scope: Scope) -> Vec<Revision> {
    let heritage = Heritage::of(told, view, scope);
    let mut revisions = Vec::new();
    for event in view.values() {
        let before = told.get(&event.id);
        let Some(phase) = phase(before, event) else {
            continue;
        };
        revisions.push(Revision {
            rev: before.map_or(1, |revision| revision.rev.saturating_add(1)),
            phase,
            case_id: before.map_or_else(|| heritage.case(event), |before| before.case_id.clone()),
            predecessors: heritage.predecessors(event),
            late,
            event: event.clone(),
        });
    }
    for before in vanished(told, view, scope) {
        revisions.push(Revision {
            rev: before.rev.saturating_add(1),
            phase: Phase::Retract,
            predecessors: Vec::new(),
            late,
            ..before.clone()
        });
    }
    revisions.sort_by(|a, b| a.event.id.cmp(&b.event.id));
    revisions
}

/// What a receiver must do about `event`; `None` when it knows everything already.
///
/// The first statement is always `open`: a milestone or a whole episode read from a backlog is complete
/// at once and says so in `closed`.
fn phase(before: Option<&Revision>, event: &Event) -> Option<Phase> {
    let Some(before) = before.filter(|before| before.phase != Phase::Retract) else {
        return Some(Phase::Open);
    };
    if digest(&before.event) == digest(event) {
        return None;
    }
    Some(match (before.event.closed, event.closed) {
        (true, _) => Phase::Amend,
        (false, true) => Phase::Close,
        (false, false) => Phase::Update,
    })
}

/// Events told and no longer true. Expectations and estimates are closed by whoever made them, never
/// retracted.
fn vanished<'a>(told: &'a Told, view: &View, scope: Scope) -> impl Iterator<Item = &'a Revision> {
    let is_said = move |event: &Event| scope == Scope::Whole || event.code.is_milestone();
    told.values().filter(move |before| {
        before.phase != Phase::Retract
            && is_said(&before.event)
            && !before.event.code.is_outside_verdict()
            && !view.contains_key(&before.event.id)
    })
}

/// What an episode is about: episodes of different subjects never replace each other.
#[derive(PartialEq, Eq)]
struct Subject<'a> {
    code: Code,
    rule: &'a str,
    unit: Option<&'a str>,
    probe: Option<u8>,
}

impl<'a> Subject<'a> {
    fn of(event: &'a Event) -> Self {
        let Event {
            code,
            rule,
            unit,
            probe,
            ..
        } = event;
        Self {
            code: *code,
            rule,
            unit: unit.as_deref(),
            probe: *probe,
        }
    }
}

/// Which event takes the place of which.
#[derive(Default)]
struct Heritage<'a> {
    /// By heir: the vanished events it overlaps, oldest first.
    replaced: BTreeMap<&'a EventId, Vec<&'a Revision>>,
    /// By heir: those of them whose case it inherits, oldest first.
    inherited: BTreeMap<&'a EventId, Vec<&'a Revision>>,
}

impl<'a> Heritage<'a> {
    fn of(told: &'a Told, view: &'a View, scope: Scope) -> Self {
        let mut heritage = Self::default();
        let mut gone: Vec<&Revision> = vanished(told, view, scope).collect();
        gone.sort_by_key(|before| (before.event.occurred_at, &before.event.id));
        for before in gone {
            let heirs = || {
                let same = |heir: &&Event| Subject::of(heir) == Subject::of(&before.event);
                let overlapping = |heir: &Event| (overlap_ms(&before.event, heir), heir.id.clone());
                view.values()
                    .filter(same)
                    .filter(move |heir| overlapping(heir).0 > 0)
            };
            for heir in heirs() {
                heritage.replaced.entry(&heir.id).or_default().push(before);
            }
            // Of equal overlaps the first id wins, so that the choice does not depend on arrival.
            let longest = heirs().min_by_key(|heir| (-overlap_ms(&before.event, heir), &heir.id));
            if let Some(heir) = longest {
                heritage.inherited.entry(&heir.id).or_default().push(before);
            }
        }
        heritage
    }

    fn case(&self, event: &Event) -> CaseId {
        let oldest = self
            .inherited
            .get(&event.id)
            .and_then(|inherited| inherited.first());
        oldest.map_or_else(|| case_id(&event.id), |before| before.case_id.clone())
    }

    fn predecessors(&self, event: &Event) -> Vec<EventId> {
        let replaced = self.replaced.get(&event.id);
        replaced
            .into_iter()
            .flatten()
            .map(|before| before.event.id.clone())
            .collect()
    }
}

/// Milliseconds of event time that both episodes cover, an open end reaching for ever. Two episodes
/// that share only one moment overlap by 1.
fn overlap_ms(a: &Event, b: &Event) -> i64 {
    let end = |event: &Event| {
        event
            .ended_at
            .map_or(i64::MAX, |end| end.get().saturating_add(1))
    };
    let start = a.occurred_at.max(b.occurred_at).get();
    end(a).min(end(b)).saturating_sub(start)
}

#[cfg(test)]
mod tests {
    use protocol::units::UtcMs;

    use super::*;
    use crate::event::{Confidence, Detail, Severity, TimeQuality};

    fn episode(id: &str, from: i64, until: Option<i64>) -> Event {
        Event {
            id: EventId(id.to_owned()),
            code: Code::Temperature,
            shipment: "S-1".to_owned(),
            rule: "vaccine_2_8/high".to_owned(),
            title: Code::Temperature.title().to_owned(),
            next_action: Code::Temperature.next_action().to_owned(),
            severity: Severity::Critical,
            confidence: Confidence::Certain,
            occurred_at: UtcMs::saturating(from),
            ended_at: until.map(UtcMs::saturating),
            time_quality: TimeQuality::Anchored,
            time_uncertainty_s: 1,
            closed: until.is_some(),
            as_of: None,
            place: None,
            actor: "t-1".parse().unwrap(),
            references: BTreeMap::new(),
            unit: Some("U-1".to_owned()),
            probe: Some(0),
            plan_version: 1,
            detail: Detail::Gap {
                unobserved_s: 0,
                max_gap_s: 0,
            },
            evidence: Vec::new(),
        }
    }

    fn view(events: &[Event]) -> View {
        events
            .iter()
            .map(|event| (event.id.clone(), event.clone()))
            .collect()
    }

    /// Tells `events` on top of `told` and returns what was said.
    fn tell(told: &mut Told, events: &[Event]) -> Vec<Revision> {
        let revisions = diff(told, &view(events), false);
        for revision in &revisions {
            told.insert(revision.event.id.clone(), revision.clone());
        }
        revisions
    }

    fn said(revisions: &[Revision]) -> Vec<(&str, u32, Phase)> {
        let told = |revision: &Revision| (revision.rev, revision.phase);
        revisions
            .iter()
            .map(|r| (r.event.id.as_str(), told(r).0, told(r).1))
            .collect()
    }

    #[test]
    fn an_episode_opens_goes_on_closes_and_is_amended() {
        let mut told = Told::new();
        assert_eq!(
            said(&tell(&mut told, &[episode("a", 10, None)])),
            [("a", 1, Phase::Open)]
        );
        assert!(
            tell(&mut told, &[episode("a", 10, None)]).is_empty(),
            "nothing new to tell"
        );
        assert_eq!(
            said(&tell(&mut told, &[episode("a", 9, None)])),
            [("a", 2, Phase::Update)]
        );
        assert_eq!(
            said(&tell(&mut told, &[episode("a", 9, Some(20))])),
            [("a", 3, Phase::Close)]
        );
        assert_eq!(
            said(&tell(&mut told, &[episode("a", 9, Some(21))])),
            [("a", 4, Phase::Amend)]
        );
        assert_eq!(said(&tell(&mut told, &[])), [("a", 5, Phase::Retract)]);
        assert!(tell(&mut told, &[]).is_empty(), "a retraction is told once");
        assert_eq!(
            said(&tell(&mut told, &[episode("a", 9, None)])),
            [("a", 6, Phase::Open)]
        );
    }

    #[test]
    fn a_merge_keeps_the_oldest_case_and_names_what_it_replaces() {
        let mut told = Told::new();
        tell(
            &mut told,
            &[episode("m", 10, Some(20)), episode("k", 30, Some(90))],
        );
        let revisions = tell(&mut told, &[episode("z", 5, Some(95))]);
        let merged = revisions.iter().find(|r| r.event.id.0 == "z").unwrap();
        assert_eq!(merged.case_id, CaseId("m".to_owned()));
        assert_eq!(
            merged.predecessors,
            [EventId("m".to_owned()), EventId("k".to_owned())]
        );
        assert_eq!(
            said(&revisions)
                .iter()
                .filter(|told| told.2 == Phase::Retract)
                .count(),
            2
        );
    }

    #[test]
    fn a_split_leaves_the_case_with_the_longest_part() {
        let mut told = Told::new();
        tell(&mut told, &[episode("a", 10, Some(100))]);
        let revisions = tell(
            &mut told,
            &[episode("b", 12, Some(20)), episode("c", 30, Some(99))],
        );
        let case = |id: &str| {
            revisions
                .iter()
                .find(|r| r.event.id.0 == id)
                .unwrap()
                .case_id
                .0
                .clone()
        };
        assert_eq!((case("b").as_str(), case("c").as_str()), ("b", "a"));
        assert!(
            revisions
                .iter()
                .filter(|r| r.phase == Phase::Open)
                .all(|r| r.predecessors.len() == 1)
        );
    }

    #[test]
    fn a_neighbour_of_another_probe_inherits_nothing() {
        let mut told = Told::new();
        tell(&mut told, &[episode("a", 10, Some(20))]);
        let mut other = episode("b", 10, Some(20));
        other.probe = Some(1);
        let revisions = tell(&mut told, &[other]);
        let opened = revisions.iter().find(|r| r.event.id.0 == "b").unwrap();
        assert_eq!((&opened.case_id.0[..], opened.predecessors.len()), ("b", 0));
    }
}
