//! A minimal MQTT client of our own: connect, publish with `QoS` 1, read what comes back.
//!
//! It shares no code with the endpoint under test nor with the clients that others write, it never
//! retries, never queues and never drops: a test decides what is sent and sees every answer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Longest wait for the other side before a call fails: far beyond any commit of a healthy gateway,
/// and short enough that a hanging test names the call that hangs.
pub const PATIENCE_S: u64 = 20;

/// Keep-alive announced at CONNECT. Longer than any test is silent, because nothing here pings.
const KEEP_ALIVE_S: u16 = 600;

/// Largest packet taken from the gateway, in bytes: settings and time are under 300.
const PACKET_MAX_BYTES: usize = 64 * 1024;

/// Spoken version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

impl Version {
    const fn level(self) -> u8 {
        match self {
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }
}

/// Whom to connect as.
#[derive(Clone, Debug)]
pub struct Login<'a> {
    /// Client id.
    pub client_id: &'a str,
    /// Version to speak.
    pub version: Version,
    /// Whether an old session is dropped.
    pub clean: bool,
    /// User name and password.
    pub credentials: Option<(&'a str, &'a str)>,
}

/// What the other side sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A publication has been taken; the reason code is 0 in MQTT 3.1.1.
    PubAck {
        /// Packet id of the publication.
        packet_id: u16,
        /// Below 0x80 means success.
        reason: u8,
    },
    /// Anything else: first byte of the fixed header, and the body.
    Other {
        /// Type and flags.
        header: u8,
        /// What follows the length.
        body: Vec<u8>,
    },
}

impl Incoming {
    /// Topic and payload of a publication with `QoS` 0 and, in MQTT 5, without properties: all that the
    /// gateway sends.
    #[must_use]
    pub fn published(&self) -> Option<(&str, &[u8])> {
        let Self::Other { header: 0x30, body } = self else {
            return None;
        };
        let (length, rest) = body.split_first_chunk()?;
        let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let payload = rest.strip_prefix(&[0])?;
        Some((std::str::from_utf8(topic).ok()?, payload))
    }

    /// Whether it answers a ping.
    #[must_use]
    pub const fn is_pong(&self) -> bool {
        matches!(self, Self::Other { header: 0xd0, .. })
    }
}

/// A connection that has been accepted.
#[derive(Debug)]
pub struct Client<S = TcpStream> {
    stream: S,
    version: Version,
    receive_maximum: u16,
}

impl Client<TcpStream> {
    /// Connect and wait for CONNACK.
    ///
    /// # Errors
    /// When the address does not answer or the connection is refused, with the reason code.
    pub fn connect(address: SocketAddr, login: &Login<'_>) -> Result<Self> {
        let patience = Duration::from_secs(PATIENCE_S);
        let stream = TcpStream::connect_timeout(&address, patience)
            .with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Self::over(stream, login)
    }
}

impl<S: Read + Write> Client<S> {
    /// Say who is there over a stream, and wait for CONNACK.
    ///
    /// # Errors
    /// When the connection is refused, with the reason code, or ends.
    pub fn over(stream: S, login: &Login<'_>) -> Result<Self> {
        let mut client = Self {
            stream,
            version: login.version,
            receive_maximum: u16::MAX,
        };
        client.stream.write_all(&connect_packet(login))?;
        let (header, body) = client.packet().context("read CONNACK")?;
        ensure!(header == 0x20, "expected CONNACK, got packet {header:#04x}");
        let code = body.get(1).copied().unwrap_or(0xff);
        ensure!(code == 0, "connection refused with code {code:#04x}");
        if let (Version::V5, Some(properties)) = (login.version, body.get(2..)) {
            client.receive_maximum = receive_maximum(properties).unwrap_or(u16::MAX);
        }
        Ok(client)
    }

    /// Most publications the other side wants in flight.
    #[must_use]
    pub const fn receive_maximum(&self) -> u16 {
        self.receive_maximum
    }

