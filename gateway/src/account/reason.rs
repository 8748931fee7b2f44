//! [`Reason`] is the one list of why something is refused, dropped or evicted. Each line of it holds the
//! label of the metric, what it costs ([`Cost`], what a ledger may find missing because of it) and the
//! sentence of the manual: a reason without one of them does not compile. `docs/reasons.md` is
//! generated from it and compared in a test.

use std::fmt::Write as _;

use rules::doubt::Doubt;

/// What a reason costs: where a ledger of sent and stored things finds the difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// A payload that was acknowledged but holds nothing we can store; the
    /// quarantine keeps it, or its digest and length when full.
    Payload,
    /// Something that was never acknowledged; the device still has it and sends it again.
    Retry,
    /// A message sent without a promise (`QoS` 0, a last will, a time request): it is gone.
    Unpromised,
    /// A message of a broker that holds nothing we take; it was confirmed to the broker all the same.
    Confirmed,
    /// Detail kept for people; no reading is missing because of it.
    Detail,
}

impl Cost {
    const fn sentence(self) -> &'static str {
        match self {
            Self::Payload => {
                "the payload: the quarantine in the store keeps it (when full, its digest and length); \
                 see `supercargo quarantine list`"
            }
            Self::Retry => "nothing: it was not acknowledged and is sent again",
            Self::Unpromised => "the message, which was sent without a promise",
            Self::Confirmed => {
                "the message, of which only this count is kept: it was confirmed to the broker, or it would come for ever"
            }
            Self::Detail => "detail for people; no reading",
        }
    }
}

