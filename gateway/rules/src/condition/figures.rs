//! What the readings of an episode add up to.

use protocol::key::RecordKey;
use serde::{Deserialize, Serialize};

use super::limit::Limit;
use crate::event::Side;
use crate::timeline::Stamp;

/// A value at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at: Stamp,
    /// Record that carries it.
    #[serde(with = "crate::serial::numbers")]
    pub key: RecordKey,
    /// In steps of the wire.
    pub value: i32,
}

/// What readings of an episode add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Lowest, in steps of the wire.
    pub min: i32,
    /// Highest, in steps of the wire.
    pub max: i32,
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
    /// Sum of steps times milliseconds held.
    weighted: i128,
}

impl Figures {
    /// Those of the first reading.
    pub(super) const fn of(sample: &Sample) -> Self {
        Self {
            min: sample.value,
            max: sample.value,
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
                .saturating_add(i128::from(last.value) * i128::from(held_ms));
        } else {
            self.unobserved_ms = self.unobserved_ms.saturating_add(held_ms);
        }
    }

    /// One more reading.
    pub(super) fn add(&mut self, sample: &Sample, limit: &Limit) {
        if limit.is_worse(sample.value, self.worst_value(limit)) {
            self.worst = sample.key;
        }
        self.min = self.min.min(sample.value);
        self.max = self.max.max(sample.value);
        self.last = sample.key;
    }

    /// The worst value.
    pub(super) const fn worst_value(&self, limit: &Limit) -> i32 {
        match limit.side() {
            Side::Above => self.max,
            Side::Below => self.min,
        }
    }

    /// Mean in steps of the wire, weighted by the time each reading held; of a single moment its value.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.covered_ms == 0 {
            return f64::from(self.min);
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a mean to a step needs far fewer than 53 bits, and is quantised"
        )]
        let mean = self.weighted as f64 / self.covered_ms as f64;
        mean
    }
}
