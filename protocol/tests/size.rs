//! What a routine batch of a moving truck weighs: the median within the demand, the worst bounded.
#![allow(clippy::unwrap_used, reason = "a test may end at the first surprise")]

use protocol::batch::{Batch, BatchEncoder, BatchHeader};
use protocol::key::{Boot, Epoch, RecordKey, Seq};
use protocol::reading::{Battery, FixQuality, Measured, Position, Reading};
use protocol::record::{Numbered, Record};
use protocol::units::{
    CentiCelsius, CourseDegrees, Dbm, Decimetres, DecimetresPerSecond, Latitude, Longitude,
    Millivolts, Percent, Seconds, UptimeMs,
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Readings of one batch.
const READINGS: usize = 20;

/// Most bytes of its payload, for the median journey.
const MEDIAN_MAX_BYTES: usize = 300;

/// Most bytes for the worst: a start far from the equator, a bend in nearly every minute.
const WORST_MAX_BYTES: usize = 330;

/// Journeys that are tried.
const SEEDS: u64 = 500;

/// A truck on the road: 15 to 28 m/s, bends, GNSS noise of a few metres, every sensor noisy.
struct Truck {
    random: Pcg64Mcg,
    seq: u32,
    uptime_ms: f64,
    /// North and east of the start, in metres.
    place: [f64; 2],
    /// Start, in degrees.
    start: [f64; 2],
    /// Error of the receiver, in metres: it wanders slowly and jitters fast.
    wander: [f64; 2],
    speed: f64,
    heading: f64,
    /// Change of heading in degrees per second.
    bend: f64,
    hdop: f64,
    satellites: f64,
    temperature: f64,
    millivolts: f64,
    dbm: f64,
}

impl Truck {
    fn new(seed: u64) -> Self {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let start = [
            random.random_range(-60.0..70.0),
            random.random_range(-179.0..179.0),
        ];
        Self {
            seq: random.random_range(0..200_000),
            uptime_ms: random.random_range(60_000.0..30.0 * 86_400_000.0),
            place: [0.0, 0.0],
            start,
            wander: [0.0, 0.0],
            speed: random.random_range(15.0..28.0),
            heading: random.random_range(0.0..360.0),
            bend: 0.0,
            hdop: random.random_range(0.7..1.4),
            satellites: random.random_range(7.0..14.0),
            temperature: random.random_range(2.0..8.0),
            millivolts: random.random_range(3_500.0..4_100.0),
            dbm: random.random_range(-110.0..-70.0),
            random,
        }
    }

    /// Roughly normal, with this standard deviation: the sum of twelve uniforms.
    fn noise(&mut self, sigma: f64) -> f64 {
        let sum: f64 = (0..12).map(|_| self.random.random_range(0.0..1.0)).sum();
        (sum - 6.0) * sigma
    }

    /// Straights of 40 s and bends of 20 s on average. Roads for these speeds have radii from about
    /// 500 m, most of them 1,500 m and more: 3 and 1 degrees per second at 25 m/s.
    fn steer(&mut self) {
        if self.bend == 0.0 && self.random.random_bool(1.0 / 40.0) {
            self.bend = self.noise(0.8);
        } else if self.bend != 0.0 && self.random.random_bool(1.0 / 20.0) {
            self.bend = 0.0;
        }
    }

    /// One minute of road, second by second.
    fn drive(&mut self) {
        for _ in 0..60 {
            self.steer();
            self.heading = (self.heading + self.bend).rem_euclid(360.0);
            self.speed = (self.speed + self.noise(0.25)).clamp(15.0, 28.0);
            let radians = self.heading.to_radians();
            self.place[0] += self.speed * radians.cos();
            self.place[1] += self.speed * radians.sin();
        }
        for axis in 0..2 {
            self.wander[axis] = 0.7 * self.wander[axis] + self.noise(2.0);
        }
        self.hdop = (self.hdop + self.noise(0.08)).clamp(0.6, 2.5);
        self.satellites = (self.satellites + self.noise(0.6)).clamp(5.0, 16.0);
        self.temperature += self.noise(0.01);
        self.millivolts -= 0.05;
        self.dbm = (self.dbm + self.noise(2.0)).clamp(-120.0, -60.0);
        self.uptime_ms += 60_000.0;
        self.seq += 1;
    }

    fn reading(&mut self) -> Numbered {
        self.drive();
        // The main loop wakes within a few milliseconds of the deadline.
        let late_ms = self.random.random_range(0.0..3.0);
        let mut reading = Reading::empty(UptimeMs::saturating((self.uptime_ms + late_ms) as i64));
        reading.position = Measured::Value(self.position());
        let centi = self.temperature * 100.0 + self.noise(2.0);
        reading.temperatures[0] = Measured::Value(CentiCelsius::saturating(centi.round() as i64));
        let millivolts = self.millivolts + self.noise(2.5);
        reading.battery = Measured::Value(Battery {
            voltage: Millivolts::saturating(millivolts.round() as i64),
            charge: Percent::saturating(((self.millivolts - 3_300.0) / 9.0) as i64),
        });
        let dbm = self.dbm + self.noise(1.0);
        reading.radio = Measured::Value(Dbm::saturating(dbm.round() as i64));
        Numbered {
            seq: Seq(self.seq),
            record: Record::Reading(reading),
        }
    }

    fn position(&mut self) -> Position {
        let north = self.place[0] + self.wander[0] + self.noise(1.0);
        let east = self.place[1] + self.wander[1] + self.noise(1.0);
        let metres_per_degree = 111_195.0;
        let latitude = self.start[0] + north / metres_per_degree;
        let narrowing = latitude.to_radians().cos();
        let longitude = self.start[1] + east / metres_per_degree / narrowing;
        // Receivers give HDOP in steps of 0.1; accuracy is 5 m times that, 95 %.
        let accuracy = (self.hdop * 10.0).round() * 10.0;
        let speed = self.speed * 10.0 + self.noise(1.0);
        let course = (self.heading + self.noise(0.7)).rem_euclid(360.0);
        Position {
            latitude: Latitude::saturating((latitude * 1e7).round() as i64),
            longitude: Longitude::saturating((longitude * 1e7).round() as i64),
            accuracy: Decimetres::saturating(accuracy as i64),
            speed: DecimetresPerSecond::saturating(speed.round() as i64),
            course: Measured::Value(CourseDegrees::saturating(course as i64)),
            quality: FixQuality::Gnss3d,
            satellites: self.satellites.round() as u8,
            age: Seconds::saturating(0),
        }
    }
}

/// Payload of one batch of that truck, checked to carry exactly its readings.
fn payload_bytes(seed: u64) -> usize {
    let mut truck = Truck::new(seed);
    let epoch = truck.random.random::<u64>();
    let readings: Vec<Numbered> = (0..READINGS).map(|_| truck.reading()).collect();
    let header = BatchHeader {
        epoch: Epoch(epoch),
        boot: Boot(17),
        oldest_pending: RecordKey::new(epoch, 17, readings[0].seq.0),
    };
    let mut buffer = [0; 1024];
    let mut encoder = BatchEncoder::new(&mut buffer, header).unwrap();
    for numbered in &readings {
        encoder.push(numbered).unwrap();
    }
    let payload = encoder.finish();
    let batch = Batch::decode(payload).unwrap();
    let decoded: Vec<Numbered> = batch.iter().map(|entry| entry.numbered).collect();
    assert_eq!(decoded, readings, "seed {seed}");
    payload.len()
}

#[test]
fn twenty_readings_of_a_moving_truck_fit_300_bytes_in_the_median_and_330_at_worst() {
    let mut sizes: Vec<(usize, u64)> = (0..SEEDS).map(|seed| (payload_bytes(seed), seed)).collect();
    sizes.sort_unstable();
    let median = sizes[sizes.len() / 2].0;
    let (worst, seed) = sizes[sizes.len() - 1];
    let p95 = sizes[sizes.len() * 95 / 100].0;
    #[expect(
        clippy::print_stdout,
        reason = "the figure is what this test is read for"
    )]
    {
        println!(
            "{READINGS} readings: best {} B, median {median} B, 95 % {p95} B, worst {worst} B (seed {seed} of {SEEDS})",
            sizes[0].0
        );
    }
    assert!(median <= MEDIAN_MAX_BYTES, "median {median} B");
    assert!(worst <= WORST_MAX_BYTES, "seed {seed}: {worst} B");
}
