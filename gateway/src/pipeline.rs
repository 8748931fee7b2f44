//! The path of one reading through the gateway, on one screen.
//!
//! ```text
//! endpoint, bridges -> Publication -> committer -> journal chunk -> barrier -> receipts released (PUBACK)
//!                                |
//!                                v commits
//!                              folder -> history, view, outbox -> barrier -> wake
//!                                                                              |
//!                                                             worker per sink <+> followers
//! ```
//! Stopping goes the same way: endpoint and bridges take no more, the committer commits what is under way,
//! the folder folds it, and only then do workers and commands stop.

mod bridges;
mod failure;
mod folder;
mod opening;
mod plan;
mod ports;
mod pressure;
mod refusals;
mod shortfall;
mod sinks;
#[cfg(test)]
mod tests;
mod vitals;

use std::future::Future;
use std::mem;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::units::Milliseconds;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

pub use self::failure::Failure;
use self::folder::Folder;
pub use self::opening::open_store;
use self::ports::StoredSessions;
use self::vitals::Vital;
use crate::account::Account;
use crate::clock::Clock;
use crate::config::Config;
use crate::control::{self, Ceilings, Desk, Running};
use crate::deliver::engine::Worker;
use crate::deliver::format::cloudevent::Source;
use crate::deliver::health::Health;
use crate::fold::Fold;
use crate::http;
use crate::ingest::commit::{self, Committer};
use crate::mqtt::endpoint::{BindError, Endpoint};
use crate::mqtt::port::Ports;
use crate::receipt::Publication;
use crate::store::{Store, StoreError, outbox};

/// How far the gateway's clock may be off, as told to devices: what a clock set over a bad link keeps.
const TIME_UNCERTAINTY: Milliseconds = Milliseconds::saturating(1_000);
/// Stored sessions per connection allowed: trackers away from the depot keep theirs.
const SESSIONS_PER_CONNECTION: usize = 2;
/// What takes publications in, for messages.
const INTAKE: &str = "mqtt endpoint or a broker's subscription";
/// How often a draining gateway is looked at, in wall time.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// Run a gateway on `store` until `stop`, or until something fails that it cannot go on without. Then nothing
/// is closed: what failed may hang and hold up its own end, and the next start recovers anyway.
///
/// # Errors
/// What failed: the process must end.
pub async fn run(
    store: Store,
    config: Config,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let mut gateway = Gateway::start(store, config, Clock::wall()).await?;
    tokio::select! {
        () = stop => gateway.stop().await,
        failure = gateway.failure() => {
            mem::forget(gateway);
            Err(failure)
        }
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    addresses: Addresses,
    store: Store,
    account: Account,
    sinks: Vec<String>,
    folder: Folder,
    committer: Committer,
    folded: oneshot::Receiver<Result<(), StoreError>>,
    /// Endpoint and bridges.
    intake: JoinHandle<()>,
    stop_intake: watch::Sender<bool>,
    /// Workers, HTTP and control: what ends last.
    behind: JoinSet<Result<(), Failure>>,
    stop_behind: watch::Sender<bool>,
}

/// Where trackers connect; one of them at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Without TLS.
    pub mqtt: Option<SocketAddr>,
    /// With TLS.
    pub mqtts: Option<SocketAddr>,
}

impl Addresses {
    fn of(endpoint: &Endpoint) -> Result<Self, Failure> {
        let unknown = |error| Failure::system("mqtt address", error);
        Ok(Self {
            mqtt: endpoint.plain_addr().map_err(unknown)?,
            mqtts: endpoint.tls_addr().map_err(unknown)?,
        })
    }

    /// Say that the gateway serves.
    fn announce(self, http: SocketAddr, data: &Path) {
        let Self { mqtt, mqtts } = self;
        let [plain, secured] = [mqtt, mqtts].map(|address| address.map(tracing::field::display));
        tracing::info!(mqtt = plain, mqtts = secured, %http, data = %data.display(), "gateway ready");
    }
}

