//! What the gateway tells a device: settings and time. Ranges live here and nowhere else.

use crate::units::{
    CentiCelsius, Lux, MilliG, MillimetresPerSecond, Milliseconds, Percent, Seconds, TiltDegrees,
    UptimeMs, UtcMs,
};

/// The whole of a device's settings. They are always sent, checked, stored and reported whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Rises with every change; the device reports the version in force.
    pub version: u32,
    /// Sampling interval while moving.
    pub sample_moving: Seconds,
    /// Sampling interval at rest.
    pub sample_resting: Seconds,
    /// Sampling interval near or beyond a limit.
    pub sample_near_limit: Seconds,
    /// How long routine readings may wait for a full batch.
    pub publish_interval: Seconds,
    /// Most readings in one routine batch.
    pub batch_readings: u8,
    /// Alarm above this temperature, on any probe.
    pub temperature_above: Option<CentiCelsius>,
    /// Alarm below this temperature, on any probe.
    pub temperature_below: Option<CentiCelsius>,
    /// Distance to a temperature limit that counts as near.
    pub temperature_margin: CentiCelsius,
    /// Smallest peak of a shock.
    pub shock_peak: MilliG,
    /// Smallest velocity change of a shock.
    pub shock_delta_v: MillimetresPerSecond,
    /// Or smallest duration of a shock.
    pub shock_duration: Milliseconds,
    /// Alarm at or below this charge.
    pub battery_low: Percent,
    /// Alarm above this illuminance.
    pub light_above: Option<Lux>,
    /// Alarm above this angle from upright.
    pub tilt_above: Option<TiltDegrees>,
}

impl Settings {
    /// What a device uses until it is told otherwise.
    pub const DEFAULT: Self = Self {
        version: 0,
        sample_moving: Seconds::saturating(60),
        sample_resting: Seconds::saturating(300),
        sample_near_limit: Seconds::saturating(60),
        publish_interval: Seconds::saturating(300),
        batch_readings: 20,
        temperature_above: Some(CentiCelsius::saturating(800)),
        temperature_below: Some(CentiCelsius::saturating(-50)),
        temperature_margin: CentiCelsius::saturating(100),
        shock_peak: MilliG::saturating(25_000),
        shock_delta_v: MillimetresPerSecond::saturating(1_000),
        shock_duration: Milliseconds::saturating(20),
        battery_low: Percent::saturating(15),
        light_above: None,
        tilt_above: None,
    };
}

/// One field of [`Settings`], for errors and documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are those of the fields of Settings")]
pub enum SettingsField {
    Version,
    SampleMoving,
    SampleResting,
    SampleNearLimit,
    PublishInterval,
    BatchReadings,
    TemperatureAbove,
    TemperatureBelow,
    TemperatureMargin,
    ShockPeak,
    ShockDeltaV,
    ShockDuration,
    BatteryLow,
    LightAbove,
    TiltAbove,
}

/// Why settings are refused, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingsRefusal {
    /// A value outside its range.
    OutOfRange {
        /// The field.
        field: SettingsField,
        /// Its raw value.
        value: i64,
        /// Smallest allowed raw value.
        min: i64,
        /// Largest allowed raw value.
        max: i64,
    },
    /// Lower temperature limit at or above the upper one.
    LimitsCrossed,
    /// Not newer than the settings in force.
    Stale {
        /// Version in force.
        in_force: u32,
    },
    /// The payload could not be decoded.
    Undecodable,
    /// The device could not store them.
    NotStored,
}

/// A device asks for the time. Never queued: an old answer is worse than none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRequest {
    /// Random; the reply repeats it.
    pub nonce: u64,
    /// Device clock when asked.
    pub uptime: UptimeMs,
}

/// The gateway answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeReply {
    /// Nonce of the request.
    pub nonce: u64,
    /// Gateway's time when it answered.
    pub utc: UtcMs,
    /// How far the gateway's clock may be off.
    pub uncertainty: Milliseconds,
}
