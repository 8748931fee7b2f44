//! The TLS files of the MQTT endpoint, read and fitted together.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;

use super::MqttTls;
use crate::clock::wall_utc;

/// What is read from a PEM file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFile {
    /// The gateway's certificate and what lies between it and its CA.
    Certificate,
    /// The private key of that certificate.
    Key,
    /// The CAs of the trackers' certificates.
    ClientCa,
}

impl TlsFile {
    /// Name of the key in `[mqtt.tls]`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Key => "key_file",
            Self::ClientCa => "client_ca",
        }
    }

    const fn allowed(self) -> &'static str {
        match self {
            Self::Certificate => "PEM certificates, the gateway's own first",
            Self::Key => "one PEM private key (PKCS #8, SEC 1 or PKCS #1), not encrypted",
            Self::ClientCa => "PEM certificates of CAs",
        }
    }
}

impl fmt::Display for TlsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mqtt.tls.{}", self.key())
    }
}

/// Why TLS cannot be offered. The text of a file is never repeated.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A key of `[mqtt.tls]` is not set, although `listen` is.
    #[error(
        "{which} is not set, and mqtt.tls.listen needs it; `supercargo ca init` makes the files"
    )]
    Missing {
        /// Which.
        which: TlsFile,
    },
    /// A file cannot be read.
    #[error("{which}: read {}", path.display())]
    Read {
        /// For what.
        which: TlsFile,
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{which}: {} {found}; allowed: {}", path.display(), which.allowed())]
    Form {
        /// For what.
        which: TlsFile,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
}

impl TlsError {
    /// Which of the files is to blame.
    #[must_use]
    pub const fn which(&self) -> TlsFile {
        match self {
            Self::Missing { which } | Self::Read { which, .. } | Self::Form { which, .. } => *which,
        }
    }
}

impl MqttTls {
    /// Whether TLS is to be offered, and every file for it is named.
    pub(super) const fn is_complete(&self) -> bool {
        let files = self.certificate.is_some() && self.key_file.is_some();
        self.listen.is_some() && files && self.client_ca.is_some()
    }

    /// Read the files: what TLS is offered with. Clients need not show a certificate, since a device may be
    /// registered with a secret; one that is shown must come from the CAs and be in its time. Nothing is
    /// resumed, so every connection is verified anew.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn server(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let path = needed(TlsFile::Certificate, self.certificate.as_deref())?;
        let chain = certificates(TlsFile::Certificate, path)?;
        let key_path = needed(TlsFile::Key, self.key_file.as_ref().map(|file| file.path()))?;
        let key = PrivateKeyDer::from_pem_file(key_path)
            .map_err(|error| unusable(TlsFile::Key, key_path, error))?;
        let ca_path = needed(TlsFile::ClientCa, self.client_ca.as_deref())?;
        let roots = roots(ca_path)?;

        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(|error| form(TlsFile::ClientCa, ca_path, &error))?;
        let config = ServerConfig::builder_with_details(provider, Arc::new(WallClock))
            .with_safe_default_protocol_versions()
            .map_err(|error| form(TlsFile::Certificate, path, &error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key);
        let mut config = config.map_err(|error| form(TlsFile::Key, key_path, &error))?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(TlsFile::ClientCa, path)? {
        let added = roots.add(certificate);
        added.map_err(|error| form(TlsFile::ClientCa, path, &error))?;
    }
    Ok(roots)
}

/// At least one certificate.
fn certificates(which: TlsFile, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unusable = |error| unusable(which, path, error);
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(unusable)?
        .collect();
    match certificates.map_err(unusable)? {
        none if none.is_empty() => Err(form(which, path, &"holds no certificate")),
        some => Ok(some),
    }
}

fn needed(which: TlsFile, path: Option<&Path>) -> Result<&Path, TlsError> {
    path.ok_or(TlsError::Missing { which })
}

fn unusable(which: TlsFile, path: &Path, error: PemError) -> TlsError {
    match error {
        PemError::Io(source) => TlsError::Read {
            which,
            path: path.to_owned(),
            source,
        },
        PemError::NoItemsFound => form(which, path, &"holds none"),
        other => form(which, path, &format_args!("is damaged: {other:?}")),
    }
}

fn form(which: TlsFile, path: &Path, found: &dyn fmt::Display) -> TlsError {
    TlsError::Form {
        which,
        path: path.to_owned(),
        found: found.to_string(),
    }
}

/// The machine's clock, by which certificates begin and end; event time may be scaled and is not asked.
#[derive(Debug)]
struct WallClock;

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        let since_ms = u64::try_from(wall_utc().get()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(since_ms)))
    }
}
