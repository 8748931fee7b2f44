//! Where a vehicle should be by now, from its speed and course, in integers.
//!
//! It has gone from the one velocity to the other; of the time, a sixth goes to the old velocity, a
//! sixth to the new one and the rest to the one between (mean speed, along the bisector of the
//! courses): the rule of Simpson, right for a steady bend. Every division is towards zero.

use crate::row::{COURSE, LATITUDE, LONGITUDE, Row, SPEED, UPTIME};

/// 2^15, the scale of [`SINE`].
const ONE: i64 = 1 << 15;

/// Sine of 0 to 90 degrees, times 2^15, rounded.
const SINE: [u16; 91] = [
    0, 572, 1_144, 1_715, 2_286, 2_856, 3_425, 3_993, 4_560, 5_126, 5_690, 6_252, 6_813, 7_371,
    7_927, 8_481, 9_032, 9_580, 10_126, 10_668, 11_207, 11_743, 12_275, 12_803, 13_328, 13_848,
    14_365, 14_876, 15_384, 15_886, 16_384, 16_877, 17_364, 17_847, 18_324, 18_795, 19_261, 19_720,
    20_174, 20_622, 21_063, 21_498, 21_926, 22_348, 22_763, 23_170, 23_571, 23_965, 24_351, 24_730,
    25_102, 25_466, 25_822, 26_170, 26_510, 26_842, 27_166, 27_482, 27_789, 28_088, 28_378, 28_660,
    28_932, 29_197, 29_452, 29_698, 29_935, 30_163, 30_382, 30_592, 30_792, 30_983, 31_164, 31_336,
    31_499, 31_651, 31_795, 31_928, 32_052, 32_166, 32_270, 32_365, 32_449, 32_524, 32_588, 32_643,
    32_688, 32_723, 32_748, 32_763, 32_768,
];

/// One degree of latitude, longitude or angle.
const DEGREE: i64 = 10_000_000;

/// A speed of 1 dm/s goes 0.1 mm in 1 ms; 1e-7 degree of latitude is 111.195 times that (6,371 km
/// of mean radius). Times the scale of the sine, times six shares.
const DIVISOR: i64 = 6 * 3_643_638;

/// Longest time that is reckoned over, in ms (4.6 h). It keeps the arithmetic in 64 bits: 20,000
/// dm/s, six shares, 2^15 of sine and 2^24 of time are below 2^57.
const RECKONED_MAX_MS: i64 = 1 << 24;

/// Least cosine of the latitude: that of 89 degrees. Nearer to a pole it would grow beyond bounds.
const COSINE_MIN: i64 = 572;

/// A fix: when, where, and how it moves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fix {
    uptime: i64,
    /// Latitude and longitude, in 1e-7 degrees.
    place: [i64; 2],
    /// Speed in dm/s and course in degrees; none at rest.
    motion: Option<[i64; 2]>,
}

impl Fix {
    /// The fix of a row, if it has one.
    pub(crate) fn of(row: &Row) -> Option<Self> {
        row.states.has(LATITUDE).then(|| Self {
            uptime: row.values[UPTIME],
            place: [row.values[LATITUDE], row.values[LONGITUDE]],
            motion: motion(row),
        })
    }

    /// Latitude and longitude to expect in `row`, of which uptime, speed and course are known: this
    /// place when either is at rest or the time is not in `1..=RECKONED_MAX_MS`.
    pub(crate) fn reckon(&self, row: &Row) -> [i64; 2] {
        let elapsed = row.values[UPTIME] - self.uptime;
        match (self.motion, motion(row)) {
            (Some(before), Some(after)) if (1..=RECKONED_MAX_MS).contains(&elapsed) => {
                let [north, east] = step(before, after, elapsed);
                let [latitude, longitude] = self.place;
                let cosine = sine(90 * DEGREE - latitude).max(COSINE_MIN);
                [latitude + north, longitude + east * ONE / cosine]
            }
            _ => self.place,
        }
    }
}

/// Speed and course of a row that moves.
fn motion(row: &Row) -> Option<[i64; 2]> {
    let [speed, course] = [SPEED, COURSE].map(|field| row.values[field]);
    let sane = (0..=20_000).contains(&speed) && (0..360).contains(&course);
    (row.states.has(COURSE) && sane).then_some([speed, course])
}

/// The way north and east in `elapsed` ms, in 1e-7 degrees of latitude.
fn step(before: [i64; 2], after: [i64; 2], elapsed: i64) -> [i64; 2] {
    let turn = (after[1] - before[1] + 540).rem_euclid(360) - 180;
    let bisector = before[1] * DEGREE + turn * DEGREE / 2;
    // Twice the mean speed, so twice its four shares are two of this.
    let shares = [
        (before[0], before[1] * DEGREE),
        (2 * (before[0] + after[0]), bisector),
        (after[0], after[1] * DEGREE),
    ];
    let along = |turned: i64| {
        let speed: i64 = shares
            .iter()
            .map(|(speed, course)| speed * sine(course + turned))
            .sum();
        speed * elapsed / DIVISOR
    };
    [along(90 * DEGREE), along(0)]
}

/// Sine of an angle in 1e-7 degrees, times 2^15, linear between whole degrees.
fn sine(angle: i64) -> i64 {
    let angle = angle.rem_euclid(360 * DEGREE);
    let half = angle % (180 * DEGREE);
    let quarter = half.min(180 * DEGREE - half);
    let degree = (quarter / DEGREE).clamp(0, 89) as usize;
    let [low, high] = [SINE[degree], SINE[degree + 1]].map(i64::from);
    let sine = low + (high - low) * (quarter - degree as i64 * DEGREE) / DEGREE;
    if angle < 180 * DEGREE { sine } else { -sine }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sine_is_that_of_the_library_within_three_of_32768() {
        for tenth in -7_200..=7_200 {
            let exact = (f64::from(tenth) / 10.0).to_radians().sin() * ONE as f64;
            let ours = sine(i64::from(tenth) * DEGREE / 10);
            assert!((ours as f64 - exact).abs() < 3.0, "{tenth}: {ours} {exact}");
        }
    }

    #[test]
    fn a_minute_north_at_20_m_per_s_is_1200_m_and_a_half_circle_ends_beside_the_start() {
        let metres = |step: i64| step as f64 * 1e-7 * 111_195.0;
        let [north, east] = step([200, 0], [200, 0], 60_000);
        assert!((metres(north) - 1_200.0).abs() < 0.1 && east == 0);
        // A half circle of 1,200 m has a diameter of 764 m; the rule of Simpson says 800.
        let [north, east] = step([200, 0], [200, 179], 60_000);
        assert!(metres(north).abs() < 10.0 && (metres(east) - 800.0).abs() < 5.0);
    }
}
