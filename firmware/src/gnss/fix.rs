//! From the sentences of one epoch to a fix with accuracy, and to the time.
//!
//! A receiver describes each epoch in several sentences, in an order of its own. Sentences that carry
//! the same time of day belong together; those without one belong to the epoch they follow. The fix is
//! formed anew with each sentence, so it is as good as what has arrived, without waiting for more.

use protocol::reading::{FixQuality, Measured, Missing, Position};
use protocol::units::{CourseDegrees, Decimetres, DecimetresPerSecond, Seconds, UptimeMs, UtcMs};

use super::field::{DAY_MS, Date, TimeOfDay};
use super::nmea::{Coordinates, FixData, Minimum, Mode, Parser, Sentence, Track};

/// A fix older than this is no position any more, in milliseconds: at motorway speed it is about a
/// kilometre off. Younger ones are sent with their age.
pub const FIX_AGE_MAX_MS: u64 = 30_000;

/// A receiver that says nothing well-formed for this long is at fault, in milliseconds.
pub const SILENCE_MAX_MS: u64 = 30_000;

/// Horizontal accuracy per unit of HDOP, in millimetres, as the radius that holds 95 % of fixes.
///
/// HDOP times the range error of one satellite gives the distance root mean square of the horizontal
/// error (Kaplan and Hegarty, "Understanding GPS/GNSS", section on dilution of precision). With a
/// range error of 5 m and a circular normal error, the share inside radius r is
/// `1 - exp(-(r / drms)^2)`, which is 95 % at r = sqrt(ln 20) drms = 1.7308 drms: 8.654 m per HDOP.
pub const ACCURACY_PER_HDOP_MM: u32 = 8_654;

/// Dilution assumed, in hundredths, when a receiver never tells: a poor one, to claim too little.
const HDOP_UNKNOWN_CENTI: u32 = 500;

/// Below this speed a course is noise, in decimetres per second.
const COURSE_SPEED_MIN_DM_S: u16 = 10;

/// How long the speed of the epoch before stands in until the new epoch tells its own, in
/// milliseconds; receivers that send position first would else seem to stop at every epoch.
const TRACK_AGE_MAX_MS: u64 = 5_000;

/// Satellites that a three-dimensional fix needs.
const SATELLITES_3D: u8 = 4;

/// After this many weeks the week number of the GPS signal starts again at 0.
const ROLLOVER_MS: i64 = 1024 * 7 * DAY_MS;

/// How far before the firmware's build time a date may lie: a build machine's clock may be wrong.
const BEFORE_BUILD_MAX_MS: i64 = 365 * DAY_MS;

/// Whole rollovers that a receiver may be behind: 1999 and 2019 are past.
const ROLLOVERS_MAX: i64 = 2;

/// What the receiver last knew for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fix {
    /// When its first sentence arrived.
    pub received: UptimeMs,
    /// Where.
    pub coordinates: Coordinates,
    /// Radius of 95 %.
    pub accuracy: Decimetres,
    /// Speed over ground; 0 when the receiver does not tell.
    pub speed: DecimetresPerSecond,
    /// Course over ground.
    pub course: Measured<CourseDegrees>,
    /// Kind.
    pub quality: FixQuality,
    /// Satellites used; 0 when the receiver does not tell.
    pub satellites: u8,
}

/// The time as the receiver told it with a valid fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// When the first sentence of its epoch arrived.
    pub received: UptimeMs,
    /// Universal time of the epoch.
    pub utc: UtcMs,
    /// Whether 1024 weeks were added or taken away.
    pub rollover_corrected: bool,
}

/// A satellite receiver, as far as its words go.
#[derive(Clone, Debug)]
pub struct Receiver {
    parser: Parser,
    build_time: UtcMs,
    heard: Option<UptimeMs>,
    epoch: Option<Epoch>,
    hdop_centi: Option<u32>,
    fix: Option<Fix>,
    time: Option<Time>,
}

/// What the sentences of one epoch have said so far.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    received: UptimeMs,
    time: TimeOfDay,
    date: Option<Date>,
    fix: Option<FixData>,
    minimum: Option<Minimum>,
    track: Track,
    dimensions: Option<u8>,
}

impl Receiver {
    /// A receiver that has not spoken yet. Dates are judged by the firmware's build time.
    #[must_use]
    pub const fn new(build_time: UtcMs) -> Self {
        Self {
            parser: Parser::new(),
            build_time,
            heard: None,
            epoch: None,
            hdop_centi: None,
            fix: None,
            time: None,
        }
    }

