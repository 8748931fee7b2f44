//! `ledger`: what came of devices, what became of it, and what is missing.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use protocol::key::DeviceId;

use super::Emit;
use super::desk::{Desk, DeskError};
use super::row::Row;
use crate::ingest::ledger::{Ledger, ledger};
use crate::store::{StoreError, device, history};

impl Desk {
    /// One row for a device that was ever heard, or for each of them.
    pub(super) fn ledger(
        &self,
        device: Option<&str>,
        emit: &mut Emit<'_>,
    ) -> Result<u64, DeskError> {
        let mut rows = 0;
        if let Some(device) = device {
            let device: DeviceId = device.parse()?;
            if let Some(ledger) = ledger(&self.store, &device)? {
                rows += 1;
                // Nothing follows, so it does not matter whether anybody still listens.
                let _ = emit(row(&device, &ledger));
            }
            return Ok(rows);
        }
        for device in self.heard()? {
            let Some(ledger) = ledger(&self.store, &device)? else {
                continue;
            };
            rows += 1;
            if emit(row(&device, &ledger)).is_break() {
                break;
            }
        }
        Ok(rows)
    }

    /// Every device that was ever heard: what is known of one may be damaged, and its records still there.
    fn heard(&self) -> Result<BTreeSet<DeviceId>, StoreError> {
        let mut heard = BTreeSet::new();
        let mut note = |device| {
            heard.insert(device);
            Ok(ControlFlow::Continue(()))
        };
        device::each(&self.store, &mut note)?;
        history::each_device(&self.store, &mut note)?;
        Ok(heard)
    }
}

fn row(device: &DeviceId, ledger: &Ledger) -> Row {
    let Ledger {
        book,
        known: _,
        missing,
        doubts,
        turned_away,
        damaged,
        unreadable,
        sealed_late,
    } = ledger;
    let mut row = Row::new();
    row.put("device", device.as_str());
    row.put("received", book.received);
    row.put("stored", book.stored);
    row.put("duplicate", book.duplicate);
    row.put("contested", book.contested);
    row.put("refused", book.refused.values().sum::<u64>());
    for (reason, count) in &book.refused {
        row.put(format!("refused_{}", reason.as_str()), *count);
    }
    row.put("lost_on_device", missing.lost);
    row.put("pending", missing.pending);
    row.put("unexplained", missing.unexplained);
    row.put("balanced", ledger.balances());
    for (reason, doubted) in doubts {
        row.put(format!("doubted_{reason}"), doubted.count);
    }
    row.put("turned_away", turned_away.values().sum::<u64>());
    for (reason, count) in turned_away {
        row.put(format!("turned_away_{}", reason.as_str()), *count);
    }
    for (kind, rows) in damaged {
        row.put(format!("damaged_rows_{kind}"), *rows);
    }
    row.put("unreadable", *unreadable);
    row.put("sealed_late", *sealed_late);
    row
}
