//! Sessions that brokers had lost, told as gaps: possible ones, because what was lost with them is not known.
//!
//! Such an event is about no shipment and rests on no record; its subject is the broker, and each loss has an
//! event of its own. The bridge has it on disk before it subscribes anew, so none is missed.

use std::collections::BTreeMap;

use protocol::units::UtcMs;
use rules::code::Code;
use rules::event::{Confidence, Detail, Event, Phase, Revision, Severity, TimeQuality};
use rules::identity::{Opening, Subject, case_id, event_id};

use super::Fold;
use super::judge::told;
use crate::store::broker::{self, Loss, Memory};
use crate::store::{Batch, StoreError};

/// Name of the rule in event ids.
const RULE: &str = "broker_session";

/// What an event about a broker names in place of a shipment.
fn subject(broker: &str) -> String {
    format!("urn:supercargo:broker:{broker}")
}

impl Fold {
    /// Tell the newest loss of every broker, unless it has been told.
    pub(super) fn tell_lost_sessions(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        for (name, memory) in broker::all(&self.store)? {
            let subject = subject(&name);
            if memory.last_loss.is_some() && !self.told.contains_key(&subject) {
                self.told
                    .insert(subject.clone(), told(&self.store, &subject)?);
            }
            let plan_version = self.context.plan().revision.version;
            let Some(event) = lost(&name, &memory, plan_version) else {
                continue;
            };
            let known = self.told.get(&subject);
            if known.is_some_and(|told| told.contains_key(&event.id)) {
                continue;
            }
            self.post(batch, &subject, vec![first(event)])?;
        }
        Ok(())
    }
}

fn first(event: Event) -> Revision {
    Revision {
        case_id: case_id(&event.id),
        event,
        rev: 1,
        phase: Phase::Open,
        predecessors: Vec::new(),
        late: false,
    }
}

/// What is told of the newest loss of a broker; `None` without one.
fn lost(name: &str, memory: &Memory, plan_version: u32) -> Option<Event> {
    let Loss {
        seen_at_ms,
        noticed_at_ms,
    } = memory.last_loss?;
    let shipment = subject(name);
    let number = memory.losses.to_string();
    let id = event_id(&Subject {
        shipment: &shipment,
        rule: RULE,
        unit: None,
        probe: None,
        opening: Opening::Stop(&number),
    });
    let whole = |ms: i64| UtcMs::saturating(ms.div_euclid(1_000) * 1_000);
    Some(Event {
        id,
        code: Code::DataGap,
        shipment,
        rule: RULE.to_owned(),
        title: format!(
            "Broker {name} had lost its session with the gateway (loss {number}): what trackers sent through \
             it in that time may be lost, how much is not known"
        ),
        next_action: "Let the broker keep sessions on disk; look for missing numbers with `supercargo ledger`"
            .to_owned(),
        severity: Severity::Warning,
        confidence: Confidence::Possible,
        occurred_at: whole(seen_at_ms),
        ended_at: Some(whole(noticed_at_ms)),
        time_quality: TimeQuality::Anchored,
        time_uncertainty_s: 1,
        closed: true,
        as_of: None,
        place: None,
        // A broker's name has the form of a device's.
        actor: name.parse().ok()?,
        references: BTreeMap::new(),
        unit: None,
        probe: None,
        plan_version,
        detail: Detail::Gap {
            unobserved_s: noticed_at_ms.saturating_sub(seen_at_ms) / 1_000,
            max_gap_s: 0,
        },
        evidence: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use tokio::sync::watch;

    use super::*;
    use crate::clock::Clock;
    use crate::fold::posted::Posted;
    use crate::store::{Store, memory, outbox, view};

    fn fold(store: &Store) -> Fold {
        let plan = std::sync::Arc::new(rules::plan::Plan::empty());
        let context = rules::Context::new(plan, rules::Options::default());
        let (wake, _) = watch::channel(0);
        let sinks = vec!["file".to_owned()];
        Fold::open(store.clone(), context, sinks, Clock::wall(), wake).unwrap()
    }

    fn events(store: &Store) -> Vec<Event> {
        let mut events = Vec::new();
        view::each_of_all(store, |_, _, posted: Posted| {
            events.push(posted.revision.event);
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        events
    }

    #[test]
    fn every_loss_of_a_session_is_told_once_over_restarts_too() {
        let store = memory::store();
        let mut memory = Memory {
            seen_at_ms: 5_000,
            ..Memory::default()
        };
        for (losses, noticed_at_ms) in [(1, 65_250), (2, 99_000)] {
            memory.lose(noticed_at_ms);
            memory.save(&store, "yard").unwrap();
            for _ in 0..2 {
                let mut fold = fold(&store);
                fold.watch().unwrap();
                fold.watch().unwrap();
            }
            let events = events(&store);
            assert_eq!(events.len(), losses);
            assert_eq!(
                outbox::pending(&store, "file", 0, 10).unwrap().len(),
                losses
            );
            let newest = events.iter().max_by_key(|event| event.ended_at).unwrap();
            assert_eq!(newest.code, Code::DataGap);
            assert_eq!(newest.confidence, Confidence::Possible);
            assert_eq!(newest.occurred_at.get(), 5_000);
            assert!(newest.title.contains("yard"), "{}", newest.title);
        }
    }

    #[test]
    fn a_broker_that_lost_nothing_is_not_told_of() {
        let store = memory::store();
        Memory::default().save(&store, "yard").unwrap();
        fold(&store).watch().unwrap();
        assert_eq!(events(&store), []);
    }
}
