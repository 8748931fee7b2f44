//! Frames to packets: both protocol versions become one, and what the codec lets through is checked here.

use std::fmt::{Debug, Display};

use bytes::Bytes;
use mqtt_proto::v5::ErrorV5;
use mqtt_proto::{Error, PollHeader, QoS, QosPid, TopicFilter, TopicName, v3, v5};

use super::frame::Frame;
use super::refusal::{Fault, RefusalReason, quote};

/// Packet type and flags of CONNECT.
pub(crate) const CONNECT: u8 = 0x10;

/// Where the protocol level stands in the body of CONNECT, behind the name "MQTT".
const LEVEL_INDEX: usize = 6;

/// Flags of CONNECT that describe a will: `QoS` and retain. Without a will they must be 0 (3.1.2.6, 3.1.2.7).
const WILL_DETAIL_FLAGS: u8 = 0b0011_1000;

/// The flag of CONNECT that announces a will.
const WILL_FLAG: u8 = 0b0000_0100;

/// The protocol versions served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

/// What a client may send after CONNECT.
#[derive(Debug)]
pub(crate) enum Incoming {
    Publish(Publish),
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    Ping,
    Disconnect(Disconnect),
    /// A PUBACK for a message that was never sent with `QoS` 1: without effect.
    StrayPuback,
}

/// CONNECT. Not to be formatted: it holds the client's secret.
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) client_id: String,
    pub(crate) clean_start: bool,
    /// 0 turns it off.
    pub(crate) keep_alive_seconds: u16,
    /// What an MQTT 5 client asks for; 3.1.1 knows only "with the connection" and "for ever".
    pub(crate) expiry_seconds: u32,
    /// Largest packet the client takes.
    pub(crate) packet_bytes_max: Option<u32>,
    pub(crate) will: Option<Will>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Bytes>,
    pub(crate) authentication_method: bool,
}

/// What the endpoint says for a device that is gone.
#[derive(Debug)]
pub(crate) struct Will {
    pub(crate) topic: TopicName,
    pub(crate) payload: Bytes,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) delay_seconds: u32,
}

/// PUBLISH.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) qos: QosPid,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
    pub(crate) alias: bool,
    pub(crate) topic: TopicName,
    pub(crate) payload: Bytes,
}

/// SUBSCRIBE.
#[derive(Debug)]
pub(crate) struct Subscribe {
    pub(crate) packet_id: u16,
    pub(crate) identifier: bool,
    pub(crate) filters: Vec<TopicFilter>,
}

/// UNSUBSCRIBE.
#[derive(Debug)]
pub(crate) struct Unsubscribe {
    pub(crate) packet_id: u16,
    pub(crate) filters: Vec<TopicFilter>,
}

/// DISCONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disconnect {
    /// Whether the will is to be dropped.
    pub(crate) normal: bool,
    /// A new session expiry, MQTT 5.
    pub(crate) expiry_seconds: Option<u32>,
}

/// A CONNECT that is none, and the version in which that can be said.
#[derive(Debug)]
pub(crate) struct ConnectFault {
    pub(crate) version: Option<Version>,
    pub(crate) fault: Fault,
}

/// The first packet of a connection.
pub(crate) fn connect(frame: &Frame) -> Result<Connect, ConnectFault> {
    let version = version(frame)?;
    let connect = match version {
        Version::V311 => connect_311(frame),
        Version::V5 => connect_5(frame),
    };
    connect.map_err(|fault| ConnectFault {
        version: Some(version),
        fault,
    })
}

/// Any later packet.
pub(crate) fn decode(version: Version, frame: &Frame) -> Result<Incoming, Fault> {
    match version {
        Version::V311 => incoming_311(body::<v3::Header>(frame)?),
        Version::V5 => incoming_5(body::<v5::Header>(frame)?),
    }
}

