//! The endpoint from outside: a journal double that withholds and releases, a session store in memory, and
//! clients that say exactly what they are told to say, over in-memory streams on virtual time.

mod clients;
mod downlink;
mod hostile;
mod receipt;
mod refused;
mod sessions;
mod timing;
mod tls;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mqtt_proto::{Pid, QoS, QosPid, TopicFilter, TopicName, v3, v5};
use protocol::key::DeviceId;
use protocol::units::{Milliseconds, UtcMs};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::receipt::{Commit, Due, Publication};
use crate::store::{Batch, journal, memory};

use super::doorkeeper::Trial;
use super::downlink::DesiredError;
use super::endpoint::serve;
use super::frame::{Frame, Frames};
use super::identity::{Claim, Link};
use super::limit::Limits;
use super::persistence::{SessionFuture, SessionRecord, SessionStore, SessionStoreError};
use super::port::{Ports, Shared};
use super::refusal::{Fault, Refusal, RefusalReason};

/// Bytes in flight of an in-memory stream, each way.
const STREAM_BYTES: usize = 64 * 1024;

/// What the gateway's clock shows in these tests, milliseconds since 1970.
const NOW_MS: i64 = 1_773_480_413_000;

/// What the settings port answers.
type Wanted = Result<Option<Vec<u8>>, DesiredError>;

/// A running endpoint without a listener.
struct Rig {
    shared: Arc<Shared>,
    journal: mpsc::Receiver<Publication>,
    sessions: Arc<Memory>,
    settings: Arc<Mutex<Wanted>>,
    refusals: Arc<Mutex<Vec<Refusal>>>,
    stop: watch::Sender<bool>,
}

impl Rig {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Limits)) -> Self {
        Self::build(64, change)
    }

    /// `journal_room`: publications the journal's queue takes.
    fn build(journal_room: usize, change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        let (ports, parts) = ports(journal_room);
        let shared = Shared::new(limits, ports, Arc::default());
        Self {
            shared: Arc::new(shared),
            journal: parts.journal,
            sessions: parts.sessions,
            settings: parts.settings,
            refusals: parts.refusals,
            stop: watch::channel(false).0,
        }
    }

    /// A client whose stream is accepted, and nothing more.
    fn open(&self) -> Client {
        self.open_with(STREAM_BYTES)
    }

    fn open_with(&self, stream_bytes: usize) -> Client {
        let (ours, theirs) = tokio::io::duplex(stream_bytes);
        let shared = Arc::clone(&self.shared);
        let stopping = self.stop.subscribe();
        let peer: SocketAddr = "127.0.0.1:40000".parse().unwrap();
        let trial = trial(&shared, peer);
        tokio::spawn(async move {
            serve(theirs, peer, &Link::Plain, &shared, stopping, trial).await;
        });
        Client {
            stream: ours,
            frames: Frames::new(u32::MAX),
        }
    }

    /// An MQTT 5 client with a clean session.
    async fn client_5(&self, id: &str) -> Client {
        let mut client = self.open();
        client.say_5(connect_5(id)).await;
        assert!(
            matches!(client.hear_5().await, v5::Packet::Connack(ack) if ack.reason_code == v5::ConnectReasonCode::Success)
        );
        client
    }

    /// A 3.1.1 client with a clean session.
    async fn client_311(&self, id: &str) -> Client {
        let mut client = self.open();
        client.say_311(v3::Connect::new(id.into(), 60)).await;
        let welcome = v3::Connack::new(false, v3::ConnectReturnCode::Accepted);
        assert_eq!(client.hear_311().await, welcome.into());
        client
    }

    async fn publication(&mut self) -> Publication {
        self.journal.recv().await.unwrap()
    }

    async fn due(&mut self) -> Due {
        self.publication().await.due.unwrap()
    }

    fn reasons(&self) -> Vec<RefusalReason> {
        self.refusals
            .lock()
            .unwrap()
            .iter()
            .map(|refusal| refusal.reason)
            .collect()
    }

    /// The only refusal so far.
    fn refusal(&self) -> Refusal {
        let refusals = self.refusals.lock().unwrap();
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        refusals[0].clone()
    }
}

