//! A place where a fault can strike: before or after the n-th call that a step makes to the engine.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use gateway::store::Batch;

/// What a stand-in says when a call begins to hang.
pub const HANGS: &str = "a call hangs from now on";

/// Whose call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The committer appends a chunk to the journal.
    Journal,
    /// The fold takes a chunk: history, view and outbox change, the chunk goes.
    Fold,
    /// Delivery removes what a sink has confirmed.
    Outbox,
    /// A session is kept.
    Session,
    /// Whoever's, reading included and closing not. Counted from the opening of the engine on.
    Any,
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A batch is written.
    Apply,
    /// What the step wrote is made durable.
    Sync,
    /// The engine is closed, by whoever is the last to have it.
    Close,
}

/// On which side of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The engine has not seen it yet.
    Before,
    /// The engine is done, the caller does not know.
    After,
}

/// A place in the path of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Whose call.
    pub step: Step,
    /// Which.
    pub call: Call,
    /// On which side of it.
    pub side: Side,
    /// At the how-manieth, counted from 1.
    pub nth: u32,
}

/// Every place with a name, and a count up to which a load of a campaign usually gets there. Delivery
/// has no sync of its own: it may lose the note that a sink has confirmed, and then says it again.
pub const NAMED: [(Step, Call, Side, u32); 14] = [
    (Step::Journal, Call::Apply, Side::Before, 8),
    (Step::Journal, Call::Apply, Side::After, 8),
    (Step::Journal, Call::Sync, Side::Before, 8),
    (Step::Journal, Call::Sync, Side::After, 8),
    (Step::Fold, Call::Apply, Side::Before, 8),
    (Step::Fold, Call::Apply, Side::After, 8),
    (Step::Fold, Call::Sync, Side::Before, 2),
    (Step::Fold, Call::Sync, Side::After, 2),
    (Step::Outbox, Call::Apply, Side::Before, 2),
    (Step::Outbox, Call::Apply, Side::After, 2),
    (Step::Session, Call::Apply, Side::Before, 1),
    (Step::Session, Call::Apply, Side::After, 1),
    (Step::Session, Call::Sync, Side::Before, 1),
    (Step::Session, Call::Sync, Side::After, 1),
];

impl Step {
    /// The step that makes `batch`, told by the kinds of rows in it; `None` for housekeeping.
    #[must_use]
    pub fn of(batch: &Batch) -> Option<Self> {
        let mut found = None;
        for (key, value) in batch.writes() {
            match (key.get(..2)?, value) {
                (b"j|", Some(_)) => return Some(Self::Journal),
                (b"j|", None) => return Some(Self::Fold),
                (b"o|", None) => found = Some(Self::Outbox),
                (b"c|", _) => found = Some(Self::Session),
                _ => {}
            }
        }
        found
    }

    const ALL: [(Self, &'static str); 5] = [
        (Self::Journal, "journal"),
        (Self::Fold, "fold"),
        (Self::Outbox, "outbox"),
        (Self::Session, "session"),
        (Self::Any, "any"),
    ];
}

const CALLS: [(Call, &str); 3] = [
    (Call::Apply, "apply"),
    (Call::Sync, "sync"),
    (Call::Close, "close"),
];

const SIDES: [(Side, &str); 2] = [(Side::Before, "before"), (Side::After, "after")];

fn named<T: Copy + PartialEq>(words: &[(T, &'static str)], wanted: T) -> &'static str {
    let found = words.iter().find(|(value, _)| *value == wanted);
    found.map_or("", |(_, word)| word)
}

fn parsed<T: Copy>(words: &[(T, &'static str)], text: &str) -> Result<T> {
    let found = words.iter().find(|(_, word)| *word == text);
    let (value, _) = found.with_context(|| format!("no part of a point is called `{text}`"))?;
    Ok(*value)
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = named(&Step::ALL, self.step);
        let (call, side) = (named(&CALLS, self.call), named(&SIDES, self.side));
        write!(f, "{step}.{call}.{side}.{}", self.nth)
    }
}

impl FromStr for Point {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let words: Vec<_> = text.split('.').collect();
        let [step, call, side, nth] = words[..] else {
            bail!("a point is step.call.side.nth, not `{text}`");
        };
        Ok(Self {
            step: parsed(&Step::ALL, step)?,
            call: parsed(&CALLS, call)?,
            side: parsed(&SIDES, side)?,
            nth: nth.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_point_survives_being_written_and_read() {
        for (step, call, side, nth) in NAMED {
            let point = Point {
                step,
                call,
                side,
                nth,
            };
            assert_eq!(point.to_string().parse::<Point>().unwrap(), point);
        }
        assert!("journal.apply.before".parse::<Point>().is_err());
        assert!("journal.apply.beside.1".parse::<Point>().is_err());
    }
}
