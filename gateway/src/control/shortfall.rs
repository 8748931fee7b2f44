//! What is not there or not believed, as rows of `status`: numbers missing of devices, payloads refused,
//! rows damaged, records doubted, sessions lost.

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
