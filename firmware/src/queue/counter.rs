//! Epoch, boot and sequence: the names of records.
//!
//! The boot is durable before the first record is numbered, so a key is never used twice. When the
//! counter area is blank or damaged beyond use, or cannot be written, a fresh random epoch begins:
//! keys stay unique even on a device whose flash has died. Counters refuse to wrap.

use protocol::key::{Boot, Epoch, RecordKey, Seq};

use crate::port::{Entropy, Flash, Page};
use crate::slot::Slot;

/// Where the counters live.
const PAGES: [Page; 2] = [Page::CounterA, Page::CounterB];

/// Numbers the records of one boot.
#[derive(Clone, Debug)]
pub struct Counter {
    epoch: Epoch,
    boot: Boot,
    /// Nothing once the last number is used.
    next: Option<Seq>,
    previous_last: Option<Seq>,
    durable: bool,
    slot: Slot,
}

/// What is kept: 16 bytes, little-endian: epoch, boot, number of records used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    epoch: Epoch,
    boot: Boot,
    used: u32,
}

impl Counter {
    /// Begin a boot, and make it durable.
    pub fn start<B: Flash + Entropy>(board: &mut B) -> Self {
        let (slot, found) = Slot::open(PAGES, board);
        let kept = found.value.as_deref().and_then(Kept::decode);
        // A damaged page may have held the newest counters, one boot ahead of those found.
        let step = if found.damaged { 2 } else { 1 };
        let boot = kept.and_then(|kept| kept.boot.0.checked_add(step));
        let mut counter = Self {
            epoch: Epoch(0),
            boot: Boot(0),
            next: Some(Seq(0)),
            previous_last: None,
            durable: false,
            slot,
        };
        match (kept, boot) {
            (Some(kept), Some(boot)) => {
                counter.epoch = kept.epoch;
                counter.boot = Boot(boot);
                counter.previous_last = kept.used.checked_sub(1).map(Seq);
            }
            _ => counter.epoch = Epoch(board.random()),
        }
        counter.durable = counter.keep(board);
        if !counter.durable {
            counter.epoch = Epoch(board.random());
            counter.boot = Boot(0);
            counter.previous_last = None;
        }
        counter
    }

    /// The next number, or nothing when all are used.
    pub fn take(&mut self) -> Option<Seq> {
        let seq = self.next?;
        self.next = seq.0.checked_add(1).map(Seq);
        Some(seq)
    }

    /// The number the next record will get.
    #[must_use]
    pub fn upcoming(&self) -> Seq {
        self.next.unwrap_or(Seq(u32::MAX))
    }

    /// The full key of a number of this boot.
    #[must_use]
    pub const fn key(&self, seq: Seq) -> RecordKey {
        RecordKey {
            epoch: self.epoch,
            boot: self.boot,
            seq,
        }
    }

    /// Last number the previous boot is known to have used: of its last checkpoint.
    #[must_use]
    pub const fn previous_last(&self) -> Option<Seq> {
        self.previous_last
    }

    /// Epoch in use.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Boot in use.
    #[must_use]
    pub const fn boot(&self) -> Boot {
        self.boot
    }

    /// Whether the boot survives a power cut; else the epoch is a throw-away.
    #[must_use]
    pub const fn is_durable(&self) -> bool {
        self.durable
    }

    /// Keep how many numbers are used, for the next boot's record.
    pub fn checkpoint<F: Flash>(&mut self, flash: &mut F) {
        if self.durable {
            // A failure here costs precision of the next boot record, nothing else.
            let _ = self.keep(flash);
        }
    }

    fn keep<F: Flash>(&mut self, flash: &mut F) -> bool {
        let kept = Kept {
            epoch: self.epoch,
            boot: self.boot,
            used: self.upcoming().0,
        };
        self.slot.write(&kept.encode(), flash)
    }
}

impl Kept {
    fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.boot.0.to_le_bytes());
        bytes[12..].copy_from_slice(&self.used.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (epoch, rest) = bytes.split_first_chunk()?;
        let (boot, rest) = rest.split_first_chunk()?;
        Some(Self {
            epoch: Epoch(u64::from_le_bytes(*epoch)),
            boot: Boot(u32::from_le_bytes(*boot)),
            used: u32::from_le_bytes(rest.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::FlashError;
    use crate::slot::tests::MemoryFlash;

    struct Board {
        flash: MemoryFlash,
        random: u64,
    }

    impl Flash for Board {
        fn read(&mut self, page: Page, buffer: &mut [u8]) -> Result<(), FlashError> {
            self.flash.read(page, buffer)
        }
        fn erase(&mut self, page: Page) -> Result<(), FlashError> {
            self.flash.erase(page)
        }
        fn write(&mut self, page: Page, bytes: &[u8]) -> Result<(), FlashError> {
            self.flash.write(page, bytes)
        }
    }

    impl Entropy for Board {
        fn random(&mut self) -> u64 {
            self.random += 1;
            self.random
        }
    }

    fn board() -> Board {
        Board {
            flash: MemoryFlash::blank(),
            random: 100,
        }
    }

    #[test]
    fn a_blank_area_begins_a_random_epoch_and_later_boots_count_up() {
        let mut board = board();
        let first = Counter::start(&mut board);
        assert_eq!((first.epoch(), first.boot()), (Epoch(101), Boot(0)));
        assert_eq!(first.previous_last(), None);
        let second = Counter::start(&mut board);
        assert_eq!((second.epoch(), second.boot()), (Epoch(101), Boot(1)));
    }

    #[test]
    fn the_previous_boots_last_number_is_that_of_its_checkpoint() {
        let mut board = board();
        let mut counter = Counter::start(&mut board);
        assert_eq!(
            [counter.take(), counter.take()],
            [Some(Seq(0)), Some(Seq(1))]
        );
        counter.checkpoint(&mut board);
        counter.take();
        let next = Counter::start(&mut board);
        assert_eq!(next.previous_last(), Some(Seq(1)));
        assert_eq!(Counter::start(&mut board).previous_last(), None);
    }

    #[test]
    fn a_power_cut_while_the_boot_is_written_never_lets_a_used_boot_come_again() {
        for budget in 0..60 {
            let mut board = board();
            let used = [Counter::start(&mut board), Counter::start(&mut board)];
            board.flash.budget = budget;
            let cut = Counter::start(&mut board);
            board.flash.budget = usize::MAX;
            let next = Counter::start(&mut board);
            for earlier in used.iter().chain([&cut]) {
                let same = earlier.epoch() == next.epoch() && earlier.boot() >= next.boot();
                assert!(!same, "budget {budget}: {earlier:?} {next:?}");
            }
        }
    }

    #[test]
    fn counters_refuse_to_wrap() {
        let mut board = board();
        let mut counter = Counter::start(&mut board);
        counter.next = Some(Seq(u32::MAX));
        assert_eq!(counter.take(), Some(Seq(u32::MAX)));
        assert_eq!(counter.take(), None);
        counter.boot = Boot(u32::MAX);
        counter.next = Some(Seq(5));
        counter.checkpoint(&mut board);
        let next = Counter::start(&mut board);
        assert_eq!(next.boot(), Boot(0));
        assert_ne!(next.epoch(), counter.epoch());
    }

    #[test]
    fn dead_flash_gives_a_throw_away_epoch_each_boot() {
        let mut board = board();
        board.flash.budget = 0;
        let (first, second) = (Counter::start(&mut board), Counter::start(&mut board));
        assert!(!first.is_durable() && !second.is_durable());
        assert_ne!(first.epoch(), second.epoch());
    }
}
