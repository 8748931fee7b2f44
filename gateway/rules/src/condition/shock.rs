//! Impacts that may have hurt the goods.
//!
//! Peak alone cannot rank: 5 g for 50 ms and 25 g for 10 ms change velocity by the same amount. An
//! event needs `peak >= peak_g` and (`delta_v >= limit` or `duration >= limit`), all inclusive. In an
//! accelerometer's peak-detect mode duration and velocity change are unknown; then the peak alone
//! decides, the event is possible, and it says so.
//!
//! For a half-sine pulse of amplitude `A` (in g) and length `tau` the velocity change is
//! `2/pi * A * g0 * tau`; devices measure it, this module only compares.

use std::time::Duration;

use protocol::key::RecordKey;
use protocol::record::{Alarm, AlarmKind};
use serde::{Deserialize, Serialize};

use crate::event::{Confidence, Severity};
use crate::plan::profile::ShockRule;
use crate::timeline::Stamp;

/// How long after an impact another one belongs to the same event, in milliseconds: devices
/// aggregate repeats for two minutes.
pub const REPEAT_WINDOW_MS: i64 = 120_000;

/// A peak of so many times the limit is critical.
const CRITICAL_FACTOR: f64 = 2.0;

/// One alarm record about impacts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Impact {
    /// When the first of them happened.
    pub at: Stamp,
    /// Until when the record speaks.
    pub until: Stamp,
    /// Record.
    #[serde(with = "crate::serial::numbers")]
    pub key: RecordKey,
    /// Largest magnitude in thousandths of g.
    pub peak_milli_g: i32,
    /// Time above 10 % of the peak.
    pub duration_ms: Option<u32>,
    /// Velocity change in millimetres per second.
    pub delta_v_mmps: Option<u32>,
    /// How many, aggregated by the device.
    pub count: u32,
}

/// How an impact was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ground {
    /// Peak and velocity change reached their limits.
    DeltaV,
    /// Peak and duration reached their limits.
    Duration,
    /// The peak reached its limit, the rest is unknown.
    PeakAlone,
}

/// Impacts that follow each other closely.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Battering {
    /// The first.
    pub first: Impact,
    /// The one with the highest peak.
    pub worst: Impact,
    /// How the worst was judged.
    pub ground: Ground,
    /// How many in all.
    pub count: u32,
    /// Newest moment.
    pub until: Stamp,
}

impl Impact {
    /// What `alarm` says about impacts; `None` when it is about something else. `stamp` dates a
    /// moment of the device's clock.
    pub fn of(
        alarm: &Alarm,
        key: RecordKey,
        stamp: impl Fn(protocol::units::UptimeMs) -> Option<Stamp>,
    ) -> Option<Self> {
        if alarm.kind != AlarmKind::Shock {
            return None;
        }
        let axes = alarm
            .shock
            .map_or([0; 3], |shock| shock.peak.map(|peak| peak.get().abs()));
        let largest_axis = axes.into_iter().max().unwrap_or(0);
        Some(Self {
            at: stamp(alarm.since)?,
            until: stamp(alarm.uptime)?,
            key,
            peak_milli_g: alarm.extreme.saturating_abs().max(largest_axis),
            duration_ms: alarm
                .shock
                .and_then(|shock| shock.duration)
                .map(|ms| ms.get()),
            delta_v_mmps: alarm.shock.and_then(|shock| shock.delta_v).map(|v| v.get()),
            count: alarm.count.max(1),
        })
    }

    /// Whether and why `rule` makes an event of it.
    #[must_use]
    pub fn judge(&self, rule: &ShockRule) -> Option<Ground> {
        if f64::from(self.peak_milli_g) < rule.peak_g * 1_000.0 {
            return None;
        }
        let enough_v = |v: u32| f64::from(v) >= rule.delta_v * 1_000.0;
        let enough_t = |ms: u32| Duration::from_millis(u64::from(ms)) >= rule.duration;
        match (self.delta_v_mmps, self.duration_ms) {
            (Some(v), _) if enough_v(v) => Some(Ground::DeltaV),
            (_, Some(ms)) if enough_t(ms) => Some(Ground::Duration),
            (None, None) => Some(Ground::PeakAlone),
            _ => None,
        }
    }
}

impl Ground {
    /// How sure an event on this ground is.
    #[must_use]
    pub const fn confidence(self) -> Confidence {
        match self {
            Self::DeltaV | Self::Duration => Confidence::Certain,
            Self::PeakAlone => Confidence::Possible,
        }
    }

