//! The candidates behind one function: is this frame a packet, and has it been read to its end?

use std::sync::Arc;

use bytes::BytesMut;
use mqtt_proto::{PollHeader, v3, v5};
use mqtt_protocol_core::mqtt::packet::{v3_1_1 as core3, v5_0 as core5};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5 as rum5;

use crate::book::{Frame, Version};

/// Largest packet that is taken, in bytes: no frame of the comparison is longer.
const PACKET_MAX_BYTES: usize = 64 * 1024;

/// A codec.
#[derive(Clone, Copy, Debug)]
pub enum Codec {
    /// `mqttbytes` of rumqttc.
    Rumqttc,
    /// Packet types of mqtt-protocol-core.
    ProtocolCore,
    /// The slice decoder of mqtt-proto.
    MqttProto,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rumqttc, Self::ProtocolCore, Self::MqttProto];

    /// Name and version.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rumqttc => "rumqttc 0.25.1 (`mqttbytes`)",
            Self::ProtocolCore => "mqtt-protocol-core 0.7.9",
            Self::MqttProto => "mqtt-proto 0.4.0",
        }
    }

    /// Whether the codec takes the frame, whole.
    pub fn takes(self, version: Version, frame: &Frame) -> bool {
        match (self, version) {
            (Self::Rumqttc, version) => rumqttc(version, frame),
            (Self::ProtocolCore, Version::V5) => core_5(frame),
            (Self::ProtocolCore, Version::V311) => core_3(frame),
            (Self::MqttProto, Version::V5) => proto::<v5::Header>(frame),
            (Self::MqttProto, Version::V311) => proto::<v3::Header>(frame),
        }
    }
}

/// It reads from a stream; whether anything is left inside the frame it does not say.
fn rumqttc(version: Version, frame: &Frame) -> bool {
    let mut stream = BytesMut::from(frame.bytes.as_slice());
    match version {
        Version::V5 => rum5::Packet::read(&mut stream, Some(PACKET_MAX_BYTES as u32)).is_ok(),
        Version::V311 => v4::Packet::read(&mut stream, PACKET_MAX_BYTES).is_ok(),
    }
}

fn proto<H: PollHeader>(frame: &Frame) -> bool {
    let body = frame.body();
    let header = H::new_with(frame.first(), body.len() as u32, frame.bytes.len() as u32);
    let Ok(header) = header else { return false };
    let mut read = 0;
    let taken =
        header.build_empty_packet().is_some() || header.decode_buffer(body, &mut read).is_ok();
    taken && read == body.len()
}

/// Its fixed headers are whole bytes, reserved flags included.
fn core_5(frame: &Frame) -> bool {
    let body = frame.body();
    let read = match frame.first() {
        0x10 => core5::Connect::parse(body).map(|(_, read)| read),
        flags @ 0x30..=0x3f => {
            core5::Publish::parse(flags & 0x0f, Arc::from(body)).map(|(_, read)| read)
        }
        0x40 => core5::Puback::parse(body).map(|(_, read)| read),
        0x82 => core5::Subscribe::parse(body).map(|(_, read)| read),
        0xa2 => core5::Unsubscribe::parse(body).map(|(_, read)| read),
        0xc0 => core5::Pingreq::parse(body).map(|(_, read)| read),
        0xe0 => core5::Disconnect::parse(body).map(|(_, read)| read),
        0xf0 => core5::Auth::parse(body).map(|(_, read)| read),
        _ => return false,
    };
    read.is_ok_and(|read| read == body.len())
}

fn core_3(frame: &Frame) -> bool {
    let body = frame.body();
    let read = match frame.first() {
        0x10 => core3::Connect::parse(body).map(|(_, read)| read),
        flags @ 0x30..=0x3f => {
            core3::Publish::parse(flags & 0x0f, Arc::from(body)).map(|(_, read)| read)
        }
        0x40 => core3::Puback::parse(body).map(|(_, read)| read),
        0x82 => core3::Subscribe::parse(body).map(|(_, read)| read),
        0xa2 => core3::Unsubscribe::parse(body).map(|(_, read)| read),
        0xc0 => core3::Pingreq::parse(body).map(|(_, read)| read),
        0xe0 => core3::Disconnect::parse(body).map(|(_, read)| read),
        _ => return false,
    };
    read.is_ok_and(|read| read == body.len())
}
