//! A fleet of real trackers over real TCP against a scripted MQTT 5 peer.
#![expect(
    clippy::unwrap_used,
    reason = "test code; clippy does not see that in a file of its own"
)]

mod peer;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use peer::{Received, peer, records};
use protocol::reading::Reading;
use protocol::record::{AlarmKind, Record};
use protocol::units::UptimeMs;
use simulator::clock::EventClock;
use simulator::fleet::{Fleet, FleetSpec, Totals};
use simulator::scenario::Scenario;
use simulator::world::World;

/// Run a fleet for so many seconds of event time at this speed.
async fn drive(scenario: &Scenario, event_s: i64, speed: u32) -> (World, Received, Totals) {
    let world = Arc::new(World::generate(scenario).unwrap());
    let received = Received::default();
    let address = peer(Arc::clone(&received)).await;
    let end = protocol::units::UtcMs::saturating(world.start.get() + event_s * 1_000);
    let clock = EventClock::starting_at(world.start, speed).standing_still_at(end);
    let fleet = Fleet::start(FleetSpec {
        world: Arc::clone(&world),
        address,
        clock: clock.clone(),
        flash: None,
        life: 0,
    });
    let fleet = fleet.unwrap();
    while clock.now() < end {
        tokio::time::sleep(clock.wait_until(end)).await;
    }
    let totals = fleet.freeze(end, Duration::from_secs(60)).await;
    fleet.stop().await;
    ((*world).clone(), received, totals)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousandfold_fleet_of_24_delivers_every_sample_it_made() {
    let scenario = Scenario::default();
    let (world, received, totals) = drive(&scenario, 3 * 3_600, 1_000).await;
    assert_eq!(totals.trackers, 24);
    assert!(totals.drained, "{totals:?}");
    assert_eq!(totals.pending, 0);
    assert_eq!(totals.sampled, totals.confirmed + totals.lost_on_device);
    // Twelve an hour at rest, sixty on the road.
    assert!(totals.sampled > 24 * 3 * 12, "{totals:?}");
    let records = records(&received);
    let readings = records
        .values()
        .filter(|record| matches!(record, Record::Reading(_)));
    assert_eq!(readings.count() as u64, totals.confirmed);
    let devices: BTreeSet<&String> = records.keys().map(|(device, _)| device).collect();
    assert_eq!(devices.len(), world.trackers.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_fleet_says_depends_on_the_world_and_not_on_the_speed() {
    let scenario = Scenario {
        trackers: 3,
        ..Scenario::default()
    };
    let journey_s = 2 * 3_600;
    let (_, slow, _) = drive(&scenario, journey_s, 2_000).await;
    let (_, fast, _) = drive(&scenario, journey_s, 100_000).await;
    // A busy machine stops the clock late; what is sampled after the end says nothing.
    let end = UptimeMs::saturating(journey_s * 1_000);
    let in_time = |reading: &Reading| reading.uptime < end;
    let readings = |received: &Received| {
        let records = records(received).into_iter();
        let readings = records.filter_map(|((device, _), record)| match record {
            Record::Reading(reading) if in_time(&reading) => Some((device, reading)),
            _ => None,
        });
        readings.collect::<Vec<_>>()
    };
    let (slow, fast) = (readings(&slow), readings(&fast));
    assert!(slow.len() > 100);
    assert_eq!(slow, fast);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hard_impacts_are_reported_and_bumps_are_not() {
    let mut scenario = Scenario::default();
    scenario.silence.radio.at_least = 0;
    let (world, received, _) = drive(&scenario, 7 * 3_600, 50_000).await;
    let records = records(&received);
    for tracker in &world.trackers {
        let limit_g = world.shipment_of(tracker).cargo.shock_g();
        let felt = tracker
            .impacts
            .iter()
            .filter(|impact| impact.at_s < 7.0 * 3_600.0);
        let hard = felt.filter(|impact| impact.peak_g > limit_g).count();
        let shocks = records.iter().filter(|((device, _), record)| {
            let shock = |alarm: &protocol::record::Alarm| alarm.kind == AlarmKind::Shock;
            *device == tracker.device && matches!(record, Record::Alarm(alarm) if shock(alarm))
        });
        assert_eq!(shocks.count(), hard, "{}", tracker.device);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sleeping_tracker_samples_nothing_and_wakes_with_a_reading() {
    let (world, received, totals) = drive(&Scenario::default(), 9 * 3_600, 5_000).await;
    assert_eq!(totals.lost_on_device, 0, "{totals:?}");
    let records = records(&received);
    let mut slept = 0;
    for tracker in &world.trackers {
        let readings = records
            .iter()
            .filter(|((device, _), _)| *device == tracker.device);
        let sampled_s: Vec<f64> = readings
            .filter(|(_, record)| matches!(record, Record::Reading(_)))
            .map(|(_, record)| tracker.boot_s + record.uptime().get() as f64 / 1_000.0)
            .collect();
        for sleep in tracker
            .asleep
            .iter()
            .filter(|sleep| sleep.to_s < 8.0 * 3_600.0)
        {
            let during = sampled_s
                .iter()
                .filter(|at_s| sleep.contains(**at_s + 0.002));
            assert_eq!(during.count(), 0, "{} in {sleep:?}", tracker.device);
            assert!(sampled_s.iter().any(|at_s| (at_s - sleep.to_s).abs() < 1.0));
            slept += 1;
        }
    }
    assert!(slept > 0, "the demo world has a sleeping tracker");
}
