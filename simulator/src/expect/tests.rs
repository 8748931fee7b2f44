use std::collections::BTreeMap;

use super::*;
use crate::scenario::{Scenario, Strikes};
use crate::world::goods::{BoxAir, Cell, Climate, Impact, Interval};
use crate::world::truck::Purpose;
use crate::world::{Cargo, World};

const HOUR_S: f64 = 3_600.0;
const LATENCY: Duration = Duration::from_secs(600);

/// One chilled shipment on one lane, without any fault.
fn calm() -> World {
    let none = Strikes {
        at_least: 0,
        share: 0.0,
    };
    let mut scenario = Scenario {
        trackers: 1,
        lanes: vec!["br-santos-campinas".into()],
        ..Scenario::default()
    };
    scenario.legs.early = 0;
    scenario.legs.hub_share = 0.0;
    scenario.cargo.chilled_share = 1.0;
    scenario.cargo.frozen_share = 0.0;
    scenario.temperature.failing = none;
    scenario.temperature.doors_per_hour = 0.0;
    scenario.temperature.door_minutes = [0.0, 0.0];
    scenario.shock.hard = none;
    scenario.shock.bumps_per_hour = 0.0;
    scenario.battery.weak = none;
    scenario.silence.radio = none;
    scenario.silence.asleep = none;
    let world = World::generate(&scenario).unwrap();
    assert_eq!(world.shipments[0].cargo, Cargo::Chilled);
    world
}

/// The cooling works as before, except within these times.
fn failing(mut world: World, from_s: f64, to_s: f64) -> World {
    let noise = world.trackers[0].noise;
    let shipment = &mut world.shipments[0];
    shipment.climate = Climate {
        failures: vec![Interval { from_s, to_s }],
        ambient_c: 28.0,
        ..shipment.climate.clone()
    };
    shipment.air = BoxAir::tabulate(&shipment.climate, noise, 48.0 * HOUR_S);
    world
}

fn at(world: &World, until_s: f64) -> Expectations {
    Expectations::of(world, world.utc_at(until_s), LATENCY)
}

fn of_code(expectations: &Expectations, code: &str) -> Vec<Expectation> {
    let all = expectations.expected.iter();
    all.filter(|one| one.code == code).cloned().collect()
}

fn certainties(expectations: &Expectations, code: &str) -> Vec<Certainty> {
    let found = of_code(expectations, code);
    found.iter().map(|one| one.certainty).collect()
}

/// What a perfect gateway would deliver for an expectation.
fn perfect(world: &World, one: &Expectation, id: usize) -> Delivered {
    let middle_ms = i64::midpoint(one.from_ms, one.to_ms);
    let placed_s = f64::midpoint(one.place_s.0, one.place_s.1);
    let shipment = world
        .shipments
        .iter()
        .find(|s| s.id == one.shipment)
        .unwrap();
    let point = world.vehicle(shipment, placed_s).point;
    Delivered {
        event_id: format!("event-{id}"),
        revision: 1,
        phase: "open".into(),
        shipment: one.shipment.clone(),
        code: one.code.into(),
        occurred_at_ms: middle_ms,
        ended_at_ms: None,
        lat: Some(point.lat),
        lon: Some(point.lon),
        accuracy_m: Some(8.0),
    }
}

fn perfect_delivery(world: &World, expectations: &Expectations) -> Vec<Delivered> {
    let all = expectations.expected.iter().enumerate();
    let due = all.filter(|(_, one)| one.certainty == Certainty::Must);
    due.map(|(id, one)| perfect(world, one, id)).collect()
}

#[test]
fn a_calm_journey_is_expected_to_reach_its_milestones_and_nothing_else() {
    let world = calm();
    let codes: Vec<&str> = at(&world, 24.0 * HOUR_S)
        .expected
        .iter()
        .map(|one| one.code)
        .collect();
    let milestones = [
        "ARRIVED_PICKUP",
        "PICKED_UP",
        "IN_TRANSIT",
        "OUT_FOR_DELIVERY",
        "ARRIVED_DELIVERY",
        "DELIVERED",
    ];
    assert_eq!(codes, milestones);
}

