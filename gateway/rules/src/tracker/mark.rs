//! A place in a tracker's fold from which it can go on, and what makes such a place untrue.
//!
//! A mark is true as long as the records up to it, and the times that the timeline gives them, are those
//! it was made from. [`Dirty`] says what a record that came since changed.

use protocol::key::RecordKey;
use serde::{Deserialize, Serialize};

use super::TrackerState;
use crate::timeline::{Redated, Timeline};

/// Which records a state rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// The last of them in fold order.
    #[serde(with = "crate::serial::numbers")]
    pub key: RecordKey,
    /// Latest uptime that was dated for records of that boot, in milliseconds.
    pub uptime_ms: i64,
    /// How many they are.
    pub records: u64,
}

/// Where a tracker's fold stood: what it takes to go on from there, together with the tracker's timeline
/// and its facts, of which a later mark of the same tracker has the same and more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// What it rests on.
    pub reach: Reach,
    /// How many facts were complete.
    pub facts: usize,
    pub(super) state: TrackerState,
}

/// What a record changes about the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirty {
    /// The record itself, when it stands before others already folded.
    pub(super) late: Option<RecordKey>,
    /// What it dates anew.
    pub(super) redated: Option<Redated>,
}

impl Dirty {
    /// Whether the record stands before others already folded.
    #[must_use]
    pub const fn is_late(&self) -> bool {
        self.late.is_some()
    }

    /// Whether a state of this reach is no longer true. `timeline` has learned the record.
    #[must_use]
    pub fn spoils(&self, timeline: &Timeline, reach: &Reach) -> bool {
        let end = timeline.fold_key(reach.key);
        let passed = |late| timeline.fold_key(late) <= end;
        let dated_otherwise = |redated: Redated| redated.spoils(timeline, reach);
        self.late.is_some_and(passed) || self.redated.is_some_and(dated_otherwise)
    }
}
