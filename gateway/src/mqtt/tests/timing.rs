//! Deadlines, on virtual time.

use std::time::Duration;

use tokio::time::{Instant, advance, sleep};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_is_closed_in_time() {
    let rig = Rig::new();
    let began = Instant::now();
    let mut client = rig.open();
    client.closed().await;
    assert!(
        (5..7).contains(&began.elapsed().as_secs()),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(rig.refusal().reason, RefusalReason::ConnectTimeout);
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_drips_is_closed_in_time() {
    let rig = Rig::new();
    let mut client = rig.open();
    for byte in b"\x10\x10\0\x04MQTT" {
        let _ = client.stream.write_all(&[*byte]).await;
        sleep(Duration::from_millis(900)).await;
    }
    assert_eq!(rig.refusal().reason, RefusalReason::ConnectTimeout);
    client.closed().await;
}

#[tokio::test(start_paused = true)]
async fn silence_of_one_and_a_half_keep_alives_ends_a_connection() {
    let rig = Rig::new();
    let mut client = rig.open();
    client.say_5(v5::Connect::new("t-1".into(), 10)).await;
    assert!(matches!(client.hear_5().await, v5::Packet::Connack(_)));
    for _ in 0..5 {
        sleep(Duration::from_secs(14)).await;
        client.is_silent().await;
    }
    let began = Instant::now();
    assert_eq!(
        client.goodbye().await,
        v5::DisconnectReasonCode::KeepAliveTimeout
    );
    assert!(
        (15..17).contains(&began.elapsed().as_secs()),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(rig.refusal().reason, RefusalReason::KeepAlive);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_never_become_a_packet_do_not_keep_a_connection_alive() {
    let rig = Rig::new();
    let mut client = rig.open();
    client.say_5(v5::Connect::new("t-1".into(), 10)).await;
    assert!(matches!(client.hear_5().await, v5::Packet::Connack(_)));
    client.say(&[0x32, 0x80, 0x01]).await;
    for _ in 0..18 {
        sleep(Duration::from_secs(1)).await;
        let _ = client.stream.write_all(&[0]).await;
    }
    assert_eq!(
        rig.reasons(),
        [RefusalReason::KeepAlive],
        "within 15 s, whatever came"
    );
    assert_eq!(
        client.goodbye().await,
        v5::DisconnectReasonCode::KeepAliveTimeout
    );
}

#[tokio::test(start_paused = true)]
async fn a_keep_alive_of_for_ever_is_overridden_and_announced() {
    let rig = Rig::with(|limits| limits.keep_alive_seconds_max = 100.try_into().unwrap());
    for asked in [0, 101, u16::MAX] {
        let mut client = rig.open();
        client.say_5(v5::Connect::new("t-1".into(), asked)).await;
        let v5::Packet::Connack(ack) = client.hear_5().await else {
            panic!()
        };
        assert_eq!(ack.properties.server_keep_alive, Some(100), "{asked}");
    }
    let mut client = rig.open();
    client.say_5(v5::Connect::new("t-1".into(), 100)).await;
    let v5::Packet::Connack(ack) = client.hear_5().await else {
        panic!()
    };
    assert_eq!(ack.properties.server_keep_alive, None);
    let began = Instant::now();
    assert_eq!(
        client.goodbye().await,
        v5::DisconnectReasonCode::KeepAliveTimeout
    );
    assert!((150..152).contains(&began.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_cut_off() {
    let rig = Rig::new();
    let mut client = rig.open_with(128);
    client.say_5(connect_5("t-1")).await;
    assert!(matches!(client.hear_5().await, v5::Packet::Connack(_)));
    // The answers fill the stream; then our own pings find no room either.
    let flood = tokio::time::timeout(Duration::from_secs(30), async {
        while client.stream.write_all(&[0xc0, 0]).await.is_ok() {}
    });
    assert!(flood.await.is_ok(), "never cut off");
    assert_eq!(rig.refusal().reason, RefusalReason::SlowReader);
}

#[tokio::test(start_paused = true)]
async fn a_will_is_spoken_when_the_connection_breaks_and_not_after_a_goodbye() {
    let mut rig = Rig::new();
    let mut connect = connect_5("t-1");
    connect.last_will = Some(v5::LastWill::new(
        QoS::Level1,
        topic("sc/1/t-1/status"),
        b"lost".to_vec().into(),
    ));
    for (goodbye, spoken) in [
        (None, true),
        (Some([0xe0, 0].as_slice()), false),
        (Some(&[0xe0, 1, 4]), true),
    ] {
        let mut client = rig.open();
        client.say_5(connect.clone()).await;
        assert!(matches!(client.hear_5().await, v5::Packet::Connack(_)));
        if let Some(goodbye) = goodbye {
            client.say(goodbye).await;
        }
        drop(client);
        sleep(Duration::from_secs(1)).await;
        let will = rig.journal.try_recv().ok();
        assert_eq!(will.is_some(), spoken, "{goodbye:?}");
        if let Some(will) = will {
            assert_eq!(
                (will.topic.to_string().as_str(), will.payload.as_slice()),
                ("sc/1/t-1/status", b"lost".as_slice())
            );
            assert!(will.due.is_none());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_delayed_will_is_not_spoken_when_the_session_is_resumed_before() {
    let mut rig = Rig::new();
    let mut connect = connect_5("t-1");
    connect.clean_start = false;
    connect.properties.session_expiry_interval = Some(600);
    let mut will = v5::LastWill::new(
        QoS::Level0,
        topic("sc/1/t-1/status"),
        b"lost".to_vec().into(),
    );
    will.properties.delay_interval = Some(30);
    connect.last_will = Some(will);
    let open = async |rig: &Rig, clean_start| {
        let mut client = rig.open();
        let mut connect = connect.clone();
        connect.clean_start = clean_start;
        client.say_5(connect).await;
        assert!(matches!(client.hear_5().await, v5::Packet::Connack(_)));
        client
    };
    drop(open(&rig, false).await);
    sleep(Duration::from_secs(29)).await;
    let resumed = open(&rig, false).await;
    sleep(Duration::from_secs(60)).await;
    assert!(rig.journal.try_recv().is_err(), "resumed in time");

    drop(resumed);
    sleep(Duration::from_secs(31)).await;
    assert_eq!(
        rig.publication().await.payload,
        b"lost",
        "not resumed in time"
    );

    drop(open(&rig, false).await);
    sleep(Duration::from_secs(1)).await;
    let _clean = open(&rig, true).await;
    assert_eq!(
        rig.publication().await.payload,
        b"lost",
        "a clean start ends the session at once"
    );
}

#[tokio::test(start_paused = true)]
async fn unreported_settings_are_sent_again_at_the_interval() {
    let rig = Rig::new();
    let mut client = rig.client_5("t-1").await;
    client.say_5(subscribe_5(1, &["sc/1/t-1/settings"])).await;
    assert!(matches!(client.hear_5().await, v5::Packet::Suback(_)));
    *rig.settings.lock().unwrap() = Ok(Some(vec![9]));
    let began = Instant::now();
    for _ in 0..2 {
        let v5::Packet::Publish(sent) = client.hear_5().await else {
            panic!()
        };
        assert_eq!(sent.payload.as_ref(), [9]);
        client.is_silent().await;
    }
    assert!(
        (60..=121).contains(&began.elapsed().as_secs()),
        "{:?}",
        began.elapsed()
    );
    *rig.settings.lock().unwrap() = Ok(None);
    advance(Duration::from_secs(70)).await;
    client.is_silent().await;
}
