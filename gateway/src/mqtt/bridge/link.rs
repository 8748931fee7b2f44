//! One connection to a broker by rumqttc, in either version of MQTT.
//!
//! rumqttc never acknowledges by itself here, and a link serves one connection: after an error it is
//! thrown away with everything that waits in it. Polling it is never broken off, because rumqttc may
//! have taken an acknowledgement out of its channel that is not written yet; so [`Events::turn`] takes
//! the events and gives them back.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::{Outgoing, TlsConfiguration, Transport, v5};
use rustls::ClientConfig;

use crate::deliver::sink::mqtt::Version;

/// Keep-alive of the connection.
const KEEP_ALIVE_SECONDS: u64 = 30;

/// Longest wait for a connection and its CONNACK: a wrong password is told within it.
const CONNECT_TIMEOUT_SECONDS: u64 = 4;

/// Largest packet taken, so that a message that is too large to be stored is still seen and counted. rumqttc
/// reads ten at most ahead. In MQTT 5 the broker is told, and drops what is larger; in 3.1.1 a larger one
/// ends the connection.
const PACKET_MAX_BYTES: u32 = 1024 * 1024;

/// Requests besides acknowledgements: SUBSCRIBE and DISCONNECT.
const OTHER_REQUESTS_MAX: usize = 2;

/// Where and as whom to subscribe.
#[derive(Clone)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Protocol version.
    pub version: Version,
    /// Client id, always the same.
    pub client_id: String,
    /// User and password.
    pub login: Option<(String, String)>,
    /// How the broker is believed; without it the connection is plain TCP.
    pub tls: Option<Arc<ClientConfig>>,
    /// What stands before our topics there.
    pub prefix: String,
    /// Most messages taken and not yet acknowledged.
    pub inflight_max: u16,
    /// How long the broker is asked to keep the session.
    pub session_expiry: Duration,
}

impl std::fmt::Debug for Target {
    /// Without the password: what is formatted ends in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{} as {}", self.host, self.port, self.client_id)
    }
}

/// What a broker is told.
pub(super) enum Requests {
    V4(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

/// What a broker says.
pub(super) enum Events {
    V4(Box<rumqttc::EventLoop>),
    V5(Box<v5::EventLoop>),
}

/// One turn of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The broker has taken the connection.
    Connected {
        /// Whether it still has the session.
        session_present: bool,
    },
    /// The broker has answered the subscription.
    Subscribed(Result<(), String>),
    /// A message.
    Message(Message),
    /// An acknowledgement is written.
    Acknowledged,
    /// Our goodbye is written.
    Left,
    /// Nothing that matters here.
    Nothing,
}

/// A message as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    /// `None` for `QoS` 0.
    pub(super) packet_id: Option<u16>,
}

/// A link that connects when it is turned. `clean` has the broker forget the session before.
pub(super) fn open(target: &Target, clean: bool) -> (Requests, Events) {
    let capacity = usize::from(target.inflight_max) + OTHER_REQUESTS_MAX;
    let keep_alive = Duration::from_secs(KEEP_ALIVE_SECONDS);
    let (id, host) = (target.client_id.clone(), target.host.clone());
    let transport = target.tls.clone().map_or(Transport::Tcp, |config| {
        Transport::tls_with_config(TlsConfiguration::Rustls(config))
    });
    match target.version {
        Version::V4 => {
            let mut options = rumqttc::MqttOptions::new(id, host, target.port);
            let bytes = PACKET_MAX_BYTES as usize;
            options.set_keep_alive(keep_alive).set_clean_session(clean);
            options.set_max_packet_size(bytes, bytes);
            options.set_manual_acks(true).set_transport(transport);
            if let Some((user, password)) = &target.login {
                options.set_credentials(user, password);
            }
            let (client, mut events) = rumqttc::AsyncClient::new(options, capacity);
            let network = &mut events.network_options;
            network.set_connection_timeout(CONNECT_TIMEOUT_SECONDS);
            (Requests::V4(client), Events::V4(Box::new(events)))
        }
        Version::V5 => {
            let mut options = v5::MqttOptions::new(id, host, target.port);
            let expiry = u32::try_from(target.session_expiry.as_secs()).unwrap_or(u32::MAX);
            options.set_keep_alive(keep_alive).set_clean_start(clean);
            options.set_connection_timeout(CONNECT_TIMEOUT_SECONDS);
            options.set_session_expiry_interval(Some(expiry));
            options.set_receive_maximum(Some(target.inflight_max));
            options.set_max_packet_size(Some(PACKET_MAX_BYTES));
            options.set_manual_acks(true).set_transport(transport);
            if let Some((user, password)) = &target.login {
                options.set_credentials(user, password);
            }
            let (client, events) = v5::AsyncClient::new(options, capacity);
            (Requests::V5(client), Events::V5(Box::new(events)))
        }
    }
}

impl Requests {
    /// Subscribe to `filters` with `QoS` 1. What the broker retains is not asked for, where that can be said.
    pub(super) fn subscribe(&self, filters: Vec<String>) -> Result<(), String> {
        let asked = match self {
            Self::V4(client) => {
                let filter = |path| rumqttc::SubscribeFilter::new(path, rumqttc::QoS::AtLeastOnce);
                let asked = client.try_subscribe_many(filters.into_iter().map(filter));
                asked.map_err(|error| error.to_string())
            }
            Self::V5(client) => {
                let filter = |path| v5::mqttbytes::v5::Filter {
                    path,
                    qos: v5::mqttbytes::QoS::AtLeastOnce,
                    retain_forward_rule: v5::mqttbytes::v5::RetainForwardRule::Never,
                    ..Default::default()
                };
                let asked = client.try_subscribe_many(filters.into_iter().map(filter));
                asked.map_err(|error| error.to_string())
            }
        };
        asked.map_err(|error| format!("subscription not asked for: {error}"))
    }

