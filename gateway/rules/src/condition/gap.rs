//! Time without a usable reading: unknown, and said so.

use protocol::key::RecordKey;
use serde::{Deserialize, Serialize};

use crate::timeline::{Moment, Stamp};

/// Two readings too far apart for the first to hold until the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Last reading before it.
    pub from: Stamp,
    /// Its record.
    #[serde(with = "crate::serial::numbers")]
    pub from_key: RecordKey,
    /// First reading after it.
    pub until: Stamp,
    /// Its record.
    #[serde(with = "crate::serial::numbers")]
    pub until_key: RecordKey,
    /// The longest gap that is tolerated, in milliseconds.
    pub max_gap_ms: i64,
    /// Whether an excursion was pending, open or recovering: then silence may hide the worst.
    pub during_excursion: bool,
}

/// The newest usable reading of one tracker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Coverage(Option<Moment>);

impl Coverage {
    /// Take one more usable reading into account. Returns the gap before it, if there is one.
    pub fn observe(
        &mut self,
        at: Stamp,
        key: RecordKey,
        max_gap_ms: i64,
        during_excursion: bool,
    ) -> Option<Gap> {
        let Moment {
            key: from_key,
            at: from,
        } = self.0.replace(Moment { key, at })?;
        (at.since_ms(&from) > max_gap_ms).then_some(Gap {
            from,
            from_key,
            until: at,
            until_key: key,
            max_gap_ms,
            during_excursion,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig;

    #[test]
    fn a_gap_is_longer_than_the_limit_not_equal_to_it() {
        let mut coverage = Coverage::default();
        let mut observe =
            |s, seq| coverage.observe(rig::stamp(s), RecordKey::new(1, 1, seq), 900_000, false);
        assert_eq!(observe(0, 1), None);
        assert_eq!(observe(900, 2), None);
        let gap = observe(1_801, 3).unwrap();
        assert_eq!((gap.from_key.seq.0, gap.until_key.seq.0), (2, 3));
    }
}
