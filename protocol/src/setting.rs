//! One setting at a time: replaced by its field, shown in its unit, refused in words.

use core::fmt;

use crate::downlink::{Settings, SettingsField, SettingsRefusal};
use crate::units::Unit;

impl Settings {
    /// These settings with one field replaced; `None` when its range, or being off, does not allow it.
    #[must_use]
    pub fn with(mut self, field: SettingsField, raw: Option<i64>) -> Option<Self> {
        use SettingsField as F;
        let range = field.range();
        let allowed = raw.map_or(range.optional, |raw| (range.min..=range.max).contains(&raw));
        if !allowed {
            return None;
        }
        match field {
            F::Version => self.version = u32::try_from(raw?).ok()?,
            F::SampleMoving => self.sample_moving = unit(raw)?,
            F::SampleResting => self.sample_resting = unit(raw)?,
            F::SampleNearLimit => self.sample_near_limit = unit(raw)?,
            F::PublishInterval => self.publish_interval = unit(raw)?,
            F::BatchReadings => self.batch_readings = u8::try_from(raw?).ok()?,
            F::TemperatureAbove => self.temperature_above = optional(raw)?,
            F::TemperatureBelow => self.temperature_below = optional(raw)?,
            F::TemperatureMargin => self.temperature_margin = unit(raw)?,
            F::ShockPeak => self.shock_peak = unit(raw)?,
            F::ShockDeltaV => self.shock_delta_v = unit(raw)?,
            F::ShockDuration => self.shock_duration = unit(raw)?,
            F::BatteryLow => self.battery_low = unit(raw)?,
            F::LightAbove => self.light_above = optional(raw)?,
            F::TiltAbove => self.tilt_above = optional(raw)?,
        }
        Some(self)
    }
}

fn unit<T: Unit>(raw: Option<i64>) -> Option<T> {
    T::from_raw(raw?)
}

/// The outer `None` says that the value is not allowed, the inner that the limit is off.
fn optional<T: Unit>(raw: Option<i64>) -> Option<Option<T>> {
    match raw {
        None => Some(None),
        Some(raw) => T::from_raw(raw).map(Some),
    }
}

/// A raw value of a setting, shown as people write it: `8.50 C`, `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    /// Of which setting.
    pub field: SettingsField,
    /// Its raw value; `None` when it is off.
    pub raw: Option<i64>,
}

impl Amount {
    /// The number alone, without its unit.
    #[must_use]
    pub const fn number(field: SettingsField, raw: i64) -> Number {
        Number {
            decimals: field.range().decimals,
            raw,
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.raw {
            None => f.write_str("off"),
            Some(raw) => {
                let number = Self::number(self.field, raw);
                write!(f, "{number} {}", self.field.range().unit)
            }
        }
    }
}

/// An integer shown with its last digits behind a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    decimals: u8,
    raw: i64,
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = 10_u64.pow(u32::from(self.decimals));
        let sign = if self.raw < 0 { "-" } else { "" };
        let size = self.raw.unsigned_abs();
        write!(f, "{sign}{}", size / scale)?;
        match self.decimals {
            0 => Ok(()),
            decimals => write!(f, ".{:01$}", size % scale, usize::from(decimals)),
        }
    }
}

impl fmt::Display for SettingsRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::OutOfRange {
                field,
                value,
                min,
                max,
            } => {
                let name = field.range().name;
                let number = |raw| Amount::number(field, raw);
                let raw = Some(max);
                let (value, min, max) = (number(value), number(min), Amount { field, raw });
                write!(f, "{name} {value} is outside {min} to {max}")
            }
            Self::LimitsCrossed => f.write_str("temperature_below is not below temperature_above"),
            Self::Stale { in_force } => {
                write!(
                    f,
                    "version {in_force} is in force on the device, which is not older"
                )
            }
            Self::Undecodable => f.write_str("the device could not read them"),
            Self::NotStored => f.write_str("the device could not store them"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn every_field_takes_the_ends_of_its_range_and_nothing_beyond_them() {
        for field in SettingsField::ALL {
            let range = field.range();
            for raw in [range.min, range.max] {
                let changed = Settings::DEFAULT.with(field, Some(raw)).unwrap();
                assert_eq!(changed.raw(field), Some(raw), "{}", range.name);
                let others = SettingsField::ALL.iter().filter(|other| **other != field);
                for other in others {
                    assert_eq!(changed.raw(*other), Settings::DEFAULT.raw(*other));
                }
            }
            for raw in [range.min - 1, range.max + 1] {
                assert_eq!(
                    Settings::DEFAULT.with(field, Some(raw)),
                    None,
                    "{}",
                    range.name
                );
            }
            let off = Settings::DEFAULT.with(field, None);
            assert_eq!(off.is_some(), range.optional, "{}", range.name);
            assert!(off.is_none_or(|off| off.raw(field).is_none()));
        }
    }

    #[test]
    fn an_amount_is_shown_in_its_unit_with_its_sign() {
        use SettingsField as F;
        let shown = |field, raw| Amount { field, raw }.to_string();
        assert_eq!(shown(F::TemperatureAbove, Some(850)), "8.50 C");
        assert_eq!(shown(F::TemperatureBelow, Some(-5)), "-0.05 C");
        assert_eq!(shown(F::ShockPeak, Some(25_000)), "25.000 g");
        assert_eq!(shown(F::SampleMoving, Some(60)), "60 s");
        assert_eq!(shown(F::LightAbove, None), "off");
    }

    #[test]
    fn a_refusal_names_the_setting_its_value_and_what_is_allowed() {
        let refusal = SettingsRefusal::OutOfRange {
            field: SettingsField::TemperatureMargin,
            value: 2_050,
            min: 0,
            max: 2_000,
        };
        assert_eq!(
            refusal.to_string(),
            "temperature_margin 20.50 is outside 0.00 to 20.00 C"
        );
    }
}
