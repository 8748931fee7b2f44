//! MQTT 5 behind messages in and messages out.
//!
//! [`Link::run`] stays connected for ever: it opens a stream, connects, subscribes to the device's
//! own downlink topics, reports [`LinkEvent::Up`], publishes what the tracker hands it with `QoS` 1
//! and reports each success PUBACK. When anything fails it reports [`LinkEvent::Down`], waits and
//! starts again.
//!
//! The queue of the device owns durability, so every connection is a clean start with a fresh MQTT
//! session: minimq never replays by itself what the tracker sends again anyway. A negative PUBACK
//! reaches us as an error of `poll` while its operation already reads as complete; therefore any
//! error ends the connection and leaves everything that was open unconfirmed.
//!
//! All waiting here is I/O time (`embassy_time`), which simulations do not scale. On the host,
//! embassy's timer queue has one entry per *task*, 64 with feature `generic-queue-64`; more tasks
//! than that wake each other without end, so a process with many links runs several in one task.

use core::future::pending;

use embassy_futures::select::{Either3, select3};
use embassy_time::{Duration, Instant, Timer, with_timeout};
use minimq::{
    ConfigBuilder, Connection, Error, InboundPublish, Op, PeerError, PubError, Publication, QoS,
    ResourceError, Session, SubscriptionOptions, TopicFilter, Will,
};
use protocol::key::DeviceId;
use protocol::status::Status;
use protocol::topic::{Channel, TOPIC_MAX_BYTES, Topic};
use protocol::units::Milliseconds;

use crate::port::{
    ConnectionId, DOWNLINK_MAX_BYTES, Entropy, Exchange, LinkEvent, LinkFailure, MESSAGE_MAX_BYTES,
    Message, Network, Token, WINDOW_MESSAGES,
};

/// Room for one packet down, in bytes: payload, topic, header and a few properties.
pub const RX_BYTES: usize = DOWNLINK_MAX_BYTES + TOPIC_MAX_BYTES + 128;

/// Bytes of MQTT around one message up: topic, packet id, properties, fixed header.
const PUBLISH_OVERHEAD_BYTES: usize = TOPIC_MAX_BYTES + 16;

/// Room for the CONNECT packet, in bytes: client id, last will with its topic, properties.
const CONNECT_BYTES: usize = 384;

/// Room for a whole window in flight and the CONNECT packet, in bytes.
pub const TX_BYTES: usize =
    WINDOW_MESSAGES * (MESSAGE_MAX_BYTES + PUBLISH_OVERHEAD_BYTES) + CONNECT_BYTES;

/// How the link behaves. All durations are I/O time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Whose link; also the MQTT client id.
    pub device: DeviceId,
    /// MQTT keep-alive, in seconds: long enough for a radio to sleep, shorter than the idle
    /// timeout of mobile networks.
    pub keep_alive_s: u16,
    /// Longest wait for a stream, for CONNACK, for SUBACK.
    pub handshake: Milliseconds,
    /// Longest time without a confirmation while messages are in flight. minimq has no such bound.
    pub no_progress: Milliseconds,
    /// Wait after the first failure.
    pub back_off_min: Milliseconds,
    /// Longest wait between attempts: a depot that comes back sees its devices within this time.
    pub back_off_max: Milliseconds,
}

impl LinkConfig {
    /// Defaults for `device`.
    #[must_use]
    pub const fn new(device: DeviceId) -> Self {
        Self {
            device,
            keep_alive_s: 60,
            handshake: Milliseconds::saturating(15_000),
            no_progress: Milliseconds::saturating(30_000),
            back_off_min: Milliseconds::saturating(500),
            back_off_max: Milliseconds::saturating(60_000),
        }
    }
}

/// The packet memory of one link; about 10 KB.
#[derive(Debug)]
pub struct Buffers {
    rx: [u8; RX_BYTES],
    tx: [u8; TX_BYTES],
}

