//! Settings and time on their way to a device.

use protocol::downlink::{TimeReply, TimeRequest};
use protocol::units::UptimeMs;

use super::*;

const SETTINGS: &str = "sc/1/t-1/settings";

impl Rig {
    fn settings_changed(&self, device: &str) -> bool {
        self.shared
            .registry
            .settings_changed(&device.parse().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn settings_go_out_on_subscribing_and_when_they_change() {
    let rig = Rig::new();
    *rig.settings.lock().unwrap() = Ok(Some(vec![1]));
    let mut client = rig.client_5("t-1").await;
    client.is_silent().await;
    client.say_5(subscribe_5(1, &[SETTINGS])).await;
    let granted = v5::Suback::new(pid(1), vec![v5::SubscribeReasonCode::GrantedQoS0]);
    assert_eq!(client.hear_5().await, granted.into());
    let expected =
        |payload: u8| v5::Publish::new(QosPid::Level0, topic(SETTINGS), vec![payload].into());
    assert_eq!(client.hear_5().await, expected(1).into());

    *rig.settings.lock().unwrap() = Ok(Some(vec![2]));
    assert!(rig.settings_changed("t-1"));
    assert_eq!(client.hear_5().await, expected(2).into());

    *rig.settings.lock().unwrap() = Ok(None);
    assert!(rig.settings_changed("t-1"));
    client.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn settings_that_can_not_be_read_are_counted_and_the_connection_goes_on() {
    let mut rig = Rig::new();
    let cause = "damaged row".to_owned();
    *rig.settings.lock().unwrap() = Err(DesiredError { cause });
    let mut client = rig.client_5("t-1").await;
    client.say_5(subscribe_5(1, &[SETTINGS])).await;
    assert!(matches!(client.hear_5().await, v5::Packet::Suback(_)));
    client.say_5(publish_5("sc/1/t-1/readings", 3)).await;
    release(rig.due().await);
    assert_eq!(client.hear_5().await, puback_5(3));
    let refusal = rig.refusal();
    assert_eq!(refusal.reason, RefusalReason::SettingsStore);
    assert!(refusal.detail.contains("damaged row"), "{refusal:?}");
    assert!(!rig.settings_changed("t-2"), "it is not connected");
}

#[tokio::test(start_paused = true)]
async fn nothing_goes_to_a_device_that_has_unsubscribed() {
    let rig = Rig::new();
    let mut client = rig.client_5("t-1").await;
    client.say_5(subscribe_5(1, &[SETTINGS])).await;
    assert!(matches!(client.hear_5().await, v5::Packet::Suback(_)));
    let filters = [SETTINGS, "sc/1/t-1/time"];
    let filters = filters.map(|filter| TopicFilter::try_from(filter).unwrap());
    client
        .say_5(v5::Unsubscribe::new(pid(2), filters.to_vec()))
        .await;
    let codes = vec![
        v5::UnsubscribeReasonCode::Success,
        v5::UnsubscribeReasonCode::NoSubscriptionExisted,
    ];
    assert_eq!(
        client.hear_5().await,
        v5::Unsuback::new(pid(2), codes).into()
    );
    *rig.settings.lock().unwrap() = Ok(Some(vec![1]));
    assert!(rig.settings_changed("t-1"));
    client.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn settings_larger_than_the_device_takes_are_counted_and_not_sent() {
    let rig = Rig::new();
    *rig.settings.lock().unwrap() = Ok(Some(vec![0; 100]));
    let mut connect = connect_5("t-1");
    connect.properties.max_packet_size = Some(60);
    let mut client = rig.open();
    client.say_5(connect).await;
    assert!(matches!(client.hear_5().await, v5::Packet::Connack(_)));
    client.say_5(subscribe_5(1, &[SETTINGS])).await;
    assert!(matches!(client.hear_5().await, v5::Packet::Suback(_)));
    client.is_silent().await;
    let refusal = rig.refusal();
    assert_eq!(refusal.reason, RefusalReason::DownlinkTooLarge);
    assert_eq!(refusal.topic.as_deref(), Some(SETTINGS));
}

fn time_request(nonce: u64) -> Vec<u8> {
    let mut payload = vec![0; TimeRequest::MAX_BYTES];
    let request = TimeRequest {
        nonce,
        uptime: UptimeMs::saturating(5_000),
    };
    let length = request.encode(&mut payload).unwrap();
    payload.truncate(length);
    payload
}

fn ask(packet_id: u16, payload: Vec<u8>) -> v5::Publish {
    let mut publish = publish_5("sc/1/t-1/time_request", packet_id);
    publish.payload = payload.into();
    publish
}

#[tokio::test(start_paused = true)]
async fn the_time_is_told_with_the_nonce_of_the_request() {
    let mut rig = Rig::new();
    let mut client = rig.client_5("t-1").await;
    client.say_5(subscribe_5(1, &["sc/1/t-1/time"])).await;
    assert!(matches!(client.hear_5().await, v5::Packet::Suback(_)));
    for (packet_id, nonce) in [(0, 1), (9, u64::MAX)] {
        client.say_5(ask(packet_id, time_request(nonce))).await;
        if packet_id > 0 {
            assert_eq!(
                client.hear_5().await,
                puback_5(packet_id),
                "needs no journal"
            );
        }
        let v5::Packet::Publish(reply) = client.hear_5().await else {
            panic!()
        };
        assert_eq!(&*reply.topic_name, "sc/1/t-1/time");
        let told = TimeReply {
            nonce,
            utc: rig.shared.ports.clock.event_now(),
            uncertainty: Milliseconds::saturating(250),
        };
        assert_eq!(TimeReply::decode(&reply.payload), Ok(told));
    }
    assert!(
        rig.journal.try_recv().is_err(),
        "a time request is no reading"
    );
}

#[tokio::test(start_paused = true)]
async fn the_puback_of_a_time_request_waits_for_its_turn() {
    let mut rig = Rig::new();
    let mut client = rig.client_5("t-1").await;
    client.say_5(subscribe_5(1, &["sc/1/t-1/time"])).await;
    assert!(matches!(client.hear_5().await, v5::Packet::Suback(_)));
    client.say_5(publish_5("sc/1/t-1/readings", 3)).await;
    client.say_5(ask(4, time_request(7))).await;
    assert!(matches!(client.hear_5().await, v5::Packet::Publish(_)));
    client.is_silent().await;
    release(rig.due().await);
    assert_eq!(client.hear_5().await, puback_5(3));
    assert_eq!(client.hear_5().await, puback_5(4));
}

#[tokio::test(start_paused = true)]
async fn a_time_request_that_can_not_be_answered_is_counted_and_harms_nothing() {
    let rig = Rig::new();
    let mut client = rig.client_5("t-1").await;
    client.say_5(ask(0, time_request(7))).await;
    client.is_silent().await;
    client.say_5(subscribe_5(1, &["sc/1/t-1/time"])).await;
    assert!(matches!(client.hear_5().await, v5::Packet::Suback(_)));
    client.say_5(ask(0, vec![0xff, 0x00])).await;
    client.is_silent().await;
    assert_eq!(rig.reasons(), [RefusalReason::TimeRequest; 2]);
}
