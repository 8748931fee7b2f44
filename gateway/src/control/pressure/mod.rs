//! Space that runs out: trackers are asked to send less for a while, and get their settings back.
//!
//! A look every second. When pressure begins, devices are gone through, some at each look: what each of
//! them is asked to have meanwhile is stored beside what people want, durable, and then told to its connection.
//! The devices answer as they answer people, and nothing is sent twice. When people change settings meanwhile,
//! theirs go out, and the slower ones follow. When pressure ends, every device gets back what people want of
//! it, or what it had. Nothing is dropped, and a restart goes on where the last look stopped.

mod ceiling;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use protocol::downlink::Settings;
use protocol::key::DeviceId;
use protocol::units::UtcMs;

use super::audit::Acting;
use super::desk::{Desk, fact};
use super::row::Row;
use super::sample::text;
use super::settings::given;
use crate::clock::wall_utc;
use crate::store::pressure::{self, Pressed, Slowed};
use crate::store::settings::{self, Known, Wanted};
use crate::store::space::Shortage;
use crate::store::{Batch, Store, StoreError, device};

pub use ceiling::Ceilings;

/// Most devices looked at in one look, each with some ten rows: milliseconds. A fleet of 10,000 is gone
/// through in 40 looks.
const LOOK_MAX_DEVICES: usize = 256;

/// Looks at the space that is left, again and again.
#[derive(Debug)]
pub struct Lookout {
    ceilings: Ceilings,
    /// The last device looked at; `None` begins anew.
    last: Option<DeviceId>,
}

impl Lookout {
    /// One that goes on where the last gateway stopped.
    #[must_use]
    pub const fn new(ceilings: Ceilings) -> Self {
        Self {
            ceilings,
            last: None,
        }
    }

