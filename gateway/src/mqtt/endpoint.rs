//! The listener: connections in, each in its own task, bounded in number, stopped in order.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use protocol::key::DeviceId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::connection::{Connection, stop};
use super::frame::Frames;
use super::handshake::handshake;
use super::limit::{ACCEPT_BACKOFF, Limits};
use super::parting::turn_away;
use super::port::{Ports, Shared};
use super::refusal::{Fault, RefusalReason};
use super::registry::Registry;

/// A bound listener.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    limits: Limits,
    registry: Arc<Registry>,
}

/// Reaches into a running endpoint.
#[derive(Clone, Debug)]
pub struct Handle {
    registry: Arc<Registry>,
}

impl Handle {
    /// How many devices have a connection, or a will whose delay runs.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.registry.count()
    }

    /// The settings wanted of a device have changed: send them, if it is connected and listens. Whether it
    /// is connected.
    #[must_use]
    pub fn settings_changed(&self, device: &DeviceId) -> bool {
        self.registry.settings_changed(device)
    }
}

impl Endpoint {
    /// Bind the listener; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(address: impl ToSocketAddrs, limits: Limits) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self {
            listener,
            limits,
            registry: Arc::default(),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
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
        let connections_max = self.limits.connections_max;
        let slots = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
        let shared = Arc::new(Shared::new(self.limits, ports, self.registry));
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
                accepted = self.listener.accept() => accepted,
            };
            let Some((stream, peer)) = usable(accepted).await else {
                continue;
            };
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                let detail = format!("{connections_max} connections are open already");
                let fault = Fault::new(RefusalReason::ConnectionsFull, detail);
                fault.report(None, peer, &shared.ports.on_refusal);
                continue;
            };
            let shared = Arc::clone(&shared);
            let stopping = stopping.clone();
            connections.spawn(async move {
                serve(stream, peer, &shared, stopping).await;
                drop(slot);
            });
        }
        drop(self.listener);
        stop.send_replace(true);
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    }
}

/// Serve one client until it is gone.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    peer: SocketAddr,
    shared: &Shared,
    mut stopping: watch::Receiver<bool>,
) {
    let mut frames = Frames::new(shared.limits.connect_bytes_max.get());
    let outcome = tokio::select! {
        biased;
        () = stop(&mut stopping) => return,
        outcome = handshake(&mut stream, &mut frames, peer, shared) => outcome,
    };
    match outcome {
        Ok(admitted) => {
            frames.allow(shared.limits.packet_bytes_max.get());
            let mut connection = Connection::new(stream, frames, peer, shared, stopping, admitted);
            let ending = connection.talk().await;
            connection.part(ending).await;
        }
        Err(Some(rejected)) => turn_away(stream, rejected, peer, shared).await,
        Err(None) => tracing::debug!(%peer, "mqtt: closed without a packet"),
    }
}

/// An accepted stream that sends small packets at once; a pause when there is none to have.
async fn usable(accepted: io::Result<(TcpStream, SocketAddr)>) -> Option<(TcpStream, SocketAddr)> {
    match accepted {
        Ok((stream, peer)) => {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%peer, "mqtt: no TCP_NODELAY: {error}");
            }
            Some((stream, peer))
        }
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