impl Buffers {
    /// Empty buffers.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            rx: [0; RX_BYTES],
            tx: [0; TX_BYTES],
        }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

/// Keeps a device connected.
#[derive(Debug)]
pub struct Link<'b, E> {
    config: LinkConfig,
    buffers: &'b mut Buffers,
    entropy: E,
    connections: u32,
    /// Attempts since the last confirmation.
    failures: u32,
}

impl<'b, E: Entropy> Link<'b, E> {
    /// A link that is not connected yet.
    pub const fn new(config: LinkConfig, buffers: &'b mut Buffers, entropy: E) -> Self {
        Self {
            config,
            buffers,
            entropy,
            connections: 0,
            failures: 0,
        }
    }

    /// Connect, publish, reconnect; never ends. Dropping the future drops the connection, which
    /// the gateway sees as a loss (last will).
    pub async fn run<N: Network, X: Exchange>(&mut self, network: &mut N, exchange: &mut X) -> ! {
        loop {
            let failure = match self.connected(network, exchange).await {
                Ok(never) => match never {},
                Err(failure) => failure,
            };
            exchange.incoming(LinkEvent::Down(failure)).await;
            Timer::after(self.back_off()).await;
        }
    }

    /// One connection, from opening the stream to its end.
    async fn connected<N: Network, X: Exchange>(
        &mut self,
        network: &mut N,
        exchange: &mut X,
    ) -> Result<core::convert::Infallible, LinkFailure> {
        let handshake = duration(self.config.handshake);
        let stream = with_timeout(handshake, network.open())
            .await
            .map_err(|_| LinkFailure::Unreachable)?
            .map_err(|_| LinkFailure::Unreachable)?;
        self.connections = self.connections.wrapping_add(1);
        let id = ConnectionId(self.connections);
        let mut will = [0; Status::MAX_BYTES];
        let length = Status::Lost.encode(&mut will);
        let will = length.ok().and_then(|length| will.get(..length));
        let config = session_config(&self.config, self.buffers, will.unwrap_or_default())?;
        let mut session = Session::new(config);
        let connection = with_timeout(handshake, session.connect(stream))
            .await
            .map_err(|_| LinkFailure::HandshakeTimeout)?
            .map_err(|error| failure(&error))?;
        let mut pump = Pump::new(connection, &self.config, id, &mut self.failures);
        pump.subscribe(exchange).await?;
        exchange.incoming(LinkEvent::Up(id)).await;
        pump.run(exchange).await
    }

    /// Exponential, bounded, with half of it random so that a depot full of devices does not come
    /// back in step.
    fn back_off(&mut self) -> Duration {
        let exponent = self.failures.min(BACK_OFF_EXPONENT_MAX);
        self.failures = self.failures.saturating_add(1);
        let longest = u64::from(self.config.back_off_max.get());
        let whole = (u64::from(self.config.back_off_min.get()) << exponent).min(longest);
        let jitter = self.entropy.random() % (whole / 2 + 1);
        Duration::from_millis(whole - whole / 2 + jitter)
    }
}

/// Where doubling stops, whatever the bounds: keeps the shift inside 64 bits.
const BACK_OFF_EXPONENT_MAX: u32 = 16;

/// A session whose last will is `will`. Nothing here can fail: a device id fits a client id, the
/// longest status topic fits a will's.
fn session_config<'s>(
    config: &LinkConfig,
    buffers: &'s mut Buffers,
    will: &'s [u8],
) -> Result<ConfigBuilder<'s>, LinkFailure> {
    let topic = Topic::new(config.device.clone(), Channel::Status).name();
    let will = Will::new(&topic, will, &[]).map_err(|_| LinkFailure::TooLarge)?;
    ConfigBuilder::new(minimq::Buffers::new(&mut buffers.rx, &mut buffers.tx))
        .keepalive_interval(config.keep_alive_s)
        .client_id(config.device.as_str())
        .and_then(|builder| builder.will(will.qos(QoS::AtLeastOnce)))
        .map_err(|_| LinkFailure::TooLarge)
}

