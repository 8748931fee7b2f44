//! What is stated about an event, as a flat row.

use chrono::{DateTime, SecondsFormat};
use chrono_tz::Tz;
use protocol::units::UtcMs;
use rules::event::{Detail, Excursion};

use super::row::Row;
use super::sample::word;
use crate::fold::posted::Posted;

/// Every name that a row can have, in the order of a table.
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
    "stop",
    "quantity",
    "value_unit",
    "bound",
    "side",
    "inclusive",
    "delay_s",
    "min",
    "max",
    "mean",
    "beyond_s",
    "alarm_s",
    "unobserved_s",
    "max_gap_s",
    "peak_g",
    "limit_g",
    "shock_duration_ms",
    "shock_delta_v_m_s",
    "shock_count",
    "decided_by",
    "fall_height_m",
    "fall_limit_m",
    "fall_duration_ms",
    "fall_count",
    "battery_percent",
    "battery_limit_percent",
    "last_heard",
    "silence_limit_s",
    "clock_problem",
    "clock_off_s",
    "clock_tolerance_s",
    "salvaged_rows",
    "damaged_rows",
    "newest_commit",
    "promised_commit",
    "store_fault",
    "set_aside_as",
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
    put_detail(&mut row, &event.detail, zone);
    let evidence = event.evidence.iter();
    row.put(
        "evidence",
        list(evidence.map(|record| format!("{} {}", record.device, record.key))),
    );
    row
}

/// Measured facts, with their units.
fn put_detail(row: &mut Row, detail: &Detail, zone: Tz) {
    match detail {
        Detail::Stop { stop, .. } => row.put("stop", stop.as_str()),
        Detail::Excursion(excursion) => put_excursion(row, excursion),
        Detail::Shock(shock) => {
            row.put("peak_g", shock.peak_g);
            row.put("limit_g", shock.limit_g);
            row.put_some("shock_duration_ms", shock.duration_ms);
            row.put_some("shock_delta_v_m_s", shock.delta_v);
            row.put("shock_count", shock.count);
            row.put("decided_by", shock.decided_by.as_str());
        }
        Detail::Fall {
            height_m,
            duration_ms,
            limit_m,
            count,
        } => {
            row.put("fall_height_m", *height_m);
            row.put("fall_limit_m", *limit_m);
            row.put("fall_duration_ms", *duration_ms);
            row.put("fall_count", *count);
        }
        Detail::Battery {
            charge_percent,
            limit_percent,
        } => {
            row.put("battery_percent", *charge_percent);
            row.put("battery_limit_percent", *limit_percent);
        }
        Detail::Gap {
            unobserved_s,
            max_gap_s,
        } => {
            row.put("unobserved_s", *unobserved_s);
            row.put("max_gap_s", *max_gap_s);
        }
        Detail::Silence {
            last_heard,
            limit_s,
        } => {
            row.put_some("last_heard", last_heard.map(|time| local(time, zone)));
            row.put("silence_limit_s", *limit_s);
        }
        Detail::Clock {
            problem,
            off_s,
            tolerance_s,
        } => {
            row.put("clock_problem", word(*problem));
            row.put_some("clock_off_s", *off_s);
            row.put("clock_tolerance_s", *tolerance_s);
        }
        Detail::Salvage(salvaged) => {
            row.put("salvaged_rows", salvaged.rows);
            row.put("damaged_rows", salvaged.damaged);
            row.put("newest_commit", salvaged.newest_commit);
            row.put("promised_commit", salvaged.promised_commit);
            row.put("store_fault", salvaged.fault.as_str());
            row.put("set_aside_as", salvaged.set_aside_as.as_str());
        }
    }
}

