//! What the readings of an episode add up to.

use protocol::key::RecordKey;
use serde::{Deserialize, Serialize};

use super::limit::Limit;
use crate::event::Side;
use crate::timeline::Stamp;

/// A temperature at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at: Stamp,
    /// Record that carries it.
    #[serde(with = "crate::serial::numbers")]
    pub key: RecordKey,
    /// Hundredths of a degree Celsius.
    pub centi: i32,
}

/// What readings of an episode add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Lowest, centi-Celsius.
    pub min_centi: i32,
    /// Highest, centi-Celsius.
    pub max_centi: i32,
    /// Record with the worst value.
    #[serde(with = "crate::serial::numbers")]
    pub worst: RecordKey,
    /// Newest record.
    #[serde(with = "crate::serial::numbers")]
    pub last: RecordKey,
    /// Newest moment.
    pub until: Stamp,
    /// Milliseconds that readings cover.
    pub covered_ms: i64,
    /// Milliseconds they do not.
    pub unobserved_ms: i64,
    /// Sum of centi-Celsius times milliseconds held.
    weighted: i128,
}

impl Figures {
    /// Those of the first reading.
    pub(super) const fn of(sample: &Sample) -> Self {
        Self {
            min_centi: sample.centi,
            max_centi: sample.centi,
            worst: sample.key,
            last: sample.key,
            until: sample.at,
            covered_ms: 0,
            unobserved_ms: 0,
            weighted: 0,
        }
    }

    /// The time from `last` to `sample`, which is covered when `last` holds until then.
    pub(super) fn hold(&mut self, last: &Sample, sample: &Sample, covered: bool) {
        let held_ms = sample.at.since_ms(&last.at);
        self.until = sample.at;
        if covered {
            self.covered_ms = self.covered_ms.saturating_add(held_ms);
            self.weighted = self
                .weighted
                .saturating_add(i128::from(last.centi) * i128::from(held_ms));
        } else {
            self.unobserved_ms = self.unobserved_ms.saturating_add(held_ms);
        }
    }

    /// One more reading.
    pub(super) fn add(&mut self, sample: &Sample, limit: &Limit) {
        if limit.is_worse(sample.centi, self.worst_centi(limit)) {
            self.worst = sample.key;
        }
        self.min_centi = self.min_centi.min(sample.centi);
        self.max_centi = self.max_centi.max(sample.centi);
        self.last = sample.key;
    }

    /// The worst value.
    pub(super) const fn worst_centi(&self, limit: &Limit) -> i32 {
        match limit.side() {
            Side::Above => self.max_centi,
            Side::Below => self.min_centi,
        }
    }

    /// Mean in degrees Celsius, weighted by the time each reading held; of a single moment its value.
    #[must_use]
    pub fn mean_celsius(&self) -> f64 {
        if self.covered_ms == 0 {
            return f64::from(self.min_centi) / 100.0;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a mean to 0.01 degrees needs far fewer than 53 bits, and is quantised"
        )]
        let mean = self.weighted as f64 / self.covered_ms as f64 / 100.0;
        mean
    }
}