    /// The devices of this look, and whether they are all that there are.
    fn next(&mut self, store: &Store, ending: bool) -> Result<(Vec<DeviceId>, bool), StoreError> {
        let mut devices = Vec::new();
        let take = |device| {
            devices.push(device);
            Ok(if devices.len() == LOOK_MAX_DEVICES {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        };
        let whole = self.last.is_none();
        if ending {
            pressure::each_slowed(store, self.last.as_ref(), take)?;
        } else {
            device::each_after(store, self.last.as_ref(), take)?;
        }
        let more = devices.len() == LOOK_MAX_DEVICES;
        self.last = devices.last().filter(|_| more).cloned();
        Ok((devices, whole && !more))
    }
}

/// Settings under way to devices: written together, and told when they are durable.
#[derive(Default)]
struct Changes {
    batch: Batch,
    /// Newest version given out to any device.
    newest_given: u32,
    told: Vec<DeviceId>,
}

impl Desk {
    /// One look at the space that is left, and at some of the devices.
    ///
    /// # Errors
    /// When the store fails.
    pub fn look_at_space(&self, lookout: &mut Lookout) -> Result<(), StoreError> {
        let pressed = pressure::pressed(&self.store)?;
        let active = pressed.is_some_and(|pressed| !pressed.ending);
        let shortage = self.store.pressure(active);
        if !self.store.room().may_write() {
            return Ok(());
        }
        self.look(lookout, shortage)
    }

    /// One look that found `shortage`.
    fn look(&self, lookout: &mut Lookout, shortage: Option<Shortage>) -> Result<(), StoreError> {
        let _turn = self.turn();
        let before = pressure::pressed(&self.store)?;
        let active = before.as_ref().is_some_and(|pressed| !pressed.ending);
        if before.is_none() && shortage.is_none() {
            return Ok(());
        }
        let mut changes = Changes {
            newest_given: settings::newest_given(&self.store)?,
            ..Changes::default()
        };
        let mut pressed = before.clone().unwrap_or_default();
        if active == shortage.is_none() {
            let why = shortage.map(|shortage| shortage.to_string());
            self.turn_over(&mut pressed, why, &mut changes.batch)?;
            lookout.last = None;
        }
        let (devices, all) = lookout.next(&self.store, pressed.ending)?;
        let over = pressed.ending && all && devices.is_empty();
        for device in devices {
            let known = match Known::load(&self.store, &device) {
                // A row that cannot be read is named by `settings show`; the device stays as it is.
                Err(StoreError::Row { .. }) => continue,
                known => known?,
            };
            if pressed.ending {
                changes.restore(&mut pressed, &device, &known)?;
            } else {
                changes.slow(&mut pressed, &lookout.ceilings, &device, &known)?;
            }
        }
        let after = (!over).then_some(pressed);
        if after != before {
            pressure::put_pressed(&mut changes.batch, after.as_ref())?;
        }
        self.carry_out(changes)
    }

    /// Pressure begins, for a reason, or is over.
    fn turn_over(
        &self,
        pressed: &mut Pressed,
        why: Option<String>,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let (what, detail, result) = match why {
            Some(why) => {
                tracing::warn!(
                    "space runs out, trackers are asked to sample and report more slowly: {why}"
                );
                *pressed = Pressed {
                    since_ms: wall_utc().get(),
                    why: why.clone(),
                    ending: false,
                    ..*pressed
                };
                ("pressure begins", why, "trackers are asked to send less")
            }
            None => {
                tracing::warn!(
                    devices = pressed.devices,
                    "there is space again: trackers get their settings back"
                );
                pressed.ending = true;
                let devices = format!("{} devices", pressed.devices);
                ("pressure ends", devices, "trackers get their settings back")
            }
        };
        Acting::by_gateway(what, detail).note(&self.store, batch, result)?;
        Ok(())
    }

    /// Durable first, then told.
    fn carry_out(&self, changes: Changes) -> Result<(), StoreError> {
        if changes.batch.is_empty() {
            return Ok(());
        }
        self.store.apply(changes.batch)?;
        self.store.barrier()?;
        if let Some(running) = &self.running {
            for device in &changes.told {
                // One that is away is told when it comes.
                let _ = running.endpoint.settings_changed(device);
            }
        }
        Ok(())
    }
}

impl Changes {
    /// Asks a device for less, if it can send less and is not asked already.
    fn slow(
        &mut self,
        pressed: &mut Pressed,
        ceilings: &Ceilings,
        device: &DeviceId,
        known: &Known,
    ) -> Result<(), StoreError> {
        // What it has is known from its own record, which comes before its first reading.
        let Some(base) = known.base() else {
            return Ok(());
        };
        let slower = ceilings.slower(device, base);
        let is_due = match known.slowed {
            None => slower != base,
            Some(slowed) => {
                let newest = known.asked() == Some(slowed.settings);
                slowed.restoring || !newest || !alike(&slowed.settings, &slower)
            }
        };
        if !is_due {
            return Ok(());
        }
        let Some(version) = self.version(known) else {
            return Ok(());
        };
        let slowed = Slowed {
            settings: Settings { version, ..slower },
            base,
            restoring: false,
        };
        pressed.devices += u64::from(known.slowed.is_none());
        self.put(device, &slowed)
    }

    /// Gives a device back what people want of it, or what it had.
    fn restore(
        &mut self,
        pressed: &mut Pressed,
        device: &DeviceId,
        known: &Known,
    ) -> Result<(), StoreError> {
        let Some(slowed) = known.slowed else {
            return Ok(());
        };
        let version = slowed.settings.version;
        let set_since = known.wanted.is_some_and(|it| it.settings.version > version);
        // As recorded by the device itself: back, or others by somebody else.
        let recorded = known.in_force.map(|it| it.settings.version);
        let is_back = recorded.is_some_and(|recorded| {
            recorded > version || (slowed.restoring && recorded == version)
        });
        if !set_since && !is_back {
            if slowed.restoring {
                return Ok(());
            }
            let Some(version) = self.version(known) else {
                return Ok(());
            };
            let Some(wanted) = known.wanted else {
                let back = Slowed {
                    settings: Settings {
                        version,
                        ..slowed.base
                    },
                    restoring: true,
                    ..slowed
                };
                return self.put(device, &back);
            };
            let again = Wanted {
                settings: Settings {
                    version,
                    ..wanted.settings
                },
                ..wanted
            };
            settings::want(&mut self.batch, device, &again, self.newest_given)?;
            self.told.push(device.clone());
        }
        pressed.devices = pressed.devices.saturating_sub(1);
        pressure::release(&mut self.batch, device);
        Ok(())
    }

    fn put(&mut self, device: &DeviceId, slowed: &Slowed) -> Result<(), StoreError> {
        self.told.push(device.clone());
        pressure::slow(&mut self.batch, device, slowed, self.newest_given)
    }

    /// A version that is newer than all that the device has; `None` when none is left.
    fn version(&mut self, known: &Known) -> Option<u32> {
        let given = given(self.newest_given, wall_utc().get() / 1_000)?;
        let newer = known.newest_version().checked_add(1)?;
        self.newest_given = given;
        Some(given.max(newer))
    }
}

/// Rows of `status` about pressure.
pub(super) fn status(store: &Store) -> Result<Vec<Row>, StoreError> {
    let Some(pressed) = pressure::pressed(store)? else {
        return Ok(vec![fact("store_pressure", false)]);
    };
    Ok(vec![
        fact("store_pressure", !pressed.ending),
        fact("store_pressure_because", pressed.why),
        fact(
            "store_pressure_since",
            text(UtcMs::saturating(pressed.since_ms)),
        ),
        fact("devices_slowed", pressed.devices),
    ])
}

/// Whether both say the same, but for their version.
fn alike(one: &Settings, other: &Settings) -> bool {
    let version = other.version;
    Settings { version, ..*one } == *other
}