macro_rules! reasons {
    ($($name:ident = $label:literal, $cost:ident, $sentence:literal;)*) => {
        /// Why something was refused, dropped or evicted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $sentence] $name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Label of the metric, in `snake_case`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// What it costs.
            #[must_use]
            pub const fn cost(self) -> Cost {
                match self { $(Self::$name => Cost::$cost,)* }
            }

            /// What the manual says about it.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

reasons! {
    Undecodable = "undecodable", Payload, "A payload that is not what its topic promises: no CBOR, a wrong shape, or a value outside its range.";
    WireVersion = "wire_version", Payload, "A payload of a wire version that this gateway does not know.";
    NotForIngest = "not_for_ingest", Payload, "A payload on a topic that carries nothing to store.";
    QuarantineFull = "quarantine_full", Detail, "A refused payload of which only digest, length and count are kept, because the quarantine is full.";
    ConnectionsFull = "connections_full", Retry, "As many connections as allowed are open.";
    AddressFull = "address_full", Retry, "As many connections as allowed are open from that address.";
    AddressFailing = "address_failing", Retry, "Too many connections have failed lately from that address, or from all addresses that fail.";
    HandshakesFull = "handshakes_full", Retry, "As many TLS handshakes as allowed are under way.";
    TlsHandshake = "tls_handshake", Retry, "A TLS handshake that came to nothing: no TLS, nothing in common, too many bytes, or broken off.";
    ClientCertificate = "client_certificate", Retry, "A client certificate that is not from our CA, has expired, or cannot be read.";
    ConnectTimeout = "connect_timeout", Retry, "No whole TLS handshake or no whole CONNECT came in time.";
    Malformed = "malformed", Retry, "Bytes that are no MQTT packet.";
    Protocol = "protocol", Retry, "An MQTT packet that is not allowed here and now.";
    PacketTooLarge = "packet_too_large", Retry, "An MQTT packet larger than the maximum packet size.";
    Version = "version", Retry, "Neither MQTT 5 nor 3.1.1.";
    ClientId = "client_id", Retry, "The client id is no device id.";
    Credentials = "credentials", Retry, "The credentials were not accepted: an unknown device, or not what it was registered with.";
    CertificateName = "certificate_name", Retry, "A client certificate that names another device than the client id.";
    PlaintextSecret = "plaintext_secret", Retry, "A secret that came over the network without TLS.";
    Revoked = "revoked", Retry, "A device that was revoked, or whose credential was replaced while it was connected.";
    AuthenticationMethod = "authentication_method", Retry, "Enhanced authentication was asked for, which is not offered.";
    KeepAlive = "keep_alive", Retry, "Nothing was heard for one and a half keep-alives.";
    ReceiveMaximum = "receive_maximum", Retry, "More unacknowledged publications than the receive maximum.";
    ForeignTopic = "foreign_topic", Retry, "A topic of another device.";
    UnknownTopic = "unknown_topic", Retry, "A topic that is none of ours, or one that goes the other way.";
    UnknownFilter = "unknown_filter", Retry, "A subscription on which nothing is ever sent.";
    QosTwo = "qos_two", Retry, "QoS 2 was asked for, which is not offered.";
    Retain = "retain", Retry, "A retained message was sent, which is not offered.";
    Wildcard = "wildcard", Retry, "A wildcard subscription was asked for, which is not offered.";
    SharedSubscription = "shared_subscription", Retry, "A shared subscription was asked for, which is not offered.";
    SubscriptionIdentifier = "subscription_identifier", Retry, "A subscription identifier was sent, which is not offered.";
    TopicAlias = "topic_alias", Retry, "A topic alias was used, which is not offered.";
    SessionStore = "session_store", Retry, "The session could not be loaded or made durable.";
    SessionsFull = "sessions_full", Retry, "The store holds as many sessions as it may.";
    Takeover = "takeover", Retry, "The device's connection before did not end in time.";
    SlowWriter = "slow_writer", Retry, "A packet that was begun did not end in time.";
    SlowReader = "slow_reader", Retry, "The client did not take what was written to it in time.";
    QosZeroDropped = "qos_zero_dropped", Unpromised, "A QoS 0 publication came while the way to the journal was full.";
    BrokerTopic = "broker_topic", Confirmed, "A message of a subscribed broker on a topic that is none of ours.";
    BrokerPayload = "broker_payload", Confirmed, "A message of a subscribed broker that is too large to be stored.";
    BrokerDevice = "broker_device", Confirmed, "A message of a subscribed broker for a tracker that it may not speak for: one that is registered here (`ingest.broker.devices`), or was revoked.";
    TimeRequest = "time_request", Unpromised, "A time request that cannot be read, or that nobody listens for.";
    SettingsStore = "settings_store", Detail, "The settings wanted of a device could not be read from the store, so they were not sent; `settings show` names the row.";
    DownlinkTooLarge = "downlink_too_large", Unpromised, "A message for the device was larger than the size it accepts.";
    WillDropped = "will_dropped", Unpromised, "A last will found no way to the journal.";
}

/// The manual's page about reasons, `docs/reasons.md`.
#[must_use]
pub fn manual() -> String {
    let mut page = String::from(
        "# Why something is refused, dropped or evicted\n\n\
         Generated from `gateway/src/account/reason.rs` and compared with it in a test.\n\n\
         | `reason` | What happened | What it costs |\n|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let (sentence, cost) = (reason.sentence(), reason.cost().sentence());
        // Writing into a string cannot fail.
        let _ = writeln!(page, "| `{}` | {sentence} | {cost} |", reason.as_str());
    }
    page.push_str(
        "\n# What is stored and not believed\n\n\
         Counted once per record by `supercargo_records_doubted_total`, and per device in `status` and \
         `ledger`. The record is stored and acknowledged, so it is no part of what was refused.\n\n\
         | `reason` | What happened | What becomes of it |\n|---|---|---|\n",
    );
    for doubt in Doubt::ALL {
        let (sentence, treatment) = (doubt.sentence(), doubt.treatment());
        let _ = writeln!(page, "| `{}` | {sentence} | {treatment} |", doubt.as_str());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_lists_the_reasons_as_they_are() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reasons.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, manual()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(
            written,
            manual(),
            "UPDATE_DOCS=1 cargo test -p gateway --lib reason writes docs/reasons.md anew"
        );
    }
}
