//! `supercargo-sim`: fleets and recordings against a gateway.

mod cli;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use cli::{Cli, Outcome};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match cli::run(cli) {
        Ok(outcome) => outcome.code(),
        Err(error) => {
            tracing::error!("{:#}", error.source);
            error.outcome.code()
        }
    }
}

impl Outcome {
    /// The exit code that all of Supercargo's programs share.
    fn code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Clean => 0,
            Self::Finding => 1,
            Self::Usage => 2,
            Self::Environment => 3,
        })
    }
}