fn put_excursion(row: &mut Row, excursion: &Excursion) {
    row.put("quantity", excursion.quantity.as_str());
    row.put("value_unit", excursion.quantity.unit());
    row.put("bound", excursion.bound);
    row.put("side", word(excursion.side));
    row.put("inclusive", excursion.inclusive);
    row.put("delay_s", excursion.delay_s);
    row.put("min", excursion.min);
    row.put("max", excursion.max);
    row.put("mean", excursion.mean);
    row.put("beyond_s", excursion.duration_s);
    row.put("alarm_s", excursion.alarm_s);
    row.put("unobserved_s", excursion.unobserved_s);
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

#[cfg(test)]
pub(super) mod tests {
    use rules::code::Code;
    use rules::event::{
        CaseId, Confidence, Event, EventId, Evidence, Phase, Place, Revision, Severity,
        ShockDetail, Side, TimeQuality,
    };
    use rules::quantity::Quantity;

    use super::*;

    /// Something stated about `event` of shipment S-1, as the `sequence`th revision.
    pub(in crate::control) fn posted(event: &str, sequence: u64, detail: Detail) -> Posted {
        let event = Event {
            id: EventId(event.to_owned()),
            code: Code::Delivered,
            shipment: "S-1".to_owned(),
            rule: "milestone".to_owned(),
            title: "Delivered to \"Munich\", ramp 2".to_owned(),
            next_action: "Sign the delivery note".to_owned(),
            severity: Severity::Info,
            confidence: Confidence::Certain,
            occurred_at: UtcMs::saturating(1_773_480_413_000),
            ended_at: None,
            time_quality: TimeQuality::Anchored,
            time_uncertainty_s: 1,
            closed: true,
            as_of: Some(UtcMs::saturating(0)),
            place: Some(Place {
                lat: 48.1,
                lon: 11.5,
                accuracy_m: 12.5,
                fence: Some("munich".to_owned()),
                name: "Munich pharmacy depot".to_owned(),
            }),
            actor: "t-1".parse().unwrap(),
            references: [("order".to_owned(), "4711".to_owned())].into(),
            unit: Some("pallet-1".to_owned()),
            probe: Some(0),
            plan_version: 3,
            detail,
            evidence: vec![Evidence {
                device: "t-1".parse().unwrap(),
                key: protocol::key::RecordKey::new(7, 0, 2),
            }],
        };
        Posted {
            revision: Revision {
                event,
                rev: 2,
                phase: Phase::Amend,
                case_id: CaseId("case".to_owned()),
                predecessors: vec![EventId("before".to_owned())],
                late: true,
            },
            recorded_ms: 1_773_480_500_000,
            sequence,
        }
    }

    fn details() -> [Detail; 9] {
        let excursion = Excursion {
            quantity: Quantity::Temperature,
            bound: 8.0,
            side: Side::Above,
            inclusive: false,
            delay_s: 1_800,
            min: 8.1,
            max: 12.0,
            mean: 10.0,
            duration_s: 3_600,
            alarm_s: 1_800,
            unobserved_s: 0,
        };
        let shock = ShockDetail {
            peak_g: 31.0,
            limit_g: 25.0,
            duration_ms: Some(11),
            delta_v: Some(1.5),
            count: 1,
            decided_by: "peak and delta-v".to_owned(),
        };
        let last_heard = Some(UtcMs::saturating(0));
        let stop = "delivery".to_owned();
        [
            Detail::Stop { stop, index: 1 },
            Detail::Excursion(excursion),
            Detail::Shock(shock),
            Detail::Fall {
                height_m: 1.0,
                duration_ms: 452,
                limit_m: 0.5,
                count: 1,
            },
            Detail::Battery {
                charge_percent: 9,
                limit_percent: 15,
            },
            Detail::Gap {
                unobserved_s: 900,
                max_gap_s: 180,
            },
            Detail::Silence {
                last_heard,
                limit_s: 7_200,
            },
            Detail::Clock {
                problem: rules::event::ClockProblem::Ahead,
                off_s: Some(90_000),
                tolerance_s: 3_600,
            },
            Detail::Salvage(rules::event::Salvaged::default()),
        ]
    }

    #[test]
    fn a_table_has_a_column_for_every_value_and_rows_are_flat() {
        let names: std::collections::BTreeSet<_> = COLUMNS.iter().collect();
        assert_eq!(names.len(), COLUMNS.len(), "each once");
        for detail in details() {
            for (name, value) in row(&posted("e", 1, detail), Tz::UTC).iter() {
                assert!(COLUMNS.contains(&name), "{name} has no column");
                assert!(
                    !value.is_array() && !value.is_object(),
                    "{name} is not flat"
                );
            }
        }
    }

    #[test]
    fn times_carry_the_offset_of_the_zone_at_that_moment() {
        let [stop, ..] = details();
        let row = row(&posted("e", 1, stop), Tz::Europe__Berlin);
        assert_eq!(
            row.value("occurred_at").unwrap(),
            "2026-03-14T10:26:53.000+01:00"
        );
        assert_eq!(row.value("as_of").unwrap(), "1970-01-01T01:00:00.000+01:00");
        assert_eq!(row.value("notification_id").unwrap(), "e-2");
        assert_eq!(row.value("references").unwrap(), "order=4711");
    }
}
