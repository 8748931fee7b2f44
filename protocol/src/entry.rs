//! One record on its own, absolute: `[kind, seq, uptime, ...]`.
//!
//! Every kind but a following reading of a batch stands like this, and so does every record that is
//! kept alone (journal, history).

use crate::alarm::{ALARM_ELEMENTS, read_alarm, write_alarm};
use crate::downlink::Settings;
use crate::key::{RecordKey, Seq};
use crate::reading::Reading;
use crate::record::{
    Anchor, BootRecord, Loss, LossReason, Numbered, Record, ResetCause, SettingsRecord, TimeSource,
};
use crate::row::{READING_FIELDS, Row, States, UPTIME, name};
use crate::units::{Unit, UptimeMs};
use crate::wire::{Fault, Full, Reader, WireError, Writer, error};
use crate::{WIRE_VERSION, message};

/// Longest encoding of one record, in bytes. The longest is a reading with every value at its extreme.
pub const RECORD_MAX_BYTES: usize = 112;

/// Kinds as they stand first in an entry; those below are free for later ones.
const READING: i64 = -1;
const ALARM: i64 = -2;
const BOOT: i64 = -3;
const ANCHOR: i64 = -4;
const SETTINGS: i64 = -5;
const LOSS: i64 = -6;

/// Elements of every entry: kind, seq, uptime.
const KEYED_ELEMENTS: usize = 3;

/// Elements of an entry by kind; a reading has four and one per value.
const READING_BASE_ELEMENTS: usize = 4;
const BOOT_ELEMENTS: usize = 9;
const ANCHOR_ELEMENTS: usize = 7;
const SETTINGS_ELEMENTS: usize = 3 + message::SETTINGS_FIELDS;
const LOSS_ELEMENTS: usize = 11;

/// Time sources in the order of their wire codes.
const SOURCES: [TimeSource; 3] = [TimeSource::Gnss, TimeSource::ClockChip, TimeSource::Gateway];

/// Loss reasons in the order of their wire codes.
const LOSS_REASONS: [LossReason; 4] = [
    LossReason::RoutineFull,
    LossReason::AlarmsFull,
    LossReason::Corrupt,
    LossReason::PowerCut,
];

/// Reset causes in the order of their wire codes.
pub(crate) const RESET_CAUSES: [ResetCause; 7] = [
    ResetCause::Unknown,
    ResetCause::PowerOn,
    ResetCause::BrownOut,
    ResetCause::Watchdog,
    ResetCause::Software,
    ResetCause::Panic,
    ResetCause::Pin,
];

/// Writes one record, absolute, as `[version, entry]`; returns its length.
///
/// # Errors
/// When `buffer` is too small; [`RECORD_MAX_BYTES`] always suffice.
pub fn encode_record(numbered: &Numbered, buffer: &mut [u8]) -> Result<usize, Full> {
    let mut writer = Writer::new(buffer);
    writer.array(2)?;
    writer.int(WIRE_VERSION)?;
    write_entry(&mut writer, numbered)?;
    Ok(writer.position())
}

/// Reads what [`encode_record`] wrote.
///
/// # Errors
/// When the bytes are anything else.
pub fn decode_record(bytes: &[u8]) -> Result<Numbered, WireError> {
    let (mut reader, _) = Reader::payload("record", bytes, 2, 2)?;
    let opened = Opened::read(&mut reader)?;
    let (numbered, _) = opened.read_entry(&mut reader, 0)?;
    reader.end()?;
    Ok(numbered)
}

/// Whether what [`encode_record`] wrote is an alarm, told from its first elements alone.
#[must_use]
pub fn is_alarm(bytes: &[u8]) -> bool {
    let opened = Reader::payload("record", bytes, 2, 2)
        .and_then(|(mut reader, _)| Opened::read(&mut reader));
    opened.is_ok_and(|opened| opened.head == ALARM)
}

/// Writes one entry, absolute.
pub(crate) fn write_entry(writer: &mut Writer<'_>, numbered: &Numbered) -> Result<(), Full> {
    let uptime = numbered.record.uptime();
    let mut open = |kind: i64, elements: usize| {
        writer.array(elements)?;
        writer.int(kind)?;
        writer.int(numbered.seq.0)?;
        writer.unit(uptime)
    };
    match &numbered.record {
        Record::Reading(reading) => {
            let row = Row::of(reading);
            let values = (0..READING_FIELDS)
                .filter(|field| row.states.has(*field))
                .count();
            open(READING, READING_BASE_ELEMENTS - 1 + values)?;
            write_row(writer, &row)
        }
        Record::Alarm(alarm) => {
            open(ALARM, KEYED_ELEMENTS + ALARM_ELEMENTS)?;
            write_alarm(writer, alarm)
        }
        Record::Boot(boot) => {
            open(BOOT, BOOT_ELEMENTS)?;
            write_boot(writer, boot)
        }
        Record::Anchor(anchor) => {
            open(ANCHOR, ANCHOR_ELEMENTS)?;
            writer.unit(anchor.utc)?;
            writer.int(anchor.source as i64)?;
            writer.unit(anchor.uncertainty)?;
            writer.int(i64::from(anchor.rollover_corrected))
        }
        Record::Settings(record) => {
            open(SETTINGS, SETTINGS_ELEMENTS)?;
            message::write_settings(writer, &record.settings)
        }
        Record::Loss(loss) => {
            open(LOSS, LOSS_ELEMENTS)?;
            write_key(writer, loss.first)?;
            write_key(writer, loss.last)?;
            writer.int(loss.count)?;
            writer.int(loss.reason as i64)
        }
    }
}