/// Messages through one live connection.
struct Pump<'a, 's, 'buf, IO> {
    connection: Connection<'s, 'buf, IO>,
    config: &'a LinkConfig,
    id: ConnectionId,
    failures: &'a mut u32,
    open: heapless::Vec<(Token, Op), WINDOW_MESSAGES>,
    /// When something was last confirmed, or the window was last empty.
    progress: Instant,
}

impl<'a, 's, 'buf, IO: minimq::Io> Pump<'a, 's, 'buf, IO> {
    fn new(
        connection: Connection<'s, 'buf, IO>,
        config: &'a LinkConfig,
        id: ConnectionId,
        failures: &'a mut u32,
    ) -> Self {
        Self {
            connection,
            config,
            id,
            failures,
            open: heapless::Vec::new(),
            progress: Instant::now(),
        }
    }

    /// Subscribe to the device's own downlinks, and wait until that is confirmed.
    async fn subscribe<X: Exchange>(&mut self, exchange: &mut X) -> Result<(), LinkFailure> {
        let handshake = duration(self.config.handshake);
        with_timeout(handshake, self.subscribed(exchange))
            .await
            .map_err(|_| LinkFailure::HandshakeTimeout)?
    }

    async fn subscribed<X: Exchange>(&mut self, exchange: &mut X) -> Result<(), LinkFailure> {
        let device = &self.config.device;
        let settings = Topic::new(device.clone(), Channel::Settings).name();
        let time = Topic::new(device.clone(), Channel::Time).name();
        let options = SubscriptionOptions::default().maximum_qos(QoS::AtLeastOnce);
        let filters =
            [&settings, &time].map(|topic| TopicFilter::new(topic.as_str()).options(options));
        let operation = self.connection.subscribe(&filters, &[]).await;
        let operation = operation.map_err(|error| failure(&error))?;
        while !self.connection.is_complete(&operation) {
            if let Some(event) = inbound(&mut self.connection, device).await? {
                exchange.incoming(event).await;
            }
        }
        Ok(())
    }

    async fn run<X: Exchange>(
        &mut self,
        exchange: &mut X,
    ) -> Result<core::convert::Infallible, LinkFailure> {
        loop {
            let room = !self.open.is_full() && self.connection.can_publish(QoS::AtLeastOnce);
            let stalled = stalled(self.deadline());
            let inbound = inbound(&mut self.connection, &self.config.device);
            match select3(inbound, outgoing(exchange, room), stalled).await {
                Either3::First(event) => self.polled(event?, exchange).await,
                Either3::Second(message) => self.publish(&message).await?,
                Either3::Third(()) => return Err(LinkFailure::NoProgress),
            }
        }
    }

    /// When to give up on what is in flight, if anything is.
    fn deadline(&self) -> Option<Instant> {
        let patience = duration(self.config.no_progress);
        (!self.open.is_empty()).then(|| self.progress + patience)
    }

    /// A call of `poll` went well, so whatever it completed has a success code.
    async fn polled<X: Exchange>(&mut self, event: Option<LinkEvent>, exchange: &mut X) {
        while let Some(index) = self.complete() {
            let (token, _) = self.open.swap_remove(index);
            self.progress = Instant::now();
            *self.failures = 0;
            exchange.incoming(LinkEvent::Confirmed(token)).await;
        }
        if let Some(event) = event {
            exchange.incoming(event).await;
        }
    }

    fn complete(&self) -> Option<usize> {
        let done = |(_, operation): &(Token, Op)| self.connection.is_complete(operation);
        self.open.iter().position(done)
    }

