//! A real mosquitto as upstream, cut off and restarted without a memory while events flow: what the MQTT
//! sink had in flight is sent again, and in the end a subscriber knows what the file sink knows.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::Value;
use tests::cable::Cable;
use tests::depot::{Depot, fleet_plan, newest};
use tests::device::Device;
use tests::ledger::Ledger;
use tests::load::{Load, Plan};
use tests::mqtt::{self, Incoming, Login, Version};
use tests::peer::{Mosquitto, say, wait_for};

const SEED: u64 = 17;

const DEVICES: u32 = 4;

/// Failures in all; the broker forgets everything in every second one.
const FAILURES: u32 = 6;

/// Bytes that the sink gets through between two failures: several events.
const CARRIED_BYTES: u64 = 5_000;

/// Events after which the load may end: enough to have been under way at every failure.
const EVENTS_MIN: usize = 20;

/// Topic of what the test itself publishes, to know that everything before has arrived.
const MARK: &str = "company/events/MARK";

/// Pause of a subscriber whose broker is away.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);

#[test]
fn every_event_arrives_although_the_broker_is_cut_off_and_forgets_its_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut broker) = Mosquitto::start(folder.path()).unwrap() else {
        return;
    };
    let cable = Cable::start(broker.address).unwrap();
    let subscriber = Subscriber::start(broker.address).unwrap();
    let sink = format!(
        "[[sink]]\nname = \"upstream\"\nkind = \"mqtt\"\nhost = \"127.0.0.1\"\nport = {}\ntopic = \"company/events\"\n",
        cable.address.port()
    );
    let names: Vec<_> = (0..DEVICES)
        .map(|index| Device::new(SEED, index).unwrap().id().to_string())
        .collect();
    let data = folder.path().join("data");
    let mut depot = Depot::create(folder.path(), &data, &fleet_plan(&names), &sink).unwrap();
    depot.start().unwrap();
    let load = load(&depot, &folder.path().join("ledger")).unwrap();

    for failure in 0..FAILURES {
        fail(&cable, failure, &subscriber, &mut broker).unwrap();
    }
    wait_for("enough events to compare", || {
        let told = newest(&depot.delivered()?)?;
        Ok((told.len() > EVENTS_MIN).then_some(()))
    })
    .unwrap();
    let sent = load.finish().unwrap();
    let by_file = newest(&depot.drained().unwrap()).unwrap();
    let by_broker = subscriber.await_all(&by_file).unwrap();
    let swallowed = cable.sent().swallowed;
    say(&format!(
        "seed {SEED}, {FAILURES} failures, {} publications, {} events, {} messages, {swallowed} B swallowed",
        sent.acknowledged,
        by_file.len(),
        by_broker.len()
    ));
    assert!(depot.stop().unwrap().success());
    subscriber.stop();
}

/// The sink publishes into the void until the connection breaks; the broker may have forgotten it after.
fn fail(
    cable: &Cable,
    failure: u32,
    subscriber: &Subscriber,
    broker: &mut Mosquitto,
) -> Result<()> {
    let before = cable.sent();
    wait_for("events to flow", || {
        let carried = cable.sent().carried - before.carried;
        Ok((carried > CARRIED_BYTES).then_some(()))
    })?;
    cable.deafen();
    wait_for("events to be lost on the way", || {
        Ok((cable.sent().swallowed > before.swallowed).then_some(()))
    })?;
    cable.cut();
    if failure % 2 == 1 {
        // What the broker has confirmed is its own affair: it is handed out before the broker forgets it.
        subscriber.await_mark(failure)?;
        subscriber.subscribed.store(false, Ordering::SeqCst);
        broker.restart()?;
        subscriber.await_subscription()?;
    }
    cable.mend();
    Ok(())
}

/// Goes on until it is told to finish.
fn load(depot: &Depot, ledger: &std::path::Path) -> Result<Load> {
    let plan = Plan {
        address: depot.mqtt,
        seed: SEED,
        devices: DEVICES,
        window: 4,
        batch_records: 20,
        batches: None,
        batches_per_s: Some(4.0),
    };
    Load::start(plan, Some(&Arc::new(Ledger::create(ledger)?)))
}

