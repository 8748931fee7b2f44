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

use std::collections::BTreeMap;

use protocol::key::{Boot, Epoch, RecordKey, Seq};
use protocol::record::{Anchor, Record};
use protocol::units::{UptimeMs, UtcMs};

use crate::event::TimeQuality;

/// Shortest distance of two anchors whose rate is used beyond them, in milliseconds.
const RATE_BASELINE_MS: i64 = 3_600_000;

/// Fastest or slowest clock whose rate is believed, in parts per million.
const RATE_MAX_PPM: i64 = 1_000;

/// How far a clock of unknown rate may drift, in parts per million.
const DRIFT_PPM: i64 = 20;

/// How much earlier than the firmware's build an anchor may be, in milliseconds: 365 days, for a
/// firmware that was built with a wrong clock.
const BEFORE_BUILD_MAX_MS: i64 = 365 * 86_400_000;

/// Longest uptime that is told apart, in milliseconds: some 140,000 years, so that sums of uptimes and
/// universal times stay far inside 64 bits whatever a device claims.
const UPTIME_MAX_MS: i64 = 1 << 52;

/// Uncertainty of a time that is bounded on one side only, in milliseconds: a year.
const UNBOUNDED_MS: i64 = 365 * 86_400_000;

/// A moment in universal time and how it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dated {
    /// The moment.
    pub at: UtcMs,
    /// How it is known.
    pub quality: TimeQuality,
    /// Largest error, in milliseconds.
    pub uncertainty_ms: i64,
}

/// A moment on a device's clock, dated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    boots: BTreeMap<(Epoch, Boot), BootClock>,
    /// Earliest accepted anchor of each epoch that has one, in milliseconds since 1970.
    began_ms: BTreeMap<Epoch, i64>,
}

#[derive(Clone, Debug, PartialEq)]
struct BootClock {
    first_ms: i64,
    last_ms: i64,
    build_ms: Option<i64>,
    /// As recorded.
    claimed: Vec<Point>,
    /// Those that are believed, one per uptime, in order of uptime.
    anchors: Vec<Point>,
    bound: Option<Bound>,
}

/// An anchor in plain milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    uptime_ms: i64,
    uncertainty_ms: i64,
    utc_ms: i64,
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

    /// Take one more record into account. Returns whether records before it are dated anew.
    pub fn learn(&mut self, key: RecordKey, record: &Record) -> bool {
        let new_boot = !self.boots.contains_key(&(key.epoch, key.boot));
        let before = self.anchors_of(key).to_vec();
        self.note(key, record);
        if new_boot || matches!(record, Record::Anchor(_) | Record::Boot(_)) {
            self.rebase();
        }
        before != self.anchors_of(key)
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
        let newest = clock.claimed.iter().max();
        newest.is_some_and(|point| is_too_early(point.utc_ms, clock.build_ms))
    }

    fn anchors_of(&self, key: RecordKey) -> &[Point] {
        let clock = self.boots.get(&(key.epoch, key.boot));
        clock.map_or(&[], |clock| &clock.anchors)
    }

    fn note(&mut self, key: RecordKey, record: &Record) {
        let uptime_ms = milliseconds(record.uptime());
        let clock = self
            .boots
            .entry((key.epoch, key.boot))
            .or_insert_with(|| BootClock::starting(uptime_ms));
        clock.first_ms = clock.first_ms.min(uptime_ms);
        clock.last_ms = clock.last_ms.max(uptime_ms);
        match record {
            Record::Anchor(anchor) => clock.claimed.push(Point::of(anchor)),
            Record::Boot(boot) => clock.build_ms = Some(boot.build_time.get()),
            _ => {}
        }
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
            claimed: Vec::new(),
            anchors: Vec::new(),
            bound: None,
        }
    }

    fn judge_anchors(&mut self) {
        let mut anchors = self.claimed.clone();
        anchors.retain(|point| !is_too_early(point.utc_ms, self.build_ms));
        // Sorted by uptime, then uncertainty: of several for one moment the surest stays.
        anchors.sort_unstable();
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
            (None, Some(b)) => {
                let far = later.iter().find(|point| point.rate_from(b).is_some());
                beyond(b, far, uptime_ms)
            }
            (None, None) => return self.bound.map(|bound| bound.date(uptime_ms)),
        };
        Some(Dated {
            at: UtcMs::saturating(utc_ms),
            quality: TimeQuality::Anchored,
            uncertainty_ms,
        })
    }
}

