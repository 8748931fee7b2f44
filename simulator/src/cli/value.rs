//! Values of the command line.

use std::time::Duration;

use chrono::{DateTime, Utc};
use protocol::units::UtcMs;

/// A duration with its unit: `500ms`, `30s`, `5min`, `2h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| allowed(text))?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(allowed(text)),
    };
    Ok(Duration::from_millis(number.saturating_mul(unit_ms)))
}

fn allowed(text: &str) -> String {
    format!("{text} is no duration: a whole number with unit ms, s, min or h, such as 30s")
}

/// A moment: RFC 3339, or a date for its midnight UTC.
pub(super) fn moment(text: &str) -> Result<UtcMs, String> {
    let full = format!("{text}T00:00:00Z");
    let parsed =
        DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_rfc3339(&full));
    parsed
        .map(|moment| UtcMs::saturating(moment.with_timezone(&Utc).timestamp_millis()))
        .map_err(|_| format!("{text} is no moment: such as 2026-03-02 or 2026-03-02T06:30:00Z"))
}

/// `recorded`, or how many times faster.
pub(super) fn pace(text: &str) -> Result<u32, String> {
    match (text, text.parse()) {
        ("recorded", _) => Ok(1),
        (_, Ok(times)) if times >= 1 => Ok(times),
        _ => Err(format!(
            "{text} is no pace: recorded, or a whole number from 1"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5min"), Ok(Duration::from_secs(300)));
        assert!(duration("30").is_err() && duration("s").is_err() && duration("1.5h").is_err());
    }

    #[test]
    fn a_moment_is_a_date_or_a_time_with_offset() {
        let midnight = moment("2026-03-02").unwrap();
        assert_eq!(moment("2026-03-02T01:00:00+01:00"), Ok(midnight));
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn a_pace_is_recorded_or_faster() {
        assert_eq!(pace("recorded"), Ok(1));
        assert_eq!(pace("60"), Ok(60));
        assert!(pace("0").is_err() && pace("slow").is_err());
    }
}
