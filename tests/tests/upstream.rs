//! A real mosquitto as upstream of the MQTT sink.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rumqttc::{Event, Packet, QoS};
use serde_json::Value;
use tests::depot::{Depot, fleet_plan, newest};
use tests::device::Device;
use tests::ledger::Ledger;
use tests::load::{Load, Plan};
use tests::peer::{Mosquitto, PATIENCE};
use tokio::time::timeout;

const SEED: u64 = 11;

#[tokio::test]
async fn every_event_reaches_a_subscriber_of_a_real_broker() {
    let folder = tempfile::tempdir().unwrap();
    let Some(broker) = Mosquitto::start(folder.path()).unwrap() else {
        return;
    };
    let mut subscriber = subscribe(&broker).await.unwrap();
    let sink = format!(
        "[[sink]]\nname = \"upstream\"\nkind = \"mqtt\"\nhost = \"127.0.0.1\"\nport = {}\ntopic = \"company/events\"\n",
        broker.address.port()
    );
    let device = Device::new(SEED, 0).unwrap().id().to_string();
    let data = folder.path().join("data");
    let mut depot = Depot::create(folder.path(), &data, &fleet_plan(&[device]), &sink).unwrap();
    depot.start().unwrap();
    load(&depot, &folder.path().join("ledger")).unwrap();

    // By two ways, both receivers end up with the same. (What lies between may differ: a revision that
    // is overtaken while it waits is not sent.)
    let by_file = newest(&depot.drained().unwrap()).unwrap();
    assert!(by_file.len() > 3, "{by_file:?}");
    let mut received = Vec::new();
    while newest(&received).unwrap() != by_file {
        let next = timeout(PATIENCE, next(&mut subscriber)).await;
        let (topic, event) = next.expect("more events").unwrap();
        let code = event["data"]["code"].as_str().unwrap();
        assert_eq!(topic, format!("company/events/{code}"));
        received.push(event);
    }
}

/// Two warm spells, everything acknowledged.
fn load(depot: &Depot, ledger: &std::path::Path) -> Result<()> {
    let ledger = Arc::new(Ledger::create(ledger)?);
    let plan = Plan {
        address: depot.mqtt,
        seed: SEED,
        devices: 1,
        window: 4,
        batch_records: 20,
        batches: Some(7),
        batches_per_s: None,
    };
    Load::start(plan, Some(&ledger))?.join().map(drop)
}

/// A subscriber whose subscription the broker has confirmed.
async fn subscribe(broker: &Mosquitto) -> Result<rumqttc::EventLoop> {
    let mut options = rumqttc::MqttOptions::new("company", "127.0.0.1", broker.address.port());
    options.set_keep_alive(Duration::from_secs(30));
    options.set_max_packet_size(256 * 1024, 256 * 1024);
    let (client, mut events) = rumqttc::AsyncClient::new(options, 1);
    client
        .subscribe("company/events/#", QoS::AtLeastOnce)
        .await?;
    loop {
        let event = timeout(PATIENCE, events.poll()).await??;
        if matches!(event, Event::Incoming(Packet::SubAck(_))) {
            return Ok(events);
        }
    }
}

async fn next(events: &mut rumqttc::EventLoop) -> Result<(String, Value)> {
    loop {
        if let Event::Incoming(Packet::Publish(message)) = events.poll().await? {
            let event = serde_json::from_slice(&message.payload).context("no JSON")?;
            return Ok((message.topic, event));
        }
    }
}
