//! Many records of one boot in one payload.
//!
//! ```text
//! [version, epoch, boot, oldest pending, fields per reading, entry, entry, ...]
//! ```
//!
//! The first reading stands absolute, the following ones by difference (see `delta`) where that fits.
//! Alarms and the keyed statements of the device may stand between them, absolute. `oldest pending`
//! is `[seq]` when it is of the same epoch and boot, else `[epoch, boot, seq]`.

use crate::WIRE_VERSION;
use crate::bits::BITS_MAX_BYTES;
use crate::delta::Predictor;
use crate::entry::{
    ENTRY_MAX_ELEMENTS, Opened, expect_elements, read_key, read_unknown, write_entry, write_key,
};
use crate::key::{Boot, Epoch, RecordKey, Seq};
use crate::record::{Numbered, Record};
use crate::row::{READING_FIELDS, Row};
use crate::wire::{Fault, Full, Reader, WireError, Writer, error};

/// Most records of one batch: an hour at one a minute, and a bound on what one payload can ask of
/// the gateway.
pub const RECORDS_MAX: usize = 64;

/// Longest batch, in bytes: 64 records of any kind, each with 8 unknown fields.
pub const BATCH_MAX_BYTES: usize = 12 * 1024;

/// Most fields per reading that a newer device may append to those known here.
pub const UNKNOWN_FIELDS_MAX: usize = 8;

/// Elements before the first entry.
const HEADER_ELEMENTS: usize = 5;

/// Bytes kept free for the array's header: with at most 69 elements it needs 1 or 2.
const ARRAY_HEADER_BYTES: usize = 2;

/// Most elements an array header of one byte can announce.
const SHORT_ARRAY_ELEMENTS: usize = 23;

/// What a batch says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Epoch of all its records.
    pub epoch: Epoch,
    /// Boot of all its records.
    pub boot: Boot,
    /// Least key that still waits in any queue of the device outside this batch: once the batch is
    /// here, what is older and missing is lost.
    pub oldest_pending: RecordKey,
}

impl BatchHeader {
    /// The full key of a record of this batch.
    #[must_use]
    pub const fn key(&self, seq: Seq) -> RecordKey {
        RecordKey {
            epoch: self.epoch,
            boot: self.boot,
            seq,
        }
    }
}

/// Builds a batch in a borrowed buffer, record by record.
#[derive(Debug)]
pub struct BatchEncoder<'a> {
    buffer: &'a mut [u8],
    end: usize,
    records: usize,
    predictor: Predictor,
}

impl<'a> BatchEncoder<'a> {
    /// An empty batch.
    ///
    /// # Errors
    /// When the buffer does not even hold the header.
    pub fn new(buffer: &'a mut [u8], header: BatchHeader) -> Result<Self, Full> {
        let free = buffer.get_mut(ARRAY_HEADER_BYTES..).ok_or(Full)?;
        let mut writer = Writer::new(free);
        writer.int(WIRE_VERSION)?;
        writer.int(header.epoch.0)?;
        writer.int(header.boot.0)?;
        let oldest = header.oldest_pending;
        if (oldest.epoch, oldest.boot) == (header.epoch, header.boot) {
            writer.array(1)?;
            writer.int(oldest.seq.0)?;
        } else {
            writer.array(3)?;
            write_key(&mut writer, oldest)?;
        }
        writer.int(READING_FIELDS as u64)?;
        let end = ARRAY_HEADER_BYTES + writer.position();
        Ok(Self {
            buffer,
            end,
            records: 0,
            predictor: Predictor::new(),
        })
    }

    /// Appends a record.
    ///
    /// # Errors
    /// When it does not fit or the batch has [`RECORDS_MAX`]; the batch stays as it was.
    pub fn push(&mut self, numbered: &Numbered) -> Result<(), Full> {
        if self.records == RECORDS_MAX {
            return Err(Full);
        }
        let mut writer = Writer::new(self.buffer.get_mut(self.end..).ok_or(Full)?);
        match (&numbered.record, self.predictor.last()) {
            (Record::Reading(reading), Some(last)) => {
                let row = Row::of(reading);
                match self.predictor.difference(&last, numbered.seq, &row) {
                    Ok(bits) => writer.bytes(bits.bytes())?,
                    Err(Full) => write_entry(&mut writer, numbered)?,
                }
            }
            _ => write_entry(&mut writer, numbered)?,
        }
        self.end += writer.position();
        self.records += 1;
        note(&mut self.predictor, numbered);
        Ok(())
    }

