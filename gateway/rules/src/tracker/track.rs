//! Where one tracker is and was, as far as its shipment's stops are concerned.

use std::collections::BTreeMap;

use protocol::reading::Reading;
use serde::{Deserialize, Serialize};

use super::scene::Scene;
use crate::fact::FactKind;
use crate::place::fix::Fix;
use crate::place::motion::Motion;
use crate::place::presence::{Crossing, Presence, Whereabouts};

/// How far around a fix fences are looked for, besides its accuracy and the fence's own hysteresis, in
/// metres. A fence farther away can only be left, and those the tracker is in are looked at anyway.
const REACH_M: f64 = 100.0;

/// Presence and motion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Track {
    has_fix: bool,
    /// Fences that are not simply outside, by position.
    presences: BTreeMap<usize, Presence>,
    /// Fences the tracker is in, by position.
    stays: BTreeMap<usize, Stay>,
    /// Whether the tracker left a fence and was not seen moving since.
    leaving: bool,
    motion: Motion,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Stay {
    /// First fix in the fence.
    entered: Fix,
    /// Whether its rest was told.
    rested: bool,
}

impl Track {
    /// The newest fix.
    pub(super) const fn last_fix(&self) -> Option<&Fix> {
        self.motion.last()
    }

    /// Take the position of a reading into account, or its absence.
    pub(super) fn locate(&mut self, scene: &mut Scene<'_>, reading: &Reading) {
        if let Some(fix) = Fix::of(reading, scene.key, &scene.stamp) {
            let away = self.motion.observe(&fix);
            self.cross(scene, &fix);
            self.has_fix = true;
            self.depart(scene, &fix, away);
        }
        self.rest(scene);
    }

    /// Judge the fences around `fix`, and those the tracker was in or between.
    fn cross(&mut self, scene: &mut Scene<'_>, fix: &Fix) {
        let duty = scene.duty;
        if duty.fences.is_empty() {
            return;
        }
        let widest = duty
            .fences
            .iter()
            .filter_map(|fence| scene.context.fence(*fence));
        let widest = widest.map(|fence| fence.outside_m).fold(REACH_M, f64::max);
        let mut nearby: Vec<usize> = scene
            .context
            .fences_near(fix.point, widest + fix.accuracy_m)
            .filter(|fence| duty.fences.contains(fence))
            .chain(self.presences.keys().copied())
            .collect();
        nearby.sort_unstable();
        nearby.dedup();
        for position in nearby {
            let Some(fence) = scene.context.fence(position) else {
                continue;
            };
            // Whoever was not near this fence with an earlier fix was outside it.
            let unknown = if self.has_fix {
                Presence::OUTSIDE
            } else {
                Presence::default()
            };
            let presence = self.presences.entry(position).or_insert(unknown);
            let crossing = presence.observe(fence, fix);
            if presence.is_idle() {
                self.presences.remove(&position);
            }
            if let Some(crossing) = crossing {
                self.tell_crossing(scene, position, crossing);
            }
        }
    }

    fn tell_crossing(&mut self, scene: &mut Scene<'_>, fence: usize, crossing: Crossing) {
        let (inside, first, initial) = match crossing {
            Crossing::Initial(Whereabouts::Outside, _) => return,
            Crossing::Initial(Whereabouts::Inside, fix) => (true, fix, true),
            Crossing::Changed(Whereabouts::Inside, fix) => (true, fix, false),
            Crossing::Changed(Whereabouts::Outside, fix) => (false, fix, false),
        };
        let kind = if inside {
            let stay = Stay {
                entered: first,
                rested: false,
            };
            self.stays.insert(fence, stay);
            self.leaving = false;
            FactKind::Arrived { fence, initial }
        } else {
            self.stays.remove(&fence);
            self.leaving = true;
            FactKind::Departed { fence }
        };
        scene.tell(first.key, &first.at, Some(&first), kind);
        if !inside && first.moving {
            self.tell_moving(scene, &first);
        }
    }

    fn depart(&mut self, scene: &mut Scene<'_>, fix: &Fix, away: bool) {
        if self.leaving && self.stays.is_empty() && (fix.moving || away) {
            self.tell_moving(scene, fix);
        }
    }

    fn tell_moving(&mut self, scene: &mut Scene<'_>, fix: &Fix) {
        self.leaving = false;
        scene.tell(fix.key, &fix.at, Some(fix), FactKind::Moving);
    }

    /// Whether the tracker has stood in a fence for as long as a delivery needs.
    fn rest(&mut self, scene: &mut Scene<'_>) {
        let needed_ms = scene.context.options().delivered_after.as_millis();
        let needed_ms = i64::try_from(needed_ms).unwrap_or(i64::MAX);
        let Some(stop) = self.motion.stopped_since(&scene.stamp) else {
            return;
        };
        let last = self.motion.last().map_or(stop.at, |fix| fix.at);
        for (fence, stay) in &mut self.stays {
            // Whoever drove through the gate before standing still stands since the later of the two.
            let standing = stop.at.since_ms(&stay.entered.at) > 0;
            let since = if standing { stop } else { &stay.entered };
            if stay.rested || scene.stamp.since_ms(&since.at) < needed_ms {
                continue;
            }
            stay.rested = true;
            let kind = FactKind::Rested {
                fence: *fence,
                decided_by: scene.key,
                inferred: scene.stamp.since_ms(&last) >= needed_ms,
            };
            scene.tell(since.key, &since.at.before(-needed_ms), Some(since), kind);
        }
    }
}
