//! What a device says about its connection: birth, last will, and its answer to settings.

use crate::downlink::SettingsRefusal;
use crate::key::{Boot, Epoch};
use crate::record::ResetCause;

/// Longest hardware name in a birth message, in bytes: a part number fits.
pub const HARDWARE_MAX_BYTES: usize = 32;

/// A device's presence, on its `status` topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// First message of a connection.
    Birth(Birth),
    /// Orderly goodbye.
    Offline,
    /// Last will: the broker says it for the device.
    Lost,
}

/// Who is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Birth {
    /// Firmware version: major, minor, patch.
    pub version: [u8; 3],
    /// Board name.
    pub hardware: heapless::String<HARDWARE_MAX_BYTES>,
    /// Counters in use.
    pub epoch: Epoch,
    /// Counters in use.
    pub boot: Boot,
    /// Why the device started.
    pub cause: ResetCause,
    /// Version of the settings in force.
    pub settings_version: u32,
    /// Records waiting in the device's queues.
    pub pending: u32,
}

/// A device's answer to settings, on its `ack` topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingsAck {
    /// Version answered.
    pub version: u32,
    /// Accepted, or refused whole.
    pub outcome: Result<(), SettingsRefusal>,
}
