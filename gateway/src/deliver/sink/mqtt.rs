//! An upstream MQTT broker, by rumqttc, with its loss trap closed.
//!
//! rumqttc drops everything in flight and queued when a CONNACK says that the session is gone. So
//! nothing waits inside it: at most [`INFLIGHT_ROWS`] notices are published, each packet id is mapped
//! to its notice, a PUBACK confirms it, and after any error client and event loop are thrown away.
//! What was not confirmed is still in the outbox and comes again. Every connection is a clean start.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use rumqttc::{Event, Outgoing, Packet, QoS, v5};

use super::{Delivered, Notice, SinkError};

/// Most notices published and not yet confirmed: below the receive maximum of common brokers.
pub const INFLIGHT_ROWS: u16 = 20;
/// A broker that confirms nothing for this long is given up and reconnected.
const PROGRESS_SECONDS: u64 = 30;
/// Keep-alive of the upstream connection.
const KEEP_ALIVE_SECONDS: u64 = 30;
/// Largest packet either way: an event is a few kilobytes.
const PACKET_MAX_BYTES: u32 = 256 * 1024;

/// Which MQTT to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V4,
    /// MQTT 5.
    V5,
}

/// Where and as whom to publish.
#[derive(Clone, Debug)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Protocol version.
    pub version: Version,
    /// Client id; unique per gateway and sink, or two connections take each other over.
    pub client_id: String,
    /// User and password.
    pub login: Option<(String, String)>,
    /// Notices go to `<topic>/<CODE>`.
    pub topic: String,
}

/// Publishes to one broker.
#[derive(Debug)]
pub struct MqttSink {
    target: Target,
    connection: Option<Connection>,
}

#[allow(
    clippy::large_enum_variant,
    reason = "one per sink, and the sink itself is boxed"
)]
enum Connection {
    V4(rumqttc::AsyncClient, rumqttc::EventLoop),
    V5(v5::AsyncClient, v5::EventLoop),
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4(..) => "MQTT 3.1.1",
            Self::V5(..) => "MQTT 5",
        })
    }
}

/// What one turn of the event loop brought.
enum Turn {
    Sent(u16),
    Confirmed(u16),
    Refused(u16, String),
    Nothing,
}

/// The rows of one batch, by how far they are.
#[derive(Default)]
struct Window {
    /// Handed to the event loop, packet id not yet known; in order.
    unsent: VecDeque<usize>,
    /// Published, by packet id.
    inflight: HashMap<u16, usize>,
    /// First row not yet handed over.
    next: usize,
}

impl MqttSink {
    /// A sink for `target`; it connects when the first notice comes.
    #[must_use]
    pub const fn new(target: Target) -> Self {
        Self {
            target,
            connection: None,
        }
    }

    /// Publish the batch and wait for every PUBACK, or for the first failure.
    pub async fn deliver(&mut self, batch: &[Notice]) -> Delivered {
        let mut confirmed = Vec::new();
        let failure = self.publish_all(batch, &mut confirmed).await.err();
        if failure.is_some() {
            self.connection = None;
        }
        Delivered { confirmed, failure }
    }

    /// Answer pings between batches; after a failure wait for the next batch to connect anew.
    pub async fn idle(&mut self) {
        while let Some(connection) = &mut self.connection {
            if connection.turn().await.is_err() {
                self.connection = None;
            }
        }
        std::future::pending().await
    }

