//! Free fall, from bursts of accelerometer samples.
//!
//! What falls feels no weight: the magnitude of the acceleration, gravity included, stays below 0.3 g.
//! A fall of duration t is `g0 t^2 / 2` deep. It is evidence beside the impact that ends it, so every
//! one is reported: the sensor's trigger bounds how many there can be.

use protocol::units::{MilliG, Milliseconds};

use super::burst::Burst;
use super::shock::magnitude;

/// Magnitude below which there is no weight, in thousandths of standard gravity.
pub const FALL_BELOW_MG: i32 = 300;

/// Shortest fall, in milliseconds: 11 cm. A jolt over a kerb is weightless for less.
pub const FALL_DURATION_MIN_MS: i64 = 150;

/// The longest weightless stretch of a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fall {
    /// How long.
    pub duration: Milliseconds,
    /// Smallest magnitude in it.
    pub least: MilliG,
}

impl Burst<'_> {
    /// The fall in this burst, if there is one.
    #[must_use]
    pub fn fall(&self) -> Option<Fall> {
        let magnitudes = || self.samples.iter().map(magnitude);
        let (longest, _) = magnitudes().fold((0_i64, 0_i64), |(longest, run), sample| {
            let run = if sample.get() < FALL_BELOW_MG {
                run + 1
            } else {
                0
            };
            (longest.max(run), run)
        });
        let duration_ms = (longest * 1_000).checked_div(i64::from(self.rate_hz))?;
        let least = magnitudes().min()?;
        (duration_ms >= FALL_DURATION_MIN_MS).then_some(Fall {
            duration: Milliseconds::saturating(duration_ms),
            least,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A burst at 400 Hz whose samples have these magnitudes along one axis.
    fn fall(vertical_mg: &[i64]) -> Option<Fall> {
        let samples: Vec<[MilliG; 3]> = vertical_mg
            .iter()
            .map(|vertical| [0, 0, *vertical].map(MilliG::saturating))
            .collect();
        let burst = Burst {
            rate_hz: 400,
            pre_trigger: 0,
            samples: &samples,
        };
        burst.fall()
    }

    #[test]
    fn only_an_uninterrupted_stretch_is_a_fall() {
        let mut samples = vec![299; 60];
        let expected = Fall {
            duration: Milliseconds::saturating(150),
            least: MilliG::saturating(299),
        };
        assert_eq!(fall(&samples), Some(expected));
        samples[30] = 300;
        assert_eq!(fall(&samples), None);
        assert_eq!(fall(&[0; 59]), None);
        assert_eq!(fall(&[]), None);
    }

    #[test]
    fn gravity_at_rest_and_an_impact_are_no_fall() {
        assert_eq!(fall(&[1_000; 400]), None);
        assert_eq!(fall(&[-40_000; 400]), None);
    }
}
