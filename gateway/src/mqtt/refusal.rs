//! Why the endpoint says no: one reason for the counter, the log line and the code the client sees.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use mqtt_proto::v3::ConnectReturnCode;
use mqtt_proto::v5::{ConnectReasonCode, DisconnectReasonCode};
use protocol::key::DeviceId;

use super::limit::QUOTE_BYTES_MAX;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What was wrong. The text is the label of the counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RefusalReason {
            $($(#[$doc])* $name,)*
        }

        impl RefusalReason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The reason in `snake_case`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// As many connections as allowed are open.
    ConnectionsFull = "connections_full",
    /// No whole CONNECT in time.
    ConnectTimeout = "connect_timeout",
    /// Bytes that are no MQTT packet.
    Malformed = "malformed",
    /// A packet that is not allowed here and now.
    Protocol = "protocol",
    /// Larger than the maximum packet size.
    PacketTooLarge = "packet_too_large",
    /// Neither MQTT 5 nor 3.1.1.
    Version = "version",
    /// The client id is no device id.
    ClientId = "client_id",
    /// The credentials were not accepted.
    Credentials = "credentials",
    /// Enhanced authentication is not offered.
    AuthenticationMethod = "authentication_method",
    /// Nothing heard for one and a half keep-alives.
    KeepAlive = "keep_alive",
    /// More unacknowledged publications than the receive maximum.
    ReceiveMaximum = "receive_maximum",
    /// A topic of another device.
    ForeignTopic = "foreign_topic",
    /// A topic that is none of ours, or one that goes the other way.
    UnknownTopic = "unknown_topic",
    /// A subscription on which nothing is ever sent.
    UnknownFilter = "unknown_filter",
    /// `QoS` 2 is not offered.
    QosTwo = "qos_two",
    /// Retained messages are not offered.
    Retain = "retain",
    /// Wildcard subscriptions are not offered.
    Wildcard = "wildcard",
    /// Shared subscriptions are not offered.
    SharedSubscription = "shared_subscription",
    /// Subscription identifiers are not offered.
    SubscriptionIdentifier = "subscription_identifier",
    /// Topic aliases are not offered.
    TopicAlias = "topic_alias",
    /// The session could not be loaded or made durable.
    SessionStore = "session_store",
    /// The store holds as many sessions as it may.
    SessionsFull = "sessions_full",
    /// The connection before did not end in time.
    Takeover = "takeover",
    /// The client did not take what was written to it in time.
    SlowReader = "slow_reader",
    /// `QoS` 0 while the way to the journal was full: dropped, the connection goes on.
    QosZeroDropped = "qos_zero_dropped",
    /// A time request that cannot be read, or that nobody listens for: dropped, the connection goes on.
    TimeRequest = "time_request",
    /// A message for the device beyond the size it accepts: dropped, the connection goes on.
    DownlinkTooLarge = "downlink_too_large",
    /// A last will that found no way to the journal: dropped.
    WillDropped = "will_dropped",
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl RefusalReason {
    /// What an MQTT 5 client is told in DISCONNECT.
    pub(crate) const fn disconnect_code(self) -> DisconnectReasonCode {
        use DisconnectReasonCode as Code;
        match self {
            Self::Malformed => Code::MalformedPacket,
            Self::PacketTooLarge => Code::PacketTooLarge,
            Self::KeepAlive => Code::KeepAliveTimeout,
            Self::ReceiveMaximum => Code::ReceiveMaximumExceeded,
            Self::ForeignTopic | Self::Credentials | Self::ClientId => Code::NotAuthorized,
            Self::UnknownTopic => Code::TopicNameInvalid,
            Self::UnknownFilter => Code::TopicFilterInvalid,
            Self::QosTwo => Code::QoSNotSupported,
            Self::Retain => Code::RetainNotSupported,
            Self::Wildcard => Code::WildcardSubscriptionsNotSupported,
            Self::SharedSubscription => Code::SharedSubscriptionNotSupported,
            Self::SubscriptionIdentifier => Code::SubscriptionIdentifiersNotSupported,
            Self::TopicAlias => Code::TopicAliasInvalid,
            Self::SessionsFull | Self::ConnectionsFull => Code::QuotaExceeded,
            Self::SessionStore | Self::Takeover => Code::ServerBusy,
            Self::Protocol | Self::Version | Self::AuthenticationMethod => Code::ProtocolError,
            Self::ConnectTimeout
            | Self::SlowReader
            | Self::QosZeroDropped
            | Self::TimeRequest
            | Self::DownlinkTooLarge
            | Self::WillDropped => Code::UnspecifiedError,
        }
    }

    /// What an MQTT 5 client is told in CONNACK.
    pub(crate) const fn connect_code(self) -> ConnectReasonCode {
        use ConnectReasonCode as Code;
        match self {
            Self::Malformed => Code::MalformedPacket,
            Self::PacketTooLarge => Code::PacketTooLarge,
            Self::Version => Code::UnsupportedProtocolVersion,
            Self::ClientId => Code::ClientIdentifierNotValid,
            Self::Credentials => Code::BadUserNameOrPassword,
            Self::AuthenticationMethod => Code::BadAuthMethod,
            Self::ForeignTopic => Code::NotAuthorized,
            Self::UnknownTopic => Code::TopicNameInvalid,
            Self::QosTwo => Code::QoSNotSupported,
            Self::Retain => Code::RetainNotSupported,
            Self::SessionsFull | Self::ConnectionsFull => Code::QuotaExceeded,
            Self::SessionStore => Code::ServerUnavailable,
            Self::Takeover => Code::ServerBusy,
            _ => Code::ProtocolError,
        }
    }

    /// What a 3.1.1 client is told in CONNACK; `None` where that version only allows to close.
    pub(crate) const fn return_code(self) -> Option<ConnectReturnCode> {
        use ConnectReturnCode as Code;
        match self {
            Self::Version => Some(Code::UnacceptableProtocolVersion),
            Self::ClientId => Some(Code::IdentifierRejected),
            Self::Credentials => Some(Code::BadUserNameOrPassword),
            Self::ForeignTopic | Self::UnknownTopic | Self::QosTwo | Self::Retain => {
                Some(Code::NotAuthorized)
            }
            Self::SessionStore | Self::SessionsFull | Self::Takeover => {
                Some(Code::ServerUnavailable)
            }
            _ => None,
        }
    }
}

/// A refusal with everything a person needs to find its cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For the counter.
    pub reason: RefusalReason,
    /// Who, as far as known.
    pub device: Option<DeviceId>,
    /// From where.
    pub peer: SocketAddr,
    /// Which topic, if one is meant; cut to a bounded length.
    pub topic: Option<String>,
    /// What exactly.
    pub detail: String,
}

/// Takes every refusal, to count it. Called from the connection's task: it must not block.
pub type OnRefusal = std::sync::Arc<dyn Fn(&Refusal) + Send + Sync>;

/// A refusal before it is known whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: RefusalReason,
    pub(crate) topic: Option<String>,
    pub(crate) detail: Cow<'static, str>,
}

