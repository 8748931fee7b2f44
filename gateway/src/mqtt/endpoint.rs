//! The listeners: connections in, each in its own task, bounded in number, stopped in order.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use protocol::key::DeviceId;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;

use super::address::Addresses;
use super::connection::{Connection, Ending, stop};
use super::doorkeeper::Trial;
use super::frame::Frames;
use super::handshake::handshake;
use super::identity::Link;
use super::limit::{ACCEPT_BACKOFF, Limits};
use super::parting::turn_away;
use super::port::{Ports, Shared};
use super::refusal::{Fault, RefusalReason};
use super::registry::Registry;
use super::tls::secure;

/// Where to listen. Neither is as good as an endpoint that nobody reaches.
#[derive(Clone, Debug, Default)]
pub struct Doors {
    /// MQTT over TCP; port 0 takes a free one.
    pub plain: Option<SocketAddr>,
    /// MQTT over TLS, and with what; port 0 takes a free one.
    pub tls: Option<(SocketAddr, Arc<ServerConfig>)>,
}

/// Why an endpoint could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("mqtt cannot listen on {address}")]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// Bound listeners.
#[derive(Debug)]
pub struct Endpoint {
    listeners: Listeners,
    limits: Limits,
    registry: Arc<Registry>,
}

/// Reaches into a running endpoint.
#[derive(Clone, Debug, Default)]
pub struct Handle {
    registry: Arc<Registry>,
}

impl Handle {
    /// How many devices have a connection, or a will whose delay runs.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.registry.count()
    }

    /// Whether a device has a connection, or a will whose delay runs.
    #[must_use]
    pub fn is_connected(&self, device: &DeviceId) -> bool {
        self.registry.holds(device)
    }

    /// The settings wanted of a device have changed: send them, if it is connected and listens. Whether it
    /// is connected.
    #[must_use]
    pub fn settings_changed(&self, device: &DeviceId) -> bool {
        self.registry.settings_changed(device)
    }

    /// What a device proved itself by is no longer good: end its connection, if it has one, at once.
    pub fn expel(&self, device: &DeviceId) {
        self.registry.expel(device);
    }
}

impl Endpoint {
    /// Bind the listeners.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn bind(doors: Doors, limits: Limits) -> Result<Self, BindError> {
        Ok(Self {
            listeners: Listeners::bind(doors).await?,
            limits,
            registry: Arc::default(),
        })
    }

    /// Where it listens without TLS.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn plain_addr(&self) -> io::Result<Option<SocketAddr>> {
        let plain = self.listeners.plain.as_ref();
        plain.map(TcpListener::local_addr).transpose()
    }

    /// Where it listens with TLS.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn tls_addr(&self) -> io::Result<Option<SocketAddr>> {
        let tls = self.listeners.tls.as_ref();
        tls.map(|(listener, _)| listener.local_addr()).transpose()
    }

    /// A handle that stays good while the endpoint runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            registry: Arc::clone(&self.registry),
        }
    }

    /// Serve until `shutdown`, then stop in order: no new connection, no further packet, owed PUBACKs for
    /// at most [`Limits::drain_timeout`], goodbye.
    pub async fn run(self, ports: Ports, shutdown: impl Future<Output = ()>) {
        let host = Host {
            slots: slots(self.limits.connections_max),
            handshakes: slots(self.limits.handshakes_max),
            addresses: Arc::new(Addresses::new(self.limits.connections_per_address_max)),
            shared: Arc::new(Shared::new(self.limits, ports, self.registry)),
        };
        let (stop, stopping) = watch::channel(false);
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(ended) = connections.join_next() => {
                    report(ended);
                    continue;
                }
                accepted = self.listeners.accept() => accepted,
            };
            if let Some(caller) = usable(accepted).await {
                host.receive(caller, &mut connections, &stopping);
            }
        }
        drop(self.listeners);
        stop.send_replace(true);
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    }
}

fn slots(count: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)))
}

#[derive(Debug)]
struct Listeners {
    plain: Option<TcpListener>,
    tls: Option<(TcpListener, Acceptor)>,
}

/// Someone at one of the doors.
struct Caller {
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Acceptor>,
}

