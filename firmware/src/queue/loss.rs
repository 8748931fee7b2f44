//! What had to go, until it can be said.
//!
//! Each evicted record widens the span of its reason. A span becomes a loss record, with a number of
//! its own, only when a batch is about to carry it; when a loss record is evicted itself, what it says
//! flows back into the span. So losses cost two spans of memory, however many they are.

use protocol::key::Seq;
use protocol::record::{LossReason, Numbered, Record};

/// A run of lost records of this boot; numbers in between that were not lost are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First lost number.
    pub first: Seq,
    /// Last lost number.
    pub last: Seq,
    /// How many were lost.
    pub count: u32,
}

/// Spans that no loss record tells of yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    routine: Option<Span>,
    alarms: Option<Span>,
}

/// The reasons a queue in memory has, in the order in which they are told.
pub const REASONS: [LossReason; 2] = [LossReason::AlarmsFull, LossReason::RoutineFull];

impl Losses {
    /// Nothing is lost.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            routine: None,
            alarms: None,
        }
    }

    /// Take note of an evicted record.
    pub fn note(&mut self, evicted: &Numbered) {
        let reason = match evicted.record {
            Record::Alarm(_) => LossReason::AlarmsFull,
            _ => LossReason::RoutineFull,
        };
        self.widen(reason, Span::of(evicted.seq));
        if let Record::Loss(loss) = evicted.record {
            let span = Span {
                first: loss.first.seq,
                last: loss.last.seq,
                count: loss.count,
            };
            self.widen(loss.reason, span);
        }
    }

    /// The span of `reason`, without taking it.
    #[must_use]
    pub const fn span(&self, reason: LossReason) -> Option<Span> {
        match reason {
            LossReason::AlarmsFull => self.alarms,
            _ => self.routine,
        }
    }

    /// The span of `reason`, to be told now.
    pub const fn take(&mut self, reason: LossReason) -> Option<Span> {
        self.slot(reason).take()
    }

    fn widen(&mut self, reason: LossReason, more: Span) {
        let slot = self.slot(reason);
        *slot = Some(slot.map_or(more, |span| span.with(more)));
    }

    const fn slot(&mut self, reason: LossReason) -> &mut Option<Span> {
        match reason {
            LossReason::AlarmsFull => &mut self.alarms,
            _ => &mut self.routine,
        }
    }
}

impl Span {
    const fn of(seq: Seq) -> Self {
        Self {
            first: seq,
            last: seq,
            count: 1,
        }
    }

    fn with(self, more: Self) -> Self {
        Self {
            first: self.first.min(more.first),
            last: self.last.max(more.last),
            count: self.count.saturating_add(more.count),
        }
    }
}
