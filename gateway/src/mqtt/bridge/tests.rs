//! A bridge against a broker played by hand (MQTT 3.1.1), and a journal that commits when the test says so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::account::Reason;
use crate::deliver::sink::mqtt::Version;
use crate::mqtt::guard::Strangers;
use crate::store::broker::Memory;
use crate::store::{Batch, Commit, Durable, journal, memory};

const INFLIGHT_MAX: u16 = 4;

const PUBACK: u8 = 0x40;
const SUBACK_KIND: u8 = 0x90;

struct Rig {
    listener: TcpListener,
    store: Store,
    standing: Standing,
    publications: mpsc::Receiver<Publication>,
    refused: Arc<Mutex<Vec<Reason>>>,
    stop: watch::Sender<bool>,
    bridge: JoinHandle<()>,
}

/// A bridge, its journal's queue with `places`, and the broker that it will connect to.
async fn rig(places: usize) -> Rig {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = memory::store();
    let (ingest, publications) = mpsc::channel(places);
    let refused: Arc<Mutex<Vec<Reason>>> = Arc::default();
    let noted = Arc::clone(&refused);
    let standing = Standing::default();
    let bridge = Bridge {
        name: "yard".to_owned(),
        target: Target {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
            version: Version::V4,
            client_id: "depot".to_owned(),
            login: None,
            tls: None,
            prefix: String::new(),
            inflight_max: INFLIGHT_MAX,
            session_expiry: std::time::Duration::from_secs(60),
        },
        ports: Ports {
            ingest,
            store: store.clone(),
            guard: Guard::new(store.clone(), Strangers::Nobody),
            vouched: Vouched::Unregistered,
            clock: Clock::wall(),
            on_refused: Arc::new(move |refused| noted.lock().unwrap().push(refused.reason)),
        },
        standing: standing.clone(),
    };
    let (stop, stopping) = watch::channel(false);
    Rig {
        listener,
        store,
        standing,
        publications,
        refused,
        stop,
        bridge: tokio::spawn(bridge.run(stopping)),
    }
}

impl Rig {
    /// Take a connection and its subscription.
    async fn accept(&self, session_present: bool) -> TcpStream {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let (kind, connect) = frame(&mut stream).await;
        assert_eq!(kind, 0x10);
        assert_eq!(connect[7] & 0b10, 0, "never a clean session");
        stream
            .write_all(&[0x20, 2, u8::from(session_present), 0])
            .await
            .unwrap();
        let (kind, subscribe) = frame(&mut stream).await;
        assert_eq!(kind, 0x82);
        let granted = [SUBACK_KIND, 6, subscribe[0], subscribe[1], 1, 1, 1, 1];
        stream.write_all(&granted).await.unwrap();
        stream
    }

    /// The payload of the next publication, and what is owed for it.
    async fn next(&mut self) -> (u8, Option<crate::receipt::Due>) {
        let publication = self.publications.recv().await.unwrap();
        assert_eq!(publication.origin, crate::receipt::Origin::Broker);
        (publication.payload[0], publication.due)
    }

    fn durable(&self) -> (Commit, Durable) {
        let commit = Commit(self.store.newest_commit().0 + 1);
        let mut batch = Batch::default();
        journal::append(&mut batch, commit, &[]).unwrap();
        self.store.apply(batch).unwrap();
        (commit, self.store.barrier().unwrap())
    }

    fn release(&self, due: crate::receipt::Due) {
        let (commit, durable) = self.durable();
        due.waits_for(commit).release(durable).unwrap();
    }
}

async fn frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let kind = stream.read_u8().await.unwrap();
    let length = usize::from(stream.read_u8().await.unwrap());
    assert!(length < 128, "one byte of length is enough here");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    (kind, body)
}

/// A message that carries one byte; `packet_id` 0 is `QoS` 0.
async fn publish(stream: &mut TcpStream, topic: &str, packet_id: u16, byte: u8) {
    let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
    body.extend_from_slice(topic.as_bytes());
    let kind = if packet_id == 0 { 0x30 } else { 0x32 };
    if packet_id != 0 {
        body.extend_from_slice(&packet_id.to_be_bytes());
    }
    body.push(byte);
    let mut packet = vec![kind, u8::try_from(body.len()).unwrap()];
    packet.append(&mut body);
    stream.write_all(&packet).await.unwrap();
}

const TOPIC: &str = "sc/1/t-1/readings";

async fn puback(stream: &mut TcpStream) -> u8 {
    let (kind, body) = frame(stream).await;
    assert_eq!((kind, body[0]), (PUBACK, 0));
    body[1]
}

