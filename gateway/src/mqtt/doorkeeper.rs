//! What peers may cost that never become devices, or stop behaving like one.
//!
//! Every connection that goes wrong by its peer's fault costs processor time: microseconds without TLS, more than a
//! millisecond with it. So many failures a second are served from one address, so many from all addresses together,
//! each after a burst of [`BURST`]. An address that has spent half of its burst is in doubt: its new connections wait
//! unread for their turn, and where the wait would be longer than [`WAIT_MAX`] they are closed unread. A connection that
//! turns out well gives its turn back. Who is connected already, and who comes from an address that has not failed
//! lately, notices nothing of it.
//!
//! ```text
//! debt (time that the failures so far take at the rate allowed)
//!   0 .......... BURST/2 ............ BURST ............ BURST + WAIT_MAX
//!     come in     come in, a turn      wait for a turn   closed unread
//!                 taken beforehand
//! ```

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::address::counted_as;

/// Failures served at once, as time at the rate allowed: a fleet whose secrets were just replaced finds out at once,
/// and over TLS this many seconds of the default rate take less than one second of a core.
const BURST: Duration = Duration::from_secs(10);

/// Longest wait of a connection for its turn: clients give up after 5 s without CONNACK or later. Once an address has
/// stopped failing, nobody there waits longer.
const WAIT_MAX: Duration = Duration::from_secs(3);

/// How long an address is remembered after its last failure: by then it owes nothing, whatever it did.
const REMEMBERED: Duration = BURST.saturating_add(WAIT_MAX);

/// Addresses remembered at once. Of more than that, further ones share one budget. An entry has 64 B.
const ADDRESSES_MAX: usize = 4_096;

/// How often a full table is searched for addresses to forget: a search takes some 10 us.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Decides who comes in by how their addresses have behaved.
#[derive(Debug)]
pub(crate) struct Doorkeeper {
    book: Mutex<Book>,
    /// Of one address: time that a failure takes at the rate allowed.
    each: Duration,
    /// Of all addresses together.
    of_all: Duration,
}

#[derive(Debug)]
struct Book {
    addresses: HashMap<IpAddr, Record>,
    /// Of the addresses that found the table full.
    others: Record,
    all: Debt,
    sweep_at: Instant,
}

/// How an address has behaved.
#[derive(Clone, Copy, Debug)]
struct Record {
    debt: Debt,
    failed_at: Instant,
}

/// What was failed and has not been worked off: until when it takes to work it off.
#[derive(Clone, Copy, Debug)]
struct Debt(Instant);

/// A connection of which it is not known yet how it turns out.
#[derive(Debug)]
pub(crate) struct Trial {
    doorkeeper: Arc<Doorkeeper>,
    address: IpAddr,
    /// Whether its failure is in its address's debt already.
    taken: bool,
    /// Whether it is in that of all.
    taken_of_all: bool,
    /// Until when it waits, unread.
    pub(crate) waits_until: Option<Instant>,
}

impl Doorkeeper {
    /// At most so many failures a second.
    pub(crate) fn new(each_per_s: NonZeroU32, all_per_s: NonZeroU32, now: Instant) -> Self {
        let second = Duration::from_secs(1);
        let settled = Debt(now);
        let book = Book {
            addresses: HashMap::new(),
            others: Record {
                debt: settled,
                failed_at: now,
            },
            all: settled,
            sweep_at: now,
        };
        Self {
            book: Mutex::new(book),
            each: second / each_per_s.get(),
            of_all: second / all_per_s.get(),
        }
    }

