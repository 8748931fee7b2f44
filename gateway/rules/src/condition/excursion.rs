//! Temperature beyond a bound for too long.
//!
//! in range -> pending(t0) -> open(t0) -> recovering -> closed
//!
//! - A reading holds until the next one when the gap is at most `max_gap`; the last reading holds for no
//!   time. A longer gap is *unknown*: it is counted as unobserved, is never in range and never ends
//!   an episode.
//! - Pending opens when the time since `t0` reaches the delay. When the readings since the last unknown
//!   stretch alone reach it the episode is certain, else possible: 9 h hot, 46 min missing, 9 h hot is
//!   an alarm. The first in-bound reading ends pending; the reading before holds until then, so that
//!   an excursion opens exactly when its duration reaches the delay.
//! - Open ends when readings stay beyond the clear level (bound less hysteresis) for the clear delay;
//!   the end is the first of them.
//! - An alarm record claims "beyond since s, still at u". Where no reading covers u it is taken as two
//!   readings with an unknown stretch between: it can open an episode before its backlog arrives,
//!   with confidence possible, and decides nothing once the readings are there.
//!
//! Temperatures are centi-Celsius, times milliseconds. While an episode is open its event shows the
//! figures of the last worsening, not of the last reading, so that a reader is told about what matters.

use protocol::key::RecordKey;

use crate::event::{Confidence, Side};
use crate::plan::profile::TemperatureRule;
use crate::timeline::Stamp;

/// How much worse an open episode must become to be told again, in centi-kelvin.
const WORSENING_STEP_CENTI: i32 = 50;

/// How long an open episode is told no worsening after the last one, in milliseconds: ten minutes.
const WORSENING_INTERVAL_MS: i64 = 600_000;

/// A rule in the units of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    bound_centi: i32,
    clear_centi: i32,
    side: Side,
    inclusive: bool,
    delay_ms: i64,
    clear_delay_ms: i64,
}

/// A temperature at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub at: Stamp,
    /// Record that carries it.
    pub key: RecordKey,
    /// Hundredths of a degree Celsius.
    pub centi: i32,
}

/// One rule watching one probe.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Excursion {
    last: Option<Sample>,
    state: State,
}

#[derive(Clone, Debug, Default, PartialEq)]
enum State {
    #[default]
    InRange,
    Pending(Run),
    Open(Opened),
    Recovering {
        opened: Opened,
        /// First reading beyond the clear level, and the figures up to it.
        since: Sample,
        figures: Figures,
    },
}

/// Consecutive time beyond the bound.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    start: Sample,
    /// Begin of the stretch that readings cover without a gap.
    covered_from: Stamp,
    figures: Figures,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Opened {
    run: Run,
    decided_by: RecordKey,
    certain: bool,
    /// What readers were told last.
    shown: Figures,
    shown_certain: bool,
}

/// What readings of an episode add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Lowest, centi-Celsius.
    pub min_centi: i32,
    /// Highest, centi-Celsius.
    pub max_centi: i32,
    /// Record with the worst value.
    pub worst: RecordKey,
    /// Newest record.
    pub last: RecordKey,
    /// Newest moment.
    pub until: Stamp,
    /// Milliseconds that readings cover.
    pub covered_ms: i64,
    /// Milliseconds they do not.
    pub unobserved_ms: i64,
    /// Sum of centi-Celsius times milliseconds held.
    weighted: i128,
}

/// An episode as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Episode {
    /// When it began.
    pub began: Stamp,
    /// Record that began it.
    pub opened_by: RecordKey,
    /// Record with which the delay was reached.
    pub decided_by: RecordKey,
    /// When it ended.
    pub ended: Option<Stamp>,
    /// How sure it is.
    pub confidence: Confidence,
    /// Its figures, up to its end or to the last worsening.
    pub figures: Figures,
    /// Milliseconds since the delay was reached.
    pub alarm_ms: i64,
}

