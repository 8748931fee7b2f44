//! What is not there or not believed, as rows of `status`: numbers missing of devices, payloads refused,
//! rows damaged, records doubted, sessions lost.

use protocol::key::DeviceId;
use protocol::units::UtcMs;

use super::desk::fact;
use super::row::Row;
use super::sample::text;
use crate::ingest::census::{Census, census};
use crate::ingest::doubt;
use crate::store::broker::{self, Memory};
use crate::store::damage::unreadable;
use crate::store::quarantine::{Fill, dropped};
use crate::store::salvage::{self, Report};
use crate::store::seal::{self, Late, Totals};
use crate::store::{Store, StoreError, damage};

/// Rows about numbers that devices used and the gateway does not have, in all and of the worst.
pub(super) fn missing(store: &Store) -> Result<Vec<Row>, StoreError> {
    let Census { total, worst, cut } = census(store)?;
    let mut rows = vec![
        fact("records_lost", total.lost),
        fact("records_pending", total.pending),
        fact("records_unexplained", total.unexplained),
    ];
    for row in rows.iter_mut().filter(|_| cut) {
        row.put("at_least", true);
    }
    rows.extend(worst.into_iter().map(|(device, missing)| {
        let all = missing.lost + missing.pending + missing.unexplained;
        let mut row = fact("records_missing", all);
        row.put("device", device.as_str());
        row.put("lost", missing.lost);
        row.put("pending", missing.pending);
        row.put("unexplained", missing.unexplained);
        row
    }));
    Ok(rows)
}

/// Rows about what was refused and is kept for people to look at.
pub(super) fn quarantine(store: &Store) -> Result<Vec<Row>, StoreError> {
    let fill = Fill::load(store)?;
    let dropped = dropped(store)?;
    Ok(vec![
        fact("quarantine_rows", fill.rows()),
        fact("quarantine_bytes", fill.bytes()),
        fact("quarantine_overflow", fill.overflow()),
        fact("quarantine_dropped", dropped.rows),
    ])
}

/// Rows about damaged rows that were set aside and sound ones that this version cannot read, by the letter of
/// their kind.
pub(super) fn damaged(store: &Store) -> Result<Vec<Row>, StoreError> {
    let of = |name| {
        move |(kind, rows): (String, u64)| {
            let mut row = fact(name, rows);
            row.put("kind", kind);
            row
        }
    };
    let damaged = damage::counts(store)?.into_iter();
    let unreadable = unreadable::counts(store)?.into_iter();
    let damaged = damaged.map(of("store_damaged_rows"));
    Ok(damaged
        .chain(unreadable.map(of("store_unreadable_rows")))
        .collect())
}

/// Rows about seals: how many, what came too late for them, and of which the plan says something else now.
pub(super) fn sealed(store: &Store) -> Result<Vec<Row>, StoreError> {
    let Totals {
        shipments,
        late_records,
        late_contested,
    } = seal::totals(store)?;
    let mut rows = vec![
        fact("shipments_sealed", shipments),
        fact("sealed_late_records", late_records),
        fact("sealed_late_contested", late_contested),
    ];
    rows.extend(seal::changed_in_plan(store)?.into_iter().map(|shipment| {
        let mut row = fact("sealed_shipment_changed_in_plan", true);
        row.put("shipment", shipment);
        row
    }));
    rows.extend(seal::worst_late(store)?.into_iter().map(late));
    Ok(rows)
}

fn late((device, shipment, late): (DeviceId, String, Late)) -> Row {
    let mut row = fact("sealed_late", late.records + late.contested);
    row.put("shipment", shipment);
    row.put("device", device.as_str());
    row.put("records", late.records);
    row.put("contested", late.contested);
    // Of a key that is only contested no time is known.
    let last = (late.last_ms > 0).then(|| text(UtcMs::saturating(late.last_ms)));
    row.put_some("last_received_at", last);
    row
}

