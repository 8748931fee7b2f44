//! `supercargo settings`: what trackers should have, and what they say to it.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use protocol::key::DeviceId;
use protocol::setting::Amount;
use serde_json::Value;

use super::Exit;
use super::output::{self, Output};
use super::query::{Place, ask, done, plain};
use crate::control::settings::{allowed, keys};
use crate::control::{Request, Row};

/// Show or change the settings that trackers should have.
///
/// Settings are sent to a tracker as soon as it is connected, and again until it has answered. They are
/// checked as a whole, here and by the tracker, and come into force as a whole.
#[derive(Args, Debug)]
pub(super) struct Settings {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Say where the settings of trackers stand
    Show {
        /// One tracker, with each of its settings; without it all for which some are wanted
        device: Option<DeviceId>,
        #[command(flatten)]
        place: Place,
    },
    /// Change the settings wanted of a tracker
    ///
    /// What is not named stays as it is wanted or in force; it is the default while neither is known.
    #[command(after_help = table())]
    Set {
        /// The tracker; one that was never heard gets them when it comes
        device: DeviceId,
        /// Settings and their values, such as sample_moving=30s
        #[arg(required = true, value_name = "KEY=VALUE")]
        changes: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Want nothing of a tracker any more; it keeps the settings it has
    Clear {
        /// The tracker
        device: DeviceId,
        #[command(flatten)]
        place: Place,
    },
}

pub(super) fn settings(asked: &Settings, output: &Output) -> Exit {
    let (place, request) = match &asked.command {
        Command::Show { device, place } => {
            let device = device.as_ref().map(DeviceId::to_string);
            (place, Request::ShowSettings { device })
        }
        Command::Set {
            device,
            changes,
            place,
        } => {
            let (device, changes) = (device.to_string(), changes.clone());
            (place, Request::SetSettings { device, changes })
        }
        Command::Clear { device, place } => {
            let device = device.to_string();
            (place, Request::ClearSettings { device })
        }
    };
    let asked = ask(place, &request, |row| {
        notice(&row);
        output.row(&row, line)
    });
    if let (Ok(0), Request::ShowSettings { device: None }) = (&asked, &request) {
        output::say("no settings are wanted of any tracker");
    }
    done(asked)
}

/// The keys with what they may be, for the help page.
fn table() -> String {
    let mut table = String::from("Keys, what they may be, and their defaults:\n");
    for range in keys() {
        let (field, raw) = (range.field, range.default);
        let default = Amount { field, raw };
        // Writing into a string cannot fail.
        let _ = writeln!(
            table,
            "  {:<20} {:<28} {default}",
            range.name,
            allowed(range)
        );
    }
    table
}

/// A row for people.
fn line(row: &Row) -> String {
    if row.value("problem").is_some() {
        return fault(row);
    }
    if row.value("key").is_some() {
        return setting(row);
    }
    standing(row)
}

fn word(row: &Row, name: &str) -> String {
    row.value(name).map(plain).unwrap_or_default()
}

fn is(row: &Row, name: &str, value: bool) -> bool {
    row.value(name) == Some(&Value::Bool(value))
}

/// Where the settings of a tracker stand.
fn standing(row: &Row) -> String {
    let mut line = match row.value("changed") {
        None => word(row, "device"),
        Some(Value::Bool(true)) if word(row, "state") == "waiting" => {
            format!("stored for {}", word(row, "device"))
        }
        Some(Value::Bool(true)) => format!("cleared for {}", word(row, "device")),
        Some(_) => format!("nothing to change for {}", word(row, "device")),
    };
    let _ = write!(line, ": {}", word(row, "state"));
    for (name, words) in [
        ("version", "version"),
        ("set_at", "set"),
        ("since", "since"),
        ("reason", "because"),
        ("in_force_version", "in force is version"),
    ] {
        if let Some(value) = row.value(name) {
            let _ = write!(line, ", {words} {}", plain(value));
        }
    }
    line
}

/// One setting of a tracker.
fn setting(row: &Row) -> String {
    let amount = |name| match row.value(name) {
        None => "-".to_owned(),
        Some(value) if value == "off" => "off".to_owned(),
        Some(value) => format!("{} {}", plain(value), word(row, "unit")),
    };
    format!(
        "  {:<20} wanted {:<14} in force {:<14} default {}",
        word(row, "key"),
        amount("wanted"),
        amount("in_force"),
        amount("default")
    )
}

/// One thing wrong with a change.
fn fault(row: &Row) -> String {
    let mut line = word(row, "key");
    if let Some(Value::String(value)) = row.value("value") {
        let _ = write!(line, "={value}");
    }
    let _ = write!(
        line,
        ": {}; allowed: {}",
        word(row, "problem"),
        word(row, "allowed")
    );
    if let Some(Value::String(meant)) = row.value("did_you_mean") {
        let _ = write!(line, "; did you mean {meant}?");
    }
    line
}

/// What a person should know beside the result of a change.
fn notice(row: &Row) {
    if !is(row, "changed", true) || word(row, "state") != "waiting" {
        return;
    }
    let device = word(row, "device");
    if is(row, "heard", false) {
        output::say(&format!(
            "{device} has not been heard yet; it gets them when it comes"
        ));
    } else if is(row, "connected", true) {
        output::say(&format!(
            "{device} is connected and is told now, if it listens"
        ));
    } else {
        output::say(&format!("{device} gets them when it connects next"));
    }
    if row.value("in_force_version").is_some() && is(row, "in_force_known", false) {
        output::say(&format!(
            "version {} in force on {device} was not set here: what you did not name is replaced too; see settings show {device}",
            word(row, "in_force_version")
        ));
    }
}
