//! The tracker's own state: its battery.

use protocol::key::RecordKey;
use serde::{Deserialize, Serialize};

use crate::timeline::Stamp;

/// How far above the limit the charge must come to end an event, in percentage points: a cold cell
/// recovers a little without being charged.
const CLEAR_POINTS: u8 = 5;

/// Steps in which the lowest charge is told, in percentage points: each point less is no news.
const TELLING_STEP_POINTS: u8 = 5;

/// A battery that is or was low.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LowBattery {
    /// Since when.
    pub began: Stamp,
    /// Record that showed it.
    #[serde(with = "crate::serial::numbers")]
    pub opened_by: RecordKey,
    /// Until when.
    pub ended: Option<Stamp>,
    /// Lowest charge in percent, rounded down to steps of 5 unless it is the first.
    pub lowest_percent: u8,
    /// The limit in percent.
    pub limit_percent: u8,
}

/// One tracker's battery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Battery {
    low: Option<LowBattery>,
    last: Option<Stamp>,
}

impl Battery {
    /// The event that is open.
    #[must_use]
    pub const fn low(&self) -> Option<&LowBattery> {
        self.low.as_ref()
    }

    /// When a reading last told the charge.
    #[must_use]
    pub const fn last(&self) -> Option<&Stamp> {
        self.last.as_ref()
    }

    /// Take one more charge into account. Returns an event that it ended.
    pub fn observe(
        &mut self,
        charge_percent: u8,
        limit_percent: u8,
        at: Stamp,
        key: RecordKey,
    ) -> Option<LowBattery> {
        self.last = Some(at);
        match &mut self.low {
            None if charge_percent <= limit_percent => {
                self.low = Some(LowBattery {
                    began: at,
                    opened_by: key,
                    ended: None,
                    lowest_percent: charge_percent,
                    limit_percent,
                });
                None
            }
            None => None,
            Some(_) if charge_percent >= limit_percent.saturating_add(CLEAR_POINTS) => {
                let low = self.low.take()?;
                Some(LowBattery {
                    ended: Some(at),
                    ..low
                })
            }
            Some(low) => {
                let step = charge_percent - charge_percent % TELLING_STEP_POINTS;
                low.lowest_percent = low.lowest_percent.min(step.max(TELLING_STEP_POINTS));
                if charge_percent == 0 {
                    low.lowest_percent = 0;
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig;

    fn observe(battery: &mut Battery, percent: u8, s: i64) -> Option<LowBattery> {
        battery.observe(percent, 15, rig::stamp(s), RecordKey::new(1, 1, 1))
    }

    #[test]
    fn a_low_battery_opens_at_the_limit_and_closes_five_points_above() {
        let mut battery = Battery::default();
        observe(&mut battery, 16, 0);
        assert_eq!(battery.low(), None);
        observe(&mut battery, 15, 60);
        assert_eq!(battery.low().unwrap().began, rig::stamp(60));
        assert_eq!(observe(&mut battery, 19, 120), None);
        let ended = observe(&mut battery, 20, 180).unwrap();
        assert_eq!(ended.ended, Some(rig::stamp(180)));
        assert_eq!(battery.low(), None);
    }

    #[test]
    fn the_lowest_charge_is_told_in_steps() {
        let mut battery = Battery::default();
        let lowest = |battery: &mut Battery, percent| {
            observe(battery, percent, 0);
            battery.low().unwrap().lowest_percent
        };
        let told: Vec<u8> = [13, 12, 9, 8, 5, 4, 0]
            .into_iter()
            .map(|percent| lowest(&mut battery, percent))
            .collect();
        assert_eq!(told, [13, 10, 5, 5, 5, 5, 0]);
    }
}
