//! A limit in the resolution of the wire: steps of its quantity, and milliseconds.

use crate::event::Side;
use crate::plan::limit::LimitRule;
use crate::quantity::Quantity;

/// A limit in the resolution of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    quantity: Quantity,
    bound: i32,
    clear: i32,
    side: Side,
    inclusive: bool,
    delay_ms: i64,
    clear_delay_ms: i64,
}

impl Limit {
    /// The limit of `rule`.
    #[must_use]
    pub fn of(rule: &LimitRule) -> Self {
        let quantity = rule.quantity;
        let bound = steps(quantity, rule.bound);
        let inward = match rule.side {
            Side::Above => -1,
            Side::Below => 1,
        };
        Self {
            quantity,
            bound,
            clear: bound + inward * steps(quantity, rule.hysteresis),
            side: rule.side,
            inclusive: rule.inclusive,
            delay_ms: i64::try_from(rule.delay.as_millis()).unwrap_or(i64::MAX),
            clear_delay_ms: i64::try_from(rule.clear_delay.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// What is bounded.
    #[must_use]
    pub const fn quantity(&self) -> Quantity {
        self.quantity
    }

    /// Which side is bad.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.side
    }

    /// What a device's alarm beyond its own `limit` with `extreme` proves about this limit: values at
    /// its begin and now, both beyond. `None` when the device's limit is laxer: then the alarm says
    /// nothing about the time between the two limits.
    #[must_use]
    pub fn claimed_by(&self, limit: i32, extreme: i32) -> Option<(i32, i32)> {
        let step = match self.side {
            Side::Above => 1,
            Side::Below => -1,
        };
        let proven = [limit, limit.saturating_add(step)];
        let begin = proven.into_iter().find(|value| self.is_beyond(*value))?;
        self.is_beyond(extreme).then_some((begin, extreme))
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
    pub(super) fn is_beyond(&self, value: i32) -> bool {
        match self.side {
            Side::Above if self.inclusive => value >= self.bound,
            Side::Above => value > self.bound,
            Side::Below if self.inclusive => value <= self.bound,
            Side::Below => value < self.bound,
        }
    }

    /// Whether a value is far enough inside the bound to end an episode.
    pub(super) fn is_clear(&self, value: i32) -> bool {
        let within = match self.side {
            Side::Above => value <= self.clear,
            Side::Below => value >= self.clear,
        };
        within && !self.is_beyond(value)
    }

    /// Whether a value is worse than another.
    pub(super) fn is_worse(&self, value: i32, than: i32) -> bool {
        match self.side {
            Side::Above => value > than,
            Side::Below => value < than,
        }
    }
}

/// `value` in steps of the wire.
fn steps(quantity: Quantity, value: f64) -> i32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounds are checked to lie within what the wire can carry"
    )]
    let steps = (value * f64::from(quantity.per_unit())).round() as i32;
    steps
}
