//! Uptime to universal time.
//!
//! A device stamps records with its own clock, which starts at zero with every boot. Anchors tie that
//! clock to universal time; everything else is dated by them, also records from before the first
//! anchor. Receive time never enters.
//!
//! - Between two anchors: `t = u1 + (m - m1) * (1 + rho)` with `rho = (du / dm) - 1`.
//! - Outside: the same with the rate of a pair at least an hour apart and `|rho| <= 1000 ppm`; else
//!   `rho = 0`, and the uncertainty grows by 20 ppm (1.7 s a day, an ordinary crystal).
//! - A boot without an anchor is bounded by its neighbours: it began after the boot before it ended,
//!   or ended before the boot after it began.
//! - An anchor more than 365 days before the firmware was built is refused; the record it came in and
//!   those around it are not.
//!
//! Durations within a boot are differences of uptime; universal time only labels them and crosses boots.
//!
//! What a timeline knows does not depend on the order in which records are taken into account, nor on
//! whether one is taken twice.

mod point;
mod redate;
mod row;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use protocol::key::{Boot, Epoch, RecordKey, Seq};
use protocol::record::Record;
use protocol::units::{UptimeMs, UtcMs};
use serde::{Deserialize, Serialize};

pub(crate) use self::point::milliseconds;
use self::point::{Point, UPTIME_MAX_MS, between, beyond, far_behind};
pub use self::redate::Redated;
use self::row::{StampRow, TimelineRow};

use crate::event::TimeQuality;

/// How much earlier than the firmware's build an anchor may be, in milliseconds: 365 days, for a
/// firmware that was built with a wrong clock.
const BEFORE_BUILD_MAX_MS: i64 = 365 * 86_400_000;

/// Uncertainty of a time that is bounded on one side only, in milliseconds: a year.
const UNBOUNDED_MS: i64 = 365 * 86_400_000;

/// A moment in universal time and how it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dated {
    /// The moment.
    #[serde(with = "crate::serial::utc")]
    pub at: UtcMs,
    /// How it is known.
    pub quality: TimeQuality,
    /// Largest error, in milliseconds.
    pub uncertainty_ms: i64,
}

/// A moment on a device's clock, dated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "StampRow", from = "StampRow")]
pub struct Stamp {
    /// Life of the counters.
    pub epoch: Epoch,
    /// Reset within it.
    pub boot: Boot,
    /// The device's clock.
    pub uptime_ms: i64,
    /// The same in universal time.
    pub dated: Dated,
}

impl Stamp {
    /// Milliseconds from `earlier` to this moment; never negative.
    #[must_use]
    pub fn since_ms(&self, earlier: &Self) -> i64 {
        let elapsed = if (self.epoch, self.boot) == (earlier.epoch, earlier.boot) {
            self.uptime_ms - earlier.uptime_ms
        } else {
            self.dated.at.get() - earlier.dated.at.get()
        };
        elapsed.max(0)
    }

    /// The moment `back_ms` milliseconds before, on the same clock.
    #[must_use]
    pub fn before(&self, back_ms: i64) -> Self {
        let mut stamp = *self;
        stamp.uptime_ms -= back_ms;
        stamp.dated.at = UtcMs::saturating(self.dated.at.get() - back_ms);
        stamp
    }
}

/// A record and when it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The record.
    #[serde(with = "crate::serial::numbers")]
    pub key: RecordKey,
    /// When.
    pub at: Stamp,
}

/// Place of a record in its tracker's life: epochs order by their earliest anchored time (those
/// without one come last), then boot and sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoldKey {
    epoch_began_ms: i64,
    epoch: Epoch,
    boot: Boot,
    seq: Seq,
}

/// Whether an anchor's time is refused in a boot of a firmware that was built at `built`; one whose
/// build time is not known refuses nothing.
#[must_use]
pub fn is_refused(utc: UtcMs, built: Option<UtcMs>) -> bool {
    is_too_early(utc.get(), built.map(UtcMs::get))
}

/// Whether an uptime is told apart from longer ones.
#[must_use]
pub fn is_countable(uptime: UptimeMs) -> bool {
    i64::try_from(uptime.get()).is_ok_and(|ms| ms <= UPTIME_MAX_MS)
}

/// What a tracker's records say about its clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "TimelineRow", from = "TimelineRow")]
pub struct Timeline {
    boots: BTreeMap<(Epoch, Boot), BootClock>,
    /// Earliest accepted anchor of each epoch that has one, in milliseconds since 1970.
    began_ms: BTreeMap<Epoch, i64>,
}

