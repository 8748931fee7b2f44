//! A quantity beyond a bound for too long.
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
//! Values are steps of the wire, times milliseconds. While an episode is open its event shows the
//! figures of the last worsening, not of the last reading, so that a reader is told about what matters.

use protocol::key::RecordKey;
use serde::{Deserialize, Serialize};

use super::figures::{Figures, Sample};
use super::limit::Limit;
use crate::event::Confidence;
use crate::timeline::Stamp;

/// How long an open episode is told no worsening after the last one, in milliseconds: ten minutes.
const WORSENING_INTERVAL_MS: i64 = 600_000;

/// One rule watching one probe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Excursion {
    last: Option<Sample>,
    state: State,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Run {
    start: Sample,
    /// Begin of the stretch that readings cover without a gap.
    covered_from: Stamp,
    figures: Figures,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Opened {
    run: Run,
    #[serde(with = "crate::serial::numbers")]
    decided_by: RecordKey,
    certain: bool,
    /// What readers were told last.
    shown: Figures,
    shown_certain: bool,
}

/// An episode as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episode {
    /// When it began.
    pub began: Stamp,
    /// Record that began it.
    #[serde(with = "crate::serial::numbers")]
    pub opened_by: RecordKey,
    /// Record with which the delay was reached.
    #[serde(with = "crate::serial::numbers")]
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
            State::InRange => (step.when_in_range(), None),
            State::Pending(run) => step.when_pending(run),
            State::Open(opened) => step.when_open(opened),
            State::Recovering {
                opened,
                since,
                figures,
            } => step.when_recovering(opened, since, figures),
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
    fn when_in_range(&self) -> State {
        if !self.limit.is_beyond(self.sample.value) {
            return State::InRange;
        }
        let run = Run {
            start: self.sample,
            covered_from: self.sample.at,
            figures: Figures::of(&self.sample),
        };
        self.opened(run).map_or(State::Pending(run), State::Open)
    }

    fn when_pending(&self, mut run: Run) -> (State, Option<Episode>) {
        run.figures.hold(&self.last, &self.sample, self.covered);
        let beyond = self.limit.is_beyond(self.sample.value);
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

    fn when_open(&self, mut opened: Opened) -> (State, Option<Episode>) {
        opened
            .run
            .figures
            .hold(&self.last, &self.sample, self.covered);
        if !self.covered {
            opened.run.covered_from = self.sample.at;
        }
        self.confirm(&mut opened);
        if !self.limit.is_beyond(self.sample.value) {
            return self.in_bound(opened);
        }
        opened.run.figures.add(&self.sample, self.limit);
        opened.show(self.limit);
        (State::Open(opened), None)
    }

    /// An open episode meets a reading within the bound.
    fn in_bound(&self, mut opened: Opened) -> (State, Option<Episode>) {
        opened.run.covered_from = self.sample.at;
        if self.limit.is_clear(self.sample.value) {
            return self.recovering(opened, self.sample, opened.run.figures);
        }
        opened.run.figures.add(&self.sample, self.limit);
        (State::Open(opened), None)
    }

    fn when_recovering(
        &self,
        mut opened: Opened,
        since: Sample,
        figures: Figures,
    ) -> (State, Option<Episode>) {
        if !self.limit.is_clear(self.sample.value) {
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
        if self.sample.at.since_ms(&since.at) < self.limit.clear_delay_ms() {
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
        if lasted_ms < self.limit.delay_ms() {
            return None;
        }
        let certain = self.sample.at.since_ms(&run.covered_from) >= self.limit.delay_ms();
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
        opened.certain |= covered_ms >= self.limit.delay_ms();
    }
}

impl Opened {
    /// Tell readers of the present figures when they are worth it.
    fn show(&mut self, limit: &Limit) {
        let (now, shown) = (&self.run.figures, &self.shown);
        let worse = (now.worst_value(limit) - shown.worst_value(limit)).abs()
            >= limit.quantity().worsening_step();
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
            alarm_ms: (lasted_ms - limit.delay_ms()).max(0),
        }
    }
}

#[cfg(test)]
mod tests;
