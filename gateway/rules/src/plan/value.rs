//! Values of a plan file: texts, numbers, durations, times, each with its range.

use std::ops::RangeInclusive;
use std::time::Duration;

use protocol::key::DeviceId;
use protocol::units::UtcMs;
use toml::de::DeValue;
use toml::value::{Datetime, Offset};

use super::fault::Problem;

/// Longest id of a fence, profile, shipment, unit or stop, in characters: fits a topic and a log line.
const ID_MAX_CHARS: usize = 64;

/// Longest text for people, in characters: fits one line of a report.
const TEXT_MAX_CHARS: usize = 200;

/// What an id may be, in words.
pub(super) const ID_ALLOWED: &str = "1 to 64 of A-Z a-z 0-9 _ . : -";

/// What a duration may be, in words.
const DURATION_ALLOWED: &str = "a number with ms, s, min, h or d, such as \"10h\"";

/// What a time may be, in words.
const TIME_ALLOWED: &str = "a date and time with offset, such as 2026-03-02T08:00:00Z";

/// A name that becomes part of event ids.
pub(super) fn id(value: &DeValue<'_>) -> Result<String, Problem> {
    let text = string(value, ID_ALLOWED)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    if text.is_empty() || text.len() > ID_MAX_CHARS || !text.chars().all(allowed) {
        return Err(Problem::new("not a valid id", ID_ALLOWED));
    }
    Ok(text.to_owned())
}

/// A device id.
pub(super) fn device(value: &DeValue<'_>) -> Result<DeviceId, Problem> {
    let allowed = "a device id, 1 to 64 of A-Z a-z 0-9 _ -";
    string(value, allowed)?
        .parse()
        .map_err(|error| Problem::new(format!("{error}"), allowed))
}

/// Words for people.
pub(super) fn text(value: &DeValue<'_>) -> Result<String, Problem> {
    let allowed = "a text of 1 to 200 characters without control characters";
    let text = string(value, allowed)?;
    let length = text.chars().count();
    if length == 0 || length > TEXT_MAX_CHARS || text.chars().any(char::is_control) {
        return Err(Problem::new("not a usable text", allowed));
    }
    Ok(text.to_owned())
}

/// Any text.
pub(super) fn string<'v>(value: &'v DeValue<'_>, allowed: &str) -> Result<&'v str, Problem> {
    let wrong = || Problem::new(format!("{} instead of a text", value.type_str()), allowed);
    value.as_str().ok_or_else(wrong)
}

/// A true or false.
pub(super) fn flag(value: &DeValue<'_>) -> Result<bool, Problem> {
    let wrong = || {
        Problem::new(
            format!("{} instead of a flag", value.type_str()),
            "true or false",
        )
    };
    value.as_bool().ok_or_else(wrong)
}

/// A number in a range; `unit` is for the words.
pub(super) fn number(
    range: RangeInclusive<f64>,
    unit: &str,
) -> impl Fn(&DeValue<'_>) -> Result<f64, Problem> {
    move |value| {
        let allowed = format!("{} to {} {unit}", range.start(), range.end());
        let found = float(value).filter(|number| range.contains(number));
        found.ok_or_else(|| Problem::new("not a number in range", allowed.trim_end()))
    }
}

/// A whole number in a range.
pub(super) fn integer(range: RangeInclusive<i64>) -> impl Fn(&DeValue<'_>) -> Result<i64, Problem> {
    move |value| {
        let allowed = format!("a whole number {} to {}", range.start(), range.end());
        let found = whole(value).filter(|number| range.contains(number));
        found.ok_or_else(|| Problem::new("not a whole number in range", allowed))
    }
}

/// A duration of at most `max`.
pub(super) fn duration(max: Duration) -> impl Fn(&DeValue<'_>) -> Result<Duration, Problem> {
    move |value| {
        let text = string(value, DURATION_ALLOWED)?;
        let parsed = parse_duration(text);
        let parsed = parsed.ok_or_else(|| Problem::new("not a duration", DURATION_ALLOWED))?;
        if parsed > max {
            let allowed = format!("at most {} h", max.as_secs() / 3_600);
            return Err(Problem::new("too long", allowed));
        }
        Ok(parsed)
    }
}

/// A moment with its offset from universal time.
pub(super) fn time(value: &DeValue<'_>) -> Result<UtcMs, Problem> {
    let wrong = || Problem::new("not a moment in universal time", TIME_ALLOWED);
    value.as_datetime().and_then(utc).ok_or_else(wrong)
}

/// One of some names.
pub(super) fn choice<T: Copy>(
    names: &[(&'static str, T)],
) -> impl Fn(&DeValue<'_>) -> Result<T, Problem> {
    move |value| {
        let known = || names.iter().map(|(name, _)| *name);
        let text = string(value, &known().collect::<Vec<_>>().join(", "))?;
        let found = names.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, choice)| *choice)
            .ok_or_else(|| Problem::choice("not one of the names", text, known()))
    }
}

fn float(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(float) => float.as_str().replace('_', "").parse().ok(),
        #[expect(clippy::cast_precision_loss, reason = "ranges are far below 2^53")]
        DeValue::Integer(_) => whole(value).map(|integer| integer as f64),
        _ => None,
    }
}

fn whole(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
}

/// "1h", "90 s", "500ms", "2d", "15min"; whole numbers only.
fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit_ms = match unit.trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}

/// Milliseconds since 1970 of a complete date-time with offset.
fn utc(datetime: &Datetime) -> Option<UtcMs> {
    let (date, time) = (datetime.date?, datetime.time?);
    let offset_min = match datetime.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_since_1970(
        i64::from(date.year),
        i64::from(date.month),
        i64::from(date.day),
    );
    let minutes = days * 1_440 + i64::from(time.hour) * 60 + i64::from(time.minute) - offset_min;
    let seconds = minutes * 60 + i64::from(time.second.unwrap_or(0));
    let millis = i64::from(time.nanosecond.unwrap_or(0) / 1_000_000);
    UtcMs::new(seconds * 1_000 + millis)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", `days_from_civil`).
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("10h"), Some(Duration::from_secs(36_000)));
        assert_eq!(parse_duration("90 s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("90"), None);
        assert_eq!(parse_duration("h"), None);
        assert_eq!(parse_duration("99999999999999999999d"), None);
    }

    #[test]
    fn dates_become_milliseconds_since_1970() {
        let at = |text: &str| utc(&text.parse().unwrap()).map(UtcMs::get);
        assert_eq!(at("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(at("2026-03-02T00:00:00Z"), Some(1_772_409_600_000));
        assert_eq!(at("2026-03-02T01:00:00.5+01:00"), Some(1_772_409_600_500));
        assert_eq!(at("2026-03-02T01:00:00"), None, "an offset is required");
    }
}
