//! A reading as the wire sees it: one integer per field, and one integer of states.
//!
//! ```text
//! states, three bits per slot:  0..=4 missing, by reason    7 present
//!   bit 0  position      bit 12 course         bit 24 humidity
//!   bit 3  temperature 0 bit 15 temperature 1  bit 27 tilt
//!   bit 6  battery       bit 18 temperature 2  bit 30 light
//!   bit 9  radio         bit 21 temperature 3  bit 33 door
//! ```
//!
//! The common slots stand in the low bits, so that a tracker with few sensors pays 3 bytes for all
//! its states. A course without a position has no state of its own: its bits are 0.

use crate::reading::{
    Battery, Door, FixQuality, Measured, Missing, Position, Reading, TEMPERATURE_PROBES_MAX,
};
use crate::units::{Unit, UptimeMs};
use crate::wire::{Fault, WireError, error, unit_in_range};

/// Fields of a reading in this version of the wire.
pub(crate) const READING_FIELDS: usize = 20;

pub(crate) const UPTIME: usize = 0;
pub(crate) const LATITUDE: usize = 1;
pub(crate) const LONGITUDE: usize = 2;
pub(crate) const ACCURACY: usize = 3;
pub(crate) const SPEED: usize = 4;
pub(crate) const COURSE: usize = 5;
pub(crate) const QUALITY: usize = 6;
pub(crate) const SATELLITES: usize = 7;
pub(crate) const AGE: usize = 8;
pub(crate) const TEMPERATURE: usize = 9;
pub(crate) const HUMIDITY: usize = 13;
pub(crate) const VOLTAGE: usize = 14;
pub(crate) const CHARGE: usize = 15;
pub(crate) const TILT: usize = 16;
pub(crate) const LIGHT: usize = 17;
pub(crate) const DOOR: usize = 18;
pub(crate) const RADIO: usize = 19;

/// Name of each field, and the slot of `states` that says whether it is there (uptime always is).
const FIELDS: [(&str, Option<u32>); READING_FIELDS] = [
    ("uptime", None),
    ("latitude", Some(SLOT_POSITION)),
    ("longitude", Some(SLOT_POSITION)),
    ("accuracy", Some(SLOT_POSITION)),
    ("speed", Some(SLOT_POSITION)),
    ("course", Some(SLOT_COURSE)),
    ("fix quality", Some(SLOT_POSITION)),
    ("satellites", Some(SLOT_POSITION)),
    ("fix age", Some(SLOT_POSITION)),
    ("temperature 0", Some(SLOT_TEMPERATURE[0])),
    ("temperature 1", Some(SLOT_TEMPERATURE[1])),
    ("temperature 2", Some(SLOT_TEMPERATURE[2])),
    ("temperature 3", Some(SLOT_TEMPERATURE[3])),
    ("humidity", Some(SLOT_HUMIDITY)),
    ("voltage", Some(SLOT_BATTERY)),
    ("charge", Some(SLOT_BATTERY)),
    ("tilt", Some(SLOT_TILT)),
    ("light", Some(SLOT_LIGHT)),
    ("door", Some(SLOT_DOOR)),
    ("radio", Some(SLOT_RADIO)),
];

const SLOT_POSITION: u32 = 0;
const SLOT_BATTERY: u32 = 2;
const SLOT_RADIO: u32 = 3;
const SLOT_COURSE: u32 = 4;
const SLOT_TEMPERATURE: [u32; TEMPERATURE_PROBES_MAX] = [1, 5, 6, 7];
const SLOT_HUMIDITY: u32 = 8;
const SLOT_TILT: u32 = 9;
const SLOT_LIGHT: u32 = 10;
const SLOT_DOOR: u32 = 11;
const SLOTS: u32 = 12;

/// State of a slot whose value is present.
const PRESENT: u64 = 7;

/// Reasons in the order of their wire codes.
const MISSING: [Missing; 5] = [
    Missing::NotFitted,
    Missing::NotSampled,
    Missing::NoFix,
    Missing::SensorFault,
    Missing::OutOfRange,
];

