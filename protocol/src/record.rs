//! What one sequence number may carry.
//!
//! A single sequence per boot numbers readings, alarms and the device's statements about itself
//! (boot, anchor, settings in force, loss), so that a gap in it always means something is missing.

use crate::downlink::Settings;
use crate::key::{RecordKey, Seq};
use crate::reading::Reading;
use crate::units::{MilliG, MillimetresPerSecond, Milliseconds, UptimeMs, UtcMs};

/// A record with its place in the boot's sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Place in the sequence.
    pub seq: Seq,
    /// What it says.
    pub record: Record,
}

/// One thing a device says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "readings are the common case; no allocator to box with"
)]
pub enum Record {
    /// A sample.
    Reading(Reading),
    /// A condition beyond its limit.
    Alarm(Alarm),
    /// The device started.
    Boot(BootRecord),
    /// The device learned the time.
    Anchor(Anchor),
    /// Settings came into force.
    Settings(SettingsRecord),
    /// Records are gone, and why.
    Loss(Loss),
}

impl Record {
    /// When the device said it, on its own clock.
    #[must_use]
    pub const fn uptime(&self) -> UptimeMs {
        match self {
            Self::Reading(reading) => reading.uptime,
            Self::Alarm(alarm) => alarm.uptime,
            Self::Boot(boot) => boot.uptime,
            Self::Anchor(anchor) => anchor.uptime,
            Self::Settings(settings) => settings.uptime,
            Self::Loss(loss) => loss.uptime,
        }
    }
}

/// What went beyond its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmKind {
    /// Temperature above the limit, by probe index.
    TemperatureAbove(u8),
    /// Temperature below the limit, by probe index.
    TemperatureBelow(u8),
    /// Humidity above the limit.
    HumidityAbove,
    /// Humidity below the limit.
    HumidityBelow,
    /// Impact.
    Shock,
    /// Free fall.
    FreeFall,
    /// Tilted beyond the limit.
    Tilt,
    /// Light where there should be none.
    Light,
    /// Door opened.
    Door,
    /// Battery low.
    Battery,
    /// A sensor failed.
    SensorFault,
}

/// A condition beyond its limit: evidence, not a verdict. The gateway's profile decides.
///
/// `limit` and `extreme` are raw integers in the unit of the kind: centi-Celsius, deci-percent,
/// milli-g, degrees, lux, percent of charge; 0 where a kind has no limit (door, sensor fault).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// When the alarm was raised.
    pub uptime: UptimeMs,
    /// What.
    pub kind: AlarmKind,
    /// The device's own limit.
    pub limit: i32,
    /// Since when the condition holds.
    pub since: UptimeMs,
    /// Most extreme value so far.
    pub extreme: i32,
    /// Occurrences aggregated into this record, at least 1.
    pub count: u32,
    /// More about an impact.
    pub shock: Option<Shock>,
}

/// An impact. Duration and velocity change are unknown in a sensor's peak-detect mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shock {
    /// Largest magnitude per axis, signed.
    pub peak: [MilliG; 3],
    /// Time above 10 % of the peak.
    pub duration: Option<Milliseconds>,
    /// Magnitude of the velocity change.
    pub delta_v: Option<MillimetresPerSecond>,
}

/// Why the device started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResetCause {
    /// Not known.
    Unknown,
    /// Power applied.
    PowerOn,
    /// Supply dipped.
    BrownOut,
    /// Watchdog expired.
    Watchdog,
    /// Software asked for it (update, settings).
    Software,
    /// A panic was caught.
    Panic,
    /// Reset pin.
    Pin,
}

/// First record of every boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootRecord {
    /// When it was written.
    pub uptime: UptimeMs,
    /// When the firmware was built: no true time can be earlier.
    pub build_time: UtcMs,
    /// Last sequence number durably used in the previous boot, if there was one.
    pub previous_last: Option<Seq>,
    /// Why the device started.
    pub cause: ResetCause,
    /// Firmware version: major, minor, patch.
    pub version: [u8; 3],
}

/// Who knew the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeSource {
    /// Satellite receiver.
    Gnss,
    /// Battery-backed clock chip.
    ClockChip,
    /// The gateway, by request and reply.
    Gateway,
}

/// A point that ties uptime to universal time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The device's clock.
    pub uptime: UptimeMs,
    /// Universal time at that moment.
    pub utc: UtcMs,
    /// Who said so.
    pub source: TimeSource,
    /// Largest error of `utc`.
    pub uncertainty: Milliseconds,
    /// Whether a 1024-week rollover of the receiver was recognised and corrected.
    pub rollover_corrected: bool,
}

/// Settings that came into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingsRecord {
    /// When.
    pub uptime: UptimeMs,
    /// The whole of them.
    pub settings: Settings,
}

/// Why records are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LossReason {
    /// The routine queue was full; the oldest readings made room.
    RoutineFull,
    /// The alarm queue was full; the oldest alarms made room.
    AlarmsFull,
    /// Storage gave them back damaged.
    Corrupt,
    /// Power was cut before they were stored.
    PowerCut,
}

/// Records that will never come. Explains only keys that are still missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// When the loss was noticed.
    pub uptime: UptimeMs,
    /// First lost key; same epoch and boot as `last`.
    pub first: RecordKey,
    /// Last lost key.
    pub last: RecordKey,
    /// Records lost within the range.
    pub count: u32,
    /// Why.
    pub reason: LossReason,
}