    /// Publish, unless the message was made for an earlier connection.
    async fn publish(&mut self, message: &Message) -> Result<(), LinkFailure> {
        if message.connection != self.id {
            return Ok(());
        }
        if self.open.is_empty() {
            self.progress = Instant::now();
        }
        let topic = Topic::new(self.config.device.clone(), message.channel).name();
        let publication = Publication::bytes(&topic, &message.payload).qos(QoS::AtLeastOnce);
        let patience = duration(self.config.no_progress);
        let operation = with_timeout(patience, self.connection.publish(publication))
            .await
            .map_err(|_| LinkFailure::NoProgress)?
            .map_err(|error| publish_failure(&error))?
            .ok_or(LinkFailure::Refused)?;
        self.open
            .push((message.token, operation))
            .map_err(|_| LinkFailure::NoProgress)
    }
}

/// Drive the connection until something happened; cancel-safe.
async fn inbound<IO: minimq::Io>(
    connection: &mut Connection<'_, '_, IO>,
    device: &DeviceId,
) -> Result<Option<LinkEvent>, LinkFailure> {
    match connection.poll().await {
        Ok(message) => Ok(message.and_then(|message| downlink(&message, device))),
        Err(error) => Err(failure(&error)),
    }
}

/// What a publication down means; nothing when it is not for us or does not fit.
fn downlink(message: &InboundPublish<'_>, device: &DeviceId) -> Option<LinkEvent> {
    let topic = Topic::parse(message.topic()).ok()?;
    if topic.device != *device || topic.channel.is_up() {
        return None;
    }
    Some(LinkEvent::Downlink {
        channel: topic.channel,
        payload: heapless::Vec::from_slice(message.payload()).ok()?,
    })
}

/// The next message, once there is room for it.
async fn outgoing<X: Exchange>(exchange: &mut X, room: bool) -> Message {
    if room {
        exchange.outgoing().await
    } else {
        pending().await
    }
}

async fn stalled(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => Timer::at(deadline).await,
        None => pending().await,
    }
}

const fn duration(milliseconds: Milliseconds) -> Duration {
    Duration::from_millis(milliseconds.get() as u64)
}

const fn failure<T>(error: &Error<T>) -> LinkFailure {
    match error {
        Error::Peer(PeerError::Rejected(_)) => LinkFailure::Refused,
        Error::Resource(ResourceError::PacketTooLarge | ResourceError::BufferTooSmall) => {
            LinkFailure::TooLarge
        }
        _ => LinkFailure::Disconnected,
    }
}

const fn publish_failure<P, T>(error: &PubError<P, T>) -> LinkFailure {
    match error {
        PubError::Session(error) => failure(error),
        PubError::Payload(_) => LinkFailure::TooLarge,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u64);

    impl Entropy for Fixed {
        fn random(&mut self) -> u64 {
            self.0
        }
    }

    /// The first ten waits, in milliseconds, with jitter `random`.
    fn waits(random: u64) -> Vec<u64> {
        let mut buffers = Box::new(Buffers::new());
        let config = LinkConfig::new("a".parse().unwrap());
        let mut link = Link::new(config, &mut buffers, Fixed(random));
        (0..10).map(|_| link.back_off().as_millis()).collect()
    }

    #[test]
    fn waits_double_up_to_a_bound_and_half_of_each_is_jitter() {
        let longest: Vec<u64> = (0..10).map(|n| (500 << n).min(60_000)).collect();
        let shortest: Vec<u64> = longest.iter().map(|wait| wait / 2).collect();
        assert_eq!(waits(0), shortest);
        let spread = waits(1_234_567);
        let within = |index: usize| (shortest[index]..=longest[index]).contains(&spread[index]);
        assert!((0..10).all(within), "{spread:?}");
        assert_ne!(spread, shortest);
    }

    #[test]
    fn the_buffers_of_a_link_stay_below_eleven_kilobytes() {
        assert!(
            size_of::<Buffers>() <= 11 * 1024,
            "{}",
            size_of::<Buffers>()
        );
    }
}
