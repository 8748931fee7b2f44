//! A reading by its difference to what the readings before it let one expect.
//!
//! ```text
//! expected  seq       the entry before, plus 1
//!           uptime    the reading before, plus the interval before that in whole seconds (0 at first)
//!           lat, lon  on the straight line through the last two fixes, by uptime
//!           others    the last value, however long ago
//!
//! entry     [word, listed...]                               nothing unusual
//!           [-9 - mask, word, seq?, states?, listed...]
//!
//! word      zigzag differences side by side from the lowest bit, see PACKED; a group of ones
//!           means: too large, listed instead
//! mask      bit 0 seq, bit 1 states, then the fields of RARE: each is listed
//! listed    differences of the listed fields, in field order
//! ```

use crate::entry::Opened;
use crate::key::Seq;
use crate::row::{
    ACCURACY, AGE, CHARGE, COURSE, DOOR, HUMIDITY, LATITUDE, LIGHT, LONGITUDE, QUALITY, RADIO,
    READING_FIELDS, Row, SATELLITES, SPEED, States, TEMPERATURE, TILT, UPTIME, VOLTAGE, name,
};
use crate::wire::{Fault, Full, Reader, WireError, Writer, error};

/// Fields of the word with their widths in bits, from the lowest bit; 63 bits in all, so that the
/// word is an `i64` of 9 bytes. The widths are those with the least bytes in all for a tracker on a
/// moving truck: a difference that is listed instead costs 1 byte up to 23, 2 up to 255.
const PACKED: [(usize, u32); 10] = [
    (TEMPERATURE, 4),
    (RADIO, 3),
    (VOLTAGE, 4),
    (ACCURACY, 1),
    (SATELLITES, 2),
    (UPTIME, 3),
    (SPEED, 6),
    (COURSE, 5),
    (LATITUDE, 17),
    (LONGITUDE, 18),
];

/// Largest word.
const WORD_MAX: i64 = i64::MAX;

/// Fields of the mask from bit 2 on.
const RARE: [usize; 10] = [
    CHARGE,
    QUALITY,
    AGE,
    TEMPERATURE + 1,
    TEMPERATURE + 2,
    TEMPERATURE + 3,
    HUMIDITY,
    TILT,
    LIGHT,
    DOOR,
];

const MASK_SEQ: u32 = 1;
const MASK_STATES: u32 = 2;
const MASK_FIELD_BITS: u32 = 2;
const MASK_MAX: i64 = (1 << (MASK_FIELD_BITS + RARE.len() as u32)) - 1;

/// A head of `MASKED - mask` announces a mask; it leaves -1 to -9 to the absolute kinds.
const MASKED: i64 = -9;

/// Longest time a course is extrapolated over or learned from, in ms (4.6 h). It keeps the
/// arithmetic in 64 bits: 2^33 of longitude times 2^24 of time.
const EXTRAPOLATION_MAX_MS: i64 = 1 << 24;

/// What is known of the entries before, on both sides of the wire.
#[derive(Clone, Debug)]
pub(crate) struct Predictor {
    next_seq: i64,
    last: Option<Row>,
    interval_ms: i64,
    older: Option<Fix>,
    newer: Option<Fix>,
}

#[derive(Clone, Copy, Debug)]
struct Fix {
    uptime: i64,
    coordinates: [i64; 2],
}

/// The differences of one reading.
struct Difference {
    seq: i64,
    states: Option<States>,
    values: [i64; READING_FIELDS],
}

impl Predictor {
    /// Before the first entry.
    pub(crate) const fn new() -> Self {
        Self {
            next_seq: 0,
            last: None,
            interval_ms: 0,
            older: None,
            newer: None,
        }
    }

    /// Takes note of an entry.
    pub(crate) fn passed(&mut self, seq: Seq) {
        self.next_seq = i64::from(seq.0) + 1;
    }

    /// Takes note of a reading.
    pub(crate) fn passed_reading(&mut self, row: &Row) {
        let uptime = row.values[UPTIME];
        let mut kept = *row;
        if let Some(last) = &self.last {
            self.interval_ms = whole_seconds(uptime - last.values[UPTIME]);
            for field in (0..READING_FIELDS).filter(|field| !row.states.has(*field)) {
                kept.values[field] = last.values[field];
            }
        }
        self.last = Some(kept);
        if row.states.has(LATITUDE) {
            let coordinates = [row.values[LATITUDE], row.values[LONGITUDE]];
            self.older = self.newer.replace(Fix {
                uptime,
                coordinates,
            });
        }
    }

