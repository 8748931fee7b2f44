//! Device settings at the desk: shown, wanted, no longer wanted.

mod change;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use protocol::downlink::{Settings, SettingsField, SettingsRange};
use protocol::key::DeviceId;
use protocol::setting::Amount;
use serde_json::Value;

use super::audit::Acting;
use super::desk::{Desk, DeskError, Emit, fact};
use super::row::Row;
use super::sample::text;
use crate::clock::wall_utc;
use crate::store::device::is_heard;
use crate::store::settings::{self, Known, State, WANTED_MAX_DEVICES, Wanted};
use crate::store::{Batch, Store, StoreError};

pub use change::{allowed, keys};

/// Most refusals that `status` tells by device; `settings show` tells all.
const REFUSALS_SHOWN_MAX: usize = 10;

impl Desk {
    /// Where the settings of every device stand of which some are wanted; or those of one device, and
    /// each of them.
    pub(super) fn show_settings(
        &self,
        device: Option<&str>,
        emit: &mut Emit<'_>,
    ) -> Result<u64, DeskError> {
        let mut rows = 0;
        let mut emit = |row| {
            rows += 1;
            emit(row)
        };
        match device {
            Some(device) => show_one(&self.store, &device.parse()?, &mut emit)?,
            None => settings::each_wanted(&self.store, |device| {
                Ok(emit(standing_of(&self.store, &device)?))
            })?,
        }
        Ok(rows)
    }

    /// Want settings of a device: what is wanted or in force already, with `changes`. Durable when this
    /// returns; the device's connection is told, if there is one.
    pub(super) fn set_settings(
        &self,
        device: &str,
        changes: &[String],
        acting: &mut Acting,
        emit: &mut Emit<'_>,
    ) -> Result<u64, DeskError> {
        let device: DeviceId = device.parse()?;
        let _turn = self.turn();
        let known = Known::load(&self.store, &device)?;
        let base = known.base().unwrap_or(Settings::DEFAULT);
        let settings = change::apply(base, changes).map_err(|faults| {
            for fault in &faults {
                // Whoever stopped listening learns from the error.
                let _ = emit(fault.row());
            }
            let faults = faults.len();
            DeskError::Settings { faults }
        })?;
        let changed = settings != base || !is_settled(&known);
        let connected = changed && self.want(&device, &known, settings, acting)?;
        let mut row = standing(&device, &Known::load(&self.store, &device)?);
        row.put("heard", is_heard(&self.store, &device)?);
        row.put("changed", changed);
        row.put("connected", connected);
        row.put("in_force_known", in_force(&known).is_some());
        let _ = emit(row);
        Ok(1)
    }

    /// Want nothing of a device any more. It keeps the settings it has.
    pub(super) fn clear_settings(
        &self,
        device: &str,
        acting: &mut Acting,
        emit: &mut Emit<'_>,
    ) -> Result<u64, DeskError> {
        let device: DeviceId = device.parse()?;
        let _turn = self.turn();
        let wanted = match settings::wanted(&self.store, &device) {
            // A damaged row is there, and this is how to be rid of it.
            Err(StoreError::Row { .. }) => true,
            wanted => wanted?.is_some(),
        };
        let mut batch = Batch::default();
        settings::forget(&mut batch, &device);
        let result = if wanted { "done" } else { "nothing to do" };
        acting.note(&self.store, &mut batch, result)?;
        self.store.apply(batch)?;
        self.store.barrier()?;
        let mut row = standing(&device, &Known::load(&self.store, &device)?);
        row.put("changed", wanted);
        let _ = emit(row);
        Ok(1)
    }

    /// Store what is wanted and tell the device's connection; whether there is one.
    fn want(
        &self,
        device: &DeviceId,
        known: &Known,
        settings: Settings,
        acting: &mut Acting,
    ) -> Result<bool, DeskError> {
        if known.wanted.is_none() && count(&self.store)? >= WANTED_MAX_DEVICES {
            return Err(DeskError::WantedFull);
        }
        let now = wall_utc();
        let given = given(settings::newest_given(&self.store)?, now.get() / 1_000);
        let newer = known.newest_version().checked_add(1);
        let version = given.zip(newer).map(|(given, newer)| given.max(newer));
        let (given, version) = given.zip(version).ok_or(DeskError::VersionsUsedUp)?;
        let wanted = Wanted {
            settings: Settings {
                version,
                ..settings
            },
            set_at: now,
        };
        let mut batch = Batch::default();
        settings::want(&mut batch, device, &wanted, given)?;
        acting.note(&self.store, &mut batch, "done")?;
        self.store.apply(batch)?;
        self.store.barrier()?;
        tracing::info!(device = device.as_str(), version, "settings wanted");
        let running = self.running.as_ref();
        Ok(running.is_some_and(|running| running.endpoint.settings_changed(device)))
    }
}

