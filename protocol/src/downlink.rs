//! What the gateway tells a device: settings and time. Ranges live here and nowhere else.

use crate::batch::RECORDS_MAX;
use crate::units::{
    CentiCelsius, Lux, MilliG, MillimetresPerSecond, Milliseconds, Percent, Seconds, TiltDegrees,
    Unit, UptimeMs, UtcMs,
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

impl SettingsField {
    /// Every field, in the order of their wire codes.
    pub const ALL: [Self; 15] = [
        Self::Version,
        Self::SampleMoving,
        Self::SampleResting,
        Self::SampleNearLimit,
        Self::PublishInterval,
        Self::BatchReadings,
        Self::TemperatureAbove,
        Self::TemperatureBelow,
        Self::TemperatureMargin,
        Self::ShockPeak,
        Self::ShockDeltaV,
        Self::ShockDuration,
        Self::BatteryLow,
        Self::LightAbove,
        Self::TiltAbove,
    ];

    /// Name, unit and range of this field.
    #[must_use]
    pub const fn range(self) -> &'static SettingsRange {
        &SETTINGS_RANGES[self as usize]
    }
}

/// Name, unit, range and default of one field of [`Settings`]: for checks and for documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingsRange {
    /// The field.
    pub field: SettingsField,
    /// Its name, as in [`Settings`].
    pub name: &'static str,
    /// Unit in which people write it.
    pub unit: &'static str,
    /// Decimal places of the raw value in that unit: 2 means hundredths.
    pub decimals: u8,
    /// Raw value a device starts with; `None` for an optional limit that is off.
    pub default: Option<i64>,
    /// Smallest allowed raw value.
    pub min: i64,
    /// Largest allowed raw value.
    pub max: i64,
    /// Whether the field may be off.
    pub optional: bool,
    /// Why these bounds.
    pub reason: &'static str,
}

const fn range(
    field: SettingsField,
    (name, unit): (&'static str, &'static str),
    default: i64,
    (min, max): (i64, i64),
    reason: &'static str,
) -> SettingsRange {
    SettingsRange {
        field,
        name,
        unit,
        decimals: 0,
        default: Some(default),
        min,
        max,
        optional: false,
        reason,
    }
}

const fn scaled(decimals: u8, range: SettingsRange) -> SettingsRange {
    SettingsRange { decimals, ..range }
}

const fn optional(range: SettingsRange) -> SettingsRange {
    SettingsRange {
        optional: true,
        ..range
    }
}

const fn off(range: SettingsRange) -> SettingsRange {
    SettingsRange {
        default: None,
        optional: true,
        ..range
    }
}

/// The table of settings, in the order of [`SettingsField::ALL`].
pub const SETTINGS_RANGES: [SettingsRange; 15] = {
    use SettingsField as F;
    [
        range(
            F::Version,
            ("version", "count"),
            0,
            (0, 4_294_967_295),
            "rises with every change",
        ),
        range(
            F::SampleMoving,
            ("sample_moving", "s"),
            60,
            (5, 3_600),
            "a fix takes seconds; an hour hides a stop",
        ),
        range(
            F::SampleResting,
            ("sample_resting", "s"),
            300,
            (5, 86_400),
            "at least one sample a day",
        ),
        range(
            F::SampleNearLimit,
            ("sample_near_limit", "s"),
            60,
            (5, 3_600),
            "an excursion is judged within hours",
        ),
        range(
            F::PublishInterval,
            ("publish_interval", "s"),
            300,
            (0, 86_400),
            "at least one batch a day",
        ),
        range(
            F::BatchReadings,
            ("batch_readings", "readings"),
            20,
            (1, RECORDS_MAX as i64),
            "what one batch may hold",
        ),
        scaled(
            2,
            optional(range(
                F::TemperatureAbove,
                ("temperature_above", "C"),
                800,
                (-20_000, 15_000),
                "dry shippers to heated goods",
            )),
        ),
        scaled(
            2,
            optional(range(
                F::TemperatureBelow,
                ("temperature_below", "C"),
                -50,
                (-20_000, 15_000),
                "dry shippers to heated goods",
            )),
        ),
        scaled(
            2,
            range(
                F::TemperatureMargin,
                ("temperature_margin", "C"),
                100,
                (0, 2_000),
                "more than 20 C away is not near",
            ),
        ),
        scaled(
            3,
            range(
                F::ShockPeak,
                ("shock_peak", "g"),
                25_000,
                (500, 400_000),
                "road ripple to the largest sensors",
            ),
        ),
        range(
            F::ShockDeltaV,
            ("shock_delta_v", "mm/s"),
            1_000,
            (0, 50_000),
            "a fall of 127 m",
        ),
        range(
            F::ShockDuration,
            ("shock_duration", "ms"),
            20,
            (0, 10_000),
            "longer is motion, not impact",
        ),
        range(
            F::BatteryLow,
            ("battery_low", "%"),
            15,
            (0, 90),
            "above that it would always be low",
        ),
        off(range(
            F::LightAbove,
            ("light_above", "lx"),
            0,
            (1, 200_000),
            "direct sunlight is 120,000 lx",
        )),
        off(range(
            F::TiltAbove,
            ("tilt_above", "degrees"),
            0,
            (1, 179),
            "0 is upright, 180 upside down",
        )),
    ]
};

