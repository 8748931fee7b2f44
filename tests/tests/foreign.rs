//! Clients that others wrote: they publish the payload that the README documents, get their PUBACK,
//! and the reading is stored as documented.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rumqttc::{Event, MqttOptions, Packet, QoS, v5};
use serde_json::Value;
use tests::depot::{Depot, fleet_plan};
use tests::peer::{self, PATIENCE};
use tokio::time::timeout;

/// A batch of one reading: epoch 1, boot 1, seq 0, at 60 s of uptime 4.20 degrees at the first probe,
/// everything else not fitted.
const DOCUMENTED: &str = include_str!("../data/reading.hex");

fn depot(folder: &Path) -> Result<Depot> {
    let mut depot = Depot::create(folder, &folder.join("data"), &fleet_plan(&[]), "")?;
    depot.start()?;
    Ok(depot)
}

fn payload() -> Result<Vec<u8>> {
    let digits = DOCUMENTED.trim();
    let pairs = (0..digits.len()).step_by(2).map(|at| &digits[at..at + 2]);
    pairs
        .map(|pair| Ok(u8::from_str_radix(pair, 16)?))
        .collect()
}

/// The one record of `device`, as documented.
fn check_stored(depot: &Depot, device: &str) -> Result<()> {
    let rows = depot.export("readings")?;
    let own: Vec<&Value> = rows.iter().filter(|row| row["device"] == device).collect();
    assert_eq!(own.len(), 1, "{rows:?}");
    let row = own[0];
    assert_eq!(row["kind"], "reading");
    assert_eq!(row["epoch"], "0000000000000001");
    assert_eq!(row["seq"], 0);
    assert_eq!(row["uptime_ms"], 60_000);
    assert_eq!(row["temperature_1_c"], 4.2);
    assert_eq!(row["position_missing"], "not_fitted");
    assert_eq!(row["qos"], 1);
    assert_eq!(row["receipt"], "gateway");
    Ok(())
}

#[test]
fn mosquitto_pub_publishes_the_documented_payload_in_both_versions() {
    let Some(program) = peer::foreign("mosquitto_pub", "mosquitto-clients") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let depot = depot(folder.path()).unwrap();
    let file = folder.path().join("payload");
    fs::write(&file, payload().unwrap()).unwrap();
    for (version, device) in [("mqttv311", "pub-v4"), ("mqttv5", "pub-v5")] {
        let mut publish = Command::new(&program);
        publish.args(["-h", "127.0.0.1", "-p", &depot.mqtt.port().to_string()]);
        publish.args(["-V", version, "-i", device, "-q", "1"]);
        publish.args(["-t", &format!("sc/1/{device}/readings")]);
        peer::run(publish.arg("-f").arg(&file)).unwrap();
        check_stored(&depot, device).unwrap();
    }
}

#[tokio::test]
async fn rumqttc_publishes_the_documented_payload_by_mqtt_3() {
    let folder = tempfile::tempdir().unwrap();
    let depot = depot(folder.path()).unwrap();
    let mut options = MqttOptions::new("rumqttc-v4", "127.0.0.1", depot.mqtt.port());
    options.set_keep_alive(Duration::from_secs(30));
    let (client, mut events) = rumqttc::AsyncClient::new(options, 1);
    let topic = "sc/1/rumqttc-v4/readings";
    let published = client.publish(topic, QoS::AtLeastOnce, false, payload().unwrap());
    published.await.unwrap();
    let acknowledged = async {
        loop {
            if let Event::Incoming(Packet::PubAck(_)) = events.poll().await? {
                return anyhow::Ok(());
            }
        }
    };
    timeout(PATIENCE, acknowledged).await.unwrap().unwrap();
    check_stored(&depot, "rumqttc-v4").unwrap();
}

#[tokio::test]
async fn rumqttc_publishes_the_documented_payload_by_mqtt_5() {
    let folder = tempfile::tempdir().unwrap();
    let depot = depot(folder.path()).unwrap();
    let mut options = v5::MqttOptions::new("rumqttc-v5", "127.0.0.1", depot.mqtt.port());
    options.set_keep_alive(Duration::from_secs(30));
    let (client, mut events) = v5::AsyncClient::new(options, 1);
    let topic = "sc/1/rumqttc-v5/readings";
    let published = client.publish(
        topic,
        v5::mqttbytes::QoS::AtLeastOnce,
        false,
        payload().unwrap(),
    );
    published.await.unwrap();
    timeout(PATIENCE, acknowledged_v5(&mut events))
        .await
        .unwrap()
        .unwrap();
    check_stored(&depot, "rumqttc-v5").unwrap();
}

async fn acknowledged_v5(events: &mut v5::EventLoop) -> Result<()> {
    use v5::mqttbytes::v5::{Packet, PubAckReason};
    loop {
        let event = events.poll().await.context("poll")?;
        if let v5::Event::Incoming(Packet::PubAck(answer)) = event {
            if answer.reason == PubAckReason::Success {
                return Ok(());
            }
            bail!("refused: {:?}", answer.reason);
        }
    }
}
