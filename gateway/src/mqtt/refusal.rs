//! Why the endpoint says no: one reason for the counter, the log line and the code the client sees.

use std::borrow::Cow;
use std::net::SocketAddr;

use mqtt_proto::v3::ConnectReturnCode;
use mqtt_proto::v5::{ConnectReasonCode, DisconnectReasonCode};
use protocol::key::DeviceId;

use super::limit::QUOTE_BYTES_MAX;

/// What was wrong: one of the account's reasons, so that there is one list of them.
pub use crate::account::Reason as RefusalReason;

impl RefusalReason {
    /// Whether a connection that ends for it has failed by its peer's fault: not one that we had no room or no store
    /// for, nor one that a bad network brings to an end.
    pub(crate) const fn blames_peer(self) -> bool {
        !matches!(
            self,
            Self::ConnectionsFull
                | Self::AddressFull
                | Self::AddressFailing
                | Self::HandshakesFull
                | Self::SessionsFull
                | Self::SessionStore
                | Self::Takeover
                | Self::KeepAlive
                | Self::SlowReader
                | Self::SlowWriter
        )
    }

    /// What an MQTT 5 client is told in DISCONNECT.
    pub(crate) const fn disconnect_code(self) -> DisconnectReasonCode {
        use DisconnectReasonCode as Code;
        match self {
            Self::Malformed => Code::MalformedPacket,
            Self::PacketTooLarge => Code::PacketTooLarge,
            Self::KeepAlive => Code::KeepAliveTimeout,
            Self::ReceiveMaximum => Code::ReceiveMaximumExceeded,
            Self::ForeignTopic | Self::Credentials | Self::ClientId | Self::Revoked => {
                Code::NotAuthorized
            }
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
            _ => Code::UnspecifiedError,
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
            Self::ForeignTopic | Self::CertificateName | Self::PlaintextSecret | Self::Revoked => {
                Code::NotAuthorized
            }
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
            Self::ForeignTopic
            | Self::CertificateName
            | Self::PlaintextSecret
            | Self::Revoked
            | Self::UnknownTopic
            | Self::QosTwo
            | Self::Retain => Some(Code::NotAuthorized),
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

/// Takes every refusal, to count it and to tell it. Called from the connection's task: it must not block.
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

    /// What the client is told. Which of a device's credentials is wrong is for our people only.
    pub(crate) fn told(&self) -> &str {
        match self.reason {
            RefusalReason::Credentials => "the credentials are not accepted",
            _ => &self.detail,
        }
    }

    /// Hand it on, with whose it is.
    pub(crate) fn report(self, device: Option<&DeviceId>, peer: SocketAddr, to: &OnRefusal) {
        let refusal = Refusal {
            reason: self.reason,
            device: device.cloned(),
            peer,
            topic: self.topic,
            detail: self.detail.into_owned(),
        };
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
    fn a_quoted_text_is_bounded_and_holds_no_control_characters() {
        assert_eq!(quote("a\nb"), "a\\nb");
        assert!(quote(&"ä".repeat(1_000)).is_ascii());
        assert_eq!(quote(&"x".repeat(1_000)).len(), QUOTE_BYTES_MAX);
    }
}
