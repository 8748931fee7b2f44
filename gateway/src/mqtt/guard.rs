//! Who is believed: a registered device by what it was registered with, always; a device that is not
//! registered as far as the configuration lets strangers in.

use protocol::key::DeviceId;

use crate::config::Vouched;
use crate::pki::certificate::ClientCertificate;
use crate::pki::digest::Digest;
use crate::store::identity::{self, Identity, Proof};
use crate::store::{Store, StoreError};

use super::identity::{Authenticate, Claim, Distrust, Link};
use super::refusal::RefusalReason;

/// Which devices may speak without being registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strangers {
    /// None.
    Nobody,
    /// Those on this machine.
    Local,
    /// All, from everywhere: only when the configuration forces it.
    Everyone,
}

/// Judges claims by the registered devices in the store, read anew each time: a change counts at once.
#[derive(Clone, Debug)]
pub struct Guard {
    store: Store,
    strangers: Strangers,
}

impl Guard {
    /// A guard by the devices registered in `store`.
    #[must_use]
    pub const fn new(store: Store, strangers: Strangers) -> Self {
        Self { store, strangers }
    }
}

impl Authenticate for Guard {
    fn judge(&self, claim: &Claim<'_>) -> Result<(), Distrust> {
        let certificate = match claim.link {
            Link::Plain | Link::Tls(None) => None,
            Link::Tls(Some(certificate)) => {
                let named = certificate.names(claim.device);
                named.map_err(|why| Distrust::new(RefusalReason::CertificateName, why))?;
                Some(&**certificate)
            }
        };
        match identity::value(&self.store, claim.device).map_err(unreadable)? {
            None => self.stranger(claim),
            Some(identity) => {
                prove(&identity.proof, claim, certificate)?;
                not_revoked(&identity)
            }
        }
    }
}

impl Guard {
    /// Why a broker is not believed about a device, if it is not. The broker vouches that somebody whom it
    /// let publish said so, and a registered device has something better to prove itself by.
    ///
    /// # Errors
    /// When the device's identity cannot be read.
    pub(super) fn doubt_broker(
        &self,
        device: &DeviceId,
        vouched: Vouched,
    ) -> Result<Option<&'static str>, StoreError> {
        let Some(known) = identity::value(&self.store, device)? else {
            return Ok(None);
        };
        Ok(if known.revoked_at_ms.is_some() {
            Some("the device was revoked")
        } else if vouched == Vouched::Unregistered {
            Some(
                "the device is registered here, and the broker does not prove who sent this; see devices",
            )
        } else {
            None
        })
    }

    fn stranger(&self, claim: &Claim<'_>) -> Result<(), Distrust> {
        match self.strangers {
            Strangers::Everyone => Ok(()),
            Strangers::Local if claim.is_local() => Ok(()),
            Strangers::Local | Strangers::Nobody => {
                distrusted("the device is not registered; see `supercargo device add`")
            }
        }
    }
}

fn prove(
    proof: &Proof,
    claim: &Claim<'_>,
    certificate: Option<&ClientCertificate>,
) -> Result<(), Distrust> {
    match proof {
        Proof::Certificate { fingerprint, .. } => match certificate {
            Some(shown) if shown.fingerprint.matches(fingerprint) => Ok(()),
            Some(_) => distrusted("the certificate is not the one the device is registered with"),
            None => distrusted("the device is registered with a certificate and showed none"),
        },
        Proof::Secret { .. } if *claim.link == Link::Plain && !claim.is_local() => {
            let detail = "a secret is taken by TLS only, except from this machine; \
                          it could be read on its way, so rotate it";
            Err(Distrust::new(RefusalReason::PlaintextSecret, detail))
        }
        Proof::Secret { digest } => match claim.password {
            Some(secret) if Digest::of(secret).matches(digest) => Ok(()),
            Some(_) => distrusted("the secret is not the one the device is registered with"),
            None => distrusted("the device is registered with a secret and sent none"),
        },
    }
}

/// Told only to who proved to be the device.
fn not_revoked(identity: &Identity) -> Result<(), Distrust> {
    match identity.revoked_at_ms {
        None => Ok(()),
        Some(_) => Err(Distrust::new(
            RefusalReason::Revoked,
            "the device was revoked",
        )),
    }
}

fn distrusted(detail: &'static str) -> Result<(), Distrust> {
    Err(Distrust::new(RefusalReason::Credentials, detail))
}

