//! From an accepted connection to CONNACK: size, time, version, identity, takeover, stored session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use mqtt_proto::QoS;
use protocol::key::DeviceId;
use protocol::topic::{Channel, Topic};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::clock::wall_utc;
use crate::receipt::{Origin, Publication};

use super::frame::{Frame, Frames};
use super::identity::{self, Claim, Link};
use super::packet::{self, Connect, Version};
use super::persistence::{SessionFuture, SessionRecord, SessionStoreError, Subscriptions};
use super::port::Shared;
use super::refusal::{Fault, RefusalReason};
use super::registry::Lease;
use super::reply::{Replies, Welcome};
use super::session::Session;
use super::shelf::Shelf;

/// A client that may talk.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) session: Session,
    pub(crate) acknowledged: mpsc::Receiver<u16>,
    pub(crate) lease: Lease,
    /// Silence after which the connection counts as dead: one and a half keep-alives.
    pub(crate) patience: Duration,
    pub(crate) expiry_seconds: u32,
    /// Whether the store holds a record of the session.
    pub(crate) stored: bool,
    pub(crate) will: Option<Testament>,
}

/// A last will that was found in order.
#[derive(Debug)]
pub(crate) struct Testament {
    pub(crate) publication: Publication,
    pub(crate) delay: Duration,
}

/// A client that may not, and what it is told.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) fault: Fault,
    pub(crate) device: Option<DeviceId>,
    pub(crate) reply: BytesMut,
}

impl Rejected {
    fn silent(fault: Fault) -> Self {
        Self {
            fault,
            device: None,
            reply: BytesMut::new(),
        }
    }

    fn told(fault: Fault, version: Version, device: Option<DeviceId>) -> Self {
        let mut replies = Replies::new(version, None);
        replies.turn_away(&fault);
        Self {
            fault,
            device,
            reply: replies.out,
        }
    }
}

/// Let a client in, or say why not; `None` when it went without a word.
pub(crate) async fn handshake<S: AsyncRead + Unpin>(
    stream: &mut S,
    frames: &mut Frames,
    peer: SocketAddr,
    link: &Link,
    shared: &Shared,
) -> Result<Admitted, Option<Rejected>> {
    let frame = match timeout(shared.limits.connect_timeout, first_frame(stream, frames)).await {
        Ok(Ok(Some(frame))) => frame,
        Ok(Ok(None)) => return Err(None),
        Ok(Err(fault)) => return Err(Some(Rejected::silent(fault))),
        Err(_) => return Err(Some(Rejected::silent(too_late(shared)))),
    };
    let connect = match packet::connect(&frame) {
        Ok(connect) => connect,
        Err(error) => {
            return Err(Some(match error.version {
                Some(version) => Rejected::told(error.fault, version, None),
                None => Rejected::silent(error.fault),
            }));
        }
    };
    let version = connect.version;
    let device = identity::device(&connect.client_id)
        .map_err(|fault| Some(Rejected::told(fault, version, None)))?;
    admit(connect, &device, peer, link, shared)
        .await
        .map_err(|fault| Some(Rejected::told(fault, version, Some(device))))
}

fn too_late(shared: &Shared) -> Fault {
    let detail = format!(
        "no whole CONNECT within {:?}",
        shared.limits.connect_timeout
    );
    Fault::new(RefusalReason::ConnectTimeout, detail)
}

/// The first frame; garbage is refused by its first byte, whatever length it promises.
async fn first_frame<S: AsyncRead + Unpin>(
    stream: &mut S,
    frames: &mut Frames,
) -> Result<Option<Frame>, Fault> {
    loop {
        if frames
            .first_byte()
            .is_some_and(|byte| byte != packet::CONNECT)
        {
            return Err(Fault::protocol("the first packet is no CONNECT"));
        }
        if let Some(frame) = frames.take()? {
            return Ok(Some(frame));
        }
        match stream.read_buf(frames.room()).await {
            Ok(0) if frames.first_byte().is_some() => {
                return Err(Fault::malformed("the connection ended within CONNECT"));
            }
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => {}
        }
    }
}

async fn admit(
    connect: Connect,
    device: &DeviceId,
    peer: SocketAddr,
    link: &Link,
    shared: &Shared,
) -> Result<Admitted, Fault> {
    believe(&connect, device, peer, link, shared)?;
    let will = testament(&connect, device, shared)?;
    let claim = shared.registry.claim(device, connect.clean_start);
    let lease = timeout(shared.limits.connect_timeout, claim)
        .await
        .map_err(|_| {
            Fault::new(
                RefusalReason::Takeover,
                "the connection before did not end in time",
            )
        })?;
    // Again: a revocation that came before the lease found no connection to end.
    believe(&connect, device, peer, link, shared)?;
    let expiry_seconds = connect
        .expiry_seconds
        .min(shared.limits.session_expiry_seconds_max);
    let stored = stored_session(&connect, device, expiry_seconds, shared).await?;
    let seconds = keep_alive_seconds(&connect, shared);
    let mut replies = Replies::new(connect.version, connect.packet_bytes_max);
    let welcome = Welcome {
        session_present: stored.present,
        expiry_seconds: (expiry_seconds != connect.expiry_seconds).then_some(expiry_seconds),
        keep_alive_seconds: (seconds != connect.keep_alive_seconds).then_some(seconds),
    };
    replies.welcome(welcome, &shared.limits);
    let receive_maximum = usize::from(shared.limits.receive_maximum.get());
    let (acknowledge, acknowledged) = mpsc::channel(receive_maximum);
    Ok(Admitted {
        session: Session::new(
            device.clone(),
            receive_maximum,
            acknowledge,
            stored.subscriptions,
            replies,
            Shelf::new(Arc::clone(&shared.shelves)),
        ),
        acknowledged,
        lease,
        patience: Duration::from_millis(u64::from(seconds) * 1_500),
        expiry_seconds,
        stored: stored.stored,
        will,
    })
}

