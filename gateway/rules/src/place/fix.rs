//! A position that can be judged.

use protocol::key::RecordKey;
use protocol::reading::{Position, Reading};
use serde::{Deserialize, Serialize};

use crate::plan::fence::LatLon;
use crate::timeline::Stamp;

/// Oldest fix that still says where the tracker is, in seconds: at road speed two minutes are some
/// 3 km, and one sampling interval on the road is a minute.
const FIX_AGE_MAX_S: u32 = 120;

/// Speed that is no noise of a resting receiver, in metres per second (5 km/h).
const MOVING_MPS: f64 = 5.0 / 3.6;

/// A position that can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fix {
    /// When the receiver had it.
    pub at: Stamp,
    /// Record that carries it.
    #[serde(with = "crate::serial::numbers")]
    pub key: RecordKey,
    /// Where.
    pub point: LatLon,
    /// Radius in metres that holds the true position with 95 % confidence.
    pub accuracy_m: f64,
    /// Whether the receiver saw itself move.
    pub moving: bool,
}

impl Fix {
    /// The fix of `reading`, sampled at `sampled`; `None` when it has none, when it is too old, or when
    /// it is the point 0, 0, which is a receiver's way to say nothing.
    #[must_use]
    pub fn of(reading: &Reading, key: RecordKey, sampled: &Stamp) -> Option<Self> {
        let position = reading.position.value()?;
        let age_s = position.age.get();
        if is_nowhere(&position) || age_s > FIX_AGE_MAX_S {
            return None;
        }
        Some(Self {
            at: sampled.before(i64::from(age_s) * 1_000),
            key,
            point: LatLon {
                lat: position.latitude.degrees(),
                lon: position.longitude.degrees(),
            },
            accuracy_m: position.accuracy.metres(),
            moving: position.speed.metres_per_second() >= MOVING_MPS,
        })
    }
}

/// Whether a position is the point 0, 0.
pub(crate) const fn is_nowhere(position: &Position) -> bool {
    position.latitude.get() == 0 && position.longitude.get() == 0
}
