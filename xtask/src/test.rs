//! `cargo xtask test`: every check, in an order that fails early and builds nothing twice.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::stage::{self, Ending, Report, Stage};
use crate::tally::Tally;
use crate::{house, setup, tool};

/// Setup, then all stages until one fails. True when none did.
pub(crate) fn run(root: &Path, full: bool) -> bool {
    let start = stage::monotonic();
    let ready = setup::run(root);
    if !ready && crate::in_ci() {
        println!("FAILED: setup\nrepeat with: cargo xtask setup");
        return false;
    }
    if !house(root) {
        println!("FAILED: house\nrepeat with: cargo xtask house");
        return false;
    }
    let mut reports = Vec::new();
    for stage in stages(full) {
        let report = stage.run(root);
        let failed = report.ending == Ending::Failed;
        reports.push(report);
        if failed {
            break;
        }
    }
    summarise(&reports, start.elapsed())
}

/// The house test alone.
pub(crate) fn house(root: &Path) -> bool {
    match house::inspect(root) {
        Ok(faults) => {
            faults.iter().for_each(|fault| println!("{fault}"));
            println!("house: {} faults", faults.len());
            faults.is_empty()
        }
        Err(error) => {
            println!("house: cannot read the sources: {error}");
            false
        }
    }
}

/// Debug builds for checks and unit tests, one release build for everything end to end.
fn stages(full: bool) -> Vec<Stage> {
    let mut stages = vec![
        Stage::cargo("format", "fmt --all -- --check").needing(&tool::TOOLS[0]),
        Stage::cargo(
            "lints",
            "clippy --locked --workspace --all-targets -- -D warnings",
        )
        .needing(&tool::TOOLS[1]),
        Stage::cargo("documentation", "doc --locked --workspace --no-deps")
            .with("RUSTDOCFLAGS", "-D warnings"),
        Stage::cargo("unit tests", "test --locked --workspace --exclude tests"),
        thumb("thumb link of protocol", "protocol"),
        thumb("thumb link of firmware", "firmware"),
        Stage::cargo(
            "release build",
            "build --locked --release -p gateway -p simulator -p tests",
        ),
        end_to_end(full),
        faults(full),
    ];
    stages.extend(licences());
    stages
}

/// One call per crate: in one call the features of both would be united and hide a leak.
fn thumb(name: &'static str, krate: &str) -> Stage {
    let arguments =
        format!("build --locked --package thumb --features {krate} --target thumbv7em-none-eabihf");
    Stage::cargo(name, &arguments).needing(&tool::THUMB)
}

/// Against the release binaries, which the tests find beside themselves.
fn end_to_end(full: bool) -> Stage {
    let stage = Stage::cargo("end to end", "test --locked --release --package tests");
    if full {
        stage.with("SUPERCARGO_FULL", "1")
    } else {
        stage
    }
}

/// What no test of a function can show: the release gateway, harmed from outside.
fn faults(full: bool) -> Stage {
    let stage = Stage::cargo(
        "faults",
        "run --locked --release --quiet --package tests --bin faults-receipt --",
    );
    if full { stage.told("--full") } else { stage }
}

fn licences() -> Vec<Stage> {
    let deny = |name, arguments: &str| {
        let program = tool::cargo_deny().unwrap_or_else(|| "cargo-deny".into());
        let mut command = Command::new(program);
        command.args(arguments.split_whitespace());
        Stage {
            name,
            command,
            needs: Some(&tool::DENY),
        }
    };
    let mut stages = vec![deny(
        "licences and sources",
        "--locked check bans licenses sources",
    )];
    if tool::advisories_at_hand() {
        stages.push(deny(
            "advisories",
            "--locked check --disable-fetch advisories",
        ));
    } else {
        let program = tool::cache_folder().join("bin/cargo-deny");
        println!(
            "skipped: advisories, needs a database: {} fetch",
            program.display()
        );
    }
    stages
}

fn summarise(reports: &[Report], total: Duration) -> bool {
    let mut tests = Tally::default();
    println!();
    for report in reports {
        let word = match report.ending {
            Ending::Passed => "ok",
            Ending::Skipped => "skipped",
            Ending::Failed => "FAILED",
        };
        let counts = if report.tally.is_empty() {
            String::new()
        } else {
            format!("  {}", report.tally)
        };
        println!(
            "{:>8.1} s  {word:8}{}{counts}",
            report.took.as_secs_f64(),
            report.name
        );
        tests += report.tally;
    }
    println!("{:>8.1} s  total; tests: {tests}", total.as_secs_f64());
    reports.iter().all(|report| report.ending != Ending::Failed)
}
