//! What one tracker shows: dated, keyed, and belonging to one unit of one shipment.

use std::cmp::Ordering;

use protocol::key::{DeviceId, RecordKey};
use serde::{Deserialize, Serialize};

use crate::condition::device::LowBattery;
use crate::condition::excursion::Episode;
use crate::condition::fall::Fall;
use crate::condition::gap::Gap;
use crate::condition::shock::Battering;
use crate::event::Place;
use crate::timeline::Dated;

/// One thing that a tracker shows about a unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// Position of the shipment in the plan.
    pub shipment: usize,
    /// Position of the unit in the shipment.
    pub unit: usize,
    /// Position of the duty among those of the tracker.
    pub duty: usize,
    /// The tracker.
    #[serde(with = "crate::serial::device")]
    pub device: DeviceId,
    /// Record that shows it; of an episode the one that opened it.
    #[serde(with = "crate::serial::numbers")]
    pub key: RecordKey,
    /// When; of an episode its begin.
    pub at: Dated,
    /// Where, if that is known.
    pub place: Option<Place>,
    /// What.
    pub kind: FactKind,
}

/// What a tracker can show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FactKind {
    /// It is inside a fence where its shipment stops.
    Arrived {
        /// Position of the fence in the plan.
        fence: usize,
        /// Whether it was there from its first fix, so that nobody saw it arrive.
        initial: bool,
    },
    /// It left that fence.
    Departed {
        /// Position of the fence in the plan.
        fence: usize,
    },
    /// First moving fix outside, once after each departure.
    Moving,
    /// It stands in a fence for as long as a delivery needs.
    Rested {
        /// Position of the fence in the plan.
        fence: usize,
        /// Record with which that was clear.
        #[serde(with = "crate::serial::numbers")]
        decided_by: RecordKey,
        /// Whether the last fix was older than the decision: it rested indoors.
        inferred: bool,
    },
    /// A quantity beyond a limit.
    Excursion {
        /// Temperature probe; 0 for other quantities.
        probe: u8,
        /// Position of the limit in the profile.
        rule: usize,
        /// The episode.
        episode: Episode,
    },
    /// Impacts.
    Battered(Battering),
    /// A fall.
    Fell(Fall),
    /// Battery low.
    BatteryLow(LowBattery),
    /// Missing readings.
    Gap(Gap),
}

impl FactKind {
    /// Whether it tells of the journey; the others are episodes, each an event of its own.
    #[must_use]
    pub const fn is_stage(&self) -> bool {
        matches!(
            self,
            Self::Arrived { .. } | Self::Departed { .. } | Self::Moving | Self::Rested { .. }
        )
    }

    /// What comes first at one moment and one key.
    const fn rank(&self) -> u8 {
        match self {
            Self::Arrived { .. } => 0,
            Self::Departed { .. } => 1,
            Self::Moving => 2,
            Self::Rested { .. } => 3,
            Self::Excursion { .. } => 4,
            Self::Battered(_) => 5,
            Self::BatteryLow(_) => 6,
            Self::Gap(_) => 7,
            Self::Fell(_) => 8,
        }
    }
}

impl Fact {
    /// The order in which facts of all trackers of a shipment are judged: by time, key and kind; the
    /// tracker and the unit break what ties remain, so that the order is total.
    #[must_use]
    pub fn order(&self, other: &Self) -> Ordering {
        let by = |fact: &Self| (fact.at.at, fact.key, fact.kind.rank(), fact.unit, fact.duty);
        by(self)
            .cmp(&by(other))
            .then_with(|| self.device.cmp(&other.device))
    }
}
