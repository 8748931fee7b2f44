//! What a limit can be about: one number of a reading, in the resolution of the wire.

use std::fmt;

use protocol::reading::{Door, Reading, TEMPERATURE_PROBES_MAX};
use protocol::record::{Alarm, AlarmKind};
use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::event::Side;

/// A quantity that a profile may put limits to.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Temperature of a probe, in degrees Celsius.
    #[default]
    Temperature,
    /// Relative humidity, in percent.
    Humidity,
    /// Angle from upright, in degrees.
    Tilt,
    /// Illuminance inside the load, in lux.
    Light,
    /// A door: 1 while it is open, else 0.
    Door,
}

impl Quantity {
    /// All of them, in the order of a profile's limits.
    pub const ALL: [Self; 5] = [
        Self::Temperature,
        Self::Humidity,
        Self::Tilt,
        Self::Light,
        Self::Door,
    ];

    /// As plans and rules name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Humidity => "humidity",
            Self::Tilt => "tilt",
            Self::Light => "light",
            Self::Door => "door",
        }
    }

    /// Its unit, for people.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Temperature => "°C",
            Self::Humidity => "%",
            Self::Tilt => "°",
            Self::Light => "lx",
            Self::Door => "",
        }
    }

    /// The code of an episode beyond a limit.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Temperature => Code::Temperature,
            Self::Humidity => Code::Humidity,
            Self::Tilt => Code::Tilt,
            Self::Light => Code::Light,
            Self::Door => Code::DoorOpen,
        }
    }

    /// Steps of the wire in one unit.
    #[must_use]
    pub const fn per_unit(self) -> i32 {
        match self {
            Self::Temperature => 100,
            Self::Humidity => 10,
            Self::Tilt | Self::Light | Self::Door => 1,
        }
    }

    /// How much worse an open episode must become to be told again, in steps of the wire. Half a kelvin,
    /// five percent, fifteen degrees, five hundred lux; a door cannot be more open than open.
    pub(crate) const fn worsening_step(self) -> i32 {
        match self {
            Self::Temperature | Self::Humidity => 50,
            Self::Tilt => 15,
            Self::Light => 500,
            Self::Door => i32::MAX,
        }
    }

    /// Whether it is temperature, which stored events need not name.
    pub(crate) fn is_temperature(&self) -> bool {
        *self == Self::Temperature
    }

    /// Whether it changes slowly: then a sensor takes on the state of the goods only some time after it was
    /// attached, and one reading says what the next one will be like.
    #[must_use]
    pub const fn is_slow(self) -> bool {
        matches!(self, Self::Temperature | Self::Humidity)
    }

    /// The sensors of it that a tracker may have.
    pub(crate) fn probes(self) -> impl Iterator<Item = u8> {
        let most = match self {
            Self::Temperature => TEMPERATURE_PROBES_MAX,
            _ => 1,
        };
        (0..).take(most)
    }

    /// What `reading` says of it at `probe`, in steps of the wire.
    pub(crate) fn measured(self, reading: &Reading, probe: u8) -> Option<i32> {
        if self != Self::Temperature && probe != 0 {
            return None;
        }
        match self {
            Self::Temperature => {
                let measured = reading.temperatures.get(usize::from(probe))?;
                measured.value().map(|celsius| i32::from(celsius.get()))
            }
            Self::Humidity => reading.humidity.value().map(|share| i32::from(share.get())),
            Self::Tilt => reading.tilt.value().map(|angle| i32::from(angle.get())),
            Self::Light => {
                let lux = reading.light.value()?;
                Some(i32::try_from(lux.get()).unwrap_or(i32::MAX))
            }
            Self::Door => reading
                .door
                .value()
                .map(|door| i32::from(door == Door::Open)),
        }
    }

    /// `value` in units from steps of the wire.
    pub(crate) fn in_units(self, steps: i32) -> f64 {
        f64::from(steps) / f64::from(self.per_unit())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an alarm record claims: a quantity has been beyond a limit of the device for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) quantity: Quantity,
    pub(crate) probe: u8,
    pub(crate) side: Side,
    /// The device's limit, in steps of the wire.
    pub(crate) limit: i32,
    /// The most extreme value, in steps of the wire.
    pub(crate) extreme: i32,
}

impl Claim {
    /// What `alarm` claims about a quantity; `None` when it is about something else.
    pub(crate) const fn of(alarm: &Alarm) -> Option<Self> {
        use Side::{Above, Below};
        let (quantity, probe, side) = match alarm.kind {
            AlarmKind::TemperatureAbove(probe) => (Quantity::Temperature, probe, Above),
            AlarmKind::TemperatureBelow(probe) => (Quantity::Temperature, probe, Below),
            AlarmKind::HumidityAbove => (Quantity::Humidity, 0, Above),
            AlarmKind::HumidityBelow => (Quantity::Humidity, 0, Below),
            AlarmKind::Tilt => (Quantity::Tilt, 0, Above),
            AlarmKind::Light => (Quantity::Light, 0, Above),
            AlarmKind::Door => (Quantity::Door, 0, Above),
            AlarmKind::Shock
            | AlarmKind::FreeFall
            | AlarmKind::Battery
            | AlarmKind::SensorFault => return None,
        };
        // An alarm about a door has neither limit nor extreme: it is open.
        let (limit, extreme) = match quantity {
            Quantity::Door => (0, 1),
            _ => (alarm.limit, alarm.extreme),
        };
        Some(Self {
            quantity,
            probe,
            side,
            limit,
            extreme,
        })
    }
}

#[cfg(test)]
mod tests {
    use protocol::reading::Measured;
    use protocol::units::{DeciPercent, Lux, TiltDegrees, UptimeMs};

    use super::*;

    #[test]
    fn every_quantity_is_read_from_its_place_in_a_reading() {
        let mut reading = Reading::empty(UptimeMs::saturating(0));
        for quantity in Quantity::ALL {
            assert_eq!(quantity.measured(&reading, 0), None, "{quantity}");
        }
        reading.temperatures[2] =
            Measured::Value(protocol::units::CentiCelsius::saturating(-1_850));
        reading.humidity = Measured::Value(DeciPercent::saturating(655));
        reading.tilt = Measured::Value(TiltDegrees::saturating(45));
        reading.light = Measured::Value(Lux::saturating(120_000));
        reading.door = Measured::Value(Door::Open);
        assert_eq!(Quantity::Temperature.measured(&reading, 2), Some(-1_850));
        assert_eq!(Quantity::Temperature.measured(&reading, 0), None);
        let others = Quantity::ALL.map(|quantity| quantity.measured(&reading, 0));
        assert_eq!(others, [None, Some(655), Some(45), Some(120_000), Some(1)]);
        assert_eq!(Quantity::Humidity.measured(&reading, 1), None);
        assert!((Quantity::Temperature.in_units(-1_850) + 18.5).abs() < 1e-9);
    }
}
