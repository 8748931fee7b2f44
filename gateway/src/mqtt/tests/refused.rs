//! What is not offered or not allowed: the client sees a reason, a person finds a log line and a counter, the connection is
//! closed, and everything else goes on.

use mqtt_proto::v5::{ConnectReasonCode, DisconnectReasonCode};

use super::super::identity::Distrust;
use super::*;

const READINGS: &str = "sc/1/t-1/readings";

/// What an MQTT 5 client is told after saying this, and the counted reason.
async fn after_5(packet: impl Into<v5::Packet>) -> (DisconnectReasonCode, Refusal) {
    let rig = Rig::new();
    let mut client = rig.client_5("t-1").await;
    client.say_5(packet).await;
    let code = client.goodbye().await;
    let mut other = rig.client_5("t-2").await;
    other.is_silent().await;
    (code, rig.refusal())
}

#[tokio::test(start_paused = true)]
async fn connack_names_what_is_not_offered() {
    let rig = Rig::with(|limits| limits.receive_maximum = 9.try_into().unwrap());
    let mut client = rig.open();
    client.say_5(connect_5("t-1")).await;
    let v5::Packet::Connack(ack) = client.hear_5().await else {
        panic!()
    };
    let properties = ack.properties;
    assert_eq!(properties.receive_max, Some(9));
    assert_eq!(properties.max_packet_size, Some(16 * 1024));
    assert_eq!(properties.max_qos, Some(QoS::Level1));
    assert_eq!(properties.retain_available, Some(false));
    assert_eq!(properties.wildcard_subscription_available, Some(false));
    assert_eq!(properties.shared_subscription_available, Some(false));
    assert_eq!(properties.subscription_id_available, Some(false));
    assert_eq!(properties.topic_alias_max, None, "which means 0");
}

