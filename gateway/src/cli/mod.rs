//! The commands of `supercargo`.
//!
//! Results go to standard output, everything said about them to standard error. With `--json` results
//! are JSON Lines, one flat object a row. Exit codes are those of [`Exit`].

mod audit;
mod ca;
#[cfg(feature = "demo")]
mod demo;
mod device;
mod format;
#[cfg(feature = "demo")]
mod heard;
mod init;
mod ledger;
#[cfg(feature = "demo")]
mod live;
mod output;
mod plan;
mod quarantine;
mod query;
mod run;
mod salvage;
mod settings;
#[cfg(feature = "demo")]
mod tail;

use std::error::Error;
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Loaded};
use output::Output;
pub use run::serve;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// As it should.
    Good,
    /// It worked and found something wrong with the world.
    Finding,
    /// The command line or the configuration cannot be used.
    Usage,
    /// The machine does not give what is needed: files, addresses, the store.
    Environment,
}

impl Exit {
    /// As the system sees it.
    const fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Finding => 1,
            Self::Usage => 2,
            Self::Environment => 3,
        }
    }

    /// End the process now, without closing anything.
    fn leave(self) -> ! {
        process::exit(i32::from(self.code()))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The depot gateway: takes readings from trackers on shipments, stores them before it acknowledges
/// them, and tells milestones and exceptions to those who must act.
#[derive(Debug, Parser)]
#[command(name = "supercargo", version, propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 good, 1 finding, 2 usage or configuration, 3 environment.\n\
    First steps: supercargo demo; supercargo init depot; supercargo run --config depot/supercargo.toml"
)]
struct Supercargo {
    /// Print results as JSON Lines: one flat object a row, on standard output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or SIGINT
    Run(Setup),
    /// Run a gateway and a fleet of simulated trackers, and watch them
    #[cfg(feature = "demo")]
    Demo(demo::Demo),
    /// Check a configuration and its plan, and name every fault at once
    Check(Check),
    /// Write a configuration with every key explained, and a sample plan with fences
    Init(init::Init),
    /// Make the certificates that a gateway and its trackers trust each other by
    Ca(ca::Ca),
    /// Register trackers, and decide who may speak for them
    Device(device::Device),
    /// Say how the gateway is
    Status(query::Status),
    /// Print what is stated about every event, in order of its last change
    Events(query::Events),
    /// Print every stored reading, record or event
    Export(query::Export),
    /// Copy the store to a new folder, while the gateway runs or not
    Backup(query::Backup),
    /// Show or change the settings that trackers should have
    Settings(settings::Settings),
    /// Balance what came of trackers and what they say they sent
    Ledger(ledger::Ledger),
    /// Show what people changed or took away, and who did so
    Audit(audit::Audit),
    /// Show the plans that the gateway has judged by, each since when
    Plan(plan::Plans),
    /// List, take away or drop the payloads that were refused
    Quarantine(quarantine::Quarantine),
    /// Rescue what a damaged store still holds, or say what could be
    Salvage(salvage::Salvage),
}

/// Which configuration.
#[derive(Args, Clone, Debug)]
struct Setup {
    /// Configuration file; without one every key has its default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override one key, as in --set log.level=debug; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

#[derive(Args, Debug)]
struct Check {
    /// Configuration file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Override one key, as in --set log.level=debug; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

/// Run the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let Supercargo { json, command } = Supercargo::parse();
    let output = Output::new(json);
    let exit = match command {
        Command::Run(setup) => run::run(&setup),
        #[cfg(feature = "demo")]
        Command::Demo(asked) => demo::demo(asked, &output),
        Command::Check(asked) => check(&asked, &output),
        Command::Init(asked) => init::init(&asked, &output),
        Command::Ca(asked) => ca::ca(&asked, &output),
        Command::Device(asked) => device::device(&asked, &output),
        Command::Status(asked) => query::status(&asked, &output),
        Command::Events(asked) => query::events(&asked, &output),
        Command::Export(asked) => query::export(&asked, &output),
        Command::Backup(asked) => query::backup(&asked, &output),
        Command::Settings(asked) => settings::settings(&asked, &output),
        Command::Ledger(asked) => ledger::ledger(&asked, &output),
        Command::Audit(asked) => audit::audit(&asked, &output),
        Command::Plan(asked) => plan::plan(&asked, &output),
        Command::Quarantine(asked) => quarantine::quarantine(&asked, &output),
        Command::Salvage(asked) => salvage::salvage(&asked, &output),
    };
    exit.into()
}

/// Say on standard error what went wrong, causes included.
fn complain(exit: Exit, error: &dyn Error) -> Exit {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    output::say(&text);
    exit
}

/// Load a configuration; its warnings and faults go to standard error.
fn load(setup: &Setup) -> Result<Config, Exit> {
    match Config::load(setup.config.as_deref(), &setup.overrides) {
        Ok(Loaded { config, warnings }) => {
            for warning in warnings {
                output::say(&warning.to_string());
            }
            Ok(config)
        }
        Err(faults) => {
            output::say(&faults.to_string());
            Err(Exit::Usage)
        }
    }
}

/// `check`: faults are the result, so they go to standard output. Warnings do not fail it.
fn check(asked: &Check, output: &Output) -> Exit {
    let (faults, exit) = match Config::load(Some(&asked.file), &asked.overrides) {
        Ok(loaded) => (loaded.warnings, Exit::Good),
        Err(faults) => (faults.0, Exit::Usage),
    };
    for fault in &faults {
        let told = if output.is_json() {
            output.line(&serde_json::Value::Object(fault.row()))
        } else {
            output.line(fault)
        };
        if told.is_err() {
            return exit;
        }
    }
    match exit {
        Exit::Good => output::say(&format!("{}: good", asked.file.display())),
        _ => output::say(&format!(
            "{}: {} faults",
            asked.file.display(),
            faults.len()
        )),
    }
    exit
}

/// A duration with its unit, as in the configuration: for command line arguments.
///
/// # Errors
/// What is allowed, when `text` is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    crate::config::duration(text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Supercargo::command().debug_assert();
    }

    #[test]
    fn json_may_stand_before_and_behind_the_command() {
        for line in [
            ["supercargo", "--json", "status"],
            ["supercargo", "status", "--json"],
        ] {
            assert!(Supercargo::try_parse_from(line).unwrap().json);
        }
    }

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert!(duration("30").unwrap_err().contains("with a unit"));
    }
}