/// Goes through the TLS handshake with a client.
#[derive(Clone)]
struct Acceptor(TlsAcceptor);

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Listeners {
    async fn bind(doors: Doors) -> Result<Self, BindError> {
        let listen = async |address: SocketAddr| {
            let bound = TcpListener::bind(address).await;
            bound.map_err(|source| BindError { address, source })
        };
        let plain = match doors.plain {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let tls = match doors.tls {
            Some((address, config)) => Some((listen(address).await?, Acceptor(config.into()))),
            None => None,
        };
        Ok(Self { plain, tls })
    }

    async fn accept(&self) -> io::Result<Caller> {
        let (secured, acceptor) = self.tls.as_ref().map(|(at, tls)| (at, tls.clone())).unzip();
        let ((stream, peer), tls) = tokio::select! {
            accepted = accept_at(self.plain.as_ref()) => (accepted?, None),
            accepted = accept_at(secured) => (accepted?, acceptor),
        };
        Ok(Caller { stream, peer, tls })
    }
}

/// The next one at a door; never anyone where there is no door.
async fn accept_at(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// What all doors share.
#[derive(Clone)]
struct Host {
    slots: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    shared: Arc<Shared>,
}

impl Host {
    /// Serve a caller in a task of its own, if there is room.
    fn receive(
        &self,
        caller: Caller,
        connections: &mut JoinSet<()>,
        stopping: &watch::Receiver<bool>,
    ) {
        let peer = caller.peer;
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            let most = self.shared.limits.connections_max;
            let detail = format!("{most} connections are open already");
            return self.refuse(peer, RefusalReason::ConnectionsFull, detail);
        };
        let Some(place) = self.addresses.admit(peer.ip()) else {
            let most = self.shared.limits.connections_per_address_max;
            let detail = format!("{most} connections of it are open already");
            return self.refuse(peer, RefusalReason::AddressFull, detail);
        };
        let Some(trial) = self.shared.doorkeeper.admit(peer.ip(), Instant::now()) else {
            let detail = "too many of its connections have failed lately, or of all that fail";
            return self.refuse(peer, RefusalReason::AddressFailing, detail);
        };
        let (host, mut stopping) = (self.clone(), stopping.clone());
        connections.spawn(async move {
            if let Some(turn) = trial.waits_until {
                tokio::select! {
                    biased;
                    () = stop(&mut stopping) => return,
                    () = sleep_until(turn) => {}
                }
            }
            host.attend(caller, trial, stopping).await;
            drop((slot, place));
        });
    }

    /// Serve a caller whose turn it is.
    async fn attend(&self, caller: Caller, trial: Trial, stopping: watch::Receiver<bool>) {
        let Caller { stream, peer, tls } = caller;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, "mqtt: no TCP_NODELAY: {error}");
        }
        let shared = &self.shared;
        let Some(Acceptor(acceptor)) = tls else {
            return serve(stream, peer, &Link::Plain, shared, stopping, trial).await;
        };
        let Ok(handshake) = Arc::clone(&self.handshakes).try_acquire_owned() else {
            let most = shared.limits.handshakes_max;
            let detail = format!("{most} handshakes are under way already");
            blame(RefusalReason::HandshakesFull, trial);
            return self.refuse(peer, RefusalReason::HandshakesFull, detail);
        };
        serve_secured(stream, peer, (acceptor, handshake), shared, stopping, trial).await;
    }

    /// Close a connection unread.
    fn refuse(
        &self,
        peer: SocketAddr,
        reason: RefusalReason,
        detail: impl Into<Cow<'static, str>>,
    ) {
        Fault::new(reason, detail).report(None, peer, &self.shared.ports.on_refusal);
    }
}

/// Serve one client over TLS until it is gone.
async fn serve_secured(
    stream: TcpStream,
    peer: SocketAddr,
    (acceptor, handshake): (TlsAcceptor, OwnedSemaphorePermit),
    shared: &Shared,
    mut stopping: watch::Receiver<bool>,
    trial: Trial,
) {
    let secured = tokio::select! {
        biased;
        () = stop(&mut stopping) => return,
        // On the heap while it lasts: the connection's task should not be larger all its life for it.
        secured = Box::pin(secure(stream, peer, &acceptor, &shared.limits)) => secured,
    };
    drop((acceptor, handshake));
    match secured {
        Ok((stream, link)) => serve(stream, peer, &link, shared, stopping, trial).await,
        Err(fault) => {
            blame(fault.reason, trial);
            fault.report(None, peer, &shared.ports.on_refusal);
        }
    }
}

/// Serve one client until it is gone.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    peer: SocketAddr,
    link: &Link,
    shared: &Shared,
    mut stopping: watch::Receiver<bool>,
    mut trial: Trial,
) {
    let mut frames = Frames::new(shared.limits.connect_bytes_max.get());
    let outcome = tokio::select! {
        biased;
        () = stop(&mut stopping) => return,
        outcome = handshake(&mut stream, &mut frames, peer, link, shared) => outcome,
    };
    match outcome {
        Ok(admitted) => {
            trial.passed(Instant::now());
            frames.allow(shared.limits.packet_bytes_max.get());
            let mut connection = Connection::new(stream, frames, peer, shared, stopping, admitted);
            let ending = connection.talk().await;
            if let Ending::Refused(fault) = &ending {
                blame(fault.reason, trial);
            }
            connection.part(ending).await;
        }
        Err(Some(rejected)) => {
            blame(rejected.fault.reason, trial);
            turn_away(stream, rejected, peer, shared).await;
        }
        Err(None) => {
            trial.failed(Instant::now());
            tracing::debug!(%peer, "mqtt: closed without a packet");
        }
    }
}

/// A connection has ended for this reason: a failure, if it was its peer's fault.
fn blame(reason: RefusalReason, mut trial: Trial) {
    let now = Instant::now();
    if reason.blames_peer() {
        trial.failed(now);
    } else {
        trial.passed(now);
    }
}

/// An accepted stream; a pause when there is none to have.
async fn usable(accepted: io::Result<Caller>) -> Option<Caller> {
    match accepted {
        Ok(caller) => Some(caller),
        Err(error) => {
            tracing::warn!("mqtt: cannot accept: {error}");
            tokio::time::sleep(ACCEPT_BACKOFF).await;
            None
        }
    }
}

/// A connection's task that panicked takes its own connection down, nothing else; it is a defect all the same.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!("mqtt: a connection's task failed: {error}");
    }
}
