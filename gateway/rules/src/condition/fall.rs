//! Free fall: the goods were dropped.
//!
//! While a device falls it feels no weight: the magnitude of its acceleration stays below 0.3 g. A fall of
//! duration `t` from rest has a height of `g0 * t^2 / 2`; the device measures the time, this module reckons
//! the height. A throw lasts longer than a fall of the same height, so the height is the most it can have been.

use protocol::record::Alarm;
use serde::{Deserialize, Serialize};

use crate::plan::profile::FallRule;
use crate::timeline::Stamp;

/// Standard gravity in metres per second squared (ISO 80000-3).
const G0: f64 = 9.806_65;

/// One fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fall {
    /// When it ended.
    pub until: Stamp,
    /// How long it was, in milliseconds.
    pub duration_ms: i64,
    /// How many, aggregated by the device; the duration is that of this one.
    pub count: u32,
}

impl Fall {
    /// What `alarm` says of a fall from `began` to `until`.
    #[must_use]
    pub fn of(alarm: &Alarm, began: Stamp, until: Stamp) -> Self {
        Self {
            until,
            duration_ms: until.since_ms(&began).max(0),
            count: alarm.count.max(1),
        }
    }

    /// Height in metres.
    #[must_use]
    pub fn height_m(&self) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "falls that are believed last ten seconds at most"
        )]
        let seconds = self.duration_ms as f64 / 1_000.0;
        G0 * seconds * seconds / 2.0
    }

    /// Whether `rule` makes an event of it.
    #[must_use]
    pub fn is_event(&self, rule: &FallRule) -> bool {
        self.height_m() >= rule.height_m
    }
}

#[cfg(test)]
mod tests {
    use protocol::record::AlarmKind;
    use protocol::units::UptimeMs;

    use super::*;
    use crate::rig;

    fn fall(duration_ms: i64) -> Fall {
        let mut until = rig::stamp(10);
        until.uptime_ms += duration_ms;
        let alarm = Alarm {
            uptime: UptimeMs::saturating(until.uptime_ms),
            kind: AlarmKind::FreeFall,
            limit: 300,
            since: UptimeMs::saturating(10_000),
            extreme: 40,
            count: 1,
            shock: None,
        };
        Fall::of(&alarm, rig::stamp(10), until)
    }

    #[test]
    fn the_height_of_a_fall_follows_from_its_time() {
        // 1.000 m takes sqrt(2 / g0) = 451.6 ms; 0.3 m takes 247.4 ms.
        assert!((fall(452).height_m() - 1.0018).abs() < 0.0005);
        assert!((fall(247).height_m() - 0.2991).abs() < 0.0005);
        let rule = FallRule { height_m: 0.3 };
        assert!(!fall(247).is_event(&rule));
        assert!(fall(248).is_event(&rule));
    }
}
