//! One sample of everything a tracker can measure.
//!
//! Each value is present or missing *with a reason*: a receiver must be able to tell "no sensor" from
//! "sensor broken" from "no fix indoors", because only the first is harmless.

use crate::units::{
    CentiCelsius, CourseDegrees, Dbm, DeciPercent, Decimetres, DecimetresPerSecond, Latitude,
    Longitude, Lux, Millivolts, Percent, Seconds, TiltDegrees, UptimeMs,
};

/// Most temperature probes on one tracker.
pub const TEMPERATURE_PROBES_MAX: usize = 4;

/// Why a value is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Missing {
    /// The tracker has no such sensor.
    NotFitted,
    /// Fitted, but not measured for this sample (power plan, warming up).
    NotSampled,
    /// The receiver works and has no fix: indoors, tunnel, cold start.
    NoFix,
    /// The sensor did not answer or answered wrongly.
    SensorFault,
    /// The sensor answered with a value outside its physical range.
    OutOfRange,
}

/// A value, or the reason for its absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measured<T> {
    /// The measured value.
    Value(T),
    /// Not there, and why.
    Missing(Missing),
}

impl<T> Measured<T> {
    /// The value, if there is one.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Missing(_) => None,
        }
    }

    /// The value by reference, if there is one.
    pub const fn as_ref(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Missing(_) => None,
        }
    }
}

/// How the receiver came to its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FixQuality {
    /// Two-dimensional fix.
    Gnss2d,
    /// Three-dimensional fix.
    Gnss3d,
    /// Corrected by a reference (SBAS, DGNSS).
    Differential,
    /// Carrier phase (RTK fixed or float).
    Rtk,
    /// Estimated by the receiver without satellites.
    DeadReckoning,
}

/// Where, how well known, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Latitude.
    pub latitude: Latitude,
    /// Longitude.
    pub longitude: Longitude,
    /// Radius that holds the true position with 95 % confidence.
    pub accuracy: Decimetres,
    /// Speed over ground.
    pub speed: DecimetresPerSecond,
    /// Course over ground; missing (`NotSampled`) at rest, where it has no meaning.
    pub course: Measured<CourseDegrees>,
    /// Kind of fix.
    pub quality: FixQuality,
    /// Satellites used.
    pub satellites: u8,
    /// Age of the fix when the sample was taken.
    pub age: Seconds,
}

/// State of the energy store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Battery {
    /// Terminal voltage.
    pub voltage: Millivolts,
    /// Estimated charge.
    pub charge: Percent,
}

/// State of a door contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Door {
    /// Closed.
    Closed,
    /// Open.
    Open,
}

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reading {
    /// When, on the device's own clock.
    pub uptime: UptimeMs,
    /// Where.
    pub position: Measured<Position>,
    /// Temperature by probe.
    pub temperatures: [Measured<CentiCelsius>; TEMPERATURE_PROBES_MAX],
    /// Relative humidity.
    pub humidity: Measured<DeciPercent>,
    /// Battery.
    pub battery: Measured<Battery>,
    /// Angle from upright.
    pub tilt: Measured<TiltDegrees>,
    /// Light.
    pub light: Measured<Lux>,
    /// Door contact.
    pub door: Measured<Door>,
    /// Received power of the serving cell or access point.
    pub radio: Measured<Dbm>,
}

impl Reading {
    /// A sample of a tracker without any sensor, to be filled in.
    #[must_use]
    pub const fn empty(uptime: UptimeMs) -> Self {
        Self {
            uptime,
            position: Measured::Missing(Missing::NotFitted),
            temperatures: [Measured::Missing(Missing::NotFitted); TEMPERATURE_PROBES_MAX],
            humidity: Measured::Missing(Missing::NotFitted),
            battery: Measured::Missing(Missing::NotFitted),
            tilt: Measured::Missing(Missing::NotFitted),
            light: Measured::Missing(Missing::NotFitted),
            door: Measured::Missing(Missing::NotFitted),
            radio: Measured::Missing(Missing::NotFitted),
        }
    }
}