    async fn publish_all(
        &mut self,
        batch: &[Notice],
        confirmed: &mut Vec<usize>,
    ) -> Result<(), SinkError> {
        let broker = format!("{}:{}", self.target.host, self.target.port);
        let fault = |reason: String| SinkError::Connection {
            broker: broker.clone(),
            reason,
        };
        let target = &self.target;
        let connection = self
            .connection
            .get_or_insert_with(|| Connection::open(target));
        let mut window = Window::default();
        while confirmed.len() < batch.len() {
            window
                .fill(connection, &target.topic, batch)
                .map_err(fault)?;
            let patience = Duration::from_secs(PROGRESS_SECONDS);
            let turn = tokio::time::timeout(patience, connection.turn())
                .await
                .map_err(|_| SinkError::NoProgress {
                    broker: broker.clone(),
                    seconds: PROGRESS_SECONDS,
                })?;
            match turn.map_err(fault)? {
                Turn::Sent(packet) => window.sent(packet),
                Turn::Confirmed(packet) => confirmed.extend(window.inflight.remove(&packet)),
                Turn::Refused(packet, reason) => {
                    let row = window.inflight.get(&packet).and_then(|row| batch.get(*row));
                    let id = row.map_or_else(|| format!("packet {packet}"), |row| row.id.clone());
                    return Err(SinkError::Refused { broker, id, reason });
                }
                Turn::Nothing => {}
            }
        }
        Ok(())
    }
}

impl Window {
    /// Hand rows over until [`INFLIGHT_ROWS`] are under way.
    fn fill(&mut self, to: &Connection, topic: &str, batch: &[Notice]) -> Result<(), String> {
        while self.unsent.len() + self.inflight.len() < usize::from(INFLIGHT_ROWS) {
            let Some(notice) = batch.get(self.next) else {
                break;
            };
            to.publish(topic, notice)?;
            self.unsent.push_back(self.next);
            self.next += 1;
        }
        Ok(())
    }

    /// The event loop takes requests in order, so packet ids come in the order of `unsent`.
    fn sent(&mut self, packet: u16) {
        self.inflight
            .extend(self.unsent.pop_front().map(|row| (packet, row)));
    }
}

impl Connection {
    fn open(target: &Target) -> Self {
        let capacity = usize::from(INFLIGHT_ROWS);
        let keep_alive = Duration::from_secs(KEEP_ALIVE_SECONDS);
        let (id, host) = (target.client_id.clone(), target.host.clone());
        match target.version {
            Version::V4 => {
                let mut options = rumqttc::MqttOptions::new(id, host, target.port);
                let bytes = PACKET_MAX_BYTES as usize;
                options.set_keep_alive(keep_alive).set_clean_session(true);
                options
                    .set_inflight(INFLIGHT_ROWS)
                    .set_max_packet_size(bytes, bytes);
                if let Some((user, password)) = &target.login {
                    options.set_credentials(user, password);
                }
                let (client, events) = rumqttc::AsyncClient::new(options, capacity);
                Self::V4(client, events)
            }
            Version::V5 => {
                let mut options = v5::MqttOptions::new(id, host, target.port);
                options.set_keep_alive(keep_alive).set_clean_start(true);
                options.set_outgoing_inflight_upper_limit(INFLIGHT_ROWS);
                options.set_max_packet_size(Some(PACKET_MAX_BYTES));
                if let Some((user, password)) = &target.login {
                    options.set_credentials(user, password);
                }
                let (client, events) = v5::AsyncClient::new(options, capacity);
                Self::V5(client, events)
            }
        }
    }

    fn publish(&self, topic: &str, notice: &Notice) -> Result<(), String> {
        let topic = format!("{topic}/{}", notice.code);
        let body = notice.body.clone();
        match self {
            Self::V4(client, _) => client
                .try_publish(topic, QoS::AtLeastOnce, false, body)
                .map_err(|error| error.to_string()),
            Self::V5(client, _) => {
                let properties = v5::mqttbytes::v5::PublishProperties {
                    content_type: Some("application/cloudevents+json; charset=utf-8".to_owned()),
                    ..Default::default()
                };
                let qos = v5::mqttbytes::QoS::AtLeastOnce;
                client
                    .try_publish_with_properties(topic, qos, false, body, properties)
                    .map_err(|error| error.to_string())
            }
        }
    }

    async fn turn(&mut self) -> Result<Turn, String> {
        match self {
            Self::V4(_, events) => match events.poll().await.map_err(|error| error.to_string())? {
                Event::Outgoing(Outgoing::Publish(packet)) => Ok(Turn::Sent(packet)),
                Event::Incoming(Packet::PubAck(ack)) => Ok(Turn::Confirmed(ack.pkid)),
                _ => Ok(Turn::Nothing),
            },
            Self::V5(_, events) => match events.poll().await.map_err(|error| error.to_string())? {
                v5::Event::Outgoing(Outgoing::Publish(packet)) => Ok(Turn::Sent(packet)),
                v5::Event::Incoming(v5::mqttbytes::v5::Packet::PubAck(ack)) => Ok(answer(&ack)),
                _ => Ok(Turn::Nothing),
            },
        }
    }
}

