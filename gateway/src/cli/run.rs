//! `supercargo run`: the gateway as a service.

use std::future::Future;
use std::io::{self, IsTerminal};

use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

use super::{Exit, Setup, complain, load};
use crate::config::{Config, Log, LogFormat};
use crate::pipeline::{self, Failure};

pub(super) fn run(setup: &Setup) -> Exit {
    let config = match load(setup) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    log(&config.log);
    match Runtime::new() {
        Ok(runtime) => runtime.block_on(serve(config)),
        Err(error) => complain(Exit::Environment, &error),
    }
}

async fn serve(config: Config) -> Exit {
    let stop = match stop_signal() {
        Ok(stop) => stop,
        Err(error) => return complain(Exit::Environment, &error),
    };
    match pipeline::run(config, stop).await {
        Ok(()) => Exit::Good,
        Err(failure) => complain(exit(&failure), &failure),
    }
}

/// The exit that a failure of the gateway calls for.
pub(super) const fn exit(failure: &Failure) -> Exit {
    if failure.is_configuration() {
        Exit::Usage
    } else {
        Exit::Environment
    }
}

/// Log to standard error; results alone go to standard output.
pub(super) fn log(log: &Log) {
    let filter = EnvFilter::new(log.level.as_str());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match log.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

/// Ends when the process is asked to stop.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!("{name}: stopping in good order");
    })
}

/// Ends when the process is asked to stop.
#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without a handler for Ctrl-C the system ends the process itself.
        let _ = tokio::signal::ctrl_c().await;
        tracing::info!("Ctrl-C: stopping in good order");
    })
}
