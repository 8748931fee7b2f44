//! One reading, asserted at every hop: device, MQTT, journal, event, sink.

use anyhow::{Context, Result};
use protocol::batch::Batch;
use protocol::reading::Reading;
use protocol::record::Record;
use protocol::topic::Channel;
use protocol::units::{CentiCelsius, UptimeMs};
use serde_json::{Value, json};
use tests::depot::{Depot, Shown, fleet_plan};
use tests::ledger::Name;
use tests::peer::wait_for;
use tests::tracker::{Carried, Flash};

const DEVICE: &str = "hop-1";

/// 12.34 degrees, where 8 are allowed.
const CENTI_CELSIUS: i64 = 1_234;

/// Long enough for a batch to fill and for the limit of 5 minutes to pass.
const JOURNEY_MS: i64 = 40 * 60 * 1_000;

#[test]
fn one_reading_is_the_same_at_every_hop() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let plan = fleet_plan(&[DEVICE.to_owned()]);
    let mut depot = Depot::create(folder.path(), &data, &plan, "").unwrap();
    depot.start().unwrap();

    // Device and MQTT: sampled by the tracker, published, acknowledged.
    let (name, reading) = drive(&depot).unwrap();
    let celsius = reading.temperatures[0].value().map(CentiCelsius::celsius);
    assert_eq!(celsius, Some(12.34));

    // Journal: stored under its key, with its content.
    let stored = depot.records().unwrap();
    assert_eq!(
        stored.get(&name),
        Some(&Shown::of(&Record::Reading(reading)))
    );

    // Event: the reading is where the excursion began.
    let event = wait_for("the excursion", || excursion(depot.export("events")?)).unwrap();
    let began = format!("{} {}", name.device, name.key);
    let evidence = event["evidence"].as_str().unwrap();
    assert!(evidence.contains(&began), "{evidence} without {began}");
    assert_eq!(event["shipment"], format!("S-{DEVICE}"));
    let occurred = "2026-03-02T07:00:0";
    assert!(
        event["occurred_at"].as_str().unwrap().starts_with(occurred),
        "{event}"
    );
    assert_eq!(
        (&event["max"], &event["value_unit"]),
        (&json!(12.34), &json!("°C"))
    );

    // Sink: the same event, the same evidence.
    let delivered = depot.drained().unwrap();
    let same = |told: &&Value| {
        let data = &told["data"];
        data["event_id"] == event["event_id"] && data["rev"] == event["rev"]
    };
    let told = delivered.iter().find(same).unwrap();
    assert_eq!(told["subject"], event["shipment"]);
    let cited = told["data"]["evidence"].to_string();
    assert!(cited.contains(&name.key.to_string()), "{cited}");
    assert!(depot.stop().unwrap().success());
}

fn excursion(rows: Vec<Value>) -> Result<Option<Value>> {
    Ok(rows.into_iter().find(|row| row["code"] == "EX_TEMPERATURE"))
}

/// Let the tracker live through its journey; its first reading.
fn drive(depot: &Depot) -> Result<(Name, Reading)> {
    let celsius = CentiCelsius::saturating(CENTI_CELSIUS);
    let mut tracker = Carried::boot(DEVICE, celsius, &Flash::default())?;
    tracker.connect(depot.mqtt)?;
    tracker.live(UptimeMs::saturating(JOURNEY_MS))?;
    tracker.disconnect()?;
    for message in &tracker.published {
        if !matches!(message.channel, Channel::Readings | Channel::Alarms) {
            continue;
        }
        let batch = Batch::decode(&message.payload).context("the tracker's batch")?;
        for entry in batch.iter() {
            if let Record::Reading(reading) = entry.numbered.record {
                let key = batch.header().key(entry.numbered.seq);
                let device = DEVICE.parse()?;
                return Ok((Name { device, key }, reading));
            }
        }
    }
    Err(anyhow::anyhow!("the tracker published no reading"))
}
