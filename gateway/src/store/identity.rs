//! Who may speak for a device: one row per registered device, with what it proves itself by.
//!
//! ```text
//! k| device -> {proof: {kind, ...}, added_at_ms, revoked_at_ms}
//! ```
//! A row outlives its revocation, so that a device that was sent away stays away. What is kept is a
//! digest: neither a secret nor a private key can be read from a store or its backups.

use std::ops::ControlFlow;

use protocol::key::DeviceId;
use serde::{Deserialize, Serialize};

use super::table::{self, Table};
use super::{Batch, Store, StoreError, row_error};
use crate::pki::Issued;
use crate::pki::digest::Digest;

/// What is known of a registered device's right to speak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// What it proves itself by.
    pub proof: Proof,
    /// When the device was registered, milliseconds since 1970. A rotation keeps it.
    pub added_at_ms: i64,
    /// Since when it is refused, milliseconds since 1970.
    pub revoked_at_ms: Option<i64>,
}

/// What a device proves itself by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Proof {
    /// The key of this certificate, by TLS.
    Certificate {
        /// SHA-256 of the certificate's DER form.
        fingerprint: Digest,
        /// End of its validity, milliseconds since 1970.
        expires_at_ms: i64,
    },
    /// A secret, sent as the password.
    Secret {
        /// SHA-256 of the secret as it is sent.
        digest: Digest,
    },
}

impl Proof {
    /// By a certificate made here.
    #[must_use]
    pub const fn of(issued: &Issued) -> Self {
        Self::Certificate {
            fingerprint: issued.fingerprint,
            expires_at_ms: issued.expires_at_ms,
        }
    }

    /// Its kind, for people.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Certificate { .. } => "certificate",
            Self::Secret { .. } => "secret",
        }
    }
}

/// Writes what is known of a device's right to speak.
///
/// # Errors
/// Never in practice: the row is small.
pub fn put(batch: &mut Batch, device: &DeviceId, identity: &Identity) -> Result<(), StoreError> {
    table::put(batch, Table::Identities, device.as_str(), identity)
}

/// Reads it; `None` when the device is not registered.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn value(store: &Store, device: &DeviceId) -> Result<Option<Identity>, StoreError> {
    table::value(store, Table::Identities, device.as_str())
}

/// Visits every registered device in order of its name until `visit` breaks.
///
/// # Errors
/// When a row cannot be read or is damaged, or `visit` fails.
pub fn each(
    store: &Store,
    mut visit: impl FnMut(DeviceId, Identity) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    table::each(store, Table::Identities, "", |name, identity| {
        let device = name
            .parse()
            .map_err(|error| row_error("identity", &name, error))?;
        visit(device, identity)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory;

    fn secret() -> Identity {
        Identity {
            proof: Proof::Secret {
                digest: Digest::of(b"abc"),
            },
            added_at_ms: 1,
            revoked_at_ms: Some(2),
        }
    }

    fn certificate() -> Identity {
        Identity {
            proof: Proof::Certificate {
                fingerprint: Digest::of(b""),
                expires_at_ms: 3,
            },
            added_at_ms: 1,
            revoked_at_ms: None,
        }
    }

    #[test]
    fn identities_come_back_in_order_of_the_devices() {
        let store = memory::store();
        let mut batch = Batch::default();
        put(&mut batch, &"t-2".parse().unwrap(), &secret()).unwrap();
        put(&mut batch, &"t-1".parse().unwrap(), &certificate()).unwrap();
        store.apply(batch).unwrap();
        let mut seen = Vec::new();
        each(&store, |device, identity| {
            seen.push((device.to_string(), identity));
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        let both = [("t-1".into(), certificate()), ("t-2".into(), secret())];
        assert_eq!(seen, both);
        assert_eq!(value(&store, &"t-3".parse().unwrap()).unwrap(), None);
    }

    /// Stored bytes are frozen: if this fails, do not change the test.
    #[test]
    fn the_stored_form_is_frozen() {
        let hex = |identity: &Identity| -> String {
            let bytes = table::encode("identity", "t", identity).unwrap();
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let digest = |bytes: &[u8]| -> String {
            let text = Digest::of(bytes).to_string();
            text.bytes().map(|byte| format!("{byte:02x}")).collect()
        };
        let text = |word: &str| -> String {
            let length = 0x60 + word.len();
            let letters: String = word.bytes().map(|byte| format!("{byte:02x}")).collect();
            format!("{length:02x}{letters}")
        };
        let behind = format!("{}01", text("added_at_ms"));
        let expected = format!(
            "a3{}a2{}{}{}7840{}{behind}{}02",
            text("proof"),
            text("kind"),
            text("secret"),
            text("digest"),
            digest(b"abc"),
            text("revoked_at_ms"),
        );
        assert_eq!(hex(&secret()), expected);
        let expected = format!(
            "a3{}a3{}{}{}7840{}{}03{behind}{}f6",
            text("proof"),
            text("kind"),
            text("certificate"),
            text("fingerprint"),
            digest(b""),
            text("expires_at_ms"),
            text("revoked_at_ms"),
        );
        assert_eq!(hex(&certificate()), expected);
    }
}