#[tokio::test]
async fn a_receipt_of_the_connection_before_acknowledges_nothing_of_this_one() {
    let mut rig = rig(8).await;
    let mut first = rig.accept(false).await;
    publish(&mut first, TOPIC, 1, b'a').await;
    let (byte, before) = rig.next().await;
    assert_eq!(byte, b'a');
    drop(first);

    let mut second = rig.accept(true).await;
    publish(&mut second, TOPIC, 1, b'b').await;
    let (byte, now) = rig.next().await;
    assert_eq!(byte, b'b');
    rig.release(before.unwrap());
    // What comes behind shows that the bridge has seen the release, if it reached it at all.
    publish(&mut second, TOPIC, 0, b'c').await;
    assert_eq!(rig.next().await.0, b'c');
    assert_eq!(rig.standing.state().unacknowledged, 1, "b is still owed");
    rig.release(now.unwrap());
    assert_eq!(puback(&mut second).await, 1);
}

#[tokio::test]
async fn acknowledgements_come_in_the_order_of_arrival_and_only_for_what_is_durable() {
    let mut rig = rig(8).await;
    let mut broker = rig.accept(false).await;
    publish(&mut broker, TOPIC, 7, b'a').await;
    publish(&mut broker, "elsewhere", 8, b'x').await;
    let (_, due) = rig.next().await;
    // Refused at once, but it is not its turn.
    publish(&mut broker, TOPIC, 0, b'b').await;
    assert_eq!(rig.next().await.0, b'b');
    assert_eq!(*rig.refused.lock().unwrap(), [Reason::BrokerTopic]);
    assert_eq!(rig.standing.state().unacknowledged, 2);
    rig.release(due.unwrap());
    assert_eq!(puback(&mut broker).await, 7);
    assert_eq!(puback(&mut broker).await, 8);
}

#[tokio::test]
async fn while_the_journal_takes_nothing_nothing_is_dropped_and_no_more_than_allowed_is_taken() {
    let mut rig = rig(1).await;
    let mut broker = rig.accept(false).await;
    for number in 1..=20_u8 {
        publish(&mut broker, TOPIC, u16::from(number), number).await;
    }
    let mut dues = VecDeque::new();
    for number in 1..=20_u8 {
        if dues.len() == usize::from(INFLIGHT_MAX) {
            let owed = rig.standing.state().unacknowledged;
            assert!(number > 5 || owed == usize::from(INFLIGHT_MAX), "{owed}");
            assert!(number > 5 || rig.publications.try_recv().is_err());
            rig.release(dues.pop_front().unwrap());
            assert_eq!(
                u16::from(puback(&mut broker).await),
                u16::from(number) - INFLIGHT_MAX
            );
        }
        let (byte, due) = rig.next().await;
        assert_eq!(byte, number, "in the order of arrival");
        dues.extend(due);
    }
    assert_eq!(*rig.refused.lock().unwrap(), []);
}

#[tokio::test]
async fn a_session_that_should_be_there_and_is_not_is_a_loss_on_disk() {
    let rig = rig(8).await;
    let mut losses = BTreeMap::new();
    for (connection, session_present) in [false, true, false, true, true].into_iter().enumerate() {
        let mut broker = rig.accept(session_present).await;
        // Its acknowledgement shows that the bridge has dealt with what came before.
        publish(&mut broker, "elsewhere", 1, b'x').await;
        assert_eq!(puback(&mut broker).await, 1);
        let memory = Memory::load(&rig.store, "yard").unwrap();
        losses.insert(connection, memory.losses);
    }
    let expected = BTreeMap::from([(0, 0), (1, 0), (2, 1), (3, 1), (4, 1)]);
    assert_eq!(losses, expected, "the first session is none that was lost");
}

#[tokio::test]
async fn an_orderly_stop_acknowledges_what_the_journal_has_and_says_goodbye() {
    let mut rig = rig(1).await;
    let mut broker = rig.accept(false).await;
    publish(&mut broker, TOPIC, 1, b'a').await;
    publish(&mut broker, TOPIC, 2, b'b').await;
    let (_, first) = rig.next().await;
    let (_, second) = rig.next().await;
    rig.stop.send_replace(true);
    rig.release(first.unwrap());
    rig.release(second.unwrap());
    assert_eq!(puback(&mut broker).await, 1);
    assert_eq!(puback(&mut broker).await, 2);
    assert_eq!(frame(&mut broker).await, (0xe0, Vec::new()));
    rig.bridge.await.unwrap();
}
