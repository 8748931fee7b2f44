//! What is stated about an event, as a flat row.

use chrono::{DateTime, SecondsFormat};
use chrono_tz::Tz;
use protocol::units::UtcMs;

use super::row::Row;
use super::sample::word;
use crate::fold::posted::Posted;

/// Every name that a row can have, in the order of a table; a shipment's references and an event's
/// measured facts come behind them under their own names (`reference_...`, `detail_...`).
pub const COLUMNS: &[&str] = &[
    "sequence",
    "occurred_at",
    "ended_at",
    "code",
    "phase",
    "severity",
    "confidence",
    "shipment",
    "unit",
    "probe",
    "title",
    "next_action",
    "place",
    "fence",
    "lat",
    "lon",
    "accuracy_m",
    "actor",
    "late",
    "closed",
    "as_of",
    "recorded_at",
    "time_quality",
    "time_uncertainty_s",
    "rule",
    "plan_version",
    "event_id",
    "rev",
    "notification_id",
    "case_id",
    "predecessors",
    "references",
    "detail",
    "evidence",
];

/// The row of an event's last revision; times carry the offset of `zone`.
pub(super) fn row(posted: &Posted, zone: Tz) -> Row {
    let told = &posted.revision;
    let event = &told.event;
    let mut row = Row::new();
    row.put("sequence", posted.sequence);
    row.put("occurred_at", local(event.occurred_at, zone));
    row.put_some("ended_at", event.ended_at.map(|time| local(time, zone)));
    row.put("code", event.code.as_str());
    row.put("phase", word(told.phase));
    row.put("severity", word(event.severity));
    row.put("confidence", word(event.confidence));
    row.put("shipment", event.shipment.as_str());
    row.put_some("unit", event.unit.as_deref());
    row.put_some("probe", event.probe.map(|probe| u32::from(probe) + 1));
    row.put("title", event.title.as_str());
    row.put("next_action", event.next_action.as_str());
    if let Some(place) = &event.place {
        row.put("place", place.name.as_str());
        row.put_some("fence", place.fence.as_deref());
        row.put("lat", place.lat);
        row.put("lon", place.lon);
        row.put("accuracy_m", place.accuracy_m);
    }
    row.put("actor", event.actor.as_str());
    row.put("late", told.late);
    row.put("closed", event.closed);
    row.put_some("as_of", event.as_of.map(|time| local(time, zone)));
    row.put("recorded_at", local(posted.recorded_at(), zone));
    row.put("time_quality", word(event.time_quality));
    row.put("time_uncertainty_s", event.time_uncertainty_s);
    row.put("rule", event.rule.as_str());
    row.put("plan_version", event.plan_version);
    row.put("event_id", event.id.as_str());
    row.put("rev", told.rev);
    row.put("notification_id", told.notification_id());
    row.put("case_id", told.case_id.0.as_str());
    row.put("predecessors", list(told.predecessors.iter()));
    let references = event.references.iter();
    row.put(
        "references",
        list(references.map(|(name, value)| format!("{name}={value}"))),
    );
    put_detail(&mut row, event);
    let evidence = event.evidence.iter();
    row.put(
        "evidence",
        list(evidence.map(|record| format!("{} {}", record.device, record.key))),
    );
    row
}

/// Measured facts under their own names: `detail_kind`, `detail_max`, ...
fn put_detail(row: &mut Row, event: &rules::event::Event) {
    // Serialising plain enums and numbers to a JSON value cannot fail; an empty map would show.
    let detail = serde_json::to_value(&event.detail).unwrap_or_default();
    for (name, value) in detail.as_object().into_iter().flatten() {
        row.put(format!("detail_{name}"), value.clone());
    }
}

/// Rows are flat, so lists become text.
fn list<T: ToString>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    items.join(" ")
}

/// RFC 3339 with the offset that `zone` has at that moment.
fn local(utc: UtcMs, zone: Tz) -> String {
    // UtcMs spans years 1 to 9999, all of which chrono can represent.
    DateTime::from_timestamp_millis(utc.get())
        .map(|time| {
            time.with_timezone(&zone)
                .to_rfc3339_opts(SecondsFormat::Millis, false)
        })
        .unwrap_or_default()
}