/// Qualities in the order of their wire codes.
const QUALITIES: [FixQuality; 5] = [
    FixQuality::Gnss2d,
    FixQuality::Gnss3d,
    FixQuality::Differential,
    FixQuality::Rtk,
    FixQuality::DeadReckoning,
];

/// Door states in the order of their wire codes.
const DOORS: [Door; 2] = [Door::Closed, Door::Open];

/// Which values of a reading are present, and why the others are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct States(u64);

impl States {
    /// No sensor at all.
    pub(crate) const NONE: Self = Self(0);

    /// Bits of the integer.
    pub(crate) const BITS: u32 = 3 * SLOTS;

    /// Largest possible integer: every value present.
    pub(crate) const MAX: i64 = (1 << Self::BITS) - 1;

    /// The states of `raw`, read at `offset`.
    pub(crate) fn parse(raw: i64, offset: usize) -> Result<Self, WireError> {
        let wrong = |got, max| error("states", offset, Fault::Range { got, min: 0, max });
        let states = u64::try_from(raw)
            .map(Self)
            .map_err(|_| wrong(i128::from(raw), Self::MAX))?;
        for slot in 0..SLOTS {
            let digit = states.digit(slot);
            if digit >= MISSING.len() as u64 && digit != PRESENT {
                return Err(wrong(i128::from(digit), MISSING.len() as i64 - 1));
            }
        }
        let orphan = states.digit(SLOT_POSITION) != PRESENT && states.digit(SLOT_COURSE) != 0;
        if orphan || raw > Self::MAX {
            return Err(wrong(i128::from(raw), Self::MAX));
        }
        Ok(states)
    }

    /// The integer on the wire.
    pub(crate) fn raw(self) -> u64 {
        self.0
    }

    /// Whether the field has a value.
    pub(crate) fn has(self, field: usize) -> bool {
        FIELDS[field]
            .1
            .is_none_or(|slot| self.digit(slot) == PRESENT)
    }

    fn digit(self, slot: u32) -> u64 {
        (self.0 >> (3 * slot)) & 7
    }

    fn set<T>(&mut self, slot: u32, measured: &Measured<T>) {
        let digit = match measured {
            Measured::Value(_) => PRESENT,
            Measured::Missing(reason) => *reason as u64,
        };
        self.0 |= digit << (3 * slot);
    }

    /// The value `read` makes, or the reason it is not there.
    fn measured<T>(
        self,
        slot: u32,
        read: impl FnOnce() -> Result<T, WireError>,
    ) -> Result<Measured<T>, WireError> {
        let digit = self.digit(slot);
        match MISSING.get(usize::try_from(digit).unwrap_or(usize::MAX)) {
            Some(reason) => Ok(Measured::Missing(*reason)),
            None => read().map(Measured::Value),
        }
    }
}

/// A reading as integers. A missing value's integer is 0 here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) states: States,
    pub(crate) values: [i64; READING_FIELDS],
}

impl Row {
    /// Nothing measured, at uptime 0.
    pub(crate) const ZERO: Self = Self {
        states: States::NONE,
        values: [0; READING_FIELDS],
    };

    /// The integers of `reading`.
    pub(crate) fn of(reading: &Reading) -> Self {
        let mut row = Self::ZERO;
        row.values[UPTIME] = reading.uptime.raw();
        row.states.set(SLOT_POSITION, &reading.position);
        if let Measured::Value(position) = &reading.position {
            row.set_position(position);
        }
        for (probe, slot) in SLOT_TEMPERATURE.into_iter().enumerate() {
            row.set(TEMPERATURE + probe, slot, reading.temperatures[probe]);
        }
        row.set(HUMIDITY, SLOT_HUMIDITY, reading.humidity);
        row.states.set(SLOT_BATTERY, &reading.battery);
        if let Measured::Value(battery) = reading.battery {
            row.values[VOLTAGE] = battery.voltage.raw();
            row.values[CHARGE] = battery.charge.raw();
        }
        row.set(TILT, SLOT_TILT, reading.tilt);
        row.set(LIGHT, SLOT_LIGHT, reading.light);
        row.states.set(SLOT_DOOR, &reading.door);
        row.values[DOOR] = reading.door.value().map_or(0, |door| door as i64);
        row.set(RADIO, SLOT_RADIO, reading.radio);
        row
    }

