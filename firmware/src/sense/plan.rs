//! When to sample: faster when moving or near a limit.

use protocol::downlink::Settings;
use protocol::reading::Measured;
use protocol::units::{CentiCelsius, DecimetresPerSecond, Seconds, UptimeMs};

/// From this speed on a tracker moves, in decimetres per second (7 km/h): the speed a receiver shows
/// at rest stays well below.
pub const MOVING_SPEED_DM_S: u16 = 20;

/// A tracker rests when it has not moved for this long before a sample, in milliseconds: longer than a
/// traffic light.
pub const REST_AFTER_MS: u64 = 180_000;

/// Decides the next moment to sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    sampled: Option<UptimeMs>,
    moved: Option<UptimeMs>,
    near_limit: bool,
}

impl Plan {
    /// The first sample is due at once.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            sampled: None,
            moved: None,
            near_limit: false,
        }
    }

    /// Take note of the speed; moving is noticed between samples too.
    pub fn note_speed(&mut self, speed: DecimetresPerSecond, now: UptimeMs) {
        if speed.get() >= MOVING_SPEED_DM_S {
            self.moved = Some(now);
        }
    }

    /// Take note of a sample.
    pub fn note_sample(
        &mut self,
        temperatures: &[Measured<CentiCelsius>],
        settings: &Settings,
        now: UptimeMs,
    ) {
        self.sampled = Some(now);
        self.near_limit = temperatures
            .iter()
            .filter_map(|temperature| temperature.value())
            .any(|temperature| near(temperature, settings));
    }

    /// When the next sample is due.
    #[must_use]
    pub fn due(&self, settings: &Settings) -> UptimeMs {
        self.sampled.map_or(UptimeMs::saturating(0), |sampled| {
            after(sampled, self.interval(settings, sampled))
        })
    }

    fn interval(&self, settings: &Settings, sampled: UptimeMs) -> Seconds {
        let moving = |moved| later(moved, REST_AFTER_MS) > sampled;
        let calm = if self.moved.is_some_and(moving) {
            settings.sample_moving
        } else {
            settings.sample_resting
        };
        if self.near_limit {
            calm.min(settings.sample_near_limit)
        } else {
            calm
        }
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self::new()
    }
}

/// Within the margin of a limit, or beyond it.
fn near(temperature: CentiCelsius, settings: &Settings) -> bool {
    let value = i32::from(temperature.get());
    let margin = i32::from(settings.temperature_margin.get());
    let high = |limit: CentiCelsius| value >= i32::from(limit.get()) - margin;
    let low = |limit: CentiCelsius| value <= i32::from(limit.get()) + margin;
    settings.temperature_above.is_some_and(high) || settings.temperature_below.is_some_and(low)
}

/// `since` plus `interval`.
pub(crate) fn after(since: UptimeMs, interval: Seconds) -> UptimeMs {
    let ms = u64::from(interval.get()) * 1_000;
    later(since, ms)
}

/// `since` plus `ms`.
pub(crate) fn later(since: UptimeMs, ms: u64) -> UptimeMs {
    let sum = since.get().saturating_add(ms);
    UptimeMs::saturating(i64::try_from(sum).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        sample_moving: Seconds::saturating(60),
        sample_resting: Seconds::saturating(300),
        sample_near_limit: Seconds::saturating(30),
        ..Settings::DEFAULT
    };

    fn at(s: i64) -> UptimeMs {
        UptimeMs::saturating(s * 1_000)
    }

    fn sample(plan: &mut Plan, centi: i64, now: UptimeMs) {
        let value = Measured::Value(CentiCelsius::saturating(centi));
        plan.note_sample(&[value], &SETTINGS, now);
    }

    #[test]
    fn the_first_sample_is_due_at_once_and_the_next_after_the_resting_interval() {
        let mut plan = Plan::new();
        assert_eq!(plan.due(&SETTINGS), at(0));
        sample(&mut plan, 400, at(7));
        assert_eq!(plan.due(&SETTINGS), at(307));
    }

    #[test]
    fn starting_to_move_brings_the_next_sample_forward_until_rest_is_certain() {
        let mut plan = Plan::new();
        sample(&mut plan, 400, at(0));
        plan.note_speed(DecimetresPerSecond::saturating(19), at(10));
        assert_eq!(plan.due(&SETTINGS), at(300));
        plan.note_speed(DecimetresPerSecond::saturating(20), at(11));
        assert_eq!(plan.due(&SETTINGS), at(60));
        sample(&mut plan, 400, at(190));
        assert_eq!(plan.due(&SETTINGS), at(250));
        sample(&mut plan, 400, at(191));
        assert_eq!(plan.due(&SETTINGS), at(491));
    }

    #[test]
    fn within_the_margin_of_either_limit_sampling_is_fast() {
        let mut plan = Plan::new();
        for (centi, interval) in [(700, 30), (699, 300), (50, 30), (51, 300), (2_000, 30)] {
            sample(&mut plan, centi, at(0));
            assert_eq!(plan.due(&SETTINGS), at(interval), "{centi}");
        }
    }
}
