//! `supercargo audit`: what people did.

use chrono::DateTime;
use clap::Args;

use super::Exit;
use super::output::{self, Output};
use super::query::{Place, ask, done, plain};
use crate::clock::wall_utc;
use crate::control::{Request, Row};

/// Show what people changed or took away, who did so, and what came of it.
///
/// Settings set and cleared, devices added, rotated and revoked, quarantined payloads exported and dropped, backups,
/// salvages by command, certificates made where this gateway was named, what was refused of these, and what the gateway
/// did to its store or its trackers by itself. Oldest first.
#[derive(Args, Debug)]
pub(super) struct Audit {
    /// Only from this time on: 2026-03-01T00:00:00Z, or how long ago, such as 2d
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<i64>,
    #[command(flatten)]
    place: Place,
}

pub(super) fn audit(asked: &Audit, output: &Output) -> Exit {
    let since_ms = asked.since;
    let told = ask(&asked.place, &Request::Audit { since_ms }, |row| {
        output.row(&row, line)
    });
    if matches!(told, Ok(0)) {
        output::say("nothing was done");
    }
    done(told)
}

/// Milliseconds since 1970 of a time, or of a duration before now.
fn since(text: &str) -> Result<i64, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_millis());
    }
    let ago = super::duration(text).map_err(|_| {
        "need a time with offset such as 2026-03-01T00:00:00Z, or a duration such as 2d".to_owned()
    })?;
    let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
    Ok(wall_utc().get().saturating_sub(ago))
}

/// An act for people.
fn line(row: &Row) -> String {
    let word = |name| row.value(name).map(plain).unwrap_or_default();
    let user = match (row.value("user"), row.value("uid")) {
        (Some(user), _) => plain(user),
        (None, Some(uid)) => format!("uid {}", plain(uid)),
        (None, None) => "-".to_owned(),
    };
    format!(
        "{}  {:<12}  {:<7}  {:<17}  {:<20}  {}  -> {}",
        word("at"),
        user,
        word("by"),
        word("what"),
        word("device"),
        word("detail"),
        word("result"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_how_long_ago() {
        assert_eq!(since("2026-03-01T01:00:00+01:00"), Ok(1_772_323_200_000));
        let before = wall_utc().get();
        let day = since("1d").unwrap() + 86_400_000;
        assert!((before..=wall_utc().get()).contains(&day), "{day}");
        assert!(since("yesterday").unwrap_err().contains("such as 2d"));
    }
}
