//! The other end of a link: just enough MQTT 5 to play a script.

use std::net::SocketAddr;
use std::time::Duration;

use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Fails the test instead of hanging; far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

const CONNECT: u8 = 0x10;
const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x80;

/// A TCP stream as the link wants it.
pub(crate) struct Socket(pub(crate) TcpStream);

impl ErrorType for Socket {
    type Error = ErrorKind;
}

impl Read for Socket {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        self.0
            .read(buffer)
            .await
            .map_err(|_| ErrorKind::ConnectionReset)
    }
}

impl Write for Socket {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.0
            .write(bytes)
            .await
            .map_err(|_| ErrorKind::ConnectionReset)
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        self.0.flush().await.map_err(|_| ErrorKind::ConnectionReset)
    }
}

/// A publication that arrived.
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) id: u16,
    pub(crate) payload: Vec<u8>,
    pub(crate) duplicate: bool,
}

/// Listens, and plays along as told.
pub(crate) struct Peer {
    listener: TcpListener,
    stream: Option<TcpStream>,
    subscribed: Vec<String>,
}

impl Peer {
    pub(crate) async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        Self {
            listener: listener.expect("a free port"),
            stream: None,
            subscribed: Vec::new(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound socket")
    }

    pub(crate) fn subscribed(&self) -> &[String] {
        &self.subscribed
    }

    /// Take the next connection and its CONNECT packet.
    pub(crate) async fn accept(&mut self) -> Vec<u8> {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await;
        let (stream, _) = accepted.expect("a connection in time").expect("a socket");
        self.stream = Some(stream);
        let packet = self.packet().await;
        assert_eq!(packet[0], CONNECT);
        packet
    }

    /// Take the next connection, accept it and its subscriptions.
    pub(crate) async fn greet(&mut self) -> Vec<u8> {
        let connect = self.accept().await;
        self.send(&[0x20, 3, 0, 0, 0]).await;
        let subscribe = self.packet().await;
        assert_eq!(subscribe[0] & 0xf0, SUBSCRIBE);
        self.subscribed = topics(&subscribe[5..]);
        self.send(&[0x90, 5, subscribe[2], subscribe[3], 0, 1, 1])
            .await;
        connect
    }

    /// Refuse the connection with a reason code.
    pub(crate) async fn refuse(&mut self, reason: u8) {
        self.send(&[0x20, 3, 0, reason, 0]).await;
    }

    /// The next publication.
    pub(crate) async fn publish(&mut self) -> Publish {
        let packet = self.packet().await;
        assert_eq!(packet[0] & 0xf6, PUBLISH | 2, "QoS 1");
        let (topic, rest) = text(&packet[2..]);
        assert_eq!(rest[2], 0, "no properties");
        Publish {
            topic,
            id: u16::from_be_bytes([rest[0], rest[1]]),
            payload: rest[3..].to_vec(),
            duplicate: packet[0] & 8 != 0,
        }
    }

    /// Whether anything lies in the socket unread.
    pub(crate) fn has_more(&mut self) -> bool {
        let stream = self.stream.as_mut().expect("a connection");
        stream.try_read(&mut [0]).is_ok_and(|count| count > 0)
    }

    pub(crate) async fn puback(&mut self, id: u16, reason: u8) {
        self.pubacks(&[(id, reason)]).await;
    }

    /// Several in one piece.
    pub(crate) async fn pubacks(&mut self, answers: &[(u16, u8)]) {
        let packet = |(id, reason): &(u16, u8)| {
            let [high, low] = id.to_be_bytes();
            [0x40, 3, high, low, *reason]
        };
        let bytes: Vec<u8> = answers.iter().flat_map(packet).collect();
        self.send(&bytes).await;
    }

    /// Publish with `QoS` 0.
    pub(crate) async fn send_publish(&mut self, topic: &str, payload: &[u8]) {
        let length = 2 + topic.len() + 1 + payload.len();
        let mut packet = vec![PUBLISH, u8::try_from(length).expect("a short packet")];
        packet.extend([0, u8::try_from(topic.len()).expect("a short topic")]);
        packet.extend(topic.as_bytes());
        packet.push(0);
        packet.extend(payload);
        self.send(&packet).await;
    }

    pub(crate) fn hang_up(&mut self) {
        self.stream = None;
    }

    async fn send(&mut self, bytes: &[u8]) {
        let stream = self.stream.as_mut().expect("a connection");
        stream.write_all(bytes).await.expect("an open socket");
    }

    /// One whole packet; those of these tests are shorter than 128 bytes but for CONNECT, whose
    /// length is then written in two.
    async fn packet(&mut self) -> Vec<u8> {
        let stream = self.stream.as_mut().expect("a connection");
        let read = async {
            let mut packet = vec![stream.read_u8().await?];
            let mut length = usize::from(stream.read_u8().await?);
            if length >= 128 {
                length = length - 128 + 128 * usize::from(stream.read_u8().await?);
            }
            packet.push(0);
            packet.resize(2 + length, 0);
            stream.read_exact(&mut packet[2..]).await?;
            std::io::Result::Ok(packet)
        };
        let packet = tokio::time::timeout(PATIENCE, read).await;
        packet.expect("a packet in time").expect("an open socket")
    }
}

/// A length-prefixed text and what follows.
fn text(bytes: &[u8]) -> (String, &[u8]) {
    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    let (text, rest) = bytes[2..].split_at(length);
    let text = String::from_utf8(text.to_vec());
    (text.expect("UTF-8"), rest)
}

/// The filters of a SUBSCRIBE, each followed by its options.
fn topics(mut bytes: &[u8]) -> Vec<String> {
    let mut topics = Vec::new();
    while !bytes.is_empty() {
        let (topic, rest) = text(bytes);
        topics.push(topic);
        bytes = &rest[1..];
    }
    topics
}
