//! `ledger`: what came of devices, what became of it, and what is missing.

use std::ops::ControlFlow;

use protocol::key::DeviceId;

use super::Emit;
use super::desk::{Desk, DeskError};
use super::row::Row;
use crate::ingest::ledger::{Ledger, ledger};
use crate::store::device;

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
        device::each(&self.store, |device| {
            let Some(ledger) = ledger(&self.store, &device)? else {
                return Ok(ControlFlow::Continue(()));
            };
            rows += 1;
            Ok(emit(row(&device, &ledger)))
        })?;
        Ok(rows)
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
    row
}
