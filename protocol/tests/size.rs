//! What a routine batch of a moving truck weighs, on journeys the wire was not fitted to.
#![allow(clippy::unwrap_used, reason = "a test may end at the first surprise")]

mod journey;

use core::fmt;
use core::ops::Range;

use protocol::batch::{Batch, BatchEncoder, BatchHeader};
use protocol::entry::{RECORD_MAX_BYTES, encode_record};
use protocol::key::{Boot, Epoch, RecordKey};
use protocol::record::{Numbered, Record};
use protocol::units::Unit;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use journey::{TUNING, journey};

/// Most bytes of a payload of 20 routine readings.
const MAX_BYTES: usize = 300;

/// Seeds of the journeys that judge.
const HELD_OUT: Range<u64> = 1_000_000..1_002_000;

/// Sizes of the batches of many journeys in one way to write, in bytes.
struct Sizes {
    best: usize,
    median: usize,
    p95: usize,
    worst: usize,
}

impl Sizes {
    fn of(seeds: Range<u64>, size: impl Fn(u64, &[Numbered]) -> usize) -> Self {
        let mut sizes: Vec<usize> = seeds.map(|seed| size(seed, &journey(seed))).collect();
        sizes.sort_unstable();
        Self {
            best: sizes[0],
            median: sizes[sizes.len() / 2],
            p95: sizes[sizes.len() * 95 / 100],
            worst: sizes[sizes.len() - 1],
        }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            best,
            median,
            p95,
            worst,
        } = self;
        write!(
            f,
            "best {best} B, median {median} B, 95 % {p95} B, worst {worst} B"
        )
    }
}

fn header(seed: u64, readings: &[Numbered]) -> BatchHeader {
    let epoch = Pcg64Mcg::seed_from_u64(seed).random::<u64>();
    BatchHeader {
        epoch: Epoch(epoch),
        boot: Boot(17),
        oldest_pending: RecordKey::new(epoch, 17, readings[0].seq.0),
    }
}

/// The payload of one journey, checked to carry exactly its readings.
fn payload_bytes(seed: u64, readings: &[Numbered]) -> usize {
    let mut buffer = [0; 1024];
    let mut encoder = BatchEncoder::new(&mut buffer, header(seed, readings)).unwrap();
    for numbered in readings {
        encoder.push(numbered).unwrap();
    }
    let payload = encoder.finish();
    let batch = Batch::decode(payload).unwrap();
    let decoded: Vec<Numbered> = batch.iter().map(|entry| entry.numbered).collect();
    assert_eq!(decoded, readings, "seed {seed}");
    payload.len()
}

/// The same batch with every entry absolute.
fn absolute_bytes(seed: u64, readings: &[Numbered]) -> usize {
    head_bytes(seed, readings) + readings.iter().map(entry_bytes).sum::<usize>()
}

/// The same batch with an array of one difference to the last value for every value.
fn plain_delta_bytes(seed: u64, readings: &[Numbered]) -> usize {
    let following = |pair: &[Numbered]| 1 + differences(pair).map(int_bytes).iter().sum::<usize>();
    let first = head_bytes(seed, readings) + entry_bytes(&readings[0]);
    first + readings.windows(2).map(following).sum::<usize>()
}

/// The same with a bit per value, in one integer, and only the differences that are not 0.
fn masked_delta_bytes(seed: u64, readings: &[Numbered]) -> usize {
    let following = |pair: &[Numbered]| {
        let differences = differences(pair);
        let mask = (0..)
            .zip(differences)
            .map(|(bit, value)| i64::from(value != 0) << bit);
        let listed = differences.into_iter().filter(|value| *value != 0);
        1 + int_bytes(mask.sum()) + listed.map(int_bytes).sum::<usize>()
    };
    let first = head_bytes(seed, readings) + entry_bytes(&readings[0]);
    first + readings.windows(2).map(following).sum::<usize>()
}

/// Bytes before the first entry.
fn head_bytes(seed: u64, readings: &[Numbered]) -> usize {
    let mut buffer = [0; 64];
    let encoder = BatchEncoder::new(&mut buffer, header(seed, readings)).unwrap();
    // An array of more than 23 elements takes a byte more than the empty one.
    1 + encoder.finish().len()
}

/// Bytes of an entry that stands absolute.
fn entry_bytes(numbered: &Numbered) -> usize {
    let record_header_bytes = 2;
    encode_record(numbered, &mut [0; RECORD_MAX_BYTES]).unwrap() - record_header_bytes
}

/// Differences of two readings; the uptime's to an interval of a minute.
fn differences(pair: &[Numbered]) -> [i64; 13] {
    let [before, after] = [&pair[0], &pair[1]].map(values);
    core::array::from_fn(|field| after[field] - before[field] - if field == 0 { 60_000 } else { 0 })
}

fn values(numbered: &Numbered) -> [i64; 13] {
    let Record::Reading(reading) = &numbered.record else {
        unreachable!("a journey has readings only")
    };
    let position = reading.position.value().unwrap();
    let battery = reading.battery.value().unwrap();
    [
        reading.uptime.raw(),
        position.latitude.raw(),
        position.longitude.raw(),
        position.accuracy.raw(),
        position.speed.raw(),
        position.course.value().unwrap().raw(),
        position.quality as i64,
        i64::from(position.satellites),
        position.age.raw(),
        reading.temperatures[0].value().unwrap().raw(),
        battery.voltage.raw(),
        battery.charge.raw(),
        reading.radio.value().unwrap().raw(),
    ]
}

/// Bytes of a CBOR integer.
fn int_bytes(value: i64) -> usize {
    let mut bytes = [0; 9];
    let mut free = &mut bytes[..];
    ciborium::into_writer(&value, &mut free).unwrap();
    9 - free.len()
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "the figures are what this test is read for"
)]
fn twenty_readings_of_a_moving_truck_fit_300_bytes_on_every_journey_not_fitted_to() {
    println!("absolute:     {}", Sizes::of(HELD_OUT, absolute_bytes));
    println!("plain delta:  {}", Sizes::of(HELD_OUT, plain_delta_bytes));
    println!("delta + mask: {}", Sizes::of(HELD_OUT, masked_delta_bytes));
    println!("wire, tuning: {}", Sizes::of(TUNING, payload_bytes));
    let held_out = Sizes::of(HELD_OUT, payload_bytes);
    println!("wire:         {held_out}, seeds {HELD_OUT:?}");
    assert!(held_out.worst <= MAX_BYTES, "{held_out}");
}
