//! A stand-in for the shipped binary: its command line as far as the tests use it, and the same gateway,
//! on a store that the caller opens. Controls and failpoints are made of it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Error, Result};
use clap::{Parser, Subcommand};
use gateway::cli;
use gateway::config::{Config, STORE_FOLDER, StoreEngine};
use gateway::pipeline::Failure;
use gateway::store::{Patience, Store};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    Run {
        /// Configuration file.
        #[arg(long)]
        config: PathBuf,
        /// What is wrong with this gateway.
        #[arg(long, default_value = "")]
        flaw: String,
    },
}

/// Run the gateway that this process was asked for, as the shipped binary does, on the store that `open` makes
/// of engine, folder, the watch over its calls and the flaw asked for.
///
/// # Errors
/// When the command line or the configuration cannot be used.
pub fn run(
    open: impl FnOnce(StoreEngine, &Path, &Patience, &str) -> Result<Store>,
) -> Result<ExitCode> {
    let Command::Run { config, flaw } = Arguments::parse().command;
    let config = Config::load(Some(&config), &[])?.config;
    let exit = cli::serve(config, |config, patience| {
        let folder = config.gateway.data.path().join(STORE_FOLDER);
        let made = std::fs::create_dir_all(&folder).context("make the store's folder");
        let opened = made.and_then(|()| open(config.store.engine, &folder, patience, &flaw));
        opened.map_err(failure)
    });
    Ok(exit.into())
}

/// The store's own words, where it has some.
fn failure(error: Error) -> Failure {
    error.downcast().map_or_else(
        |other| Failure::System {
            operation: "open the store of the stand-in".to_owned(),
            source: io::Error::other(format!("{other:#}")),
        },
        Failure::Store,
    )
}
