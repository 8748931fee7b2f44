//! What tests of this crate share: moments, noise, records.

use protocol::key::{Boot, Epoch};
use protocol::units::UtcMs;

use crate::event::TimeQuality;
use crate::timeline::{Dated, Stamp};

/// Universal time of uptime 0 in tests: 2026-03-02T00:00:00Z.
pub(crate) const START_MS: i64 = 1_772_409_600_000;

/// The moment `s` seconds after [`START_MS`], in boot 1 of epoch 1.
pub(crate) fn stamp(s: i64) -> Stamp {
    Stamp {
        epoch: Epoch(1),
        boot: Boot(1),
        uptime_ms: s * 1_000,
        dated: Dated {
            at: UtcMs::saturating(START_MS + s * 1_000),
            quality: TimeQuality::Anchored,
            uncertainty_ms: 50,
        },
    }
}

/// A small deterministic source of numbers (SplitMix64).
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Even between 0 and 1.
    pub(crate) fn unit(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double")]
        let unit = (self.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        unit
    }

    /// Of mean 0 and deviation 1, by the sum of twelve even draws.
    pub(crate) fn gaussian(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}
