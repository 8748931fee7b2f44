//! What the tracker needs from the outside: sensors, flash, entropy, a clock chip, a network.
//!
//! Time is not here: uptime is an argument of every call of the tracker, so that a test or a
//! simulation can run it at any speed. Only the link waits by itself, and it waits in I/O time,
//! which is never scaled (see [`crate::link`]).
//!
//! Bytes of the satellite receiver and bursts of the accelerometer are pushed into the tracker
//! ([`crate::tracker::Input`]); sensors, flash, entropy and clock chip are pulled by it.

use core::future::Future;

use embedded_io_async::{Read, Write};
use protocol::reading::{Battery, Door, Measured, Missing, TEMPERATURE_PROBES_MAX};
use protocol::topic::Channel;
use protocol::units::{CentiCelsius, Dbm, DeciPercent, Lux, TiltDegrees, UptimeMs, UtcMs};

/// Largest payload of a message up, in bytes: some 60 delta-coded readings, and eight such messages
/// in flight still fit a microcontroller.
pub const MESSAGE_MAX_BYTES: usize = 1024;

/// Largest payload of a message down, in bytes. Settings are the largest, at under 100.
pub const DOWNLINK_MAX_BYTES: usize = 256;

/// Most messages in flight: what minimq can hold.
pub const WINDOW_MESSAGES: usize = 8;

/// One look at every sensor but the satellite receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Temperature by probe.
    pub temperatures: [Measured<CentiCelsius>; TEMPERATURE_PROBES_MAX],
    /// Relative humidity.
    pub humidity: Measured<DeciPercent>,
    /// Battery.
    pub battery: Measured<Battery>,
    /// Angle from upright.
    pub tilt: Measured<TiltDegrees>,
    /// Light.
    pub light: Measured<Lux>,
    /// Door contact.
    pub door: Measured<Door>,
    /// Received power of the serving cell or access point.
    pub radio: Measured<Dbm>,
}

impl Sample {
    /// What a board without any sensor measures; boards fill in what they have.
    pub const NOTHING_FITTED: Self = Self {
        temperatures: [Measured::Missing(Missing::NotFitted); TEMPERATURE_PROBES_MAX],
        humidity: Measured::Missing(Missing::NotFitted),
        battery: Measured::Missing(Missing::NotFitted),
        tilt: Measured::Missing(Missing::NotFitted),
        light: Measured::Missing(Missing::NotFitted),
        door: Measured::Missing(Missing::NotFitted),
        radio: Measured::Missing(Missing::NotFitted),
    };
}

/// The sensors.
pub trait Sensors {
    /// Measure everything now. A sensor that fails reports its value as missing, with the reason.
    fn sample(&mut self, now: UptimeMs) -> Sample;
}

/// Names of the small regions of flash that the tracker keeps its counters and settings in.
///
/// Each is erased on its own. There are two of a kind so that a power cut while one is written
/// leaves the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Page {
    /// Epoch and boot counters, first copy.
    CounterA,
    /// Epoch and boot counters, second copy.
    CounterB,
    /// Settings in force, first copy.
    SettingsA,
    /// Settings in force, second copy.
    SettingsB,
}

impl Page {
    /// Every page.
    pub const ALL: [Self; 4] = [
        Self::CounterA,
        Self::CounterB,
        Self::SettingsA,
        Self::SettingsB,
    ];
}

/// Bytes of one [`Page`]: the smallest page of common EEPROMs, and part of one NOR sector.
pub const PAGE_BYTES: usize = 256;

/// Flash did not do as told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlashError {
    /// Where.
    pub page: Page,
    /// Doing what.
    pub operation: FlashOperation,
}

/// What flash was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlashOperation {
    /// Read from the start of a page.
    Read,
    /// Write to the start of an erased page.
    Write,
    /// Erase a page.
    Erase,
}

impl core::fmt::Display for FlashError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "flash {:?} of page {:?} failed",
            self.operation, self.page
        )
    }
}

