//! Packets made by hand from the specifications, each with the verdict that a server must come to.

/// Version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

use Version::{V5, V311};

/// A packet with its fixed header.
#[derive(Clone, Debug)]
pub struct Frame {
    /// All of it.
    pub bytes: Vec<u8>,
    header_bytes: usize,
}

impl Frame {
    /// Type and flags before a body and its true length.
    pub fn new(first: u8, body: &[u8]) -> Self {
        let mut bytes = vec![first];
        let mut rest = body.len();
        while rest >= 0x80 {
            bytes.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        let header_bytes = bytes.len();
        bytes.extend(body);
        Self {
            bytes,
            header_bytes,
        }
    }

    /// Type and flags.
    pub fn first(&self) -> u8 {
        self.bytes[0]
    }

    /// What follows the length.
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.header_bytes..]
    }
}

/// Type and flags, body, whether it is legal, what it is about.
type Row = (Version, u8, &'static [u8], bool, &'static str);

/// The list.
#[rustfmt::skip]
pub const BOOK: &[Row] = &[
    (V5, 0x10, b"\0\x04MQTT\x05\x02\0\x3c\0\0\x01a", true, "CONNECT"),
    (V5, 0x10, b"\0\x04MQTT\x05\x02\0\x3c\x08\x11\0\0\0\x10\x21\0\x10\0\x01a", true, "CONNECT with expiry and receive maximum"),
    (V5, 0x10, b"\0\x04MQTT\x05\x0e\0\x3c\0\0\x01a\0\0\x01t\0\x01p", true, "CONNECT with a will"),
    (V5, 0x32, b"\0\x01t\0\x01\0x", true, "PUBLISH, QoS 1"),
    (V5, 0x30, b"\0\x01t\x02\x01\x01hi", true, "PUBLISH, QoS 0, payload format"),
    (V5, 0x40, b"\0\x01", true, "PUBACK without reason"),
    (V5, 0x40, b"\0\x01\x10", true, "PUBACK with reason, without properties"),
    (V5, 0x82, b"\0\x01\0\0\x01t\x01", true, "SUBSCRIBE"),
    (V5, 0xa2, b"\0\x01\0\0\x01t", true, "UNSUBSCRIBE"),
    (V5, 0xc0, b"", true, "PINGREQ"),
    (V5, 0xe0, b"", true, "DISCONNECT of no byte"),
    (V5, 0xe0, b"\x04", true, "DISCONNECT of one byte"),
    (V5, 0xe0, b"\0\x05\x11\0\0\0\x05", true, "DISCONNECT with expiry"),
    (V5, 0xf0, b"", true, "AUTH of no byte"),
    (V5, 0xf0, b"\x18\x04\x15\0\x01m", true, "AUTH with method"),
    (V311, 0x10, b"\0\x04MQTT\x04\x02\0\x3c\0\x01a", true, "CONNECT"),
    (V311, 0x32, b"\0\x01t\0\x01x", true, "PUBLISH, QoS 1"),
    (V311, 0x40, b"\0\x01", true, "PUBACK"),
    (V311, 0x82, b"\0\x01\0\x01t\x01", true, "SUBSCRIBE"),
    (V311, 0xc0, b"", true, "PINGREQ"),
    (V311, 0xe0, b"", true, "DISCONNECT"),
    (V5, 0x11, b"\0\x04MQTT\x05\x02\0\x3c\0\0\x01a", false, "CONNECT: reserved header flag"),
    (V5, 0x10, b"\0\x04MQTT\x05\x03\0\x3c\0\0\x01a", false, "CONNECT: reserved connect flag"),
    (V5, 0x10, b"\0\x04MQTT\x05\x02\0\x3c\x0a\x11\0\0\0\x10\x11\0\0\0\x10\0\x01a", false, "CONNECT: property twice"),
    (V5, 0x10, b"\0\x04MQTT\x05\x02\0\x3c\x02\x01\x01\0\x01a", false, "CONNECT: property of another packet"),
    (V5, 0x10, b"\0\x04MQTT\x05\x02\0\x3c\x03\x21\0\0\0\x01a", false, "CONNECT: receive maximum 0"),
    (V5, 0x10, b"\0\x04MQTT\x05\x02\0\x3c\x05\x27\0\0\0\0\0\x01a", false, "CONNECT: packet size 0"),
    (V5, 0x10, b"\0\x04MQTT\x05\x0a\0\x3c\0\0\x01a", false, "CONNECT: will QoS without will"),
    (V5, 0x10, b"\0\x04MQTT\x05\x1e\0\x3c\0\0\x01a\0\0\x01t\0\x01p", false, "CONNECT: will QoS 3"),
    (V5, 0x10, b"\0\x04MQTT\x05\x02\0\x3c\x04\x16\0\x01d\0\x01a", false, "CONNECT: authentication data without method"),
    (V5, 0x10, b"\0\x04MQTT\x05\x02\0\x3c\0\0\x01aXX", false, "CONNECT: trailing bytes"),
    (V5, 0x10, b"\0\x04MQTT\x05\x02\0\x3c\0\0\x01\xff", false, "CONNECT: client id is no UTF-8"),
    (V5, 0x36, b"\0\x01t\0\x01\0x", false, "PUBLISH: QoS 3"),
    (V5, 0x32, b"\0\x01t\0\0\0x", false, "PUBLISH: packet id 0"),
    (V5, 0x32, b"\0\x03a/#\0\x01\0x", false, "PUBLISH: wildcard in the topic name"),
    (V5, 0x32, b"\0\x03a\0b\0\x01\0x", false, "PUBLISH: NUL in the topic name"),
    (V5, 0x32, b"\0\x01\xff\0\x01\0x", false, "PUBLISH: topic name is no UTF-8"),
    (V5, 0x32, b"\0\x01t\0\x01\x03\x23\0\0x", false, "PUBLISH: topic alias 0"),
    (V5, 0x32, b"\0\0\0\x01\0x", false, "PUBLISH: no topic, no alias"),
    (V5, 0x38, b"\0\x01t\0x", false, "PUBLISH: DUP with QoS 0"),
    (V5, 0x32, b"\0\x01t\0\x01\x02\x0b\x01x", false, "PUBLISH: subscription identifier from a client"),
    (V5, 0x32, b"\0\x01t\0\x01\x04\x01\x01\x01\x01x", false, "PUBLISH: property twice"),
    (V5, 0x32, b"\0\x01t\0\x01\x7fx", false, "PUBLISH: properties longer than the body"),
    (V5, 0x40, b"\0\0", false, "PUBACK: packet id 0"),
    (V5, 0x41, b"\0\x01", false, "PUBACK: reserved header flag"),
    (V5, 0x40, b"\0\x01\x05", false, "PUBACK: unknown reason"),
    (V5, 0x40, b"\0\x01\0\0XX", false, "PUBACK: trailing bytes"),
    (V5, 0x80, b"\0\x01\0\0\x01t\x01", false, "SUBSCRIBE: wrong header flags"),
    (V5, 0x82, b"\0\0\0\0\x01t\x01", false, "SUBSCRIBE: packet id 0"),
    (V5, 0x82, b"\0\x01\0", false, "SUBSCRIBE: no filter"),
    (V5, 0x82, b"\0\x01\0\0\x01t\xc1", false, "SUBSCRIBE: reserved options"),
    (V5, 0x82, b"\0\x01\0\0\x01t\x03", false, "SUBSCRIBE: QoS 3"),
    (V5, 0x82, b"\0\x01\0\0\x02a#\x01", false, "SUBSCRIBE: wildcard within a level"),
    (V5, 0xa2, b"\0\x01\0", false, "UNSUBSCRIBE: no filter"),
    (V5, 0xc0, b"x", false, "PINGREQ: body"),
    (V5, 0xe1, b"", false, "DISCONNECT: reserved header flag"),
    (V5, 0xe0, b"\0\0XX", false, "DISCONNECT: trailing bytes"),
    (V311, 0x10, b"\0\x04MQTT\x04\x42\0\x3c\0\x01a\0\x01p", false, "CONNECT: password without user name"),
    (V311, 0x10, b"\0\x04MQTT\x04\x03\0\x3c\0\x01a", false, "CONNECT: reserved connect flag"),
    (V311, 0x32, b"\0\x01+\0\x01x", false, "PUBLISH: wildcard in the topic name"),
    (V311, 0x32, b"\0\x01t\0\0x", false, "PUBLISH: packet id 0"),
    (V311, 0x40, b"\0\x01XX", false, "PUBACK: trailing bytes"),
    (V311, 0x82, b"\0\x01", false, "SUBSCRIBE: no filter"),
    (V311, 0x82, b"\0\x01\0\x01t\x03", false, "SUBSCRIBE: QoS 3"),
    (V311, 0xe1, b"", false, "DISCONNECT: reserved header flag"),
];
