//! Milestones: when a truck crosses the fences of its stops.

use super::{CONFIRMATION_S, Certainty, MOVING_INTERVAL_S, Notes, RESTING_INTERVAL_S, Window};
use crate::world::fence::Side;
use crate::world::{Role, Stop};

/// So deep inside every fix is certainly inside, in metres: accuracy and error of the worst fix
/// (8.654 m + 4.25 m per unit of dilution, at most 1.3).
const SURELY_INSIDE_M: f64 = 20.0;

/// No fix is certainly outside before this distance, in metres: the plan's default.
const OUTSIDE_M: f64 = 30.0;

/// From this distance every fix is certainly outside, in metres.
const SURELY_OUTSIDE_M: f64 = OUTSIDE_M + SURELY_INSIDE_M;

/// How long all units stand in the last fence before they are delivered, in seconds.
const DELIVERED_AFTER_S: f64 = 900.0;

pub(super) fn expect(notes: &mut Notes<'_>) {
    let stops = &notes.shipment.stops;
    for (index, stop) in stops.iter().enumerate() {
        let next = stops.get(index + 1).map(|next| next.role);
        match stop.role {
            Role::Pickup => starts_inside(notes, stop),
            Role::Hub => arrives(notes, stop, "ARRIVED_HUB"),
            Role::Delivery => arrives(notes, stop, "ARRIVED_DELIVERY"),
        }
        match stop.role {
            Role::Pickup => departs(notes, stop, "PICKED_UP", next),
            Role::Hub => departs(notes, stop, "DEPARTED_HUB", next),
            Role::Delivery => delivers(notes, stop),
        }
    }
}

/// The tracker is attached at the pickup stop: its first fix is inside.
fn starts_inside(notes: &mut Notes<'_>, stop: &Stop) {
    let trackers = &notes.world.trackers[notes.shipment.trackers.clone()];
    let boots = trackers.iter().map(|tracker| tracker.boot_s);
    let first_s = boots.clone().fold(f64::INFINITY, f64::min);
    let seen_s = first_s + 2.0 * RESTING_INTERVAL_S;
    let window = Window::new(first_s, seen_s, seen_s + CONFIRMATION_S);
    let why = format!("its first fix is at {}", stop.name);
    notes.expect("ARRIVED_PICKUP", window, Certainty::Must, why);
}

fn arrives(notes: &mut Notes<'_>, stop: &Stop, code: &'static str) {
    let (Some(edge_s), Some(deep_s)) = (
        crossing(notes, stop, Side::Before, 0.0),
        crossing(notes, stop, Side::Before, -SURELY_INSIDE_M),
    ) else {
        return;
    };
    let to_s = deep_s + 2.0 * MOVING_INTERVAL_S;
    let window = Window::new(edge_s, to_s, to_s + CONFIRMATION_S);
    let why = format!("it drives into {}", stop.name);
    notes.expect(code, window, Certainty::Must, why);
}

/// One departure is told with several codes: the stop's own, that the leg has begun, and that the
/// last leg has.
fn departs(notes: &mut Notes<'_>, stop: &Stop, code: &'static str, next: Option<Role>) {
    let (Some(edge_s), Some(clear_s)) = (
        crossing(notes, stop, Side::After, OUTSIDE_M),
        crossing(notes, stop, Side::After, SURELY_OUTSIDE_M),
    ) else {
        return;
    };
    let to_s = clear_s + 2.0 * MOVING_INTERVAL_S;
    let window = Window::new(edge_s, to_s, to_s + CONFIRMATION_S);
    let last_leg = (next == Some(Role::Delivery)).then_some("OUT_FOR_DELIVERY");
    for code in [Some(code), Some("IN_TRANSIT"), last_leg]
        .into_iter()
        .flatten()
    {
        let why = format!("it drives away from {}", stop.name);
        notes.expect(code, window, Certainty::Must, why);
    }
}

fn delivers(notes: &mut Notes<'_>, stop: &Stop) {
    let stay = notes.shipment.stay_at(stop).copied();
    let (Some(stay), Some(edge_s)) = (stay, crossing(notes, stop, Side::Before, 0.0)) else {
        return;
    };
    // It occurs when the time is over, at the place of the fix that began it: between driving in and
    // the first fix that stands. The next reading at rest shows it.
    let to_s = stay.from_s + DELIVERED_AFTER_S + 2.0 * MOVING_INTERVAL_S + CONFIRMATION_S;
    let known_s = to_s + RESTING_INTERVAL_S;
    let window = Window::new(edge_s + DELIVERED_AFTER_S, to_s, known_s);
    let window = window.placed(edge_s, to_s);
    let why = format!("it stands at {} for good", stop.name);
    notes.expect("DELIVERED", window, Certainty::Must, why);
}

/// When the truck is this far from the edge of the stop's fence; `None` when it starts or ends within.
fn crossing(notes: &Notes<'_>, stop: &Stop, side: Side, distance_m: f64) -> Option<f64> {
    let lane = notes.world.lane_of(notes.shipment);
    let along_m = stop.fence.edge_on(lane, stop.along_m, side, distance_m)?;
    notes.shipment.journey.reaches(along_m)
}