/// Rows of `status`: how many settings are wanted, where they stand, and what was refused.
pub(super) fn status(store: &Store) -> Result<Vec<Row>, StoreError> {
    let (mut wanted, mut waiting, mut refused, mut replaced) = (0_u64, 0_u64, 0_u64, 0_u64);
    let mut refusals = Vec::new();
    settings::each_wanted(store, |device| {
        wanted += 1;
        let row = standing_of(store, &device)?;
        match row.value("state").and_then(Value::as_str) {
            Some("waiting") => waiting += 1,
            Some("replaced") => replaced += 1,
            Some("refused" | "damaged") => {
                refused += 1;
                if refusals.len() < REFUSALS_SHOWN_MAX {
                    refusals.push(refusal(&row));
                }
            }
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let mut rows = vec![
        fact("settings_wanted", wanted),
        fact("settings_waiting", waiting),
        fact("settings_refused", refused),
        fact("settings_replaced", replaced),
    ];
    rows.extend(refusals);
    Ok(rows)
}

/// Why a device does not have what is wanted, as a row of `status`.
fn refusal(standing: &Row) -> Row {
    let value = |name| standing.value(name).cloned().unwrap_or_default();
    let mut row = fact("settings_refusal", value("reason"));
    row.put("device", value("device"));
    row.put("version", value("version"));
    row
}

fn show_one(
    store: &Store,
    device: &DeviceId,
    emit: &mut dyn FnMut(Row) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let known = Known::load(store, device)?;
    let mut row = standing(device, &known);
    row.put("heard", is_heard(store, device)?);
    let mut flow = emit(row);
    for range in keys() {
        if flow.is_break() {
            break;
        }
        flow = emit(setting(device, &known, range));
    }
    Ok(())
}

fn standing_of(store: &Store, device: &DeviceId) -> Result<Row, StoreError> {
    match Known::load(store, device) {
        Err(damaged @ StoreError::Row { .. }) => {
            let mut row = Row::new();
            row.put("device", device.as_str());
            row.put("state", "damaged");
            row.put("reason", damaged.to_string());
            Ok(row)
        }
        known => Ok(standing(device, &known?)),
    }
}

/// Where the settings of a device stand.
fn standing(device: &DeviceId, known: &Known) -> Row {
    let (state, since, reason) = match known.state() {
        State::Unwanted => ("unwanted", None, None),
        State::Waiting => ("waiting", None, None),
        State::Reported { at } => ("reported", Some(at), None),
        State::Replaced { at, version } => {
            let reason = format!("the device has said since that version {version} is in force");
            ("replaced", Some(at), Some(reason))
        }
        State::Refused { at, why } => ("refused", Some(at), Some(why.to_string())),
    };
    let mut row = Row::new();
    row.put("device", device.as_str());
    row.put("state", state);
    row.put_some(
        "version",
        known.wanted.map(|wanted| wanted.settings.version),
    );
    row.put_some("set_at", known.wanted.map(|wanted| text(wanted.set_at)));
    row.put_some("since", since.map(text));
    row.put_some("reason", reason);
    row.put_some("in_force_version", known.version_in_force());
    if let Some(slowed) = known.slowed {
        row.put("slowed", !slowed.restoring);
        row.put("slowed_version", slowed.settings.version);
    }
    row
}

/// One setting of a device: wanted, in force, by default, and what is allowed. What is not known is not
/// there; a limit that is not watched is `off`.
fn setting(device: &DeviceId, known: &Known, range: &SettingsRange) -> Row {
    let value = |raw: Option<i64>| match raw {
        None => Value::from("off"),
        Some(raw) => number(range.field, raw),
    };
    let wanted = known.wanted.map(|wanted| wanted.settings.raw(range.field));
    let in_force = in_force(known).map(|settings| settings.raw(range.field));
    let mut row = Row::new();
    row.put("device", device.as_str());
    row.put("key", range.name);
    row.put_some("wanted", wanted.map(value));
    row.put_some("in_force", in_force.map(value));
    row.put("default", value(range.default));
    row.put("unit", range.unit);
    row.put("min", number(range.field, range.min));
    row.put("max", number(range.field, range.max));
    row.put("off_allowed", range.optional);
    row
}

/// The settings in force as far as they are known whole: accepted, or recorded by the device.
fn in_force(known: &Known) -> Option<Settings> {
    let version = known.version_in_force()?;
    let wanted = known.wanted.map(|wanted| wanted.settings);
    let recorded = known.in_force.map(|in_force| in_force.settings);
    let slowed = known.slowed.map(|slowed| slowed.settings);
    let reported = matches!(known.state(), State::Reported { .. });
    let asked = [wanted, slowed].into_iter().flatten();
    let known = asked.filter(|_| reported).chain(recorded);
    let mut known = known.filter(|settings| settings.version == version);
    let default = (version == Settings::DEFAULT.version).then_some(Settings::DEFAULT);
    known.next().or(default)
}

/// A raw value in its unit, as a JSON number with no more digits than it has.
fn number(field: SettingsField, raw: i64) -> Value {
    let text = Amount::number(field, raw).to_string();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Whether setting the same once more would change nothing: it is on its way, or there.
fn is_settled(known: &Known) -> bool {
    match known.state() {
        State::Waiting | State::Reported { .. } => true,
        State::Unwanted => in_force(known).is_some(),
        State::Replaced { .. } | State::Refused { .. } => false,
    }
}

/// The next version to give: the second it is, or one more than the last. So it is never given twice, and
/// is newer than what another gateway gave the device before; the device's own word comes on top.
pub(super) fn given(newest: u32, now_s: i64) -> Option<u32> {
    let least = newest.checked_add(1)?;
    let now = u32::try_from(now_s).unwrap_or_default();
    Some(least.max(now))
}

fn count(store: &Store) -> Result<usize, StoreError> {
    let mut devices = 0;
    settings::each_wanted(store, |_| {
        devices += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(devices)
}
