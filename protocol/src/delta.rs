//! A reading by its difference to what the readings before it let one expect, bit by bit.
//!
//! ```text
//! expected  seq       the entry before, plus 1
//!           uptime    the reading before, plus the interval before that in whole seconds (0 at first)
//!           lat, lon  the last fix, moved on by its speed and course and the new ones (`reckoning`)
//!           others    the last value, however long ago
//!
//! bits      1                                         seq, states and RARE are as expected
//!           0, seq, 0                                 states are as before
//!           0, seq, 1, states in 36 bits              they are not
//!           then the fields that are present, ROUTINE, and after a 0 RARE as well
//! ```
//!
//! Codes of seq and fields: see `bits`. A course differs by -180 to 179 degrees, round the circle.

use crate::bits::{BitReader, BitWriter};
use crate::key::Seq;
use crate::reckoning::Fix;
use crate::row::{
    ACCURACY, AGE, CHARGE, COURSE, DOOR, HUMIDITY, LATITUDE, LIGHT, LONGITUDE, QUALITY, RADIO,
    READING_FIELDS, Row, SATELLITES, SPEED, States, TEMPERATURE, TILT, UPTIME, VOLTAGE, name,
};
use crate::wire::{Fault, Full, WireError, error};

/// Fields that differ in most readings, in the order they are written, with the order of their code.
/// Uptime, speed and course come first: the place is reckoned from them. The orders take the least
/// bits on journeys of a truck (a test holds them to that).
const ROUTINE: [(usize, u32); 10] = [
    (UPTIME, 3),
    (SPEED, 4),
    (COURSE, 4),
    (LATITUDE, 12),
    (LONGITUDE, 13),
    (ACCURACY, 2),
    (SATELLITES, 0),
    (TEMPERATURE, 3),
    (VOLTAGE, 2),
    (RADIO, 2),
];

/// Fields that rarely differ. Their orders are not fitted: a few units for what is noisy
/// (probes, humidity, light, age), least for what steps.
const RARE: [(usize, u32); 10] = [
    (CHARGE, 0),
    (QUALITY, 0),
    (AGE, 2),
    (TEMPERATURE + 1, 3),
    (TEMPERATURE + 2, 3),
    (TEMPERATURE + 3, 3),
    (HUMIDITY, 2),
    (TILT, 1),
    (LIGHT, 3),
    (DOOR, 0),
];

/// Order of the code of seq.
const SEQ_ORDER: u32 = 0;

/// Longest interval that counts as a rhythm, in ms (4.6 h).
const RHYTHM_MAX_MS: i64 = 1 << 24;

/// What is known of the entries before, on both sides of the wire.
#[derive(Clone, Debug)]
pub(crate) struct Predictor {
    next_seq: i64,
    last: Option<Row>,
    interval_ms: i64,
    fix: Option<Fix>,
}

impl Predictor {
    /// Before the first entry.
    pub(crate) const fn new() -> Self {
        Self {
            next_seq: 0,
            last: None,
            interval_ms: 0,
            fix: None,
        }
    }

    /// Takes note of an entry.
    pub(crate) fn passed(&mut self, seq: Seq) {
        self.next_seq = i64::from(seq.0) + 1;
    }

    /// Takes note of a reading.
    pub(crate) fn passed_reading(&mut self, row: &Row) {
        let mut kept = *row;
        if let Some(last) = &self.last {
            self.interval_ms = whole_seconds(row.values[UPTIME] - last.values[UPTIME]);
            for field in (0..READING_FIELDS).filter(|field| !row.states.has(*field)) {
                kept.values[field] = last.values[field];
            }
        }
        self.last = Some(kept);
        self.fix = Fix::of(row).or(self.fix);
    }

    /// The last reading, if there is one.
    pub(crate) const fn last(&self) -> Option<Row> {
        self.last
    }

    /// The bits of a reading; `Full` when it has to stand absolute.
    pub(crate) fn difference(&self, last: &Row, seq: Seq, row: &Row) -> Result<BitWriter, Full> {
        let mut bits = BitWriter::new();
        let seq = i64::from(seq.0) - self.next_seq;
        let delta = |field| difference(field, row.values[field], self.expected(last, row, field));
        let present = |(field, _): &(usize, u32)| row.states.has(*field);
        let same_states = row.states == last.states;
        let mut rare = RARE.into_iter().filter(present);
        let usual = seq == 0 && same_states && rare.all(|(field, _)| delta(field) == 0);
        bits.flag(usual)?;
        if !usual {
            bits.difference(seq, SEQ_ORDER)?;
            bits.flag(!same_states)?;
            if !same_states {
                bits.bits(row.states.raw(), States::BITS)?;
            }
        }
        coded(usual)
            .filter(present)
            .try_for_each(|(field, order)| bits.difference(delta(field), order))?;
        Ok(bits)
    }