impl Gateway {
    /// Recover what the store holds, and serve.
    ///
    /// # Errors
    /// What cannot be read or listened on.
    pub async fn start(store: Store, config: Config, clock: Clock) -> Result<Self, Failure> {
        let data = config.gateway.data.path().to_path_buf();
        let context = plan::in_force(&config, &store)?;
        let ceilings = Ceilings::of(&context);
        let account = commit::account(&store)?;
        let sinks = sink_names(&config);

        let (wake, posted) = watch::channel(0);
        let fold = Fold::open(store.clone(), context, sinks.clone(), clock.clone(), wake)?;
        let refold = fold.pending();
        let folder = Folder::new(fold);

        let (publications, queue) = commit::queue();
        let committer = Committer::spawn(commit::Parts {
            store: store.clone(),
            account: account.clone(),
            clock: clock.clone(),
            publications: queue,
        })?;
        let folded = folder
            .spawn(committer.watch_committed())
            .map_err(|error| Failure::system("start the fold", error))?;

        let (stop_behind, stopping) = watch::channel(false);
        let mut behind = JoinSet::new();
        let health = workers(&mut behind, &config, &store, &posted, &stopping)?;

        let turned_away = refusals::kept(&mut behind, &store, &stopping);
        let listener = listen(&config).await?;
        let addresses = Addresses::of(&listener)?;
        let bridges = bridges::bridges(&config, &store, &account, &clock, &publications)?;
        let told = (health, bridges::standings(&bridges));
        let vital = Vital::new(&config, &store, &account, listener.handle(), told, refold);
        let http = serve_http(&mut behind, &config, &vital, &stopping).await?;
        let running = Running {
            facts: vital.facts(),
            posted,
            endpoint: listener.handle(),
        };
        serve_control(
            &mut behind,
            &config,
            &store,
            sinks.clone(),
            running,
            (ceilings, stopping),
        )?;

        let ports = ports(
            &config,
            &store,
            (&account, turned_away),
            clock,
            publications,
        )?;
        let (stop_intake, asked) = watch::channel(false);
        let intake = tokio::spawn(bridges::take_in(listener, ports, bridges, asked));
        addresses.announce(http, &data);
        Ok(Self {
            addresses,
            store,
            account,
            sinks,
            folder,
            committer,
            folded,
            intake,
            stop_intake,
            behind,
            stop_behind,
        })
    }

    /// Where trackers connect.
    #[must_use]
    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Its store.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Its counters.
    #[must_use]
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// Fold everything stored, look once more for silent trackers, and wait until every sink has
    /// confirmed everything. Nothing new may arrive meanwhile, or this may take for ever.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn drain(&self) -> Result<(), Failure> {
        let folder = self.folder.clone();
        let settled = tokio::task::spawn_blocking(move || folder.settle()).await;
        settled.map_err(|_| Failure::Ended { part: "fold" })??;
        for sink in &self.sinks {
            while !outbox::pending(&self.store, sink, 0, 1)?.is_empty() {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        }
        Ok(())
    }

    /// Wait for something that the gateway cannot go on without.
    pub async fn failure(&mut self) -> Failure {
        tokio::select! {
            ended = self.committer.ended() => store_failure(ended, "committer"),
            ended = &mut self.folded => match ended {
                Ok(Err(failure)) => failure.into(),
                // It ends well when the committer is gone, which knows why.
                Ok(Ok(())) => store_failure(self.committer.ended().await, "committer"),
                Err(_) => Failure::Ended { part: "fold" },
            },
            ended = self.behind.join_next() => match ended {
                Some(Ok(Err(failure))) => failure,
                _ => Failure::Ended { part: "a sink, http or control" },
            },
            _ = &mut self.intake => Failure::Ended { part: INTAKE },
            stalled = self.store.stalled() => Failure::Store(stalled),
        }
    }

    /// Stop in order; everything acknowledged is durable, everything under way is committed.
    ///
    /// # Errors
    /// When the store fails on the way down.
    pub async fn stop(mut self) -> Result<(), Failure> {
        tracing::info!("stopping");
        self.stop_intake.send_replace(true);
        let intake = self.intake.await;
        // The committer's end closes the channel of commits, which ends the folder.
        self.committer.stop().await?;
        let folded = self
            .folded
            .await
            .map_err(|_| Failure::Ended { part: "fold" })?;
        folded?;
        self.stop_behind.send_replace(true);
        while let Some(ended) = self.behind.join_next().await {
            ended.map_err(|_| Failure::Ended {
                part: "a sink, http or control",
            })??;
        }
        intake.map_err(|_| Failure::Ended { part: INTAKE })?;
        self.store.barrier()?;
        tracing::info!("stopped");
        Ok(())
    }
}