/// What the listener would have made of a caller.
fn trial(shared: &Shared, peer: SocketAddr) -> Trial {
    let trial = shared.doorkeeper.admit(peer.ip(), Instant::now());
    trial.unwrap()
}

struct Parts {
    journal: mpsc::Receiver<Publication>,
    sessions: Arc<Memory>,
    settings: Arc<Mutex<Wanted>>,
    refusals: Arc<Mutex<Vec<Refusal>>>,
}

fn ports(journal_room: usize) -> (Ports, Parts) {
    let (ingest, journal) = mpsc::channel(journal_room);
    let sessions = Arc::new(Memory::default());
    let settings = Arc::new(Mutex::new(Ok(None)));
    let refusals = Arc::new(Mutex::new(Vec::new()));
    let clock = Clock::scaled(UtcMs::saturating(NOW_MS), 1);
    clock.freeze();
    let (wanted, counted) = (Arc::clone(&settings), Arc::clone(&refusals));
    let ports = Ports {
        ingest,
        sessions: Arc::clone(&sessions) as Arc<dyn SessionStore>,
        identity: Arc::new(|_: &Claim<'_>| Ok(())),
        settings: Arc::new(move |_: &DeviceId| wanted.lock().unwrap().clone()),
        clock,
        time_uncertainty: Milliseconds::saturating(250),
        on_refusal: Arc::new(move |refusal: &Refusal| {
            counted.lock().unwrap().push(refusal.clone())
        }),
    };
    (
        ports,
        Parts {
            journal,
            sessions,
            settings,
            refusals,
        },
    )
}

/// The journal has made the publication durable.
fn release(due: Due) {
    let store = memory::store();
    let mut batch = Batch::default();
    journal::append(&mut batch, Commit(1), &[]).unwrap();
    store.apply(batch).unwrap();
    let durable = store.barrier().unwrap();
    due.waits_for(Commit(1)).release(durable).unwrap();
}

/// A stream of bytes both ways.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// The far end of a stream.
struct Client<S = DuplexStream> {
    stream: S,
    frames: Frames,
}

impl<S: Duplex> Client<S> {
    async fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn say_5(&mut self, packet: impl Into<v5::Packet>) {
        self.say(packet.into().encode().unwrap().as_ref()).await;
    }

    async fn say_311(&mut self, packet: impl Into<v3::Packet>) {
        self.say(packet.into().encode().unwrap().as_ref()).await;
    }

    async fn hear_5(&mut self) -> v5::Packet {
        let bytes = self.heard().await.expect("the connection was closed");
        v5::Packet::decode(&bytes).unwrap().unwrap()
    }

    async fn hear_311(&mut self) -> v3::Packet {
        let bytes = self.heard().await.expect("the connection was closed");
        v3::Packet::decode(&bytes).unwrap().unwrap()
    }

    /// The reason of a DISCONNECT that must be next, and then the end.
    async fn goodbye(&mut self) -> v5::DisconnectReasonCode {
        let v5::Packet::Disconnect(packet) = self.hear_5().await else {
            panic!("not a DISCONNECT");
        };
        self.closed().await;
        packet.reason_code
    }

    async fn closed(&mut self) {
        assert_eq!(self.heard().await, None, "still talking");
    }

    /// Nothing was said before the answer to this ping.
    async fn is_silent(&mut self) {
        self.say(&[0xc0, 0]).await;
        assert_eq!(
            self.heard().await,
            Some(vec![0xd0, 0]),
            "something came before PINGRESP"
        );
    }

    async fn heard(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(frame) = self.frames.take().unwrap() {
                return Some(whole(&frame));
            }
            if self.stream.read_buf(self.frames.room()).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}

/// All replies are shorter than 128 bytes of body or have a two-byte length.
fn whole(frame: &Frame) -> Vec<u8> {
    let length = frame.body().len();
    let mut bytes = vec![frame.first];
    if length < 128 {
        bytes.push(u8::try_from(length).unwrap());
    } else {
        bytes.push(u8::try_from(length % 128).unwrap() | 0x80);
        bytes.push(u8::try_from(length / 128).unwrap());
    }
    bytes.extend_from_slice(frame.body());
    bytes
}

fn connect_5(id: &str) -> v5::Connect {
    v5::Connect::new(id.into(), 60)
}

fn pid(packet_id: u16) -> Pid {
    Pid::try_from(packet_id).unwrap()
}

fn publish_5(topic: &str, packet_id: u16) -> v5::Publish {
    let qos = match packet_id {
        0 => QosPid::Level0,
        _ => QosPid::Level1(pid(packet_id)),
    };
    v5::Publish::new(qos, topic.try_into().unwrap(), vec![packet_id as u8].into())
}

fn publish_311(topic: &str, packet_id: u16) -> v3::Publish {
    let qos = match packet_id {
        0 => QosPid::Level0,
        _ => QosPid::Level1(pid(packet_id)),
    };
    v3::Publish::new(qos, topic.try_into().unwrap(), vec![packet_id as u8].into())
}

fn subscribe_5(packet_id: u16, filters: &[&str]) -> v5::Subscribe {
    let filter = |filter: &&str| {
        let filter = TopicFilter::try_from(*filter).unwrap();
        (filter, v5::SubscriptionOptions::new(QoS::Level1))
    };
    v5::Subscribe::new(pid(packet_id), filters.iter().map(filter).collect())
}

fn puback_5(packet_id: u16) -> v5::Packet {
    v5::Puback::new_success(pid(packet_id)).into()
}

fn topic(name: &str) -> TopicName {
    name.try_into().unwrap()
}

/// Sessions in memory, with a gate that withholds durability and a switch that makes it fail.
#[derive(Default)]
struct Memory {
    records: Mutex<HashMap<DeviceId, SessionRecord>>,
    closed: AtomicBool,
    opened: Notify,
    broken: AtomicBool,
    writes: AtomicUsize,
}

impl Memory {
    fn record(&self, device: &str) -> Option<SessionRecord> {
        self.records
            .lock()
            .unwrap()
            .get(&device.parse().unwrap())
            .copied()
    }

    fn put(&self, device: &str, record: SessionRecord) {
        self.records
            .lock()
            .unwrap()
            .insert(device.parse().unwrap(), record);
    }

    async fn write(
        &self,
        operation: &'static str,
        device: &DeviceId,
    ) -> Result<(), SessionStoreError> {
        if self.closed.load(Ordering::SeqCst) {
            self.opened.notified().await;
        }
        if self.broken.load(Ordering::SeqCst) {
            let (device, cause) = (device.clone(), "disk gone".into());
            return Err(SessionStoreError::Failed {
                operation,
                device,
                cause,
            });
        }
        self.writes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

impl SessionStore for Memory {
    fn load<'a>(&'a self, device: &'a DeviceId) -> SessionFuture<'a, Option<SessionRecord>> {
        Box::pin(async move { Ok(self.records.lock().unwrap().get(device).copied()) })
    }

    fn save<'a>(&'a self, device: &'a DeviceId, record: SessionRecord) -> SessionFuture<'a, ()> {
        Box::pin(async move {
            self.write("save", device).await?;
            self.records.lock().unwrap().insert(device.clone(), record);
            Ok(())
        })
    }

    fn remove<'a>(&'a self, device: &'a DeviceId) -> SessionFuture<'a, ()> {
        Box::pin(async move {
            self.write("remove", device).await?;
            self.records.lock().unwrap().remove(device);
            Ok(())
        })
    }
}
