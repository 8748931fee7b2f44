//! Goods: the air in the box, impacts, batteries, as true values over time.

use super::noise::{Channel, Noise};

/// Step of the tabulated temperature, in seconds: far below any time constant of a reefer.
pub const STEP_S: f64 = 10.0;

/// Time constant with which the box follows the outside while its cooling has failed.
const FAILED_TAU_S: f64 = 60.0 * 60.0;

/// Time constant with which the box follows the outside while its door is open.
const DOOR_TAU_S: f64 = 60.0 * 60.0;

/// Time constant with which working cooling brings the box back.
const COOLING_TAU_S: f64 = 15.0 * 60.0;

/// How far the compressor lets the box swing around its set point, C.
const COMPRESSOR_SWING_C: f64 = 0.4;

/// Length of the compressor's cycle.
const COMPRESSOR_KNOT_MS: i64 = 12 * 60_000;

/// How far a day's temperature swings around its mean, C.
const DAILY_SWING_C: f64 = 4.0;

/// Warmest time of the day, in seconds after midnight UTC; lanes span many zones, so this is
/// simply the world's afternoon.
const WARMEST_S: f64 = 15.0 * 3_600.0;

const DAY_S: f64 = 86_400.0;

/// A time interval in seconds since the world's start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Included.
    pub from_s: f64,
    /// Excluded.
    pub to_s: f64,
}

impl Interval {
    /// Whether a moment lies within.
    #[must_use]
    pub fn contains(&self, at_s: f64) -> bool {
        (self.from_s..self.to_s).contains(&at_s)
    }

    /// Length in seconds.
    #[must_use]
    pub fn length_s(&self) -> f64 {
        self.to_s - self.from_s
    }
}

/// What happens to a box.
#[derive(Clone, Debug, PartialEq)]
pub struct Climate {
    /// What the cooling is set to; `None`: there is none, the box follows the outside slowly.
    pub set_point_c: Option<f64>,
    /// Mean of the outside temperature.
    pub ambient_c: f64,
    /// World's start in seconds after midnight UTC.
    pub midnight_offset_s: f64,
    /// When the cooling does not work.
    pub failures: Vec<Interval>,
    /// When the door is open.
    pub doors: Vec<Interval>,
}

/// The temperature of a box over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BoxAir {
    /// One value each [`STEP_S`].
    celsius: Vec<f64>,
    doors: Vec<Interval>,
}

impl BoxAir {
    /// Tabulate a climate up to the horizon.
    #[must_use]
    pub fn tabulate(climate: &Climate, noise: Noise, horizon_s: f64) -> Self {
        let mut celsius = Vec::new();
        let mut now_c = climate
            .set_point_c
            .unwrap_or(climate.ambient_c - DAILY_SWING_C);
        let mut at_s = 0.0;
        while at_s <= horizon_s {
            celsius.push(now_c);
            let (target_c, tau_s) = climate.pull(noise, at_s);
            now_c += (target_c - now_c) * (1.0 - (-STEP_S / tau_s).exp());
            at_s += STEP_S;
        }
        Self {
            celsius,
            doors: climate.doors.clone(),
        }
    }

    /// The true temperature at that second, in C; beyond the horizon the last one.
    #[must_use]
    pub fn celsius_at(&self, at_s: f64) -> f64 {
        let position = (at_s / STEP_S).max(0.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and bounded by the table's length right after"
        )]
        let index = (position as usize).min(self.celsius.len().saturating_sub(2));
        let share = (position - index as f64).min(1.0);
        let before = self.celsius.get(index).copied().unwrap_or(0.0);
        let after = self.celsius.get(index + 1).copied().unwrap_or(before);
        before + (after - before) * share
    }

    /// Whether the door is open at that second.
    #[must_use]
    pub fn door_open_at(&self, at_s: f64) -> bool {
        self.doors.iter().any(|door| door.contains(at_s))
    }

    /// Maximal intervals within 0..`until_s` in which `beyond` holds at every [`STEP_S`], in order; the
    /// true ones begin and end less than a step further out.
    pub fn intervals(&self, until_s: f64, beyond: impl Fn(f64) -> bool) -> Vec<Interval> {
        let mut found: Vec<Interval> = Vec::new();
        let mut since: Option<f64> = None;
        for (index, celsius) in self.celsius.iter().enumerate() {
            let at_s = index as f64 * STEP_S;
            if at_s > until_s {
                break;
            }
            match (beyond(*celsius), since) {
                (true, None) => since = Some(at_s),
                (false, Some(from_s)) => {
                    found.push(Interval { from_s, to_s: at_s });
                    since = None;
                }
                (true, Some(_)) | (false, None) => {}
            }
        }
        found.extend(since.map(|from_s| Interval {
            from_s,
            to_s: until_s,
        }));
        found
    }
}

