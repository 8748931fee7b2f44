//! Event time as the fleet sees it: a port that the gateway's demo fills with its own clock.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use protocol::units::UtcMs;
use tokio::time::Instant;

/// Longest single wait on the wall: bounds how late a clock that was changed is noticed.
const WAIT_MAX: Duration = Duration::from_millis(250);

/// Shortest wait on the wall: tokio's timer counts milliseconds.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// Event time now, and how fast it runs.
#[derive(Clone)]
pub struct EventClock {
    now: Arc<dyn Fn() -> UtcMs + Send + Sync>,
    speed: u32,
}

impl fmt::Debug for EventClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (now, speed) = (self.now(), self.speed);
        write!(f, "EventClock {{ now: {now:?}, speed: {speed} }}")
    }
}

impl EventClock {
    /// A clock that is read by `now` and runs `speed` times as fast as the wall, at least once.
    #[must_use]
    pub fn new(now: Arc<dyn Fn() -> UtcMs + Send + Sync>, speed: u32) -> Self {
        Self {
            now,
            speed: speed.max(1),
        }
    }

    /// A clock of its own that starts at `start` now.
    #[must_use]
    pub fn starting_at(start: UtcMs, speed: u32) -> Self {
        let since = Instant::now();
        let speed = speed.max(1);
        let now = move || {
            let wall_ms = since
                .elapsed()
                .as_millis()
                .saturating_mul(u128::from(speed));
            let event_ms = i64::try_from(wall_ms).unwrap_or(i64::MAX);
            UtcMs::saturating(start.get().saturating_add(event_ms))
        };
        Self::new(Arc::new(now), speed)
    }

    /// The same clock, which stands still from `end` on: however late a loaded machine looks at it, nothing
    /// happens after, so two runs of one world end alike.
    #[must_use]
    pub fn standing_still_at(self, end: UtcMs) -> Self {
        let speed = self.speed;
        Self::new(Arc::new(move || self.now().min(end)), speed)
    }

    /// Event time now.
    #[must_use]
    pub fn now(&self) -> UtcMs {
        (self.now)()
    }

    /// How long to wait on the wall until about `at`.
    #[must_use]
    pub fn wait_until(&self, at: UtcMs) -> Duration {
        let event_ms = at.get().saturating_sub(self.now().get()).max(0);
        let wall_ms = event_ms.unsigned_abs() / u64::from(self.speed);
        Duration::from_millis(wall_ms).clamp(WAIT_MIN, WAIT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn event_time_runs_as_many_times_faster_as_it_says() {
        let clock = EventClock::starting_at(UtcMs::saturating(5_000), 900);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(clock.now().get(), 5_000 + 2_000 * 900);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_has_reached_its_end_stays_there() {
        let end = UtcMs::saturating(6_000);
        let clock = EventClock::starting_at(UtcMs::saturating(5_000), 1).standing_still_at(end);
        tokio::time::advance(Duration::from_millis(400)).await;
        assert_eq!(clock.now().get(), 5_400);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(clock.now(), end);
    }

    #[test]
    fn a_wait_is_scaled_and_bounded() {
        let clock = EventClock::new(Arc::new(|| UtcMs::saturating(0)), 100);
        let wait = |ms| clock.wait_until(UtcMs::saturating(ms));
        assert_eq!(wait(10_000), Duration::from_millis(100));
        assert_eq!(wait(-10_000), WAIT_MIN);
        assert_eq!(wait(10_000_000), WAIT_MAX);
    }
}
