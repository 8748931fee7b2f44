//! One tracker's records, folded in key order into facts.
//!
//! [`Tracker`] is a cache of its records: timeline, state and facts are all rebuilt from them by
//! [`Tracker::refold`]. [`Tracker::offer`] takes the newest record without looking back; whatever it
//! cannot take that way it says so, and the owner goes back to a [`Mark`] that is still true and folds
//! the records behind it again. All ways give the same facts.

mod duty;
mod limits;
mod mark;
mod scene;
mod track;

use protocol::key::{DeviceId, RecordKey};
use protocol::record::Record;
use protocol::units::Seconds;
use serde::{Deserialize, Serialize};

use crate::context::{Context, Duty};
use crate::fact::Fact;
use crate::timeline::{Moment, Timeline, milliseconds};
use crate::watch::Heard;
use duty::DutyState;
pub use mark::{Dirty, Mark, Reach};
use scene::Scene;

/// Version of what a stored [`Mark`] means. Raise it whenever a change of the rules makes an older mark
/// go on differently; a test compares the state after a fixed ride.
pub const STATE_VERSION: u32 = 2;

/// A tracker's longest sampling interval until it reports its settings, in milliseconds.
const INTERVAL_MS: i64 = protocol::downlink::Settings::DEFAULT.sample_resting.get() as i64 * 1_000;

/// A reading holds for so many of the longest sampling intervals, unless the profile says otherwise.
const INTERVALS_HELD: i64 = 3;

/// Where a tracker's fold stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackerState {
    interval_ms: i64,
    duties: Vec<DutyState>,
    heard: Option<Moment>,
}

impl TrackerState {
    /// Before the first record.
    #[must_use]
    pub fn new(duties: &[Duty]) -> Self {
        Self {
            interval_ms: INTERVAL_MS,
            duties: duties.iter().map(|_| DutyState::new()).collect(),
            heard: None,
        }
    }
}

/// Take the next record of `device` in fold order into `state`; what it shows and is complete goes to
/// `facts`.
///
/// A record that nothing dates yet is passed over: the anchor or neighbouring boot that dates it
/// changes the timeline, and then the tracker is refolded from its start.
pub fn step(
    state: &mut TrackerState,
    context: &Context,
    device: &DeviceId,
    timeline: &Timeline,
    key: RecordKey,
    record: &Record,
    facts: &mut Vec<Fact>,
) {
    if let Record::Settings(in_force) = record {
        let settings = &in_force.settings;
        let intervals = [
            settings.sample_moving,
            settings.sample_resting,
            settings.sample_near_limit,
        ];
        let longest_s = intervals.map(Seconds::get).into_iter().max().unwrap_or(0);
        state.interval_ms = i64::from(longest_s) * 1_000;
    }
    let Some(stamp) = timeline.stamp(key, record.uptime()) else {
        return;
    };
    state.heard = Some(Moment { key, at: stamp });
    let duties = context.duties(device).iter().zip(&mut state.duties);
    for (position, (duty, duty_state)) in duties.enumerate() {
        if !duty.attachment.covers(stamp.dated.at) {
            continue;
        }
        let max_gap = duty.profile.max_gap.map(|gap| gap.as_millis());
        let max_gap = max_gap.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
        let mut scene = Scene {
            context,
            device,
            timeline,
            duty,
            position,
            key,
            stamp,
            max_gap_ms: max_gap.unwrap_or(INTERVALS_HELD * state.interval_ms),
            facts,
        };
        duty_state.step(&mut scene, record);
    }
}

/// What became of a record that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a tracker that could not take a record must be refolded"]
pub enum Offered {
    /// It was the newest: the tracker is up to date.
    Folded,
    /// It dates records anew that were folded: refold. Nothing came late.
    Redated(Dirty),
    /// It belongs before records already folded: refold.
    Late(Dirty),
}

/// One tracker: a cache of all its records.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracker {
    device: DeviceId,
    timeline: Timeline,
    state: TrackerState,
    facts: Vec<Fact>,
    reach: Option<Reach>,
}

impl Tracker {
    /// A tracker without records.
    #[must_use]
    pub fn new(context: &Context, device: &DeviceId) -> Self {
        Self {
            device: device.clone(),
            timeline: Timeline::default(),
            state: TrackerState::new(context.duties(device)),
            facts: Vec::new(),
            reach: None,
        }
    }

    /// The tracker that all of its `records` make, each key once, in any order.
    #[must_use]
    pub fn refold(context: &Context, device: &DeviceId, records: &[(RecordKey, Record)]) -> Self {
        let mut tracker = Self::new(context, device);
        tracker.timeline = Timeline::of(records.iter().map(|(key, record)| (*key, record)));
        let mut order: Vec<&(RecordKey, Record)> = records.iter().collect();
        order.sort_by_cached_key(|(key, _)| tracker.timeline.fold_key(*key));
        for (key, record) in order {
            tracker.fold(context, *key, record);
        }
        tracker
    }

