//! A bound on what one bad neighbour may write into the log.
//!
//! Who goes on doing the same wrong is told [`LINES_MAX`] times in a [`WINDOW`]; what is withheld is
//! counted and told with the next line about it, or when its window is over. The counters know every
//! case, whatever the log says.

use std::collections::BTreeMap;
use std::mem;
use std::time::{Duration, Instant};

/// How long lines of one key are counted together: a person who watches the log reads a minute at once.
pub const WINDOW: Duration = Duration::from_secs(60);

/// Most lines of one key in a window: enough to see that two cases differ.
pub const LINES_MAX: u32 = 5;

/// Most keys told apart; further ones share a window. Some 100 KiB.
pub const KEYS_MAX: usize = 1_024;

/// Decides which lines are written. `K` says who did what.
#[derive(Debug)]
pub struct Throttle<K> {
    known: BTreeMap<K, Window>,
    /// Of those who found the table full.
    others: Option<Window>,
    swept: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    began: Instant,
    lines: u32,
    withheld: u64,
}

impl<K> Default for Throttle<K> {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            others: None,
            swept: None,
        }
    }
}

impl<K: Ord + Clone> Throttle<K> {
    /// Whether a line about `key` may be written at `now`; if so, how many were withheld before it.
    pub fn ask(&mut self, key: &K, now: Instant) -> Option<u64> {
        if let Some(window) = self.known.get_mut(key) {
            return window.ask(now);
        }
        if self.known.len() < KEYS_MAX {
            let window = self.known.entry(key.clone());
            return window.or_insert(Window::beginning(now)).ask(now);
        }
        self.others.get_or_insert(Window::beginning(now)).ask(now)
    }

    /// Forgets the windows that are over, at most once a [`WINDOW`]. Returns whose lines were withheld in
    /// them and never told; `None` stands for those who found the table full.
    pub fn ended(&mut self, now: Instant) -> Vec<(Option<K>, u64)> {
        let swept = *self.swept.get_or_insert(now);
        if now.saturating_duration_since(swept) < WINDOW {
            return Vec::new();
        }
        self.swept = Some(now);
        let mut ended = Vec::new();
        for (key, window) in mem::take(&mut self.known) {
            if window.is_over(now) {
                ended.push((Some(key), window.withheld));
            } else {
                self.known.insert(key, window);
            }
        }
        if let Some(window) = self.others.take_if(|window| window.is_over(now)) {
            ended.push((None, window.withheld));
        }
        ended.retain(|(_, withheld)| *withheld > 0);
        ended
    }
}

impl Window {
    const fn beginning(now: Instant) -> Self {
        Self {
            began: now,
            lines: 0,
            withheld: 0,
        }
    }

    fn ask(&mut self, now: Instant) -> Option<u64> {
        if self.is_over(now) {
            let withheld = self.withheld;
            *self = Self::beginning(now);
            self.withheld = withheld;
        }
        if self.lines == LINES_MAX {
            self.withheld += 1;
            return None;
        }
        self.lines += 1;
        Some(mem::take(&mut self.withheld))
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any moment to reckon from")]
    fn moment() -> Instant {
        Instant::now()
    }

    #[test]
    fn lines_of_one_key_are_bounded_and_the_next_window_tells_what_was_withheld() {
        let mut throttle = Throttle::default();
        let now = moment();
        let said = (0..100).filter_map(|_| throttle.ask(&"t", now)).count();
        assert_eq!(said, LINES_MAX as usize);
        assert_eq!(throttle.ask(&"other", now), Some(0), "keys do not share");
        assert_eq!(throttle.ask(&"t", now + WINDOW), Some(95));
        assert_eq!(throttle.ask(&"t", now + WINDOW), Some(0));
    }

    #[test]
    fn what_was_withheld_of_a_key_that_fell_silent_is_told_once_when_its_window_is_over() {
        let mut throttle = Throttle::default();
        let now = moment();
        assert!(throttle.ended(now).is_empty());
        for _ in 0..=LINES_MAX {
            throttle.ask(&"loud", now);
        }
        throttle.ask(&"quiet", now);
        assert!(throttle.ended(now + WINDOW / 2).is_empty());
        assert_eq!(throttle.ended(now + WINDOW), [(Some("loud"), 1)]);
        assert!(throttle.ended(now + 2 * WINDOW).is_empty());
    }

    #[test]
    fn a_full_table_makes_newcomers_share_a_window_and_has_room_again_later() {
        let mut throttle = Throttle::default();
        let now = moment();
        throttle.ended(now);
        let keys = KEYS_MAX + 100;
        let said = (0..keys).filter_map(|key| throttle.ask(&key, now)).count();
        assert_eq!(said, KEYS_MAX + LINES_MAX as usize);
        assert_eq!(throttle.known.len(), KEYS_MAX);
        let rest = 100 - u64::from(LINES_MAX);
        assert_eq!(throttle.ended(now + WINDOW), [(None, rest)]);
        assert!(throttle.known.is_empty());
        assert_eq!(throttle.ask(&keys, now + WINDOW), Some(0));
    }
}