#[test]
fn a_milestone_is_undecided_for_a_while_and_then_certain() {
    let world = calm();
    let shipment = &world.shipments[0];
    let stop = shipment.stops.last().unwrap();
    let lane = world.lane_of(shipment);
    let edge = stop
        .fence
        .edge_on(lane, stop.along_m, crate::world::fence::Side::Before, 0.0);
    let edge_s = shipment.journey.reaches(edge.unwrap()).unwrap();
    let certainty = |until_s| certainties(&at(&world, until_s), "ARRIVED_DELIVERY");
    assert_eq!(certainty(edge_s - 1.0), []);
    assert_eq!(certainty(edge_s + 30.0), [Certainty::May]);
    assert_eq!(certainty(edge_s + 900.0), [Certainty::Must]);
    assert_eq!(
        certainties(&at(&world, edge_s + 960.0), "DELIVERED"),
        [Certainty::May]
    );
}

#[test]
fn a_long_failure_must_be_reported_a_short_one_must_not_and_one_in_between_may() {
    for (minutes, expected) in [
        (120.0, Some(Certainty::Must)),
        (32.0, Some(Certainty::May)),
        (12.0, None),
    ] {
        let world = failing(calm(), HOUR_S, HOUR_S + minutes * 60.0);
        let air = &world.shipments[0].air;
        let run = air.intervals(24.0 * HOUR_S, |celsius| celsius > 8.0)[0];
        let expectations = at(&world, 24.0 * HOUR_S);
        let found = of_code(&expectations, "EX_TEMPERATURE");
        let certainty = found.first().map(|one| one.certainty);
        assert_eq!(certainty, expected, "{minutes} min, {run:?}");
        assert_eq!(expectations.near_misses.is_empty(), expected.is_some());
        if let Some(one) = found.first() {
            let since_ms = world.utc_at(run.from_s).get();
            assert!((one.from_ms..=one.to_ms).contains(&since_ms));
        }
    }
}

#[test]
fn an_excursion_that_has_not_lasted_when_time_stops_is_not_demanded() {
    let world = failing(calm(), HOUR_S, 4.0 * HOUR_S);
    let since_s = world.shipments[0].air.intervals(24.0 * HOUR_S, |c| c > 8.0)[0].from_s;
    let certainty =
        |minutes: f64| certainties(&at(&world, since_s + minutes * 60.0), "EX_TEMPERATURE");
    assert_eq!(certainty(25.0), []);
    assert_eq!(certainty(32.0), [Certainty::May]);
    assert_eq!(certainty(40.0), [Certainty::Must]);
}

#[test]
fn an_impact_is_judged_by_peak_and_by_velocity_change() {
    for (peak_g, pulse_ms, expected) in [
        (80.0, 12.0, Some(Certainty::Must)),
        (80.0, 3.0, None),
        (30.0, 12.0, None),
        (51.0, 12.0, Some(Certainty::May)),
    ] {
        let mut world = calm();
        world.trackers[0].impacts = vec![Impact {
            at_s: HOUR_S,
            peak_g,
            pulse_s: pulse_ms / 1_000.0,
            axis: 0,
        }];
        let certainty = certainties(&at(&world, 2.0 * HOUR_S), "EX_SHOCK");
        assert_eq!(
            certainty.first().copied(),
            expected,
            "{peak_g} g, {pulse_ms} ms"
        );
    }
}

