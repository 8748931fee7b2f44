//! Who a client is, and what it may touch: the client id is the device id, and a device touches only its
//! own topics.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use protocol::key::DeviceId;
use protocol::topic::{Channel, Topic};

use super::refusal::{Fault, RefusalReason, quote};
use crate::pki::certificate::ClientCertificate;

/// What a client claims in CONNECT, and what is known of the way it came.
#[derive(Clone, Copy)]
pub struct Claim<'a> {
    /// Its client id.
    pub device: &'a DeviceId,
    /// Its user name.
    pub username: Option<&'a str>,
    /// Its password.
    pub password: Option<&'a [u8]>,
    /// Where it connects from.
    pub peer: SocketAddr,
    /// What it speaks through.
    pub link: &'a Link,
}

impl Claim<'_> {
    /// Whether it comes from this machine.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        self.peer.ip().to_canonical().is_loopback()
    }
}

impl fmt::Debug for Claim<'_> {
    /// Without the password: what is formatted ends in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("device", &self.device)
            .field("username", &self.username)
            .field("password", &self.password.map(<[u8]>::len))
            .field("peer", &self.peer)
            .field("link", &self.link)
            .finish()
    }
}

/// What a client speaks through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// TCP: others on the way can read along.
    Plain,
    /// TLS, with the certificate that the client proved to own, if it showed one.
    Tls(Option<Box<ClientCertificate>>),
}

/// Why a claim is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distrust {
    /// For the counter and the code.
    pub reason: RefusalReason,
    /// For people.
    pub detail: Cow<'static, str>,
}

impl Distrust {
    /// A claim that is not believed for `reason`.
    pub fn new(reason: RefusalReason, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        Self { reason, detail }
    }
}

impl From<Distrust> for Fault {
    fn from(distrust: Distrust) -> Self {
        Self::new(distrust.reason, distrust.detail)
    }
}

/// Decides whether a claim is believed. It may read the store and must not wait for anything else; secrets are
/// compared in constant time.
pub trait Authenticate: Send + Sync {
    /// Whether the client is who it says.
    ///
    /// # Errors
    /// Why not.
    fn judge(&self, claim: &Claim<'_>) -> Result<(), Distrust>;
}

impl<F: Fn(&Claim<'_>) -> Result<(), Distrust> + Send + Sync> Authenticate for F {
    fn judge(&self, claim: &Claim<'_>) -> Result<(), Distrust> {
        self(claim)
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
        let is_local = |peer: &str| {
            let claim = Claim {
                device: &device,
                username: None,
                password: Some(b"hidden"),
                peer: peer.parse().unwrap(),
                link: &Link::Plain,
            };
            assert!(!format!("{claim:?}").contains("hidden"));
            claim.is_local()
        };
        assert!(is_local("127.0.0.9:1") && is_local("[::1]:1") && is_local("[::ffff:127.0.0.1]:1"));
        assert!(!is_local("192.0.2.1:1") && !is_local("[2001:db8::1]:1"));
    }
}
