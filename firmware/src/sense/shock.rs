//! Impacts, from bursts of accelerometer samples.
//!
//! Gravity and offset are the mean of the samples before the trigger; what remains is the impact.
//! Its peak is the largest magnitude, its duration the time above a tenth of that, its velocity
//! change the norm of the integral per axis. The peak alone cannot rank impacts: 5 g for 50 ms
//! moves a pallet as much as 25 g for 10 ms. An impact is a shock when its peak reaches the limit
//! and either velocity change or duration do; in a sensor's peak-detect mode both are unknown and
//! the peak decides alone.
//!
//! A FIFO that misses the true crest reports less: at worst cos(pi / (2 rate duration)) of it,
//! 0.924 for 10 ms at 400 Hz and 0.995 at 1600 Hz.

use protocol::downlink::Settings;
use protocol::record::Shock;
use protocol::units::{MilliG, MillimetresPerSecond, Milliseconds, UptimeMs};

use super::burst::Burst;
use super::plan::later;

/// Repeats within this time of a reported shock are counted, not reported, in milliseconds.
pub const REPEAT_WINDOW_MS: u64 = 120_000;

/// Standard gravity in hundred-thousandths of a metre per second squared (CGPM 1901).
const STANDARD_GRAVITY_E5: i128 = 980_665;

impl Burst<'_> {
    /// The impact in this burst; nothing when there are no samples after the trigger or no rate.
    #[must_use]
    pub fn impact(&self) -> Option<Shock> {
        let (before, impact) = self.samples.split_at_checked(self.pre_trigger)?;
        if self.rate_hz == 0 || impact.is_empty() {
            return None;
        }
        let rest = mean(before);
        let moved = || impact.iter().map(|sample| subtract(sample, &rest));
        let peak = moved().max_by_key(square)?;
        // Squares, so that a tenth is a hundredth.
        let loud = moved().filter(|sample| square(sample) * 100 > square(&peak));
        let duration_ms = per_second(loud.count() as i128 * 1_000, self.rate_hz);
        Some(Shock {
            peak: peak.map(MilliG::saturating),
            duration: Some(Milliseconds::saturating(duration_ms)),
            delta_v: Some(self.velocity_change(moved())),
        })
    }

    fn velocity_change(&self, moved: impl Iterator<Item = [i64; 3]>) -> MillimetresPerSecond {
        let sum = moved.fold([0_i64; 3], |sum, sample| {
            [sum[0] + sample[0], sum[1] + sample[1], sum[2] + sample[2]]
        });
        // milli-g times samples: one of them is g0/1000 m/s2, that is g0 mm/s2, for 1/rate s.
        let norm = i128::from(square(&sum).isqrt());
        let millimetres = per_second(norm * STANDARD_GRAVITY_E5 / 100_000, self.rate_hz);
        MillimetresPerSecond::saturating(millimetres)
    }
}

/// Magnitude of an impact's peak.
#[must_use]
pub fn magnitude(peak: &[MilliG; 3]) -> MilliG {
    let axes = peak.map(|axis| i64::from(axis.get()));
    MilliG::saturating(square(&axes).isqrt().cast_signed())
}

/// Whether an impact is a shock by the settings.
#[must_use]
pub fn is_shock(impact: &Shock, settings: &Settings) -> bool {
    if magnitude(&impact.peak) < settings.shock_peak {
        return false;
    }
    let fast = |delta_v| delta_v >= settings.shock_delta_v;
    let long = |duration| duration >= settings.shock_duration;
    match (impact.delta_v, impact.duration) {
        (None, None) => true,
        (delta_v, duration) => delta_v.is_some_and(fast) || duration.is_some_and(long),
    }
}

/// What to report about shocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// When the first shock of the report happened.
    pub since: UptimeMs,
    /// The strongest.
    pub shock: Shock,
    /// How many.
    pub count: u32,
}

/// Reports the first shock at once and repeats together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aggregate {
    /// When the window after the last report closes.
    closes: Option<UptimeMs>,
    repeats: Option<Report>,
}

impl Aggregate {
    /// Nothing happened yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            closes: None,
            repeats: None,
        }
    }

    /// Take a shock; a report comes out when it is the first.
    pub fn note(&mut self, shock: Shock, now: UptimeMs) -> Option<Report> {
        if self.closes.is_none() {
            self.closes = Some(later(now, REPEAT_WINDOW_MS));
            return Some(Report {
                since: now,
                shock,
                count: 1,
            });
        }
        let known = self.repeats.get_or_insert(Report {
            since: now,
            shock,
            count: 0,
        });
        known.count = known.count.saturating_add(1);
        if magnitude(&shock.peak) > magnitude(&known.shock.peak) {
            known.shock = shock;
        }
        None
    }

    /// What was counted, once the window has closed; then a new window begins.
    pub fn due(&mut self, now: UptimeMs) -> Option<Report> {
        if self.closes? > now {
            return None;
        }
        let report = self.repeats.take();
        self.closes = report.map(|_| later(now, REPEAT_WINDOW_MS));
        report
    }

    /// When to ask again.
    #[must_use]
    pub const fn deadline(&self) -> Option<UptimeMs> {
        self.closes
    }
}

fn mean(samples: &[[MilliG; 3]]) -> [i64; 3] {
    let count = i64::try_from(samples.len().max(1)).unwrap_or(i64::MAX);
    [0, 1, 2].map(|axis: usize| {
        let sum: i64 = samples
            .iter()
            .map(|sample| i64::from(sample[axis].get()))
            .sum();
        sum / count
    })
}