fn store_failure(ended: Result<(), StoreError>, part: &'static str) -> Failure {
    ended.map_or_else(Failure::Store, |()| Failure::Ended { part })
}

fn sink_names(config: &Config) -> Vec<String> {
    let sinks = config.sinks.iter();
    sinks.map(|sink| sink.name.to_string()).collect()
}

fn ports(
    config: &Config,
    store: &Store,
    (account, turned_away): (&Account, refusals::Waiting),
    clock: Clock,
    ingest: mpsc::Sender<Publication>,
) -> Result<Ports, Failure> {
    let sessions_max = config.mqtt.connections_max as usize * SESSIONS_PER_CONNECTION;
    Ok(Ports {
        ingest,
        sessions: Arc::new(StoredSessions::open(store.clone(), sessions_max)?),
        identity: ports::identity(&config.identity, store.clone()),
        settings: ports::desired_settings(store.clone()),
        clock,
        time_uncertainty: TIME_UNCERTAINTY,
        on_refusal: refusals::reported(account.clone(), turned_away),
    })
}

async fn listen(config: &Config) -> Result<Endpoint, Failure> {
    let bound = Endpoint::bind(ports::doors(config)?, ports::limits(config)).await;
    bound.map_err(|BindError { address, source }| Failure::Listen {
        service: "mqtt",
        address,
        source,
    })
}

/// One worker per sink; how each of them is doing.
fn workers(
    tasks: &mut JoinSet<Result<(), Failure>>,
    config: &Config,
    store: &Store,
    posted: &watch::Receiver<u64>,
    stopping: &watch::Receiver<bool>,
) -> Result<Vec<(String, Health)>, Failure> {
    let mut healths = Vec::new();
    for configured in &config.sinks {
        let worker = Worker {
            name: configured.name.to_string(),
            store: store.clone(),
            sink: sinks::sink(config, configured)?,
            source: Source {
                gateway: config.gateway.id.to_string(),
                zone: config.gateway.time_zone,
            },
            health: Health::default(),
            wake: posted.clone(),
            stop: stopping.clone(),
        };
        healths.push((worker.name.clone(), worker.health.clone()));
        tasks.spawn(async move { worker.run().await.map_err(Failure::Store) });
    }
    Ok(healths)
}

async fn serve_http(
    tasks: &mut JoinSet<Result<(), Failure>>,
    config: &Config,
    vital: &Vital,
    stopping: &watch::Receiver<bool>,
) -> Result<SocketAddr, Failure> {
    let address = config.http.listen;
    let fault = |source| Failure::Listen {
        service: "http",
        address,
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(fault)?;
    let bound = listener.local_addr().map_err(fault)?;
    let serving = http::serve(
        listener,
        config.http.connections_max,
        vital.share(),
        stopping.clone(),
    );
    tasks.spawn(async move {
        serving
            .await
            .map_err(|error| Failure::system("serve http", error))
    });
    Ok(bound)
}

fn serve_control(
    tasks: &mut JoinSet<Result<(), Failure>>,
    config: &Config,
    store: &Store,
    sinks: Vec<String>,
    running: Running,
    (ceilings, stopping): (Ceilings, watch::Receiver<bool>),
) -> Result<(), Failure> {
    let server = control::bind(config.gateway.data.path())
        .map_err(|error| Failure::system("make the control socket", error))?;
    let desk = Arc::new(Desk {
        store: store.clone(),
        zone: config.gateway.time_zone,
        sinks,
        running: Some(running),
        changing: Mutex::default(),
    });
    tasks.spawn(pressure::watch(
        Arc::clone(&desk),
        ceilings,
        stopping.clone(),
    ));
    let connections_max = config.control.connections_max;
    tasks.spawn(async move {
        server.serve(desk, connections_max, stopping).await;
        Ok(())
    });
    Ok(())
}
