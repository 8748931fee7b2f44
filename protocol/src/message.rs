//! The payloads that are not batches: status, settings and their answer, time.

use crate::WIRE_VERSION;
use crate::downlink::{Settings, SettingsField, SettingsRefusal, TimeReply, TimeRequest};
use crate::entry::RESET_CAUSES;
use crate::key::{Boot, Epoch};
use crate::status::{Birth, HARDWARE_MAX_BYTES, SettingsAck, Status};
use crate::units::Unit;
use crate::wire::{Fault, Full, Reader, WireError, Writer, error};

/// Fields of [`Settings`].
pub(crate) const SETTINGS_FIELDS: usize = 15;

const STATUS_BIRTH: i64 = 0;
const STATUS_OFFLINE: i64 = 1;
const STATUS_LOST: i64 = 2;

/// Elements of a birth and of every other status.
const BIRTH_ELEMENTS: usize = 11;
const STATUS_ELEMENTS: usize = 2;

const REFUSED_OUT_OF_RANGE: i64 = 0;
const REFUSED_LIMITS_CROSSED: i64 = 1;
const REFUSED_STALE: i64 = 2;
const REFUSED_UNDECODABLE: i64 = 3;
const REFUSED_NOT_STORED: i64 = 4;

impl Status {
    /// Longest encoding, in bytes.
    pub const MAX_BYTES: usize = 80;

    /// Writes the payload; returns its length.
    ///
    /// # Errors
    /// When `buffer` is too small; [`Self::MAX_BYTES`] always suffice.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, Full> {
        let mut writer = Writer::new(buffer);
        let (elements, code) = match self {
            Self::Birth(_) => (BIRTH_ELEMENTS, STATUS_BIRTH),
            Self::Offline => (STATUS_ELEMENTS, STATUS_OFFLINE),
            Self::Lost => (STATUS_ELEMENTS, STATUS_LOST),
        };
        open(&mut writer, elements)?;
        writer.int(code)?;
        if let Self::Birth(birth) = self {
            write_birth(&mut writer, birth)?;
        }
        Ok(writer.position())
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// When it is no status of this version.
    pub fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let (mut reader, elements) =
            Reader::payload("status", payload, STATUS_ELEMENTS, BIRTH_ELEMENTS)?;
        let code = reader.int("status kind", STATUS_BIRTH, STATUS_LOST)?;
        let expected = if code == STATUS_BIRTH {
            BIRTH_ELEMENTS
        } else {
            STATUS_ELEMENTS
        };
        expect_elements("status", elements, expected)?;
        let status = match code {
            STATUS_BIRTH => Self::Birth(read_birth(&mut reader)?),
            STATUS_OFFLINE => Self::Offline,
            _ => Self::Lost,
        };
        reader.end().map(|()| status)
    }
}

impl SettingsAck {
    /// Longest encoding, in bytes.
    pub const MAX_BYTES: usize = 40;

    /// Writes the payload; returns its length.
    ///
    /// # Errors
    /// When `buffer` is too small; [`Self::MAX_BYTES`] always suffice.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, Full> {
        let mut writer = Writer::new(buffer);
        open(&mut writer, 3)?;
        writer.int(self.version)?;
        match self.outcome {
            Ok(()) => writer.array(0)?,
            Err(refusal) => write_refusal(&mut writer, refusal)?,
        }
        Ok(writer.position())
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// When it is no answer to settings of this version.
    pub fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let (mut reader, _) = Reader::payload("ack", payload, 3, 3)?;
        let version = reader.u32("settings version")?;
        let at = reader.position();
        let outcome = match reader.array("refusal", 0, 5)? {
            0 => Ok(()),
            elements => Err(read_refusal(&mut reader, at, elements)?),
        };
        reader.end().map(|()| Self { version, outcome })
    }
}

impl Settings {
    /// Longest encoding, in bytes.
    pub const MAX_BYTES: usize = 80;

