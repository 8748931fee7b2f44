//! Bytes that mean no good.

use std::time::Duration;

use proptest::prelude::*;

use tokio::net::{TcpSocket, TcpStream};

use super::super::endpoint::{Doors, Endpoint};
use super::super::packet::{self, Version};
use super::*;

/// Frames that start like something real, so that mutations reach deep.
fn seeds() -> Vec<Vec<u8>> {
    let mut will = connect_5("t-1");
    will.last_will = Some(v5::LastWill::new(
        QoS::Level1,
        topic("sc/1/t-1/status"),
        vec![1].into(),
    ));
    will.username = Some("user".into());
    will.properties.receive_max = Some(8);
    will.properties.user_properties = vec![v5::UserProperty {
        name: "a".into(),
        value: "b".into(),
    }];
    let packets: [v5::Packet; 6] = [
        will.into(),
        publish_5("sc/1/t-1/readings", 7).into(),
        subscribe_5(1, &["sc/1/t-1/time", "sc/1/t-1/settings"]).into(),
        v5::Disconnect::new(v5::DisconnectReasonCode::DisconnectWithWillMessage).into(),
        puback_5(7),
        v5::Auth::new(v5::AuthReasonCode::ReAuthentication).into(),
    ];
    let older: [v3::Packet; 2] = [
        v3::Connect::new("t-1".into(), 60).into(),
        publish_311("sc/1/t-1/alarms", 3).into(),
    ];
    packets
        .iter()
        .map(|packet| packet.encode().unwrap().as_ref().to_vec())
        .chain(
            older
                .iter()
                .map(|packet| packet.encode().unwrap().as_ref().to_vec()),
        )
        .collect()
}

/// Take every frame out of `bytes` and look into it in every way.
fn swallow(bytes: &[u8]) -> usize {
    let mut frames = Frames::new(1_024);
    frames.room().extend_from_slice(bytes);
    let mut taken = 0;
    while let Ok(Some(frame)) = frames.take() {
        taken += 1;
        let _ = packet::connect(&frame);
        let _ = packet::decode(Version::V5, &frame);
        let _ = packet::decode(Version::V311, &frame);
    }
    taken
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        swallow(&bytes);
    }

    #[test]
    fn mutated_packets_never_panic(
        seed in 0..seeds().len(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = seeds().swap_remove(seed);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        swallow(&bytes);
        // Reframed with its true length, so that the inside is reached.
        let body = bytes.split_off(2);
        let body = &body[..cut.index(body.len() + 1)];
        bytes[1] = u8::try_from(body.len()).unwrap();
        bytes.extend_from_slice(body);
        if bytes[0] >> 4 != 0 && body.len() < 128 {
            prop_assert_eq!(swallow(&bytes), 1);
        }
    }
}

#[test]
fn what_the_codec_lets_through_is_refused_here() {
    let cases: [(&str, Version, &[u8]); 7] = [
        (
            "an empty topic without alias",
            Version::V5,
            b"\x32\x06\0\0\0\x01\0x",
        ),
        ("DUP with QoS 0", Version::V5, b"\x38\x05\0\x01a\0x"),
        ("DUP with QoS 0", Version::V311, b"\x38\x04\0\x01ax"),
        (
            "a subscription identifier",
            Version::V5,
            b"\x32\x09\0\x01a\0\x01\x02\x0b\x01x",
        ),
        ("bytes behind a ping", Version::V5, b"\xc0\x01x"),
        ("bytes behind a ping", Version::V311, b"\xc0\x01x"),
        ("bytes behind a goodbye", Version::V311, b"\xe0\x01x"),
    ];
    for (what, version, bytes) in cases {
        let mut frames = Frames::new(1_024);
        frames.room().extend_from_slice(bytes);
        let frame = frames.take().unwrap().unwrap();
        assert!(
            packet::decode(version, &frame).is_err(),
            "{what} {version:?}"
        );
    }
    let connects: [(&str, &[u8]); 6] = [
        (
            "will retain without will",
            b"\x10\x10\0\x04MQTT\x05\x22\0\x3c\0\0\x03t-1",
        ),
        (
            "receive maximum 0",
            b"\x10\x13\0\x04MQTT\x05\x02\0\x3c\x03\x21\0\0\0\x03t-1",
        ),
        (
            "packet size 0",
            b"\x10\x15\0\x04MQTT\x05\x02\0\x3c\x05\x27\0\0\0\0\0\x03t-1",
        ),
        (
            "data without method",
            b"\x10\x14\0\x04MQTT\x05\x02\0\x3c\x04\x16\0\x01x\0\x03t-1",
        ),
        (
            "password without user",
            b"\x10\x12\0\x04MQTT\x04\x42\0\x3c\0\x03t-1\0\x01p",
        ),
        (
            "bytes behind",
            b"\x10\x10\0\x04MQTT\x04\x02\0\x3c\0\x03t-1x",
        ),
    ];
    for (what, bytes) in connects {
        let mut frames = Frames::new(1_024);
        frames.room().extend_from_slice(bytes);
        let frame = frames.take().unwrap().unwrap();
        assert!(packet::connect(&frame).is_err(), "{what}");
    }
}