    /// Whether a connection from `peer` comes in, and when; `None` when it is to be closed unread.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr, now: Instant) -> Option<Trial> {
        let mut trial = Trial {
            doorkeeper: Arc::clone(self),
            address: counted_as(peer),
            taken: false,
            taken_of_all: false,
            waits_until: None,
        };
        let mut book = self.lock();
        let all = book.all;
        let Some(record) = book.record(trial.address, now) else {
            return Some(trial);
        };
        trial.taken = record.debt.is_doubtful(now);
        trial.taken_of_all = all.is_doubtful(now);
        let each = if trial.taken {
            self.each
        } else {
            Duration::ZERO
        };
        let of_all = if trial.taken_of_all {
            self.of_all
        } else {
            Duration::ZERO
        };
        let wait = record.debt.wait(each, now).max(all.wait(of_all, now));
        if wait > WAIT_MAX {
            return None;
        }
        record.debt.grow(each, now);
        book.all.grow(of_all, now);
        trial.waits_until = (!wait.is_zero()).then(|| now + wait);
        Some(trial)
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        // Times: a panic while they were held left them whole.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// What is known of an address that has failed lately.
    fn record(&mut self, address: IpAddr, now: Instant) -> Option<&mut Record> {
        self.forget(now);
        let full = self.addresses.len() >= ADDRESSES_MAX;
        match self.addresses.get_mut(&address) {
            Some(record) => Some(record).filter(|record| !record.is_over(now)),
            None => full.then_some(&mut self.others),
        }
    }

    /// The record of an address that fails now.
    fn charged(&mut self, address: IpAddr, now: Instant) -> &mut Record {
        self.forget(now);
        if self.addresses.len() >= ADDRESSES_MAX && !self.addresses.contains_key(&address) {
            return &mut self.others;
        }
        let clean = Record {
            debt: Debt(now),
            failed_at: now,
        };
        self.addresses.entry(address).or_insert(clean)
    }

    /// Make room in a full table.
    fn forget(&mut self, now: Instant) {
        if self.addresses.len() >= ADDRESSES_MAX && self.sweep_at <= now {
            self.addresses.retain(|_, record| !record.is_over(now));
            self.sweep_at = now + SWEEP_INTERVAL;
        }
    }
}

impl Record {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.failed_at) >= REMEMBERED
    }
}

impl Debt {
    fn at(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }

    fn is_doubtful(self, now: Instant) -> bool {
        self.at(now) >= BURST / 2
    }

    /// How long one more that takes `cost` has to wait; one that takes nothing does not.
    fn wait(self, cost: Duration, now: Instant) -> Duration {
        if cost.is_zero() {
            return Duration::ZERO;
        }
        (self.at(now) + cost).saturating_sub(BURST)
    }

    /// No more than can be worked off by the time that the last who may wait has its turn.
    fn grow(&mut self, cost: Duration, now: Instant) {
        self.0 = (self.0.max(now) + cost).min(now + REMEMBERED);
    }

    fn shrink(&mut self, cost: Duration, now: Instant) {
        self.0 = self.0.checked_sub(cost).unwrap_or(now);
    }
}

impl Trial {
    /// The peer is a device: the turn goes to another.
    pub(crate) fn passed(&mut self, now: Instant) {
        let Self {
            doorkeeper,
            address,
            ..
        } = &*self;
        if !self.taken && !self.taken_of_all {
            return;
        }
        let mut book = doorkeeper.lock();
        if self.taken
            && let Some(record) = book.record(*address, now)
        {
            record.debt.shrink(doorkeeper.each, now);
        }
        if self.taken_of_all {
            book.all.shrink(doorkeeper.of_all, now);
        }
        drop(book);
        (self.taken, self.taken_of_all) = (false, false);
    }