    /// Writes the payload; returns its length.
    ///
    /// # Errors
    /// When `buffer` is too small; [`Self::MAX_BYTES`] always suffice.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, Full> {
        let mut writer = Writer::new(buffer);
        open(&mut writer, 1 + SETTINGS_FIELDS)?;
        write_settings(&mut writer, self)?;
        Ok(writer.position())
    }

    /// Reads a payload. The values are not yet checked: see [`Settings::validate`].
    ///
    /// # Errors
    /// When it is no settings of this version.
    pub fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let elements = 1 + SETTINGS_FIELDS;
        let (mut reader, _) = Reader::payload("settings", payload, elements, elements)?;
        let settings = read_settings(&mut reader)?;
        reader.end().map(|()| settings)
    }
}

impl TimeRequest {
    /// Longest encoding, in bytes.
    pub const MAX_BYTES: usize = 20;

    /// Writes the payload; returns its length.
    ///
    /// # Errors
    /// When `buffer` is too small; [`Self::MAX_BYTES`] always suffice.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, Full> {
        let mut writer = Writer::new(buffer);
        open(&mut writer, 3)?;
        writer.int(self.nonce)?;
        writer.unit(self.uptime)?;
        Ok(writer.position())
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// When it is no time request of this version.
    pub fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let (mut reader, _) = Reader::payload("time request", payload, 3, 3)?;
        let nonce = reader.u64("nonce")?;
        let uptime = reader.unit("uptime")?;
        reader.end().map(|()| Self { nonce, uptime })
    }
}

impl TimeReply {
    /// Longest encoding, in bytes.
    pub const MAX_BYTES: usize = 25;

    /// Writes the payload; returns its length.
    ///
    /// # Errors
    /// When `buffer` is too small; [`Self::MAX_BYTES`] always suffice.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, Full> {
        let mut writer = Writer::new(buffer);
        open(&mut writer, 4)?;
        writer.int(self.nonce)?;
        writer.unit(self.utc)?;
        writer.unit(self.uncertainty)?;
        Ok(writer.position())
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// When it is no time reply of this version.
    pub fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let (mut reader, _) = Reader::payload("time reply", payload, 4, 4)?;
        let nonce = reader.u64("nonce")?;
        let utc = reader.unit("utc")?;
        let uncertainty = reader.unit("uncertainty")?;
        reader.end().map(|()| Self {
            nonce,
            utc,
            uncertainty,
        })
    }
}

fn open(writer: &mut Writer<'_>, elements: usize) -> Result<(), Full> {
    writer.array(elements)?;
    writer.int(WIRE_VERSION)
}

fn expect_elements(what: &'static str, got: usize, expected: usize) -> Result<(), WireError> {
    if got == expected {
        return Ok(());
    }
    let (got, expected) = (got as u64, expected as u64);
    Err(error(
        what,
        0,
        Fault::Count {
            got,
            min: expected,
            max: expected,
        },
    ))
}

fn write_birth(writer: &mut Writer<'_>, birth: &Birth) -> Result<(), Full> {
    birth
        .version
        .into_iter()
        .try_for_each(|part| writer.int(part))?;
    writer.text(&birth.hardware)?;
    writer.int(birth.epoch.0)?;
    writer.int(birth.boot.0)?;
    writer.int(birth.cause as i64)?;
    writer.int(birth.settings_version)?;
    writer.int(birth.pending)
}

fn read_birth(reader: &mut Reader<'_>) -> Result<Birth, WireError> {
    let version = read_version(reader)?;
    let at = reader.position();
    let text = reader.text("hardware", HARDWARE_MAX_BYTES)?;
    let too_long = Fault::TooLong {
        got: text.len() as u64,
        max: HARDWARE_MAX_BYTES as u64,
    };
    Ok(Birth {
        version,
        hardware: text
            .try_into()
            .map_err(|_| error("hardware", at, too_long))?,
        epoch: Epoch(reader.u64("epoch")?),
        boot: Boot(reader.u32("boot")?),
        cause: reader.choice("reset cause", &RESET_CAUSES)?,
        settings_version: reader.u32("settings version")?,
        pending: reader.u32("pending")?,
    })
}

/// A firmware version: major, minor, patch.
pub(crate) fn read_version(reader: &mut Reader<'_>) -> Result<[u8; 3], WireError> {
    Ok([
        reader.u8("major")?,
        reader.u8("minor")?,
        reader.u8("patch")?,
    ])
}