fn version(frame: &Frame) -> Result<Version, ConnectFault> {
    let none = |fault| ConnectFault {
        version: None,
        fault,
    };
    if frame.first != CONNECT {
        return Err(none(Fault::protocol("the first packet is no CONNECT")));
    }
    if !frame.body().starts_with(b"\0\x04MQTT") {
        let detail = "the protocol is not called MQTT; 5 and 3.1.1 are served";
        return Err(none(Fault::new(RefusalReason::Version, detail)));
    }
    match frame.body().get(LEVEL_INDEX) {
        Some(4) => Ok(Version::V311),
        Some(5) => Ok(Version::V5),
        None => Err(none(Fault::malformed(
            "CONNECT ends before its protocol level",
        ))),
        Some(level) => Err(ConnectFault {
            version: Some(if *level < 4 {
                Version::V311
            } else {
                Version::V5
            }),
            fault: Fault::new(
                RefusalReason::Version,
                format!("protocol level {level}; 4 (3.1.1) and 5 are served"),
            ),
        }),
    }
}

/// Decode a whole body; what is left over is an error.
fn body<H>(frame: &Frame) -> Result<H::Packet, Fault>
where
    H: PollHeader,
    H::Error: Cause,
{
    let body = frame.body();
    let bytes = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let header = H::new_with(frame.first, bytes(body.len()), bytes(frame.total_bytes()))
        .map_err(Cause::fault)?;
    let mut read = 0;
    let packet = match header.build_empty_packet() {
        Some(packet) => packet,
        None => header
            .decode_buffer(body, &mut read)
            .map_err(Cause::fault)?,
    };
    if read == body.len() {
        return Ok(packet);
    }
    let left = body.len() - read.min(body.len());
    Err(Fault::malformed(format!(
        "{left} bytes behind the end of the packet"
    )))
}

/// The codec's errors as ours.
trait Cause: Display + Sized {
    fn is_protocol_error(&self) -> bool;

    fn fault(self) -> Fault {
        let detail = quote(&self.to_string());
        if self.is_protocol_error() {
            Fault::protocol(detail)
        } else {
            Fault::malformed(detail)
        }
    }
}

impl Cause for Error {
    fn is_protocol_error(&self) -> bool {
        matches!(self, Self::EmptySubscription)
    }
}

impl Cause for ErrorV5 {
    fn is_protocol_error(&self) -> bool {
        match self {
            Self::Common(error) => error.is_protocol_error(),
            Self::DuplicatedProperty(_)
            | Self::InvalidProperty(..)
            | Self::InvalidByteProperty(..) => true,
            _ => false,
        }
    }
}

fn connect_311(frame: &Frame) -> Result<Connect, Fault> {
    let v3::Packet::Connect(packet) = body::<v3::Header>(frame)? else {
        return Err(Fault::protocol("the first packet is no CONNECT"));
    };
    will_flags(frame, packet.last_will.is_some())?;
    if packet.password.is_some() && packet.username.is_none() {
        return Err(Fault::malformed("a password without a user name"));
    }
    Ok(Connect {
        version: Version::V311,
        client_id: packet.client_id.to_string(),
        clean_start: packet.clean_session,
        keep_alive_seconds: packet.keep_alive,
        expiry_seconds: if packet.clean_session { 0 } else { u32::MAX },
        packet_bytes_max: None,
        will: packet.last_will.map(|will| Will {
            topic: will.topic_name,
            payload: will.message,
            qos: will.qos,
            retain: will.retain,
            delay_seconds: 0,
        }),
        username: packet.username.map(|name| name.to_string()),
        password: packet.password,
        authentication_method: false,
    })
}

fn connect_5(frame: &Frame) -> Result<Connect, Fault> {
    let v5::Packet::Connect(packet) = body::<v5::Header>(frame)? else {
        return Err(Fault::protocol("the first packet is no CONNECT"));
    };
    will_flags(frame, packet.last_will.is_some())?;
    let properties = packet.properties;
    connect_properties(&properties)?;
    Ok(Connect {
        version: Version::V5,
        client_id: packet.client_id.to_string(),
        clean_start: packet.clean_start,
        keep_alive_seconds: packet.keep_alive,
        expiry_seconds: properties.session_expiry_interval.unwrap_or(0),
        packet_bytes_max: properties.max_packet_size,
        will: packet.last_will.map(|will| Will {
            topic: will.topic_name,
            payload: will.payload,
            qos: will.qos,
            retain: will.retain,
            delay_seconds: will.properties.delay_interval.unwrap_or(0),
        }),
        username: packet.username.map(|name| name.to_string()),
        password: packet.password,
        authentication_method: properties.auth_method.is_some(),
    })
}

