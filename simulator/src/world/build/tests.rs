use super::*;
use crate::world::Role;
use crate::world::truck::Purpose;

fn demo(seed: u64) -> World {
    let scenario = Scenario {
        seed,
        ..Scenario::default()
    };
    World::generate(&scenario).unwrap()
}

#[test]
fn the_same_seed_makes_the_same_world_byte_for_byte() {
    let (one, other) = (demo(7), demo(7));
    assert_eq!(one, other);
    for tracker in &one.trackers {
        for hour in 0..24 {
            let at_s = f64::from(hour) * 3_599.0;
            assert_eq!(one.sentences(tracker, at_s), other.sentences(tracker, at_s));
        }
    }
    assert_ne!(demo(8).trackers[0].cell, one.trackers[0].cell);
}

#[test]
fn every_demo_world_has_what_the_demo_promises() {
    for seed in 0..50 {
        let world = demo(seed);
        assert_eq!(world.trackers.len(), 24, "seed {seed}");
        let lanes: std::collections::BTreeSet<usize> = world
            .shipments
            .iter()
            .map(|shipment| shipment.lane)
            .collect();
        assert_eq!(lanes.len(), 8, "seed {seed}");
        let early = world
            .shipments
            .iter()
            .filter(|s| s.arrival_s() < 3.5 * 3_600.0);
        assert!(early.count() >= 2, "seed {seed}: deliveries come late");
        let hot = world.shipments.iter().any(|shipment| {
            let beyond = |celsius| {
                shipment
                    .cargo
                    .limits()
                    .iter()
                    .any(|l| l.excess_c(celsius) > 0.5)
            };
            let runs = shipment.air.intervals(4.0 * 3_600.0, beyond);
            runs.iter().any(|run| run.length_s() > 70.0 * 60.0)
        });
        assert!(hot, "seed {seed}: no clear excursion within four hours");
        let hard = world.trackers.iter().any(|tracker| {
            let limit_g = world.shipment_of(tracker).cargo.shock_g();
            tracker
                .impacts
                .iter()
                .any(|i| i.at_s < 7_200.0 && i.peak_g > 1.3 * limit_g)
        });
        assert!(hard, "seed {seed}: no hard impact within two hours");
        assert!(
            world
                .trackers
                .iter()
                .any(|tracker| !tracker.radio_off.is_empty())
        );
        assert!(
            world
                .trackers
                .iter()
                .any(|tracker| !tracker.asleep.is_empty()),
            "seed {seed}"
        );
    }
}

#[test]
fn trucks_halt_inside_the_fences_of_their_stops_and_queue_outside() {
    for seed in 0..20 {
        let world = demo(seed);
        for shipment in &world.shipments {
            let lane = world.lane_of(shipment);
            for stop in &shipment.stops {
                let depth_m = stop.fence.signed_distance_m(lane.at(stop.along_m));
                assert!(depth_m < -150.0, "seed {seed} {}: {depth_m} m", shipment.id);
                assert!(shipment.stay_at(stop).is_some());
            }
            assert_eq!(
                shipment.stops.last().map(|stop| stop.role),
                Some(Role::Delivery)
            );
            for stay in shipment.journey.stays() {
                if stay.halt.purpose == Purpose::Queueing {
                    let gate = &shipment.stops[shipment.stops.len() - 1].fence;
                    let distance_m = gate.signed_distance_m(lane.at(stay.halt.along_m));
                    assert!((200.0..600.0).contains(&distance_m), "{distance_m} m");
                }
            }
        }
    }
}

#[test]
fn no_truck_of_a_world_teleports() {
    let world = demo(3);
    for shipment in &world.shipments {
        let mut before = world.vehicle(shipment, 0.0);
        for step in 1..20_000 {
            let now = world.vehicle(shipment, f64::from(step) * 10.0);
            let moved_m = now.point.distance_m(before.point);
            assert!(
                moved_m <= 10.0 * 25.0,
                "{}: {moved_m} m in 10 s",
                shipment.id
            );
            assert!((0.0..=25.0).contains(&now.speed_mps));
            before = now;
        }
    }
}

#[test]
fn an_sscc_has_the_check_digit_of_the_gs1_algorithm() {
    // Published example: 0 0614141 123456789 -> check digit 0.
    let digits = "00614141123456789";
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(i, b)| u32::from(b - b'0') * if i % 2 == 0 { 3 } else { 1 })
        .sum();
    assert_eq!((10 - sum % 10) % 10, 0);
    let code = sscc(1);
    assert_eq!(code.len(), 18);
    let all: u32 = code
        .bytes()
        .rev()
        .enumerate()
        .map(|(i, b)| u32::from(b - b'0') * if i % 2 == 0 { 1 } else { 3 })
        .sum();
    assert_eq!(all % 10, 0, "{code}");
}

#[test]
fn an_unknown_lane_is_refused_with_the_known_ones() {
    let scenario = Scenario {
        lanes: vec!["nowhere".into()],
        ..Scenario::default()
    };
    let said = World::generate(&scenario).unwrap_err().to_string();
    assert!(said.contains("nowhere") && said.contains("br-santos-campinas"));
}
