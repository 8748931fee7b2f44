//! Whether a tracker stands still.
//!
//! Stopped means: within [`STOP_RADIUS_M`] of one place for [`STOP_AFTER_MS`]. A gap between fixes above
//! [`GAP_MAX_MS`] is stop, unknown, move; the stop before it does not go on.
//!
//! A stop begins with its first fix. Its middle becomes the first fix that stands: the one before, taken
//! while rolling in, may lie almost [`STOP_RADIUS_M`] away, and noise at the edge of that circle would
//! end the stop again and again.

use serde::{Deserialize, Serialize};

use super::distance;
use super::fix::Fix;
use crate::plan::fence::LatLon;
use crate::timeline::Stamp;

/// How far a standing tracker may seem to wander, in metres: noise and manoeuvring at a dock.
pub const STOP_RADIUS_M: f64 = 200.0;

/// How long it must stay there, in milliseconds: longer than a traffic light.
pub const STOP_AFTER_MS: i64 = 180_000;

/// Longest gap between fixes across which a stop goes on, in milliseconds.
pub const GAP_MAX_MS: i64 = 3_600_000;

/// What is known about a tracker's motion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Motion {
    /// First fix of the present place.
    base: Option<Fix>,
    /// Middle of it, once a fix stood.
    middle: Option<LatLon>,
    last: Option<Fix>,
}

impl Motion {
    /// Take one more fix into account. Returns whether the tracker left its place with it.
    pub fn observe(&mut self, fix: &Fix) -> bool {
        let gap = self
            .last
            .is_some_and(|last| fix.at.since_ms(&last.at) > GAP_MAX_MS);
        let away = self
            .base
            .map(|base| self.middle.unwrap_or(base.point))
            .is_some_and(|middle| distance::between_m(middle, fix.point) > STOP_RADIUS_M);
        if gap || away || self.base.is_none() {
            self.base = Some(*fix);
            self.middle = None;
        }
        if self.middle.is_none() && !fix.moving {
            self.middle = Some(fix.point);
        }
        self.last = Some(*fix);
        away
    }

    /// Since when the tracker stands still, if it does at `now`: with a fix of late, or without one for
    /// at most [`GAP_MAX_MS`].
    #[must_use]
    pub fn stopped_since(&self, now: &Stamp) -> Option<&Fix> {
        let recent = now.since_ms(&self.last.as_ref()?.at) <= GAP_MAX_MS;
        let base = self.base.as_ref().filter(|_| recent)?;
        (now.since_ms(&base.at) >= STOP_AFTER_MS).then_some(base)
    }

    /// The newest fix.
    #[must_use]
    pub const fn last(&self) -> Option<&Fix> {
        self.last.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use protocol::key::RecordKey;

    use super::*;
    use crate::rig;

    fn fix(north_m: f64, s: i64) -> Fix {
        let lat = (north_m / distance::EARTH_RADIUS_M).to_degrees();
        Fix {
            at: rig::stamp(s),
            key: RecordKey::new(1, 1, 1),
            point: LatLon { lat, lon: 0.0 },
            accuracy_m: 5.0,
            moving: false,
        }
    }

    #[test]
    fn a_stop_needs_180_seconds_within_200_metres() {
        let mut motion = Motion::default();
        for (north_m, s) in [(0.0, 0), (150.0, 60), (10.0, 120)] {
            assert!(!motion.observe(&fix(north_m, s)));
        }
        assert!(motion.stopped_since(&rig::stamp(179)).is_none());
        assert!(motion.stopped_since(&rig::stamp(180)).is_some());
        assert!(motion.observe(&fix(201.0, 200)));
        assert!(motion.stopped_since(&rig::stamp(379)).is_none());
    }

    #[test]
    fn noise_around_a_dock_does_not_end_a_stop_that_began_while_rolling_in() {
        let mut motion = Motion::default();
        let rolling = Fix {
            moving: true,
            ..fix(0.0, 0)
        };
        motion.observe(&rolling);
        // The dock is 199 m on; noise of 3 m must not end the stop.
        for (north_m, s) in [(199.0, 60), (202.0, 360), (198.0, 660), (201.0, 960)] {
            assert!(!motion.observe(&fix(north_m, s)));
        }
        let since = motion.stopped_since(&rig::stamp(960)).unwrap();
        assert_eq!(since.at, rig::stamp(0));
    }

    #[test]
    fn a_gap_above_an_hour_ends_a_stop() {
        let mut motion = Motion::default();
        motion.observe(&fix(0.0, 0));
        assert!(motion.stopped_since(&rig::stamp(3_600)).is_some());
        assert!(motion.stopped_since(&rig::stamp(3_601)).is_none());
        motion.observe(&fix(0.0, 3_601));
        assert!(motion.stopped_since(&rig::stamp(3_700)).is_none());
    }
}