#[test]
fn short_goodbyes_are_understood() {
    for bytes in [&[0xe0, 0][..], &[0xe0, 1, 0], &[0xe0, 2, 0, 0]] {
        let mut frames = Frames::new(1_024);
        frames.room().extend_from_slice(bytes);
        let frame = frames.take().unwrap().unwrap();
        let goodbye = packet::decode(Version::V5, &frame).unwrap();
        assert!(matches!(goodbye, packet::Incoming::Disconnect(packet) if packet.normal));
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_is_refused_at_its_first_byte_and_others_go_on() {
    let rig = Rig::new();
    let mut healthy = rig.client_5("t-1").await;
    for garbage in [
        b"GET / HTTP/1.1\r\n".as_slice(),
        &[0x16, 3, 1],
        &[0; 64],
        &[0xff; 64],
    ] {
        let mut client = rig.open();
        client.say(garbage).await;
        client.closed().await;
    }
    healthy.is_silent().await;
    let reasons = rig.reasons();
    assert_eq!(reasons, [RefusalReason::Protocol; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_connect_larger_than_its_bound_is_refused_by_its_header() {
    let rig = Rig::new();
    let mut client = rig.open();
    client.say(&[0x10, 0x80, 0x08]).await;
    client.closed().await;
    assert_eq!(rig.refusal().reason, RefusalReason::PacketTooLarge);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_within_a_packet_leaves_nothing_behind() {
    let mut rig = Rig::new();
    let mut client = rig.client_5("t-1").await;
    client.say(&[0x32, 0x20, 0, 17]).await;
    drop(client);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.shared.registry.count(), 0);
    assert!(rig.journal.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stalled_journal_stops_reading_when_all_sessions_hold_too_much() {
    let mut rig = Rig::build(1, |limits| limits.held_bytes_max = 2_000);
    let mut client = rig.client_5("t-1").await;
    for packet_id in 1..=4 {
        let mut publish = publish_5("sc/1/t-1/readings", packet_id);
        publish.payload = vec![0; 1_000].into();
        client.say_5(publish).await;
    }
    client.say(&[0xc0, 0]).await;
    let early = tokio::time::timeout(Duration::from_secs(3_000), client.heard()).await;
    assert!(
        early.is_err(),
        "the first is in the queue, two fill the bound, the fourth is not read"
    );
    rig.client_5("t-2").await.is_silent().await;
    for _ in 1..=4 {
        assert_eq!(rig.publication().await.payload.len(), 1_000);
    }
    assert_eq!(client.heard().await, Some(vec![0xd0, 0]));
    assert!(rig.reasons().is_empty(), "keep-alive pauses meanwhile");
}

#[tokio::test]
async fn the_task_of_a_connection_stays_small() {
    let rig = Rig::new();
    let (_ours, theirs) = tokio::io::duplex(1);
    let peer = "127.0.0.1:1".parse().unwrap();
    let task = serve(
        theirs,
        peer,
        &Link::Plain,
        &rig.shared,
        rig.stop.subscribe(),
        trial(&rig.shared, peer),
    );
    let bytes = size_of_val(&task);
    assert!(bytes <= 8 * 1024, "{bytes} bytes");
}

#[tokio::test(start_paused = true)]
async fn a_packet_that_drips_is_cut_off_and_one_that_is_only_slow_is_not() {
    let mut rig = Rig::new();
    let mut packet = publish_5("sc/1/t-1/readings", 1);
    packet.payload = vec![7; 100].into();
    let bytes = v5::Packet::from(packet).encode().unwrap();
    let bytes = bytes.as_ref();
    let mut slow = rig.client_5("t-1").await;
    for byte in bytes {
        slow.say(&[*byte]).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert_eq!(rig.publication().await.payload.len(), 100);

    let mut drip = rig.client_5("t-2").await;
    let before = tokio::time::Instant::now();
    // Slower than it may be, faster than a keep-alive of a minute and a half.
    let told = async {
        for byte in bytes {
            if drip.stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    told.await;
    assert_eq!(rig.refusal().reason, RefusalReason::SlowWriter);
    assert!(before.elapsed() >= Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_device_beyond_its_rate_waits_loses_nothing_and_does_not_slow_others() {
    let rate = 10_000;
    let mut rig = Rig::build(512, |limits| {
        limits.device_bytes_per_s = rate.try_into().unwrap();
        limits.receive_maximum = 200.try_into().unwrap();
    });
    let mut loud = rig.client_5("t-1").await;
    let before = tokio::time::Instant::now();
    // 10 s of its rate, of which 4 s may come at once.
    for packet_id in 1..=100 {
        let mut publish = publish_5("sc/1/t-1/readings", packet_id);
        publish.payload = vec![0; 1_000 - 26].into();
        loud.say_5(publish).await;
    }
    let mut quiet = rig.client_5("t-2").await;
    quiet.say_5(publish_5("sc/1/t-2/readings", 1)).await;
    let mut loud_packets = 0;
    let mut quiet_after = None;
    for _ in 0..101 {
        let publication = rig.publication().await;
        match publication.topic.device.as_str() {
            "t-2" => quiet_after = Some(before.elapsed()),
            _ => loud_packets += 1,
        }
    }
    assert_eq!(loud_packets, 100, "QoS 1 waits rather than loses");
    assert!(
        quiet_after.unwrap() < Duration::from_secs(5),
        "{quiet_after:?}"
    );
    let seconds = before.elapsed().as_secs_f64();
    assert!((5.0..7.0).contains(&seconds), "{seconds} s");
    assert!(rig.reasons().is_empty(), "waiting is no fault");
}

/// A stream to the endpoint from this address of this machine.
async fn from(source: [u8; 4], to: SocketAddr) -> Client<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    Client {
        stream: socket.connect(to).await.unwrap(),
        frames: Frames::new(u32::MAX),
    }
}

#[tokio::test]
async fn an_address_that_fails_is_shut_and_its_sessions_and_other_addresses_go_on() {
    let limits = Limits {
        failures_per_address_per_s: 1.try_into().unwrap(),
        ..Limits::default()
    };
    let doors = Doors {
        plain: Some("127.0.0.1:0".parse().unwrap()),
        tls: None,
    };
    let endpoint = Endpoint::bind(doors, limits).await.unwrap();
    let address = endpoint.plain_addr().unwrap().unwrap();
    let (ports, parts) = ports(1);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(endpoint.run(ports, async {
        let _ = stopped.await;
    }));
    let bad = [127, 0, 0, 2];
    let mut session = from(bad, address).await;
    session.say_5(connect_5("t-1")).await;
    assert!(matches!(session.hear_5().await, v5::Packet::Connack(_)));

    let shut = |refusal: &Refusal| refusal.reason == RefusalReason::AddressFailing;
    let mut failing = Vec::new();
    while !parts.refusals.lock().unwrap().iter().any(shut) {
        let mut client = from(bad, address).await;
        // It may be closed already.
        let _ = client.stream.write_all(b"GET / HTTP/1.1\r\n").await;
        failing.push(client);
    }
    let told = parts
        .refusals
        .lock()
        .unwrap()
        .iter()
        .find(|refusal| shut(refusal))
        .cloned();
    assert_eq!(told.unwrap().peer.ip(), std::net::IpAddr::from(bad));
    session.say_5(v5::Packet::Pingreq).await;
    assert!(matches!(session.hear_5().await, v5::Packet::Pingresp));
    let mut other = from([127, 0, 0, 3], address).await;
    other.say_5(connect_5("t-2")).await;
    assert!(matches!(other.hear_5().await, v5::Packet::Connack(_)));

    drop(failing);
    stop.send(()).unwrap();
    running.await.unwrap();
}