impl Point {
    fn of(anchor: &Anchor) -> Self {
        Self {
            uptime_ms: milliseconds(anchor.uptime),
            uncertainty_ms: i64::from(anchor.uncertainty.get()),
            utc_ms: anchor.utc.get(),
        }
    }

    /// Milliseconds of uptime and of universal time since `earlier`, when that pair gives a rate.
    fn rate_from(&self, earlier: &Self) -> Option<(i64, i64)> {
        let (dm, du) = (
            self.uptime_ms - earlier.uptime_ms,
            self.utc_ms - earlier.utc_ms,
        );
        let drift = (i128::from(du) - i128::from(dm)).abs() * 1_000_000;
        let credible = drift <= i128::from(dm) * i128::from(RATE_MAX_PPM);
        (dm >= RATE_BASELINE_MS && credible).then_some((dm, du))
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

/// Time between two anchors and its uncertainty.
fn between(a: &Point, b: &Point, uptime_ms: i64) -> (i64, i64) {
    let (dm, du) = (b.uptime_ms - a.uptime_ms, b.utc_ms - a.utc_ms);
    let worst_ms = a.uncertainty_ms.max(b.uncertainty_ms);
    if du <= 0 {
        // Anchors that contradict each other: believe the nearer one, and say how far they are apart.
        let near_a = uptime_ms - a.uptime_ms <= b.uptime_ms - uptime_ms;
        let near = if near_a { a } else { b };
        let utc_ms = near.utc_ms + uptime_ms - near.uptime_ms;
        return (utc_ms, worst_ms + dm - du);
    }
    (a.utc_ms + scaled(uptime_ms - a.uptime_ms, du, dm), worst_ms)
}

/// Time beyond the outermost anchor `edge`, with the rate that `far` gives if there is one.
fn beyond(edge: &Point, far: Option<&Point>, uptime_ms: i64) -> (i64, i64) {
    let distance_ms = uptime_ms - edge.uptime_ms;
    let pair = far.and_then(|far| {
        let (low, high) = if far < edge { (far, edge) } else { (edge, far) };
        high.rate_from(low)
            .map(|(dm, du)| (dm, du, far.uncertainty_ms))
    });
    let (offset_ms, growth_ms) = match pair {
        Some((dm, du, far_ms)) => (
            scaled(distance_ms, du, dm),
            scaled(distance_ms.abs(), edge.uncertainty_ms + far_ms, dm),
        ),
        None => (distance_ms, scaled(distance_ms.abs(), DRIFT_PPM, 1_000_000)),
    };
    (
        edge.utc_ms.saturating_add(offset_ms),
        edge.uncertainty_ms.saturating_add(growth_ms),
    )
}

/// `value * numerator / denominator`, rounded to the nearest; `denominator` is positive.
fn scaled(value: i64, numerator: i64, denominator: i64) -> i64 {
    let denominator = i128::from(denominator);
    let product = i128::from(value) * i128::from(numerator);
    let rounded = (product + denominator / 2).div_euclid(denominator);
    i64::try_from(rounded).unwrap_or(i64::MAX)
}

fn is_too_early(utc_ms: i64, build_ms: Option<i64>) -> bool {
    build_ms.is_some_and(|build_ms| utc_ms < build_ms - BEFORE_BUILD_MAX_MS)
}

fn milliseconds(uptime: UptimeMs) -> i64 {
    i64::try_from(uptime.get()).map_or(UPTIME_MAX_MS, |ms| ms.min(UPTIME_MAX_MS))
}

#[cfg(test)]
mod tests;
