//! Recorded receiver output through the real tracker, over real TCP.
#![expect(
    clippy::unwrap_used,
    reason = "test code; clippy does not see that in a file of its own"
)]

mod peer;

use std::path::PathBuf;
use std::time::Duration;

use peer::{Received, peer, records};
use protocol::reading::{Measured, Missing, Reading};
use protocol::record::Record;
use protocol::units::Seconds;
use simulator::device::BUILD_TIME;
use simulator::recording::{Played, Recording, Replay, play};

async fn played(name: &str) -> (Played, Vec<Reading>) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/nmea");
    let recording = Recording::new(&std::fs::read(root.join(name)).unwrap());
    let received = Received::default();
    let replay = Replay {
        device: "recorded".parse().unwrap(),
        address: peer(received.clone()).await,
        pace: 1_000,
        build_time: recording.first_date().unwrap_or(BUILD_TIME),
        sample: Seconds::saturating(5),
        patience: Duration::from_secs(30),
    };
    let played = play(&recording, replay).await;
    let readings = records(&received)
        .into_values()
        .filter_map(|record| match record {
            Record::Reading(reading) => Some(reading),
            _ => None,
        });
    (played, readings.collect())
}

#[tokio::test]
async fn a_recording_arrives_reading_by_reading_at_its_recorded_place() {
    let (played, readings) = played("neo-m8n.log").await;
    assert!(played.connected);
    assert_eq!(played.counters.records.pending, 0);
    assert_eq!(played.counters.readings.made, readings.len() as u64);
    let places: Vec<_> = readings
        .iter()
        .filter_map(|r| r.position.as_ref().copied())
        .collect();
    assert!(places.len() >= 3, "{} of {}", places.len(), readings.len());
    for place in places {
        // Bend, Oregon, as the recording says.
        assert!((place.latitude.degrees() - 44.069).abs() < 0.01);
        assert!((place.longitude.degrees() + 121.314).abs() < 0.01);
    }
}

#[tokio::test]
async fn a_receiver_that_speaks_no_nmea_is_reported_without_a_position() {
    let (played, readings) = played("bu303-nofix.log").await;
    assert_eq!(played.counters.records.pending, 0);
    assert!(!readings.is_empty());
    // Its output is binary, so it has not been heard, and is not yet taken for broken.
    let unheard = Measured::Missing(Missing::NotSampled);
    for reading in &readings {
        assert_eq!(reading.position, unheard, "{reading:?}");
    }
}

#[tokio::test]
async fn a_receiver_that_still_searches_is_reported_without_a_fix() {
    let (_, readings) = played("quectel-eg25-g.log").await;
    let search = readings
        .iter()
        .skip_while(|reading| reading.position == Measured::Missing(Missing::NotSampled))
        .take_while(|reading| reading.position == Measured::Missing(Missing::NoFix));
    // It finds itself 28 s after its first word.
    assert!(search.count() >= 4, "{readings:?}");
    let found = readings
        .iter()
        .any(|reading| reading.position.value().is_some());
    assert!(found, "{readings:?}");
}
