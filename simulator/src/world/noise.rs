//! Noise as a pure function of (seed, channel, time): the same question always has the same answer,
//! however often and in whatever order it is asked. All noise is bounded, so that what lies inside
//! the measurement margin is a fact, not a probability.

/// Which quantity the noise belongs to; keeps the quantities of one tracker independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Receiver error towards the east.
    East,
    /// Receiver error towards the north.
    North,
    /// Dilution of precision.
    Dilution,
    /// Speed over ground.
    Speed,
    /// Course over ground.
    Course,
    /// Temperature probe.
    Probe,
    /// Humidity.
    Humidity,
    /// Radio power.
    Radio,
    /// Compressor of the reefer.
    Compressor,
}

/// One tracker's source of noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noise {
    seed: u64,
}

impl Noise {
    /// The noise of `member` in the world of `seed`.
    #[must_use]
    pub const fn new(seed: u64, member: u64) -> Self {
        Self {
            seed: mix(seed ^ mix(member)),
        }
    }

    /// Independent from millisecond to millisecond, in -1.0..1.0.
    #[must_use]
    pub fn white(&self, channel: Channel, at_ms: i64) -> f64 {
        self.knot(channel as u64, at_ms)
    }

    /// Wanders from knot to knot, one each `knot_ms`, in -1.0..1.0.
    #[must_use]
    pub fn wander(&self, channel: Channel, at_ms: i64, knot_ms: i64) -> f64 {
        // Apart from the white noise of the same channel.
        let stream = (channel as u64) | (1 << 32);
        let (index, rest) = (at_ms.div_euclid(knot_ms), at_ms.rem_euclid(knot_ms));
        let share = rest as f64 / knot_ms as f64;
        let smooth = share * share * (3.0 - 2.0 * share);
        let (before, after) = (self.knot(stream, index), self.knot(stream, index + 1));
        before + (after - before) * smooth
    }

    fn knot(&self, stream: u64, index: i64) -> f64 {
        let bits = mix(self.seed ^ mix(stream) ^ mix(index.cast_unsigned()));
        // The upper 53 bits fill the mantissa exactly.
        let unit = (bits >> 11) as f64 / (1_u64 << 53) as f64;
        unit * 2.0 - 1.0
    }
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood 2014).
const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_bounded_centred_and_repeatable() {
        let noise = Noise::new(7, 3);
        let samples: Vec<f64> = (0..10_000)
            .map(|at| noise.white(Channel::Probe, at))
            .collect();
        assert!(samples.iter().all(|value| value.abs() <= 1.0));
        let mean = samples.iter().sum::<f64>() / 10_000.0;
        assert!(mean.abs() < 0.03, "mean {mean}");
        assert_eq!(noise.white(Channel::Probe, 17), samples[17]);
        assert_ne!(
            Noise::new(8, 3).white(Channel::Probe, 17).to_bits(),
            samples[17].to_bits()
        );
    }

    #[test]
    fn wandering_noise_moves_little_within_a_hundredth_of_a_knot() {
        let noise = Noise::new(1, 1);
        for at_ms in (0..600_000).step_by(600) {
            let step = noise.wander(Channel::East, at_ms + 600, 60_000)
                - noise.wander(Channel::East, at_ms, 60_000);
            assert!(step.abs() <= 0.031, "at {at_ms} ms: {step}");
        }
    }
}
