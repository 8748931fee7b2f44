//! When the commits that the fold has not taken were applied.
//!
//! One mark stands for the commits of [`SPACING`]: they count as applied when the first of them was. So
//! the age told is that of the oldest waiting commit or up to the spacing more, never less. Not every
//! commit need be noted: of alarms only those that hold some are.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Commit;

/// Commits applied within this time share a mark: a tenth of the shortest lag that matters to people.
const SPACING: Duration = Duration::from_millis(100);

/// Most marks kept: 7 minutes of a fold that stands still, 100 KiB. Later commits share the last
/// mark, so beyond this the age is told too long, never too short.
const MARKS_MAX: usize = 4_096;

/// Marks of the commits that wait, oldest first.
#[derive(Debug, Default)]
pub(super) struct Behind {
    marks: VecDeque<Mark>,
}

/// Commits up to this one, from behind the mark before, were applied at this time or soon after.
#[derive(Debug)]
struct Mark {
    last: Commit,
    at: Instant,
}

impl Behind {
    /// A commit was applied.
    pub(super) fn applied(&mut self, commit: Commit, now: Instant) {
        let full = self.marks.len() >= MARKS_MAX;
        let shares = |mark: &&mut Mark| full || now.saturating_duration_since(mark.at) < SPACING;
        match self.marks.back_mut().filter(shares) {
            Some(mark) => mark.last = commit,
            None => self.marks.push_back(Mark {
                last: commit,
                at: now,
            }),
        }
    }

    /// The fold took every commit up to `taken`.
    pub(super) fn taken(&mut self, taken: Commit) {
        while self.marks.front().is_some_and(|mark| mark.last <= taken) {
            self.marks.pop_front();
        }
    }

    /// How long the oldest commit that the fold has not taken has been waiting.
    pub(super) fn age(&self, now: Instant) -> Duration {
        let oldest = self.marks.front();
        oldest.map_or(Duration::ZERO, |mark| {
            now.saturating_duration_since(mark.at)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic;

    /// Commits 1, 2, ... applied every `step`, from `begun` on.
    fn applied(begun: Instant, step: Duration, commits: u32) -> Behind {
        let mut behind = Behind::default();
        for number in 0..commits {
            behind.applied(Commit(u64::from(number) + 1), begun + step * number);
        }
        behind
    }

    #[test]
    fn the_age_is_that_of_the_oldest_commit_not_taken_however_late_one_asks() {
        let begun = monotonic();
        let second = Duration::from_secs(1);
        let mut behind = applied(begun, second, 10);
        let now = begun + second * 60;
        assert_eq!(behind.age(now), second * 60);
        behind.taken(Commit(4));
        assert_eq!(behind.age(now), second * 56);
        behind.taken(Commit(9));
        assert_eq!(behind.age(now), second * 51);
        behind.taken(Commit(10));
        assert_eq!(behind.age(now), Duration::ZERO);
    }

    #[test]
    fn commits_close_to_each_other_share_a_mark_and_the_age_is_never_too_short() {
        let begun = monotonic();
        let step = SPACING / 10;
        let mut behind = applied(begun, step, 100);
        assert_eq!(behind.marks.len(), 10);
        for folded in 0..99_u32 {
            behind.taken(Commit(u64::from(folded)));
            let true_age = step * (100 - folded);
            let told = behind.age(begun + step * 100);
            assert!(told >= true_age && told < true_age + SPACING, "{folded}");
        }
    }

    #[test]
    fn a_fold_that_stands_still_costs_bounded_memory_and_is_told_too_long() {
        let begun = monotonic();
        let commits = u32::try_from(MARKS_MAX).unwrap() + 50;
        let mut behind = applied(begun, SPACING, commits);
        assert_eq!(behind.marks.len(), MARKS_MAX);
        let newest = Commit(u64::from(commits));
        behind.taken(Commit(newest.0 - 1));
        assert_eq!(behind.age(begun + SPACING * commits), SPACING * 51);
    }
}
