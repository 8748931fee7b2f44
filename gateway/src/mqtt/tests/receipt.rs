//! Law Receipt at the session: what is not released is not acknowledged.

use std::time::Duration;

use super::*;

const READINGS: &str = "sc/1/t-1/readings";

fn two_at_once(limits: &mut Limits) {
    limits.receive_maximum = 2.try_into().unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_before_it_is_released_mqtt_5() {
    let mut rig = Rig::new();
    let mut client = rig.client_5("t-1").await;
    client.say_5(publish_5(READINGS, 7)).await;
    let publication = rig.publication().await;
    assert_eq!(publication.topic.to_string(), READINGS);
    assert_eq!(publication.payload, [7]);
    client.is_silent().await;
    release(publication.due.unwrap());
    assert_eq!(client.hear_5().await, puback_5(7));
    client.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_before_it_is_released_mqtt_311() {
    let mut rig = Rig::new();
    let mut client = rig.client_311("t-1").await;
    client.say_311(publish_311(READINGS, 7)).await;
    let due = rig.due().await;
    client.is_silent().await;
    release(due);
    assert_eq!(client.hear_311().await, v3::Packet::Puback(pid(7)));
}

#[tokio::test(start_paused = true)]
async fn a_due_that_is_dropped_is_never_acknowledged() {
    let mut rig = Rig::new();
    let mut client = rig.client_5("t-1").await;
    client.say_5(publish_5(READINGS, 7)).await;
    drop(rig.due().await);
    client.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn pubacks_keep_the_order_of_arrival_whatever_the_order_of_release() {
    let mut rig = Rig::new();
    let mut client = rig.client_5("t-1").await;
    for packet_id in [5, 9, 2] {
        client.say_5(publish_5(READINGS, packet_id)).await;
    }
    let (five, nine, two) = (rig.due().await, rig.due().await, rig.due().await);
    release(two);
    release(nine);
    client.is_silent().await;
    release(five);
    for packet_id in [5, 9, 2] {
        assert_eq!(client.hear_5().await, puback_5(packet_id));
    }
}

/// An expiry is for what a broker hands on, and nothing is handed on here: a reading is a fact, however old.
#[tokio::test(start_paused = true)]
async fn a_message_expiry_expires_nothing_while_the_journal_takes_its_time() {
    let mut rig = Rig::new();
    let mut client = rig.client_5("t-1").await;
    let mut reading = publish_5(READINGS, 7);
    reading.properties.message_expiry_interval = Some(1);
    client.say_5(reading).await;
    let publication = rig.publication().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(publication.payload, [7]);
    release(publication.due.unwrap());
    assert_eq!(client.hear_5().await, puback_5(7));
}

#[tokio::test(start_paused = true)]
async fn a_takeover_drops_what_the_old_connection_is_owed() {
    let mut rig = Rig::new();
    let mut old = rig.client_5("t-1").await;
    old.say_5(publish_5(READINGS, 7)).await;
    let due = rig.due().await;
    let mut new = rig.client_5("t-1").await;
    assert_eq!(
        old.goodbye().await,
        v5::DisconnectReasonCode::SessionTakenOver
    );
    release(due);
    new.is_silent().await;
    let mut again = publish_5(READINGS, 7);
    again.dup = true;
    new.say_5(again).await;
    let due = rig.due().await;
    new.is_silent().await;
    release(due);
    assert_eq!(new.hear_5().await, puback_5(7));
}

#[tokio::test(start_paused = true)]
async fn more_than_the_receive_maximum_ends_an_mqtt_5_connection() {
    let mut rig = Rig::with(two_at_once);
    let mut client = rig.client_5("t-1").await;
    for packet_id in 1..=2 {
        client.say_5(publish_5(READINGS, packet_id)).await;
    }
    release(rig.due().await);
    assert_eq!(client.hear_5().await, puback_5(1));
    client.say_5(publish_5(READINGS, 3)).await;
    client.is_silent().await;
    client.say_5(publish_5(READINGS, 4)).await;
    assert_eq!(
        client.goodbye().await,
        v5::DisconnectReasonCode::ReceiveMaximumExceeded
    );
    assert_eq!(rig.reasons(), [RefusalReason::ReceiveMaximum]);
    assert_eq!(
        (
            rig.publication().await.payload,
            rig.publication().await.payload
        ),
        (vec![2], vec![3])
    );
    assert!(
        rig.journal.try_recv().is_err(),
        "the one too many was not passed on"
    );
}

#[tokio::test(start_paused = true)]
async fn an_mqtt_5_ping_is_answered_while_the_journal_takes_nothing() {
    let rig = Rig::build(1, |limits| limits.receive_maximum = 4.try_into().unwrap());
    let mut client = rig.client_5("t-1").await;
    for packet_id in 1..=4 {
        client.say_5(publish_5(READINGS, packet_id)).await;
    }
    client.is_silent().await;
    assert!(rig.reasons().is_empty());
    let mut rig = rig;
    for packet_id in 1..=4 {
        release(rig.due().await);
        assert_eq!(client.hear_5().await, puback_5(packet_id));
    }
}

#[tokio::test(start_paused = true)]
async fn a_311_connection_is_not_read_while_too_much_is_owed() {
    let mut rig = Rig::with(two_at_once);
    let mut client = rig.client_311("t-1").await;
    for packet_id in 1..=3 {
        client.say_311(publish_311(READINGS, packet_id)).await;
    }
    client.say(&[0xc0, 0]).await;
    let (one, two) = (rig.due().await, rig.due().await);
    tokio::time::sleep(std::time::Duration::from_secs(3_000)).await;
    assert!(rig.journal.try_recv().is_err(), "the third is not read");
    assert!(rig.reasons().is_empty(), "keep-alive (60 s) pauses");
    release(one);
    assert_eq!(client.hear_311().await, v3::Packet::Puback(pid(1)));
    let three = rig.due().await;
    release(two);
    assert_eq!(client.hear_311().await, v3::Packet::Puback(pid(2)));
    assert_eq!(client.hear_311().await, v3::Packet::Pingresp);
    release(three);
    assert_eq!(client.hear_311().await, v3::Packet::Puback(pid(3)));
    client.closed().await;
    assert_eq!(
        rig.reasons(),
        [RefusalReason::KeepAlive],
        "and goes on afterwards"
    );
}

#[tokio::test(start_paused = true)]
async fn a_311_repetition_of_what_is_still_owed_is_acknowledged_once() {
    let mut rig = Rig::new();
    let mut client = rig.client_311("t-1").await;
    client.say_311(publish_311(READINGS, 7)).await;
    let mut again = publish_311(READINGS, 7);
    again.dup = true;
    client.say_311(again).await;
    client.is_silent().await;
    release(rig.due().await);
    assert_eq!(client.hear_311().await, v3::Packet::Puback(pid(7)));
    client.is_silent().await;
    assert!(rig.journal.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_packet_id_in_flight_may_not_be_used_again() {
    let rig = Rig::new();
    let mut client = rig.client_5("t-1").await;
    client.say_5(publish_5(READINGS, 7)).await;
    client.say_5(publish_5(READINGS, 7)).await;
    assert_eq!(
        client.goodbye().await,
        v5::DisconnectReasonCode::ProtocolError
    );
}

#[tokio::test(start_paused = true)]
async fn qos_0_owes_nothing_and_is_dropped_with_a_count_when_the_journal_is_full() {
    let mut rig = Rig::build(1, two_at_once);
    let mut client = rig.client_5("t-1").await;
    for _ in 0..4 {
        client.say_5(publish_5(READINGS, 0)).await;
    }
    client.is_silent().await;
    assert_eq!(rig.refusal().reason, RefusalReason::QosZeroDropped);
    for _ in 0..3 {
        assert!(rig.publication().await.due.is_none());
    }
    client.is_silent().await;
    assert!(rig.journal.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_what_is_owed_and_says_goodbye() {
    let mut rig = Rig::new();
    let mut client = rig.client_5("t-1").await;
    client.say_5(publish_5(READINGS, 7)).await;
    let due = rig.due().await;
    rig.stop.send_replace(true);
    tokio::task::yield_now().await;
    release(due);
    assert_eq!(client.hear_5().await, puback_5(7));
    assert_eq!(
        client.goodbye().await,
        v5::DisconnectReasonCode::ServerShuttingDown
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_ever_and_acknowledges_nothing_unreleased() {
    let mut rig = Rig::new();
    let mut client = rig.client_5("t-1").await;
    client.say_5(publish_5(READINGS, 7)).await;
    let due = rig.due().await;
    let began = tokio::time::Instant::now();
    rig.stop.send_replace(true);
    assert_eq!(
        client.goodbye().await,
        v5::DisconnectReasonCode::ServerShuttingDown
    );
    assert_eq!(
        began.elapsed().as_secs(),
        Limits::default().drain_timeout.as_secs()
    );
    release(due);
}

#[tokio::test(start_paused = true)]
async fn qos_0_that_a_lost_connection_leaves_behind_is_counted() {
    let mut rig = Rig::build(1, |_| {});
    let mut client = rig.client_5("t-1").await;
    for packet_id in [0, 0, 7, 0] {
        client.say_5(publish_5(READINGS, packet_id)).await;
    }
    client.say(&[0xe0, 0]).await;
    client.closed().await;
    assert_eq!(
        rig.reasons(),
        [RefusalReason::QosZeroDropped; 2],
        "the first is in the queue"
    );
    assert!(rig.publication().await.due.is_none());
    assert!(rig.journal.try_recv().is_err());
}