/// Subscribes anew whenever it is connected, and remembers all it receives.
struct Subscriber {
    broker: SocketAddr,
    client: Client,
    subscribed: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    messages: Arc<Mutex<Vec<(String, Value)>>>,
    thread: JoinHandle<Result<()>>,
}

impl Subscriber {
    fn start(broker: SocketAddr) -> Result<Self> {
        let mut options = MqttOptions::new("company", "127.0.0.1", broker.port());
        options.set_keep_alive(Duration::from_secs(30));
        options.set_max_packet_size(256 * 1024, 256 * 1024);
        options.set_clean_session(false);
        let (client, mut connection) = Client::new(options, 10);
        let flag = || Arc::new(AtomicBool::new(false));
        let (subscribed, over) = (flag(), flag());
        let messages: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let (confirmed, finished) = (Arc::clone(&subscribed), Arc::clone(&over));
        let (kept, subscribing) = (Arc::clone(&messages), client.clone());
        let listen = move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        subscribing.try_subscribe("company/events/#", QoS::AtLeastOnce)?;
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => {
                        confirmed.store(true, Ordering::SeqCst)
                    }
                    Ok(Event::Incoming(Packet::Publish(message))) => {
                        let body = serde_json::from_slice(&message.payload).context("no JSON")?;
                        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                        kept.push((message.topic, body));
                    }
                    Err(_) if finished.load(Ordering::SeqCst) => return Ok(()),
                    Err(_) => thread::sleep(RECONNECT_PAUSE),
                    Ok(_) => {}
                }
            }
            Ok(())
        };
        let subscriber = Self {
            broker,
            client,
            subscribed,
            over,
            messages,
            thread: thread::spawn(listen),
        };
        subscriber.await_subscription()?;
        Ok(subscriber)
    }

    fn await_subscription(&self) -> Result<()> {
        wait_for("the subscription", || {
            ensure!(!self.thread.is_finished(), "the subscriber has given up");
            Ok(self.subscribed.load(Ordering::SeqCst).then_some(()))
        })
    }

    /// Publish a message of our own and wait for it: the broker has handed out everything it confirmed
    /// before.
    fn await_mark(&self, number: u32) -> Result<()> {
        let login = Login {
            client_id: "mark",
            version: Version::V311,
            clean: true,
            credentials: None,
        };
        let mut client = mqtt::Client::connect(self.broker, &login)?;
        client.publish(MARK, 1, number.to_string().as_bytes())?;
        let answer = client.receive()?;
        ensure!(matches!(answer, Incoming::PubAck { .. }), "{answer:?}");
        wait_for("the mark", || {
            let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
            let arrived = |(topic, body): &(String, Value)| topic == MARK && *body == number;
            Ok(messages.iter().any(arrived).then_some(()))
        })
    }

    /// Every event so far, as often as it came.
    fn received(&self) -> Vec<Value> {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let events = messages.iter().filter(|(topic, _)| topic != MARK);
        events.map(|(_, event)| event.clone()).collect()
    }

    /// Wait until its events end where the file's do; all messages.
    fn await_all(&self, by_file: &BTreeSet<(String, u64)>) -> Result<Vec<Value>> {
        let mut difference = String::new();
        let waited = wait_for("the subscriber to know what the file says", || {
            let received = self.received();
            let own = newest(&received)?;
            let missing: Vec<_> = by_file.difference(&own).collect();
            let excess: Vec<_> = own.difference(by_file).collect();
            difference = format!(
                "{} messages; missing {missing:?}; excess {excess:?}",
                received.len()
            );
            Ok((own == *by_file).then_some(received))
        });
        waited.with_context(|| difference)
    }

    fn stop(self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = self.client.disconnect();
        assert!(self.thread.join().is_ok_and(|ended| ended.is_ok()));
    }
}
