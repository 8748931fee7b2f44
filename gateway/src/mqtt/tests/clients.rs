//! Foreign clients over loopback: rumqttc for 3.1.1 and 5.

use std::time::Duration;

use rumqttc::{mqttbytes as v4_bytes, v5 as rumqttc_5};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::endpoint::{Doors, Endpoint, Handle};
use super::*;

const READINGS: &str = "sc/1/t-1/readings";

/// A listener on a free port.
struct Depot {
    port: u16,
    handle: Handle,
    journal: mpsc::Receiver<Publication>,
    refusals: Arc<Mutex<Vec<Refusal>>>,
    settings: Arc<Mutex<Wanted>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Depot {
    async fn open(limits: Limits) -> Self {
        let doors = Doors {
            plain: Some("127.0.0.1:0".parse().unwrap()),
            tls: None,
        };
        let endpoint = Endpoint::bind(doors, limits).await.unwrap();
        let port = endpoint.plain_addr().unwrap().unwrap().port();
        let handle = endpoint.handle();
        let (ports, parts) = ports(64);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(endpoint.run(ports, async {
            let _ = stopped.await;
        }));
        Self {
            port,
            handle,
            journal: parts.journal,
            refusals: parts.refusals,
            settings: parts.settings,
            stop,
            task,
        }
    }

    async fn due(&mut self) -> Due {
        in_time(self.journal.recv()).await.unwrap().due.unwrap()
    }

    async fn close(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

/// Fail instead of hanging; nothing here takes longer than a moment.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work)
        .await
        .expect("hangs")
}

fn client_5(depot: &Depot) -> (rumqttc_5::AsyncClient, rumqttc_5::EventLoop) {
    let mut options = rumqttc_5::MqttOptions::new("t-1", "127.0.0.1", depot.port);
    options.set_keep_alive(Duration::from_secs(5));
    rumqttc_5::AsyncClient::new(options, 16)
}

fn client_4(depot: &Depot, clean_session: bool) -> (rumqttc::AsyncClient, rumqttc::EventLoop) {
    let mut options = rumqttc::MqttOptions::new("t-1", "127.0.0.1", depot.port);
    options
        .set_keep_alive(Duration::from_secs(5))
        .set_clean_session(clean_session);
    rumqttc::AsyncClient::new(options, 16)
}

/// The next packet that is neither a ping nor its answer.
async fn next_5(events: &mut rumqttc_5::EventLoop) -> rumqttc_5::mqttbytes::v5::Packet {
    use rumqttc_5::mqttbytes::v5::Packet;
    loop {
        match in_time(events.poll()).await.unwrap() {
            rumqttc_5::Event::Incoming(Packet::PingResp(_)) | rumqttc_5::Event::Outgoing(_) => {}
            rumqttc_5::Event::Incoming(packet) => return packet,
        }
    }
}

async fn next_4(events: &mut rumqttc::EventLoop) -> rumqttc::Packet {
    loop {
        match in_time(events.poll()).await.unwrap() {
            rumqttc::Event::Incoming(rumqttc::Packet::PingResp) | rumqttc::Event::Outgoing(_) => {}
            rumqttc::Event::Incoming(packet) => return packet,
        }
    }
}

#[tokio::test]
async fn an_mqtt_5_client_is_acknowledged_when_the_journal_says_so() {
    use rumqttc_5::mqttbytes::{QoS, v5::Packet};
    let mut depot = Depot::open(Limits::default()).await;
    let (client, mut events) = client_5(&depot);
    assert!(matches!(next_5(&mut events).await, Packet::ConnAck(_)));
    for payload in 1..=3_u8 {
        client
            .publish(READINGS, QoS::AtLeastOnce, false, vec![payload])
            .await
            .unwrap();
    }
    let mut dues = Vec::new();
    for _ in 0..3 {
        tokio::select! {
            due = depot.due() => dues.push(due),
            packet = next_5(&mut events) => panic!("{packet:?} before anything was released"),
        }
    }
    for due in dues.into_iter().rev() {
        release(due);
    }
    for packet_id in 1..=3 {
        let Packet::PubAck(ack) = next_5(&mut events).await else {
            panic!()
        };
        assert_eq!(ack.pkid, packet_id);
    }
    depot.close().await;
}

#[tokio::test]
async fn a_311_client_is_acknowledged_when_the_journal_says_so() {
    use v4_bytes::QoS;
    let mut depot = Depot::open(Limits::default()).await;
    let (client, mut events) = client_4(&depot, true);
    assert!(matches!(
        next_4(&mut events).await,
        rumqttc::Packet::ConnAck(_)
    ));
    client
        .publish(READINGS, QoS::AtLeastOnce, false, vec![1])
        .await
        .unwrap();
    let due = tokio::select! {
        due = depot.due() => due,
        packet = next_4(&mut events) => panic!("{packet:?} before anything was released"),
    };
    release(due);
    assert!(matches!(next_4(&mut events).await, rumqttc::Packet::PubAck(ack) if ack.pkid == 1));
    depot.close().await;
}

#[tokio::test]
async fn a_311_session_that_lasts_makes_rumqttc_send_again_what_was_in_flight() {
    use v4_bytes::QoS;
    let mut depot = Depot::open(Limits::default()).await;
    let (client, mut events) = client_4(&depot, false);
    let rumqttc::Packet::ConnAck(ack) = next_4(&mut events).await else {
        panic!()
    };
    assert!(!ack.session_present);
    client
        .publish(READINGS, QoS::AtLeastOnce, false, vec![1])
        .await
        .unwrap();
    let lost = tokio::select! {
        due = depot.due() => due,
        packet = next_4(&mut events) => panic!("{packet:?}"),
    };
    events.clean();
    drop(lost);
    let rumqttc::Packet::ConnAck(ack) = next_4(&mut events).await else {
        panic!()
    };
    assert!(ack.session_present);
    let again = tokio::select! {
        due = depot.due() => due,
        packet = next_4(&mut events) => panic!("{packet:?}"),
    };
    release(again);
    assert!(matches!(next_4(&mut events).await, rumqttc::Packet::PubAck(ack) if ack.pkid == 1));
    depot.close().await;
}

#[tokio::test]
async fn an_mqtt_5_client_hears_its_settings_and_why_a_wildcard_is_refused() {
    use rumqttc_5::mqttbytes::{QoS, v5::Packet};
    let depot = Depot::open(Limits::default()).await;
    let (client, mut events) = client_5(&depot);
    assert!(matches!(next_5(&mut events).await, Packet::ConnAck(_)));
    client
        .subscribe("sc/1/t-1/settings", QoS::AtLeastOnce)
        .await
        .unwrap();
    assert!(matches!(next_5(&mut events).await, Packet::SubAck(_)));
    *depot.settings.lock().unwrap() = Ok(Some(vec![4, 2]));
    assert!(depot.handle.settings_changed(&"t-1".parse().unwrap()));
    let Packet::Publish(settings) = next_5(&mut events).await else {
        panic!()
    };
    assert_eq!(settings.payload.as_ref(), [4, 2]);
    client
        .subscribe("sc/1/+/settings", QoS::AtLeastOnce)
        .await
        .unwrap();
    let told = loop {
        match events.poll().await {
            Ok(rumqttc_5::Event::Outgoing(_)) => {}
            other => break format!("{other:?}"),
        }
    };
    assert!(told.contains("WildcardSubscriptionsNotSupported"), "{told}");
    assert_eq!(
        depot.refusals.lock().unwrap()[0].reason,
        RefusalReason::Wildcard
    );
    depot.close().await;
}

#[tokio::test]
async fn a_client_in_the_middle_of_sending_still_hears_why_it_is_refused() {
    let depot = Depot::open(Limits::default()).await;
    let mut client = tokio::net::TcpStream::connect(("127.0.0.1", depot.port))
        .await
        .unwrap();
    let connect = v5::Packet::from(connect_5("t-1"));
    client
        .write_all(connect.encode().unwrap().as_ref())
        .await
        .unwrap();
    // A publication of 40,000 bytes, all of it sent before anything is read.
    client.write_all(&[0x32, 0xc0, 0xb8, 0x02]).await.unwrap();
    client.write_all(&[0; 40_000]).await.unwrap();
    let mut heard = Frames::new(1_024);
    let mut told = Vec::new();
    while client.read_buf(heard.room()).await.unwrap() > 0 {
        while let Some(frame) = heard.take().unwrap() {
            told.push((frame.first, frame.body().first().copied()));
        }
    }
    assert_eq!(told, [(0x20, Some(0)), (0xe0, Some(0x95))]);
    depot.close().await;
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_a_free_place_is_used_again() {
    let depot = Depot::open(Limits {
        connections_max: 1,
        ..Limits::default()
    })
    .await;
    let address = ("127.0.0.1", depot.port);
    let connect = v5::Packet::from(connect_5("t-1"));
    let connect = connect.encode().unwrap();
    let mut first = tokio::net::TcpStream::connect(address).await.unwrap();
    first.write_all(connect.as_ref()).await.unwrap();
    assert_eq!(first.read_u8().await.unwrap(), 0x20);
    let mut second = tokio::net::TcpStream::connect(address).await.unwrap();
    assert_eq!(
        second.read(&mut [0; 8]).await.unwrap_or(0),
        0,
        "closed unread"
    );
    let refused = depot.refusals.lock().unwrap().clone();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].reason, RefusalReason::ConnectionsFull);
    drop(first);
    loop {
        let mut third = tokio::net::TcpStream::connect(address).await.unwrap();
        let written = third.write_all(connect.as_ref()).await.is_ok();
        if written && third.read_u8().await.is_ok_and(|first| first == 0x20) {
            assert_eq!(depot.handle.connected(), 1);
            break;
        }
    }
    depot.close().await;
}
