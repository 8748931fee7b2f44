//! Whether the gateway's clock can be believed enough to seal by it.
//!
//! A seal cannot be taken back, and it goes by the gateway's clock. One that jumps (a battery that died, a
//! year typed wrong) or a gateway that was off for long must not seal at once what its trackers are about to
//! tell: after a gap between two looks sealing rests for a day in which the clock goes on evenly.

use serde::{Deserialize, Serialize};

use crate::store::table::{self, Table};
use crate::store::{Batch, Store, StoreError};

/// Event time between two looks for what is to be sealed, in milliseconds: a minute, seldom enough to cost
/// nothing and often enough that a month is not missed by more.
const LOOK_EVERY_MS: i64 = 60_000;

/// A longer time between two looks, or one that runs backwards, is a gap, in milliseconds: an hour, within which
/// a gateway is restarted or updated.
const GAP_MS: i64 = 3_600_000;

/// How long sealing rests after a gap, in milliseconds: a day for trackers to hand in what they kept, and for
/// people to mend the clock.
const REST_MS: i64 = 86_400_000;

/// Name of the row that holds the newest look.
const LOOK_ROW: &str = "seal_look";

/// One look for what is to be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Look {
    /// Gateway's event time, milliseconds since 1970.
    at_ms: i64,
    /// Nothing is sealed before.
    rest_until_ms: i64,
}

impl Look {
    /// The newest look of this store.
    pub(super) fn load(store: &Store) -> Result<Option<Self>, StoreError> {
        table::value(store, Table::Meta, LOOK_ROW)
    }

    /// The look at `now_ms` behind another; `None` when it is too early for one.
    pub(super) const fn next(before: Option<Self>, now_ms: i64) -> Option<Self> {
        let rested = Self {
            at_ms: now_ms,
            rest_until_ms: now_ms.saturating_add(REST_MS),
        };
        let Some(before) = before else {
            return Some(rested);
        };
        match now_ms.saturating_sub(before.at_ms) {
            0..LOOK_EVERY_MS => None,
            LOOK_EVERY_MS..=GAP_MS => Some(Self {
                at_ms: now_ms,
                ..before
            }),
            _ => Some(rested),
        }
    }

    /// Whether the clock has gone on evenly for long enough.
    pub(super) const fn is_steady(&self) -> bool {
        self.at_ms >= self.rest_until_ms
    }

    /// Remember it.
    pub(super) fn keep(&self, store: &Store) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        table::put(&mut batch, Table::Meta, LOOK_ROW, self)?;
        store.apply(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    /// Looks at these hours; whether each is steady, `None` where there was none.
    fn looks(hours: &[i64]) -> Vec<Option<bool>> {
        let mut last = None;
        let look = |hour: &i64| {
            let look = Look::next(last, hour * HOUR_MS)?;
            last = Some(look);
            Some(look.is_steady())
        };
        hours.iter().map(look).collect()
    }

    #[test]
    fn a_clock_is_believed_after_a_day_without_a_jump() {
        let day: Vec<i64> = (0..=24).collect();
        let told = looks(&day);
        assert!(told[..24].iter().all(|steady| *steady == Some(false)));
        assert_eq!(told[24], Some(true));
        // A jump ahead, and one back.
        let mut jumped = day.clone();
        jumped.extend([24 + 800, 24 + 801]);
        assert_eq!(looks(&jumped)[25..], [Some(false); 2]);
        let mut back = day;
        back.extend([3, 4]);
        assert_eq!(looks(&back)[25..], [Some(false); 2]);
    }

    #[test]
    fn a_look_within_a_minute_of_the_last_is_none() {
        let first = Look::next(None, 0).unwrap();
        assert_eq!(Look::next(Some(first), LOOK_EVERY_MS - 1), None);
        assert!(Look::next(Some(first), LOOK_EVERY_MS).is_some());
    }
}
