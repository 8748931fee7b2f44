//! What of a session outlives its connection, and where it is kept.
//!
//! The endpoint sends nothing that a client has to acknowledge, so a session is its subscriptions and its
//! expiry. Stored before CONNACK says so: a device that is told "session present" goes on with what it has in
//! flight, one that is told otherwise may drop it.

use std::future::Future;
use std::pin::Pin;

use protocol::key::DeviceId;
use protocol::topic::Channel;
use protocol::units::UtcMs;
use serde::{Deserialize, Serialize};

/// A session at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// What the device listens to.
    pub subscriptions: Subscriptions,
    /// Seconds the session lives on after its connection has gone; 0 ends with it.
    pub expiry_seconds: u32,
    /// When its connection went, in milliseconds since 1970; `None` while connected, or after a crash.
    pub left_at_ms: Option<i64>,
}

impl SessionRecord {
    /// Whether the session still lives at `now`. After a crash the time of leaving is unknown: only a session that
    /// was to end with its connection is over then.
    #[must_use]
    pub fn lives_at(&self, now: UtcMs) -> bool {
        let expiry_ms = i64::from(self.expiry_seconds).saturating_mul(1_000);
        match self.left_at_ms {
            None => self.expiry_seconds > 0,
            Some(left) => now.get().saturating_sub(left) < expiry_ms,
        }
    }
}

/// What a device listens to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscriptions {
    /// Its settings.
    pub settings: bool,
    /// Replies to its time requests.
    pub time: bool,
}

impl Subscriptions {
    /// The switch of a channel, if it is one that goes down.
    #[must_use]
    pub const fn switch(&mut self, channel: Channel) -> Option<&mut bool> {
        match channel {
            Channel::Settings => Some(&mut self.settings),
            Channel::Time => Some(&mut self.time),
            _ => None,
        }
    }
}

/// Why the store could not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionStoreError {
    /// No room for one more session.
    #[error("the store holds {sessions_max} sessions already")]
    Full {
        /// As many as it may hold.
        sessions_max: usize,
    },
    /// It failed.
    #[error("{operation} of session {device} failed: {cause}")]
    Failed {
        /// `load`, `save` or `remove`.
        operation: &'static str,
        /// Whose.
        device: DeviceId,
        /// Why.
        cause: String,
    },
}

/// What a session store answers.
pub type SessionFuture<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;

/// Keeps sessions. It bounds their number itself.
pub trait SessionStore: Send + Sync {
    /// The stored session of a device.
    fn load<'a>(&'a self, device: &'a DeviceId) -> SessionFuture<'a, Option<SessionRecord>>;

    /// Replace the session of a device. Done when it survives a power cut.
    fn save<'a>(&'a self, device: &'a DeviceId, record: SessionRecord) -> SessionFuture<'a, ()>;

    /// Forget the session of a device. Done when that survives a power cut.
    fn remove<'a>(&'a self, device: &'a DeviceId) -> SessionFuture<'a, ()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_lives_until_its_expiry_counted_from_the_end_of_its_connection() {
        let left = |expiry_seconds, left_at_ms| SessionRecord {
            subscriptions: Subscriptions::default(),
            expiry_seconds,
            left_at_ms,
        };
        let now = UtcMs::saturating(100_000);
        assert!(left(10, Some(90_001)).lives_at(now));
        assert!(!left(10, Some(90_000)).lives_at(now));
        assert!(left(10, None).lives_at(now), "a crash does not end it");
        assert!(!left(0, None).lives_at(now));
    }
}
