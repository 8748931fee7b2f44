//! Settings and time on their way to a device.

use super::*;

const SETTINGS: &str = "sc/1/t-1/settings";

#[tokio::test(start_paused = true)]
async fn settings_go_out_on_subscribing_and_when_they_change() {
    let rig = Rig::new();
    *rig.settings.lock().unwrap() = Some(vec![1]);
    let mut client = rig.client_5("t-1").await;
    client.is_silent().await;
    client.say_5(subscribe_5(1, &[SETTINGS])).await;
    let granted = v5::Suback::new(pid(1), vec![v5::SubscribeReasonCode::GrantedQoS0]);
    assert_eq!(client.hear_5().await, granted.into());
    let expected =
        |payload: u8| v5::Publish::new(QosPid::Level0, topic(SETTINGS), vec![payload].into());
    assert_eq!(client.hear_5().await, expected(1).into());

    *rig.settings.lock().unwrap() = Some(vec![2]);
    rig.shared
        .registry
        .settings_changed(&"t-1".parse().unwrap());
    assert_eq!(client.hear_5().await, expected(2).into());

    *rig.settings.lock().unwrap() = None;
    rig.shared
        .registry
        .settings_changed(&"t-1".parse().unwrap());
    client.is_silent().await;
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
    *rig.settings.lock().unwrap() = Some(vec![1]);
    rig.shared
        .registry
        .settings_changed(&"t-1".parse().unwrap());
    client.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn settings_larger_than_the_device_takes_are_counted_and_not_sent() {
    let rig = Rig::new();
    *rig.settings.lock().unwrap() = Some(vec![0; 100]);
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