    /// Reads what [`Predictor::difference`] made, from the bytes at `offset`.
    pub(crate) fn read(
        &self,
        last: &Row,
        bytes: &[u8],
        offset: usize,
    ) -> Result<(Seq, Row), WireError> {
        let mut bits = BitReader::new(bytes, offset);
        let mut row = Row::ZERO;
        row.states = last.states;
        for (field, _) in RARE {
            row.values[field] = last.values[field];
        }
        let usual = bits.flag("usual")?;
        let mut seq = self.next_seq;
        if !usual {
            seq += bits.difference("seq", SEQ_ORDER)?;
            row.states = read_states(&mut bits, last.states, offset)?;
        }
        for (field, order) in coded(usual).filter(|(field, _)| row.states.has(*field)) {
            let delta = bits.difference(name(field), order)?;
            let expected = self.expected(last, &row, field);
            row.values[field] = value(field, expected, delta, offset)?;
        }
        bits.end()?;
        let range = Fault::Range {
            got: i128::from(seq),
            min: 0,
            max: i64::from(u32::MAX),
        };
        let seq = u32::try_from(seq).map_err(|_| error("seq", offset, range))?;
        Ok((Seq(seq), row))
    }

    /// What a field should be; of `row`, the fields before it in [`ROUTINE`] are known.
    fn expected(&self, last: &Row, row: &Row, field: usize) -> i64 {
        let place = |axis: usize| self.fix.map_or(0, |fix| fix.reckon(row)[axis]);
        match field {
            UPTIME => last.values[UPTIME].saturating_add(self.interval_ms).max(0),
            LATITUDE => place(0),
            LONGITUDE => place(1),
            _ => last.values[field],
        }
    }
}

/// The fields that are written, in their order.
fn coded(usual: bool) -> impl Iterator<Item = (usize, u32)> {
    let rare = if usual { &[][..] } else { &RARE[..] };
    ROUTINE.iter().chain(rare).copied()
}

fn read_states(bits: &mut BitReader<'_>, last: States, offset: usize) -> Result<States, WireError> {
    if !bits.flag("states")? {
        return Ok(last);
    }
    let raw = bits.bits("states", States::BITS)?;
    States::parse(i64::try_from(raw).unwrap_or(i64::MAX), offset)
}

/// The difference of a field to what was expected.
const fn difference(field: usize, value: i64, expected: i64) -> i64 {
    let difference = value - expected;
    if field == COURSE {
        (difference + 540).rem_euclid(360) - 180
    } else {
        difference
    }
}

/// The value of a field that differs by `delta` from what was expected.
fn value(field: usize, expected: i64, delta: i64, offset: usize) -> Result<i64, WireError> {
    let range = |min, max| {
        let got = i128::from(delta);
        error(name(field), offset, Fault::Range { got, min, max })
    };
    match field {
        COURSE if !(-180..180).contains(&delta) => Err(range(-180, 179)),
        COURSE => Ok((expected + delta).rem_euclid(360)),
        // Uptime alone reaches the ends of 64 bits, and it must not go below 0.
        _ => expected
            .checked_add(delta)
            .filter(|value| field != UPTIME || *value >= 0)
            .ok_or(range(-expected.max(0), i64::MAX - expected.max(0))),
    }
}

/// The interval without the jitter of waking up, which would count twice otherwise; 0 when it is
/// negative or too long to be a rhythm.
fn whole_seconds(interval_ms: i64) -> i64 {
    match interval_ms {
        0..=RHYTHM_MAX_MS => (interval_ms + 500) / 1_000 * 1_000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journey::{READINGS, TUNING, journey};
    use crate::record::Record;

    /// Bits of each field of [`ROUTINE`] on the tuning journeys, by the order of its code.
    fn bits_by_order() -> [[usize; 20]; ROUTINE.len()] {
        let mut bits = [[0; 20]; ROUTINE.len()];
        for seed in TUNING {
            let mut predictor = Predictor::new();
            for numbered in journey(seed) {
                let Record::Reading(reading) = &numbered.record else {
                    unreachable!("a journey has readings only")
                };
                let row = Row::of(reading);
                if let Some(last) = predictor.last() {
                    for (field, orders) in ROUTINE.iter().zip(&mut bits) {
                        let expected = predictor.expected(&last, &row, field.0);
                        let delta = difference(field.0, row.values[field.0], expected);
                        for (order, bits) in (0..).zip(orders) {
                            *bits += code_bits(delta, order);
                        }
                    }
                }
                predictor.passed_reading(&row);
            }
        }
        bits
    }

    fn code_bits(delta: i64, order: u32) -> usize {
        let value = delta.unsigned_abs() * 2 + (1 << order) - u64::from(delta < 0);
        (2 * value.ilog2() + 1 - order) as usize
    }

    #[test]
    fn the_orders_take_the_least_bits_on_the_tuning_journeys() {
        let bits = bits_by_order();
        let least = bits.map(|bits| (0..20).min_by_key(|order| bits[*order as usize]).unwrap());
        let each =
            bits.map(|bits| *bits.iter().min().unwrap() * 100 / (TUNING.count() * (READINGS - 1)));
        let orders = ROUTINE.map(|(_, order)| order);
        assert_eq!(orders, least, "hundredths of bits per field: {each:?}");
    }
}