    /// Take bytes as they come, cut anywhere.
    pub fn push(&mut self, bytes: &[u8], now: UptimeMs) {
        for byte in bytes {
            if let Some(sentence) = self.parser.push(*byte) {
                self.heard = Some(now);
                self.note(&sentence, now);
                self.conclude();
            }
        }
    }

    /// The position for a sample taken now, or why there is none.
    #[must_use]
    pub fn position(&self, now: UptimeMs) -> Measured<Position> {
        let silence = age_ms(self.heard.unwrap_or(UptimeMs::saturating(0)), now);
        if silence > SILENCE_MAX_MS {
            return Measured::Missing(Missing::SensorFault);
        }
        match (self.heard, self.current(now)) {
            (None, _) => Measured::Missing(Missing::NotSampled),
            (_, None) => Measured::Missing(Missing::NoFix),
            (_, Some(fix)) => Measured::Value(fix.position(now)),
        }
    }

    /// The fix, while it is young enough to be used.
    #[must_use]
    pub fn current(&self, now: UptimeMs) -> Option<Fix> {
        self.fix
            .filter(|fix| age_ms(fix.received, now) <= FIX_AGE_MAX_MS)
    }

    /// The last time told with a valid fix.
    #[must_use]
    pub const fn time(&self) -> Option<Time> {
        self.time
    }

    /// Lines that were begun and could not be used.
    #[must_use]
    pub const fn refused(&self) -> u32 {
        self.parser.refused()
    }

    fn note(&mut self, sentence: &Sentence, now: UptimeMs) {
        match *sentence {
            Sentence::Fix(fix) => {
                self.begin(fix.time, now);
                self.hdop_centi = fix.hdop_centi.or(self.hdop_centi);
                self.with_epoch(|epoch| epoch.merge(fix));
            }
            Sentence::Minimum(minimum) => {
                self.begin(minimum.time, now);
                self.with_epoch(|epoch| {
                    epoch.minimum = Some(minimum);
                    epoch.date = minimum.date.or(epoch.date);
                    epoch.move_along(minimum.track);
                });
            }
            Sentence::Clock { time, date } => {
                self.begin(time, now);
                self.with_epoch(|epoch| epoch.date = date.or(epoch.date));
            }
            Sentence::Active {
                dimensions,
                hdop_centi,
            } => {
                self.hdop_centi = hdop_centi.or(self.hdop_centi);
                self.with_epoch(|epoch| epoch.dimensions = dimensions.or(epoch.dimensions));
            }
            Sentence::Track(track) => self.with_epoch(|epoch| epoch.move_along(track)),
            Sentence::Other => {}
        }
    }

    /// A new time of day begins a new epoch.
    fn begin(&mut self, time: Option<TimeOfDay>, now: UptimeMs) {
        let Some(time) = time else { return };
        if self.epoch.is_none_or(|epoch| epoch.time != time) {
            let recent = |epoch: &Epoch| age_ms(epoch.received, now) <= TRACK_AGE_MAX_MS;
            let track = self.epoch.filter(recent).map(|epoch| epoch.track);
            self.epoch = Some(Epoch::new(time, now, track.unwrap_or_default()));
        }
    }

    fn with_epoch(&mut self, change: impl FnOnce(&mut Epoch)) {
        if let Some(epoch) = &mut self.epoch {
            change(epoch);
        }
    }

    /// Form fix and time from what the epoch has said so far.
    fn conclude(&mut self) {
        let Some(epoch) = self.epoch else { return };
        let hdop_centi = self.hdop_centi.unwrap_or(HDOP_UNKNOWN_CENTI);
        let Some(fix) = epoch.conclude(hdop_centi) else {
            return;
        };
        self.fix = Some(fix);
        if let Some(time) = epoch.utc(self.build_time) {
            self.time = Some(time);
        }
    }
}

impl Epoch {
    const fn new(time: TimeOfDay, received: UptimeMs, track: Track) -> Self {
        Self {
            received,
            time,
            date: None,
            fix: None,
            minimum: None,
            track,
            dimensions: None,
        }
    }

    /// Of two fix sentences (GGA and GNS) the one with the better mode counts.
    fn merge(&mut self, fix: FixData) {
        if self.fix.is_none_or(|known| known.mode <= fix.mode) {
            self.fix = Some(fix);
        }
    }

    fn move_along(&mut self, track: Track) {
        self.track = Track {
            speed_milliknots: track.speed_milliknots.or(self.track.speed_milliknots),
            course_centidegrees: track.course_centidegrees.or(self.track.course_centidegrees),
        };
    }