    /// What decided, for a person.
    #[must_use]
    pub fn in_words(self, rule: &ShockRule) -> String {
        let peak = format!("peak reached {} g", rule.peak_g);
        match self {
            Self::DeltaV => format!("{peak} and velocity change reached {} m/s", rule.delta_v),
            Self::Duration => format!(
                "{peak} and duration reached {} ms",
                rule.duration.as_millis()
            ),
            Self::PeakAlone => {
                format!(
                    "{peak}; duration and velocity change are unknown, so the peak alone decided"
                )
            }
        }
    }
}

impl Battering {
    /// A first impact.
    #[must_use]
    pub const fn starting(impact: Impact, ground: Ground) -> Self {
        Self {
            first: impact,
            worst: impact,
            ground,
            count: impact.count,
            until: impact.until,
        }
    }

    /// Whether `impact` belongs to it.
    #[must_use]
    pub fn goes_on_with(&self, impact: &Impact) -> bool {
        impact.at.since_ms(&self.until) <= REPEAT_WINDOW_MS
    }

    /// Whether at `now` no further record can belong to it: a device tells of repeats at the end of
    /// its window, so twice the window has to pass.
    #[must_use]
    pub fn is_over(&self, now: &Stamp) -> bool {
        now.since_ms(&self.until) > 2 * REPEAT_WINDOW_MS
    }

    /// Add `impact`.
    pub fn add(&mut self, impact: Impact, ground: Ground) {
        if impact.peak_milli_g > self.worst.peak_milli_g {
            self.worst = impact;
            self.ground = ground;
        }
        self.count = self.count.saturating_add(impact.count);
        self.until = impact.until;
    }

    /// How much it matters.
    #[must_use]
    pub fn severity(&self, rule: &ShockRule) -> Severity {
        let critical = rule.peak_g * 1_000.0 * CRITICAL_FACTOR;
        if f64::from(self.worst.peak_milli_g) >= critical {
            Severity::Critical
        } else {
            Severity::Warning
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig;

    const ELECTRONICS: ShockRule = ShockRule {
        peak_g: 25.0,
        delta_v: 1.561,
        duration: Duration::from_millis(20),
    };

    fn impact(peak_g: f64, duration_ms: Option<u32>, delta_v_mmps: Option<u32>) -> Impact {
        #[expect(clippy::cast_possible_truncation, reason = "tens of g")]
        let peak_milli_g = (peak_g * 1_000.0).round() as i32;
        Impact {
            at: rig::stamp(0),
            until: rig::stamp(0),
            key: RecordKey::new(1, 1, 1),
            peak_milli_g,
            duration_ms,
            delta_v_mmps,
            count: 1,
        }
    }

    #[test]
    fn a_shock_needs_its_peak_and_velocity_change_or_duration() {
        let judge = |g, ms, v| impact(g, ms, v).judge(&ELECTRONICS);
        // 25 g for 10 ms: 1.561 m/s by the half-sine formula.
        assert_eq!(judge(25.0, Some(10), Some(1_561)), Some(Ground::DeltaV));
        assert_eq!(judge(25.0, Some(10), Some(1_560)), None);
        assert_eq!(judge(24.999, Some(10), Some(3_000)), None);
        assert_eq!(judge(25.0, Some(20), Some(1_000)), Some(Ground::Duration));
        // 5 g for 50 ms has the same velocity change and is not even near the peak.
        assert_eq!(judge(5.0, Some(50), Some(1_561)), None);
    }

    #[test]
    fn in_peak_detect_mode_the_peak_alone_decides_and_says_so() {
        let ground = impact(30.0, None, None).judge(&ELECTRONICS).unwrap();
        assert_eq!(ground, Ground::PeakAlone);
        assert_eq!(ground.confidence(), Confidence::Possible);
        assert!(ground.in_words(&ELECTRONICS).contains("unknown"));
        assert_eq!(impact(30.0, Some(5), None).judge(&ELECTRONICS), None);
    }

    #[test]
    fn repeats_within_two_minutes_are_one_event_with_the_worst_peak() {
        let mut battering = Battering::starting(impact(30.0, None, None), Ground::PeakAlone);
        let at = |s| Impact {
            at: rig::stamp(s),
            until: rig::stamp(s),
            ..impact(51.0, Some(11), Some(3_000))
        };
        assert!(battering.goes_on_with(&at(120)));
        assert!(!battering.goes_on_with(&at(121)));
        battering.add(at(120), Ground::DeltaV);
        assert_eq!((battering.count, battering.ground), (2, Ground::DeltaV));
        assert_eq!(battering.severity(&ELECTRONICS), Severity::Critical);
    }
}
