//! NMEA 0183 sentences out of a byte stream.
//!
//! ```text
//!   noise  $ t t f f f , field , field ... * h h  noise  $ ...
//!          | talker |type|                  checksum: XOR of what stands between $ and *
//! ```
//! A sentence is complete with the second digit of its checksum, which is required. A `$` always
//! starts anew, a control byte or an over-long line discards what was collected, so any noise or
//! binary protocol between sentences costs at most the sentence it hits.

use protocol::units::{Latitude, Longitude};

use super::field::{Date, Fields, TimeOfDay, decimal, latitude, longitude};

/// Longest sentence kept, in bytes. The standard says 82; receivers with many decimals send 97.
pub const SENTENCE_MAX_BYTES: usize = 128;

/// Where on the globe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coordinates {
    /// Latitude.
    pub latitude: Latitude,
    /// Longitude.
    pub longitude: Longitude,
}

/// How the receiver says it came to its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// No position, or one that was typed in or simulated.
    Void,
    /// Estimated without satellites.
    DeadReckoning,
    /// From satellites alone.
    Autonomous,
    /// With corrections.
    Differential,
    /// With carrier phase.
    Rtk,
}

/// What is common to GGA and GNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixData {
    /// When.
    pub time: Option<TimeOfDay>,
    /// Where.
    pub coordinates: Option<Coordinates>,
    /// How.
    pub mode: Mode,
    /// Satellites used.
    pub satellites: Option<u8>,
    /// Horizontal dilution of precision, in hundredths.
    pub hdop_centi: Option<u32>,
}

/// Recommended minimum data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minimum {
    /// When.
    pub time: Option<TimeOfDay>,
    /// On which day.
    pub date: Option<Date>,
    /// Whether the receiver stands by its position.
    pub valid: bool,
    /// Where.
    pub coordinates: Option<Coordinates>,
    /// Motion.
    pub track: Track,
}

/// Motion over ground.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Track {
    /// Speed in thousandths of a knot.
    pub speed_milliknots: Option<u32>,
    /// Course in hundredths of a degree from true north.
    pub course_centidegrees: Option<u32>,
}

/// A sentence with a right checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sentence {
    /// GGA and GNS.
    Fix(FixData),
    /// RMC.
    Minimum(Minimum),
    /// GSA: dimensions of the fix (1 is none) and dilution of precision.
    Active {
        /// 2 or 3, or nothing when there is no fix.
        dimensions: Option<u8>,
        /// Horizontal dilution of precision, in hundredths.
        hdop_centi: Option<u32>,
    },
    /// VTG.
    Track(Track),
    /// ZDA.
    Clock {
        /// When.
        time: Option<TimeOfDay>,
        /// On which day.
        date: Option<Date>,
    },
    /// Any other: the receiver is alive.
    Other,
}

/// Collects bytes until a sentence is complete.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    line: heapless::Vec<u8, SENTENCE_MAX_BYTES>,
    inside: bool,
    refused: u32,
}

impl Parser {
    /// A parser that waits for the first `$`.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            line: heapless::Vec::new(),
            inside: false,
            refused: 0,
        }
    }

    /// Take one byte; a sentence comes out with the last digit of its checksum.
    pub fn push(&mut self, byte: u8) -> Option<Sentence> {
        if byte == b'$' {
            self.abandon();
            self.inside = true;
            return None;
        }
        if !self.inside {
            return None;
        }
        if !(b' '..=b'~').contains(&byte) || self.line.push(byte).is_err() {
            self.abandon();
            return None;
        }
        let (text, given) = self.line.split_last_chunk::<3>()?;
        let [b'*', high, low] = *given else {
            return None;
        };
        let body = checked(text, high, low);
        let sentence = body.map(sentence);
        self.refused = self.refused.saturating_add(u32::from(body.is_none()));
        self.inside = false;
        self.line.clear();
        sentence
    }

    /// Lines begun but not finished well: wrong checksum, none, too long, interrupted.
    #[must_use]
    pub const fn refused(&self) -> u32 {
        self.refused
    }

    fn abandon(&mut self) {
        self.refused = self.refused.saturating_add(u32::from(self.inside));
        self.inside = false;
        self.line.clear();
    }
}

