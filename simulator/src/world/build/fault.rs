//! Faults: which shipments and trackers are struck, when and how hard; and the near misses.

use std::collections::BTreeSet;

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64;

use super::{FLEET_STREAM, draw, generator};
use crate::scenario::{Scenario, Span};
use crate::world::goods::{Cell, Climate, Impact, Interval};
use crate::world::truck::Journey;
use crate::world::{Cargo, Tracker, World};

/// Doors open at least this far apart, so that their warmth does not add up, in seconds.
const DOORS_APART_S: f64 = 120.0 * 60.0;

/// Shocks are at least this far apart: devices aggregate repeats within two minutes, in seconds.
const IMPACTS_APART_S: f64 = 10.0 * 60.0;

/// A fault in transit ends at least this long before the last stand, in seconds.
const BEFORE_ARRIVAL_S: f64 = 20.0 * 60.0;

/// A failing reefer is on the road at least this long, in seconds.
const FAILING_JOURNEY_S: f64 = 3.5 * 3_600.0;

/// A sleeping tracker wakes this long before its truck halts, and falls asleep this long after, in
/// seconds.
const CLEAR_OF_HALTS_S: f64 = 25.0 * 60.0;

/// Axes of the accelerometer.
const AXES: usize = 3;

/// What a shipment's box goes through before faults: its doors.
pub(super) fn climate(
    scenario: &Scenario,
    cargo: Cargo,
    journey: &Journey,
    rng: &mut Pcg64,
) -> Climate {
    Climate {
        set_point_c: cargo.set_point_c(),
        ambient_c: draw(rng, scenario.temperature.ambient_c),
        midnight_offset_s: 0.0,
        failures: Vec::new(),
        doors: doors(scenario, journey, rng),
    }
}

/// One at each halt in a yard before the last, and some on the road.
fn doors(scenario: &Scenario, journey: &Journey, rng: &mut Pcg64) -> Vec<Interval> {
    let stays = journey.stays();
    let arrival_s = stays.last().map_or(0.0, |stay| stay.from_s);
    let in_yards = stays.iter().filter(|stay| stay.halt.purpose.in_yard());
    let mut starts: Vec<f64> = in_yards
        .filter(|stay| stay.to_s.is_finite())
        .map(|stay| f64::midpoint(stay.from_s, stay.to_s))
        .collect();
    for _ in 0..count(arrival_s, scenario.temperature.doors_per_hour, rng) {
        starts.push(rng.random_range(0.0..arrival_s));
    }
    spaced(starts, DOORS_APART_S)
        .into_iter()
        .map(|from_s| Interval {
            from_s,
            to_s: from_s + draw(rng, scenario.temperature.door_minutes) * 60.0,
        })
        .collect()
}

/// How often something with an hourly rate happens within a time.
fn count(within_s: f64, per_hour: f64, rng: &mut Pcg64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "hours of a journey times at most 20 per hour, as parsed"
    )]
    let count = (within_s / 3_600.0 * per_hour + rng.random_range(0.0..1.0)) as usize;
    count
}

/// In order, without those that follow too soon.
fn spaced(mut starts: Vec<f64>, apart_s: f64) -> Vec<f64> {
    starts.sort_by(f64::total_cmp);
    let mut kept: Vec<f64> = Vec::new();
    for start in starts {
        if kept.last().is_none_or(|last| start - last >= apart_s) {
            kept.push(start);
        }
    }
    kept
}

/// Strike shipments and trackers with the scenario's faults.
pub(super) fn strike(world: &mut World) {
    let mut rng = generator(world.scenario.seed, FLEET_STREAM - 1);
    let first_failing = fail_reefers(world, &mut rng);
    let dark = darken(world, first_failing, &mut rng);
    weaken_batteries(world, &dark, &mut rng);
    shake(world, &dark, &mut rng);
}

fn late_shipments(world: &World) -> Vec<usize> {
    (world.scenario.legs.early..world.shipments.len()).collect()
}

/// Returns the shipment that fails first.
fn fail_reefers(world: &mut World, rng: &mut Pcg64) -> Option<usize> {
    let settings = world.scenario.temperature.clone();
    let mut eligible = late_shipments(world);
    eligible.retain(|index| {
        let shipment = &world.shipments[*index];
        shipment.cargo.set_point_c().is_some() && shipment.arrival_s() >= FAILING_JOURNEY_S
    });
    eligible.shuffle(rng);
    eligible.truncate(settings.failing.of(eligible.len()));
    for (order, index) in eligible.iter().enumerate() {
        let span = first_or_other(
            order,
            settings.first_failure_minutes,
            settings.failure_minutes,
        );
        let from_s = draw(rng, span) * 60.0;
        let repair_s = draw(rng, settings.repair_minutes) * 60.0;
        let climate = &mut world.shipments[*index].climate;
        let failure = Interval {
            from_s,
            to_s: from_s + repair_s,
        };
        // A door that is opened around a failure would blur when the bound is crossed.
        climate.doors.retain(|door| {
            door.to_s + DOORS_APART_S < failure.from_s || door.from_s > failure.to_s + DOORS_APART_S
        });
        climate.failures.push(failure);
    }
    eligible.first().copied()
}

const fn first_or_other(order: usize, first: Span, other: Span) -> Span {
    if order == 0 { first } else { other }
}

