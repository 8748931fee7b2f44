//! A stand-in for the shipped binary: its command line as far as the tests use it, and the same gateway,
//! on a store that the caller opens. Controls and failpoints are made of it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Parser, Subcommand};
use gateway::clock::Clock;
use gateway::config::{Config, STORE_FOLDER, StoreEngine};
use gateway::pipeline::Gateway;
use gateway::store::Store;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

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

/// Run the gateway that this process was asked for, on the store that `open` makes of engine, folder and
/// the flaw asked for, until SIGTERM.
///
/// # Errors
/// What ended it otherwise.
pub fn run(open: impl FnOnce(StoreEngine, &Path, &str) -> Result<Store>) -> Result<()> {
    let Command::Run { config, flaw } = Arguments::parse().command;
    let config = Config::load(Some(&config), &[])?.config;
    let folder = config.gateway.data.path().join(STORE_FOLDER);
    std::fs::create_dir_all(&folder)?;
    let store = open(config.store.engine, &folder, &flaw)?;
    Runtime::new()?.block_on(serve(store, config))
}

async fn serve(store: Store, config: Config) -> Result<()> {
    let mut stop = signal(SignalKind::terminate())?;
    let mut running = Gateway::start_on(store, config, Clock::wall()).await?;
    tokio::select! {
        _ = stop.recv() => Ok(running.stop().await?),
        failure = running.failure() => Err(failure.into()),
    }
}
