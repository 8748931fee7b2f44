//! Anchors in plain milliseconds, and time between and beyond them.

use protocol::record::Anchor;
use protocol::units::UptimeMs;

/// Shortest distance of two anchors whose rate is used beyond them, in milliseconds.
const RATE_BASELINE_MS: i64 = 3_600_000;

/// Fastest or slowest clock whose rate is believed, in parts per million.
const RATE_MAX_PPM: i64 = 1_000;

/// How far a clock of unknown rate may drift, in parts per million.
const DRIFT_PPM: i64 = 20;

/// Longest uptime that is told apart, in milliseconds: some 140,000 years, so that sums of uptimes and
/// universal times stay far inside 64 bits whatever a device claims.
pub(super) const UPTIME_MAX_MS: i64 = 1 << 52;

/// An anchor in plain milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    pub(super) uptime_ms: i64,
    pub(super) uncertainty_ms: i64,
    pub(super) utc_ms: i64,
}

impl Point {
    pub(super) fn of(anchor: &Anchor) -> Self {
        Self {
            uptime_ms: milliseconds(anchor.uptime),
            uncertainty_ms: i64::from(anchor.uncertainty.get()),
            utc_ms: anchor.utc.get(),
        }
    }

    /// Milliseconds of uptime and of universal time since `earlier`, when that pair gives a rate.
    pub(super) fn rate_from(&self, earlier: &Self) -> Option<(i64, i64)> {
        let (dm, du) = (
            self.uptime_ms - earlier.uptime_ms,
            self.utc_ms - earlier.utc_ms,
        );
        let drift = (i128::from(du) - i128::from(dm)).abs() * 1_000_000;
        let credible = drift <= i128::from(dm) * i128::from(RATE_MAX_PPM);
        (dm >= RATE_BASELINE_MS && credible).then_some((dm, du))
    }
}

/// Time between two anchors and its uncertainty.
pub(super) fn between(a: &Point, b: &Point, uptime_ms: i64) -> (i64, i64) {
    let (dm, du) = (b.uptime_ms - a.uptime_ms, b.utc_ms - a.utc_ms);
    let worst_ms = a.uncertainty_ms.max(b.uncertainty_ms);
    if du <= 0 {
        // Anchors that contradict each other: believe the nearer one, and say how far they are apart.
        let near_a = uptime_ms - a.uptime_ms <= b.uptime_ms - uptime_ms;
        let near = if near_a { a } else { b };
        let utc_ms = near.utc_ms + uptime_ms - near.uptime_ms;
        return (utc_ms, worst_ms + dm - du);
    }
    (a.utc_ms + scaled(uptime_ms - a.uptime_ms, du, dm), worst_ms)
}

/// Time beyond the outermost anchor `edge`, with the rate that `far` gives if there is one.
pub(super) fn beyond(edge: &Point, far: Option<&Point>, uptime_ms: i64) -> (i64, i64) {
    let distance_ms = uptime_ms - edge.uptime_ms;
    let pair = far.and_then(|far| {
        let (low, high) = if far < edge { (far, edge) } else { (edge, far) };
        high.rate_from(low)
            .map(|(dm, du)| (dm, du, far.uncertainty_ms))
    });
    let (offset_ms, growth_ms) = match pair {
        Some((dm, du, far_ms)) => (
            scaled(distance_ms, du, dm),
            scaled(distance_ms.abs(), edge.uncertainty_ms + far_ms, dm),
        ),
        None => (distance_ms, scaled(distance_ms.abs(), DRIFT_PPM, 1_000_000)),
    };
    (
        edge.utc_ms.saturating_add(offset_ms),
        edge.uncertainty_ms.saturating_add(growth_ms),
    )
}

/// `value * numerator / denominator`, rounded to the nearest; `denominator` is positive.
fn scaled(value: i64, numerator: i64, denominator: i64) -> i64 {
    let denominator = i128::from(denominator);
    let product = i128::from(value) * i128::from(numerator);
    let rounded = (product + denominator / 2).div_euclid(denominator);
    i64::try_from(rounded).unwrap_or(i64::MAX)
}

/// The anchor that gives the rate before the first of `anchors`.
pub(super) fn far_behind(anchors: &[Point]) -> Option<&Point> {
    let first = anchors.first()?;
    anchors
        .iter()
        .find(|point| point.rate_from(first).is_some())
}

/// Uptime as a number that sums stay far inside 64 bits with.
pub(crate) fn milliseconds(uptime: UptimeMs) -> i64 {
    i64::try_from(uptime.get()).map_or(UPTIME_MAX_MS, |ms| ms.min(UPTIME_MAX_MS))
}