    /// The tracker at `mark`, or at its start: `timeline` knows all records up to there at least, and
    /// `facts` are those of a later state. `None` when they do not fit each other.
    #[must_use]
    pub fn resume(
        context: &Context,
        device: &DeviceId,
        timeline: Timeline,
        facts: Vec<Fact>,
        mark: Option<Mark>,
    ) -> Option<Self> {
        let mut tracker = Self {
            timeline,
            facts,
            ..Self::new(context, device)
        };
        tracker.rewind(context, mark).then_some(tracker)
    }

    /// Go back to `mark`, or to the start, and fold from there on; the timeline stays. Whether the mark
    /// fits: one that does not leaves the tracker as it was.
    #[must_use]
    pub fn rewind(&mut self, context: &Context, mark: Option<Mark>) -> bool {
        let duties = context.duties(&self.device);
        let Some(mark) = mark else {
            self.state = TrackerState::new(duties);
            self.facts.clear();
            self.reach = None;
            return true;
        };
        if mark.facts > self.facts.len() || mark.state.duties.len() != duties.len() {
            return false;
        }
        self.state = mark.state;
        self.facts.truncate(mark.facts);
        self.reach = Some(mark.reach);
        true
    }

    /// Where it stands; `None` before the first record.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        Some(Mark {
            reach: self.reach?,
            facts: self.facts.len(),
            state: self.state.clone(),
        })
    }

    /// What the state rests on; `None` before the first record.
    #[must_use]
    pub const fn reach(&self) -> Option<&Reach> {
        self.reach.as_ref()
    }

    /// Take one more record. Unless it is [`Offered::Folded`] the tracker is out of date until it has
    /// gone back to a mark that is true, or to the start, and was given all records behind it.
    pub fn offer(&mut self, context: &Context, key: RecordKey, record: &Record) -> Offered {
        match self.learn(key, record) {
            None => {
                self.fold(context, key, record);
                Offered::Folded
            }
            Some(dirty) if dirty.late.is_some() => Offered::Late(dirty),
            Some(dirty) => Offered::Redated(dirty),
        }
    }

    /// Take a record into account that will be folded later. Returns what it changes about the records
    /// folded already.
    pub fn learn(&mut self, key: RecordKey, record: &Record) -> Option<Dirty> {
        let redated = self.timeline.learn(key, record);
        let reach = self.reach?;
        let place = self.timeline.fold_key(key);
        let late = place <= self.timeline.fold_key(reach.key);
        let dirty = Dirty {
            late: late.then_some(key),
            redated,
        };
        dirty.spoils(&self.timeline, &reach).then_some(dirty)
    }

    /// Fold the next record in fold order. The timeline knows it already, and all that come behind it.
    pub fn fold(&mut self, context: &Context, key: RecordKey, record: &Record) {
        step(
            &mut self.state,
            context,
            &self.device,
            &self.timeline,
            key,
            record,
            &mut self.facts,
        );
        let mut uptime_ms = milliseconds(record.uptime());
        if let Record::Alarm(alarm) = record {
            uptime_ms = uptime_ms.max(milliseconds(alarm.since));
        }
        let same_boot = |reach: &Reach| (reach.key.epoch, reach.key.boot) == (key.epoch, key.boot);
        if let Some(before) = self.reach.filter(same_boot) {
            uptime_ms = uptime_ms.max(before.uptime_ms);
        }
        let records = self.reach.map_or(0, |reach| reach.records) + 1;
        self.reach = Some(Reach {
            key,
            uptime_ms,
            records,
        });
    }

    /// What the tracker shows so far, open episodes included, in no particular order.
    #[must_use]
    pub fn facts(&self, context: &Context) -> Vec<Fact> {
        let mut facts = self.facts.clone();
        facts.extend(self.open_facts(context));
        facts
    }

    /// How many [`Self::facts`] gives, or a few more.
    #[must_use]
    pub fn facts_max(&self) -> usize {
        let open = self.state.duties.iter().map(DutyState::open_max);
        self.facts.len() + open.sum::<usize>()
    }

    /// The open episodes among them.
    #[must_use]
    pub fn open_facts(&self, context: &Context) -> Vec<Fact> {
        let mut facts = Vec::new();
        let duties = context.duties(&self.device).iter().zip(&self.state.duties);
        for (position, (duty, state)) in duties.enumerate() {
            state.open_facts(context, &self.device, duty, position, &mut facts);
        }
        facts
    }

    /// The newest record that has a time, for the watch on silence.
    #[must_use]
    pub fn heard(&self, context: &Context) -> Option<Heard> {
        let Moment { key, at: stamp } = self.state.heard?;
        let fix = self.state.duties.iter().filter_map(DutyState::last_fix);
        let fix = fix.max_by_key(|fix| fix.at.dated.at);
        Some(Heard {
            key,
            at: stamp.dated.at,
            place: fix.map(|fix| context.place(fix.point, fix.accuracy_m)),
        })
    }

    /// Key of the newest record that was folded.
    #[must_use]
    pub fn newest(&self) -> Option<RecordKey> {
        self.reach.map(|reach| reach.key)
    }

    /// What is known of its clock.
    #[must_use]
    pub const fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// What it has shown and is complete, in fold order.
    #[must_use]
    pub fn complete_facts(&self) -> &[Fact] {
        &self.facts
    }
}
