//! Whether a tracker is inside a fence, without flapping at its edge.
//!
//! With the signed distance `d` and the accuracy `a` (95 % radius, so `k = 1`) a fix votes *inside* when
//! `d + k*a <= -inside_m`, *outside* when `d - k*a >= outside_m`, and abstains between. The state
//! changes when [`CONFIRMING_FIXES`] votes for the other side come without one against; the change is
//! stamped with the first of them. The first vote decides the initial state and is no crossing.

use serde::{Deserialize, Serialize};

use super::distance;
use super::fix::Fix;
use crate::plan::fence::Fence;

/// Votes that confirm a change: one wrong fix changes nothing.
pub const CONFIRMING_FIXES: u8 = 2;

/// Widening of the accuracy: 1 because trackers report the radius that holds 95 % of fixes.
const ACCURACY_FACTOR: f64 = 1.0;

/// Which side of a fence's edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Whereabouts {
    /// Inside.
    Inside,
    /// Outside.
    Outside,
}

/// What is known about one tracker and one fence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Presence {
    state: Option<Whereabouts>,
    /// Votes for the other side since the last one for this side.
    run: Option<(Fix, u8)>,
}

/// A state that became known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Crossing {
    /// The first vote: the tracker was here all the time we know of.
    Initial(Whereabouts, Fix),
    /// The tracker went to the other side; first fix there.
    Changed(Whereabouts, Fix),
}

impl Presence {
    /// A tracker that is known to be outside.
    pub const OUTSIDE: Self = Self {
        state: Some(Whereabouts::Outside),
        run: None,
    };

    /// Which side, once it is known.
    #[must_use]
    pub const fn state(&self) -> Option<Whereabouts> {
        self.state
    }

    /// Whether there is nothing to remember besides being outside.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        matches!(self.state, Some(Whereabouts::Outside)) && self.run.is_none()
    }

    /// Take one more fix into account.
    pub fn observe(&mut self, fence: &Fence, fix: &Fix) -> Option<Crossing> {
        let vote = vote(fence, fix)?;
        let Some(state) = self.state else {
            self.state = Some(vote);
            return Some(Crossing::Initial(vote, *fix));
        };
        if vote == state {
            self.run = None;
            return None;
        }
        let (first, count) = self
            .run
            .map_or((*fix, 1), |(first, count)| (first, count + 1));
        if count < CONFIRMING_FIXES {
            self.run = Some((first, count));
            return None;
        }
        self.state = Some(vote);
        self.run = None;
        Some(Crossing::Changed(vote, first))
    }
}

fn vote(fence: &Fence, fix: &Fix) -> Option<Whereabouts> {
    let distance_m = distance::signed_m(&fence.shape, fix.point);
    let error_m = ACCURACY_FACTOR * fix.accuracy_m;
    if distance_m + error_m <= -fence.inside_m {
        Some(Whereabouts::Inside)
    } else if distance_m - error_m >= fence.outside_m {
        Some(Whereabouts::Outside)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use protocol::key::RecordKey;

    use super::*;
    use crate::plan::fence::{LatLon, Shape};
    use crate::rig;

    fn fence() -> Fence {
        Fence {
            id: "f".to_owned(),
            name: "f".to_owned(),
            shape: Shape::Circle {
                centre: LatLon { lat: 0.0, lon: 0.0 },
                radius_m: 500.0,
            },
            inside_m: 0.0,
            outside_m: 30.0,
        }
    }

    /// A fix whose distance from the edge is `d` metres, with accuracy `a`, at second `s`.
    fn fix(d: f64, a: f64, s: i64) -> Fix {
        let lat = ((500.0 + d) / distance::EARTH_RADIUS_M).to_degrees();
        Fix {
            at: rig::stamp(s),
            key: RecordKey::new(1, 1, u32::try_from(s).unwrap()),
            point: LatLon { lat, lon: 0.0 },
            accuracy_m: a,
            moving: true,
        }
    }

    fn crossings(fixes: &[(f64, f64)]) -> Vec<(i64, Crossing)> {
        let mut presence = Presence::default();
        let fixes = fixes.iter().zip(0..);
        fixes
            .filter_map(|((d, a), s)| Some((s, presence.observe(&fence(), &fix(*d, *a, s))?)))
            .collect()
    }

    fn changes(fixes: &[(f64, f64)]) -> Vec<(Whereabouts, i64)> {
        let changed = |(_, crossing)| match crossing {
            Crossing::Changed(to, first) => Some((to, first.at.uptime_ms / 1_000)),
            Crossing::Initial(..) => None,
        };
        crossings(fixes).into_iter().filter_map(changed).collect()
    }

    #[test]
    fn a_change_is_stamped_with_the_first_fix_of_the_confirming_run() {
        let track = [
            (300.0, 10.0),
            (-50.0, 10.0),
            (-5.0, 10.0),
            (-60.0, 10.0),
            (-70.0, 10.0),
        ];
        assert_eq!(changes(&track), [(Whereabouts::Inside, 1)]);
    }

    #[test]
    fn one_wrong_fix_changes_nothing() {
        let track = [
            (-300.0, 10.0),
            (200.0, 10.0),
            (-300.0, 10.0),
            (200.0, 10.0),
            (-300.0, 9.0),
        ];
        assert_eq!(changes(&track), []);
    }

    #[test]
    fn the_first_fix_is_no_crossing() {
        let seen = crossings(&[(-300.0, 10.0), (-300.0, 10.0)]);
        assert_eq!(seen.len(), 1);
        assert!(matches!(
            seen[0].1,
            Crossing::Initial(Whereabouts::Inside, _)
        ));
    }

    #[test]
    fn the_edges_of_the_hysteresis_count() {
        // 0.01 m on either side of the exact boundary, which rounding of degrees cannot hit.
        assert_eq!(
            changes(&[(300.0, 0.0), (-10.01, 10.0), (-10.01, 10.0)]).len(),
            1
        );
        assert_eq!(
            changes(&[(300.0, 0.0), (-9.99, 10.0), (-9.99, 10.0)]).len(),
            0
        );
        assert_eq!(
            changes(&[(-300.0, 0.0), (40.01, 10.0), (40.01, 10.0)]).len(),
            1
        );
        assert_eq!(
            changes(&[(-300.0, 0.0), (39.99, 10.0), (39.99, 10.0)]).len(),
            0
        );
    }

    #[test]
    fn noise_of_8_metres_at_the_edge_does_not_flap() {
        // A truck parks on the very edge for a week of one fix a minute, with 8 m of noise per axis. It
        // may be seen to arrive once, and never to leave, even when the reported accuracy is too good.
        for (start_m, accuracy_m) in [(-300.0, 19.6), (300.0, 19.6), (-300.0, 8.0), (300.0, 8.0)] {
            let mut noise = rig::Noise::seeded(42);
            let mut track = vec![(start_m, accuracy_m); 2];
            track.extend((0..10_080).map(|_| (noise.gaussian() * 8.0, accuracy_m)));
            let changes = changes(&track);
            assert!(
                changes.len() <= 1,
                "{start_m} m, {accuracy_m} m: {changes:?}"
            );
            assert!(changes.iter().all(|(to, _)| *to == Whereabouts::Inside));
        }
    }
}
