//! Drawing a route: where a shipment stops, how fast its truck drives, where it loses the sky.

use std::f64::consts::TAU;
use std::ops::Range;

use rand::RngExt;
use rand_pcg::Pcg64;

use super::{draw, generator};
use crate::scenario::{Legs, Scenario};
use crate::world::fence::{Fence, Side};
use crate::world::lane::{Lane, Point};
use crate::world::truck::{Halt, Journey, Purpose, YARD_REACH_M, Zone};
use crate::world::{Role, Stop};

/// A hub is at least so far from pickup and delivery, in metres.
const HUB_APART_M: f64 = 25_000.0;

/// Tunnels and rests keep this far from stops, so that what happens there is seen well, in metres.
const CLEAR_OF_STOPS_M: f64 = 8_000.0;

/// How far outside the fence a truck queues, in metres.
const QUEUE_OUTSIDE_M: [f64; 2] = [250.0, 500.0];

/// Radius of fences, in metres: a yard with its roads.
const FENCE_RADIUS_M: [f64; 2] = [400.0, 700.0];

/// How far the middle of a fence lies from where the truck halts, in metres.
const FENCE_OFFSET_M: f64 = 80.0;

/// Length of a stretch driven at one cruising speed, in metres.
const STRETCH_M: [f64; 2] = [12_000.0, 40_000.0];

/// Length of a slow stretch (roadworks, a town), in metres.
const SLOW_STRETCH_M: [f64; 2] = [3_000.0, 6_000.0];

/// Speed there, in km/h.
const SLOW_KMH: [f64; 2] = [35.0, 50.0];

/// One stretch in so many is followed by a slow one.
const SLOW_ONE_IN: u32 = 6;

/// Mean speed with which the rest times are planned, in km/h.
const PLANNED_KMH: f64 = 76.0;

const MPS_PER_KMH: f64 = 1.0 / 3.6;

/// What was drawn.
pub(super) struct Route {
    pub(super) stops: Vec<Stop>,
    pub(super) journey: Journey,
    pub(super) tunnels: Vec<Range<f64>>,
}

/// Draw a route on `lane`.
pub(super) fn draw_on(scenario: &Scenario, lane: &Lane, early: bool, rng: &mut Pcg64) -> Route {
    let legs = &scenario.legs;
    let stops = stops(scenario, lane, early, rng);
    let halts = halts(legs, lane, &stops, early, rng);
    let (from_m, to_m) = (stops[0].along_m, lane.length_m());
    let zones = zones(legs, from_m, to_m, rng);
    let tunnels = tunnels(scenario, &halts, rng);
    Route {
        journey: Journey::plan(from_m, &halts, &zones),
        stops,
        tunnels,
    }
}

/// Pickup at the waypoint whose way to the end is nearest to the drawn one, delivery at the end.
fn stops(scenario: &Scenario, lane: &Lane, early: bool, rng: &mut Pcg64) -> Vec<Stop> {
    let legs = &scenario.legs;
    let km = if early { legs.early_km } else { legs.km };
    let wanted_m = draw(rng, km) * 1_000.0;
    let last = lane.waypoints().count() - 1;
    let miss = |index: &usize| {
        let along_m = lane.waypoint(*index).map_or(0.0, |(_, along_m)| along_m);
        (lane.length_m() - along_m - wanted_m).abs()
    };
    let pickup = (0..last).min_by(|a, b| miss(a).total_cmp(&miss(b)));
    let pickup = pickup.unwrap_or(0);
    let mut chosen = vec![(pickup, Role::Pickup, "pickup")];
    let hub = hub(legs, lane, pickup, rng).filter(|_| !early);
    chosen.extend(hub.map(|index| (index, Role::Hub, "hub")));
    chosen.push((last, Role::Delivery, "delivery"));
    let stop = |(index, role, id)| stop_at(scenario.seed, lane, index, role, id);
    chosen.into_iter().filter_map(stop).collect()
}

fn hub(legs: &Legs, lane: &Lane, pickup: usize, rng: &mut Pcg64) -> Option<usize> {
    let wanted = rng.random_bool(legs.hub_share);
    let from_m = lane.waypoint(pickup)?.1 + HUB_APART_M;
    let to_m = lane.length_m() - HUB_APART_M;
    let between = |(_, (_, along_m)): &(usize, (_, f64))| (from_m..to_m).contains(along_m);
    let candidates: Vec<usize> = lane
        .waypoints()
        .enumerate()
        .filter(between)
        .map(|(index, _)| index)
        .collect();
    if candidates.is_empty() || !wanted {
        return None;
    }
    Some(candidates[rng.random_range(0..candidates.len())])
}

/// Shipments that stop at the same waypoint share its fence.
fn stop_at(seed: u64, lane: &Lane, index: usize, role: Role, id: &'static str) -> Option<Stop> {
    let (waypoint, along_m) = lane.waypoint(index)?;
    let fence_id = format!("{}-{index}", lane.id);
    let mut rng = generator(seed, stream_of(&fence_id));
    Some(Stop {
        id,
        name: waypoint.name.clone(),
        role,
        along_m,
        fence: fence(waypoint.point(), &mut rng),
        fence_id,
    })
}

