//! The satellite receiver: ground truth with bounded error, rendered as NMEA 0183 sentences.

use chrono::{DateTime, Utc};

use super::lane::Point;
use super::noise::{Channel, Noise};

/// How fast the error of a receiver wanders: the time it takes satellites and reflections to change.
const ERROR_KNOT_MS: i64 = 60_000;

/// Largest error of the speed, in m/s.
const SPEED_ERROR_MPS: f64 = 0.15;

/// Largest error of the course while moving, in degrees.
const COURSE_ERROR_DEGREES: f64 = 2.0;

const KNOTS_PER_MPS: f64 = 3_600.0 / 1_852.0;

/// What is true about a vehicle at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vehicle {
    /// Where.
    pub point: Point,
    /// In m/s.
    pub speed_mps: f64,
    /// In degrees clockwise from north.
    pub course: f64,
    /// Whether satellites can be seen.
    pub sky: bool,
}

/// What a receiver makes of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// With error.
    pub point: Point,
    /// Speed in m/s, with error.
    pub speed_mps: f64,
    /// Course in degrees, with error.
    pub course: f64,
    /// Horizontal dilution of precision.
    pub hdop: f64,
}

/// A receiver with its largest error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Receiver {
    /// Per axis, at a dilution of 1, in metres.
    pub error_m: f64,
    /// Its noise.
    pub noise: Noise,
}

impl Receiver {
    /// What it observes; `None` without a view of the sky.
    #[must_use]
    pub fn observe(&self, truth: &Vehicle, at_ms: i64) -> Option<Observation> {
        if !truth.sky {
            return None;
        }
        let noise = &self.noise;
        let hdop = 1.0 + 0.3 * noise.wander(Channel::Dilution, at_ms, 5 * ERROR_KNOT_MS);
        let error = |channel| {
            let slow = noise.wander(channel, at_ms, ERROR_KNOT_MS);
            let fast = noise.white(channel, at_ms);
            (0.8 * slow + 0.2 * fast) * self.error_m * hdop
        };
        let speed_mps = truth.speed_mps + SPEED_ERROR_MPS * noise.white(Channel::Speed, at_ms);
        let course = truth.course + COURSE_ERROR_DEGREES * noise.white(Channel::Course, at_ms);
        Some(Observation {
            point: truth
                .point
                .offset_m(error(Channel::East), error(Channel::North)),
            speed_mps: speed_mps.max(0.0),
            course: course.rem_euclid(360.0),
            hdop,
        })
    }

    /// The sentences of one moment: RMC, GGA and GSA, each with checksum and line end.
    #[must_use]
    pub fn sentences(&self, truth: &Vehicle, at: DateTime<Utc>) -> String {
        let observed = self.observe(truth, at.timestamp_millis());
        let (clock, date) = (at.format("%H%M%S%.3f"), at.format("%d%m%y"));
        let bodies = match observed {
            Some(seen) => {
                let place = coordinates(seen.point);
                let knots = seen.speed_mps * KNOTS_PER_MPS;
                let (course, hdop) = (seen.course, seen.hdop);
                [
                    format!("GPRMC,{clock},A,{place},{knots:.2},{course:.1},{date},,,A"),
                    format!("GPGGA,{clock},{place},1,09,{hdop:.2},120.0,M,46.0,M,,"),
                    format!("GPGSA,A,3,02,05,07,09,12,16,20,25,29,,,,1.90,{hdop:.2},1.60"),
                ]
            }
            None => [
                format!("GPRMC,{clock},V,,,,,,,{date},,,N"),
                format!("GPGGA,{clock},,,,,0,00,,,M,,M,,"),
                "GPGSA,A,1,,,,,,,,,,,,,,,".to_string(),
            ],
        };
        bodies.iter().map(|body| sentence(body)).collect()
    }
}

/// `$BODY*HH` with the exclusive or of the body's bytes, and the line end.
fn sentence(body: &str) -> String {
    let checksum = body.bytes().fold(0_u8, |sum, byte| sum ^ byte);
    format!("${body}*{checksum:02X}\r\n")
}

/// `ddmm.mmmmm,N,dddmm.mmmmm,E`: degrees and decimal minutes, to 2 cm.
fn coordinates(point: Point) -> String {
    let (north, east) = (
        hemisphere(point.lat, 'N', 'S'),
        hemisphere(point.lon, 'E', 'W'),
    );
    let (lat, lon) = (minutes(point.lat), minutes(point.lon));
    format!("{:02}{},{north},{:03}{},{east}", lat.0, lat.1, lon.0, lon.1)
}

