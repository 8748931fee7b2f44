//! The one place where time enters.
//!
//! Two faces: *event time* (rules, watch, rate limits; the demo and tests scale and freeze it) and
//! *I/O time* (keep-alive, back-off, sync; never scaled: use `tokio::time` for waiting on it).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use protocol::units::UtcMs;

/// A clock that can run faster than the wall, or stand still. Clones share one state.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Mutex<Pace>>);

#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Event time at `since`, milliseconds since 1970.
    base_ms: i64,
    since: Instant,
    /// Event milliseconds per wall millisecond; 0 when frozen.
    speed: u32,
}

impl Clock {
    /// Event time is wall time.
    #[must_use]
    pub fn wall() -> Self {
        Self::scaled(wall_utc(), 1)
    }

    /// Event time starts at `start` and runs `speed` times as fast as the wall.
    #[must_use]
    pub fn scaled(start: UtcMs, speed: u32) -> Self {
        Self(Arc::new(Mutex::new(Pace {
            base_ms: start.get(),
            since: monotonic(),
            speed,
        })))
    }

    /// Event time now.
    #[must_use]
    pub fn event_now(&self) -> UtcMs {
        UtcMs::saturating(self.pace().at(monotonic()))
    }

    /// Stop event time where it is.
    pub fn freeze(&self) {
        let mut pace = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = monotonic();
        *pace = Pace {
            base_ms: pace.at(now),
            since: now,
            speed: 0,
        };
    }

    /// How long to wait on the wall until event time has advanced by `event`; `None` when frozen.
    #[must_use]
    pub fn wall_for(&self, event: Duration) -> Option<Duration> {
        event.checked_div(self.pace().speed)
    }

    fn pace(&self) -> Pace {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pace {
    fn at(&self, now: Instant) -> i64 {
        let wall = now.saturating_duration_since(self.since).as_millis();
        let event = wall.saturating_mul(u128::from(self.speed));
        self.base_ms
            .saturating_add(i64::try_from(event).unwrap_or(i64::MAX))
    }
}

/// The machine's idea of universal time: labels what people read, never decides a verdict.
#[must_use]
pub fn wall_utc() -> UtcMs {
    #[expect(clippy::disallowed_methods, reason = "this is the clock port")]
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UtcMs::saturating(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// I/O time: monotonic, never scaled.
#[must_use]
pub fn monotonic() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "this is the clock port")]
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_clock_stands_still_for_every_clone() {
        let clock = Clock::scaled(UtcMs::saturating(1_000), 1_000);
        let clone = clock.clone();
        clock.freeze();
        let first = clone.event_now();
        assert!(first.get() >= 1_000);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(clone.event_now(), first);
        assert_eq!(clone.wall_for(Duration::from_secs(1)), None);
    }
}