    /// Acknowledge a message; whether there was room for it.
    pub(super) fn acknowledge(&self, packet_id: u16) -> bool {
        match self {
            Self::V4(client) => {
                let qos = rumqttc::QoS::AtLeastOnce;
                let mut message = rumqttc::Publish::new(String::new(), qos, Vec::new());
                message.pkid = packet_id;
                client.try_ack(&message).is_ok()
            }
            Self::V5(client) => {
                let message = v5::mqttbytes::v5::Publish {
                    qos: v5::mqttbytes::QoS::AtLeastOnce,
                    pkid: packet_id,
                    ..Default::default()
                };
                client.try_ack(&message).is_ok()
            }
        }
    }

    /// Say goodbye; the broker keeps the session.
    pub(super) fn leave(&self) {
        // Without room for it the connection is cut, which says the same.
        match self {
            Self::V4(client) => drop(client.try_disconnect()),
            Self::V5(client) => drop(client.try_disconnect()),
        }
    }
}

impl Events {
    /// Wait for the next turn, connecting first when there is no connection.
    pub(super) async fn turn(mut self) -> (Self, Result<Turn, String>) {
        let turn = match &mut self {
            Self::V4(events) => events.poll().await.map(turn_v4).map_err(|e| fault_v4(&e)),
            Self::V5(events) => events.poll().await.map(turn_v5).map_err(|e| fault_v5(&e)),
        };
        (self, turn)
    }
}

fn turn_v4(event: rumqttc::Event) -> Turn {
    use rumqttc::{Event, Packet, QoS, SubscribeReasonCode as Code};
    match event {
        Event::Incoming(Packet::ConnAck(ack)) => Turn::Connected {
            session_present: ack.session_present,
        },
        Event::Incoming(Packet::SubAck(ack)) => {
            let granted = |code: &Code| *code == Code::Success(QoS::AtLeastOnce);
            let refused = ack.return_codes.iter().find(|code| !granted(code));
            Turn::Subscribed(refused.map_or(Ok(()), |code| Err(unsubscribed(code))))
        }
        Event::Incoming(Packet::Publish(message)) => Turn::Message(Message {
            packet_id: (message.qos != QoS::AtMostOnce).then_some(message.pkid),
            payload: message.payload.to_vec(),
            topic: message.topic,
        }),
        Event::Outgoing(Outgoing::PubAck(_)) => Turn::Acknowledged,
        Event::Outgoing(Outgoing::Disconnect) => Turn::Left,
        _ => Turn::Nothing,
    }
}

fn turn_v5(event: v5::Event) -> Turn {
    use v5::Event;
    use v5::mqttbytes::QoS;
    use v5::mqttbytes::v5::{Packet, SubscribeReasonCode as Code};
    match event {
        Event::Incoming(Packet::ConnAck(ack)) => Turn::Connected {
            session_present: ack.session_present,
        },
        Event::Incoming(Packet::SubAck(ack)) => {
            let granted = |code: &Code| *code == Code::Success(QoS::AtLeastOnce);
            let refused = ack.return_codes.iter().find(|code| !granted(code));
            Turn::Subscribed(refused.map_or(Ok(()), |code| Err(unsubscribed(code))))
        }
        Event::Incoming(Packet::Publish(message)) => Turn::Message(Message {
            packet_id: (message.qos != QoS::AtMostOnce).then_some(message.pkid),
            payload: message.payload.to_vec(),
            topic: String::from_utf8_lossy(&message.topic).into_owned(),
        }),
        Event::Outgoing(Outgoing::PubAck(_)) => Turn::Acknowledged,
        Event::Outgoing(Outgoing::Disconnect) => Turn::Left,
        _ => Turn::Nothing,
    }
}

fn unsubscribed(code: &impl std::fmt::Debug) -> String {
    format!(
        "the broker does not grant the subscription with QoS 1 ({code:?}); allow this client to read \
         sc/1/+/readings, alarms, status and ack, behind the prefix"
    )
}

fn fault_v4(error: &rumqttc::ConnectionError) -> String {
    use rumqttc::{ConnectReturnCode as Code, ConnectionError};
    match error {
        ConnectionError::ConnectionRefused(code) => refused(
            code,
            matches!(code, Code::BadUserNamePassword | Code::NotAuthorized),
        ),
        ConnectionError::Tls(error) => untrusted(error),
        other => other.to_string(),
    }
}

fn fault_v5(error: &v5::ConnectionError) -> String {
    use v5::ConnectionError;
    use v5::mqttbytes::v5::ConnectReturnCode as Code;
    match error {
        ConnectionError::ConnectionRefused(code) => refused(
            code,
            matches!(code, Code::BadUserNamePassword | Code::NotAuthorized),
        ),
        ConnectionError::Tls(error) => untrusted(error),
        other => other.to_string(),
    }
}

fn untrusted(error: &rumqttc::TlsError) -> String {
    format!(
        "no TLS with the broker ({error}): look at ca, and whether the broker's certificate names the host"
    )
}

fn refused(code: &impl std::fmt::Debug, is_login: bool) -> String {
    let remedy = if is_login {
        ": look at username and password_file"
    } else {
        ""
    };
    format!("the broker refuses the connection ({code:?}){remedy}")
}
