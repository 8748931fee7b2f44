//! `supercargo run`: the gateway as a service.

use std::future::Future;
use std::io::{self, IsTerminal};
use std::time::Duration;

use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

use super::{Exit, Setup, complain, load};
use crate::config::{Config, Log, LogFormat};
use crate::pipeline::{self, Failure};
use crate::store::{Patience, Store, StoreError};

pub(super) fn run(setup: &Setup) -> Exit {
    let config = match load(setup) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    serve(config, pipeline::open_store)
}

/// Run a gateway by `config`, on the store that `open` opens, until the process is asked to stop. When it
/// fails, or a call to its store does not return, the process ends here: no thread is waited for and nothing is
/// closed, because each could hang behind the same store. The log has been written by then, line by line.
pub fn serve(
    config: Config,
    open: impl FnOnce(&Config, &Patience) -> Result<Store, Failure>,
) -> Exit {
    log(&config.log);
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return complain(Exit::Environment, &error),
    };
    match runtime.block_on(gateway(config, open)) {
        Ok(()) => Exit::Good,
        Err(failure) => complain(exit(&failure), &failure).leave(),
    }
}

async fn gateway(
    config: Config,
    open: impl FnOnce(&Config, &Patience) -> Result<Store, Failure>,
) -> Result<(), Failure> {
    let system = |operation: &str, source| Failure::System {
        operation: operation.to_owned(),
        source,
    };
    let stop = stop_signal().map_err(|error| system("wait for signals", error))?;
    let patience = patience(config.store.call_max);
    let patience = patience.map_err(|error| system("watch the store", error))?;
    let store = open(&config, &patience)?;
    pipeline::run(store, config, stop).await
}

/// The watch over a command's store: a call that does not return within `call_max` ends the process.
pub(super) fn patience(call_max: Duration) -> io::Result<Patience> {
    Patience::new(call_max, |stalled: &StoreError| {
        complain(Exit::Environment, stalled).leave();
    })
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