    /// The fix, unless a sentence says that there is none: a void RMC overrules a fix sentence.
    fn conclude(&self, hdop_centi: u32) -> Option<Fix> {
        if self.minimum.is_some_and(|minimum| !minimum.valid) {
            return None;
        }
        let told = self.fix.filter(|fix| fix.mode != Mode::Void);
        let by_fix = told.and_then(|fix| fix.coordinates);
        let by_minimum = self.minimum.and_then(|minimum| minimum.coordinates);
        let coordinates = by_fix.or(by_minimum).filter(|place| !null_island(place))?;
        let satellites = told.and_then(|fix| fix.satellites).unwrap_or(0);
        let speed = decimetres_per_second(self.track.speed_milliknots.unwrap_or(0));
        Some(Fix {
            received: self.received,
            coordinates,
            accuracy: accuracy(hdop_centi),
            speed,
            course: course(self.track.course_centidegrees, speed),
            quality: self.quality(told.map(|fix| fix.mode), satellites),
            satellites,
        })
    }

    fn quality(&self, mode: Option<Mode>, satellites: u8) -> FixQuality {
        match (mode, self.dimensions) {
            (Some(Mode::Rtk), _) => FixQuality::Rtk,
            (Some(Mode::Differential), _) => FixQuality::Differential,
            (Some(Mode::DeadReckoning), _) => FixQuality::DeadReckoning,
            (_, Some(3)) => FixQuality::Gnss3d,
            (_, None) if satellites >= SATELLITES_3D => FixQuality::Gnss3d,
            _ => FixQuality::Gnss2d,
        }
    }

    fn utc(&self, build_time: UtcMs) -> Option<Time> {
        let told = self.date?.utc_ms() + self.time.ms();
        let (utc, rollover_corrected) = unrolled(told, build_time)?;
        Some(Time {
            received: self.received,
            utc,
            rollover_corrected,
        })
    }
}

impl Fix {
    fn position(&self, now: UptimeMs) -> Position {
        let age_s = age_ms(self.received, now) / 1_000;
        Position {
            latitude: self.coordinates.latitude,
            longitude: self.coordinates.longitude,
            accuracy: self.accuracy,
            speed: self.speed,
            course: self.course,
            quality: self.quality,
            satellites: self.satellites,
            age: Seconds::saturating(age_s.cast_signed()),
        }
    }
}

/// The date told, moved by whole rollovers into the 1024 weeks that start a year before the build;
/// nothing when it takes more of them than a receiver can be off.
pub(crate) fn unrolled(told_ms: i64, build_time: UtcMs) -> Option<(UtcMs, bool)> {
    let earliest = build_time.get().checked_sub(BEFORE_BUILD_MAX_MS)?;
    let behind = earliest.checked_sub(told_ms)?;
    // How often to add 1024 weeks: rounded up when behind, negative when a rollover ahead.
    let rollovers = behind.div_euclid(ROLLOVER_MS) + i64::from(behind.rem_euclid(ROLLOVER_MS) != 0);
    if !(-1..=ROLLOVERS_MAX).contains(&rollovers) {
        return None;
    }
    let utc = UtcMs::new(told_ms + rollovers * ROLLOVER_MS)?;
    Some((utc, rollovers != 0))
}

const fn null_island(place: &Coordinates) -> bool {
    place.latitude.get() == 0 && place.longitude.get() == 0
}

fn accuracy(hdop_centi: u32) -> Decimetres {
    let millimetres = i64::from(hdop_centi) * i64::from(ACCURACY_PER_HDOP_MM) / 100;
    Decimetres::saturating((millimetres + 99) / 100)
}

/// One knot is 1852 m in 3600 s, so a thousandth of it is 463 / 90000 dm/s.
fn decimetres_per_second(milliknots: u32) -> DecimetresPerSecond {
    DecimetresPerSecond::saturating((i64::from(milliknots) * 463 + 45_000) / 90_000)
}

fn course(centidegrees: Option<u32>, speed: DecimetresPerSecond) -> Measured<CourseDegrees> {
    let whole = centidegrees.map(|course| (course + 50) / 100 % 360);
    match whole {
        Some(degrees) if speed.get() >= COURSE_SPEED_MIN_DM_S => {
            Measured::Value(CourseDegrees::saturating(i64::from(degrees)))
        }
        _ => Measured::Missing(Missing::NotSampled),
    }
}

