//! How many bytes a device may send: so much at once, then so much a second. What is beyond waits in the network,
//! unread: nothing is lost, and one device's flood does not take the journal from the others.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::key::DeviceId;
use tokio::time::Instant;

/// What a device may send at once, in seconds of its rate: a tracker back from a tunnel is not slowed down.
const BURST_SECONDS: i64 = 4;

/// Devices whose spending is remembered after they went; of more than that, some start anew.
const REMEMBERED_MAX_DEVICES: usize = 4_096;

const MICROS_PER_SECOND: i128 = 1_000_000;

/// What one device may still send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    rate_bytes_per_s: i64,
    /// Below zero after a read that brought more than was left.
    left_bytes: i64,
    /// Until when `left_bytes` has been filled up.
    filled_at: Instant,
}

impl Budget {
    pub(crate) fn full(rate_bytes_per_s: NonZeroU32, now: Instant) -> Self {
        let rate_bytes_per_s = i64::from(rate_bytes_per_s.get());
        Self {
            rate_bytes_per_s,
            left_bytes: rate_bytes_per_s * BURST_SECONDS,
            filled_at: now,
        }
    }

    /// Take note of bytes that were read; until when no more should be.
    pub(crate) fn spend(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        self.fill(now);
        self.left_bytes = self
            .left_bytes
            .saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        if self.left_bytes > 0 {
            return None;
        }
        let lacking = i128::from(1 - self.left_bytes);
        let rate = i128::from(self.rate_bytes_per_s);
        let micros = (lacking * MICROS_PER_SECOND + rate - 1) / rate;
        Some(now + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }

    fn is_full(&self) -> bool {
        self.left_bytes >= self.rate_bytes_per_s * BURST_SECONDS
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled_at);
        let elapsed = i128::try_from(elapsed.as_micros()).unwrap_or(i128::MAX);
        let rate = i128::from(self.rate_bytes_per_s);
        let added = elapsed.saturating_mul(rate) / MICROS_PER_SECOND;
        let filled = i128::from(self.left_bytes).saturating_add(added);
        let most = self.rate_bytes_per_s * BURST_SECONDS;
        self.left_bytes = i64::try_from(filled).unwrap_or(most).min(most);
        if self.is_full() {
            self.filled_at = now;
        } else {
            // Fractions of a byte gather until they are one.
            let micros = u64::try_from(added * MICROS_PER_SECOND / rate).unwrap_or(0);
            self.filled_at += Duration::from_micros(micros);
        }
    }
}

/// The budgets of devices that went before they were full again: a new connection goes on with the old budget.
#[derive(Debug)]
pub(crate) struct Budgets {
    rate_bytes_per_s: NonZeroU32,
    remembered: Mutex<HashMap<DeviceId, Budget>>,
}

impl Budgets {
    pub(crate) fn new(rate_bytes_per_s: NonZeroU32) -> Self {
        let remembered = Mutex::default();
        Self {
            rate_bytes_per_s,
            remembered,
        }
    }

    /// What a device that connects may send.
    pub(crate) fn take(&self, device: &DeviceId, now: Instant) -> Budget {
        let before = self.lock().remove(device);
        before.unwrap_or_else(|| Budget::full(self.rate_bytes_per_s, now))
    }

    /// Remember what a device that goes has left.
    pub(crate) fn remember(&self, device: &DeviceId, mut budget: Budget, now: Instant) {
        budget.fill(now);
        if budget.is_full() {
            return;
        }
        let mut remembered = self.lock();
        if remembered.len() >= REMEMBERED_MAX_DEVICES {
            remembered.retain(|_, budget| {
                budget.fill(now);
                !budget.is_full()
            });
        }
        if remembered.len() < REMEMBERED_MAX_DEVICES {
            remembered.insert(device.clone(), budget);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, Budget>> {
        // Counts: a panic while they were held left them whole.
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: NonZeroU32 = NonZeroU32::new(1_000).unwrap();

    fn device(name: &str) -> DeviceId {
        name.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_through_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut budget = Budget::full(RATE, start);
        assert_eq!(budget.spend(3_999, start), None);
        let until = budget.spend(2_000, start).unwrap();
        // 1,999 bytes too many, and one to go on.
        assert_eq!(until - start, Duration::from_secs(2));
        assert_eq!(budget.spend(0, until), None);
        let until = budget.spend(1, until).unwrap();
        assert_eq!(until - start, Duration::from_millis(2_001));
        let later = start + Duration::from_secs(3_600);
        assert_eq!(
            budget.spend(3_999, later),
            None,
            "no more than a burst is saved up"
        );
        assert!(budget.spend(1, later).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn many_small_looks_give_no_less_than_one_long_one() {
        let start = Instant::now();
        let mut budget = Budget::full(RATE, start);
        budget.spend(5_000, start);
        for step in 1..=10_000 {
            budget.fill(start + Duration::from_micros(250 * step));
        }
        assert!((1_490..=1_500).contains(&budget.left_bytes), "{budget:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_goes_on_with_what_the_old_one_left() {
        let start = Instant::now();
        let budgets = Budgets::new(RATE);
        let mut budget = budgets.take(&device("t-1"), start);
        budget.spend(6_000, start);
        budgets.remember(&device("t-1"), budget, start);
        assert_eq!(budgets.take(&device("t-1"), start).left_bytes, -2_000);
        budgets.remember(&device("t-1"), budget, start + Duration::from_secs(6));
        let again = budgets.take(&device("t-1"), start);
        assert_eq!(again.left_bytes, 4_000, "full again, so nothing was kept");
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_are_remembered_and_full_ones_make_room() {
        let start = Instant::now();
        let budgets = Budgets::new(RATE);
        let mut budget = Budget::full(RATE, start);
        budget.spend(10, start);
        for index in 0..=REMEMBERED_MAX_DEVICES {
            budgets.remember(&device(&format!("t-{index}")), budget, start);
        }
        assert_eq!(budgets.lock().len(), REMEMBERED_MAX_DEVICES);
        let later = start + Duration::from_secs(1);
        let mut fresh = Budget::full(RATE, later);
        fresh.spend(10, later);
        budgets.remember(&device("late"), fresh, later);
        assert_eq!(budgets.lock().len(), 1);
    }
}