#[derive(Clone, Debug, PartialEq)]
struct BootClock {
    first_ms: i64,
    last_ms: i64,
    /// When the firmware was built; the latest claim, should there be several.
    build_ms: Option<i64>,
    /// As recorded.
    claimed: BTreeSet<Point>,
    /// Those that are believed, one per uptime, in order of uptime.
    anchors: Vec<Point>,
    bound: Option<Bound>,
}

/// What the neighbours say about a boot without an anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    uptime_ms: i64,
    utc_ms: i64,
    uncertainty_ms: i64,
}

impl Timeline {
    /// The timeline of all of a tracker's records, in any order.
    pub fn of<'r>(records: impl IntoIterator<Item = (RecordKey, &'r Record)>) -> Self {
        let mut timeline = Self::default();
        for (key, record) in records {
            timeline.note(key, record);
        }
        timeline.rebase();
        timeline
    }

    /// Take one more record into account. Returns from where on it dates others anew.
    pub fn learn(&mut self, key: RecordKey, record: &Record) -> Option<Redated> {
        if !self.note(key, record) {
            return None;
        }
        let before = self.clone();
        self.rebase();
        redate::between(&before, self)
    }

    /// Take a record into account whose consequences [`Self::settle`] draws: a way to learn many at the
    /// price of one.
    pub fn collect(&mut self, key: RecordKey, record: &Record) {
        self.note(key, record);
    }

    /// Draw the consequences of what was collected. Returns from where on records are dated otherwise than
    /// by `before`, which this timeline was before.
    pub fn settle(&mut self, before: &Self) -> Option<Redated> {
        self.rebase();
        redate::between(before, self)
    }

    /// Epochs of which something is known.
    #[must_use]
    pub fn epochs(&self) -> BTreeSet<Epoch> {
        self.boots.keys().map(|(epoch, _)| *epoch).collect()
    }

    /// Where the first record of a boot would stand.
    pub(crate) fn boot_key(&self, epoch: Epoch, boot: Boot) -> FoldKey {
        let seq = Seq(0);
        self.fold_key(RecordKey { epoch, boot, seq })
    }

    /// Where a record stands in its tracker's life.
    #[must_use]
    pub fn fold_key(&self, key: RecordKey) -> FoldKey {
        FoldKey {
            epoch_began_ms: self.began_ms.get(&key.epoch).copied().unwrap_or(i64::MAX),
            epoch: key.epoch,
            boot: key.boot,
            seq: key.seq,
        }
    }

    /// The moment `uptime` of a boot; `None` when nothing says when that was.
    #[must_use]
    pub fn stamp(&self, key: RecordKey, uptime: UptimeMs) -> Option<Stamp> {
        let uptime_ms = milliseconds(uptime);
        let dated = self.boots.get(&(key.epoch, key.boot))?.date(uptime_ms)?;
        Some(Stamp {
            epoch: key.epoch,
            boot: key.boot,
            uptime_ms,
            dated,
        })
    }

    /// Whether the newest time that a record's boot claims is refused.
    #[must_use]
    pub fn is_newest_refused(&self, key: RecordKey) -> bool {
        let Some(clock) = self.boots.get(&(key.epoch, key.boot)) else {
            return false;
        };
        let newest = clock.claimed.last();
        newest.is_some_and(|point| is_too_early(point.utc_ms, clock.build_ms))
    }

    /// Whether that may change how anything is dated.
    fn note(&mut self, key: RecordKey, record: &Record) -> bool {
        let uptime_ms = milliseconds(record.uptime());
        let place = (key.epoch, key.boot);
        let new_boot = !self.boots.contains_key(&place);
        let clock = self
            .boots
            .entry(place)
            .or_insert_with(|| BootClock::starting(uptime_ms));
        let earlier = uptime_ms < clock.first_ms;
        let later = uptime_ms > clock.last_ms;
        clock.first_ms = clock.first_ms.min(uptime_ms);
        clock.last_ms = clock.last_ms.max(uptime_ms);
        let claims = match record {
            Record::Anchor(anchor) => clock.claimed.insert(Point::of(anchor)),
            Record::Boot(boot) => {
                let before = clock.build_ms;
                clock.build_ms = before.max(Some(boot.build_time.get()));
                clock.build_ms != before
            }
            _ => false,
        };
        // Neighbours bound each other by where a boot begins and ends.
        new_boot || claims || earlier && self.has_before(place) || later && self.has_after(place)
    }

    fn has_before(&self, (epoch, boot): (Epoch, Boot)) -> bool {
        let mut before = self.boots.range((epoch, Boot(0))..(epoch, boot));
        before.next().is_some()
    }

    fn has_after(&self, (epoch, boot): (Epoch, Boot)) -> bool {
        let behind = (Excluded((epoch, boot)), Unbounded);
        let mut after = self.boots.range(behind);
        after.next().is_some_and(|((other, _), _)| *other == epoch)
    }

    /// Decide which anchors are believed, and bound the boots that have none.
    fn rebase(&mut self) {
        self.began_ms.clear();
        for ((epoch, _), clock) in &mut self.boots {
            clock.judge_anchors();
            if let Some(utc_ms) = clock.anchors.iter().map(|point| point.utc_ms).min() {
                let began = self.began_ms.entry(*epoch).or_insert(utc_ms);
                *began = utc_ms.min(*began);
            }
        }
        self.bound_from_before();
        self.bound_from_after();
    }

    fn bound_from_before(&mut self) {
        let mut previous: Option<(Epoch, i64)> = None;
        for ((epoch, _), clock) in &mut self.boots {
            clock.bound = None;
            if let Some((_, ended_ms)) =
                previous.filter(|(e, _)| clock.anchors.is_empty() && e == epoch)
            {
                clock.bound = Some(Bound {
                    uptime_ms: clock.first_ms,
                    utc_ms: ended_ms,
                    uncertainty_ms: UNBOUNDED_MS,
                });
            }
            previous = clock
                .date(clock.last_ms)
                .map(|dated| (*epoch, dated.at.get()));
        }
    }

    fn bound_from_after(&mut self) {
        let mut next: Option<(Epoch, i64)> = None;
        for ((epoch, _), clock) in self.boots.iter_mut().rev() {
            let limit = next.filter(|(e, _)| clock.anchors.is_empty() && e == epoch);
            if let Some((_, began_ms)) = limit {
                let latest = Bound {
                    uptime_ms: clock.last_ms,
                    utc_ms: began_ms,
                    uncertainty_ms: UNBOUNDED_MS,
                };
                clock.bound = Some(clock.bound.map_or(latest, |bound| bound.narrowed(&latest)));
            }
            let anchored = !clock.anchors.is_empty() || limit.is_some();
            let began = clock.date(clock.first_ms).filter(|_| anchored);
            next = began.map(|dated| (*epoch, dated.at.get()));
        }
    }
}