impl core::error::Error for FlashError {}

/// The small durable area. The bulk queue is not kept here.
pub trait Flash {
    /// Fill `buffer` (at most [`PAGE_BYTES`], a multiple of 4) from the start of `page`.
    ///
    /// # Errors
    /// When the hardware cannot; blank or torn content is no error, the tracker checks it.
    fn read(&mut self, page: Page, buffer: &mut [u8]) -> Result<(), FlashError>;

    /// Erase `page`.
    ///
    /// # Errors
    /// When the hardware cannot.
    fn erase(&mut self, page: Page) -> Result<(), FlashError>;

    /// Write `bytes` (at most [`PAGE_BYTES`], a multiple of 4) to the start of an erased page.
    /// Returns only when they survive a power cut.
    ///
    /// # Errors
    /// When the hardware cannot.
    fn write(&mut self, page: Page, bytes: &[u8]) -> Result<(), FlashError>;
}

/// A source of random numbers: epochs, nonces, jitter. Need not be cryptographic.
pub trait Entropy {
    /// 64 random bits.
    fn random(&mut self) -> u64;
}

/// A battery-backed clock.
pub trait ClockChip {
    /// Universal time, when a clock is fitted, runs, and was ever set.
    fn utc(&mut self) -> Option<UtcMs>;
}

/// Everything the tracker pulls from.
pub trait Board: Sensors + Flash + Entropy + ClockChip {}

impl<T: Sensors + Flash + Entropy + ClockChip> Board for T {}

/// Names a message between tracker and link, within one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u32);

/// Names one connection of the link, within one boot; a message belongs to one connection, and what
/// is left over from an earlier one is not sent on a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u32);

/// From tracker to link: publish this with `QoS` 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The connection it was made for.
    pub connection: ConnectionId,
    /// Comes back in [`LinkEvent::Confirmed`].
    pub token: Token,
    /// Where to; the link knows the device id.
    pub channel: Channel,
    /// What.
    pub payload: heapless::Vec<u8, MESSAGE_MAX_BYTES>,
}

/// From link to tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "downlinks are bounded and rare; no allocator to box with"
)]
pub enum LinkEvent {
    /// Connected and subscribed.
    Up(ConnectionId),
    /// A PUBACK with a success code: the message is the gateway's now.
    Confirmed(Token),
    /// Something arrived.
    Downlink {
        /// Settings or time.
        channel: Channel,
        /// As received.
        payload: heapless::Vec<u8, DOWNLINK_MAX_BYTES>,
    },
    /// The connection is gone, or could not be made; nothing that is unconfirmed can be confirmed
    /// any more.
    Down(LinkFailure),
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkFailure {
    /// No stream to the gateway.
    Unreachable,
    /// The gateway did not answer CONNECT or SUBSCRIBE in time.
    HandshakeTimeout,
    /// The gateway refused CONNECT, SUBSCRIBE or a publication.
    Refused,
    /// Messages were in flight and none was confirmed in time.
    NoProgress,
    /// A message is larger than the gateway accepts.
    TooLarge,
    /// The stream ended or broke, or the gateway left.
    Disconnected,
}

/// Opens byte streams to the gateway.
pub trait Network {
    /// An established stream. Reads and writes must be cancel-safe, as those of sockets are.
    type Connection: Read + Write;
    /// Why there is none.
    type Error: core::fmt::Debug;

    /// Open a stream.
    fn open(&mut self) -> impl Future<Output = Result<Self::Connection, Self::Error>>;
}

/// The two bounded channels between tracker and link.
///
/// Both hold at most twice [`WINDOW_MESSAGES`]: the tracker never has more than a window open, and
/// what is left of the connection before fits beside it.
pub trait Exchange {
    /// The next message to publish; pends until there is one. Must be cancel-safe.
    fn outgoing(&mut self) -> impl Future<Output = Message>;

    /// Hand an event to the tracker.
    fn incoming(&mut self, event: LinkEvent) -> impl Future<Output = ()>;
}
