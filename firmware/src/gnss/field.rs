//! Fields of an NMEA 0183 sentence: numbers, angles, times and dates, in integers only.

use protocol::units::{Latitude, Longitude};

/// Milliseconds of a day.
pub const DAY_MS: i64 = 86_400_000;

/// The fields of a sentence, one after the other; past the end they are empty, because receivers
/// of older NMEA versions send fewer.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    /// The fields of `text`, which starts at the first of them.
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self { rest: Some(text) }
    }

    /// The next field.
    pub(super) fn next(&mut self) -> &'a [u8] {
        let Some(rest) = self.rest else { return &[] };
        let mut parts = rest.splitn(2, |byte| *byte == b',');
        let field = parts.next().unwrap_or_default();
        self.rest = parts.next();
        field
    }

    /// Leave out `count` fields.
    pub(super) fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.next();
        }
    }
}

/// A non-negative decimal number, scaled by 10 to the power of `decimals` and rounded; digits
/// beyond that are read but cannot overflow anything.
pub(super) fn decimal(field: &[u8], decimals: u32) -> Option<i64> {
    let mut parts = field.splitn(2, |byte| *byte == b'.');
    let (whole, fraction) = (parts.next()?, parts.next().unwrap_or_default());
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = digits(whole)?;
    let mut rest = fraction.iter();
    for _ in 0..decimals {
        let digit = rest.next().map_or(Some(0), |byte| digit(*byte))?;
        value = value.checked_mul(10)?.checked_add(digit)?;
    }
    let next = rest.next().map_or(Some(0), |byte| digit(*byte))?;
    let clean = rest.all(u8::is_ascii_digit);
    clean.then(|| value.saturating_add(i64::from(next >= 5)))
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0_i64, |value, byte| {
        value.checked_mul(10)?.checked_add(digit(*byte)?)
    })
}

fn digit(byte: u8) -> Option<i64> {
    byte.is_ascii_digit().then(|| i64::from(byte - b'0'))
}

/// `ddmm.mmmm` and a hemisphere.
pub(super) fn latitude(field: &[u8], hemisphere: &[u8]) -> Option<Latitude> {
    let signed = signed(angle(field, 2)?, hemisphere, b"N", b"S")?;
    Latitude::new(i32::try_from(signed).ok()?)
}

/// `dddmm.mmmm` and a hemisphere.
pub(super) fn longitude(field: &[u8], hemisphere: &[u8]) -> Option<Longitude> {
    let signed = signed(angle(field, 3)?, hemisphere, b"E", b"W")?;
    Longitude::new(i32::try_from(signed).ok()?)
}

/// Degrees and minutes to 1e-7 degrees, rounded to nearest.
fn angle(field: &[u8], degree_digits: usize) -> Option<i64> {
    let (degrees, minutes) = field.split_at_checked(degree_digits)?;
    let degrees = digits(degrees)?;
    // 1e-8 minutes; 60 minutes of 1e8 make 1e7 units, hence 600 to one.
    let minutes = decimal(minutes, 8)?;
    if minutes >= 60 * 100_000_000 {
        return None;
    }
    Some(degrees * 10_000_000 + (minutes + 300) / 600)
}

fn signed(value: i64, hemisphere: &[u8], plus: &[u8], minus: &[u8]) -> Option<i64> {
    match hemisphere {
        letter if letter == plus => Some(value),
        letter if letter == minus => Some(-value),
        _ => None,
    }
}

/// Time of day of a sentence, in milliseconds; a leap second counts as the next one's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(i64);

impl TimeOfDay {
    /// `hhmmss.sss`.
    #[must_use]
    pub fn parse(field: &[u8]) -> Option<Self> {
        let (hours, rest) = field.split_at_checked(2)?;
        let (minutes, seconds) = rest.split_at_checked(2)?;
        let (hours, minutes) = (digits(hours)?, digits(minutes)?);
        let seconds_ms = decimal(seconds, 3)?;
        let sane = hours < 24 && minutes < 60 && seconds_ms < 61_000;
        sane.then_some(Self((hours * 60 + minutes) * 60_000 + seconds_ms))
    }

