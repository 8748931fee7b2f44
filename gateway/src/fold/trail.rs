//! The marks of one tracker along its history, from the oldest to the newest.
//!
//! ```text
//! slot 0   index: fingerprint, damage, parts of the trunk, marks
//! slot 1   trunk: the timeline as it was known when the newest mark was made, and the complete facts
//! slot 2.. one mark each
//! ```
//! What is kept here is true at every moment for the history rows in the store: a mark that a record makes
//! untrue is removed in the batch that writes the record, or in an earlier one. Marks are far apart where
//! they are old. Two are kept in memory only. [`Trail::recent`] stands before the last anchor, so that the
//! next one, which dates anew what came since, costs no more than the records between two anchors.
//! [`Trail::brink`] stands before alarms at the end: one that was taken ahead of a backlog makes everything
//! late that comes before it, and then only the alarms are folded again.

use protocol::key::DeviceId;
use protocol::record::Record;
use rules::fact::Fact;
use rules::timeline::Timeline;
use rules::tracker::{Dirty, Mark};
use rules::{Context, Reach, Tracker};
use serde::{Deserialize, Serialize};

use super::refold::Base;
use crate::store::checkpoint::{self, Slot};
use crate::store::{Batch, Store, StoreError, damage};

/// After how many records a mark is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spacing {
    /// While the gateway runs: at one a minute 17 hours, which are folded again in milliseconds, while a
    /// mark and its trunk are written for some 30 bytes a record.
    pub(super) running_records: u64,
    /// At an orderly stop: fewer are read again in a millisecond.
    pub(super) closing_records: u64,
}

impl Spacing {
    /// As the gateway has it.
    pub(super) const ORDINARY: Self = Self {
        running_records: 1_024,
        closing_records: 256,
    };
}

/// Most marks of a tracker in the store. They double their distance from the head: eight reach back
/// 131,072 records, three months at one a minute.
const MARKS_MAX: usize = 8;

const INDEX: Slot = Slot(0);
const TRUNK: Slot = Slot(1);
const FIRST_MARK: u32 = 2;

/// What is in the store of one tracker, and the mark in memory.
#[derive(Debug)]
pub(super) struct Trail {
    device: DeviceId,
    index: Index,
    /// A mark before the last anchor.
    pub(super) recent: Option<Mark>,
    pub(super) brink: Brink,
}

/// Where the last alarms begin that followed each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Brink {
    /// Before the first of them; `None` at the start.
    pub(super) mark: Option<Mark>,
    /// Whether nothing else came behind them.
    pub(super) is_last: bool,
}

