//! The link over real loopback TCP, against a peer that plays a script of MQTT packets.

mod peer;
mod rig;

use std::time::Duration;

use firmware::link::{Buffers, Link, LinkConfig};
use firmware::port::{
    ConnectionId, Entropy, Exchange, LinkEvent, LinkFailure, Message, Network, Token,
    WINDOW_MESSAGES,
};
use firmware::tracker::Input;
use peer::{Peer, Socket};
use protocol::status::Status;
use protocol::topic::Channel;
use protocol::units::Milliseconds;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Fails the test instead of hanging; far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Dial(std::net::SocketAddr);

impl Network for Dial {
    type Connection = Socket;
    type Error = std::io::Error;

    async fn open(&mut self) -> Result<Socket, std::io::Error> {
        TcpStream::connect(self.0).await.map(Socket)
    }
}

struct Channels {
    messages: mpsc::Receiver<Message>,
    events: mpsc::Sender<LinkEvent>,
}

impl Exchange for Channels {
    async fn outgoing(&mut self) -> Message {
        match self.messages.recv().await {
            Some(message) => message,
            None => std::future::pending().await,
        }
    }

    async fn incoming(&mut self, event: LinkEvent) {
        // Nobody listens any more when the test is over.
        let _ = self.events.send(event).await;
    }
}

struct Fixed(u64);

impl Entropy for Fixed {
    fn random(&mut self) -> u64 {
        self.0
    }
}

/// The tracker's side of a running link.
struct Ends {
    peer: Peer,
    messages: mpsc::Sender<Message>,
    events: mpsc::Receiver<LinkEvent>,
    next: u32,
}

impl Ends {
    async fn start(no_progress_ms: i64) -> Self {
        let peer = Peer::listen().await;
        let (to_link, messages) = mpsc::channel(2 * WINDOW_MESSAGES);
        let (from_link, events) = mpsc::channel(2 * WINDOW_MESSAGES);
        let mut network = Dial(peer.address());
        tokio::spawn(async move {
            let device = "truck-7".parse().expect("a device id");
            let config = LinkConfig {
                no_progress: Milliseconds::saturating(no_progress_ms),
                back_off_min: Milliseconds::saturating(10),
                ..LinkConfig::new(device)
            };
            let mut buffers = Box::new(Buffers::new());
            let mut link = Link::new(config, &mut buffers, Fixed(7));
            let mut exchange = Channels {
                messages,
                events: from_link,
            };
            link.run(&mut network, &mut exchange).await
        });
        Self {
            peer,
            messages: to_link,
            events,
            next: 0,
        }
    }

    /// Let the peer greet the link properly; returns the CONNECT packet.
    async fn greet(&mut self, connection: u32) -> Vec<u8> {
        let connect = self.peer.greet().await;
        assert_eq!(self.event().await, LinkEvent::Up(ConnectionId(connection)));
        connect
    }

    async fn event(&mut self) -> LinkEvent {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        event.expect("an event in time").expect("a running link")
    }

    async fn publish(&mut self, connection: u32) -> Token {
        let token = Token(self.next);
        self.next += 1;
        let message = Message {
            connection: ConnectionId(connection),
            token,
            channel: Channel::Readings,
            payload: heapless::Vec::from_slice(&token.0.to_be_bytes()).expect("four bytes"),
        };
        self.messages.send(message).await.expect("a running link");
        token
    }
}

#[tokio::test]
async fn a_connection_is_a_clean_start_with_a_last_will_and_the_devices_own_topics() {
    let mut ends = Ends::start(30_000).await;
    let connect = ends.greet(1).await;
    // Fixed header 2, "MQTT" 6, level 1, then flags: will, will QoS 1, clean start.
    assert_eq!(&connect[2..9], b"\x00\x04MQTT\x05");
    assert_eq!(connect[9], 0b0000_1110);
    let mut lost = [0; Status::MAX_BYTES];
    let length = Status::Lost.encode(&mut lost).unwrap();
    let holds = |part: &[u8]| connect.windows(part.len()).any(|window| window == part);
    assert!(holds(b"truck-7"));
    assert!(holds(b"sc/1/truck-7/status"));
    assert!(connect.ends_with(&lost[..length]));
    let topics = ends.peer.subscribed();
    assert_eq!(topics, ["sc/1/truck-7/settings", "sc/1/truck-7/time"]);
}

#[tokio::test]
async fn a_success_puback_confirms_its_message_in_any_order() {
    let mut ends = Ends::start(30_000).await;
    ends.greet(1).await;
    let tokens = [ends.publish(1).await, ends.publish(1).await];
    let first = ends.peer.publish().await;
    let second = ends.peer.publish().await;
    assert_eq!(first.topic, "sc/1/truck-7/readings");
    assert_eq!(first.payload, 0_u32.to_be_bytes());
    ends.peer.puback(second.id, 0).await;
    assert_eq!(ends.event().await, LinkEvent::Confirmed(tokens[1]));
    ends.peer.puback(first.id, 0x10).await;
    assert_eq!(ends.event().await, LinkEvent::Confirmed(tokens[0]));
}

#[tokio::test]
async fn downlinks_reach_the_tracker_and_foreign_topics_do_not() {
    let mut ends = Ends::start(30_000).await;
    ends.greet(1).await;
    for topic in ["sc/1/truck-8/time", "sc/1/truck-7/readings", "else"] {
        ends.peer.send_publish(topic, b"no").await;
    }
    ends.peer
        .send_publish("sc/1/truck-7/settings", b"yes")
        .await;
    let expected = LinkEvent::Downlink {
        channel: Channel::Settings,
        payload: heapless::Vec::from_slice(b"yes").unwrap(),
    };
    assert_eq!(ends.event().await, expected);
}