/// Trackers without radio, and sleeping ones; none twice. Returns all of them.
fn darken(world: &mut World, first_failing: Option<usize>, rng: &mut Pcg64) -> BTreeSet<usize> {
    let mut eligible: Vec<usize> = late_shipments(world)
        .into_iter()
        .filter(|index| {
            Some(*index) != first_failing && world.shipments[*index].trackers.len() == 1
        })
        .flat_map(|index| world.shipments[index].trackers.clone())
        .collect();
    eligible.shuffle(rng);
    let silence = world.scenario.silence.clone();
    let silent: Vec<usize> = eligible.drain(..silence.radio.of(eligible.len())).collect();
    for index in &silent {
        let from_s = draw(rng, silence.radio_minutes) * 60.0;
        let to_s = from_s + draw(rng, silence.radio_for_minutes) * 60.0;
        world.trackers[*index]
            .radio_off
            .push(Interval { from_s, to_s });
    }
    let wanted = silence.asleep.of(eligible.len());
    let mut asleep = Vec::new();
    for index in eligible {
        let for_s = draw(rng, silence.asleep_for_minutes) * 60.0;
        let shipment = &world.shipments[world.trackers[index].shipment];
        if let Some(interval) = open_road(&shipment.journey, for_s)
            && asleep.len() < wanted
        {
            world.trackers[index].asleep.push(interval);
            asleep.push(index);
        }
    }
    silent.into_iter().chain(asleep).collect()
}

/// The first stretch of driving that is long enough, and the middle of it.
fn open_road(journey: &Journey, for_s: f64) -> Option<Interval> {
    let gap = |pair: &[crate::world::truck::Stay]| {
        let (from_s, to_s) = (
            pair[0].to_s + CLEAR_OF_HALTS_S,
            pair[1].from_s - CLEAR_OF_HALTS_S,
        );
        let spare_s = to_s - from_s - for_s;
        (spare_s >= 0.0).then_some(Interval {
            from_s: from_s + spare_s / 2.0,
            to_s: from_s + spare_s / 2.0 + for_s,
        })
    };
    journey.stays().windows(2).find_map(gap)
}

fn weaken_batteries(world: &mut World, dark: &BTreeSet<usize>, rng: &mut Pcg64) {
    let settings = world.scenario.battery.clone();
    let early = world.scenario.legs.early;
    let mut eligible: Vec<usize> = (0..world.trackers.len()).collect();
    eligible.retain(|index| !dark.contains(index) && world.trackers[*index].shipment >= early);
    eligible.shuffle(rng);
    eligible.truncate(settings.weak.of(eligible.len()));
    for index in eligible {
        world.trackers[index].cell = Cell {
            percent: draw(rng, settings.weak_percent),
            percent_per_hour: draw(rng, settings.weak_percent_per_hour),
        };
    }
}

/// Hard impacts for some, small bumps for all; only until the truck stands for good.
fn shake(world: &mut World, dark: &BTreeSet<usize>, rng: &mut Pcg64) {
    let settings = world.scenario.shock.clone();
    let mut eligible: Vec<usize> = (0..world.trackers.len()).collect();
    eligible.retain(|index| !dark.contains(index));
    eligible.shuffle(rng);
    eligible.truncate(settings.hard.of(eligible.len()));
    for index in 0..world.trackers.len() {
        let order = eligible.iter().position(|struck| *struck == index);
        let shipment = &world.shipments[world.trackers[index].shipment];
        let (limit_g, until_s) = (
            shipment.cargo.shock_g(),
            shipment.arrival_s() - BEFORE_ARRIVAL_S,
        );
        let hard = order.map(|order| {
            let span = first_or_other(order, settings.first_minutes, settings.minutes);
            let at_s = (draw(rng, span) * 60.0).min(until_s);
            impact(
                at_s,
                limit_g,
                settings.hard_times_limit,
                settings.pulse_ms,
                rng,
            )
        });
        let mut impacts = bumps(&settings, limit_g, until_s, rng);
        impacts.retain(|bump| {
            hard.is_none_or(|hard| (bump.at_s - hard.at_s).abs() >= IMPACTS_APART_S)
        });
        impacts.extend(hard);
        impacts.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        let tracker: &mut Tracker = &mut world.trackers[index];
        let felt = |at_s: f64| {
            at_s > tracker.boot_s && !tracker.asleep.iter().any(|sleep| sleep.contains(at_s))
        };
        impacts.retain(|impact| felt(impact.at_s));
        tracker.impacts = impacts;
    }
}

fn bumps(
    settings: &crate::scenario::Shock,
    limit_g: f64,
    until_s: f64,
    rng: &mut Pcg64,
) -> Vec<Impact> {
    let times = (0..count(until_s, settings.bumps_per_hour, rng))
        .map(|_| rng.random_range(0.0..until_s))
        .collect();
    spaced(times, IMPACTS_APART_S)
        .into_iter()
        .map(|at_s| {
            impact(
                at_s,
                limit_g,
                settings.bump_times_limit,
                settings.pulse_ms,
                rng,
            )
        })
        .collect()
}

fn impact(at_s: f64, limit_g: f64, times: Span, pulse_ms: Span, rng: &mut Pcg64) -> Impact {
    Impact {
        at_s,
        peak_g: limit_g * draw(rng, times),
        pulse_s: draw(rng, pulse_ms) / 1_000.0,
        axis: rng.random_range(0..AXES),
    }
}
