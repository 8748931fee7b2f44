//! A reading by its difference to what the readings before it let one expect.
//!
//! ```text
//! expected  seq       the entry before, plus 1
//!           uptime    the reading before, plus the interval before that (0 at first)
//!           lat, lon  on the straight line through the last two fixes, by uptime
//!           others    the last value, however long ago
//!
//! entry     [word, position?, listed...]                    nothing unusual
//!           [-9 - mask, word, seq?, states?, position?, listed...]
//!
//! word      temperature 0, radio, voltage, speed, course, accuracy, satellites, uptime:
//!           zigzag differences side by side from the lowest bit, see PACKED; a group of ones
//!           means: too large, listed instead
//! position  lat + 65536 * lon, zigzag; or -1, lat, lon when one of them needs more than 16 bits
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

/// Fields of the word with their widths in bits, from the lowest bit; 32 bits in all.
///
/// The widths hold about 95 % of the differences of a tracker on a moving truck.
const PACKED: [(usize, u32); 8] = [
    (TEMPERATURE, 4),
    (RADIO, 4),
    (VOLTAGE, 4),
    (SPEED, 6),
    (COURSE, 5),
    (ACCURACY, 4),
    (SATELLITES, 2),
    (UPTIME, 3),
];

/// Largest word.
const WORD_MAX: i64 = u32::MAX as i64;

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

/// Bits of latitude and longitude in a packed position: about 360 m either way.
const POSITION_BITS: u32 = 16;
const POSITION_MAX: i64 = (1 << (2 * POSITION_BITS)) - 1;

/// Instead of a packed position: latitude and longitude follow.
const POSITION_APART: i64 = -1;

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
            self.interval_ms = uptime - last.values[UPTIME];
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
        let position = row.states.has(LATITUDE).then(|| difference.position());
        let head = 1 + usize::from(mask != 0);
        let elements = head
            + (mask & (MASK_SEQ | MASK_STATES)).count_ones() as usize
            + position.map_or(0, |packed| if packed.is_some() { 1 } else { 3 })
            + (0..READING_FIELDS).filter(listed).count();
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
        if let Some(packed) = position {
            difference.write_position(writer, packed)?;
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
    fn pack(&self) -> (u32, u32) {
        let (mut word, mut escaped, mut shift) = (0, 0, 0);
        for (field, width) in PACKED {
            let escape = (1 << width) - 1;
            let code = zigzag(self.values[field]).min(u64::from(escape)) as u32;
            escaped |= u32::from(code == escape) << field;
            word |= code << shift;
            shift += width;
        }
        (word, escaped)
    }

    /// Latitude and longitude in one integer, if both are small.
    fn position(&self) -> Option<u64> {
        let [latitude, longitude] = [LATITUDE, LONGITUDE].map(|field| zigzag(self.values[field]));
        let fits = (latitude | longitude) >> POSITION_BITS == 0;
        fits.then_some(latitude | longitude << POSITION_BITS)
    }

    fn write_position(&self, writer: &mut Writer<'_>, packed: Option<u64>) -> Result<(), Full> {
        if let Some(packed) = packed {
            return writer.int(packed);
        }
        writer.int(POSITION_APART)?;
        writer.int(self.values[LATITUDE])?;
        writer.int(self.values[LONGITUDE])
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
        let mut elements = 1 + usize::from(mask != 0);
        elements += (mask & (MASK_SEQ | MASK_STATES)).count_ones() as usize;
        let current = states.unwrap_or(last);
        if current.has(LATITUDE) {
            elements += read_position(reader, &mut values)?;
        }
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

/// Reads the coordinates' differences; returns the elements read.
fn read_position(
    reader: &mut Reader<'_>,
    values: &mut [i64; READING_FIELDS],
) -> Result<usize, WireError> {
    let packed = reader.int("position", POSITION_APART, POSITION_MAX)?;
    if packed == POSITION_APART {
        values[LATITUDE] = reader.any_int(name(LATITUDE))?;
        values[LONGITUDE] = reader.any_int(name(LONGITUDE))?;
        return Ok(3);
    }
    values[LATITUDE] = unzigzag(packed & ((1 << POSITION_BITS) - 1));
    values[LONGITUDE] = unzigzag(packed >> POSITION_BITS);
    Ok(1)
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

/// 0, -1, 1, -2, 2 ... as 0, 1, 2, 3, 4 ...
const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`] for codes of at most 32 bits.
const fn unzigzag(code: i64) -> i64 {
    (code >> 1) ^ -(code & 1)
}