fn will_flags(frame: &Frame, has_will: bool) -> Result<(), Fault> {
    let flags = frame.body().get(LEVEL_INDEX + 1).copied().unwrap_or(0);
    if !has_will && flags & (WILL_DETAIL_FLAGS | WILL_FLAG) != 0 {
        return Err(Fault::malformed("will flags without a will"));
    }
    Ok(())
}

/// What 3.1.2.11 forbids and the codec does not look at.
fn connect_properties(properties: &v5::ConnectProperties) -> Result<(), Fault> {
    if properties.receive_max == Some(0) {
        return Err(Fault::protocol("a receive maximum of 0"));
    }
    if properties.max_packet_size == Some(0) {
        return Err(Fault::protocol("a maximum packet size of 0"));
    }
    if properties.auth_data.is_some() && properties.auth_method.is_none() {
        return Err(Fault::protocol("authentication data without a method"));
    }
    Ok(())
}

fn incoming_311(packet: v3::Packet) -> Result<Incoming, Fault> {
    use v3::Packet;
    Ok(match packet {
        Packet::Publish(packet) => Incoming::Publish(publish(Publish {
            qos: packet.qos_pid,
            dup: packet.dup,
            retain: packet.retain,
            alias: false,
            topic: packet.topic_name,
            payload: packet.payload,
        })?),
        Packet::Subscribe(packet) => Incoming::Subscribe(Subscribe {
            packet_id: packet.pid.value(),
            identifier: false,
            filters: packet
                .topics
                .into_iter()
                .map(|(filter, _)| filter)
                .collect(),
        }),
        Packet::Unsubscribe(packet) => Incoming::Unsubscribe(Unsubscribe {
            packet_id: packet.pid.value(),
            filters: packet.topics,
        }),
        Packet::Puback(_) => Incoming::StrayPuback,
        Packet::Pingreq => Incoming::Ping,
        Packet::Disconnect => Incoming::Disconnect(Disconnect {
            normal: true,
            expiry_seconds: None,
        }),
        other => return Err(unexpected(&other.get_type())),
    })
}

fn incoming_5(packet: v5::Packet) -> Result<Incoming, Fault> {
    use v5::Packet;
    Ok(match packet {
        Packet::Publish(packet) => Incoming::Publish(publish_5(packet)?),
        Packet::Subscribe(packet) => Incoming::Subscribe(Subscribe {
            packet_id: packet.pid.value(),
            identifier: packet.properties.subscription_id.is_some(),
            filters: packet
                .topics
                .into_iter()
                .map(|(filter, _)| filter)
                .collect(),
        }),
        Packet::Unsubscribe(packet) => Incoming::Unsubscribe(Unsubscribe {
            packet_id: packet.pid.value(),
            filters: packet.topics,
        }),
        Packet::Puback(_) => Incoming::StrayPuback,
        Packet::Pingreq => Incoming::Ping,
        Packet::Disconnect(packet) => Incoming::Disconnect(Disconnect {
            normal: packet.reason_code == v5::DisconnectReasonCode::NormalDisconnect,
            expiry_seconds: packet.properties.session_expiry_interval,
        }),
        other => return Err(unexpected(&other.get_type())),
    })
}

fn publish_5(packet: v5::Publish) -> Result<Publish, Fault> {
    if packet.properties.subscription_id.is_some() {
        return Err(Fault::protocol(
            "PUBLISH from a client with a subscription identifier",
        ));
    }
    publish(Publish {
        qos: packet.qos_pid,
        dup: packet.dup,
        retain: packet.retain,
        alias: packet.properties.topic_alias.is_some(),
        topic: packet.topic_name,
        payload: packet.payload,
    })
}

fn publish(publish: Publish) -> Result<Publish, Fault> {
    if publish.dup && publish.qos == QosPid::Level0 {
        return Err(Fault::malformed("PUBLISH with DUP and QoS 0"));
    }
    if publish.topic.is_empty() && !publish.alias {
        return Err(Fault::protocol("PUBLISH without a topic name"));
    }
    Ok(publish)
}

fn unexpected(kind: &impl Debug) -> Fault {
    Fault::protocol(format!("{kind:?} is not for a client to send here"))
}