#[tokio::test]
async fn a_negative_puback_confirms_nothing_and_ends_the_connection() {
    let mut ends = Ends::start(30_000).await;
    ends.greet(1).await;
    ends.publish(1).await;
    ends.publish(1).await;
    let refused = ends.peer.publish().await;
    ends.peer.publish().await;
    ends.peer.puback(refused.id, 0x97).await;
    assert_eq!(ends.event().await, LinkEvent::Down(LinkFailure::Refused));
    ends.greet(2).await;
}

#[tokio::test]
async fn a_negative_puback_right_after_a_good_one_confirms_nothing_itself() {
    let mut ends = Ends::start(30_000).await;
    ends.greet(1).await;
    ends.publish(1).await;
    ends.publish(1).await;
    let (good, refused) = (ends.peer.publish().await, ends.peer.publish().await);
    ends.peer.pubacks(&[(good.id, 0), (refused.id, 0x83)]).await;
    let first = ends.event().await;
    // The pieces may be read one by one; then the good one counts. Never the refused one.
    if first == LinkEvent::Confirmed(Token(0)) {
        assert_eq!(ends.event().await, LinkEvent::Down(LinkFailure::Refused));
    } else {
        assert_eq!(first, LinkEvent::Down(LinkFailure::Refused));
    }
    ends.greet(2).await;
}

#[tokio::test]
async fn what_was_meant_for_the_connection_before_is_not_sent_on_the_next() {
    let mut ends = Ends::start(30_000).await;
    ends.greet(1).await;
    ends.peer.hang_up();
    assert_eq!(
        ends.event().await,
        LinkEvent::Down(LinkFailure::Disconnected)
    );
    ends.publish(1).await;
    ends.greet(2).await;
    let token = ends.publish(2).await;
    let publish = ends.peer.publish().await;
    assert_eq!(publish.payload, token.0.to_be_bytes());
    assert!(!publish.duplicate, "a fresh session replays nothing");
}

#[tokio::test]
async fn a_window_is_in_flight_and_no_more() {
    let mut ends = Ends::start(30_000).await;
    ends.greet(1).await;
    for _ in 0..=WINDOW_MESSAGES {
        ends.publish(1).await;
    }
    let mut ids = Vec::new();
    for _ in 0..WINDOW_MESSAGES {
        ids.push(ends.peer.publish().await.id);
    }
    // Each answered downlink is a turn of the link in which it could have sent the ninth.
    for _ in 0..3 {
        ends.peer.send_publish("sc/1/truck-7/time", b"turn").await;
        assert!(matches!(ends.event().await, LinkEvent::Downlink { .. }));
    }
    assert!(!ends.peer.has_more());
    ends.peer.puback(ids[0], 0).await;
    assert_eq!(ends.event().await, LinkEvent::Confirmed(Token(0)));
    assert_eq!(ends.peer.publish().await.payload, 8_u32.to_be_bytes());
}

#[tokio::test]
async fn a_gateway_that_confirms_nothing_is_left() {
    let mut ends = Ends::start(100).await;
    ends.greet(1).await;
    ends.publish(1).await;
    ends.peer.publish().await;
    assert_eq!(ends.event().await, LinkEvent::Down(LinkFailure::NoProgress));
    ends.greet(2).await;
}

#[tokio::test]
async fn a_refused_connect_is_tried_again() {
    let mut ends = Ends::start(30_000).await;
    ends.peer.accept().await;
    ends.peer.refuse(0x87).await;
    assert_eq!(ends.event().await, LinkEvent::Down(LinkFailure::Refused));
    ends.greet(2).await;
}

/// The tracker in virtual time, its link in real time, and a gateway that breaks the connection after
/// every fifth message, which it does not confirm.
#[tokio::test]
async fn a_tracker_loses_nothing_over_connections_that_break() {
    let mut ends = Ends::start(30_000).await;
    let mut rig = rig::Rig::new();
    rig.run_to(200 * 300);
    let made = rig.counters().records.made;
    for connection in 1.. {
        ends.greet(connection).await;
        rig.tracker.handle(
            Input::Link(&LinkEvent::Up(ConnectionId(connection))),
            rig.now,
        );
        let mut taken = Vec::new();
        while taken.len() < 5 {
            let Some(message) = rig.tracker.poll(rig.now) else {
                break;
            };
            ends.messages.send(message.clone()).await.unwrap();
            let publish = ends.peer.publish().await;
            assert_eq!(publish.payload, message.payload.as_slice());
            taken.push((publish.id, message));
        }
        for (id, message) in taken.iter().take(4) {
            ends.peer.puback(*id, 0).await;
            assert_eq!(ends.event().await, LinkEvent::Confirmed(message.token));
            rig.gateway.take(message);
            let confirmed = LinkEvent::Confirmed(message.token);
            rig.tracker.handle(Input::Link(&confirmed), rig.now);
        }
        if rig.counters().records.pending == 0 {
            break;
        }
        ends.peer.hang_up();
        let down = ends.event().await;
        assert_eq!(down, LinkEvent::Down(LinkFailure::Disconnected));
        rig.tracker.handle(Input::Link(&down), rig.now);
    }
    assert_eq!(rig.gateway.records.len() as u64, made);
    let last = rig
        .gateway
        .records
        .keys()
        .last()
        .map(|key| u64::from(key.seq.0));
    assert_eq!(last, Some(made - 1));
}
