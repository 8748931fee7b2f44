//! A tracker from its history: from its start, or from a mark on.
//!
//! Records stream from the store in fold order: epoch by epoch as the timeline orders them, in key order
//! within. Only marks are held, so that a refold needs no more memory for a long history than for a short.

use std::ops::ControlFlow;

use protocol::key::{DeviceId, Epoch, RecordKey};
use protocol::record::Record;
use rules::fact::Fact;
use rules::timeline::{FoldKey, Timeline};
use rules::tracker::Mark;
use rules::{Context, Tracker};

use super::brought::counted;
use super::trail::{self, Brink, Spacing};
use crate::store::history::{self, Kept};
use crate::store::{Store, StoreError};

/// What is stored of a tracker up to a mark.
#[derive(Debug, Default)]
pub(super) struct Base {
    /// Knows the records up to the mark, at least.
    pub(super) timeline: Timeline,
    /// Those at the mark, and perhaps more.
    pub(super) facts: Vec<Fact>,
    /// `None`: the start.
    pub(super) mark: Option<Mark>,
}

/// Marks made on the way.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// Every so many records, old ones farther apart.
    pub(super) marks: Vec<Mark>,
    /// Before the last anchor.
    pub(super) recent: Option<Mark>,
    /// Before the last alarms.
    pub(super) brink: Brink,
}

/// The tracker that `base` and the records behind it make; `None` when they contradict each other, which
/// a base that is true never does.
pub(super) fn resume(
    store: &Store,
    context: &Context,
    device: &DeviceId,
    base: Base,
    spacing: Spacing,
) -> Result<Option<(Tracker, Passed)>, StoreError> {
    let Base {
        timeline: before,
        facts,
        mark,
    } = base;
    let known = before.epochs();
    let end = mark.as_ref().map(|mark| mark.reach.key);
    let mut timeline = before.clone();
    for epoch in history::epochs(store, device)? {
        if known.contains(&epoch) && stands_before(&before, epoch, end) {
            continue;
        }
        each_behind(store, device, epoch, end, |key, record| {
            timeline.collect(key, record);
        })?;
    }
    let redated = timeline.settle(&before);
    if let Some(mark) = &mark {
        let mut new = timeline.epochs();
        new.retain(|epoch| !known.contains(epoch));
        let passed = |epoch: &Epoch| stands_before(&timeline, *epoch, end);
        let otherwise = redated.is_some_and(|redated| redated.spoils(&timeline, &mark.reach));
        if otherwise || new.iter().any(passed) {
            return Ok(None);
        }
    }
    let Some(mut tracker) = Tracker::resume(context, device, timeline, facts, mark) else {
        return Ok(None);
    };
    let passed = fold_behind(store, context, device, &mut tracker, spacing)?;
    Ok(Some((tracker, passed)))
}

/// Fold what is stored behind the place where `tracker` stands; its timeline knows all of it.
pub(super) fn fold_behind(
    store: &Store,
    context: &Context,
    device: &DeviceId,
    tracker: &mut Tracker,
    spacing: Spacing,
) -> Result<Passed, StoreError> {
    let end = tracker.reach().map(|reach| reach.key);
    let mut passed = Passed::default();
    for epoch in in_fold_order(tracker.timeline()) {
        if stands_before(tracker.timeline(), epoch, end) {
            continue;
        }
        each_behind(store, device, epoch, end, |key, record| {
            if let Record::Anchor(_) = record {
                passed.recent = tracker.mark();
            }
            passed.brink.pass(tracker, record);
            tracker.fold(context, key, record);
            let records = tracker.reach().map_or(0, |reach| reach.records);
            if records.is_multiple_of(spacing.running_records) {
                passed.marks.extend(tracker.mark());
                trail::thin(&mut passed.marks);
            }
        })?;
    }
    Ok(passed)
}

/// Visit the known records of an epoch, from behind `end` on if that lies in it.
fn each_behind(
    store: &Store,
    device: &DeviceId,
    epoch: Epoch,
    end: Option<RecordKey>,
    mut visit: impl FnMut(RecordKey, &Record),
) -> Result<(), StoreError> {
    let behind = end.filter(|key| key.epoch == epoch);
    history::each_of_epoch(store, device, epoch, behind, |key, kept| {
        if let Kept::Known(known) = kept
            && let Some(record) = counted(store, device, key, &known.content)?
        {
            visit(key, &record);
        }
        Ok(ControlFlow::Continue(()))
    })
}

fn in_fold_order(timeline: &Timeline) -> Vec<Epoch> {
    let mut epochs: Vec<Epoch> = timeline.epochs().into_iter().collect();
    epochs.sort_by_key(|epoch| first_of(timeline, *epoch));
    epochs
}

/// Whether all of an epoch stands before the epoch of `end`.
fn stands_before(timeline: &Timeline, epoch: Epoch, end: Option<RecordKey>) -> bool {
    end.is_some_and(|end| first_of(timeline, epoch) < first_of(timeline, end.epoch))
}

fn first_of(timeline: &Timeline, epoch: Epoch) -> FoldKey {
    timeline.fold_key(RecordKey::new(epoch.0, 0, 0))
}
