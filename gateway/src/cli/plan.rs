//! `supercargo plan`: which plans judged, and since when.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Exit;
use super::output::{self, Output};
use super::query::{Place, ask, done, plain};
use crate::control::{Request, Row};

/// Show the plans that the gateway has judged by.
///
/// Every plan that a gateway starts with is kept for ever, with the profiles it cites and the options that
/// decide with it. Each holds from its first use until the next one's. Exit code 1 when there is none.
#[derive(Args, Debug)]
pub(super) struct Plans {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// List them in the order of their first use, one row each
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Print one as it was read, with what it cites
    Show {
        /// Which; without it the one in use
        number: Option<u64>,
        #[command(flatten)]
        place: Place,
    },
}

pub(super) fn plan(asked: &Plans, output: &Output) -> Exit {
    let (place, request) = match &asked.verb {
        Verb::List { place } => (place, Request::ListPlans),
        Verb::Show { number, place } => (place, Request::ShowPlan { number: *number }),
    };
    let mut whole = true;
    let told = ask(place, &request, |row| {
        whole &= row.value("whole") != Some(&Value::Bool(false));
        output.row(&row, line)
    });
    let nothing = matches!(told, Ok(0));
    if nothing {
        output::say("no such plan was ever used");
    }
    if !whole {
        output::say("its text is damaged on disk and is not shown; a backup may have it");
    }
    match done(told) {
        Exit::Good if nothing || !whole => Exit::Finding,
        exit => exit,
    }
}

/// A row for people: comments around the text, so that what is printed is a plan again.
fn line(row: &Row) -> String {
    let word = |name| row.value(name).map(plain).unwrap_or_default();
    if let Some(text) = row.value("text").and_then(Value::as_str) {
        return format!("# {}\n{}", word("name"), text.trim_end());
    }
    let is_shown = row.value("kind").is_some();
    let words = row.iter().filter_map(|(name, value)| match name {
        "revision" => Some(format!("{:>6}", plain(value))),
        "first_used_at" => Some(plain(value)),
        "kind" | "sources" | "whole" => None,
        "digest" => Some(plain(value).chars().take(12).collect()),
        _ if plain(value).is_empty() => None,
        _ => Some(format!("{name} {}", plain(value))),
    });
    let words = words.collect::<Vec<_>>().join("  ");
    if is_shown {
        format!("# {}", words.trim_start())
    } else {
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_printed_so_that_it_can_be_read_as_one_again() {
        let mut head = Row::new();
        head.put("revision", 3);
        head.put("first_used_at", "2026-03-01T00:00:00Z");
        head.put("differs_in", "");
        head.put("digest", "0123456789abcdef");
        let listed = line(&head);
        assert_eq!(listed, "     3  2026-03-01T00:00:00Z  0123456789ab");
        head.put("kind", "revision");
        let mut source = Row::new();
        source.put("name", "plan");
        source.put("text", "version = 1\n");
        let shown = format!("{}\n{}", line(&head), line(&source));
        assert_eq!(
            shown,
            "# 3  2026-03-01T00:00:00Z  0123456789ab\n# plan\nversion = 1"
        );
        assert!(rules::plan::Plan::parse(&shown).is_ok());
    }
}
