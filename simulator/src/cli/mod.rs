//! The command line: what can be asked for, and how answers look.

mod fleet;
mod nmea;
mod value;

use std::io::{self, Write};

use clap::{Parser, Subcommand};
use serde::Serialize;

/// A world of trucks and goods that drives the real tracker firmware over real TCP.
///
/// Exit codes: 0 ok, 1 finding (something was not delivered), 2 usage, 3 environment (network, files).
#[derive(Debug, Parser)]
#[command(name = "supercargo-sim", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// JSON Lines on standard output, one flat object a row; logs go to standard error.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Fleet(fleet::FleetArgs),
    Nmea(nmea::NmeaArgs),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As it should.
    Clean,
    /// Something was not delivered.
    Finding,
    /// The command line or a scenario is wrong.
    Usage,
    /// Network or files are.
    Environment,
}

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) struct CommandError {
    pub(crate) outcome: Outcome,
    pub(crate) source: anyhow::Error,
}

impl CommandError {
    fn usage(source: impl Into<anyhow::Error>) -> Self {
        Self {
            outcome: Outcome::Usage,
            source: source.into(),
        }
    }

    fn environment(source: impl Into<anyhow::Error>) -> Self {
        Self {
            outcome: Outcome::Environment,
            source: source.into(),
        }
    }
}

pub(crate) fn run(cli: Cli) -> Result<Outcome, CommandError> {
    let runtime = tokio::runtime::Runtime::new().map_err(CommandError::environment)?;
    let output = Output { json: cli.json };
    runtime.block_on(async {
        match cli.command {
            Command::Fleet(args) => fleet::run(args, output).await,
            Command::Nmea(args) => nmea::run(args, output).await,
        }
    })
}

/// Where answers go.
#[derive(Clone, Copy, Debug)]
struct Output {
    json: bool,
}

impl Output {
    /// A row: as JSON, or as the text for people.
    fn row(self, row: &impl Serialize, text: &str) -> Result<(), CommandError> {
        let mut stdout = io::stdout().lock();
        let written = if self.json {
            let json = serde_json::to_string(row).map_err(CommandError::environment)?;
            writeln!(stdout, "{json}")
        } else {
            writeln!(stdout, "{text}")
        };
        written.map_err(CommandError::environment)
    }
}
