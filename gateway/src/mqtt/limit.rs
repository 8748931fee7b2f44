//! Every bound of the endpoint, with its unit and its reason.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

/// The bounds that the configuration may set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. One more is closed unread. An idle connection costs about 10 KiB, so the
    /// design point of 10,000 devices fits in 100 MiB.
    pub connections_max: usize,
    /// Connections at once from one address that is not this machine (IPv6: from one /64 network). One more is
    /// closed unread. A depot's trackers may share one address behind its router.
    pub connections_per_address_max: usize,
    /// Connections a second of one address (IPv6: of one /64 network) that may go wrong by its peers' fault, this
    /// machine's included; see `doorkeeper.rs`. Over TLS each takes 1.5 ms of a core, so this is a twelfth of one.
    /// Behind one address a fleet of 1,000 whose secrets are all wrong tries 200 times a second at the most.
    pub failures_per_address_per_s: NonZeroU32,
    /// The same of all addresses together: over TLS less than a third of a core.
    pub failures_per_s: NonZeroU32,
    /// Bytes a second taken from one device, after four seconds' worth at once; what is beyond waits unread, so
    /// nothing is lost. A tracker that empties a week's queue over LTE-M sends 100 KB/s.
    pub device_bytes_per_s: NonZeroU32,
    /// Longest time for a packet from its first byte to its last. 16 KiB over a link of 1 KB/s take 16 s.
    pub packet_timeout: Duration,
    /// Largest packet after CONNECT, in bytes, announced in MQTT 5. A batch of 20 readings takes 300 B, one of 255
    /// less than 8 KiB; a stored value may have 64 KiB.
    pub packet_bytes_max: NonZeroU32,
    /// Largest CONNECT, in bytes: client id, user name, password and will of a tracker take less than 400 B.
    pub connect_bytes_max: NonZeroU32,
    /// From the accepted connection to a whole CONNECT, and again from there to CONNACK; before them as long for
    /// the TLS handshake. A tracker on a bad cell link needs one round trip of at most 2 s, TLS two.
    pub connect_timeout: Duration,
    /// TLS handshakes under way at once; one more is closed unread. Each takes about 1 ms of a core and 40 KiB,
    /// so this many are done within the second, and a flood of half-open ones holds 10 MiB.
    pub handshakes_max: usize,
    /// PUBACKs owed to one connection. MQTT 5: announced as Receive Maximum, one more is an error. 3.1.1:
    /// reading stops. 8 is what a tracker keeps in flight, 10 what is benchmarked.
    pub receive_maximum: NonZeroU16,
    /// Payload bytes that all sessions together hold for the journal, beyond its queue. When the journal
    /// stalls, 10,000 trackers with 8 batches of 300 B in flight send 24 MB. Beyond the bound a session
    /// that holds something is not read, in MQTT 5 too, and its keep-alive pauses.
    pub held_bytes_max: usize,
    /// Longest keep-alive granted, in seconds; also used for clients that ask for none. A tracker that
    /// sleeps for half an hour keeps its connection, a dead one is noticed within 1.5 times this.
    pub keep_alive_seconds_max: NonZeroU16,
    /// Longest wait for a client to take what was written to it.
    pub write_timeout: Duration,
    /// Longest life of a session without a connection, in seconds. A week covers a parked
    /// trailer without coverage.
    pub session_expiry_seconds_max: u32,
    /// Longest delay of a last will, in seconds. It keeps a task alive.
    pub will_delay_seconds_max: u32,
    /// Longest wait for the store to make a session durable. A group commit takes milliseconds; behind a
    /// store that takes longer a device is better told to come back.
    pub store_timeout: Duration,
    /// How often unreported settings are sent again while the device stays connected.
    pub settings_resend: Duration,
    /// How long an orderly stop waits for owed PUBACKs.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 12_000,
            connections_per_address_max: 1_000,
            failures_per_address_per_s: nonzero(50),
            failures_per_s: nonzero(200),
            device_bytes_per_s: nonzero(1024 * 1024),
            packet_timeout: Duration::from_secs(60),
            packet_bytes_max: nonzero(16 * 1024),
            connect_bytes_max: nonzero(1_024),
            connect_timeout: Duration::from_secs(5),
            handshakes_max: 256,
            receive_maximum: nonzero_short(32),
            held_bytes_max: 64 * 1024 * 1024,
            keep_alive_seconds_max: nonzero_short(3_600),
            write_timeout: Duration::from_secs(10),
            session_expiry_seconds_max: 7 * 24 * 3_600,
            will_delay_seconds_max: 300,
            store_timeout: Duration::from_secs(5),
            settings_resend: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// First room for received bytes, in bytes: a window of ten small readings. Room grows with bytes that came,
/// never with bytes that were promised.
pub(crate) const READ_CHUNK_BYTES: usize = 4 * 1024;

/// Bytes read from a client until its TLS handshake is done: a chain of four P-256 certificates has 4 KiB.
pub(crate) const TLS_HANDSHAKE_BYTES_MAX: usize = 16 * 1024;

/// How long a closed connection is drained so that the client sees why before the reset.
pub(crate) const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// How much of a closed connection is drained, in bytes: four of the largest packets by default.
pub(crate) const LINGER_BYTES_MAX: usize = 64 * 1024;

/// Pause after the listener failed to accept (out of descriptors): long enough for one to come free.
pub(crate) const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// How long a last will waits for room towards the journal before it is dropped and counted.
pub(crate) const WILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest piece of a client's own text in a log line or refusal, in bytes: a topic of ours fits.
pub(crate) const QUOTE_BYTES_MAX: usize = 128;

const fn nonzero(value: u32) -> NonZeroU32 {
    match NonZeroU32::new(value) {
        Some(value) => value,
        None => NonZeroU32::MIN,
    }
}

const fn nonzero_short(value: u16) -> NonZeroU16 {
    match NonZeroU16::new(value) {
        Some(value) => value,
        None => NonZeroU16::MIN,
    }
}
