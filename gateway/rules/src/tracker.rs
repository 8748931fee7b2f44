//! One tracker's records, folded in key order into facts.
//!
//! [`Tracker`] is a cache of its records: timeline, state and facts are all rebuilt from them by
//! [`Tracker::refold`]. [`Tracker::offer`] takes the newest record without looking back; whatever it
//! cannot take that way it says so, and the owner refolds. Both ways give the same facts.

mod duty;
mod scene;
mod track;

use protocol::key::{DeviceId, RecordKey};
use protocol::record::Record;
use protocol::units::Seconds;

use crate::context::{Context, Duty};
use crate::fact::Fact;
use crate::timeline::{Stamp, Timeline};
use crate::watch::Heard;
use duty::DutyState;
use scene::Scene;

/// A tracker's longest sampling interval until it reports its settings, in milliseconds.
const INTERVAL_MS: i64 = protocol::downlink::Settings::DEFAULT.sample_resting.get() as i64 * 1_000;

/// A reading holds for so many of the longest sampling intervals, unless the profile says otherwise.
const INTERVALS_HELD: i64 = 3;

/// Where a tracker's fold stands.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackerState {
    interval_ms: i64,
    duties: Vec<DutyState>,
    heard: Option<(RecordKey, Stamp)>,
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
    state.heard = Some((key, stamp));
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
    /// It dates earlier records anew: refold. Nothing came late.
    Redated,
    /// It belongs before records already folded: refold.
    Late,
}

/// One tracker: a cache of all its records.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracker {
    device: DeviceId,
    timeline: Timeline,
    state: TrackerState,
    facts: Vec<Fact>,
    newest: Option<RecordKey>,
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
            newest: None,
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
            tracker.step(context, *key, record);
        }
        tracker
    }

    /// Take one more record. Unless it is [`Offered::Folded`] the tracker is out of date until it is
    /// refolded from all records.
    pub fn offer(&mut self, context: &Context, key: RecordKey, record: &Record) -> Offered {
        let redates = self.timeline.learn(key, record);
        let place = self.timeline.fold_key(key);
        let late = |newest| place <= self.timeline.fold_key(newest);
        if self.newest.is_some_and(late) {
            return Offered::Late;
        }
        if redates && self.newest.is_some() {
            return Offered::Redated;
        }
        self.step(context, key, record);
        Offered::Folded
    }

    /// What the tracker shows so far, open episodes included, in no particular order.
    #[must_use]
    pub fn facts(&self, context: &Context) -> Vec<Fact> {
        let mut facts = self.facts.clone();
        let duties = context.duties(&self.device).iter().zip(&self.state.duties);
        for (position, (duty, state)) in duties.enumerate() {
            state.open_facts(context, &self.device, duty, position, &mut facts);
        }
        facts
    }

    /// The newest record that has a time, for the watch on silence.
    #[must_use]
    pub fn heard(&self, context: &Context) -> Option<Heard> {
        let (key, stamp) = self.state.heard?;
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
    pub const fn newest(&self) -> Option<RecordKey> {
        self.newest
    }

    /// What is known of its clock.
    #[must_use]
    pub const fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    fn step(&mut self, context: &Context, key: RecordKey, record: &Record) {
        step(
            &mut self.state,
            context,
            &self.device,
            &self.timeline,
            key,
            record,
            &mut self.facts,
        );
        self.newest = Some(key);
    }
}
