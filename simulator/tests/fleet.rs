//! A fleet of real trackers over real TCP against a scripted MQTT 5 peer.
#![expect(
    clippy::unwrap_used,
    reason = "test code; clippy does not see that in a file of its own"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::batch::Batch;
use protocol::record::{AlarmKind, Record};
use protocol::topic::{Channel, Topic};
use simulator::clock::EventClock;
use simulator::fleet::{Fleet, FleetSpec, Totals};
use simulator::scenario::Scenario;
use simulator::world::World;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Received = Arc<Mutex<BTreeMap<(String, Channel), Vec<Vec<u8>>>>>;

/// Accepts everything and acknowledges it.
async fn peer(received: Received) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&received)));
        }
    });
    address
}

async fn serve(mut stream: TcpStream, received: Received) -> Option<()> {
    loop {
        let kind = stream.read_u8().await.ok()?;
        let length = varint(&mut stream).await?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let answer = match kind >> 4 {
            1 => vec![0x20, 3, 0, 0, 0],
            3 => publish(&body, &received)?,
            8 => vec![0x90, 5, body[0], body[1], 0, 1, 1],
            12 => vec![0xD0, 0],
            _ => return None,
        };
        stream.write_all(&answer).await.ok()?;
    }
}

async fn varint(stream: &mut TcpStream) -> Option<usize> {
    let mut value = 0;
    for shift in [0, 7, 14, 21] {
        let byte = stream.read_u8().await.ok()?;
        value |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Notes a publication of `QoS` 1 and makes its PUBACK.
fn publish(body: &[u8], received: &Received) -> Option<Vec<u8>> {
    let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    let topic = Topic::parse(std::str::from_utf8(&body[2..topic_end]).ok()?).ok()?;
    let id = &body[topic_end..topic_end + 2];
    let properties = usize::from(body[topic_end + 2]);
    assert!(properties < 0x80, "the peer reads short properties only");
    let payload = body[topic_end + 3 + properties..].to_vec();
    let key = (topic.device.to_string(), topic.channel);
    received
        .lock()
        .unwrap()
        .entry(key)
        .or_default()
        .push(payload);
    Some(vec![0x40, 2, id[0], id[1]])
}

/// Run a fleet for so many seconds of event time at this speed.
async fn drive(scenario: &Scenario, event_s: i64, speed: u32) -> (World, Received, Totals) {
    let world = Arc::new(World::generate(scenario).unwrap());
    let received = Received::default();
    let address = peer(Arc::clone(&received)).await;
    let clock = EventClock::starting_at(world.start, speed);
    let fleet = Fleet::start(FleetSpec {
        world: Arc::clone(&world),
        address,
        clock: clock.clone(),
        flash: None,
        life: 0,
    });
    let fleet = fleet.unwrap();
    let end = protocol::units::UtcMs::saturating(world.start.get() + event_s * 1_000);
    while clock.now() < end {
        tokio::time::sleep(clock.wait_until(end)).await;
    }
    let totals = fleet.freeze(end, Duration::from_secs(60)).await;
    fleet.stop().await;
    ((*world).clone(), received, totals)
}

/// Every record by (device, sequence number).
fn records(received: &Received) -> BTreeMap<(String, u32), Record> {
    let received = received.lock().unwrap();
    let batches = received
        .iter()
        .filter(|((_, channel), _)| matches!(channel, Channel::Readings | Channel::Alarms));
    let mut records = BTreeMap::new();
    for ((device, _), payloads) in batches {
        for payload in payloads {
            for entry in &Batch::decode(payload).unwrap() {
                let key = (device.clone(), entry.numbered.seq.0);
                let before = records.insert(key, entry.numbered.record);
                assert!(before.is_none_or(|before| before == entry.numbered.record));
            }
        }
    }
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousandfold_fleet_of_24_delivers_every_sample_it_made() {
    let scenario = Scenario::default();
    let (world, received, totals) = drive(&scenario, 6 * 3_600, 1_000).await;
    assert_eq!(totals.trackers, 24);
    assert!(totals.drained, "{totals:?}");
    assert_eq!(totals.pending, 0);
    assert_eq!(totals.sampled, totals.confirmed + totals.lost_on_device);
    // Twelve an hour at rest, sixty on the road.
    assert!(totals.sampled > 24 * 6 * 12, "{totals:?}");
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
    let (_, slow, _) = drive(&scenario, 2 * 3_600, 2_000).await;
    let (_, fast, _) = drive(&scenario, 2 * 3_600, 100_000).await;
    let readings = |received: &Received| {
        let records = records(received).into_iter();
        let readings = records.filter_map(|((device, _), record)| match record {
            Record::Reading(reading) => Some((device, reading)),
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