/// Writes the fields of settings, in the order of the struct.
pub(crate) fn write_settings(writer: &mut Writer<'_>, settings: &Settings) -> Result<(), Full> {
    writer.int(settings.version)?;
    writer.unit(settings.sample_moving)?;
    writer.unit(settings.sample_resting)?;
    writer.unit(settings.sample_near_limit)?;
    writer.unit(settings.publish_interval)?;
    writer.int(settings.batch_readings)?;
    writer.optional(settings.temperature_above.map(Unit::raw))?;
    writer.optional(settings.temperature_below.map(Unit::raw))?;
    writer.unit(settings.temperature_margin)?;
    writer.unit(settings.shock_peak)?;
    writer.unit(settings.shock_delta_v)?;
    writer.unit(settings.shock_duration)?;
    writer.unit(settings.battery_low)?;
    writer.optional(settings.light_above.map(Unit::raw))?;
    writer.optional(settings.tilt_above.map(Unit::raw))
}

/// Reads what [`write_settings`] wrote.
pub(crate) fn read_settings(reader: &mut Reader<'_>) -> Result<Settings, WireError> {
    Ok(Settings {
        version: reader.u32("settings version")?,
        sample_moving: reader.unit("sample moving")?,
        sample_resting: reader.unit("sample resting")?,
        sample_near_limit: reader.unit("sample near limit")?,
        publish_interval: reader.unit("publish interval")?,
        batch_readings: reader.u8("batch readings")?,
        temperature_above: optional_unit(reader, "temperature above")?,
        temperature_below: optional_unit(reader, "temperature below")?,
        temperature_margin: reader.unit("temperature margin")?,
        shock_peak: reader.unit("shock peak")?,
        shock_delta_v: reader.unit("shock delta-v")?,
        shock_duration: reader.unit("shock duration")?,
        battery_low: reader.unit("battery low")?,
        light_above: optional_unit(reader, "light above")?,
        tilt_above: optional_unit(reader, "tilt above")?,
    })
}

fn optional_unit<T: Unit>(
    reader: &mut Reader<'_>,
    what: &'static str,
) -> Result<Option<T>, WireError> {
    reader.optional(what, |reader| reader.unit(what))
}

fn write_refusal(writer: &mut Writer<'_>, refusal: SettingsRefusal) -> Result<(), Full> {
    match refusal {
        SettingsRefusal::OutOfRange {
            field,
            value,
            min,
            max,
        } => {
            writer.array(5)?;
            writer.int(REFUSED_OUT_OF_RANGE)?;
            writer.int(field as i64)?;
            [value, min, max]
                .into_iter()
                .try_for_each(|value| writer.int(value))
        }
        SettingsRefusal::Stale { in_force } => {
            writer.array(2)?;
            writer.int(REFUSED_STALE)?;
            writer.int(in_force)
        }
        SettingsRefusal::LimitsCrossed => write_code(writer, REFUSED_LIMITS_CROSSED),
        SettingsRefusal::Undecodable => write_code(writer, REFUSED_UNDECODABLE),
        SettingsRefusal::NotStored => write_code(writer, REFUSED_NOT_STORED),
    }
}

fn write_code(writer: &mut Writer<'_>, code: i64) -> Result<(), Full> {
    writer.array(1)?;
    writer.int(code)
}

fn read_refusal(
    reader: &mut Reader<'_>,
    at: usize,
    elements: usize,
) -> Result<SettingsRefusal, WireError> {
    let code = reader.int("refusal", REFUSED_OUT_OF_RANGE, REFUSED_NOT_STORED)?;
    let expected = match code {
        REFUSED_OUT_OF_RANGE => 5,
        REFUSED_STALE => 2,
        _ => 1,
    };
    expect_elements("refusal", elements, expected).map_err(|wrong| WireError {
        offset: at,
        ..wrong
    })?;
    Ok(match code {
        REFUSED_OUT_OF_RANGE => SettingsRefusal::OutOfRange {
            field: reader.choice("settings field", &SettingsField::ALL)?,
            value: reader.any_int("value")?,
            min: reader.any_int("min")?,
            max: reader.any_int("max")?,
        },
        REFUSED_STALE => SettingsRefusal::Stale {
            in_force: reader.u32("in force")?,
        },
        REFUSED_LIMITS_CROSSED => SettingsRefusal::LimitsCrossed,
        REFUSED_UNDECODABLE => SettingsRefusal::Undecodable,
        _ => SettingsRefusal::NotStored,
    })
}
