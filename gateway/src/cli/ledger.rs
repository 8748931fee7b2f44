//! `supercargo ledger`: whether everything is accounted for.

use clap::Args;
use protocol::key::DeviceId;
use serde_json::Value;

use super::Exit;
use super::output::{self, Output};
use super::query::{Place, ask, done, plain};
use crate::control::{Request, Row};

/// Balance what came of trackers and what they say they sent.
///
/// What came: received = stored + duplicate + contested + refused. What a tracker numbered and is not here: lost
/// on the device, pending on it, or unexplained. Exit code 1 when anything is unexplained or does not balance,
/// or when the tracker was never heard.
#[derive(Args, Debug)]
pub(super) struct Ledger {
    /// One tracker; without it all that were ever heard, one row each
    device: Option<DeviceId>,
    #[command(flatten)]
    place: Place,
}

pub(super) fn ledger(asked: &Ledger, output: &Output) -> Exit {
    let device = asked.device.as_ref().map(DeviceId::to_string);
    let mut sound = true;
    let told = ask(&asked.place, &Request::Ledger { device }, |row| {
        sound &= is_sound(&row);
        output.row(&row, line)
    });
    let nothing = matches!(told, Ok(0));
    if nothing {
        output::say("nothing was ever heard of that");
    }
    let heard = !(nothing && asked.device.is_some());
    match done(told) {
        Exit::Good if !(sound && heard) => Exit::Finding,
        exit => exit,
    }
}

fn is_sound(row: &Row) -> bool {
    row.value("balanced") == Some(&Value::Bool(true))
        && row.value("unexplained").and_then(Value::as_u64) == Some(0)
}

/// A row for people: every count that is not 0.
fn line(row: &Row) -> String {
    let words = row.iter().filter_map(|(name, value)| match name {
        "device" => Some(format!("{:<24}", plain(value))),
        "balanced" if *value == Value::Bool(true) => None,
        "balanced" => Some("DOES NOT BALANCE".to_owned()),
        "received" | "stored" | "unexplained" => Some(format!("{name} {}", plain(value))),
        _ if value.as_u64() == Some(0) => None,
        _ => Some(format!("{name} {}", plain(value))),
    });
    words.collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_sound_when_it_balances_and_nothing_is_unexplained() {
        let row = |unexplained: u64, balanced: bool| {
            let mut row = Row::new();
            row.put("device", "t-1");
            row.put("received", 4);
            row.put("duplicate", 0);
            row.put("unexplained", unexplained);
            row.put("balanced", balanced);
            row
        };
        assert!(is_sound(&row(0, true)));
        assert!(!is_sound(&row(1, true)) && !is_sound(&row(0, false)));
        let told = line(&row(0, false));
        assert!(
            told.ends_with("received 4  unexplained 0  DOES NOT BALANCE"),
            "{told}"
        );
    }
}
