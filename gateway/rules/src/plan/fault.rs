//! What is wrong with a plan file, said so that it can be mended.

use core::fmt;
use std::ops::Range;

/// Most characters of a faulty value that are repeated.
const VALUE_MAX_CHARS: usize = 48;

/// How alike two names must be (Jaro-Winkler, 0 to 1) for one to be proposed for the other.
const ALIKE: f64 = 0.8;

/// One fault of a plan file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanFault {
    /// Line in the file, from 1.
    pub line: u32,
    /// Column in the line, in characters, from 1.
    pub column: u32,
    /// Where: `shipment[2].stop[0].fence`.
    pub path: String,
    /// What stands there, shortened.
    pub value: String,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub allowed: String,
    /// The name that was probably meant.
    pub did_you_mean: Option<String>,
    /// Whether the plan can still be used; such faults are printed and counted, no more.
    pub warning: bool,
}

impl fmt::Display for PlanFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = if self.warning { "warning" } else { "error" };
        write!(f, "{}:{}: {level}: {}", self.line, self.column, self.path)?;
        if !self.value.is_empty() {
            write!(f, " = {}", self.value)?;
        }
        write!(f, ": {}; allowed: {}", self.problem, self.allowed)?;
        if let Some(name) = &self.did_you_mean {
            write!(f, "; did you mean {name:?}?")?;
        }
        Ok(())
    }
}

impl std::error::Error for PlanFault {}

/// What is wrong with one value, before its place is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    problem: String,
    allowed: String,
    did_you_mean: Option<String>,
    warning: bool,
}

impl Problem {
    pub(super) fn new(problem: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            allowed: allowed.into(),
            did_you_mean: None,
            warning: false,
        }
    }

    /// The plan stays usable.
    pub(super) fn warning(problem: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self {
            warning: true,
            ..Self::new(problem, allowed)
        }
    }

    /// `name` is none of `known`.
    pub(super) fn choice<'n>(
        problem: impl Into<String>,
        name: &str,
        known: impl Iterator<Item = &'n str>,
    ) -> Self {
        let known: Vec<&str> = known.collect();
        let alike = |other: &str| strsim::jaro_winkler(name, other);
        let best = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)));
        Self {
            did_you_mean: best
                .filter(|best| alike(best) >= ALIKE)
                .map(|best| (*best).to_owned()),
            ..Self::new(problem, list(&known))
        }
    }
}

/// `names` as text, cut where it would become unreadable.
fn list(names: &[&str]) -> String {
    const SHOWN: usize = 24;
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>();
    match (names.len(), names.len().saturating_sub(SHOWN)) {
        (0, _) => "nothing: none is defined".to_owned(),
        (_, 0) => shown.join(", "),
        (_, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The faults of one file, as they are found.
pub(super) struct Faults<'s> {
    source: &'s str,
    found: Vec<PlanFault>,
}

impl<'s> Faults<'s> {
    pub(super) const fn of(source: &'s str) -> Self {
        Self {
            source,
            found: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, path: &str, span: Range<usize>, problem: Problem) {
        let (line, column) = self.place(span.start);
        let text = self.source.get(span).unwrap_or_default();
        self.found.push(PlanFault {
            line,
            column,
            path: path.to_owned(),
            value: shorten(text),
            problem: problem.problem,
            allowed: problem.allowed,
            did_you_mean: problem.did_you_mean,
            warning: problem.warning,
        });
    }

    /// Errors as `Err`; else the warnings. In the order of the file.
    pub(super) fn finish(mut self) -> Result<Vec<PlanFault>, Vec<PlanFault>> {
        self.found
            .sort_by(|a, b| (a.line, a.column, &a.path).cmp(&(b.line, b.column, &b.path)));
        if self.found.iter().all(|fault| fault.warning) {
            Ok(self.found)
        } else {
            Err(self.found)
        }
    }

    fn place(&self, offset: usize) -> (u32, u32) {
        let before = self.source.get(..offset).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before[start..].chars().count() + 1;
        let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        (narrow(line), narrow(column))
    }
}

/// The first line of `text`, cut to [`VALUE_MAX_CHARS`].
fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(VALUE_MAX_CHARS).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}
