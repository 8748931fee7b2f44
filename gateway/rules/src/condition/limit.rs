//! A temperature rule in the units of the wire: centi-Celsius and milliseconds.

use crate::event::Side;
use crate::plan::profile::TemperatureRule;

/// A rule in the units of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    bound_centi: i32,
    clear_centi: i32,
    side: Side,
    inclusive: bool,
    delay_ms: i64,
    clear_delay_ms: i64,
}

impl Limit {
    /// The limit of `rule`.
    #[must_use]
    pub fn of(rule: &TemperatureRule) -> Self {
        let bound_centi = centi(rule.bound);
        let inward = match rule.side {
            Side::Above => -1,
            Side::Below => 1,
        };
        Self {
            bound_centi,
            clear_centi: bound_centi + inward * centi(rule.hysteresis),
            side: rule.side,
            inclusive: rule.inclusive,
            delay_ms: i64::try_from(rule.delay.as_millis()).unwrap_or(i64::MAX),
            clear_delay_ms: i64::try_from(rule.clear_delay.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// Which side is bad.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.side
    }

    /// What a device's alarm beyond `limit_centi` with `extreme_centi` proves about this limit: values at
    /// its begin and now, both beyond. `None` when the device's limit is laxer: then the alarm says
    /// nothing about the time between the two limits.
    #[must_use]
    pub fn claimed_by(&self, limit_centi: i32, extreme_centi: i32) -> Option<(i32, i32)> {
        let step = match self.side {
            Side::Above => 1,
            Side::Below => -1,
        };
        let proven = [limit_centi, limit_centi + step];
        let begin = proven.into_iter().find(|centi| self.is_beyond(*centi))?;
        self.is_beyond(extreme_centi)
            .then_some((begin, extreme_centi))
    }

    /// Continuous time beyond the bound that opens an episode, in milliseconds.
    pub(super) const fn delay_ms(&self) -> i64 {
        self.delay_ms
    }

    /// How long readings must be clear to end one, in milliseconds.
    pub(super) const fn clear_delay_ms(&self) -> i64 {
        self.clear_delay_ms
    }

    /// Whether a value is bad.
    pub(super) fn is_beyond(&self, centi: i32) -> bool {
        match self.side {
            Side::Above if self.inclusive => centi >= self.bound_centi,
            Side::Above => centi > self.bound_centi,
            Side::Below if self.inclusive => centi <= self.bound_centi,
            Side::Below => centi < self.bound_centi,
        }
    }

    /// Whether a value is far enough inside the bound to end an episode.
    pub(super) fn is_clear(&self, centi: i32) -> bool {
        let within = match self.side {
            Side::Above => centi <= self.clear_centi,
            Side::Below => centi >= self.clear_centi,
        };
        within && !self.is_beyond(centi)
    }

    /// Whether a value is worse than another.
    pub(super) fn is_worse(&self, centi: i32, than: i32) -> bool {
        match self.side {
            Side::Above => centi > than,
            Side::Below => centi < than,
        }
    }
}

/// Hundredths of a degree, the resolution of the wire.
fn centi(celsius: f64) -> i32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounds are checked to lie within a few hundred degrees"
    )]
    let centi = (celsius * 100.0).round() as i32;
    centi
}