impl Settings {
    /// The raw value of a field; `None` when an optional limit is off.
    #[must_use]
    pub fn raw(&self, field: SettingsField) -> Option<i64> {
        use SettingsField as F;
        match field {
            F::Version => Some(i64::from(self.version)),
            F::SampleMoving => Some(self.sample_moving.raw()),
            F::SampleResting => Some(self.sample_resting.raw()),
            F::SampleNearLimit => Some(self.sample_near_limit.raw()),
            F::PublishInterval => Some(self.publish_interval.raw()),
            F::BatchReadings => Some(i64::from(self.batch_readings)),
            F::TemperatureAbove => self.temperature_above.map(Unit::raw),
            F::TemperatureBelow => self.temperature_below.map(Unit::raw),
            F::TemperatureMargin => Some(self.temperature_margin.raw()),
            F::ShockPeak => Some(self.shock_peak.raw()),
            F::ShockDeltaV => Some(self.shock_delta_v.raw()),
            F::ShockDuration => Some(self.shock_duration.raw()),
            F::BatteryLow => Some(self.battery_low.raw()),
            F::LightAbove => self.light_above.map(Unit::raw),
            F::TiltAbove => self.tilt_above.map(Unit::raw),
        }
    }

    /// Checks every field against its range, and the temperature limits against each other.
    /// Whether `version` is newer than what is in force is for the device to say.
    ///
    /// # Errors
    /// The first field outside its range, in the order of the table; then crossed limits.
    pub fn validate(&self) -> Result<(), SettingsRefusal> {
        for SettingsRange {
            field, min, max, ..
        } in SETTINGS_RANGES
        {
            if let Some(value) = self.raw(field).filter(|value| !(min..=max).contains(value)) {
                return Err(SettingsRefusal::OutOfRange {
                    field,
                    value,
                    min,
                    max,
                });
            }
        }
        match (self.temperature_below, self.temperature_above) {
            (Some(below), Some(above)) if below >= above => Err(SettingsRefusal::LimitsCrossed),
            _ => Ok(()),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_fields_and_its_defaults_are_those_of_a_device() {
        for (range, field) in SETTINGS_RANGES.iter().zip(SettingsField::ALL) {
            assert_eq!(range.field, field);
            assert_eq!(
                range.default,
                Settings::DEFAULT.raw(field),
                "{}",
                range.name
            );
            assert!(range.default.is_some() || range.optional, "{}", range.name);
        }
        assert_eq!(Settings::DEFAULT.validate(), Ok(()));
    }

    #[test]
    fn a_value_outside_its_range_is_refused_with_the_range() {
        let settings = Settings {
            sample_moving: Seconds::saturating(4),
            ..Settings::DEFAULT
        };
        let refusal = SettingsRefusal::OutOfRange {
            field: SettingsField::SampleMoving,
            value: 4,
            min: 5,
            max: 3_600,
        };
        assert_eq!(settings.validate(), Err(refusal));
    }

    #[test]
    fn crossed_temperature_limits_are_refused() {
        let limit = Some(CentiCelsius::saturating(200));
        let settings = Settings {
            temperature_above: limit,
            temperature_below: limit,
            ..Settings::DEFAULT
        };
        assert_eq!(settings.validate(), Err(SettingsRefusal::LimitsCrossed));
    }
}