    /// The reading of these integers, read from the entry at `offset`.
    pub(crate) fn reading(&self, offset: usize) -> Result<Reading, WireError> {
        let states = self.states;
        let mut temperatures = [Measured::Missing(Missing::NotFitted); TEMPERATURE_PROBES_MAX];
        for (probe, slot) in SLOT_TEMPERATURE.into_iter().enumerate() {
            temperatures[probe] = self.measured(TEMPERATURE + probe, slot, offset)?;
        }
        Ok(Reading {
            uptime: self.unit::<UptimeMs>(UPTIME, offset)?,
            position: states.measured(SLOT_POSITION, || self.position(offset))?,
            temperatures,
            humidity: self.measured(HUMIDITY, SLOT_HUMIDITY, offset)?,
            battery: states.measured(SLOT_BATTERY, || self.battery(offset))?,
            tilt: self.measured(TILT, SLOT_TILT, offset)?,
            light: self.measured(LIGHT, SLOT_LIGHT, offset)?,
            door: states.measured(SLOT_DOOR, || self.choice(DOOR, &DOORS, offset))?,
            radio: self.measured(RADIO, SLOT_RADIO, offset)?,
        })
    }

    fn set<T: Unit>(&mut self, field: usize, slot: u32, measured: Measured<T>) {
        self.states.set(slot, &measured);
        self.values[field] = measured.value().map_or(0, Unit::raw);
    }

    fn set_position(&mut self, position: &Position) {
        self.values[LATITUDE] = position.latitude.raw();
        self.values[LONGITUDE] = position.longitude.raw();
        self.values[ACCURACY] = position.accuracy.raw();
        self.values[SPEED] = position.speed.raw();
        self.set(COURSE, SLOT_COURSE, position.course);
        self.values[QUALITY] = position.quality as i64;
        self.values[SATELLITES] = i64::from(position.satellites);
        self.values[AGE] = position.age.raw();
    }

    fn position(&self, offset: usize) -> Result<Position, WireError> {
        let satellites = self.values[SATELLITES];
        Ok(Position {
            latitude: self.unit(LATITUDE, offset)?,
            longitude: self.unit(LONGITUDE, offset)?,
            accuracy: self.unit(ACCURACY, offset)?,
            speed: self.unit(SPEED, offset)?,
            course: self.measured(COURSE, SLOT_COURSE, offset)?,
            quality: self.choice(QUALITY, &QUALITIES, offset)?,
            satellites: u8::try_from(satellites).map_err(|_| {
                let got = i128::from(satellites);
                error(
                    name(SATELLITES),
                    offset,
                    Fault::Range {
                        got,
                        min: 0,
                        max: 255,
                    },
                )
            })?,
            age: self.unit(AGE, offset)?,
        })
    }

    fn battery(&self, offset: usize) -> Result<Battery, WireError> {
        Ok(Battery {
            voltage: self.unit(VOLTAGE, offset)?,
            charge: self.unit(CHARGE, offset)?,
        })
    }

    fn measured<T: Unit>(
        &self,
        field: usize,
        slot: u32,
        offset: usize,
    ) -> Result<Measured<T>, WireError> {
        self.states.measured(slot, || self.unit(field, offset))
    }

    fn unit<T: Unit>(&self, field: usize, offset: usize) -> Result<T, WireError> {
        unit_in_range(name(field), offset, self.values[field])
    }

    fn choice<T: Copy>(&self, field: usize, choices: &[T], offset: usize) -> Result<T, WireError> {
        let value = self.values[field];
        let max = choices.len() as i64 - 1;
        let range = Fault::Range {
            got: i128::from(value),
            min: 0,
            max,
        };
        let chosen = usize::try_from(value)
            .ok()
            .and_then(|index| choices.get(index));
        chosen.copied().ok_or(error(name(field), offset, range))
    }
}

/// A field's name, as in `wire.cddl`.
pub(crate) fn name(field: usize) -> &'static str {
    FIELDS[field].0
}
