//! A truck on the road, minute by minute, with the noise of its sensors.
//!
//! The codes of the wire are fitted on the journeys of [`TUNING`] and judged on others.

use core::ops::Range;

use protocol::key::Seq;
use protocol::reading::{Battery, FixQuality, Measured, Position, Reading};
use protocol::record::{Numbered, Record};
use protocol::units::{
    CentiCelsius, CourseDegrees, Dbm, Decimetres, DecimetresPerSecond, Latitude, Longitude,
    Millivolts, Percent, Seconds, UptimeMs,
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Readings of one batch.
pub(crate) const READINGS: usize = 20;

/// Seeds on which the orders of the codes were fitted; those that judge are in `tests/size.rs`.
pub(crate) const TUNING: Range<u64> = 0..1_000;

/// Interval of readings, in ms.
const INTERVAL_MS: f64 = 60_000.0;

/// How late the main loop may wake, in ms.
const WAKE_LATE_MS: f64 = 20.0;

/// A truck at 15 to 28 m/s that meets a bend every 40 s on average, 40 s long on average, of
/// 1.2 degrees per second (standard deviation).
struct Truck {
    random: Pcg64Mcg,
    seq: u32,
    uptime_ms: f64,
    /// Latitude and longitude, in degrees.
    place: [f64; 2],
    /// Error of the receiver north and east, in metres: it drifts slowly.
    drift: [f64; 2],
    /// In m/s.
    speed: f64,
    /// In degrees.
    heading: f64,
    /// Change of heading, in degrees per second.
    bend: f64,
    hdop: f64,
    satellites: f64,
    temperature: f64,
    millivolts: f64,
    dbm: f64,
}

/// The readings of one journey.
pub(crate) fn journey(seed: u64) -> Vec<Numbered> {
    let mut truck = Truck::new(seed);
    (0..READINGS).map(|_| truck.reading()).collect()
}

impl Truck {
    fn new(seed: u64) -> Self {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        Self {
            seq: random.random_range(0..200_000),
            uptime_ms: random.random_range(60_000.0..30.0 * 86_400_000.0),
            place: [
                random.random_range(-60.0..70.0),
                random.random_range(-179.0..179.0),
            ],
            drift: [0.0, 0.0],
            speed: random.random_range(15.0..28.0),
            heading: random.random_range(0.0..360.0),
            bend: 0.0,
            hdop: random.random_range(0.7..1.4),
            satellites: random.random_range(7.0..12.0),
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

    fn steer(&mut self) {
        if self.bend == 0.0 && self.random.random_bool(1.0 / 40.0) {
            self.bend = self.noise(1.2);
        } else if self.bend != 0.0 && self.random.random_bool(1.0 / 40.0) {
            self.bend = 0.0;
        }
    }

    /// One minute of road, second by second, and what drifts in it.
    fn drive(&mut self) {
        for _ in 0..60 {
            self.steer();
            self.heading = (self.heading + self.bend).rem_euclid(360.0);
            self.speed = (self.speed + self.noise(0.25)).clamp(15.0, 28.0);
            let (east, north) = self.heading.to_radians().sin_cos();
            let [latitude, longitude] = metres_per_degree(self.place[0]);
            self.place[0] += self.speed * north / latitude;
            self.place[1] += self.speed * east / longitude;
        }
        for axis in 0..2 {
            self.drift[axis] = 0.7 * self.drift[axis] + self.noise(2.0);
        }
        self.hdop = (self.hdop + self.noise(0.08)).clamp(0.6, 2.5);
        self.satellites = (self.satellites + self.noise(0.6)).clamp(7.0, 12.0);
        self.temperature += self.noise(0.01);
        self.millivolts -= 0.05;
        self.dbm = (self.dbm + self.noise(2.0)).clamp(-120.0, -60.0);
        self.uptime_ms += INTERVAL_MS;
        self.seq += 1;
    }

    fn reading(&mut self) -> Numbered {
        self.drive();
        let late_ms = self.random.random_range(0.0..WAKE_LATE_MS);
        let mut reading = Reading::empty(UptimeMs::saturating((self.uptime_ms + late_ms) as i64));
        reading.position = Measured::Value(self.position());
        let centi = self.temperature * 100.0 + self.noise(5.0);
        reading.temperatures[0] = Measured::Value(CentiCelsius::saturating(centi.round() as i64));
        let millivolts = self.millivolts + self.noise(2.5);
        reading.battery = Measured::Value(Battery {
            voltage: Millivolts::saturating(millivolts.round() as i64),
            charge: Percent::saturating(((self.millivolts - 3_300.0) / 9.0) as i64),
        });
        let dbm = self.dbm + self.noise(1.5);
        reading.radio = Measured::Value(Dbm::saturating(dbm.round() as i64));
        Numbered {
            seq: Seq(self.seq),
            record: Record::Reading(reading),
        }
    }

    fn position(&mut self) -> Position {
        let [latitude, longitude] = metres_per_degree(self.place[0]);
        let north = self.place[0] + (self.drift[0] + self.noise(1.0)) / latitude;
        let east = self.place[1] + (self.drift[1] + self.noise(1.0)) / longitude;
        let speed = self.speed * 10.0 + self.noise(1.0);
        let course = (self.heading + self.noise(0.7)).rem_euclid(360.0);
        Position {
            latitude: Latitude::saturating((north * 1e7).round() as i64),
            longitude: Longitude::saturating((east * 1e7).round() as i64),
            // 5 m for each unit of HDOP, 95 %.
            accuracy: Decimetres::saturating((self.hdop * 50.0).round() as i64),
            speed: DecimetresPerSecond::saturating(speed.round() as i64),
            course: Measured::Value(CourseDegrees::saturating(course as i64)),
            quality: FixQuality::Gnss3d,
            satellites: self.satellites.round() as u8,
            age: Seconds::saturating(0),
        }
    }
}

/// Metres in a degree of latitude and of longitude, on the ellipsoid of WGS 84.
fn metres_per_degree(latitude: f64) -> [f64; 2] {
    let phi = latitude.to_radians();
    [
        111_132.95 - 559.85 * (2.0 * phi).cos() + 1.175 * (4.0 * phi).cos(),
        111_412.84 * phi.cos() - 93.5 * (3.0 * phi).cos(),
    ]
}