impl Limit {
    /// The limit of `rule`.
    #[must_use]
    pub fn of(rule: &TemperatureRule) -> Self {
        let bound_centi = centi(rule.bound);
        let inward = match rule.side {
            Side::Above => -1,
            Side::Below => 1,
        };
        Self {
            bound_centi,
            clear_centi: bound_centi + inward * centi(rule.hysteresis),
            side: rule.side,
            inclusive: rule.inclusive,
            delay_ms: i64::try_from(rule.delay.as_millis()).unwrap_or(i64::MAX),
            clear_delay_ms: i64::try_from(rule.clear_delay.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// Which side is bad.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.side
    }

    /// What a device's alarm beyond `limit_centi` with `extreme_centi` proves about this limit: values at
    /// its begin and now, both beyond. `None` when the device's limit is laxer: then the alarm says
    /// nothing about the time between the two limits.
    #[must_use]
    pub fn claimed_by(&self, limit_centi: i32, extreme_centi: i32) -> Option<(i32, i32)> {
        let step = match self.side {
            Side::Above => 1,
            Side::Below => -1,
        };
        let proven = [limit_centi, limit_centi + step];
        let begin = proven.into_iter().find(|centi| self.is_beyond(*centi))?;
        self.is_beyond(extreme_centi)
            .then_some((begin, extreme_centi))
    }

    fn is_beyond(&self, centi: i32) -> bool {
        match self.side {
            Side::Above if self.inclusive => centi >= self.bound_centi,
            Side::Above => centi > self.bound_centi,
            Side::Below if self.inclusive => centi <= self.bound_centi,
            Side::Below => centi < self.bound_centi,
        }
    }

    fn is_clear(&self, centi: i32) -> bool {
        let within = match self.side {
            Side::Above => centi <= self.clear_centi,
            Side::Below => centi >= self.clear_centi,
        };
        within && !self.is_beyond(centi)
    }

    fn is_worse(&self, centi: i32, than: i32) -> bool {
        match self.side {
            Side::Above => centi > than,
            Side::Below => centi < than,
        }
    }
}

impl Excursion {
    /// Whether no episode is pending, open or recovering.
    #[must_use]
    pub const fn is_in_range(&self) -> bool {
        matches!(self.state, State::InRange)
    }

    /// The newest moment judged.
    #[must_use]
    pub const fn last(&self) -> Option<&Sample> {
        self.last.as_ref()
    }

    /// Take one more reading into account. Returns an episode that it ended.
    pub fn observe(&mut self, limit: &Limit, sample: Sample, max_gap_ms: i64) -> Option<Episode> {
        let last = self.last.replace(sample).unwrap_or(sample);
        let covered = sample.at.since_ms(&last.at) <= max_gap_ms;
        let step = Step {
            limit,
            last,
            sample,
            covered,
        };
        let (state, ended) = match std::mem::take(&mut self.state) {
            State::InRange => (step.from_in_range(), None),
            State::Pending(run) => step.from_pending(run),
            State::Open(opened) => step.from_open(opened),
            State::Recovering {
                opened,
                since,
                figures,
            } => step.from_recovering(opened, since, figures),
        };
        self.state = state;
        ended
    }

    /// The episode that is open, as readers shall see it.
    #[must_use]
    pub fn open_episode(&self, limit: &Limit) -> Option<Episode> {
        let opened = match &self.state {
            State::Open(opened) | State::Recovering { opened, .. } => opened,
            State::InRange | State::Pending(_) => return None,
        };
        Some(opened.episode(limit, opened.shown, opened.shown_certain, None))
    }
}

/// One reading meeting one state.
struct Step<'l> {
    limit: &'l Limit,
    last: Sample,
    sample: Sample,
    /// Whether the last reading holds until this one.
    covered: bool,
}

impl Step<'_> {
    fn from_in_range(&self) -> State {
        if !self.limit.is_beyond(self.sample.centi) {
            return State::InRange;
        }
        let run = Run {
            start: self.sample,
            covered_from: self.sample.at,
            figures: Figures::of(&self.sample),
        };
        self.opened(run).map_or(State::Pending(run), State::Open)
    }

    fn from_pending(&self, mut run: Run) -> (State, Option<Episode>) {
        run.figures.hold(&self.last, &self.sample, self.covered);
        let beyond = self.limit.is_beyond(self.sample.centi);
        if beyond {
            if !self.covered {
                run.covered_from = self.sample.at;
            }
            run.figures.add(&self.sample, self.limit);
        } else if !self.covered {
            // Both sides of an unknown stretch must be beyond the bound for it to count.
            return (State::InRange, None);
        }
        match self.opened(run) {
            None if beyond => (State::Pending(run), None),
            None => (State::InRange, None),
            Some(opened) if beyond => (State::Open(opened), None),
            Some(opened) => self.in_bound(opened),
        }
    }

    fn from_open(&self, mut opened: Opened) -> (State, Option<Episode>) {
        opened
            .run
            .figures
            .hold(&self.last, &self.sample, self.covered);
        if !self.covered {
            opened.run.covered_from = self.sample.at;
        }
        self.confirm(&mut opened);
        if !self.limit.is_beyond(self.sample.centi) {
            return self.in_bound(opened);
        }
        opened.run.figures.add(&self.sample, self.limit);
        opened.show(self.limit);
        (State::Open(opened), None)
    }

    /// An open episode meets a reading within the bound.
    fn in_bound(&self, mut opened: Opened) -> (State, Option<Episode>) {
        opened.run.covered_from = self.sample.at;
        if self.limit.is_clear(self.sample.centi) {
            return self.recovering(opened, self.sample, opened.run.figures);
        }
        opened.run.figures.add(&self.sample, self.limit);
        (State::Open(opened), None)
    }