/// MQTT 5 brokers may say no; rumqttc frees the publication either way, we do not.
fn answer(ack: &v5::mqttbytes::v5::PubAck) -> Turn {
    use v5::mqttbytes::v5::PubAckReason::{NoMatchingSubscribers, Success};
    match ack.reason {
        Success | NoMatchingSubscribers => Turn::Confirmed(ack.pkid),
        reason => Turn::Refused(ack.pkid, format!("{reason:?}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Takes one connection, acknowledges `acks` publications, then hangs up. Never has a session.
    async fn serve(listener: &TcpListener, version: Version, acks: usize) -> Vec<String> {
        let (mut stream, _) = listener.accept().await.unwrap();
        frame(&mut stream).await.unwrap();
        let connack: &[u8] = match version {
            Version::V4 => &[0x20, 2, 0, 0],
            Version::V5 => &[0x20, 3, 0, 0, 0],
        };
        stream.write_all(connack).await.unwrap();
        let mut acknowledged = Vec::new();
        while acknowledged.len() < acks {
            let Some((0x32, body)) = frame(&mut stream).await else {
                break;
            };
            let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
            let packet = [0x40, 2, body[topic_end], body[topic_end + 1]];
            stream.write_all(&packet).await.unwrap();
            let text = String::from_utf8_lossy(&body);
            let start = text.find("{\"id\":\"").unwrap() + 7;
            acknowledged.push(text[start..text.len() - 2].to_owned());
        }
        acknowledged
    }

    async fn frame(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
        let kind = stream.read_u8().await.ok()?;
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let byte = stream.read_u8().await.ok()?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        Some((kind, body))
    }

    fn notices(count: usize) -> Vec<Notice> {
        let notice = |index: usize| {
            let id = format!("{index}-1");
            let body = format!("{{\"id\":\"{id}\"}}").into_bytes();
            Notice {
                id,
                code: "EX_SHOCK",
                body,
            }
        };
        (0..count).map(notice).collect()
    }

    async fn loses_nothing_to_a_broker_that_forgets_sessions(version: Version) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
            version,
            client_id: "depot-1-upstream".to_owned(),
            login: None,
            topic: "events".to_owned(),
        };
        let broker = tokio::spawn(async move {
            let mut acknowledged = BTreeSet::new();
            for acks in [7, 0, 30, usize::MAX] {
                acknowledged.extend(serve(&listener, version, acks).await);
                if acknowledged.len() == 60 {
                    break;
                }
            }
            acknowledged
        });
        let mut sink = MqttSink::new(target);
        let mut waiting = notices(60);
        let mut confirmed = BTreeSet::new();
        for _ in 0..10 {
            let outcome = sink.deliver(&waiting).await;
            confirmed.extend(outcome.confirmed.iter().map(|row| waiting[*row].id.clone()));
            waiting.retain(|notice| !confirmed.contains(&notice.id));
            if waiting.is_empty() {
                break;
            }
            assert!(
                outcome.failure.is_some(),
                "unconfirmed rows without a failure"
            );
        }
        drop(sink);
        let acknowledged = broker.await.unwrap();
        assert!(
            confirmed.is_subset(&acknowledged),
            "confirmed what the broker never had"
        );
        assert_eq!(confirmed.len(), 60);
    }

    #[tokio::test]
    async fn mqtt_3_1_1_loses_nothing_to_a_broker_that_forgets_sessions() {
        loses_nothing_to_a_broker_that_forgets_sessions(Version::V4).await;
    }

    #[tokio::test]
    async fn mqtt_5_loses_nothing_to_a_broker_that_forgets_sessions() {
        loses_nothing_to_a_broker_that_forgets_sessions(Version::V5).await;
    }
}