impl Climate {
    /// Where the box is drawn to, and how fast.
    fn pull(&self, noise: Noise, at_s: f64) -> (f64, f64) {
        let outside_c = self.outside_c(at_s);
        let any = |intervals: &[Interval]| intervals.iter().any(|i| i.contains(at_s));
        let Some(set_point_c) = self.set_point_c else {
            return (outside_c, FAILED_TAU_S * 2.0);
        };
        if any(&self.failures) {
            return (outside_c, FAILED_TAU_S);
        }
        if any(&self.doors) {
            return (outside_c, DOOR_TAU_S);
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a horizon is weeks at most"
        )]
        let at_ms = (at_s * 1_000.0) as i64;
        let swing = noise.wander(Channel::Compressor, at_ms, COMPRESSOR_KNOT_MS);
        (set_point_c + COMPRESSOR_SWING_C * swing, COOLING_TAU_S)
    }

    fn outside_c(&self, at_s: f64) -> f64 {
        let phase = (at_s + self.midnight_offset_s - WARMEST_S) / DAY_S;
        self.ambient_c + DAILY_SWING_C * (phase * std::f64::consts::TAU).cos()
    }
}

/// An impact: a half-sine on one axis, on top of gravity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impact {
    /// When, in seconds since the world's start.
    pub at_s: f64,
    /// Peak in g.
    pub peak_g: f64,
    /// Length of the half-sine in seconds.
    pub pulse_s: f64,
    /// Which axis: 0 along, 1 across, 2 up.
    pub axis: usize,
}

/// Sampling rate of the accelerometer's FIFO, in Hz: a 10 ms pulse keeps 99.5 % of its peak.
pub const BURST_RATE_HZ: u32 = 1_600;

/// Samples of a burst before the pulse.
pub const BURST_PRE_TRIGGER: usize = 32;

/// Samples of a burst after the pulse.
const BURST_TAIL: usize = 32;

impl Impact {
    /// Velocity change in m/s: (2/pi) A g0 tau, the integral of a half-sine.
    #[must_use]
    pub fn delta_v(&self) -> f64 {
        std::f64::consts::FRAC_2_PI * self.peak_g * 9.806_65 * self.pulse_s
    }

    /// What the accelerometer records, per axis in g, with gravity on the third axis.
    #[must_use]
    pub fn burst(&self) -> Vec<[f64; 3]> {
        let rate = f64::from(BURST_RATE_HZ);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a pulse is 100 ms at most, as parsed"
        )]
        let pulse = (self.pulse_s * rate).ceil() as usize;
        let sample = |index: usize| {
            let mut axes = [0.0, 0.0, 1.0];
            // Half a sample late, so that the pulse is not sampled at its zeros.
            let into_s = (index as f64 - BURST_PRE_TRIGGER as f64 + 0.5) / rate;
            if (0.0..self.pulse_s).contains(&into_s) {
                let phase = into_s / self.pulse_s * std::f64::consts::PI;
                axes[self.axis] += self.peak_g * phase.sin();
            }
            axes
        };
        (0..BURST_PRE_TRIGGER + pulse + BURST_TAIL)
            .map(sample)
            .collect()
    }
}

/// A battery that empties evenly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// Charge at the world's start, percent.
    pub percent: f64,
    /// Discharge, percent per hour.
    pub percent_per_hour: f64,
}

/// A tracker near the end of its charge saves what is left: below this, percent, it does not fall.
const CELL_FLOOR_PERCENT: f64 = 4.0;

