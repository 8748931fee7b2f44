//! The one entry for people and CI: `cargo xtask setup | test | bench | faults | house`.
//!
//! Depends on nothing but the standard library, so that it builds in seconds on a machine where
//! nothing else is installed yet.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the terminal is this program's only interface"
)]

mod bench;
mod house;
mod setup;
mod stage;
mod tally;
mod test;
mod tool;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::bench::{BENCHES, FAULTS};

const USAGE: &str = "\
usage: cargo xtask <command>

  setup             find what is missing and install it where that is allowed
  test [--full]     setup, then every check, with the time of each; --full runs the long campaigns
  bench [NAME ...]  start a release binary of tests/ (without a name: list them)
  faults [NAME ...] start a fault campaign of tests/ (without a name: list them)
  house             only the house test: who may import whom, lengths, leftovers
";

/// What became of a command.
enum Outcome {
    Done,
    /// A check or a tool said no; the reason has been printed.
    Failed,
    /// The command line was not understood.
    Usage(String),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&root(), &words) {
        Outcome::Done => ExitCode::SUCCESS,
        Outcome::Failed => ExitCode::from(1),
        Outcome::Usage(what) => {
            eprint!("{what}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run(root: &Path, words: &[&str]) -> Outcome {
    match words {
        ["setup"] => done(setup::run(root)),
        ["test"] => done(test::run(root, false)),
        ["test", "--full"] => done(test::run(root, true)),
        ["bench"] => bench::list(root, &BENCHES),
        ["bench", name, rest @ ..] => bench::run(root, &BENCHES, name, rest),
        ["faults"] => bench::list(root, &FAULTS),
        ["faults", name, rest @ ..] => bench::run(root, &FAULTS, name, rest),
        ["house"] => done(test::house(root)),
        ["help" | "--help" | "-h"] | [] => {
            print!("{USAGE}");
            Outcome::Done
        }
        other => Outcome::Usage(format!("unknown command `{}`", other.join(" "))),
    }
}

fn done(passed: bool) -> Outcome {
    if passed {
        Outcome::Done
    } else {
        Outcome::Failed
    }
}

/// The workspace this program was built from.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// Whether a build server runs this: there a missing tool is a failure, not a skipped check.
fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty())
}