impl Fault {
    pub(crate) fn new(reason: RefusalReason, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        Self {
            reason,
            topic: None,
            detail,
        }
    }

    pub(crate) fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RefusalReason::Malformed, detail)
    }

    pub(crate) fn protocol(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RefusalReason::Protocol, detail)
    }

    pub(crate) fn about(mut self, topic: &str) -> Self {
        self.topic = Some(quote(topic));
        self
    }

    /// Log and count it.
    pub(crate) fn report(self, device: Option<&DeviceId>, peer: SocketAddr, to: &OnRefusal) {
        let refusal = Refusal {
            reason: self.reason,
            device: device.cloned(),
            peer,
            topic: self.topic,
            detail: self.detail.into_owned(),
        };
        tracing::warn!(
            reason = refusal.reason.as_str(),
            device = refusal.device.as_ref().map(DeviceId::as_str),
            %peer,
            topic = refusal.topic,
            "mqtt refused: {}",
            refusal.detail
        );
        to(&refusal);
    }
}

/// A client's text, cut to [`QUOTE_BYTES_MAX`] and with control characters escaped.
pub(crate) fn quote(text: &str) -> String {
    let mut end = text.len().min(QUOTE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].escape_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_label() {
        let labels: std::collections::BTreeSet<_> = RefusalReason::ALL
            .iter()
            .map(|reason| reason.as_str())
            .collect();
        assert_eq!(labels.len(), RefusalReason::ALL.len());
    }

    #[test]
    fn a_quoted_text_is_bounded_and_holds_no_control_characters() {
        assert_eq!(quote("a\nb"), "a\\nb");
        assert!(quote(&"ä".repeat(1_000)).is_ascii());
        assert_eq!(quote(&"x".repeat(1_000)).len(), QUOTE_BYTES_MAX);
    }
}