/// The text, when its checksum is right.
fn checked(text: &[u8], high: u8, low: u8) -> Option<&[u8]> {
    let hex = |byte: u8| char::from(byte).to_digit(16);
    let given = hex(high)? * 16 + hex(low)?;
    let sum = text.iter().fold(0_u8, |sum, byte| sum ^ byte);
    (given == u32::from(sum)).then_some(text)
}

fn sentence(text: &[u8]) -> Sentence {
    let mut fields = Fields::new(text);
    let Some((talker, kind)) = fields.next().split_at_checked(2) else {
        return Sentence::Other;
    };
    if !TALKERS.contains(&talker) {
        return Sentence::Other;
    }
    match kind {
        b"GGA" => gga(&mut fields),
        b"GNS" => gns(&mut fields),
        b"RMC" => rmc(&mut fields),
        b"GSA" => gsa(&mut fields),
        b"VTG" => vtg(&mut fields),
        b"ZDA" => zda(&mut fields),
        _ => Sentence::Other,
    }
}

/// GPS, several systems together, GLONASS, Galileo, BeiDou (two spellings), NavIC.
const TALKERS: [&[u8]; 7] = [b"GP", b"GN", b"GL", b"GA", b"GB", b"BD", b"IN"];

fn gga(fields: &mut Fields<'_>) -> Sentence {
    let time = TimeOfDay::parse(fields.next());
    let coordinates = coordinates(fields);
    let mode = match fields.next() {
        b"1" | b"3" => Mode::Autonomous,
        b"2" => Mode::Differential,
        b"4" | b"5" => Mode::Rtk,
        b"6" => Mode::DeadReckoning,
        _ => Mode::Void,
    };
    quality(fields, time, coordinates, mode)
}

fn gns(fields: &mut Fields<'_>) -> Sentence {
    let time = TimeOfDay::parse(fields.next());
    let coordinates = coordinates(fields);
    // One letter per satellite system; the best of them made the position.
    let best = fields.next().iter().map(|letter| mode(*letter)).max();
    quality(fields, time, coordinates, best.unwrap_or(Mode::Void))
}

fn quality(
    fields: &mut Fields<'_>,
    time: Option<TimeOfDay>,
    coordinates: Option<Coordinates>,
    mode: Mode,
) -> Sentence {
    Sentence::Fix(FixData {
        time,
        coordinates,
        mode,
        satellites: decimal(fields.next(), 0).and_then(|count| u8::try_from(count).ok()),
        hdop_centi: hdop(fields.next()),
    })
}

const fn mode(letter: u8) -> Mode {
    match letter {
        b'A' | b'P' => Mode::Autonomous,
        b'D' => Mode::Differential,
        b'R' | b'F' => Mode::Rtk,
        b'E' => Mode::DeadReckoning,
        _ => Mode::Void,
    }
}

fn rmc(fields: &mut Fields<'_>) -> Sentence {
    let time = TimeOfDay::parse(fields.next());
    let status = fields.next();
    let coordinates = coordinates(fields);
    let track = Track {
        speed_milliknots: unsigned(fields.next(), 3),
        course_centidegrees: unsigned(fields.next(), 2),
    };
    let date = Date::parse_short(fields.next());
    fields.skip(2);
    // Absent before NMEA 2.3; manual input (M), simulator (S) and none (N) are not positions.
    let honest = !matches!(fields.next(), b"M" | b"S" | b"N");
    Sentence::Minimum(Minimum {
        time,
        date,
        valid: status == b"A" && honest,
        coordinates,
        track,
    })
}

fn gsa(fields: &mut Fields<'_>) -> Sentence {
    fields.skip(1);
    let dimensions = match fields.next() {
        b"2" => Some(2),
        b"3" => Some(3),
        _ => None,
    };
    // Twelve satellites and the positional dilution.
    fields.skip(13);
    Sentence::Active {
        dimensions,
        hdop_centi: hdop(fields.next()),
    }
}

fn vtg(fields: &mut Fields<'_>) -> Sentence {
    let course_centidegrees = unsigned(fields.next(), 2);
    fields.skip(3);
    Sentence::Track(Track {
        speed_milliknots: unsigned(fields.next(), 3),
        course_centidegrees,
    })
}

fn zda(fields: &mut Fields<'_>) -> Sentence {
    let time = TimeOfDay::parse(fields.next());
    let (day, month, year) = (fields.next(), fields.next(), fields.next());
    Sentence::Clock {
        time,
        date: Date::parse_fields(day, month, year),
    }
}