    /// Writes a reading as difference.
    pub(crate) fn write(
        &self,
        writer: &mut Writer<'_>,
        last: &Row,
        seq: Seq,
        row: &Row,
    ) -> Result<(), Full> {
        let difference = self.difference(last, seq, row);
        let mask = difference.mask();
        let (word, escaped) = difference.pack();
        let listed = |field: &usize| escaped & (1 << field) != 0 || mask_lists(mask, *field);
        let elements = head_elements(mask) + (0..READING_FIELDS).filter(listed).count();
        writer.array(elements)?;
        if mask != 0 {
            writer.int(MASKED - i64::from(mask))?;
        }
        writer.int(word)?;
        if mask & MASK_SEQ != 0 {
            writer.int(difference.seq)?;
        }
        if mask & MASK_STATES != 0 {
            writer.int(row.states.raw())?;
        }
        (0..READING_FIELDS)
            .filter(listed)
            .try_for_each(|field| writer.int(difference.values[field]))
    }

    /// Reads what [`Predictor::write`] wrote, up to the `extra` fields of a newer device.
    pub(crate) fn read(
        &self,
        reader: &mut Reader<'_>,
        opened: &Opened,
        last: &Row,
        extra: usize,
    ) -> Result<(Seq, Row), WireError> {
        let difference = Difference::read(reader, opened, last.states, extra)?;
        let range = |what, got: i64, max| {
            let got = i128::from(got);
            error(what, opened.offset, Fault::Range { got, min: 0, max })
        };
        let sum = |field: usize, expected: i64| {
            let delta = difference.values[field];
            expected
                .checked_add(delta)
                .ok_or(range(name(field), delta, i64::MAX))
        };
        let seq = self.next_seq.saturating_add(difference.seq);
        let seq = u32::try_from(seq).map_err(|_| range("seq", seq, i64::from(u32::MAX)))?;
        let states = difference.states.unwrap_or(last.states);
        let mut row = Row {
            states,
            ..Row::ZERO
        };
        row.values[UPTIME] = sum(UPTIME, self.expected_uptime(last))?;
        if row.values[UPTIME] < 0 {
            return Err(range(name(UPTIME), row.values[UPTIME], i64::MAX));
        }
        let expected = self.expected(last, row.values[UPTIME]);
        for field in (1..READING_FIELDS).filter(|field| states.has(*field)) {
            row.values[field] = sum(field, expected[field])?;
        }
        Ok((Seq(seq), row))
    }

    /// The last reading, if there is one.
    pub(crate) fn last(&self) -> Option<Row> {
        self.last
    }

    fn difference(&self, last: &Row, seq: Seq, row: &Row) -> Difference {
        let expected = self.expected(last, row.values[UPTIME]);
        let mut values = [0; READING_FIELDS];
        for field in (0..READING_FIELDS).filter(|field| row.states.has(*field)) {
            values[field] = row.values[field] - expected[field];
        }
        Difference {
            seq: i64::from(seq.0) - self.next_seq,
            states: (row.states != last.states).then_some(row.states),
            values,
        }
    }

    fn expected(&self, last: &Row, uptime: i64) -> [i64; READING_FIELDS] {
        let mut expected = last.values;
        expected[UPTIME] = self.expected_uptime(last);
        [expected[LATITUDE], expected[LONGITUDE]] = self.expected_coordinates(uptime);
        expected
    }

    fn expected_uptime(&self, last: &Row) -> i64 {
        last.values[UPTIME].saturating_add(self.interval_ms).max(0)
    }

    fn expected_coordinates(&self, uptime: i64) -> [i64; 2] {
        let Some(newer) = self.newer else {
            return [0, 0];
        };
        let Some(older) = self.older else {
            return newer.coordinates;
        };
        let span = newer.uptime - older.uptime;
        let ahead = uptime - newer.uptime;
        let bounded = 1..=EXTRAPOLATION_MAX_MS;
        if !bounded.contains(&span) || !bounded.contains(&ahead) {
            return newer.coordinates;
        }
        let along = |axis: usize| {
            let step = newer.coordinates[axis] - older.coordinates[axis];
            newer.coordinates[axis] + step * ahead / span
        };
        [along(0), along(1)]
    }
}