impl BootClock {
    const fn starting(uptime_ms: i64) -> Self {
        Self {
            first_ms: uptime_ms,
            last_ms: uptime_ms,
            build_ms: None,
            claimed: BTreeSet::new(),
            anchors: Vec::new(),
            bound: None,
        }
    }

    fn judge_anchors(&mut self) {
        let credible = |point: &&Point| !is_too_early(point.utc_ms, self.build_ms);
        let mut anchors: Vec<Point> = self.claimed.iter().filter(credible).copied().collect();
        // Sorted by uptime, then uncertainty: of several for one moment the surest stays.
        anchors.dedup_by_key(|point| point.uptime_ms);
        self.anchors = anchors;
    }

    fn date(&self, uptime_ms: i64) -> Option<Dated> {
        let after = self
            .anchors
            .partition_point(|point| point.uptime_ms <= uptime_ms);
        let (before, later) = self.anchors.split_at(after);
        let (utc_ms, uncertainty_ms) = match (before.last(), later.first()) {
            (Some(a), Some(b)) => between(a, b, uptime_ms),
            (Some(a), None) => {
                let far = before
                    .iter()
                    .rev()
                    .find(|point| a.rate_from(point).is_some());
                beyond(a, far, uptime_ms)
            }
            (None, Some(b)) => beyond(b, far_behind(later), uptime_ms),
            (None, None) => return self.bound.map(|bound| bound.date(uptime_ms)),
        };
        Some(Dated {
            at: UtcMs::saturating(utc_ms),
            quality: TimeQuality::Anchored,
            uncertainty_ms,
        })
    }
}

impl Bound {
    fn date(&self, uptime_ms: i64) -> Dated {
        Dated {
            at: UtcMs::saturating(self.utc_ms.saturating_add(uptime_ms - self.uptime_ms)),
            quality: TimeQuality::Bounded,
            uncertainty_ms: self.uncertainty_ms,
        }
    }

    /// This earliest position, knowing the latest one: their distance is the uncertainty.
    fn narrowed(self, latest: &Self) -> Self {
        let slack_ms = latest.utc_ms - self.date(latest.uptime_ms).at.get();
        Self {
            uncertainty_ms: slack_ms.max(0),
            ..self
        }
    }
}

fn is_too_early(utc_ms: i64, build_ms: Option<i64>) -> bool {
    build_ms.is_some_and(|build_ms| utc_ms < build_ms - BEFORE_BUILD_MAX_MS)
}

#[cfg(test)]
mod tests;