#[test]
fn a_worn_battery_a_lost_radio_and_a_sleeping_tracker_are_expected_to_show() {
    let mut world = calm();
    world.trackers[0].cell = Cell {
        percent: 18.0,
        percent_per_hour: 2.0,
    };
    world.trackers[0].radio_off = vec![Interval {
        from_s: 2.0 * HOUR_S,
        to_s: 5.0 * HOUR_S,
    }];
    world.trackers[0].asleep = vec![Interval {
        from_s: 7.0 * HOUR_S,
        to_s: 8.0 * HOUR_S,
    }];
    let expectations = at(&world, 12.0 * HOUR_S);
    for code in ["EX_BATTERY", "EX_SILENT", "EX_DATA_GAP"] {
        assert_eq!(
            certainties(&expectations, code),
            [Certainty::Must],
            "{code}"
        );
    }
    let low = &of_code(&expectations, "EX_BATTERY")[0];
    let low_ms = world.utc_at(HOUR_S).get();
    assert!((low.from_ms..=low.to_ms).contains(&low_ms));
}

#[test]
fn a_perfect_delivery_is_clean_in_any_order_and_twice() {
    let world = World::generate(&Scenario::default()).unwrap();
    let expectations = at(&world, 10.0 * HOUR_S);
    let mut delivered = perfect_delivery(&world, &expectations);
    delivered.extend(delivered.clone());
    delivered.reverse();
    let comparison = compare(&world, &expectations, &delivered);
    assert!(comparison.is_clean(), "{comparison:#?}");
    assert!(comparison.counts.expected > 60);
    assert_eq!(comparison.counts.matched, comparison.counts.expected);
}

#[test]
fn a_missing_event_is_named_with_what_happened_instead() {
    let world = calm();
    let expectations = at(&world, 24.0 * HOUR_S);
    let mut delivered = perfect_delivery(&world, &expectations);
    let late = delivered
        .iter_mut()
        .find(|event| event.code == "DELIVERED")
        .unwrap();
    late.occurred_at_ms += 7_200_000;
    let comparison = compare(&world, &expectations, &delivered);
    assert_eq!(
        (comparison.counts.missing, comparison.counts.unexpected),
        (1, 1)
    );
    let sentence = &comparison.missing[0].sentence;
    assert!(
        sentence.contains("DELIVERED of SHP-0001 is missing"),
        "{sentence}"
    );
    assert!(sentence.contains("reported instead at"), "{sentence}");
}

#[test]
fn an_event_at_the_wrong_place_is_missing_there_and_unexpected_here() {
    let world = calm();
    let expectations = at(&world, 24.0 * HOUR_S);
    let mut delivered = perfect_delivery(&world, &expectations);
    let arrived = delivered
        .iter_mut()
        .find(|event| event.code == "ARRIVED_DELIVERY")
        .unwrap();
    arrived.lat = arrived.lat.map(|lat| lat + 0.01);
    let comparison = compare(&world, &expectations, &delivered);
    assert_eq!(
        (comparison.counts.missing, comparison.counts.unexpected),
        (1, 1)
    );
    assert!(comparison.unexpected[0].sentence.contains("m away"));
}

#[test]
fn an_event_without_a_place_is_missing_wherever_its_tracker_had_a_fix() {
    let world = failing(calm(), HOUR_S, 3.0 * HOUR_S);
    let expectations = at(&world, 24.0 * HOUR_S);
    let whole = perfect_delivery(&world, &expectations);
    assert_eq!(whole.len(), 7, "six milestones and an excursion");
    for index in 0..whole.len() {
        let mut delivered = whole.clone();
        (delivered[index].lat, delivered[index].lon) = (None, None);
        let comparison = compare(&world, &expectations, &delivered);
        let code = &delivered[index].code;
        assert_eq!(comparison.missing.len(), 1, "{code}");
        assert_eq!(comparison.missing[0].code, *code);
        let sentence = &comparison.unexpected[0].sentence;
        assert!(sentence.contains("but it tells no place"), "{sentence}");
    }
}

#[test]
fn an_impact_before_the_first_fix_needs_no_place_and_a_later_one_does() {
    for (minutes, clean) in [(2.0, true), (30.0, false)] {
        let mut world = calm();
        world.trackers[0].impacts = vec![Impact {
            at_s: world.trackers[0].boot_s + minutes * 60.0,
            peak_g: 80.0,
            pulse_s: 0.012,
            axis: 0,
        }];
        let expectations = at(&world, 24.0 * HOUR_S);
        let mut delivered = perfect_delivery(&world, &expectations);
        let shock = delivered.iter_mut().find(|event| event.code == "EX_SHOCK");
        let shock = shock.unwrap();
        (shock.lat, shock.lon) = (None, None);
        let comparison = compare(&world, &expectations, &delivered);
        assert_eq!(comparison.is_clean(), clean, "after {minutes} min");
    }
}

