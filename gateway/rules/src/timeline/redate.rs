//! What a changed timeline dates anew.
//!
//! Between two anchors that stay, time stays: within a boot the anchors that both timelines begin with
//! are followed up to the last of them, and only what lies behind it, or before the first when the rate
//! there changed, is dated anew.

use std::collections::BTreeSet;

use protocol::key::{Boot, Epoch};

use super::{BootClock, Timeline, far_behind};
use crate::tracker::Reach;

/// From where on earlier records are dated anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redated {
    /// Epoch of the first boot concerned.
    pub epoch: Epoch,
    /// That boot.
    pub boot: Boot,
    /// First uptime of it that may be dated anew, in milliseconds.
    pub from_uptime_ms: i64,
    /// Whether epochs changed places: then nothing is where it was.
    pub reordered: bool,
}

impl Redated {
    /// Whether a state of this reach was made with other times. `timeline` is the present one.
    #[must_use]
    pub fn spoils(&self, timeline: &Timeline, reach: &Reach) -> bool {
        let last = reach.key;
        if self.reordered {
            return true;
        }
        if (self.epoch, self.boot) == (last.epoch, last.boot) {
            return reach.uptime_ms >= self.from_uptime_ms;
        }
        timeline.boot_key(self.epoch, self.boot) < timeline.boot_key(last.epoch, last.boot)
    }
}

/// What `after` dates otherwise than `before`, from which it came by learning more.
pub(super) fn between(before: &Timeline, after: &Timeline) -> Option<Redated> {
    let reordered = order(before, before) != order(before, after);
    let changed = before.boots.iter().filter_map(|(place, old)| {
        let from_uptime_ms = changed_from(old, after.boots.get(place)?)?;
        Some((*place, from_uptime_ms))
    });
    let first = changed.min_by_key(|((epoch, boot), _)| after.boot_key(*epoch, *boot));
    let any = || before.boots.keys().next().map(|place| (*place, i64::MIN));
    let ((epoch, boot), from_uptime_ms) = first.or_else(|| if reordered { any() } else { None })?;
    Some(Redated {
        epoch,
        boot,
        from_uptime_ms,
        reordered,
    })
}

/// The epochs that `known` knows, in the order that `by` puts them in.
fn order(known: &Timeline, by: &Timeline) -> Vec<Epoch> {
    let epochs: BTreeSet<Epoch> = known.epochs();
    let mut epochs: Vec<Epoch> = epochs.into_iter().collect();
    epochs.sort_by_key(|epoch| by.boot_key(*epoch, Boot(0)));
    epochs
}

/// First uptime that two clocks of one boot may date differently.
fn changed_from(old: &BootClock, new: &BootClock) -> Option<i64> {
    if old.anchors.is_empty() || new.anchors.is_empty() {
        let same = old.anchors == new.anchors && old.bound == new.bound;
        return (!same).then_some(i64::MIN);
    }
    if old.anchors == new.anchors {
        return None;
    }
    let pairs = old.anchors.iter().zip(&new.anchors);
    let common = pairs.take_while(|(a, b)| a == b).last();
    let same_rate_before = far_behind(&old.anchors) == far_behind(&new.anchors);
    // At the last anchor that stays the uncertainty may change already.
    Some(match common {
        Some((last, _)) if same_rate_before => last.uptime_ms,
        _ => i64::MIN,
    })
}