/// An entry whose array header and first element are read.
pub(crate) struct Opened {
    /// Where the entry starts, in bytes.
    offset: usize,
    /// Its elements.
    count: usize,
    /// The first of them.
    head: i64,
}

/// Most elements of an entry, with room for the unknown fields of a newer device.
pub(crate) const ENTRY_MAX_ELEMENTS: usize = 64;

impl Opened {
    /// Opens the next entry.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let offset = reader.position();
        let count = reader.array("entry", 1, ENTRY_MAX_ELEMENTS)?;
        let head = reader.any_int("entry kind")?;
        Ok(Self {
            offset,
            count,
            head,
        })
    }

    /// The entry must have exactly `expected` elements.
    fn expect(&self, expected: usize) -> Result<(), WireError> {
        expect_elements(self.offset, self.count, expected)
    }

    /// The rest of an absolute entry, and the bytes of the `extra` fields of a newer device.
    pub(crate) fn read_entry<'b>(
        &self,
        reader: &mut Reader<'b>,
        extra: usize,
    ) -> Result<(Numbered, &'b [u8]), WireError> {
        if !(LOSS..=READING).contains(&self.head) {
            let range = Fault::Range {
                got: i128::from(self.head),
                min: LOSS,
                max: READING,
            };
            return Err(error("entry kind", self.offset, range));
        }
        let seq = Seq(reader.u32("seq")?);
        let uptime = reader.unit("uptime")?;
        let mut unknown: &[u8] = &[];
        let record = match self.head {
            READING => {
                let row = self.read_row(reader, uptime, extra)?;
                unknown = read_unknown(reader, extra)?;
                Record::Reading(row)
            }
            ALARM => {
                self.expect(KEYED_ELEMENTS + ALARM_ELEMENTS)?;
                Record::Alarm(read_alarm(reader, uptime)?)
            }
            BOOT => Record::Boot(self.read_boot(reader, uptime)?),
            ANCHOR => Record::Anchor(self.read_anchor(reader, uptime)?),
            SETTINGS => {
                self.expect(SETTINGS_ELEMENTS)?;
                let settings: Settings = message::read_settings(reader)?;
                Record::Settings(SettingsRecord { uptime, settings })
            }
            _ => Record::Loss(self.read_loss(reader, uptime)?),
        };
        Ok((Numbered { seq, record }, unknown))
    }

    fn read_row(
        &self,
        reader: &mut Reader<'_>,
        uptime: UptimeMs,
        extra: usize,
    ) -> Result<Reading, WireError> {
        let at = reader.position();
        let states = States::parse(reader.int("states", 0, States::MAX)?, at)?;
        let mut row = Row {
            states,
            ..Row::ZERO
        };
        row.values[UPTIME] = uptime.raw();
        let present = || (1..READING_FIELDS).filter(|field| states.has(*field));
        self.expect(READING_BASE_ELEMENTS + present().count() + extra)?;
        for field in present() {
            row.values[field] = reader.any_int(name(field))?;
        }
        row.reading(self.offset)
    }

    fn read_boot(
        &self,
        reader: &mut Reader<'_>,
        uptime: UptimeMs,
    ) -> Result<BootRecord, WireError> {
        self.expect(BOOT_ELEMENTS)?;
        Ok(BootRecord {
            uptime,
            build_time: reader.unit("build time")?,
            previous_last: reader.optional("previous last", |reader| {
                reader.u32("previous last").map(Seq)
            })?,
            cause: reader.choice("reset cause", &RESET_CAUSES)?,
            version: message::read_version(reader)?,
        })
    }

    fn read_anchor(&self, reader: &mut Reader<'_>, uptime: UptimeMs) -> Result<Anchor, WireError> {
        self.expect(ANCHOR_ELEMENTS)?;
        Ok(Anchor {
            uptime,
            utc: reader.unit("utc")?,
            source: reader.choice("time source", &SOURCES)?,
            uncertainty: reader.unit("uncertainty")?,
            rollover_corrected: reader.choice("rollover corrected", &[false, true])?,
        })
    }

    fn read_loss(&self, reader: &mut Reader<'_>, uptime: UptimeMs) -> Result<Loss, WireError> {
        self.expect(LOSS_ELEMENTS)?;
        Ok(Loss {
            uptime,
            first: read_key(reader)?,
            last: read_key(reader)?,
            count: reader.u32("count")?,
            reason: reader.choice("loss reason", &LOSS_REASONS)?,
        })
    }
}