    /// Milliseconds since midnight.
    #[must_use]
    pub const fn ms(self) -> i64 {
        self.0
    }
}

/// A day of the calendar that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    year: i64,
    month: i64,
    day: i64,
}

impl Date {
    /// `ddmmyy`; the satellite system began in 1980, so 80 to 99 are the last century.
    #[must_use]
    pub fn parse_short(field: &[u8]) -> Option<Self> {
        let value = (field.len() == 6).then(|| digits(field))??;
        let year = value % 100;
        let century = if year >= 80 { 1900 } else { 2000 };
        Self::new(century + year, value / 100 % 100, value / 10_000)
    }

    /// Day, month and four-digit year in fields of their own.
    #[must_use]
    pub fn parse_fields(day: &[u8], month: &[u8], year: &[u8]) -> Option<Self> {
        let year = (year.len() == 4).then(|| digits(year))??;
        let day = (!day.is_empty()).then(|| digits(day))??;
        let month = (!month.is_empty()).then(|| digits(month))??;
        Self::new(year, month, day)
    }

    /// The day, unless the calendar has none such.
    #[must_use]
    pub const fn new(year: i64, month: i64, day: i64) -> Option<Self> {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let longest = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        if year < 1980 || year > 2199 || day < 1 || day > longest {
            return None;
        }
        Some(Self { year, month, day })
    }

    /// Milliseconds from 1970 to the start of the day.
    ///
    /// Days from the civil calendar, counted in years that start in March (Hinnant,
    /// "chrono-compatible low-level date algorithms", `days_from_civil`).
    #[must_use]
    pub const fn utc_ms(self) -> i64 {
        let year = if self.month <= 2 {
            self.year - 1
        } else {
            self.year
        };
        let era = year / 400;
        let of_era = year % 400;
        let from_march = (self.month + 9) % 12;
        let of_year = (153 * from_march + 2) / 5 + self.day - 1;
        let days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
        (era * 146_097 + days - 719_468) * DAY_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_decimals_are_rounded_and_never_overflow() {
        assert_eq!(decimal(b"34.49821229", 8), Some(3_449_821_229));
        assert_eq!(decimal(b"1.99999999999999999999999999999999", 2), Some(200));
        assert_eq!(decimal(b"0.5", 0), Some(1));
        assert_eq!(decimal(b".5", 1), Some(5));
        assert_eq!(decimal(b"", 1), None);
        assert_eq!(decimal(b"1.2x", 1), None);
        assert_eq!(decimal(b"99999999999999999999", 0), None);
    }

    #[test]
    fn an_angle_needs_its_hemisphere_and_stays_on_the_globe() {
        let north = latitude(b"4807.038", b"N");
        assert_eq!(north, Latitude::new(481_173_000));
        assert_eq!(longitude(b"01131.000", b"W"), Longitude::new(-115_166_667));
        assert_eq!(latitude(b"4807.038", b""), None);
        assert_eq!(latitude(b"4860.000", b"N"), None);
        assert_eq!(latitude(b"9100.000", b"N"), None);
    }

    #[test]
    fn days_that_do_not_exist_are_refused() {
        assert_eq!(Date::parse_short(b"300223"), None);
        assert_eq!(Date::parse_short(b"290224"), Date::new(2024, 2, 29));
        assert_eq!(Date::parse_short(b"220899"), Date::new(1999, 8, 22));
        assert_eq!(Date::parse_short(b"001300"), None);
        assert_eq!(Date::parse_fields(b"", b"", b"2024"), None);
    }

    #[test]
    fn a_date_counts_from_1970() {
        let day = Date::new(2026, 3, 14).unwrap();
        assert_eq!(day.utc_ms(), 1_773_446_400_000);
    }

    #[test]
    fn times_of_day_are_bounded() {
        assert_eq!(
            TimeOfDay::parse(b"235959.99").map(TimeOfDay::ms),
            Some(86_399_990)
        );
        assert_eq!(TimeOfDay::parse(b"240000"), None);
        assert_eq!(TimeOfDay::parse(b"1"), None);
    }
}
