//! A damaged store that was salvaged (`EX_STORE_DAMAGED`): it concerns no shipment but the gateway itself,
//! which may have lost readings that it had acknowledged.
//!
//! It stands outside the verdict: it is stated once, for the moment at which the store was salvaged, and
//! never taken back.

use protocol::key::DeviceId;
use protocol::units::UtcMs;

use super::opened;
use crate::code::Code;
use crate::event::{Confidence, Detail, Event, Revision, Salvaged, Severity, TimeQuality};
use crate::identity::{Opening, Subject, event_id};

/// Stands in the place of a shipment's id in what concerns the gateway itself; no plan can have it.
pub const GATEWAY_SUBJECT: &str = "$gateway";

/// Name of the rule.
const RULE: &str = "salvage";

/// What is told of a salvage at `at`, observed by `gateway`.
#[must_use]
pub fn salvaged(gateway: &DeviceId, at: UtcMs, salvaged: Salvaged) -> Revision {
    let subject = Subject {
        shipment: GATEWAY_SUBJECT,
        rule: RULE,
        unit: None,
        probe: None,
        opening: Opening::Moment(at),
    };
    let event = Event {
        id: event_id(&subject),
        code: Code::StoreDamaged,
        shipment: GATEWAY_SUBJECT.to_owned(),
        rule: RULE.to_owned(),
        title: Code::StoreDamaged.title().to_owned(),
        next_action: Code::StoreDamaged.next_action().to_owned(),
        severity: Severity::Critical,
        confidence: Confidence::Certain,
        occurred_at: at,
        ended_at: None,
        time_quality: TimeQuality::Anchored,
        time_uncertainty_s: 1,
        closed: true,
        as_of: Some(at),
        place: None,
        actor: gateway.clone(),
        references: Default::default(),
        unit: None,
        probe: None,
        plan_version: 0,
        detail: Detail::Salvage(salvaged),
        evidence: Vec::new(),
    };
    opened(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_salvage_is_an_event_of_its_own_that_no_shipment_of_a_plan_can_have() {
        let gateway = "gateway".parse().unwrap();
        let told = |at| salvaged(&gateway, UtcMs::saturating(at), Salvaged::default());
        let (one, other) = (told(1), told(2));
        assert_ne!(one.event.id, other.event.id);
        assert_eq!(one, told(1));
        assert_eq!(one.event.severity, Severity::Critical);
        assert!(Code::StoreDamaged.is_outside_verdict());
        let plan = format!(
            "version = 1\n[[shipment]]\nid = \"{GATEWAY_SUBJECT}\"\nprofile = \"p\"\n[[profile]]\nname = \"p\"\n"
        );
        let faults = crate::plan::Plan::parse(&plan).unwrap_err();
        let named: String = faults.iter().map(ToString::to_string).collect();
        assert!(named.contains("not a valid id"), "{named}");
    }
}