    /// The peer is none, or behaves as no device does.
    pub(crate) fn failed(self, now: Instant) {
        let mut book = self.doorkeeper.lock();
        let record = book.charged(self.address, now);
        record.failed_at = now;
        if !self.taken {
            record.debt.grow(self.doorkeeper.each, now);
        }
        if !self.taken_of_all {
            book.all.grow(self.doorkeeper.of_all, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const EACH: u32 = 50;
    const ALL: u32 = 200;
    const HOME: &str = "192.0.2.1";

    /// Doors and a clock that stands until it is told to go on.
    struct Rig {
        doorkeeper: Arc<Doorkeeper>,
        now: Instant,
    }

    impl Rig {
        fn new() -> Self {
            let now = Instant::now();
            let rate = |per_s| NonZeroU32::new(per_s).unwrap();
            let doorkeeper = Arc::new(Doorkeeper::new(rate(EACH), rate(ALL), now));
            Self { doorkeeper, now }
        }

        fn knock(&self, peer: &str) -> Option<Trial> {
            self.doorkeeper.admit(peer.parse().unwrap(), self.now)
        }

        /// Whether the peer came in at all.
        fn fail(&self, peer: &str) -> bool {
            let trial = self.knock(peer);
            let came = trial.is_some();
            trial.into_iter().for_each(|trial| {
                let at = trial.waits_until.unwrap_or(self.now);
                trial.failed(at);
            });
            came
        }

        fn wait(&mut self, millis: u64) {
            self.now += Duration::from_millis(millis);
        }
    }

    #[test]
    fn an_address_that_only_fails_costs_its_burst_and_then_its_rate() {
        let mut rig = Rig::new();
        let at_once = (0..10_000).filter(|_| rig.fail(HOME)).count();
        let allowed = EACH as usize * (BURST + WAIT_MAX).as_secs() as usize;
        assert_eq!(at_once, allowed, "the burst, and those who wait");
        let mut later = 0;
        for _ in 0..1_000 {
            rig.wait(10);
            later += (0..100).filter(|_| rig.fail(HOME)).count();
        }
        let rate = EACH as usize * 10;
        assert!((rate - 1..=rate + 1).contains(&later), "{later} in 10 s");
    }

    #[test]
    fn who_waits_waits_for_its_turn_and_no_longer_than_said() {
        let rig = Rig::new();
        let waits: Vec<_> = (0..10_000)
            .filter_map(|_| {
                rig.knock(HOME).map(|trial| {
                    let until = trial.waits_until;
                    trial.failed(rig.now);
                    until
                })
            })
            .flatten()
            .map(|until| until - rig.now)
            .collect();
        assert!(waits.is_sorted(), "{waits:?}");
        assert_eq!(waits.len(), EACH as usize * WAIT_MAX.as_secs() as usize);
        assert_eq!(waits.last(), Some(&WAIT_MAX));
    }

    #[test]
    fn another_address_notices_nothing_and_devices_that_all_come_back_at_once_neither() {
        let rig = Rig::new();
        while rig.fail(HOME) {}
        let came: Vec<_> = (0..12_000)
            .map(|_| rig.knock("192.0.2.2").unwrap())
            .collect();
        assert!(came.iter().all(|trial| trial.waits_until.is_none()));
        let home: Vec<_> = (0..12_000).map(|_| Rig::new().knock(HOME)).collect();
        assert!(
            home.iter()
                .flatten()
                .all(|trial| trial.waits_until.is_none())
        );
    }

    #[test]
    fn a_fleet_behind_an_address_comes_back_at_once_although_some_of_it_fail() {
        let rig = Rig::new();
        (0..EACH * 4).for_each(|_| assert!(rig.fail(HOME)));
        let came: Vec<_> = (0..1_000).map(|_| rig.knock(HOME).unwrap()).collect();
        assert!(came.iter().all(|trial| trial.waits_until.is_none()));
    }

    #[test]
    fn a_turn_that_is_given_back_is_for_the_next() {
        let mut rig = Rig::new();
        while rig.fail(HOME) {}
        rig.wait(6_000);
        for _ in 0..10_000 {
            let mut trial = rig.knock(HOME).unwrap();
            assert!(trial.waits_until.is_none() && trial.taken);
            trial.passed(rig.now);
        }
    }

    #[test]
    fn an_address_that_has_stopped_failing_is_open_again_after_three_seconds_at_most() {
        let mut rig = Rig::new();
        let crowd: Vec<_> = (0..12_000).map(|_| rig.knock(HOME).unwrap()).collect();
        crowd.into_iter().for_each(|trial| trial.failed(rig.now));
        assert!(rig.knock(HOME).is_none());
        rig.wait(100);
        assert!(
            rig.knock(HOME)
                .is_some_and(|trial| trial.waits_until.is_some())
        );
        rig.wait(3_000);
        assert!(
            rig.knock(HOME)
                .is_some_and(|trial| trial.waits_until.is_none())
        );
    }

    #[test]
    fn many_addresses_together_cost_no_more_than_all_may() {
        let mut rig = Rig::new();
        let peers: Vec<_> = (0..1_000)
            .map(|host| format!("10.0.{}.{}", host / 250, host % 250))
            .collect();
        let round = |rig: &Rig| peers.iter().filter(|peer| rig.fail(peer)).count();
        let first = (0..20).map(|_| round(&rig)).sum::<usize>();
        // Every address comes in once before it is known.
        let allowed = ALL as usize * (BURST + WAIT_MAX).as_secs() as usize + peers.len();
        assert!(first <= allowed, "{first}");
        let mut later = 0;
        for _ in 0..100 {
            rig.wait(100);
            later += round(&rig);
        }
        let rate = ALL as usize * 10;
        assert!(later <= rate + ALL as usize, "{later} in 10 s");
        assert!(
            rig.knock(HOME)
                .is_some_and(|trial| trial.waits_until.is_none())
        );
    }

    #[test]
    fn a_table_that_is_full_makes_newcomers_share_and_has_room_again_later() {
        let mut rig = Rig::new();
        let peer = |host: usize| format!("2001:db8:{host:x}::1");
        for host in 0..3 * ADDRESSES_MAX {
            rig.fail(&peer(host));
        }
        assert_eq!(rig.doorkeeper.lock().addresses.len(), ADDRESSES_MAX);
        assert!(
            rig.knock(HOME).is_none(),
            "the others have used up what they share"
        );
        rig.wait(16_000);
        assert!(
            rig.knock(HOME)
                .is_some_and(|trial| trial.waits_until.is_none())
        );
        assert!(rig.doorkeeper.lock().addresses.is_empty());
    }

    /// 1,000 trackers behind one router have the wrong secret and come again every five seconds. Healthy ones, which
    /// do the same until they are in, come in whenever they begin.
    #[test]
    fn a_healthy_device_behind_the_address_of_a_misled_fleet_comes_in_before_long() {
        let mut rig = Rig::new();
        let start = rig.now;
        // When who comes next, in milliseconds; the healthy ones are those above 1,000.
        let mut due: BTreeSet<(u64, u64)> =
            (0..MISLED).map(|device| (device * 5, device)).collect();
        let begins_ms = |device: u64| 30_000 + (device - MISLED) * 997;
        due.extend((MISLED..MISLED + 40).map(|device| (begins_ms(device), device)));
        let mut took_ms = Vec::new();
        while took_ms.len() < 40 {
            let (at_ms, device) = due.pop_first().unwrap();
            assert!(at_ms < 300_000, "{took_ms:?}");
            rig.now = start + Duration::from_millis(at_ms);
            let trial = rig.knock(HOME);
            let turn = trial
                .as_ref()
                .and_then(|trial| trial.waits_until)
                .unwrap_or(rig.now);
            let turn_ms = u64::try_from((turn - start).as_millis()).unwrap();
            match trial {
                Some(mut trial) if device >= MISLED => {
                    trial.passed(turn);
                    took_ms.push(turn_ms - begins_ms(device));
                    continue;
                }
                Some(trial) => trial.failed(rig.now),
                None => {}
            }
            // No clock is as good as to come after the same time to the millisecond.
            due.insert((
                turn_ms + RETRY_MS + scattered(device << 32 | at_ms) % 500,
                device,
            ));
        }
        took_ms.sort_unstable();
        assert!(
            took_ms[20] <= 20_000 && took_ms[39] <= 60_000,
            "{took_ms:?}"
        );
    }

    /// The mixing step of `splitmix64`.
    fn scattered(number: u64) -> u64 {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    const MISLED: u64 = 1_000;
    const RETRY_MS: u64 = 5_000;
}
