//! `CloudEvents` 1.0, structured JSON.
//!
//! `id` is the notification id `<event_id>-<rev>`: with the event id alone, two revisions would be
//! dropped as duplicates of each other. `time` is event time with the offset of the configured zone;
//! `recordedtime` says when the gateway knew. Extensions `partitionkey` (the shipment) and `sequence`
//! (zero-padded, rising with every notification of the gateway) let receivers keep order.

use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;
use protocol::units::UtcMs;
use rules::code::{Code, CodeKind};
use rules::event::{Phase, Revision};
use serde_json::{Map, Value, json};

/// Digits of `sequence`, enough for any u64, so that text order is number order.
const SEQUENCE_DIGITS: usize = 20;

/// Who speaks, and in which zone places are.
#[derive(Clone, Debug)]
pub struct Source {
    /// The gateway's configured id.
    pub gateway: String,
    /// Zone whose offset event times carry.
    pub zone: Tz,
}

/// The notification as one JSON object without line breaks.
#[must_use]
pub fn structured(source: &Source, told: &Revision, recorded_at: UtcMs, sequence: u64) -> Vec<u8> {
    let event = &told.event;
    let envelope = json!({
        "specversion": "1.0",
        "id": told.notification_id(),
        "source": format!("urn:supercargo:gateway:{}", source.gateway),
        "type": kind(event.code),
        "subject": event.shipment,
        "time": at(event.occurred_at, source.zone),
        "datacontenttype": "application/json",
        "partitionkey": event.shipment,
        "recordedtime": at(recorded_at, source.zone),
        "sequence": format!("{sequence:0width$}", width = SEQUENCE_DIGITS),
        "data": data(source, told, recorded_at),
    });
    envelope.to_string().into_bytes()
}

/// `supercargo.<milestone|exception|expectation|estimate>.<code>.v1`.
#[must_use]
pub fn kind(code: Code) -> String {
    let family = match code.kind() {
        CodeKind::Milestone => "milestone",
        CodeKind::Exception => "exception",
        CodeKind::Expectation => "expectation",
        CodeKind::Estimate => "estimate",
    };
    format!(
        "supercargo.{family}.{}.v1",
        code.as_str().to_ascii_lowercase()
    )
}

/// RFC 3339 with milliseconds and the offset in force in `zone` at that moment.
#[must_use]
pub fn at(time: UtcMs, zone: Tz) -> String {
    // UtcMs spans years 1 to 9999, which chrono represents.
    let utc: DateTime<Utc> = DateTime::from_timestamp_millis(time.get()).unwrap_or_default();
    utc.with_timezone(&zone)
        .to_rfc3339_opts(SecondsFormat::Millis, false)
}