#[tokio::test(start_paused = true)]
async fn a_foreign_topic_is_refused_and_named() {
    let (code, refusal) = after_5(publish_5("sc/1/t-9/readings", 1)).await;
    assert_eq!(code, DisconnectReasonCode::NotAuthorized);
    assert_eq!(refusal.reason, RefusalReason::ForeignTopic);
    assert_eq!(refusal.topic.as_deref(), Some("sc/1/t-9/readings"));
    assert_eq!(refusal.device, Some("t-1".parse().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_none_of_ours_is_refused() {
    let (code, refusal) = after_5(publish_5("home/kitchen", 0)).await;
    assert_eq!(code, DisconnectReasonCode::TopicNameInvalid);
    assert_eq!(refusal.reason, RefusalReason::UnknownTopic);
    let (code, _) = after_5(publish_5("sc/1/t-1/settings", 1)).await;
    assert_eq!(code, DisconnectReasonCode::TopicNameInvalid);
}

#[tokio::test(start_paused = true)]
async fn what_connack_denies_is_refused_by_the_book() {
    let mut exactly_once = publish_5(READINGS, 1);
    exactly_once.qos_pid = QosPid::Level2(pid(1));
    assert_eq!(
        after_5(exactly_once).await.0,
        DisconnectReasonCode::QoSNotSupported
    );

    let mut retained = publish_5(READINGS, 1);
    retained.retain = true;
    assert_eq!(
        after_5(retained).await.0,
        DisconnectReasonCode::RetainNotSupported
    );

    let mut aliased = publish_5(READINGS, 1);
    aliased.properties.topic_alias = Some(1);
    assert_eq!(
        after_5(aliased).await.0,
        DisconnectReasonCode::TopicAliasInvalid
    );

    let wildcard = subscribe_5(1, &["sc/1/t-1/time", "sc/1/t-1/#"]);
    assert_eq!(
        after_5(wildcard).await.0,
        DisconnectReasonCode::WildcardSubscriptionsNotSupported
    );

    let shared = subscribe_5(1, &["$share/g/sc/1/t-1/time"]);
    assert_eq!(
        after_5(shared).await.0,
        DisconnectReasonCode::SharedSubscriptionNotSupported
    );

    let mut identified = subscribe_5(1, &["sc/1/t-1/time"]);
    identified.properties.subscription_id = Some(3.try_into().unwrap());
    let told = after_5(identified).await.0;
    assert_eq!(
        told,
        DisconnectReasonCode::SubscriptionIdentifiersNotSupported
    );
}

#[tokio::test(start_paused = true)]
async fn a_foreign_subscription_is_refused_in_suback_and_ends_the_connection() {
    let rig = Rig::new();
    let mut client = rig.client_5("t-1").await;
    client
        .say_5(subscribe_5(4, &["sc/1/t-1/time", "sc/1/t-2/time"]))
        .await;
    let codes = vec![
        v5::SubscribeReasonCode::GrantedQoS0,
        v5::SubscribeReasonCode::NotAuthorized,
    ];
    assert_eq!(client.hear_5().await, v5::Suback::new(pid(4), codes).into());
    assert_eq!(client.goodbye().await, DisconnectReasonCode::NotAuthorized);
    assert_eq!(rig.refusal().reason, RefusalReason::ForeignTopic);
}

#[tokio::test(start_paused = true)]
async fn a_311_client_sees_a_failed_suback_or_a_closed_connection() {
    let rig = Rig::new();
    let mut client = rig.client_311("t-1").await;
    let filter = TopicFilter::try_from("sc/1/+/time").unwrap();
    client
        .say_311(v3::Subscribe::new(pid(4), vec![(filter, QoS::Level1)]))
        .await;
    assert_eq!(client.heard().await, Some(vec![0x90, 3, 0, 4, 0x80]));
    client.closed().await;

    let mut client = rig.client_311("t-1").await;
    let mut exactly_once = publish_311(READINGS, 1);
    exactly_once.qos_pid = QosPid::Level2(pid(1));
    client.say_311(exactly_once).await;
    client.closed().await;
    assert_eq!(
        rig.reasons(),
        [RefusalReason::Wildcard, RefusalReason::QosTwo]
    );
}

#[tokio::test(start_paused = true)]
async fn a_311_subscription_to_many_topics_is_answered_one_by_one() {
    let rig = Rig::new();
    let mut client = rig.client_311("t-1").await;
    let filter = TopicFilter::try_from("sc/1/t-1/time").unwrap();
    client
        .say_311(v3::Subscribe::new(pid(4), vec![(filter, QoS::Level1); 200]))
        .await;
    let granted = vec![v3::SubscribeReturnCode::MaxLevel0; 200];
    assert_eq!(
        client.hear_311().await,
        v3::Suback::new(pid(4), granted).into()
    );
}

#[tokio::test(start_paused = true)]
async fn an_oversize_packet_is_refused_before_it_has_come() {
    let rig = Rig::new();
    let mut client = rig.client_5("t-1").await;
    // 1 MiB is promised, 2 bytes of it come.
    client.say(&[0x32, 0x80, 0x80, 0x40, 0, 1]).await;
    assert_eq!(client.goodbye().await, DisconnectReasonCode::PacketTooLarge);
    assert_eq!(rig.refusal().reason, RefusalReason::PacketTooLarge);
}

#[tokio::test(start_paused = true)]
async fn a_client_id_that_is_no_device_id_is_refused() {
    for id in ["", "a/b", "../../etc", &"x".repeat(65)] {
        let rig = Rig::new();
        let mut client = rig.open();
        client.say_5(connect_5(id)).await;
        let v5::Packet::Connack(ack) = client.hear_5().await else {
            panic!()
        };
        assert_eq!(
            ack.reason_code,
            ConnectReasonCode::ClientIdentifierNotValid,
            "{id:?}"
        );
        client.closed().await;
        let mut client = rig.open();
        client.say_311(v3::Connect::new(id.into(), 60)).await;
        let refused = v3::Connack::new(false, v3::ConnectReturnCode::IdentifierRejected);
        assert_eq!(client.hear_311().await, refused.into(), "{id:?}");
        client.closed().await;
        assert_eq!(rig.reasons(), [RefusalReason::ClientId; 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_are_checked_before_anything_is_taken_over() {
    let mut rig = Rig::new();
    let shared = Arc::get_mut(&mut rig.shared).unwrap();
    shared.ports.identity = Arc::new(|claim: &Claim<'_>| match (claim.username, claim.password) {
        (Some("t-1"), Some(b"secret")) => Ok(()),
        _ => Err(Distrust::new(RefusalReason::Credentials, "told to us only")),
    });
    let with = |password: &'static str| {
        let mut connect = connect_5("t-1");
        connect.username = Some("t-1".into());
        connect.password = Some(password.as_bytes().into());
        connect
    };
    let mut good = rig.open();
    good.say_5(with("secret")).await;
    assert!(matches!(good.hear_5().await, v5::Packet::Connack(_)));
    let mut bad = rig.open();
    bad.say_5(with("guess")).await;
    let v5::Packet::Connack(ack) = bad.hear_5().await else {
        panic!()
    };
    assert_eq!(ack.reason_code, ConnectReasonCode::BadUserNameOrPassword);
    let told = ack.properties.reason_string.unwrap();
    assert_eq!(&told[..], "the credentials are not accepted");
    bad.closed().await;
    good.is_silent().await;
    assert_eq!(rig.refusal().reason, RefusalReason::Credentials);
    assert_eq!(rig.refusal().detail, "told to us only");
}

#[tokio::test(start_paused = true)]
async fn other_protocol_versions_are_told_so() {
    let rig = Rig::new();
    let mut future = rig.open();
    future
        .say(b"\x10\x0f\0\x04MQTT\x06\x02\0\x3c\0\0\x03t-1")
        .await;
    let v5::Packet::Connack(ack) = future.hear_5().await else {
        panic!()
    };
    assert_eq!(
        ack.reason_code,
        ConnectReasonCode::UnsupportedProtocolVersion
    );
    let mut past = rig.open();
    past.say(b"\x10\x0f\0\x04MQTT\x03\x02\0\x3c\0\x03t-1x")
        .await;
    let refused = v3::Connack::new(false, v3::ConnectReturnCode::UnacceptableProtocolVersion);
    assert_eq!(past.hear_311().await, refused.into());
    past.closed().await;
    assert_eq!(rig.reasons(), [RefusalReason::Version; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_will_must_be_one_the_device_could_publish_itself() {
    let wills = [
        (
            "sc/1/t-2/status",
            QoS::Level0,
            false,
            ConnectReasonCode::NotAuthorized,
        ),
        (
            "sc/1/t-1/readings",
            QoS::Level0,
            false,
            ConnectReasonCode::TopicNameInvalid,
        ),
        (
            "sc/1/t-1/status",
            QoS::Level2,
            false,
            ConnectReasonCode::QoSNotSupported,
        ),
        (
            "sc/1/t-1/status",
            QoS::Level1,
            true,
            ConnectReasonCode::RetainNotSupported,
        ),
    ];
    for (name, qos, retain, code) in wills {
        let rig = Rig::new();
        let mut client = rig.open();
        let mut connect = connect_5("t-1");
        let mut will = v5::LastWill::new(qos, topic(name), vec![1].into());
        will.retain = retain;
        connect.last_will = Some(will);
        client.say_5(connect).await;
        let v5::Packet::Connack(ack) = client.hear_5().await else {
            panic!()
        };
        assert_eq!(ack.reason_code, code, "{name}");
        client.closed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_connect_and_a_servers_packet_are_protocol_errors() {
    assert_eq!(
        after_5(connect_5("t-1")).await.0,
        DisconnectReasonCode::ProtocolError
    );
    assert_eq!(
        after_5(v5::Packet::Pingresp).await.0,
        DisconnectReasonCode::ProtocolError
    );
    let auth = v5::Auth::new(v5::AuthReasonCode::ReAuthentication);
    assert_eq!(after_5(auth).await.0, DisconnectReasonCode::ProtocolError);
}

#[tokio::test(start_paused = true)]
async fn enhanced_authentication_is_refused() {
    let rig = Rig::new();
    let mut client = rig.open();
    let mut connect = connect_5("t-1");
    connect.properties.auth_method = Some("SCRAM".into());
    client.say_5(connect).await;
    let v5::Packet::Connack(ack) = client.hear_5().await else {
        panic!()
    };
    assert_eq!(ack.reason_code, ConnectReasonCode::BadAuthMethod);
}

#[tokio::test(start_paused = true)]
async fn a_reason_never_makes_a_packet_larger_than_the_client_takes() {
    let rig = Rig::new();
    let mut client = rig.open();
    let mut connect = connect_5("t-1");
    connect.properties.max_packet_size = Some(40);
    client.say_5(connect).await;
    assert!(matches!(client.hear_5().await, v5::Packet::Connack(_)));
    client
        .say_5(publish_5("sc/1/another-device/readings", 1))
        .await;
    let v5::Packet::Disconnect(packet) = client.hear_5().await else {
        panic!()
    };
    assert_eq!(packet.reason_code, DisconnectReasonCode::NotAuthorized);
    assert!(v5::Packet::from(packet).encode_len().unwrap() <= 40);
}
