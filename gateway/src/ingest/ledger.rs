//! Whether everything of a device is accounted for, from both ends.
//!
//! What came: received = stored + duplicate + contested + refused, counted as it came. What the device
//! numbered: known + lost + pending + unexplained, told by its sequence numbers, its loss records and the
//! oldest key it still holds. Nothing but a defect leaves anything unexplained for long.

use std::collections::HashMap;

use protocol::key::DeviceId;

use super::missing::{Missing, missing};
use crate::account::Book;
use crate::store::damage::{self, unreadable};
use crate::store::device::turned_away;
use crate::store::doubt::{self, Doubts};
use crate::store::seal;
use crate::store::seen::{self, BootId, Run};
use crate::store::{Batch, Store, StoreError, book};

/// Everything about one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// What came, and what became of it.
    pub book: Book,
    /// Keys that are known: stored, or contested.
    pub known: u64,
    /// Keys that are not.
    pub missing: Missing,
    /// What is stored and not believed.
    pub doubts: Doubts,
    /// What was turned away before it was received.
    pub turned_away: turned_away::Counts,
    /// Rows of the device that were damaged and set aside, by the letter of their kind.
    pub damaged: damage::Counts,
    /// Stored records that this version cannot read.
    pub unreadable: u64,
    /// Stored records that came too late for a sealed shipment, and keys contested after their seal.
    pub sealed_late: u64,
}

impl Ledger {
    /// Whether what came is explained, and every stored record has its key.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.book.balances() && self.book.stored == self.known
    }
}

/// The ledger of a device; `None` when nothing ever came of it.
///
/// # Errors
/// When the store cannot be read.
pub fn ledger(store: &Store, device: &DeviceId) -> Result<Option<Ledger>, StoreError> {
    let ledger = Ledger {
        book: book::of(store, device)?,
        known: known(store, device)?,
        missing: missing(store, device)?,
        doubts: doubt::of(store, device)?,
        turned_away: turned_away::of(store, device)?,
        damaged: damage::of(store, device)?,
        unreadable: unreadable::of(store, device)?,
        sealed_late: sealed_late(store, device)?,
    };
    Ok((ledger != Ledger::default()).then_some(ledger))
}

fn sealed_late(store: &Store, device: &DeviceId) -> Result<u64, StoreError> {
    let late = seal::late_of(store, device)?.into_iter();
    Ok(late.map(|(_, late)| late.records + late.contested).sum())
}

/// What a group that is open adds to the books of devices.
#[derive(Debug, Default)]
pub(super) struct Books(HashMap<DeviceId, Book>);

impl Books {
    /// Takes note of what a publication of `device` changed in the counters of the group.
    pub(super) fn note(&mut self, device: &DeviceId, before: &Book, after: &Book) {
        let change = after.since(before);
        if change != Book::default() {
            self.0.entry(device.clone()).or_default().add(&change);
        }
    }

    /// Writes the books of the devices concerned.
    pub(super) fn write(&self, store: &Store, batch: &mut Batch) -> Result<(), StoreError> {
        for (device, change) in &self.0 {
            let mut book = book::of(store, device)?;
            book.add(change);
            book::put(batch, device, &book)?;
        }
        Ok(())
    }
}

