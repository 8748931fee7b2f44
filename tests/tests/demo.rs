//! `supercargo demo` as a stranger runs it: it ends by itself, what was reported is what happened, every
//! reading is accounted for, and what was kept can be exported.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result};
use serde_json::Value;
use tests::peer;

/// Seeds of the long campaign; the quick one runs the first.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=10;

/// Seeds of the quick run that must show everything in [`SHORT`].
const SEEDS_SHORT: std::ops::RangeInclusive<u64> = 2..=3;

/// Wall time of a demo.
const LONG: &str = "30s";
/// Wall time within which every world shows an excursion, a shock and a delivery.
const SHORT: &str = "20s";

fn demo(wall: &str, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(peer::product("supercargo")?);
    command.arg("demo").args(["--for", wall]).args(arguments);
    command.output().context("run the demo")
}

/// The last line, which must be JSON.
fn summary(output: &Output) -> Result<Value> {
    let text = std::str::from_utf8(&output.stdout)?;
    let last = text.lines().last().context("nothing on standard output")?;
    serde_json::from_str(last).with_context(|| format!("last line is no JSON: {last}"))
}

fn number(summary: &Value, name: &str) -> u64 {
    summary[name]
        .as_u64()
        .unwrap_or_else(|| panic!("no {name} in {summary}"))
}

fn is_whole(summary: &Value) {
    for name in [
        "missing_events",
        "unexpected_events",
        "refused",
        "contested",
    ] {
        assert_eq!(number(summary, name), 0, "{name} in {summary}");
    }
    for code in ["EX_TEMPERATURE", "EX_SHOCK", "DELIVERED"] {
        assert!(
            number(&summary["codes"], code) >= 1,
            "no {code} in {summary}"
        );
    }
    assert!(number(summary, "trackers") >= 20, "{summary}");
    assert!(number(summary, "readings_stored") >= 1_000, "{summary}");
    let explained = ["readings_stored", "lost_on_device", "pending"];
    let explained: u64 = explained.iter().map(|name| number(summary, name)).sum();
    assert_eq!(number(summary, "sampled"), explained, "{summary}");
    // Each code's ambiguous cases are bounded too, by the simulator's own tests.
    let (ambiguous, expected) = (
        number(summary, "ambiguous_events"),
        number(summary, "expected_events"),
    );
    assert!(
        ambiguous * 20 <= expected,
        "more than 5 % ambiguous: {summary}"
    );
}

#[test]
fn what_is_reported_is_what_happened_and_what_is_kept_is_exported() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("kept");
    let output = demo(LONG, &["--seed", "1", "--data", data.to_str().unwrap()]).unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    let summary = summary(&output).unwrap();
    is_whole(&summary);
    assert_eq!(
        exported(&data).unwrap(),
        number(&summary, "readings_stored")
    );
    let again = demo(SHORT, &["--data", data.to_str().unwrap()]).unwrap();
    assert_eq!(
        again.status.code(),
        Some(3),
        "a folder that is in use is not mixed with another world"
    );
}

fn exported(data: &Path) -> Result<u64> {
    let mut command = Command::new(peer::product("supercargo")?);
    command
        .args(["export", "readings", "--format", "jsonl", "--data"])
        .arg(data);
    let output = peer::run(&mut command)?;
    let text = String::from_utf8(output.stdout)?;
    for line in text.lines() {
        serde_json::from_str::<Value>(line)?;
    }
    Ok(text.lines().count() as u64)
}

#[test]
fn every_world_shows_an_excursion_a_shock_and_a_delivery_within_twenty_seconds() {
    // Side by side: each leaves most of a core idle.
    std::thread::scope(|scope| {
        for seed in SEEDS_SHORT {
            scope.spawn(move || {
                let output = demo(SHORT, &["--seed", &seed.to_string()]).unwrap();
                let told = String::from_utf8_lossy(&output.stderr).into_owned();
                assert_eq!(output.status.code(), Some(0), "seed {seed}: {told}");
                is_whole(&summary(&output).unwrap());
            });
        }
    });
}

#[test]
fn a_rule_that_can_never_open_is_found_out_and_the_missing_excursion_is_named() {
    let output = demo(LONG, &["--set", "rules.temperature.delay=1000h"]).unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.lines()
            .any(|line| line.starts_with("missing") && line.contains("EX_TEMPERATURE")),
        "{told}"
    );
    assert!(number(&summary(&output).unwrap(), "missing_events") >= 1);
}

#[test]
fn a_key_that_does_not_exist_is_refused_with_what_was_meant() {
    let output = demo(SHORT, &["--set", "rules.temprature.delay=1h"]).unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        told.contains("temprature") && told.contains("temperature"),
        "{told}"
    );
}

#[test]
fn ten_worlds_are_reported_as_they_were() {
    if std::env::var_os("SUPERCARGO_FULL").is_none() {
        return peer::skipped("belongs to the long campaign: cargo xtask test --full");
    }
    for seed in SEEDS {
        for wall in [SHORT, LONG] {
            let output = demo(wall, &["--seed", &seed.to_string()]).unwrap();
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(0), "seed {seed}, {wall}: {told}");
            is_whole(&summary(&output).unwrap());
        }
    }
}