fn subtract(sample: &[MilliG; 3], rest: &[i64; 3]) -> [i64; 3] {
    [0, 1, 2].map(|axis: usize| i64::from(sample[axis].get()) - rest[axis])
}

fn square(axes: &[i64; 3]) -> u64 {
    axes.iter().fold(0_u64, |sum, axis| {
        sum.saturating_add(axis.unsigned_abs().saturating_mul(axis.unsigned_abs()))
    })
}

/// `value` divided by `rate_hz`, rounded to nearest.
fn per_second(value: i128, rate_hz: u32) -> i64 {
    let rate = i128::from(rate_hz);
    i64::try_from((value + rate / 2) / rate).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE_HZ: u32 = 1_600;
    const PRE_TRIGGER: usize = 16;

    /// A half-sine of `peak_g` for `width_ms` on the vertical axis, on top of gravity.
    fn half_sine(peak_g: f64, width_ms: f64) -> Vec<[MilliG; 3]> {
        let width = width_ms / 1_000.0 * f64::from(RATE_HZ);
        let sample = |index: usize| {
            let phase = (index as f64 - PRE_TRIGGER as f64 + 0.5) / width;
            let inside = (0.0..1.0).contains(&phase);
            let pulse = if inside {
                (phase * std::f64::consts::PI).sin()
            } else {
                0.0
            };
            let vertical = 1_000.0 + peak_g * 1_000.0 * pulse;
            [0, 0, vertical as i64].map(MilliG::saturating)
        };
        (0..128).map(sample).collect()
    }

    fn impact(samples: &[[MilliG; 3]]) -> Shock {
        let burst = Burst {
            rate_hz: RATE_HZ,
            pre_trigger: PRE_TRIGGER,
            samples,
        };
        burst.impact().unwrap()
    }

    #[test]
    fn the_velocity_change_of_half_sines_is_as_published() {
        for (peak_g, width_ms, expected_mm_s) in
            [(10.0, 11.0, 687), (25.0, 10.0, 1_561), (50.0, 11.0, 3_434)]
        {
            let shock = impact(&half_sine(peak_g, width_ms));
            let delta_v = i64::from(shock.delta_v.unwrap().get());
            let off = (delta_v - expected_mm_s).abs();
            assert!(off * 100 <= expected_mm_s, "{peak_g} g: {delta_v} mm/s");
            let peak = f64::from(magnitude(&shock.peak).get()) / 1_000.0;
            assert!((0.99..=1.0).contains(&(peak / peak_g)), "{peak} g");
            // The sine is above a tenth for 93.6 % of its width.
            let duration = f64::from(shock.duration.unwrap().get());
            assert!((duration - 0.936 * width_ms).abs() <= 1.0, "{duration} ms");
        }
    }

    #[test]
    fn gravity_at_rest_is_no_impact() {
        let shock = impact(&half_sine(0.0, 10.0));
        assert_eq!(magnitude(&shock.peak).get(), 0);
        assert_eq!(shock.delta_v.unwrap().get(), 0);
        assert_eq!(shock.duration.unwrap().get(), 0);
    }

    #[test]
    fn a_shock_needs_its_peak_and_one_of_velocity_change_and_duration() {
        let settings = Settings {
            shock_peak: MilliG::saturating(10_000),
            shock_delta_v: MillimetresPerSecond::saturating(1_000),
            shock_duration: Milliseconds::saturating(20),
            ..Settings::DEFAULT
        };
        let shock = |peak: i64, delta_v: i64, duration: i64| Shock {
            peak: [0, 0, -peak].map(MilliG::saturating),
            duration: Some(Milliseconds::saturating(duration)),
            delta_v: Some(MillimetresPerSecond::saturating(delta_v)),
        };
        assert!(is_shock(&shock(10_000, 1_000, 1), &settings));
        assert!(is_shock(&shock(10_000, 1, 20), &settings));
        assert!(!is_shock(&shock(10_000, 999, 19), &settings));
        assert!(!is_shock(&shock(9_999, 5_000, 50), &settings));
        let unknown = Shock {
            duration: None,
            delta_v: None,
            ..shock(10_000, 0, 0)
        };
        assert!(is_shock(&unknown, &settings));
    }

    #[test]
    fn the_first_shock_is_reported_at_once_and_repeats_together() {
        let at = |ms| UptimeMs::saturating(ms);
        let shock = |g: i64| Shock {
            peak: [g * 1_000, 0, 0].map(MilliG::saturating),
            duration: None,
            delta_v: None,
        };
        let mut aggregate = Aggregate::new();
        assert_eq!(aggregate.note(shock(30), at(1_000)).unwrap().count, 1);
        for (g, ms) in [(26, 2_000), (41, 60_000), (27, 120_999)] {
            assert_eq!(aggregate.note(shock(g), at(ms)), None);
        }
        assert_eq!(aggregate.due(at(120_999)), None);
        let expected = Report {
            since: at(2_000),
            shock: shock(41),
            count: 3,
        };
        assert_eq!(aggregate.due(at(121_000)), Some(expected));
        assert_eq!(aggregate.due(at(241_000)), None);
        assert_eq!(aggregate.note(shock(30), at(241_000)).unwrap().count, 1);
    }

    #[test]
    fn a_burst_without_samples_or_rate_is_no_impact() {
        let samples = half_sine(10.0, 11.0);
        let burst = |rate_hz, pre_trigger| Burst {
            rate_hz,
            pre_trigger,
            samples: &samples,
        };
        assert_eq!(burst(0, 16).impact(), None);
        assert_eq!(burst(1_600, 128).impact(), None);
        assert_eq!(burst(1_600, 129).impact(), None);
    }
}