impl Cell {
    /// Charge at that second, percent.
    #[must_use]
    pub fn percent_at(&self, at_s: f64) -> f64 {
        (self.percent - self.percent_per_hour * at_s / 3_600.0).max(CELL_FLOOR_PERCENT)
    }

    /// Terminal voltage at that second, in volts: a lithium cell between 3.3 V and 4.1 V.
    #[must_use]
    pub fn volts_at(&self, at_s: f64) -> f64 {
        3.3 + 0.008 * self.percent_at(at_s)
    }

    /// The second at which the charge falls to `percent`; `None` when it never does.
    #[must_use]
    pub fn falls_to(&self, percent: f64) -> Option<f64> {
        if self.percent <= percent {
            return Some(0.0);
        }
        let falling = self.percent_per_hour > 0.0 && percent >= CELL_FLOOR_PERCENT;
        falling.then(|| (self.percent - percent) / self.percent_per_hour * 3_600.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn climate() -> Climate {
        Climate {
            set_point_c: Some(4.5),
            ambient_c: 28.0,
            midnight_offset_s: 0.0,
            failures: vec![Interval {
                from_s: 36_000.0,
                to_s: 45_000.0,
            }],
            doors: vec![Interval {
                from_s: 7_200.0,
                to_s: 7_800.0,
            }],
        }
    }

    #[test]
    fn a_working_reefer_holds_its_set_point_and_a_failed_one_does_not() {
        let air = BoxAir::tabulate(&climate(), Noise::new(1, 1), 86_400.0);
        assert!((air.celsius_at(7_000.0) - 4.5).abs() < 0.5);
        assert!(air.celsius_at(45_000.0) > 20.0);
        assert!((air.celsius_at(80_000.0) - 4.5).abs() < 0.5);
        let hot = air.intervals(86_400.0, |celsius| celsius > 8.0);
        assert_eq!(hot.len(), 1, "the door does not reach 8 C: {hot:?}");
        assert!((36_000.0..38_000.0).contains(&hot[0].from_s));
        assert!(hot[0].to_s > 45_000.0);
    }

    #[test]
    fn an_open_door_warms_the_box_a_little() {
        let air = BoxAir::tabulate(&climate(), Noise::new(1, 1), 86_400.0);
        assert!(air.door_open_at(7_500.0) && !air.door_open_at(7_800.0));
        assert!((6.0..8.0).contains(&air.celsius_at(7_800.0)));
    }

    #[test]
    fn temperature_never_jumps() {
        let air = BoxAir::tabulate(&climate(), Noise::new(3, 1), 86_400.0);
        for second in 0..86_000 {
            let at_s = f64::from(second);
            let step = air.celsius_at(at_s + 1.0) - air.celsius_at(at_s);
            assert!(step.abs() < 0.04, "{step} C/s at {at_s}");
        }
    }

    /// Published checks for a half-sine: 10 g/11 ms, 25 g/10 ms, 50 g/11 ms.
    #[test]
    fn the_velocity_change_of_a_half_sine_is_as_published() {
        for (peak_g, pulse_s, expected) in [
            (10.0, 0.011, 0.687),
            (25.0, 0.010, 1.561),
            (50.0, 0.011, 3.434),
        ] {
            let impact = Impact {
                at_s: 0.0,
                peak_g,
                pulse_s,
                axis: 1,
            };
            assert!((impact.delta_v() - expected).abs() < 1e-3);
            let sampled: f64 = impact.burst().iter().map(|axes| axes[1]).sum();
            let sampled = sampled * 9.806_65 / f64::from(BURST_RATE_HZ);
            assert!((sampled / expected - 1.0).abs() < 0.03, "{sampled} m/s");
        }
    }

    #[test]
    fn a_worn_battery_falls_to_its_limit_when_the_line_says() {
        let cell = Cell {
            percent: 20.0,
            percent_per_hour: 4.0,
        };
        assert_eq!(cell.falls_to(16.0), Some(3_600.0));
        assert!((cell.percent_at(3_600.0) - 16.0).abs() < 1e-9);
        assert_eq!(cell.falls_to(1.0), None);
        assert_eq!(cell.percent_at(1e9), CELL_FLOOR_PERCENT);
    }
}
