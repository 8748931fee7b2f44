//! Who a client is, and what it may touch: the client id is the device id, and a device touches only its
//! own topics.

use std::net::SocketAddr;

use protocol::key::DeviceId;
use protocol::topic::{Channel, Topic};

use super::refusal::{Fault, RefusalReason, quote};

/// What a client claims in CONNECT.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Its client id.
    pub device: &'a DeviceId,
    /// Its user name.
    pub username: Option<&'a str>,
    /// Its password.
    pub password: Option<&'a [u8]>,
    /// Where it connects from.
    pub peer: SocketAddr,
}

/// Decides whether a claim is believed. It must not block; secrets are compared in constant time.
pub trait Authenticate: Send + Sync {
    /// Whether the client is who it says.
    fn admits(&self, claim: &Claim<'_>) -> bool;
}

impl<F: Fn(&Claim<'_>) -> bool + Send + Sync> Authenticate for F {
    fn admits(&self, claim: &Claim<'_>) -> bool {
        self(claim)
    }
}

/// Believes everyone on the machine itself, nobody else.
#[derive(Clone, Copy, Debug)]
pub struct LoopbackOnly;

impl Authenticate for LoopbackOnly {
    fn admits(&self, claim: &Claim<'_>) -> bool {
        claim.peer.ip().to_canonical().is_loopback()
    }
}

/// Believes everyone, wherever they come from: only when the configuration forces it.
#[derive(Clone, Copy, Debug)]
pub struct Anonymous;

impl Authenticate for Anonymous {
    fn admits(&self, _: &Claim<'_>) -> bool {
        true
    }
}

/// The device of a client id.
pub(crate) fn device(client_id: &str) -> Result<DeviceId, Fault> {
    client_id.parse().map_err(|error| {
        let detail = format!("client id {:?} refused: {error}", quote(client_id));
        Fault::new(RefusalReason::ClientId, detail)
    })
}

/// The channel of a topic on which `device` publishes.
pub(crate) fn publishes(device: &DeviceId, topic: &str) -> Result<Channel, Fault> {
    let channel = own(device, topic, RefusalReason::UnknownTopic)?;
    if channel.is_up() {
        return Ok(channel);
    }
    let detail = "only the gateway publishes on this topic";
    Err(Fault::new(RefusalReason::UnknownTopic, detail).about(topic))
}

/// The channel of a topic to which `device` subscribes.
pub(crate) fn subscribes(device: &DeviceId, filter: &str) -> Result<Channel, Fault> {
    let channel = own(device, filter, RefusalReason::UnknownFilter)?;
    if !channel.is_up() {
        return Ok(channel);
    }
    let detail = "the gateway sends nothing on this topic";
    Err(Fault::new(RefusalReason::UnknownFilter, detail).about(filter))
}

fn own(device: &DeviceId, name: &str, unknown: RefusalReason) -> Result<Channel, Fault> {
    let topic =
        Topic::parse(name).map_err(|error| Fault::new(unknown, error.to_string()).about(name))?;
    if topic.device == *device {
        return Ok(topic.channel);
    }
    let detail = "the topic belongs to another device";
    Err(Fault::new(RefusalReason::ForeignTopic, detail).about(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(result: Result<Channel, Fault>) -> RefusalReason {
        result.unwrap_err().reason
    }

    #[test]
    fn a_device_touches_only_its_own_topics_in_their_direction() {
        let me = device("t-1").unwrap();
        assert_eq!(publishes(&me, "sc/1/t-1/readings"), Ok(Channel::Readings));
        assert_eq!(subscribes(&me, "sc/1/t-1/settings"), Ok(Channel::Settings));
        assert_eq!(
            reason(publishes(&me, "sc/1/t-2/readings")),
            RefusalReason::ForeignTopic
        );
        assert_eq!(
            reason(subscribes(&me, "sc/1/t-2/time")),
            RefusalReason::ForeignTopic
        );
        assert_eq!(
            reason(publishes(&me, "sc/1/t-1/settings")),
            RefusalReason::UnknownTopic
        );
        assert_eq!(
            reason(subscribes(&me, "sc/1/t-1/readings")),
            RefusalReason::UnknownFilter
        );
        assert_eq!(
            reason(publishes(&me, "home/kitchen")),
            RefusalReason::UnknownTopic
        );
    }

    #[test]
    fn a_client_id_that_is_no_device_id_is_refused_with_the_reason() {
        let fault = device("a b").unwrap_err();
        assert_eq!(fault.reason, RefusalReason::ClientId);
        assert!(fault.detail.contains("byte 1"), "{}", fault.detail);
        assert_eq!(device("").unwrap_err().reason, RefusalReason::ClientId);
    }

    #[test]
    fn loopback_is_recognised_in_both_families_and_mapped() {
        let device = device("t").unwrap();
        let admits = |peer: &str| {
            let peer = peer.parse().unwrap();
            LoopbackOnly.admits(&Claim {
                device: &device,
                username: None,
                password: None,
                peer,
            })
        };
        assert!(admits("127.0.0.9:1") && admits("[::1]:1") && admits("[::ffff:127.0.0.1]:1"));
        assert!(!admits("192.0.2.1:1") && !admits("[2001:db8::1]:1"));
    }
}