    /// Records so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.records
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Length of the payload in bytes, were it finished now.
    #[must_use]
    pub const fn len_if_finished(&self) -> usize {
        self.end - self.start()
    }

    /// The payload: a part of the buffer that need not begin at its start.
    #[must_use]
    pub fn finish(self) -> &'a [u8] {
        let start = self.start();
        let elements = HEADER_ELEMENTS + self.records;
        let payload = &mut self.buffer[start..self.end];
        // Cannot fail: the place of the header was kept free.
        let _ = Writer::new(payload).array(elements);
        payload
    }

    const fn start(&self) -> usize {
        let short = HEADER_ELEMENTS + self.records <= SHORT_ARRAY_ELEMENTS;
        if short { ARRAY_HEADER_BYTES - 1 } else { 0 }
    }
}

/// A batch whose every byte has been checked.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    header: BatchHeader,
    entries: Entries<'a>,
}

/// One record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The record.
    pub numbered: Numbered,
    /// Fields of a newer device's reading that are not known here: CBOR integers, as they came.
    pub unknown: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Checks the whole of `payload`.
    ///
    /// # Errors
    /// When it is no batch of this version: which element, where, and what is allowed.
    pub fn decode(payload: &'a [u8]) -> Result<Self, WireError> {
        if payload.len() > BATCH_MAX_BYTES {
            let (got, max) = (payload.len() as u64, BATCH_MAX_BYTES as u64);
            return Err(error("batch", 0, Fault::TooLong { got, max }));
        }
        let most = HEADER_ELEMENTS + RECORDS_MAX;
        let (mut reader, elements) = Reader::payload("batch", payload, HEADER_ELEMENTS, most)?;
        let epoch = Epoch(reader.u64("epoch")?);
        let boot = Boot(reader.u32("boot")?);
        let oldest_pending = read_oldest(&mut reader, epoch, boot)?;
        let fields = reader.narrow(
            "fields per reading",
            READING_FIELDS as i64,
            (READING_FIELDS + UNKNOWN_FIELDS_MAX) as i64,
        )?;
        let entries = Entries {
            reader,
            predictor: Predictor::new(),
            left: elements - HEADER_ELEMENTS,
            extra: usize::from(u8::saturating_sub(fields, READING_FIELDS as u8)),
        };
        entries.clone().check()?;
        let header = BatchHeader {
            epoch,
            boot,
            oldest_pending,
        };
        Ok(Self { header, entries })
    }

    /// What the batch says about itself.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Number of records.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.left
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records, in the order of the batch.
    #[must_use]
    pub fn iter(&self) -> Entries<'a> {
        self.entries.clone()
    }
}

impl<'a> IntoIterator for &Batch<'a> {
    type Item = Entry<'a>;
    type IntoIter = Entries<'a>;

    fn into_iter(self) -> Entries<'a> {
        self.iter()
    }
}

/// The records of a [`Batch`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    reader: Reader<'a>,
    predictor: Predictor,
    left: usize,
    extra: usize,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        if self.left == 0 {
            return None;
        }
        // Never an error: `Batch::decode` has been through all of them.
        self.read_entry().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Entries<'_> {}

impl<'a> Entries<'a> {
    fn check(mut self) -> Result<(), WireError> {
        while self.left > 0 {
            self.read_entry()?;
        }
        self.reader.end()
    }