/// A stream of its own for a name, far from those of the shipments (FNV-1a, upper bit set).
fn stream_of(name: &str) -> u64 {
    let fold = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, fold) | 1 << 63
}

/// Circles and polygons in turn of chance, a little off the place itself.
fn fence(place: Point, rng: &mut Pcg64) -> Fence {
    let off_m = rng.random_range(0.0..FENCE_OFFSET_M);
    let towards = rng.random_range(0.0..TAU);
    let centre = place.offset_m(off_m * towards.sin(), off_m * towards.cos());
    if rng.random_bool(0.5) {
        let radius_m = draw(rng, FENCE_RADIUS_M);
        return Fence::Circle { centre, radius_m };
    }
    let corners = rng.random_range(5..=8_u32);
    let corner = |index: u32| {
        // Counterclockwise from the east; radii differ, so most polygons are not convex.
        let angle = TAU * f64::from(index) / f64::from(corners);
        let radius_m = draw(rng, FENCE_RADIUS_M) * 1.2;
        centre.offset_m(radius_m * angle.cos(), radius_m * angle.sin())
    };
    Fence::Polygon((0..corners).map(corner).collect())
}

/// Every stand still, in order.
fn halts(legs: &Legs, lane: &Lane, stops: &[Stop], early: bool, rng: &mut Pcg64) -> Vec<Halt> {
    let mut halts: Vec<Halt> = Vec::new();
    for stop in stops {
        if let Some(before) = halts.last() {
            let rests = rests(legs, before.along_m, stop.along_m);
            halts.extend(rests);
        }
        if stop.role == Role::Delivery && rng.random_bool(legs.queue_share) {
            halts.extend(queue(legs, lane, stop, rng));
        }
        let (purpose, minutes) = match stop.role {
            Role::Pickup if early => (Purpose::Loading, legs.early_loading_minutes),
            Role::Pickup => (Purpose::Loading, legs.loading_minutes),
            Role::Hub => (Purpose::Handling, legs.hub_minutes),
            Role::Delivery => (Purpose::Unloading, [0.0, 0.0]),
        };
        halts.push(Halt {
            along_m: stop.along_m,
            for_s: draw(rng, minutes) * 60.0,
            purpose,
        });
    }
    halts
}

/// Rests each so many hours of driving, none of them near the next stop.
fn rests(legs: &Legs, from_m: f64, to_m: f64) -> Vec<Halt> {
    let every_m = legs.rest_after_hours * PLANNED_KMH * 1_000.0;
    let rest = |count: u32| Halt {
        along_m: from_m + every_m * f64::from(count),
        for_s: legs.rest_minutes * 60.0,
        purpose: Purpose::Resting,
    };
    let on_the_way = |halt: &Halt| halt.along_m < to_m - CLEAR_OF_STOPS_M;
    (1..).map(rest).take_while(on_the_way).collect()
}

/// Near miss: the truck waits outside the fence, but close to it.
fn queue(legs: &Legs, lane: &Lane, stop: &Stop, rng: &mut Pcg64) -> Option<Halt> {
    let outside_m = draw(rng, QUEUE_OUTSIDE_M);
    let along_m = stop
        .fence
        .edge_on(lane, stop.along_m, Side::Before, outside_m)?;
    Some(Halt {
        along_m,
        for_s: draw(rng, legs.queue_minutes) * 60.0,
        purpose: Purpose::Queueing,
    })
}

fn zones(legs: &Legs, from_m: f64, to_m: f64, rng: &mut Pcg64) -> Vec<Zone> {
    let mut zones = Vec::new();
    let mut at_m = from_m;
    while at_m < to_m {
        let slow = !zones.is_empty() && rng.random_ratio(1, SLOW_ONE_IN);
        let (length, kmh) = if slow {
            (SLOW_STRETCH_M, SLOW_KMH)
        } else {
            (STRETCH_M, legs.cruise_kmh)
        };
        let end_m = at_m + draw(rng, length);
        zones.push(Zone {
            from_m: at_m,
            to_m: end_m,
            limit_mps: draw(rng, kmh) * MPS_PER_KMH,
        });
        at_m = end_m;
    }
    zones
}

fn tunnels(scenario: &Scenario, halts: &[Halt], rng: &mut Pcg64) -> Vec<Range<f64>> {
    let mut tunnels = Vec::new();
    for pair in halts.windows(2) {
        let from_m = pair[0].along_m + CLEAR_OF_STOPS_M.max(YARD_REACH_M);
        let to_m = pair[1].along_m - CLEAR_OF_STOPS_M - scenario.gnss.tunnel_m[1];
        if to_m <= from_m {
            continue;
        }
        let expected = (to_m - from_m) / 100_000.0 * scenario.gnss.tunnels_per_100_km;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate of at most 10 per 100 km, as parsed"
        )]
        let count = (expected + rng.random_range(0.0..1.0)) as usize;
        for _ in 0..count {
            let start_m = rng.random_range(from_m..to_m);
            tunnels.push(start_m..start_m + draw(rng, scenario.gnss.tunnel_m));
        }
    }
    tunnels
}