    fn from_recovering(
        &self,
        mut opened: Opened,
        since: Sample,
        figures: Figures,
    ) -> (State, Option<Episode>) {
        if !self.limit.is_clear(self.sample.centi) {
            opened.run.covered_from = self.sample.at;
            opened
                .run
                .figures
                .hold(&self.last, &self.sample, self.covered);
            opened.run.figures.add(&self.sample, self.limit);
            opened.show(self.limit);
            return (State::Open(opened), None);
        }
        opened
            .run
            .figures
            .hold(&self.last, &self.sample, self.covered);
        if self.covered {
            self.recovering(opened, since, figures)
        } else {
            // What was unknown is never in range: the clear delay starts again.
            self.recovering(opened, self.sample, opened.run.figures)
        }
    }

    fn recovering(
        &self,
        mut opened: Opened,
        since: Sample,
        figures: Figures,
    ) -> (State, Option<Episode>) {
        if self.sample.at.since_ms(&since.at) < self.limit.clear_delay_ms {
            // Should the episode go on after all, this reading was part of it.
            opened.run.figures.add(&self.sample, self.limit);
            let state = State::Recovering {
                opened,
                since,
                figures,
            };
            return (state, None);
        }
        let episode = opened.episode(self.limit, figures, opened.certain, Some(since.at));
        (State::InRange, Some(episode))
    }

    /// `run` as an open episode, if it has lasted long enough.
    fn opened(&self, run: Run) -> Option<Opened> {
        let lasted_ms = self.sample.at.since_ms(&run.start.at);
        if lasted_ms < self.limit.delay_ms {
            return None;
        }
        let certain = self.sample.at.since_ms(&run.covered_from) >= self.limit.delay_ms;
        Some(Opened {
            run,
            decided_by: self.sample.key,
            certain,
            shown: run.figures,
            shown_certain: certain,
        })
    }

    fn confirm(&self, opened: &mut Opened) {
        let covered_ms = self.sample.at.since_ms(&opened.run.covered_from);
        opened.certain |= covered_ms >= self.limit.delay_ms;
    }
}

impl Opened {
    /// Tell readers of the present figures when they are worth it.
    fn show(&mut self, limit: &Limit) {
        let (now, shown) = (&self.run.figures, &self.shown);
        let worst = |figures: &Figures| match limit.side {
            Side::Above => figures.max_centi,
            Side::Below => figures.min_centi,
        };
        let worse = (worst(now) - worst(shown)).abs() >= WORSENING_STEP_CENTI;
        let rested = now.until.since_ms(&shown.until) >= WORSENING_INTERVAL_MS;
        if (worse && rested) || self.certain != self.shown_certain {
            self.shown = *now;
            self.shown_certain = self.certain;
        }
    }

    fn episode(
        &self,
        limit: &Limit,
        figures: Figures,
        certain: bool,
        ended: Option<Stamp>,
    ) -> Episode {
        let until = ended.unwrap_or(figures.until);
        let lasted_ms = until.since_ms(&self.run.start.at);
        Episode {
            began: self.run.start.at,
            opened_by: self.run.start.key,
            decided_by: self.decided_by,
            ended,
            confidence: if certain {
                Confidence::Certain
            } else {
                Confidence::Possible
            },
            figures,
            alarm_ms: (lasted_ms - limit.delay_ms).max(0),
        }
    }
}

impl Figures {
    const fn of(sample: &Sample) -> Self {
        Self {
            min_centi: sample.centi,
            max_centi: sample.centi,
            worst: sample.key,
            last: sample.key,
            until: sample.at,
            covered_ms: 0,
            unobserved_ms: 0,
            weighted: 0,
        }
    }

    /// The time from `last` to `sample`.
    fn hold(&mut self, last: &Sample, sample: &Sample, covered: bool) {
        let held_ms = sample.at.since_ms(&last.at);
        self.until = sample.at;
        if covered {
            self.covered_ms += held_ms;
            self.weighted += i128::from(last.centi) * i128::from(held_ms);
        } else {
            self.unobserved_ms += held_ms;
        }
    }

    fn add(&mut self, sample: &Sample, limit: &Limit) {
        let worst = match limit.side {
            Side::Above => self.max_centi,
            Side::Below => self.min_centi,
        };
        if limit.is_worse(sample.centi, worst) {
            self.worst = sample.key;
        }
        self.min_centi = self.min_centi.min(sample.centi);
        self.max_centi = self.max_centi.max(sample.centi);
        self.last = sample.key;
    }

    /// Mean in degrees Celsius, weighted by the time each reading held; of a single moment its value.
    #[must_use]
    pub fn mean_celsius(&self) -> f64 {
        if self.covered_ms == 0 {
            return f64::from(self.min_centi) / 100.0;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a mean to 0.01 degrees needs far fewer than 53 bits, and is quantised"
        )]
        let mean = self.weighted as f64 / self.covered_ms as f64 / 100.0;
        mean
    }
}

/// Hundredths of a degree, the resolution of the wire.
fn centi(celsius: f64) -> i32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounds are checked to lie within a few hundred degrees"
    )]
    let centi = (celsius * 100.0).round() as i32;
    centi
}

#[cfg(test)]
mod tests;
