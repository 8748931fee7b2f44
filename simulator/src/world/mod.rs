//! The world: what is true, whatever anybody measures.
//!
//! A world is generated once from a scenario and then only looked up: every question is a pure
//! function of (world, moment). Moments inside the world are seconds since its start.

mod build;
mod cargo;
pub mod fence;
pub mod goods;
pub mod lane;
pub mod noise;
pub mod receiver;
pub mod truck;

use std::ops::Range;

use chrono::{DateTime, Utc};
use protocol::units::UtcMs;

pub use cargo::{
    BATTERY_LOW_PERCENT, Cargo, GAP_MAX_S, Limit, SETTLING_S, SHOCK_DURATION_S, SILENT_AFTER_S,
};

use crate::scenario::Scenario;
use fence::Fence;
use goods::{BoxAir, Cell, Climate, Impact, Interval};
use lane::Lane;
use noise::Noise;
use receiver::{Receiver, Vehicle};
use truck::{Journey, Stay};

/// Everything that is true.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// What it was made from.
    pub scenario: Scenario,
    /// Event time of second 0.
    pub start: UtcMs,
    /// Lanes in use.
    pub lanes: Vec<Lane>,
    /// Shipments, one truck each.
    pub shipments: Vec<Shipment>,
    /// Trackers, in the order of their shipments.
    pub trackers: Vec<Tracker>,
}

/// Goods on a truck.
#[derive(Clone, Debug, PartialEq)]
pub struct Shipment {
    /// Unique name.
    pub id: String,
    /// Order number.
    pub order: String,
    /// Who it is for.
    pub customer: &'static str,
    /// What it is.
    pub cargo: Cargo,
    /// Index of its lane.
    pub lane: usize,
    /// How its truck drives.
    pub journey: Journey,
    /// Pickup, perhaps a hub, delivery.
    pub stops: Vec<Stop>,
    /// Stretches of the lane without sky, metres along it.
    pub tunnels: Vec<Range<f64>>,
    /// What its box goes through.
    pub climate: Climate,
    /// The temperature that follows.
    pub air: BoxAir,
    /// Indices of its trackers.
    pub trackers: Range<usize>,
}

/// What a stop is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Goods are handed to the carrier.
    Pickup,
    /// Goods are handled on the way.
    Hub,
    /// Goods are handed over.
    Delivery,
}

impl Role {
    /// As the plan writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pickup => "pickup",
            Self::Hub => "hub",
            Self::Delivery => "delivery",
        }
    }
}

/// A planned stop.
#[derive(Clone, Debug, PartialEq)]
pub struct Stop {
    /// Unique within the shipment.
    pub id: &'static str,
    /// What people call the place.
    pub name: String,
    /// What for.
    pub role: Role,
    /// Where the truck halts, metres along the lane.
    pub along_m: f64,
    /// The area that counts as being there.
    pub fence: Fence,
    /// Name of that area; shipments that stop at the same place share it.
    pub fence_id: String,
}

/// A tracker on a pallet.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracker {
    /// Device id.
    pub device: String,
    /// The handling unit it rides on.
    pub unit: String,
    /// Serial shipping container code of that unit, with check digit.
    pub sscc: String,
    /// Index of its shipment.
    pub shipment: usize,
    /// When it is switched on.
    pub boot_s: f64,
    /// Impacts it feels, in order of time.
    pub impacts: Vec<Impact>,
    /// Its battery.
    pub cell: Cell,
    /// When it has no radio.
    pub radio_off: Vec<Interval>,
    /// When it sleeps and samples nothing.
    pub asleep: Vec<Interval>,
    /// Its receiver.
    pub receiver: Receiver,
    /// Its noise.
    pub noise: Noise,
}

impl World {
    /// Event time of a moment.
    #[must_use]
    pub fn utc_at(&self, at_s: f64) -> UtcMs {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a horizon is weeks at most"
        )]
        let offset_ms = (at_s * 1_000.0).round() as i64;
        UtcMs::saturating(self.start.get() + offset_ms)
    }

    /// The moment of an event time.
    #[must_use]
    pub fn second_of(&self, utc: UtcMs) -> f64 {
        (utc.get() - self.start.get()) as f64 / 1_000.0
    }

    /// The shipment a tracker belongs to.
    #[must_use]
    pub fn shipment_of(&self, tracker: &Tracker) -> &Shipment {
        &self.shipments[tracker.shipment]
    }

    /// The lane of a shipment.
    #[must_use]
    pub fn lane_of(&self, shipment: &Shipment) -> &Lane {
        &self.lanes[shipment.lane]
    }

    /// Where a shipment's truck is, and how it moves.
    #[must_use]
    pub fn vehicle(&self, shipment: &Shipment, at_s: f64) -> Vehicle {
        let motion = shipment.journey.at(at_s);
        let lane = self.lane_of(shipment);
        let covered = |tunnel: &Range<f64>| tunnel.contains(&motion.along_m);
        Vehicle {
            point: lane.at(motion.along_m),
            speed_mps: motion.speed_mps,
            course: lane.course_at(motion.along_m),
            sky: !shipment.tunnels.iter().any(covered),
        }
    }

    /// What a tracker's receiver says at that moment, as NMEA.
    #[must_use]
    pub fn sentences(&self, tracker: &Tracker, at_s: f64) -> String {
        let truth = self.vehicle(self.shipment_of(tracker), at_s);
        let at = DateTime::<Utc>::from_timestamp_millis(self.utc_at(at_s).get());
        tracker.receiver.sentences(&truth, at.unwrap_or_default())
    }

    /// Where a shipment is, in words: "moving, 12 km after Lafayette towards Lebanon".
    #[must_use]
    pub fn place_words(&self, shipment: &Shipment, at_s: f64) -> String {
        let motion = shipment.journey.at(at_s);
        let place = self.lane_of(shipment).describe(motion.along_m);
        match motion.halt {
            Some(halt) => format!("{}, {place}", halt.purpose.words()),
            None => format!("moving, {place}"),
        }
    }

    /// A measured position in the words of a shipment's lane.
    #[must_use]
    pub fn words_of(&self, shipment: &Shipment, point: lane::Point, moving: bool) -> String {
        let lane = self.lane_of(shipment);
        let place = lane.describe(lane.nearest_m(point));
        format!("{}, {place}", if moving { "moving" } else { "standing" })
    }

    /// Temperature that a tracker's probe reports, in C, with its error.
    #[must_use]
    pub fn probe_celsius(&self, tracker: &Tracker, at_s: f64) -> f64 {
        let truth = self.shipment_of(tracker).air.celsius_at(at_s);
        let at_ms = self.utc_at(at_s).get();
        let error = tracker.noise.white(noise::Channel::Probe, at_ms);
        truth + error * self.scenario.temperature.probe_noise_c
    }
}

impl Shipment {
    /// The stay at a stop, if the truck gets there.
    #[must_use]
    pub fn stay_at(&self, stop: &Stop) -> Option<&Stay> {
        let here = |stay: &&Stay| (stay.halt.along_m - stop.along_m).abs() < 1.0;
        self.journey.stays().iter().find(here)
    }

    /// When the truck comes to its last stand.
    #[must_use]
    pub fn arrival_s(&self) -> f64 {
        self.journey.stays().last().map_or(0.0, |stay| stay.from_s)
    }
}