    fn read_entry(&mut self) -> Result<Entry<'a>, WireError> {
        let read = match self.predictor.last() {
            Some(last) => self.read_difference(&last)?,
            None => None,
        };
        let (numbered, unknown) = match read {
            Some(read) => read,
            None => Opened::read(&mut self.reader)?.read_entry(&mut self.reader, self.extra)?,
        };
        note(&mut self.predictor, &numbered);
        self.left -= 1;
        Ok(Entry { numbered, unknown })
    }

    /// The next entry, if it is a reading by difference: a byte string, in an array with the unknown
    /// fields where there are any.
    fn read_difference(&mut self, last: &Row) -> Result<Option<(Numbered, &'a [u8])>, WireError> {
        let mut reader = self.reader.clone();
        let at = reader.position();
        let elements = match self.extra {
            0 => 1,
            _ => reader.array("entry", 1, ENTRY_MAX_ELEMENTS)?,
        };
        if !reader.is_bytes() {
            return Ok(None);
        }
        expect_elements(at, elements, 1 + self.extra)?;
        let bytes = reader.bytes("difference", BITS_MAX_BYTES)?;
        let offset = reader.position() - bytes.len();
        let (seq, row) = self.predictor.read(last, bytes, offset)?;
        let record = Record::Reading(row.reading(offset)?);
        let unknown = read_unknown(&mut reader, self.extra)?;
        self.reader = reader;
        Ok(Some((Numbered { seq, record }, unknown)))
    }
}

/// Both sides take note of an entry in the same way.
fn note(predictor: &mut Predictor, numbered: &Numbered) {
    predictor.passed(numbered.seq);
    if let Record::Reading(reading) = &numbered.record {
        predictor.passed_reading(&Row::of(reading));
    }
}

fn read_oldest(reader: &mut Reader<'_>, epoch: Epoch, boot: Boot) -> Result<RecordKey, WireError> {
    let at = reader.position();
    match reader.array("oldest pending", 1, 3)? {
        1 => Ok(RecordKey {
            epoch,
            boot,
            seq: Seq(reader.u32("oldest pending")?),
        }),
        3 => read_key(reader),
        got => {
            let got = got as u64;
            Err(error(
                "oldest pending",
                at,
                Fault::Count {
                    got,
                    min: 1,
                    max: 3,
                },
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{Measured, Missing, Reading};
    use crate::record::{Alarm, AlarmKind};
    use crate::units::{CentiCelsius, UptimeMs};

    const HEADER: BatchHeader = BatchHeader {
        epoch: Epoch(7),
        boot: Boot(3),
        oldest_pending: RecordKey::new(7, 2, 40),
    };

    fn reading(seq: u32, centi: i64) -> Numbered {
        let mut reading = Reading::empty(UptimeMs::saturating(60_000 * i64::from(seq)));
        reading.temperatures[0] = Measured::Value(CentiCelsius::saturating(centi));
        reading.position = Measured::Missing(Missing::NoFix);
        Numbered {
            seq: Seq(seq),
            record: Record::Reading(reading),
        }
    }

    fn alarm(seq: u32) -> Numbered {
        let uptime = UptimeMs::saturating(5);
        Numbered {
            seq: Seq(seq),
            record: Record::Alarm(Alarm {
                uptime,
                kind: AlarmKind::TemperatureAbove(1),
                limit: 800,
                since: uptime,
                extreme: 850,
                count: 1,
                shock: None,
            }),
        }
    }

    #[test]
    fn a_mixed_batch_gives_back_what_was_pushed() {
        let records = [reading(5, 400), alarm(6), reading(7, 404), reading(9, -30)];
        let mut buffer = [0; 256];
        let mut encoder = BatchEncoder::new(&mut buffer, HEADER).unwrap();
        for record in &records {
            encoder.push(record).unwrap();
        }
        let announced = encoder.len_if_finished();
        let payload = encoder.finish();
        assert_eq!(payload.len(), announced);
        let batch = Batch::decode(payload).unwrap();
        assert_eq!(*batch.header(), HEADER);
        assert!(batch.iter().map(|entry| entry.numbered).eq(records));
    }

    #[test]
    fn a_record_that_does_not_fit_leaves_the_batch_as_it_was() {
        for room in 24..80 {
            let mut buffer = vec![0; room];
            let mut encoder = BatchEncoder::new(&mut buffer, HEADER).unwrap();
            let fitted = (0..20)
                .take_while(|seq| encoder.push(&reading(*seq, 400)).is_ok())
                .count();
            let batch = Batch::decode(encoder.finish()).unwrap();
            assert_eq!(batch.len(), fitted, "room {room}");
        }
    }
}