/// The event's own words, with times made readable and what only the revision knows added.
fn data(source: &Source, told: &Revision, recorded_at: UtcMs) -> Value {
    let event = &told.event;
    let mut data = match serde_json::to_value(event) {
        Ok(Value::Object(data)) => data,
        // An event is a struct with text keys: serde always makes an object of it.
        _ => Map::new(),
    };
    let zone = source.zone;
    data.insert("occurred_at".to_owned(), json!(at(event.occurred_at, zone)));
    data.insert(
        "ended_at".to_owned(),
        json!(event.ended_at.map(|time| at(time, zone))),
    );
    data.insert(
        "as_of".to_owned(),
        json!(event.as_of.map(|time| at(time, zone))),
    );
    data.insert("recorded_at".to_owned(), json!(at(recorded_at, zone)));
    data.insert("gateway".to_owned(), json!(source.gateway));
    data.insert("event_id".to_owned(), json!(event.id));
    data.remove("id");
    data.insert("rev".to_owned(), json!(told.rev));
    data.insert("phase".to_owned(), json!(told.phase));
    data.insert("case_id".to_owned(), json!(told.case_id));
    data.insert("predecessors".to_owned(), json!(told.predecessors));
    data.insert("late".to_owned(), json!(told.late));
    if told.phase == Phase::Retract {
        let undo = "Undo what was done because of this event: later data shows it did not happen";
        data.insert("next_action".to_owned(), json!(undo));
    }
    Value::Object(data)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rules::event::{
        CaseId, Confidence, Detail, Event, EventId, Evidence, Place, Severity, TimeQuality,
    };

    use super::*;

    /// An arrival at a hub that late data corrected.
    fn arrival() -> Revision {
        let device: protocol::key::DeviceId = "t-1".parse().unwrap();
        let place = Place {
            lat: 51.924,
            lon: 4.478,
            accuracy_m: 12.5,
            fence: Some("hub-1".to_owned()),
            name: "Rotterdam cold store".to_owned(),
        };
        let event = Event {
            id: EventId("e1".to_owned()),
            code: Code::ArrivedHub,
            shipment: "S-1".to_owned(),
            rule: "milestone".to_owned(),
            title: "Arrived".to_owned(),
            next_action: "Unload".to_owned(),
            severity: Severity::Info,
            confidence: Confidence::Certain,
            occurred_at: UtcMs::saturating(1_782_864_000_000),
            ended_at: None,
            time_quality: TimeQuality::Anchored,
            time_uncertainty_s: 1,
            closed: true,
            as_of: None,
            place: Some(place),
            actor: device.clone(),
            references: BTreeMap::from([("order".to_owned(), "4711".to_owned())]),
            unit: None,
            probe: None,
            plan_version: 3,
            detail: Detail::Stop {
                stop: "hub".to_owned(),
                index: 1,
            },
            evidence: vec![Evidence {
                device,
                key: protocol::key::RecordKey::new(7, 0, 12),
            }],
        };
        Revision {
            event,
            rev: 2,
            phase: Phase::Amend,
            case_id: CaseId("c1".to_owned()),
            predecessors: vec![EventId("e0".to_owned())],
            late: true,
        }
    }

    #[test]
    fn the_whole_envelope_has_every_required_attribute_and_nothing_unknown() {
        let source = Source {
            gateway: "depot-1".to_owned(),
            zone: chrono_tz::Europe::Berlin,
        };
        let recorded_at = UtcMs::saturating(1_782_864_060_000);
        let told = structured(&source, &arrival(), recorded_at, 17);
        assert!(!told.contains(&b'\n'));
        let told: Value = serde_json::from_slice(&told).unwrap();
        let data = json!({
            "event_id": "e1",
            "rev": 2,
            "phase": "amend",
            "case_id": "c1",
            "predecessors": ["e0"],
            "late": true,
            "gateway": "depot-1",
            "recorded_at": "2026-07-01T02:01:00.000+02:00",
            "code": "ARRIVED_HUB",
            "shipment": "S-1",
            "rule": "milestone",
            "title": "Arrived",
            "next_action": "Unload",
            "severity": "info",
            "confidence": "certain",
            "occurred_at": "2026-07-01T02:00:00.000+02:00",
            "ended_at": null,
            "time_quality": "anchored",
            "time_uncertainty_s": 1,
            "closed": true,
            "as_of": null,
            "place": {
                "lat": 51.924,
                "lon": 4.478,
                "accuracy_m": 12.5,
                "fence": "hub-1",
                "name": "Rotterdam cold store",
            },
            "actor": "t-1",
            "references": { "order": "4711" },
            "unit": null,
            "probe": null,
            "plan_version": 3,
            "detail": { "kind": "stop", "stop": "hub", "index": 1 },
            "evidence": [{ "device": "t-1", "key": "0000000000000007/0/12" }],
        });
        let expected = json!({
            "specversion": "1.0",
            "id": "e1-2",
            "source": "urn:supercargo:gateway:depot-1",
            "type": "supercargo.milestone.arrived_hub.v1",
            "subject": "S-1",
            "time": "2026-07-01T02:00:00.000+02:00",
            "datacontenttype": "application/json",
            "partitionkey": "S-1",
            "recordedtime": "2026-07-01T02:01:00.000+02:00",
            "sequence": "00000000000000000017",
            "data": data,
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn times_carry_the_offset_in_force_at_that_moment() {
        let zone = chrono_tz::Europe::Berlin;
        assert_eq!(
            at(UtcMs::saturating(1_767_225_600_000), zone),
            "2026-01-01T01:00:00.000+01:00"
        );
        assert_eq!(
            at(UtcMs::saturating(1_782_864_000_000), zone),
            "2026-07-01T02:00:00.000+02:00"
        );
    }

    #[test]
    fn the_type_names_family_and_code() {
        assert_eq!(
            kind(Code::ArrivedHub),
            "supercargo.milestone.arrived_hub.v1"
        );
        assert_eq!(kind(Code::Silent), "supercargo.expectation.ex_silent.v1");
    }
}