/// Rows about records that say something which is not believed, of the devices with most of them.
pub(super) fn doubted(store: &Store) -> Result<Vec<Row>, StoreError> {
    let worst = doubt::worst(store)?;
    let row = |(device, reason, of): doubt::Named| {
        let mut row = fact("records_doubted", of.count);
        row.put("device", device.as_str());
        row.put("reason", reason);
        row.put(
            "last_received_at",
            text(UtcMs::saturating(of.last_received_at_ms)),
        );
        row.put("last_key", of.last_key);
        row.put("last_detail", of.last_detail);
        row
    };
    Ok(worst.into_iter().map(row).collect())
}

/// Rows about brokers that had lost their sessions: how often, and when the newest loss was noticed.
pub(super) fn lost_sessions(store: &Store) -> Result<Vec<Row>, StoreError> {
    let of = |(name, memory): (String, Memory)| {
        let loss = memory.last_loss?;
        let mut row = fact("broker_session_losses", memory.losses);
        row.put("broker", name);
        row.put("last_seen_at", text(UtcMs::saturating(loss.seen_at_ms)));
        row.put(
            "last_noticed_at",
            text(UtcMs::saturating(loss.noticed_at_ms)),
        );
        Some(row)
    };
    Ok(broker::all(store)?.into_iter().filter_map(of).collect())
}

/// Rows about salvages, oldest first: how many rows came back, and what is known to be missing.
pub(super) fn salvaged(store: &Store) -> Result<Vec<Row>, StoreError> {
    let of = |report: Report| {
        let mut row = fact("store_salvaged", report.rows.values().sum::<u64>());
        row.put("at_ms", report.at_ms);
        row.put("fault", report.fault);
        row.put("damaged", report.damaged);
        row.put("newest_commit", report.newest_commit);
        row.put("promised_commit", report.promised_commit);
        row.put("set_aside_as", report.set_aside_as);
        row
    };
    Ok(salvage::reports(store)?.into_iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::digest::Digest;
    use crate::store::seal::{EndedBy, Seal};
    use crate::store::{Batch, memory};

    #[test]
    fn seals_are_told_with_what_they_keep_out_and_what_the_plan_says_otherwise() {
        let store = memory::store();
        let told = |store| -> Vec<String> {
            let rows = sealed(store).unwrap();
            rows.iter().map(Row::to_string).collect()
        };
        assert_eq!(told(&store)[0], r#"{"name":"shipments_sealed","value":0}"#);
        let seal = Seal {
            ended_at_ms: 1,
            ended_by: EndedBy::Plan,
            sealed_at_ms: 9,
            definition: Digest::of(b"S-1"),
            trackers: 0,
            keys: 0,
        };
        seal::write(&store, "S-1", &seal, &[]).unwrap();
        seal::note_changed_in_plan(&store, &["S-1".to_owned()]).unwrap();
        let mut batch = Batch::default();
        for (device, records, contested, last_ms) in [("t-1", 0, 1, 0), ("t-2", 3, 0, 1_500)] {
            let late = Late {
                records,
                contested,
                last_ms,
            };
            let late = [(device.parse().unwrap(), "S-1".to_owned(), late)];
            seal::note_late(&store, &mut batch, &late).unwrap();
            store.apply(std::mem::take(&mut batch)).unwrap();
        }
        assert_eq!(
            told(&store),
            [
                r#"{"name":"shipments_sealed","value":1}"#,
                r#"{"name":"sealed_late_records","value":3}"#,
                r#"{"name":"sealed_late_contested","value":1}"#,
                r#"{"name":"sealed_shipment_changed_in_plan","value":true,"shipment":"S-1"}"#,
                r#"{"name":"sealed_late","value":3,"shipment":"S-1","device":"t-2","records":3,"contested":0,"last_received_at":"1970-01-01T00:00:01.500Z"}"#,
                r#"{"name":"sealed_late","value":1,"shipment":"S-1","device":"t-1","records":0,"contested":1}"#,
            ]
        );
    }
}
