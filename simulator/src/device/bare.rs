//! A board without sensors: a tracker that knows nothing but its satellite receiver.

use firmware::port::{ClockChip, Entropy, Flash, FlashError, Page, Sample, Sensors};
use protocol::units::{UptimeMs, UtcMs};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;

use super::board::FlashMemory;

/// Flash and entropy, no sensors.
#[derive(Debug)]
pub struct BareBoard {
    flash: FlashMemory,
    entropy: Pcg64,
}

impl BareBoard {
    /// A board with erased flash.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            flash: FlashMemory::in_memory(),
            entropy: Pcg64::seed_from_u64(seed),
        }
    }
}

impl Sensors for BareBoard {
    fn sample(&mut self, _now: UptimeMs) -> Sample {
        Sample::NOTHING_FITTED
    }
}

impl Flash for BareBoard {
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

impl Entropy for BareBoard {
    fn random(&mut self) -> u64 {
        self.entropy.next_u64()
    }
}

impl ClockChip for BareBoard {
    fn utc(&mut self) -> Option<UtcMs> {
        None
    }
}