fn hemisphere(degrees: f64, positive: char, negative: char) -> char {
    if degrees < 0.0 { negative } else { positive }
}

/// Whole degrees and `mm.mmmmm`, rounded as one number so that 59.999999 carries over.
fn minutes(degrees: f64) -> (i64, String) {
    const PER_MINUTE: i64 = 100_000;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "180 degrees are about 1e9 such units"
    )]
    let units = (degrees.abs() * 60.0 * PER_MINUTE as f64).round() as i64;
    let (whole, rest) = (units / (60 * PER_MINUTE), units % (60 * PER_MINUTE));
    (
        whole,
        format!("{:02}.{:05}", rest / PER_MINUTE, rest % PER_MINUTE),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver() -> Receiver {
        Receiver {
            error_m: 3.0,
            noise: Noise::new(5, 5),
        }
    }

    fn vehicle(sky: bool) -> Vehicle {
        Vehicle {
            point: Point {
                lat: -23.95,
                lon: -46.33,
            },
            speed_mps: 20.0,
            course: 315.0,
            sky,
        }
    }

    #[test]
    fn coordinates_carry_from_minutes_to_degrees() {
        assert_eq!(minutes(47.999_999_99), (48, "00.00000".into()));
        assert_eq!(minutes(-46.33), (46, "19.80000".into()));
    }

    #[test]
    fn a_checksum_is_the_exclusive_or_of_the_body() {
        // The example every NMEA description uses.
        let body = "GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,";
        assert!(sentence(body).ends_with("*47\r\n"));
    }

    #[test]
    fn without_sky_the_sentences_are_void() {
        let at = DateTime::from_timestamp_millis(1_772_409_600_000).unwrap();
        let said = receiver().sentences(&vehicle(false), at);
        assert!(
            said.starts_with("$GPRMC,000000.000,V,,,,,,,020326,,,N*"),
            "{said}"
        );
    }

    #[test]
    fn the_error_of_an_observation_is_bounded() {
        for minute in 0..1_000 {
            let seen = receiver().observe(&vehicle(true), minute * 60_000).unwrap();
            let error_m = seen.point.distance_m(vehicle(true).point);
            assert!(error_m <= 3.0 * 1.3 * 1.415, "{error_m} m");
        }
    }

    #[test]
    fn the_firmware_reads_back_what_the_receiver_observed() {
        use firmware::gnss::fix::Receiver as Parser;
        use protocol::units::UptimeMs;

        let start_ms = 1_772_409_600_000;
        let mut parser = Parser::new(crate::device::BUILD_TIME);
        for second in 0..500 {
            let at_ms = start_ms + second * 7_013;
            let at = DateTime::from_timestamp_millis(at_ms).unwrap();
            let now = UptimeMs::saturating(second * 7_013);
            parser.push(receiver().sentences(&vehicle(true), at).as_bytes(), now);
            let seen = receiver().observe(&vehicle(true), at_ms).unwrap();
            let position = parser.position(now).value().unwrap();
            let parsed = Point {
                lat: position.latitude.degrees(),
                lon: position.longitude.degrees(),
            };
            assert!(parsed.distance_m(seen.point) < 0.05);
            let off_m = parsed.distance_m(vehicle(true).point);
            assert!(off_m <= position.accuracy.metres(), "{off_m} m");
            let speed = position.speed.metres_per_second();
            assert!((speed - seen.speed_mps).abs() < 0.11, "{speed} m/s");
            assert_eq!(parser.time().unwrap().utc.get(), at_ms);
        }
        assert_eq!(parser.refused(), 0);
    }

    #[test]
    fn the_firmware_sees_no_fix_in_a_tunnel() {
        use firmware::gnss::fix::Receiver as Parser;
        use protocol::reading::{Measured, Missing};
        use protocol::units::UptimeMs;

        let mut parser = Parser::new(crate::device::BUILD_TIME);
        let at = DateTime::from_timestamp_millis(1_772_409_600_000).unwrap();
        let now = UptimeMs::saturating(10);
        parser.push(receiver().sentences(&vehicle(false), at).as_bytes(), now);
        assert_eq!(parser.position(now), Measured::Missing(Missing::NoFix));
        assert_eq!(parser.refused(), 0);
    }
}
