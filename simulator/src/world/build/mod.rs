//! Making a world from a scenario. Every shipment draws from its own generator, so that changing
//! one leaves the others as they were.

mod fault;
mod route;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::goods::{BoxAir, Cell};
use super::lane::Lane;
use super::noise::Noise;
use super::receiver::Receiver;
use super::{Cargo, Shipment, Tracker, World};
use crate::scenario::{Scenario, ScenarioError, Span};
use route::Route;

/// Trackers are switched on within this time, so that they do not sample in step.
const BOOT_SPREAD_MS: u32 = 60_000;

/// Streams of the generator beside those of the shipments.
const FLEET_STREAM: u64 = u64::MAX;

const CUSTOMERS: [&str; 6] = [
    "Alder Foods",
    "Birch Pharma",
    "Cedar Markets",
    "Dogwood Clinics",
    "Elm Electronics",
    "Fir Fresh",
];

impl World {
    /// The world of a scenario.
    ///
    /// # Errors
    /// When the scenario has a value outside its range or names a lane that does not exist.
    pub fn generate(scenario: &Scenario) -> Result<Self, ScenarioError> {
        let scenario = scenario.clone().checked()?;
        let lanes = chosen_lanes(&scenario)?;
        let mut world = Self {
            start: scenario.start_utc(),
            lanes,
            shipments: Vec::new(),
            trackers: Vec::new(),
            scenario,
        };
        world.add_shipments();
        fault::strike(&mut world);
        world.tabulate();
        Ok(world)
    }

    fn add_shipments(&mut self) {
        let sizes = shipment_sizes(&self.scenario);
        let mut fleet = generator(self.scenario.seed, FLEET_STREAM);
        let cargo = shuffled_cargo(&self.scenario, sizes.len(), &mut fleet);
        let mut order: Vec<usize> = (0..self.lanes.len()).collect();
        order.shuffle(&mut fleet);
        for (index, size) in sizes.into_iter().enumerate() {
            let lane = order[index % order.len()];
            self.add_shipment(index, lane, cargo[index], size);
        }
    }

    fn add_shipment(&mut self, index: usize, lane: usize, cargo: Cargo, size: usize) {
        let mut rng = generator(self.scenario.seed, index as u64);
        let early = index < self.scenario.legs.early;
        let route = route::draw_on(&self.scenario, &self.lanes[lane], early, &mut rng);
        let climate = fault::climate(&self.scenario, cargo, &route.journey, &mut rng);
        let Route {
            stops,
            journey,
            tunnels,
        } = route;
        let first = self.trackers.len();
        for member in 0..size {
            let tracker = tracker(&self.scenario, first + member, index, member, &mut rng);
            self.trackers.push(tracker);
        }
        self.shipments.push(Shipment {
            id: format!("SHP-{:04}", index + 1),
            order: format!("PO-{}", rng.random_range(100_000..1_000_000)),
            customer: CUSTOMERS[rng.random_range(0..CUSTOMERS.len())],
            cargo,
            lane,
            journey,
            stops,
            tunnels,
            climate,
            air: BoxAir::default(),
            trackers: first..first + size,
        });
    }

    fn tabulate(&mut self) {
        let horizon_s = f64::from(self.scenario.horizon_hours) * 3_600.0;
        for (index, shipment) in self.shipments.iter_mut().enumerate() {
            shipment.climate.midnight_offset_s = seconds_after_midnight(self.start.get());
            let noise = Noise::new(self.scenario.seed, index as u64);
            shipment.air = BoxAir::tabulate(&shipment.climate, noise, horizon_s);
        }
    }
}

fn seconds_after_midnight(utc_ms: i64) -> f64 {
    utc_ms.rem_euclid(86_400_000) as f64 / 1_000.0
}

/// An even draw from a span.
fn draw(rng: &mut Pcg64, span: Span) -> f64 {
    rng.random_range(span[0]..=span[1])
}

fn generator(seed: u64, stream: u64) -> Pcg64 {
    let state = (u128::from(stream) << 64) | u128::from(seed);
    Pcg64::from_seed(state.to_le_bytes().repeat(2).try_into().unwrap_or([0; 32]))
}

fn chosen_lanes(scenario: &Scenario) -> Result<Vec<Lane>, ScenarioError> {
    let shipped = Lane::shipped();
    if scenario.lanes.is_empty() {
        return Ok(shipped);
    }
    let find = |id: &String| {
        let lane = shipped.iter().find(|lane| lane.id == *id);
        lane.cloned().ok_or_else(|| ScenarioError::UnknownLane {
            lane: id.clone(),
            known: shipped.iter().map(|lane| lane.id.clone()).collect(),
        })
    };
    scenario.lanes.iter().map(find).collect()
}

/// Trackers per shipment: early ones travel alone, then pairs, then single ones.
fn shipment_sizes(scenario: &Scenario) -> Vec<usize> {
    let trackers = scenario.trackers;
    let early = scenario.legs.early.min(trackers);
    let strikes = crate::scenario::Strikes {
        at_least: 0,
        share: scenario.legs.pair_share,
    };
    let paired = strikes.of(trackers - early) / 2;
    let single = trackers - early - 2 * paired;
    let size = |(count, size)| std::iter::repeat_n(size, count);
    [(early, 1), (paired, 2), (single, 1)]
        .into_iter()
        .flat_map(size)
        .collect()
}

/// Exact shares, in random order.
fn shuffled_cargo(scenario: &Scenario, shipments: usize, rng: &mut Pcg64) -> Vec<Cargo> {
    let count = |share| crate::scenario::Strikes { at_least: 0, share }.of(shipments);
    let chilled = count(scenario.cargo.chilled_share);
    let frozen = count(scenario.cargo.frozen_share).min(shipments - chilled);
    let mut cargo = vec![Cargo::Dry; shipments];
    cargo[..chilled].fill(Cargo::Chilled);
    cargo[chilled..chilled + frozen].fill(Cargo::Frozen);
    cargo.shuffle(rng);
    cargo
}

fn tracker(
    scenario: &Scenario,
    index: usize,
    shipment: usize,
    member: usize,
    rng: &mut Pcg64,
) -> Tracker {
    let noise = Noise::new(scenario.seed, (1 << 32) + index as u64);
    Tracker {
        device: format!("trk-{:04}", index + 1),
        unit: format!("pallet-{}", member + 1),
        sscc: sscc(index as u64 + 1),
        shipment,
        // Whole milliseconds, as uptime counts them.
        boot_s: f64::from(rng.random_range(0..BOOT_SPREAD_MS)) / 1_000.0,
        impacts: Vec::new(),
        cell: Cell {
            percent: draw(rng, scenario.battery.percent),
            percent_per_hour: draw(rng, scenario.battery.percent_per_hour),
        },
        radio_off: Vec::new(),
        asleep: Vec::new(),
        receiver: Receiver {
            error_m: scenario.gnss.error_m,
            noise,
        },
        noise,
    }
}

/// A serial shipping container code: extension 0, an example company prefix, serial, check digit.
fn sscc(serial: u64) -> String {
    let body = format!("04012345{serial:09}");
    let weighted = body.bytes().rev().zip([3_u32, 1].into_iter().cycle());
    let sum: u32 = weighted
        .map(|(digit, weight)| u32::from(digit - b'0') * weight)
        .sum();
    format!("{body}{}", (10 - sum % 10) % 10)
}

#[cfg(test)]
mod tests;
