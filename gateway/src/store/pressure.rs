//! Space that runs out slowly: trackers are asked to send less before anything has to be refused.
//!
//! ```text
//! budget less watermark |-- 80 % pressure begins --|-- rest: readings are taken, more slowly --| full
//! free space            |-- two watermarks: pressure begins --|-- one watermark: full
//! t| device      what the device is asked to have meanwhile, and what it gets back
//! m| pressure    since when, why, whether it is ending, how many devices have a row
//! ```
//! The rows `t|` lie beside the settings that people want (`w|`), which are never changed by pressure but
//! for their version when the device gets them back. Written by the gateway's own look at the disk, under
//! the right to change things.

use std::ops::ControlFlow;

use protocol::downlink::Settings;
use protocol::key::DeviceId;
use serde::{Deserialize, Serialize};

use super::device::Octets;
use super::settings::{self, payload};
use super::space::{Free, Limits, Shortage};
use super::table::{self, Table};
use super::{Batch, Store, StoreError, row_error};

/// Part of the budget above the watermark that is left when pressure begins, in percent: a fifth of 30 days
/// is six days for people to act.
const BUDGET_LEFT_PERCENT: u64 = 20;

/// Part of it that must be left for pressure to end, in percent.
const BUDGET_RELIEF_PERCENT: u64 = 25;

/// Free disk space at which pressure begins, in watermarks: full mode begins at one.
const FREE_WATERMARKS: u64 = 2;

/// Free disk space at which it ends, in watermarks: files that come and go shall not switch a fleet.
const FREE_RELIEF_WATERMARKS: u64 = 3;

/// Name of the row that says how it stands.
const PRESSURE_ROW: &str = "pressure";

const KIND: &str = "temporary settings";

/// How pressure stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressed {
    /// When it began, in milliseconds since 1970.
    pub since_ms: i64,
    /// What was short then.
    pub why: String,
    /// Whether it is over, and devices are getting their settings back.
    pub ending: bool,
    /// Devices that have a row.
    pub devices: u64,
}

/// What a device is asked to have for the time being.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slowed {
    /// The whole of them; their version was never given to any others.
    pub settings: Settings,
    /// What people want it to have, or what it had; with the version of then.
    pub base: Settings,
    /// Whether `settings` say the same as `base`: it gets them back.
    pub restoring: bool,
}

impl Store {
    /// What is short, when the disk or the budget is so far used that devices should send less; `pressed`
    /// says whether that was so before. Nothing, when no disk is watched.
    #[must_use]
    pub fn pressure(&self, pressed: bool) -> Option<Shortage> {
        let (limits, free) = self.0.space.get()?.state()?;
        judge(limits, free, self.size_bytes().ok()?, pressed)
    }
}

fn judge(limits: Limits, free: Free, used_bytes: u64, pressed: bool) -> Option<Shortage> {
    let (percent, watermarks) = if pressed {
        (BUDGET_RELIEF_PERCENT, FREE_RELIEF_WATERMARKS)
    } else {
        (BUDGET_LEFT_PERCENT, FREE_WATERMARKS)
    };
    let short = |what, free, needed| (free < needed).then_some(Shortage { what, free, needed });
    let of_disk = short(
        "bytes",
        free.bytes,
        limits.watermark_bytes.saturating_mul(watermarks),
    );
    let of_budget = limits.budget_bytes.and_then(|budget| {
        let usable = budget.saturating_sub(limits.watermark_bytes);
        let left = usable.saturating_sub(used_bytes);
        short(
            "bytes of store.budget above its watermark",
            left,
            usable / 100 * percent,
        )
    });
    of_disk.or(of_budget)
}

/// How pressure stands; `None` when there is none and every device has its own settings.
///
/// # Errors
/// When it cannot be read.
pub fn pressed(store: &Store) -> Result<Option<Pressed>, StoreError> {
    table::value(store, Table::Meta, PRESSURE_ROW)
}

/// Writes how pressure stands; `None` when it is over for every device.
///
/// # Errors
/// Never in practice: the row is small.
pub fn put_pressed(batch: &mut Batch, pressed: Option<&Pressed>) -> Result<(), StoreError> {
    match pressed {
        Some(pressed) => table::put(batch, Table::Meta, PRESSURE_ROW, pressed),
        None => {
            table::remove(batch, Table::Meta, PRESSURE_ROW);
            Ok(())
        }
    }
}

/// Writes what a device is asked to have for the time being, and the newest version given out to any.
///
/// # Errors
/// Never in practice: settings fit their largest encoding.
pub fn slow(
    batch: &mut Batch,
    device: &DeviceId,
    slowed: &Slowed,
    newest_given: u32,
) -> Result<(), StoreError> {
    let octets = |settings| payload(device, settings).map(Octets);
    let row = (
        octets(&slowed.settings)?,
        octets(&slowed.base)?,
        slowed.restoring,
    );
    table::put(batch, Table::Slowed, device.as_str(), &row)?;
    settings::give(batch, newest_given)
}

/// Removes it.
pub fn release(batch: &mut Batch, device: &DeviceId) {
    table::remove(batch, Table::Slowed, device.as_str());
}

/// What a device is asked to have for the time being.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn slowed(store: &Store, device: &DeviceId) -> Result<Option<Slowed>, StoreError> {
    let row: Option<(Octets, Octets, bool)> = table::value(store, Table::Slowed, device.as_str())?;
    row.map(|(settings, base, restoring)| {
        Ok(Slowed {
            settings: settings::settings(device, &settings)?,
            base: settings::settings(device, &base)?,
            restoring,
        })
    })
    .transpose()
}

/// Visits the devices that have a row and whose names follow `after`, in order, until `visit` breaks.
///
/// # Errors
/// When they cannot be read, or `visit` fails.
pub fn each_slowed(
    store: &Store,
    after: Option<&DeviceId>,
    mut visit: impl FnMut(DeviceId) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    table::each_after(store, Table::Slowed, after.map(DeviceId::as_str), |name| {
        let device = name.parse::<DeviceId>();
        visit(device.map_err(|error| row_error(KIND, &name, error))?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    const LIMITS: Limits = Limits {
        watermark_bytes: 100 * MIB,
        reserve_bytes: MIB,
        ballast_bytes: MIB,
        budget_bytes: Some(1_100 * MIB),
    };

    const fn free(mebibytes: u64) -> Free {
        Free {
            bytes: mebibytes * MIB,
            inodes: u64::MAX,
        }
    }

    #[test]
    fn pressure_begins_before_full_mode_and_ends_with_hysteresis() {
        let short = |mebibytes, used, pressed| {
            let shortage = judge(LIMITS, free(mebibytes), used * MIB, pressed);
            shortage.map(|shortage| (shortage.free / MIB, shortage.needed / MIB))
        };
        // Of the disk: begins below 200 MiB free, ends at 300.
        assert_eq!(short(200, 0, false), None);
        assert_eq!(short(199, 0, false), Some((199, 200)));
        assert_eq!(short(299, 0, true), Some((299, 300)));
        assert_eq!(short(300, 0, true), None);
        // Of the budget: a thousand may be used, two hundred of them are left.
        assert_eq!(short(900, 800, false), None);
        assert_eq!(short(900, 801, false), Some((199, 200)));
        assert_eq!(short(900, 751, true), Some((249, 250)));
        assert_eq!(short(900, 750, true), None);
        // The budget is used up: long since.
        assert_eq!(short(900, 2_000, false), Some((0, 200)));
        let without = Limits {
            budget_bytes: None,
            ..LIMITS
        };
        assert_eq!(judge(without, free(900), u64::MAX, false), None);
    }
}