fn unreadable(error: StoreError) -> Distrust {
    let detail = format!("the device's identity cannot be read: {error}");
    Distrust::new(RefusalReason::SessionStore, detail)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;
    use crate::store::{Batch, memory};

    const HERE: &str = "127.0.0.1:1";
    const AWAY: &str = "192.0.2.1:1";
    const SECRET: &[u8] = b"0123456789abcdef";

    fn certificate(name: &str) -> ClientCertificate {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        ClientCertificate::read(certificate.der()).unwrap()
    }

    fn secret() -> Proof {
        let digest = Digest::of(SECRET);
        Proof::Secret { digest }
    }

    fn by(certificate: &ClientCertificate) -> Proof {
        Proof::Certificate {
            fingerprint: certificate.fingerprint,
            expires_at_ms: certificate.expires_at_ms,
        }
    }

    fn shown(certificate: &ClientCertificate) -> Link {
        Link::Tls(Some(Box::new(certificate.clone())))
    }

    /// A guard that knows one device, t-1.
    fn guard(strangers: Strangers, proof: Proof, revoked: bool) -> Guard {
        let store = memory::store();
        let identity = Identity {
            proof,
            added_at_ms: 1,
            revoked_at_ms: revoked.then_some(2),
        };
        let mut batch = Batch::default();
        identity::put(&mut batch, &"t-1".parse().unwrap(), &identity).unwrap();
        store.apply(batch).unwrap();
        Guard::new(store, strangers)
    }

    fn judge(
        guard: &Guard,
        device: &str,
        peer: &str,
        link: &Link,
        password: Option<&[u8]>,
    ) -> Option<RefusalReason> {
        let claim = Claim {
            device: &device.parse().unwrap(),
            username: None,
            password,
            peer: peer.parse().unwrap(),
            link,
        };
        guard.judge(&claim).err().map(|distrust| distrust.reason)
    }

    #[test]
    fn strangers_come_in_as_far_as_configured() {
        let cases = [
            (Strangers::Nobody, [false, false]),
            (Strangers::Local, [true, false]),
            (Strangers::Everyone, [true, true]),
        ];
        for (strangers, admitted) in cases {
            let guard = guard(strangers, secret(), false);
            let from = |peer| judge(&guard, "t-9", peer, &Link::Plain, None).is_none();
            assert_eq!([HERE, AWAY].map(from), admitted, "{strangers:?}");
        }
    }

    #[test]
    fn a_registered_device_proves_itself_even_where_strangers_need_not() {
        for strangers in [Strangers::Nobody, Strangers::Local, Strangers::Everyone] {
            let guard = guard(strangers, secret(), false);
            let wrong = Some(RefusalReason::Credentials);
            let tls = Link::Tls(None);
            for (peer, link) in [(HERE, &Link::Plain), (HERE, &tls), (AWAY, &tls)] {
                assert_eq!(judge(&guard, "t-1", peer, link, None), wrong);
                assert_eq!(judge(&guard, "t-1", peer, link, Some(b"guess")), wrong);
                assert_eq!(judge(&guard, "t-1", peer, link, Some(SECRET)), None);
            }
        }
    }

    #[test]
    fn a_secret_over_the_network_without_tls_is_refused_right_or_wrong() {
        let guard = guard(Strangers::Everyone, secret(), false);
        for password in [None, Some(&b"guess"[..]), Some(SECRET)] {
            let reason = judge(&guard, "t-1", AWAY, &Link::Plain, password);
            assert_eq!(reason, Some(RefusalReason::PlaintextSecret));
        }
    }

    #[test]
    fn a_certificate_counts_for_its_device_and_only_the_registered_one() {
        let mine = certificate("t-1");
        let guard = guard(Strangers::Everyone, by(&mine), false);
        let judged = |device, link: &Link| judge(&guard, device, AWAY, link, Some(SECRET));
        assert_eq!(judged("t-1", &shown(&mine)), None);
        let before = shown(&certificate("t-1"));
        assert_eq!(judged("t-1", &before), Some(RefusalReason::Credentials));
        for link in [Link::Plain, Link::Tls(None)] {
            assert_eq!(judged("t-1", &link), Some(RefusalReason::Credentials));
        }
        let other = judged("t-2", &shown(&mine));
        assert_eq!(other, Some(RefusalReason::CertificateName));
    }

    #[test]
    fn who_was_revoked_learns_it_only_by_proof() {
        let guard = guard(Strangers::Everyone, secret(), true);
        let judged = |password| judge(&guard, "t-1", HERE, &Link::Plain, Some(password));
        assert_eq!(judged(SECRET), Some(RefusalReason::Revoked));
        assert_eq!(judged(b"guess"), Some(RefusalReason::Credentials));
    }
}