impl Difference {
    fn mask(&self) -> u32 {
        let mut mask = 0;
        if self.seq != 0 {
            mask |= MASK_SEQ;
        }
        if self.states.is_some() {
            mask |= MASK_STATES;
        }
        for (bit, field) in (MASK_FIELD_BITS..).zip(RARE) {
            mask |= u32::from(self.values[field] != 0) << bit;
        }
        mask
    }

    /// The word, and the fields that did not fit, as a bit set.
    fn pack(&self) -> (u64, u32) {
        let (mut word, mut escaped, mut shift) = (0_u64, 0_u32, 0);
        for (field, width) in PACKED {
            let escape = (1 << width) - 1;
            let code = zigzag(self.values[field]).min(escape);
            escaped |= u32::from(code == escape) << field;
            word |= code << shift;
            shift += width;
        }
        (word, escaped)
    }

    fn read(
        reader: &mut Reader<'_>,
        opened: &Opened,
        last: States,
        extra: usize,
    ) -> Result<Self, WireError> {
        let from = reader.position();
        let (mask, word) = read_head(reader, opened)?;
        let seq = match mask & MASK_SEQ {
            0 => 0,
            _ => reader.int("seq", -i64::from(u32::MAX) - 1, i64::from(u32::MAX))?,
        };
        let states = match mask & MASK_STATES {
            0 => None,
            _ => Some(read_states(reader)?),
        };
        let (mut values, escaped) = unpack(word);
        let mut elements = head_elements(mask);
        let current = states.unwrap_or(last);
        for (field, value) in values.iter_mut().enumerate() {
            let listed = escaped & (1 << field) != 0 || mask_lists(mask, field);
            if (listed || *value != 0) && !current.has(field) {
                return Err(error(name(field), from, Fault::NotPresent));
            }
            if listed {
                *value = reader.any_int(name(field))?;
                elements += 1;
            }
        }
        opened.expect(elements + extra)?;
        Ok(Self {
            seq,
            states,
            values,
        })
    }
}

/// Elements of an entry before the listed fields.
const fn head_elements(mask: u32) -> usize {
    let named = (mask & (MASK_SEQ | MASK_STATES)).count_ones() as usize;
    if mask == 0 { 1 } else { 2 + named }
}

/// Mask (0 without one) and word of an entry by difference.
fn read_head(reader: &mut Reader<'_>, opened: &Opened) -> Result<(u32, i64), WireError> {
    let lowest = MASKED - MASK_MAX;
    let wrong = Fault::Range {
        got: i128::from(opened.head),
        min: lowest,
        max: WORD_MAX,
    };
    match opened.head {
        0..=WORD_MAX => Ok((0, opened.head)),
        head if (lowest..MASKED).contains(&head) => {
            let mask = u32::try_from(MASKED - head)
                .map_err(|_| error("entry kind", opened.offset, wrong))?;
            Ok((mask, reader.int("word", 0, WORD_MAX)?))
        }
        _ => Err(error("entry kind", opened.offset, wrong)),
    }
}

fn read_states(reader: &mut Reader<'_>) -> Result<States, WireError> {
    let at = reader.position();
    States::parse(reader.int("states", 0, States::MAX)?, at)
}

/// The small differences of a word, and the fields that are listed instead, as a bit set.
fn unpack(word: i64) -> ([i64; READING_FIELDS], u32) {
    let (mut values, mut escaped, mut rest) = ([0; READING_FIELDS], 0, word);
    for (field, width) in PACKED {
        let escape = (1 << width) - 1;
        let code = rest & escape;
        if code == escape {
            escaped |= 1 << field;
        } else {
            values[field] = unzigzag(code);
        }
        rest >>= width;
    }
    (values, escaped)
}

fn mask_lists(mask: u32, field: usize) -> bool {
    (MASK_FIELD_BITS..)
        .zip(RARE)
        .any(|(bit, rare)| rare == field && mask & (1 << bit) != 0)
}

/// The interval without the jitter of waking up, which would count twice otherwise; 0 when it is
/// negative or too long to be a rhythm.
fn whole_seconds(interval_ms: i64) -> i64 {
    match interval_ms {
        0..=EXTRAPOLATION_MAX_MS => (interval_ms + 500) / 1_000 * 1_000,
        _ => 0,
    }
}

/// 0, -1, 1, -2, 2 ... as 0, 1, 2, 3, 4 ...
const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`] for codes of at most 32 bits.
const fn unzigzag(code: i64) -> i64 {
    (code >> 1) ^ -(code & 1)
}