#[test]
fn a_delivery_told_later_than_two_intervals_and_a_confirmation_is_missing() {
    let world = calm();
    let shipment = &world.shipments[0];
    let stay = shipment.stay_at(shipment.stops.last().unwrap()).unwrap();
    let expectations = at(&world, 24.0 * HOUR_S);
    for (late_s, clean) in [(230.0, true), (250.0, false)] {
        let mut delivered = perfect_delivery(&world, &expectations);
        let last = delivered.iter_mut().find(|event| event.code == "DELIVERED");
        last.unwrap().occurred_at_ms = world.utc_at(stay.from_s + 900.0 + late_s).get();
        let comparison = compare(&world, &expectations, &delivered);
        assert_eq!(comparison.is_clean(), clean, "{late_s} s");
    }
}

#[test]
fn a_retracted_event_does_not_count_and_a_near_miss_explains_a_false_one() {
    let world = failing(calm(), HOUR_S, HOUR_S + 12.0 * 60.0);
    let expectations = at(&world, 24.0 * HOUR_S);
    let mut delivered = perfect_delivery(&world, &expectations);
    let mut alarm = Delivered {
        event_id: "false".into(),
        code: "EX_TEMPERATURE".into(),
        occurred_at_ms: expectations.near_misses[0].at_ms,
        ..delivered[1].clone()
    };
    delivered.push(alarm.clone());
    let comparison = compare(&world, &expectations, &delivered);
    assert_eq!(comparison.codes["EX_TEMPERATURE"].unexpected, 1);
    let sentence = &comparison.unexpected[0].sentence;
    assert!(sentence.contains("it is above 8 C for"), "{sentence}");
    alarm.revision = 2;
    alarm.phase = "retract".into();
    delivered.push(alarm);
    assert!(compare(&world, &expectations, &delivered).is_clean());
}

#[test]
fn demo_worlds_expect_the_promised_events_early_and_leave_little_open() {
    let mut sums: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for seed in 0..40 {
        let scenario = Scenario {
            seed,
            ..Scenario::default()
        };
        let world = World::generate(&scenario).unwrap();
        let early = at(&world, 4.5 * HOUR_S);
        for code in ["EX_TEMPERATURE", "EX_SHOCK", "DELIVERED"] {
            let sure = certainties(&early, code).contains(&Certainty::Must);
            assert!(sure, "seed {seed}: no {code}");
        }
        for one in at(&world, 7.5 * HOUR_S).expected {
            let sum = sums.entry(one.code).or_default();
            sum.0 += 1;
            sum.1 += u32::from(one.certainty == Certainty::May);
        }
    }
    for (code, (all, open)) in sums {
        assert!(open * 20 <= all, "{code}: {open} of {all} are ambiguous");
    }
}

#[test]
fn a_queue_at_the_gate_is_outside_of_what_an_arrival_allows() {
    let mut queues = 0;
    for seed in 0..10 {
        let scenario = Scenario {
            seed,
            ..Scenario::default()
        };
        let world = World::generate(&scenario).unwrap();
        let expectations = at(&world, 40.0 * HOUR_S);
        for shipment in &world.shipments {
            let stays = shipment.journey.stays().iter();
            for stay in stays.filter(|stay| stay.halt.purpose == Purpose::Queueing) {
                let arrival = expectations
                    .expected
                    .iter()
                    .find(|one| one.shipment == shipment.id && one.code == "ARRIVED_DELIVERY");
                assert!(arrival.unwrap().from_ms > world.utc_at(stay.to_s).get());
                queues += 1;
            }
        }
    }
    assert!(queues > 10);
}