fn coordinates(fields: &mut Fields<'_>) -> Option<Coordinates> {
    let (angle, hemisphere) = (fields.next(), fields.next());
    let north = latitude(angle, hemisphere);
    let (angle, hemisphere) = (fields.next(), fields.next());
    Some(Coordinates {
        latitude: north?,
        longitude: longitude(angle, hemisphere)?,
    })
}

/// Zero and the 99.99 of receivers without a fix are no dilution.
fn hdop(field: &[u8]) -> Option<u32> {
    unsigned(field, 2).filter(|hdop| (1..9_900).contains(hdop))
}

fn unsigned(field: &[u8], decimals: u32) -> Option<u32> {
    u32::try_from(decimal(field, decimals)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Vec<Sentence> {
        let mut parser = Parser::new();
        bytes.iter().filter_map(|byte| parser.push(*byte)).collect()
    }

    const VTG: &[u8] = b"$GPVTG,000.0,T,357.0,M,000.0,N,0000.1,K,A*13\r\n";

    #[test]
    fn noise_around_and_inside_a_sentence_costs_only_that_sentence() {
        let mut bytes = b"\xb5\x62\x01\x07noise$GPVTG,00\xff0.0,T*13".to_vec();
        bytes.extend_from_slice(VTG);
        bytes.extend_from_slice(b"$GPVTG,000.0,T,3");
        bytes.extend_from_slice(VTG);
        assert_eq!(parse(&bytes).len(), 2);
    }

    #[test]
    fn a_wrong_or_missing_checksum_is_refused() {
        let mut parser = Parser::new();
        let lines =
            b"$GPVTG,000.0,T,357.0,M,000.0,N,0000.1,K,A*14\r\n$GPZDA,,,,,00,00\r\n$GPZDA*zz";
        assert!(lines.iter().all(|byte| parser.push(*byte).is_none()));
        assert_eq!(parser.refused(), 3);
    }

    #[test]
    fn an_over_long_line_is_dropped_and_the_next_one_read() {
        let mut bytes = b"$GPVTG,".to_vec();
        bytes.extend_from_slice(&[b'0'; 10 * SENTENCE_MAX_BYTES]);
        bytes.extend_from_slice(VTG);
        assert_eq!(parse(&bytes).len(), 1);
    }

    #[test]
    fn every_known_talker_is_read_and_a_foreign_one_is_only_a_sign_of_life() {
        for talker in ["GP", "GN", "GL", "GA", "GB", "BD", "IN"] {
            let line = with_checksum(&format!("{talker}VTG,1.0,T,,M,2.5,N,,K,A"));
            let track = Track {
                speed_milliknots: Some(2_500),
                course_centidegrees: Some(100),
            };
            assert_eq!(parse(line.as_bytes()), [Sentence::Track(track)]);
        }
        let foreign = with_checksum("XXVTG,1.0,T,,M,2.5,N,,K,A");
        assert_eq!(parse(foreign.as_bytes()), [Sentence::Other]);
    }

    #[test]
    fn a_typed_in_or_simulated_position_is_void() {
        for quality in [0, 7, 8] {
            let line = format!("GPGGA,1,4807.038,N,01131.000,E,{quality},08,0.9,1,M,1,M,,");
            let [Sentence::Fix(fix)] = parse(with_checksum(&line).as_bytes())[..] else {
                panic!("no fix sentence")
            };
            assert_eq!(fix.mode, Mode::Void);
        }
    }

    #[test]
    fn no_byte_string_panics() {
        let mut state = 0x9e37_79b9_u32;
        let mut parser = Parser::new();
        let alphabet = b"$*,.0159GPNRMCAZDVTSE\r\n\xff";
        for _ in 0..200_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let index = (state >> 16) as usize % alphabet.len();
            parser.push(alphabet[index]);
        }
        let line = with_checksum("GPRMC,1,A,,,,,,,,,,,,,,,,,,,,");
        assert_eq!(line.bytes().filter_map(|byte| parser.push(byte)).count(), 1);
    }

    fn with_checksum(text: &str) -> String {
        let sum = text.bytes().fold(0, |sum, byte| sum ^ byte);
        format!("${text}*{sum:02X}\r\n")
    }
}
