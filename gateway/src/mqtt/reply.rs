//! What the endpoint says, in either protocol version.

use bytes::{BufMut, Bytes, BytesMut};
use mqtt_proto::{Pid, QoS, QosPid, TopicName, VarBytes, v3, v5};

use super::limit::Limits;
use super::packet::Version;
use super::refusal::{Fault, RefusalReason};

/// How a session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) session_present: bool,
    /// Granted expiry, when it differs from what was asked for.
    pub(crate) expiry_seconds: Option<u32>,
    /// Granted keep-alive, when it differs from what was asked for.
    pub(crate) keep_alive_seconds: Option<u16>,
}

/// One answer to one filter of SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    /// Sent with `QoS` 0: what goes down is repeated until reported, not queued.
    Granted,
    /// Another device's.
    Foreign,
    /// Nothing is ever sent there.
    Unknown,
}

/// Bytes on their way to one client.
#[derive(Debug)]
pub(crate) struct Replies {
    version: Version,
    /// Largest packet the client takes, in bytes.
    packet_bytes_max: usize,
    pub(crate) out: BytesMut,
}

impl Replies {
    pub(crate) fn new(version: Version, packet_bytes_max: Option<u32>) -> Self {
        let packet_bytes_max = packet_bytes_max
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(usize::MAX);
        Self {
            version,
            packet_bytes_max,
            out: BytesMut::new(),
        }
    }

    pub(crate) const fn version(&self) -> Version {
        self.version
    }

    /// CONNACK, success: what is not offered is said here (MQTT 5).
    pub(crate) fn welcome(&mut self, welcome: Welcome, limits: &Limits) {
        let Welcome {
            session_present,
            expiry_seconds,
            keep_alive_seconds,
        } = welcome;
        match self.version {
            Version::V311 => {
                let code = v3::ConnectReturnCode::Accepted;
                self.put_311(&v3::Connack::new(session_present, code).into());
            }
            Version::V5 => {
                let mut packet = v5::Connack::new(session_present, v5::ConnectReasonCode::Success);
                packet.properties = v5::ConnackProperties {
                    session_expiry_interval: expiry_seconds,
                    receive_max: Some(limits.receive_maximum.get()),
                    max_qos: Some(QoS::Level1),
                    retain_available: Some(false),
                    max_packet_size: Some(limits.packet_bytes_max.get()),
                    wildcard_subscription_available: Some(false),
                    subscription_id_available: Some(false),
                    shared_subscription_available: Some(false),
                    server_keep_alive: keep_alive_seconds,
                    ..Default::default()
                };
                self.put_5(&packet.into());
            }
        }
    }

    /// CONNACK, refused. Silent where 3.1.1 has no code for it.
    pub(crate) fn turn_away(&mut self, fault: &Fault) {
        match self.version {
            Version::V311 => {
                if let Some(code) = fault.reason.return_code() {
                    self.put_311(&v3::Connack::new(false, code).into());
                }
            }
            Version::V5 => {
                let mut packet = v5::Connack::new(false, fault.reason.connect_code());
                packet.properties.reason_string = Some(fault.told().into());
                if !self.put_5(&packet.clone().into()) {
                    packet.properties.reason_string = None;
                    self.put_5(&packet.into());
                }
            }
        }
    }

    /// PUBACK, success: the same four bytes in both versions.
    pub(crate) fn puback(&mut self, packet_id: u16) {
        let [high, low] = packet_id.to_be_bytes();
        self.out.extend_from_slice(&[0x40, 2, high, low]);
    }

    /// PINGRESP: the same two bytes in both versions.
    pub(crate) fn pong(&mut self) {
        self.out.extend_from_slice(&[0xd0, 0]);
    }

    pub(crate) fn suback(&mut self, packet_id: Pid, grants: &[Grant]) {
        match self.version {
            Version::V311 => self.suback_311(packet_id, grants),
            Version::V5 => {
                let code = |grant: &Grant| match grant {
                    Grant::Granted => v5::SubscribeReasonCode::GrantedQoS0,
                    Grant::Foreign => v5::SubscribeReasonCode::NotAuthorized,
                    Grant::Unknown => v5::SubscribeReasonCode::TopicFilterInvalid,
                };
                self.put_5(&v5::Suback::new(packet_id, grants.iter().map(code).collect()).into());
            }
        }
    }

    /// UNSUBACK; `existed` tells for each filter whether there was a subscription.
    pub(crate) fn unsuback(&mut self, packet_id: Pid, existed: &[bool]) {
        match self.version {
            Version::V311 => {
                self.put_311(&v3::Packet::Unsuback(packet_id));
            }
            Version::V5 => {
                let code = |existed: &bool| match existed {
                    true => v5::UnsubscribeReasonCode::Success,
                    false => v5::UnsubscribeReasonCode::NoSubscriptionExisted,
                };
                self.put_5(
                    &v5::Unsuback::new(packet_id, existed.iter().map(code).collect()).into(),
                );
            }
        }
    }

    /// A message to the device, `QoS` 0.
    pub(crate) fn publish(&mut self, topic: &str, payload: Vec<u8>) -> Result<(), Fault> {
        let size = payload.len();
        let name = TopicName::try_from(topic)
            .map_err(|error| Fault::protocol(error.to_string()).about(topic))?;
        let payload = Bytes::from(payload);
        let fits = match self.version {
            Version::V311 => self.put_311(&v3::Publish::new(QosPid::Level0, name, payload).into()),
            Version::V5 => self.put_5(&v5::Publish::new(QosPid::Level0, name, payload).into()),
        };
        if fits {
            return Ok(());
        }
        let detail = format!(
            "{size} bytes, the client takes packets of {}",
            self.packet_bytes_max
        );
        Err(Fault::new(RefusalReason::DownlinkTooLarge, detail).about(topic))
    }

    /// DISCONNECT with a reason: MQTT 5 only, a 3.1.1 server just closes.
    pub(crate) fn goodbye(&mut self, code: v5::DisconnectReasonCode, why: &str) {
        if self.version != Version::V5 {
            return;
        }
        let mut packet = v5::Disconnect::new(code);
        packet.properties.reason_string = Some(why.into());
        if !self.put_5(&packet.clone().into()) {
            packet.properties.reason_string = None;
            self.put_5(&packet.into());
        }
    }

    /// Written here, because the codec encodes a failure as 3 instead of 0x80 (3.1.1, 3.9.3).
    fn suback_311(&mut self, packet_id: Pid, grants: &[Grant]) {
        let [high, low] = packet_id.value().to_be_bytes();
        let mut length = grants.len() + 2;
        self.out.put_u8(0x90);
        while length > 0x7f {
            self.out.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        self.out.put_slice(&[length as u8, high, low]);
        for grant in grants {
            self.out
                .put_u8(if *grant == Grant::Granted { 0 } else { 0x80 });
        }
    }

    fn put_311(&mut self, packet: &v3::Packet) -> bool {
        packet.encode().is_ok_and(|bytes| self.put(&bytes))
    }

    fn put_5(&mut self, packet: &v5::Packet) -> bool {
        packet.encode().is_ok_and(|bytes| self.put(&bytes))
    }

    /// A packet that the client does not take is not sent (MQTT 5, 3.1.2.11.4).
    fn put(&mut self, bytes: &VarBytes) -> bool {
        let bytes: &[u8] = bytes.as_ref();
        let fits = bytes.len() <= self.packet_bytes_max;
        if fits {
            self.out.extend_from_slice(bytes);
        }
        fits
    }
}
