//! What a tracker is told when it is switched on.

use protocol::key::DeviceId;
use protocol::record::ResetCause;
use protocol::status::HARDWARE_MAX_BYTES;
use protocol::units::UtcMs;

/// What a tracker is told when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who it is.
    pub device: DeviceId,
    /// Board name.
    pub hardware: heapless::String<HARDWARE_MAX_BYTES>,
    /// Firmware version: major, minor, patch.
    pub version: [u8; 3],
    /// When the firmware was built: no true time is earlier.
    pub build_time: UtcMs,
    /// Why the device started.
    pub cause: ResetCause,
    /// Whether there is a satellite receiver.
    pub gnss_fitted: bool,
}