/// The entry at `offset` has `count` elements and must have exactly `expected`.
pub(crate) fn expect_elements(
    offset: usize,
    count: usize,
    expected: usize,
) -> Result<(), WireError> {
    if count == expected {
        return Ok(());
    }
    let (got, allowed) = (count as u64, expected as u64);
    let fault = Fault::Count {
        got,
        min: allowed,
        max: allowed,
    };
    Err(error("entry", offset, fault))
}

/// The bytes of `extra` integers, kept as they are.
pub(crate) fn read_unknown<'b>(
    reader: &mut Reader<'b>,
    extra: usize,
) -> Result<&'b [u8], WireError> {
    let from = reader.position();
    for _ in 0..extra {
        reader.any_int("unknown field")?;
    }
    Ok(reader.slice(from, reader.position()))
}

/// A full key: epoch, boot, seq.
pub(crate) fn write_key(writer: &mut Writer<'_>, key: RecordKey) -> Result<(), Full> {
    writer.int(key.epoch.0)?;
    writer.int(key.boot.0)?;
    writer.int(key.seq.0)
}

/// Reads what [`write_key`] wrote.
pub(crate) fn read_key(reader: &mut Reader<'_>) -> Result<RecordKey, WireError> {
    let epoch = reader.u64("epoch")?;
    let boot = reader.u32("boot")?;
    Ok(RecordKey::new(epoch, boot, reader.u32("seq")?))
}

fn write_row(writer: &mut Writer<'_>, row: &Row) -> Result<(), Full> {
    writer.int(row.states.raw())?;
    (1..READING_FIELDS)
        .filter(|field| row.states.has(*field))
        .try_for_each(|field| writer.int(row.values[field]))
}

fn write_boot(writer: &mut Writer<'_>, boot: &BootRecord) -> Result<(), Full> {
    writer.unit(boot.build_time)?;
    writer.optional(boot.previous_last.map(|seq| i64::from(seq.0)))?;
    writer.int(boot.cause as i64)?;
    boot.version
        .into_iter()
        .try_for_each(|part| writer.int(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{Battery, Door, FixQuality, Measured, Position};
    use crate::record::{Alarm, AlarmKind, Shock};
    use crate::units::{Dbm, Latitude, Longitude};

    /// The value of a unit that takes most bytes.
    fn extreme<T: Unit>() -> T {
        T::from_raw(T::MAX).unwrap()
    }

    fn widest_reading() -> Reading {
        Reading {
            uptime: extreme(),
            position: Measured::Value(Position {
                latitude: Latitude::saturating(i64::MIN),
                longitude: Longitude::saturating(i64::MIN),
                accuracy: extreme(),
                speed: extreme(),
                course: Measured::Value(extreme()),
                quality: FixQuality::DeadReckoning,
                satellites: u8::MAX,
                age: extreme(),
            }),
            temperatures: [Measured::Value(extreme()); 4],
            humidity: Measured::Value(extreme()),
            battery: Measured::Value(Battery {
                voltage: extreme(),
                charge: extreme(),
            }),
            tilt: Measured::Value(extreme()),
            light: Measured::Value(extreme()),
            door: Measured::Value(Door::Open),
            radio: Measured::Value(Dbm::saturating(i64::MIN)),
        }
    }

    #[test]
    fn the_most_extreme_records_fit_the_bound() {
        let (uptime, key) = (extreme(), RecordKey::new(u64::MAX, u32::MAX, u32::MAX));
        let shock = Shock {
            peak: [extreme(); 3],
            duration: Some(extreme()),
            delta_v: Some(extreme()),
        };
        let records = [
            Record::Reading(widest_reading()),
            Record::Alarm(Alarm {
                uptime,
                kind: AlarmKind::TemperatureAbove(u8::MAX),
                limit: i32::MIN,
                since: uptime,
                extreme: i32::MIN,
                count: u32::MAX,
                shock: Some(shock),
            }),
            Record::Loss(Loss {
                uptime,
                first: key,
                last: key,
                count: u32::MAX,
                reason: LossReason::PowerCut,
            }),
        ];
        let seq = Seq(u32::MAX);
        for record in records {
            let mut buffer = [0; RECORD_MAX_BYTES];
            let numbered = Numbered { seq, record };
            let length = encode_record(&numbered, &mut buffer).unwrap();
            assert_eq!(decode_record(&buffer[..length]), Ok(numbered));
        }
    }
}