/// How many keys of a device were seen.
fn known(store: &Store, device: &DeviceId) -> Result<u64, StoreError> {
    let mut known = 0;
    let mut behind: Option<BootId> = None;
    while let Some(boot) = seen::next_boot(store, device, behind.as_ref())? {
        seen::each_run(store, &boot, |Run { first, last }| {
            known += u64::from(last.0) - u64::from(first.0) + 1;
        })?;
        behind = Some(boot);
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use protocol::batch::{BatchEncoder, BatchHeader};
    use protocol::key::{RecordKey, Seq};
    use protocol::reading::{Measured, Reading};
    use protocol::record::{BootRecord, Loss, LossReason, Numbered, Record, ResetCause};
    use protocol::topic::{Channel, Topic};
    use protocol::units::{CentiCelsius, UptimeMs, UtcMs};

    use super::*;
    use crate::account::Tally;
    use crate::ingest::admit::Admission;
    use crate::ingest::tests::fold;
    use crate::store::memory;

    /// Steps of one life: some hundred records, each with its own fate.
    const STEPS: u64 = 400;
    /// Lives, each of another seed.
    const SEEDS: u64 = 40;

    /// A small generator: the same seed gives the same life.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)) % bound
        }
    }

    /// A device, the way to the gateway, and the truth about every record.
    struct Life {
        dice: Dice,
        store: Store,
        admission: Admission,
        tally: Tally,
        device: DeviceId,
        epoch: u64,
        boot: u32,
        next: u32,
        queue: BTreeMap<RecordKey, Record>,
        delivered: BTreeMap<RecordKey, Record>,
        lost: BTreeSet<RecordKey>,
        vanished: BTreeSet<RecordKey>,
        sent: u64,
        contested: u64,
        junk: u64,
        /// Whether records vanish without a word: the control.
        leaks: bool,
    }

    impl Life {
        fn new(seed: u64, leaks: bool) -> Self {
            let store = memory::store();
            let mut life = Self {
                dice: Dice(seed),
                admission: Admission::open(&store).unwrap(),
                store,
                tally: Tally::default(),
                device: format!("t-{seed}").parse().unwrap(),
                epoch: 7,
                boot: 0,
                next: 0,
                queue: BTreeMap::new(),
                delivered: BTreeMap::new(),
                lost: BTreeSet::new(),
                vanished: BTreeSet::new(),
                sent: 0,
                contested: 0,
                junk: 0,
                leaks,
            };
            life.begin_boot(None);
            life
        }

        fn live(&mut self) {
            for _ in 0..STEPS {
                match self.dice.below(16) {
                    0..8 => self.sample(),
                    8..11 => self.send(true),
                    11 => self.send(false),
                    12 => self.overflow(),
                    13 => self.disturb(),
                    14 => self.contest(),
                    _ => self.leak(),
                }
            }
            self.drain();
            // One alone behind all others: nothing before it can be pending any more.
            self.sample();
            self.send(true);
        }

        fn write(&mut self, record: Record) {
            let key = RecordKey::new(self.epoch, self.boot, self.next);
            self.next += 1;
            self.queue.insert(key, record);
        }

        fn sample(&mut self) {
            let mut reading = Reading::empty(UptimeMs::saturating(i64::from(self.next) * 1_000));
            let celsius = i64::try_from(self.dice.below(1_000)).unwrap();
            reading.temperatures[0] = Measured::Value(CentiCelsius::saturating(celsius));
            self.write(Record::Reading(reading));
        }

        fn begin_boot(&mut self, previous_last: Option<Seq>) {
            self.next = 0;
            self.write(Record::Boot(BootRecord {
                uptime: UptimeMs::saturating(0),
                build_time: UtcMs::saturating(0),
                previous_last,
                cause: ResetCause::PowerOn,
                version: [1, 0, 0],
            }));
        }

        /// Sends some of the oldest boot's records; without an acknowledgement they stay queued.
        fn send(&mut self, acknowledged: bool) {
            let Some(oldest) = self.queue.keys().next().copied() else {
                return;
            };
            let of_boot = |key: &RecordKey| (key.epoch, key.boot) == (oldest.epoch, oldest.boot);
            let waiting: Vec<RecordKey> = self.queue.keys().copied().filter(of_boot).collect();
            let mut chosen: Vec<RecordKey> = waiting.into_iter().take(20).collect();
            // A second queue goes its own way: not always the oldest first.
            if chosen.len() > 3 && self.dice.below(3) == 0 {
                chosen.drain(..2);
            }
            let records: Vec<_> = chosen.iter().map(|key| (*key, self.queue[key])).collect();
            self.publish(oldest, &records);
            if acknowledged {
                self.queue.retain(|key, _| !chosen.contains(key));
            }
        }

        fn publish(&mut self, oldest: RecordKey, records: &[(RecordKey, Record)]) {
            let header = BatchHeader {
                epoch: records[0].0.epoch,
                boot: records[0].0.boot,
                oldest_pending: oldest,
            };
            let mut buffer = [0; 8_192];
            let mut encoder = BatchEncoder::new(&mut buffer, header).unwrap();
            for (key, record) in records {
                let (seq, record) = (key.seq, *record);
                encoder.push(&Numbered { seq, record }).unwrap();
            }
            let payload = encoder.finish().to_vec();
            self.admit(&payload);
            self.sent += records.len() as u64;
            self.delivered.extend(records.iter().copied());
        }

        fn admit(&mut self, payload: &[u8]) {
            self.admission.begin(UtcMs::saturating(0)).unwrap();
            let topic = Topic::new(self.device.clone(), Channel::Readings);
            self.admission.admit(&topic, payload, 1).unwrap();
            let sealed = self.admission.seal().unwrap();
            self.store.apply(sealed.batch).unwrap();
            self.tally.add(&sealed.tally);
            self.admission.settle(sealed.commit);
        }

        /// The queue is full: some of the oldest make room, and a loss record says so.
        fn overflow(&mut self) {
            let Some(first) = self.queue.keys().next().copied() else {
                return;
            };
            let of_boot = |key: &&RecordKey| (key.epoch, key.boot) == (first.epoch, first.boot);
            let most = 1 + usize::try_from(self.dice.below(6)).unwrap();
            let gone: Vec<RecordKey> = self
                .queue
                .keys()
                .filter(of_boot)
                .take(most)
                .copied()
                .collect();
            // What a loss record says survives: the device repeats it until it is stored.
            let fixed = |key: &RecordKey| !matches!(self.queue[key], Record::Reading(_));
            let came = |key: &RecordKey| self.delivered.contains_key(key);
            if gone.iter().any(fixed) || gone.iter().any(came) {
                return;
            }
            let last = gone[gone.len() - 1];
            self.queue.retain(|key, _| !gone.contains(key));
            self.write(Record::Loss(Loss {
                uptime: UptimeMs::saturating(0),
                first,
                last,
                count: u32::try_from(gone.len()).unwrap(),
                reason: LossReason::RoutineFull,
            }));
            self.lost.extend(gone);
        }

        /// The device starts anew, or the gateway does, or the fold catches up, or nonsense comes.
        fn disturb(&mut self) {
            match self.dice.below(5) {
                0 => {
                    let last = Seq(self.next - 1);
                    self.boot += 1;
                    self.begin_boot(Some(last));
                }
                1 => {
                    self.drain();
                    (self.epoch, self.boot) = (self.epoch + 1, 0);
                    self.begin_boot(None);
                }
                2 => self.admission = Admission::open(&self.store).unwrap(),
                3 => fold(&self.store),
                _ => {
                    self.junk += 1;
                    self.admit(b"nonsense");
                }
            }
        }

        /// A key that came comes again with another content.
        fn contest(&mut self) {
            let came: Vec<RecordKey> = self.delivered.keys().copied().collect();
            let Some(pick) = usize::try_from(self.dice.below(came.len().max(1) as u64)).ok() else {
                return;
            };
            let readings = came.get(pick).filter(|key| !self.queue.contains_key(key));
            let Some((key, Record::Reading(mut reading))) =
                readings.map(|key| (*key, self.delivered[key]))
            else {
                return;
            };
            reading.temperatures[1] = Measured::Value(CentiCelsius::saturating(9_999));
            let oldest = self.queue.keys().next().copied().unwrap_or(key);
            let before = self.delivered.clone();
            self.publish(oldest.min(key), &[(key, Record::Reading(reading))]);
            self.delivered = before;
            self.contested += 1;
        }

        fn leak(&mut self) {
            if !self.leaks {
                return;
            }
            let newest = self.queue.iter().next_back();
            if let Some((key, Record::Reading(_))) = newest.map(|(key, record)| (*key, *record))
                && !self.delivered.contains_key(&key)
            {
                self.queue.remove(&key);
                self.vanished.insert(key);
            }
        }

        fn drain(&mut self) {
            while !self.queue.is_empty() {
                self.send(true);
            }
        }

        fn ledger(&self) -> Ledger {
            ledger(&self.store, &self.device).unwrap().unwrap()
        }
    }

    #[test]
    fn a_device_that_accounts_for_what_it_loses_leaves_nothing_unexplained() {
        for seed in 0..SEEDS {
            let mut life = Life::new(seed, false);
            life.live();
            let ledger = life.ledger();
            assert!(ledger.balances(), "seed {seed}: {ledger:?}");
            assert_eq!(ledger.known, life.delivered.len() as u64, "seed {seed}");
            let missing = Missing {
                lost: life.lost.len() as u64,
                ..Missing::default()
            };
            assert_eq!(ledger.missing, missing, "seed {seed}");
            assert_eq!(ledger.book.received, life.sent + life.junk, "seed {seed}");
            assert_eq!(ledger.book.contested, life.contested, "seed {seed}");
            let refused: u64 = ledger.book.refused.values().sum();
            assert_eq!(refused, life.junk, "seed {seed}");
            assert_eq!(
                ledger.book, life.tally.records,
                "seed {seed}: one device is all"
            );
        }
    }

    #[test]
    fn a_record_that_vanished_without_a_word_is_unexplained() {
        let mut all = 0;
        for seed in 0..SEEDS {
            let mut life = Life::new(seed, true);
            life.live();
            let ledger = life.ledger();
            assert!(ledger.balances(), "seed {seed}: {ledger:?}");
            // A number at the end of an epoch that nothing behind it mentions is not known to exist.
            let unexplained = ledger.missing.unexplained;
            assert!(unexplained <= life.vanished.len() as u64, "seed {seed}");
            assert!(
                unexplained > 0 || life.vanished.len() < 3,
                "seed {seed}: {} vanished",
                life.vanished.len()
            );
            assert_eq!(ledger.missing.lost, life.lost.len() as u64, "seed {seed}");
            all += unexplained;
        }
        assert!(all > SEEDS, "{all}");
    }

    #[test]
    fn what_waits_on_the_device_is_pending() {
        for seed in 0..SEEDS {
            let mut life = Life::new(seed, false);
            for _ in 0..30 {
                life.sample();
            }
            let oldest = RecordKey::new(7, 0, 0);
            let sent: Vec<_> = [0, 5, 30]
                .map(|seq| RecordKey::new(7, 0, seq))
                .map(|key| (key, life.queue[&key]))
                .into();
            life.publish(oldest, &sent);
            let missing = Missing {
                pending: 28,
                ..Missing::default()
            };
            assert_eq!(life.ledger().missing, missing, "seed {seed}");
        }
    }

    #[test]
    fn a_device_that_was_never_heard_has_no_ledger() {
        let store = memory::store();
        assert_eq!(ledger(&store, &"t-0".parse().unwrap()).unwrap(), None);
    }
}