fn believe(
    connect: &Connect,
    device: &DeviceId,
    peer: SocketAddr,
    link: &Link,
    shared: &Shared,
) -> Result<(), Fault> {
    if connect.authentication_method {
        let detail = "enhanced authentication is not offered";
        return Err(Fault::new(RefusalReason::AuthenticationMethod, detail));
    }
    let username = connect.username.as_deref();
    let claim = Claim {
        device,
        username,
        password: connect.password.as_deref(),
        peer,
        link,
    };
    shared.ports.identity.judge(&claim).map_err(Fault::from)
}

/// The will, if it is one the device could publish itself on its status topic.
fn testament(
    connect: &Connect,
    device: &DeviceId,
    shared: &Shared,
) -> Result<Option<Testament>, Fault> {
    let Some(will) = &connect.will else {
        return Ok(None);
    };
    let refused = |reason, detail: &'static str| Err(Fault::new(reason, detail).about(&will.topic));
    if identity::publishes(device, &will.topic)? != Channel::Status {
        return refused(
            RefusalReason::UnknownTopic,
            "a will belongs on the status topic",
        );
    }
    if will.qos == QoS::Level2 {
        return refused(RefusalReason::QosTwo, "QoS 2 is not available");
    }
    if will.retain {
        return refused(RefusalReason::Retain, "retained messages are not available");
    }
    // The session ends no later than its expiry, and the will with it (MQTT 5, 3.1.3.2.2).
    let delay = will
        .delay_seconds
        .min(connect.expiry_seconds)
        .min(shared.limits.will_delay_seconds_max);
    let topic = Topic::new(device.clone(), Channel::Status);
    let publication = Publication {
        topic,
        payload: will.payload.to_vec(),
        origin: Origin::Endpoint,
        due: None,
    };
    Ok(Some(Testament {
        publication,
        delay: Duration::from_secs(u64::from(delay)),
    }))
}

/// What the store knew, and knows now.
#[derive(Clone, Copy, Debug)]
struct Known {
    present: bool,
    subscriptions: Subscriptions,
    stored: bool,
}

/// Bring the stored session in line with what CONNACK will say, before it is said.
async fn stored_session(
    connect: &Connect,
    device: &DeviceId,
    expiry_seconds: u32,
    shared: &Shared,
) -> Result<Known, Fault> {
    let sessions = &shared.ports.sessions;
    let record = durably(shared, sessions.load(device)).await?;
    let alive = record.filter(|record| !connect.clean_start && record.lives_at(wall_utc()));
    let subscriptions = alive.map(|record| record.subscriptions).unwrap_or_default();
    if expiry_seconds > 0 {
        let record = SessionRecord {
            subscriptions,
            expiry_seconds,
            left_at_ms: None,
        };
        durably(shared, sessions.save(device, record)).await?;
    } else if record.is_some() {
        // This session ends with its connection, so nothing may be found after a crash either.
        durably(shared, sessions.remove(device)).await?;
    }
    Ok(Known {
        present: alive.is_some(),
        subscriptions,
        stored: expiry_seconds > 0,
    })
}

/// Wait for the store, within bounds.
pub(crate) async fn durably<T>(shared: &Shared, work: SessionFuture<'_, T>) -> Result<T, Fault> {
    match timeout(shared.limits.store_timeout, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error @ SessionStoreError::Full { .. })) => {
            Err(Fault::new(RefusalReason::SessionsFull, error.to_string()))
        }
        Ok(Err(error)) => Err(Fault::new(RefusalReason::SessionStore, error.to_string())),
        Err(_) => {
            let detail = format!(
                "the store took longer than {:?}",
                shared.limits.store_timeout
            );
            Err(Fault::new(RefusalReason::SessionStore, detail))
        }
    }
}

/// What is asked for, but never "for ever": 0 would keep a half-open connection until the next restart.
fn keep_alive_seconds(connect: &Connect, shared: &Shared) -> u16 {
    let longest = shared.limits.keep_alive_seconds_max.get();
    match connect.keep_alive_seconds {
        0 => longest,
        seconds => seconds.min(longest),
    }
}
