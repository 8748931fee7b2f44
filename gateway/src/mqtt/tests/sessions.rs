//! Sessions that outlive their connections.

use std::time::Duration;

use super::super::persistence::Subscriptions;
use super::*;

fn lasting(id: &str, clean_start: bool, expiry_seconds: u32) -> v5::Connect {
    let mut connect = connect_5(id);
    connect.clean_start = clean_start;
    connect.properties.session_expiry_interval = Some(expiry_seconds);
    connect
}

/// Connect and tell whether a session was present.
async fn present(rig: &Rig, connect: v5::Connect) -> (Client, bool) {
    let mut client = rig.open();
    client.say_5(connect).await;
    let v5::Packet::Connack(ack) = client.hear_5().await else {
        panic!("not a CONNACK")
    };
    assert_eq!(ack.reason_code, v5::ConnectReasonCode::Success);
    (client, ack.session_present)
}

/// Say goodbye and wait until the endpoint has put the session away.
async fn leave(mut client: Client) {
    client.say(&[0xe0, 0]).await;
    client.closed().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
}

#[tokio::test(start_paused = true)]
async fn session_present_is_told_truthfully() {
    let rig = Rig::new();
    let (client, known) = present(&rig, lasting("t-1", false, 60)).await;
    assert!(!known, "never seen before");
    assert_eq!(
        rig.sessions.record("t-1").unwrap().left_at_ms,
        None,
        "it is here"
    );
    leave(client).await;
    assert!(
        rig.sessions.record("t-1").unwrap().left_at_ms.is_some(),
        "its expiry runs"
    );
    let (client, known) = present(&rig, lasting("t-1", false, 60)).await;
    assert!(known, "left a moment ago");
    leave(client).await;
    let (client, known) = present(&rig, lasting("t-1", true, 60)).await;
    assert!(!known, "asked for a clean start");
    leave(client).await;
    let (client, known) = present(&rig, lasting("t-1", false, 0)).await;
    assert!(known, "the clean one was to last as well");
    leave(client).await;
    let (_, known) = present(&rig, lasting("t-1", false, 0)).await;
    assert!(!known, "the last one was to end with its connection");
}

#[tokio::test(start_paused = true)]
async fn an_expired_session_is_not_present() {
    let rig = Rig::new();
    let left_at_ms = Some(crate::clock::wall_utc().get() - 61_000);
    let record = SessionRecord {
        subscriptions: Subscriptions::default(),
        expiry_seconds: 60,
        left_at_ms,
    };
    rig.sessions.put("t-1", record);
    assert!(!present(&rig, lasting("t-1", false, 60)).await.1);
}

#[tokio::test(start_paused = true)]
async fn a_takeover_resumes_the_session() {
    let rig = Rig::new();
    let (mut old, _) = present(&rig, lasting("t-1", false, 60)).await;
    old.say_5(subscribe_5(1, &["sc/1/t-1/settings"])).await;
    assert!(matches!(old.hear_5().await, v5::Packet::Suback(_)));
    *rig.settings.lock().unwrap() = Ok(Some(vec![9]));
    let (mut new, known) = present(&rig, lasting("t-1", false, 60)).await;
    assert!(known);
    assert_eq!(
        old.goodbye().await,
        v5::DisconnectReasonCode::SessionTakenOver
    );
    assert!(
        matches!(new.hear_5().await, v5::Packet::Publish(sent) if sent.payload.as_ref() == [9])
    );
    assert!(rig.sessions.record("t-1").unwrap().subscriptions.settings);
}

#[tokio::test(start_paused = true)]
async fn connack_waits_until_the_session_is_durable() {
    let rig = Rig::new();
    rig.sessions.closed.store(true, Ordering::SeqCst);
    let mut client = rig.open();
    client.say_5(lasting("t-1", false, 60)).await;
    let early = tokio::time::timeout(Duration::from_secs(4), client.heard()).await;
    assert!(early.is_err(), "CONNACK before the session was durable");
    rig.sessions.closed.store(false, Ordering::SeqCst);
    rig.sessions.opened.notify_one();
    assert!(matches!(client.hear_5().await, v5::Packet::Connack(_)));
    assert!(rig.sessions.record("t-1").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_or_hangs_turns_the_client_away() {
    for hangs in [false, true] {
        let rig = Rig::new();
        rig.sessions.broken.store(!hangs, Ordering::SeqCst);
        rig.sessions.closed.store(hangs, Ordering::SeqCst);
        let mut client = rig.open();
        client.say_5(lasting("t-1", false, 60)).await;
        let v5::Packet::Connack(ack) = client.hear_5().await else {
            panic!()
        };
        assert_eq!(ack.reason_code, v5::ConnectReasonCode::ServerUnavailable);
        client.closed().await;
        assert_eq!(rig.refusal().reason, RefusalReason::SessionStore);
        let mut clean = rig.client_5("t-2").await;
        clean.is_silent().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clean_session_costs_the_store_nothing() {
    let rig = Rig::new();
    leave(rig.client_5("t-1").await).await;
    leave(rig.client_311("t-1").await).await;
    assert_eq!(rig.sessions.writes.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn an_expiry_beyond_the_longest_is_cut_and_announced() {
    let rig = Rig::with(|limits| limits.session_expiry_seconds_max = 3_600);
    let mut client = rig.open();
    client.say_5(lasting("t-1", false, u32::MAX)).await;
    let v5::Packet::Connack(ack) = client.hear_5().await else {
        panic!()
    };
    assert_eq!(ack.properties.session_expiry_interval, Some(3_600));
    assert_eq!(rig.sessions.record("t-1").unwrap().expiry_seconds, 3_600);
}

#[tokio::test(start_paused = true)]
async fn a_311_session_that_is_not_clean_lasts() {
    let rig = Rig::new();
    let mut connect = v3::Connect::new("t-1".into(), 60);
    connect.clean_session = false;
    for known in [false, true] {
        let mut client = rig.open();
        client.say_311(connect.clone()).await;
        let welcome = v3::Connack::new(known, v3::ConnectReturnCode::Accepted);
        assert_eq!(client.hear_311().await, welcome.into());
        leave(client).await;
    }
    connect.clean_session = true;
    let mut client = rig.open();
    client.say_311(connect).await;
    let welcome = v3::Connack::new(false, v3::ConnectReturnCode::Accepted);
    assert_eq!(client.hear_311().await, welcome.into());
    assert_eq!(
        rig.sessions.record("t-1"),
        None,
        "a clean session forgets the old one"
    );
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_may_shorten_a_session_but_not_bring_one_back() {
    let rig = Rig::new();
    let goodbye = |expiry_seconds| {
        let mut packet = v5::Disconnect::new_normal();
        packet.properties.session_expiry_interval = Some(expiry_seconds);
        packet
    };
    let (mut client, _) = present(&rig, lasting("t-1", false, 60)).await;
    client.say_5(goodbye(0)).await;
    client.closed().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(rig.sessions.record("t-1"), None);

    let mut client = rig.client_5("t-1").await;
    client.say_5(goodbye(60)).await;
    assert_eq!(
        client.goodbye().await,
        v5::DisconnectReasonCode::ProtocolError
    );
}