const fn age_ms(since: UptimeMs, now: UptimeMs) -> u64 {
    now.get().saturating_sub(since.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILD: i64 = 1_773_446_400_000;

    fn at(ms: i64) -> UptimeMs {
        UptimeMs::saturating(ms)
    }

    fn receiver() -> Receiver {
        Receiver::new(UtcMs::saturating(BUILD))
    }

    fn line(text: &str) -> String {
        let sum = text.bytes().fold(0, |sum, byte| sum ^ byte);
        format!("${text}*{sum:02X}\r\n")
    }

    const RMC: &str = "GPRMC,120000.00,A,4807.0380,N,01131.0000,E,022.4,084.4,";

    #[test]
    fn the_sentences_of_one_epoch_make_one_fix() {
        let mut receiver = receiver();
        let gga = "GPGGA,120000.00,4807.0380,N,01131.0000,E,1,08,0.9,545.4,M,46.9,M,,";
        for text in [gga, "GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,0.9,2.1"] {
            receiver.push(line(text).as_bytes(), at(5_000));
        }
        receiver.push(line(&format!("{RMC}140326,,,A")).as_bytes(), at(5_400));
        let position = receiver.position(at(8_500)).value().unwrap();
        assert_eq!(position.latitude.get(), 481_173_000);
        assert_eq!(position.accuracy.get(), 78, "0.9 x 8.654 m, rounded up");
        assert_eq!(position.speed.get(), 115, "22.4 knots");
        assert_eq!(position.course.value().unwrap().get(), 84);
        assert_eq!(position.quality, FixQuality::Gnss3d);
        assert_eq!((position.satellites, position.age.get()), (8, 3));
        assert_eq!(receiver.time().unwrap().utc.get(), BUILD + DAY_MS / 2);
        assert_eq!(receiver.time().unwrap().received, at(5_000));
    }

    #[test]
    fn a_void_rmc_overrules_a_fix_sentence_and_an_old_fix_ends() {
        let mut receiver = receiver();
        receiver.push(line(&format!("{RMC}140326,,,A")).as_bytes(), at(0));
        let gga = "GPGGA,120001.00,0000.0000,N,00131.0000,E,1,08,0.9,545.4,M,46.9,M,,";
        receiver.push(
            line("GPRMC,120001.00,V,,,,,,,140326,,,N").as_bytes(),
            at(1_000),
        );
        receiver.push(line(gga).as_bytes(), at(30_000));
        let kept = receiver.position(at(30_000)).value().unwrap();
        assert_eq!((kept.latitude.get(), kept.age.get()), (481_173_000, 30));
        let missing = Measured::Missing(Missing::NoFix);
        assert_eq!(receiver.position(at(30_001)), missing);
    }

    #[test]
    fn a_silent_receiver_is_at_fault_but_not_while_it_starts() {
        let mut receiver = receiver();
        let missing = |reason| Measured::Missing(reason);
        assert_eq!(receiver.position(at(9)), missing(Missing::NotSampled));
        assert_eq!(receiver.position(at(30_001)), missing(Missing::SensorFault));
        receiver.push(line("GPRMC,,V,,,,,,,,,,N").as_bytes(), at(40_000));
        assert_eq!(receiver.position(at(40_000)), missing(Missing::NoFix));
        assert_eq!(receiver.position(at(70_001)), missing(Missing::SensorFault));
    }

    #[test]
    fn zero_north_zero_east_is_no_position() {
        let mut receiver = receiver();
        let text = "GPRMC,120000.00,A,0000.0000,N,00000.0000,E,0.0,0.0,140326,,,A";
        receiver.push(line(text).as_bytes(), at(0));
        assert_eq!(receiver.position(at(0)), Measured::Missing(Missing::NoFix));
        assert_eq!(receiver.time(), None);
    }

    #[test]
    fn a_date_1024_weeks_off_is_corrected_and_flagged_and_nonsense_is_refused() {
        let time = |date: &str| {
            let mut receiver = receiver();
            receiver.push(line(&format!("{RMC}{date},,,A")).as_bytes(), at(0));
            receiver
                .time()
                .map(|time| (time.utc.get(), time.rollover_corrected))
        };
        let noon = BUILD + DAY_MS / 2;
        assert_eq!(time("140326"), Some((noon, false)));
        assert_eq!(time("290706"), Some((noon, true)), "1024 weeks behind");
        assert_eq!(time("281045"), Some((noon, true)), "1024 weeks ahead");
        assert_eq!(time("060180"), None, "the receiver's zero");
        assert_eq!(time("310226"), None);
    }
}