    /// Send one publication with `QoS` 1.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn publish(&mut self, topic: &str, packet_id: u16, payload: &[u8]) -> io::Result<()> {
        let packet = publish_packet(self.version, topic, packet_id, payload);
        self.stream.write_all(&packet)
    }

    /// Ask for what matches `filter`, with packet id 1; the answer is for the caller to read.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn subscribe(&mut self, filter: &str, qos: u8) -> io::Result<()> {
        let mut body = vec![0, 1];
        if self.version == Version::V5 {
            body.push(0);
        }
        put_text(&mut body, filter);
        body.push(qos);
        self.stream.write_all(&framed(0x82, &body))
    }

    /// Ask for a sign of life; [`Client::receive`] brings it.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn ping(&mut self) -> io::Result<()> {
        self.stream.write_all(&[0xc0, 0])
    }

    /// Wait for the next packet.
    ///
    /// # Errors
    /// When the connection is gone, or nothing came within [`PATIENCE_S`].
    pub fn receive(&mut self) -> io::Result<Incoming> {
        let (header, body) = self.packet()?;
        let incoming = match (header, body.as_slice()) {
            (0x40, [high, low, rest @ ..]) => Incoming::PubAck {
                packet_id: u16::from_be_bytes([*high, *low]),
                reason: rest.first().copied().unwrap_or(0),
            },
            _ => Incoming::Other { header, body },
        };
        Ok(incoming)
    }

    /// Say goodbye, so that no last will is sent.
    ///
    /// # Errors
    /// When the connection is gone already.
    pub fn disconnect(mut self) -> io::Result<()> {
        self.stream.write_all(&[0xe0, 0])
    }

    fn packet(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let header = self.byte()?;
        let mut length = 0_usize;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        if length > PACKET_MAX_BYTES {
            return Err(io::Error::new(ErrorKind::InvalidData, "packet too long"));
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((header, body))
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }
}

/// A publication with `QoS` 1.
pub(crate) fn publish_packet(
    version: Version,
    topic: &str,
    packet_id: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut body = Vec::with_capacity(topic.len() + payload.len() + 8);
    put_text(&mut body, topic);
    body.extend(packet_id.to_be_bytes());
    if version == Version::V5 {
        body.push(0);
    }
    body.extend(payload);
    framed(0x32, &body)
}

pub(crate) fn connect_packet(login: &Login<'_>) -> Vec<u8> {
    let mut flags = u8::from(login.clean) << 1;
    if login.credentials.is_some() {
        flags |= 0xc0;
    }
    let mut body = Vec::new();
    put_text(&mut body, "MQTT");
    body.extend([login.version.level(), flags]);
    body.extend(KEEP_ALIVE_S.to_be_bytes());
    if login.version == Version::V5 {
        body.push(0);
    }
    put_text(&mut body, login.client_id);
    if let Some((user, password)) = login.credentials {
        put_text(&mut body, user);
        put_text(&mut body, password);
    }
    framed(0x10, &body)
}

fn put_text(body: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    body.extend(length.to_be_bytes());
    body.extend(&text.as_bytes()[..usize::from(length)]);
}

fn framed(header: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![header];
    let mut rest = body.len();
    loop {
        let low = u8::try_from(rest & 0x7f).unwrap_or_default();
        rest >>= 7;
        packet.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

/// Receive Maximum (property 0x21) among the properties of a CONNACK.
fn receive_maximum(properties: &[u8]) -> Option<u16> {
    let (length, mut rest) = properties.split_first()?;
    rest = rest.get(..usize::from(*length))?;
    while let Some((id, value)) = rest.split_first() {
        if *id == 0x21 {
            return Some(u16::from_be_bytes([*value.first()?, *value.get(1)?]));
        }
        rest = value.get(property_length(*id, value).ok()?..)?;
    }
    None
}

/// Length in bytes of the value of a CONNACK property.
fn property_length(id: u8, value: &[u8]) -> Result<usize> {
    let text = |at: usize| {
        let prefix = value.get(at..at + 2).context("property cut short")?;
        anyhow::Ok(at + 2 + usize::from(u16::from_be_bytes([prefix[0], prefix[1]])))
    };
    Ok(match id {
        0x24 | 0x25 | 0x28 | 0x29 | 0x2a => 1,
        0x13 | 0x21 | 0x22 => 2,
        0x11 | 0x27 => 4,
        0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => text(0)?,
        0x26 => text(text(0)?)?,
        other => bail!("unknown property {other:#04x} in CONNACK"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_above_127_take_two_bytes() {
        let packet = framed(0x32, &[0; 321]);
        assert_eq!(packet[..3], [0x32, 0xc1, 0x02]);
        assert_eq!(packet.len(), 324);
    }

    #[test]
    fn the_receive_maximum_is_found_behind_other_properties() {
        let properties = [10, 0x12, 0, 1, b'a', 0x24, 1, 0x21, 0x01, 0x00, 0xff];
        assert_eq!(receive_maximum(&properties), Some(256));
        assert_eq!(receive_maximum(&[2, 0x24, 1]), None);
    }
}