impl Brink {
    /// `tracker` is about to take `record`.
    pub(super) fn pass(&mut self, tracker: &Tracker, record: &Record) {
        let alarm = matches!(record, Record::Alarm(_));
        if alarm && !self.is_last {
            self.mark = tracker.mark();
        }
        self.is_last = alarm;
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Index {
    /// Of what decides the state besides the records.
    fingerprint: [u8; 32],
    /// History rows of the store that had been set aside as damaged: a mark may rest on one that was
    /// set aside since.
    set_aside: u64,
    trunk_parts: u16,
    next_slot: u32,
    /// From the oldest to the newest.
    stored: Vec<Stored>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Stored {
    slot: u32,
    parts: u16,
    reach: Reach,
}

impl Trail {
    /// The trail that is stored of `device`. One of another plan or version is removed by `batch`, which
    /// must be applied before anything of the device is written.
    pub(super) fn load(
        store: &Store,
        context: &Context,
        device: &DeviceId,
        batch: &mut Batch,
    ) -> Result<Self, StoreError> {
        let fingerprint = context.fingerprint(device);
        let stored: Option<Index> = checkpoint::value(store, device, INDEX)?;
        let set_aside = damage::counts(store)?.get("h").copied();
        let set_aside = set_aside.unwrap_or_default();
        let usable =
            stored.filter(|index| index.fingerprint == fingerprint && index.set_aside == set_aside);
        let index = match usable {
            Some(index) => index,
            None => {
                checkpoint::clear(store, batch, device)?;
                Index {
                    fingerprint,
                    set_aside,
                    trunk_parts: 0,
                    next_slot: FIRST_MARK,
                    stored: Vec::new(),
                }
            }
        };
        Ok(Self {
            device: device.clone(),
            index,
            recent: None,
            brink: Brink::default(),
        })
    }

    /// Whether nothing is stored.
    pub(super) const fn is_empty(&self) -> bool {
        self.index.stored.is_empty()
    }

    /// How many records the newest stored mark covers.
    pub(super) fn covered(&self) -> u64 {
        let newest = self.index.stored.last();
        newest.map_or(0, |stored| stored.reach.records)
    }

    /// The mark in memory that is likely to stay true for long, if there is one: the next anchor dates anew
    /// what came since the last one, and the next record is late when an alarm was taken ahead.
    pub(super) fn lasting(&self) -> Option<&Mark> {
        let brink = self.brink.mark.as_ref().filter(|_| self.brink.is_last);
        let covered = self.covered();
        let mut lasting = self.recent.iter().chain(brink);
        lasting.find(|mark| mark.reach.records > covered)
    }

    /// Remove every mark that `dirty` makes untrue.
    pub(super) fn spoil(
        &mut self,
        dirty: &Dirty,
        timeline: &Timeline,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let recent = self.recent.take();
        self.recent = recent.filter(|mark| !dirty.spoils(timeline, &mark.reach));
        let brink = self.brink.mark.take();
        self.brink.mark = brink.filter(|mark| !dirty.spoils(timeline, &mark.reach));
        self.retain(batch, |stored| !dirty.spoils(timeline, &stored.reach))
    }

    /// Remove every mark.
    pub(super) fn clear(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        self.recent = None;
        self.brink = Brink::default();
        self.retain(batch, |_| false)
    }

    /// Remove the newest stored mark.
    pub(super) fn pop(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        let newest = self.index.stored.last().map(|stored| stored.slot);
        self.retain(batch, |stored| Some(stored.slot) != newest)
    }

    fn retain(
        &mut self,
        batch: &mut Batch,
        keep: impl Fn(&Stored) -> bool,
    ) -> Result<(), StoreError> {
        let (kept, gone): (Vec<_>, Vec<_>) = self.index.stored.iter().partition(|s| keep(s));
        if gone.is_empty() {
            return Ok(());
        }
        self.index.stored = kept;
        for stored in gone {
            checkpoint::remove(batch, &self.device, Slot(stored.slot), 0, stored.parts);
        }
        self.write_index(batch)
    }

    fn write_index(&self, batch: &mut Batch) -> Result<(), StoreError> {
        checkpoint::put(batch, &self.device, INDEX, &self.index).map(drop)
    }

    /// The newest mark, in memory or in the store. `batch` removes those that cannot be read.
    pub(super) fn newest(
        &mut self,
        store: &Store,
        batch: &mut Batch,
    ) -> Result<Option<Mark>, StoreError> {
        let in_memory = self.recent.iter().chain(&self.brink.mark);
        let newest = in_memory.max_by_key(|mark| mark.reach.records);
        if let Some(newest) = newest.filter(|mark| mark.reach.records >= self.covered()) {
            return Ok(Some(newest.clone()));
        }
        while let Some(stored) = self.index.stored.last() {
            let mark: Option<Mark> = checkpoint::value(store, &self.device, Slot(stored.slot))?;
            if let Some(mark) = mark.filter(|mark| mark.reach == stored.reach) {
                return Ok(Some(mark));
            }
            tracing::warn!(device = %self.device, "a stored mark cannot be read; it is removed");
            self.pop(batch)?;
        }
        Ok(None)
    }

    /// What is stored up to the newest mark; the start when that is nothing. `batch` removes what cannot
    /// be read.
    pub(super) fn base(&mut self, store: &Store, batch: &mut Batch) -> Result<Base, StoreError> {
        let Some(mark) = self.newest(store, batch)? else {
            return Ok(Base::default());
        };
        let trunk: Option<(Timeline, Vec<Fact>)> = checkpoint::value(store, &self.device, TRUNK)?;
        let Some((timeline, facts)) = trunk else {
            tracing::warn!(device = %self.device, "stored facts cannot be read; its history is folded");
            self.clear(batch)?;
            return Ok(Base::default());
        };
        Ok(Base {
            timeline,
            facts,
            mark: Some(mark),
        })
    }

    /// Store `marks` of `tracker`, from the oldest to the newest, and the trunk they share; of all marks
    /// as many as are kept stay.
    pub(super) fn add(
        &mut self,
        batch: &mut Batch,
        tracker: &Tracker,
        marks: &[Mark],
    ) -> Result<(), StoreError> {
        let trunk = (tracker.timeline(), tracker.complete_facts());
        let parts = checkpoint::put(batch, &self.device, TRUNK, &trunk)?;
        if parts == 0 {
            tracing::debug!(device = %self.device, "too much to keep: its history is folded at start");
            return self.clear(batch);
        }
        checkpoint::remove(batch, &self.device, TRUNK, parts, self.index.trunk_parts);
        self.index.trunk_parts = parts;
        let mut places: Vec<Place<'_>> = self.index.stored.drain(..).map(Place::Old).collect();
        places.extend(marks.iter().map(Place::New));
        while places.len() > MARKS_MAX {
            let records: Vec<u64> = places.iter().map(|place| place.reach().records).collect();
            if let Place::Old(stored) = places.remove(least_missed(&records)) {
                checkpoint::remove(batch, &self.device, Slot(stored.slot), 0, stored.parts);
            }
        }
        for place in places {
            let stored = match place {
                Place::Old(stored) => stored,
                Place::New(mark) => {
                    let slot = self.index.next_slot;
                    self.index.next_slot = slot.checked_add(1).unwrap_or(FIRST_MARK);
                    let parts = checkpoint::put(batch, &self.device, Slot(slot), mark)?;
                    let reach = mark.reach;
                    Stored { slot, parts, reach }
                }
            };
            self.index.stored.push(stored);
        }
        self.write_index(batch)
    }
}

/// A mark that is stored, or to be stored.
enum Place<'m> {
    Old(Stored),
    New(&'m Mark),
}

impl Place<'_> {
    const fn reach(&self) -> &Reach {
        match self {
            Self::Old(stored) => &stored.reach,
            Self::New(mark) => &mark.reach,
        }
    }
}

/// Drop marks until as many are left as are kept.
pub(super) fn thin(marks: &mut Vec<Mark>) {
    while marks.len() > MARKS_MAX {
        let records: Vec<u64> = marks.iter().map(|mark| mark.reach.records).collect();
        marks.remove(least_missed(&records));
    }
}

/// Which of the places along a history is missed least: the one whose neighbours are closest to each
/// other, measured by how far back they are. Never the last one.
fn least_missed(places: &[u64]) -> usize {
    let head = places.last().copied().unwrap_or_default() + Spacing::ORDINARY.running_records;
    let cost = |index: &usize| {
        let before = index.checked_sub(1).and_then(|before| places.get(before));
        let after = places.get(index + 1).copied().unwrap_or(head);
        let gap = after.saturating_sub(before.copied().unwrap_or(0));
        let back = head.saturating_sub(before.copied().unwrap_or(0)).max(1);
        (u128::from(gap) << 32) / u128::from(back)
    };
    let inner = 0..places.len().saturating_sub(1);
    inner.min_by_key(cost).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: u64 = Spacing::ORDINARY.running_records;

    #[test]
    fn marks_left_by_thinning_lie_the_farther_apart_the_older_they_are() {
        let mut places = Vec::new();
        for number in 1..=1_000 {
            places.push(number * STEP);
            while places.len() > MARKS_MAX {
                places.remove(least_missed(&places));
            }
            let head = number * STEP;
            assert_eq!(places.last(), Some(&head));
            // Wherever a record comes late, what is folded again is a fixed share of what lies behind it.
            for late in (0..head).step_by(10_000) {
                let mark = places.iter().rev().find(|place| **place <= late);
                let again = head - mark.copied().unwrap_or(0);
                let behind = head - late + 2 * STEP;
                assert!(again < 5 * behind, "{late} of {head}: {again}, {places:?}");
            }
        }
        assert_eq!(places.len(), MARKS_MAX);
    }
}
