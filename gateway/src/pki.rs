//! Certificates made here: a small CA, the gateway's certificate, the trackers' certificates, all P-256.
//!
//! ```text
//! CA folder      ca.pem  ca-key.pem  server.pem  server-key.pem
//! device folder  ca.pem  certificate.pem  key.pem   or  ca.pem  secret;   device.toml
//! ```
//! Whoever has `ca-key.pem` can make certificates; the gateway needs `server-key.pem` only, and a
//! certificate counts only once its fingerprint is registered.

pub mod certificate;
pub mod digest;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use protocol::key::DeviceId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use self::certificate::{ClientCertificate, DEVICE_URN};
use self::digest::Digest;
use crate::clock::wall_utc;

/// File of the CA's certificate, in its own folder and in those of devices.
pub const CA_CERTIFICATE: &str = "ca.pem";
/// File of the CA's private key.
pub const CA_KEY: &str = "ca-key.pem";
/// File of the gateway's certificate.
pub const SERVER_CERTIFICATE: &str = "server.pem";
/// File of the gateway's private key.
pub const SERVER_KEY: &str = "server-key.pem";
/// File of a device's certificate.
pub const DEVICE_CERTIFICATE: &str = "certificate.pem";
/// File of a device's private key.
pub const DEVICE_KEY: &str = "key.pem";
/// File of a device's secret.
pub const DEVICE_SECRET: &str = "secret";
/// File that says how a device reaches its gateway.
pub const DEVICE_CONNECTION: &str = "device.toml";

/// Bytes of a secret: 256 bits cannot be guessed, so guesses need not be slowed down.
const SECRET_BYTES: usize = 32;

/// Before the moment of issue a certificate is valid for this long: clocks of trackers differ.
const CLOCK_SLACK: TimeDelta = TimeDelta::days(1);

/// Why a certificate could not be made.
#[derive(Debug, Error)]
pub enum PkiError {
    /// A file is there already.
    #[error("{} is there already and is not overwritten", path.display())]
    There {
        /// Which.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A name cannot stand in a certificate.
    #[error("{name:?} is no host name or IP address")]
    Name {
        /// Which.
        name: String,
    },
    /// A file of the CA holds something else.
    #[error("{}: {found}; allowed: what `supercargo ca init` wrote", path.display())]
    Form {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        found: String,
    },
    /// The CA ends before anything it signs could begin.
    #[error("the CA in {} has expired; make a new one by `supercargo ca init`", folder.display())]
    Expired {
        /// Its folder.
        folder: PathBuf,
    },
    /// Making a key or a signature failed.
    #[error("make {what}: {cause}")]
    Make {
        /// Which.
        what: &'static str,
        /// Why not.
        cause: String,
    },
}

/// A text for a file, under the file's name.
pub type Named = (&'static str, String);

/// A CA that signs for one company's gateways and trackers.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    ends: DateTime<Utc>,
}

/// A key and what the CA says of it.
#[derive(Clone)]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate: String,
    /// The private key, PEM.
    pub key: String,
    /// SHA-256 of the certificate's DER form.
    pub fingerprint: Digest,
    /// End of its validity, milliseconds since 1970.
    pub expires_at_ms: i64,
}

impl Authority {
    /// A new CA, and the files that keep it.
    ///
    /// # Errors
    /// When no key or signature can be made.
    pub fn found(valid: Duration) -> Result<(Self, [Named; 2]), PkiError> {
        let key = key("the CA's key")?;
        let mut params = named("Supercargo CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ends = date(&mut params, valid, DateTime::<Utc>::MAX_UTC);
        let certificate = params
            .self_signed(&key)
            .map_err(made("the CA's certificate"))?;
        let pem = certificate.pem();
        let files = [(CA_CERTIFICATE, pem.clone()), (CA_KEY, key.serialize_pem())];
        let issuer = Issuer::new(params, key);
        Ok((Self { pem, issuer, ends }, files))
    }

    /// The CA kept in `folder`.
    ///
    /// # Errors
    /// When its files cannot be read or are not what they should be.
    pub fn open(folder: &Path) -> Result<Self, PkiError> {
        let (path, key_path) = (folder.join(CA_CERTIFICATE), folder.join(CA_KEY));
        let pem = read(&path)?;
        let form = |path: &Path, found: String| PkiError::Form {
            path: path.to_owned(),
            found,
        };
        let key = KeyPair::from_pem(&read(&key_path)?)
            .map_err(|error| form(&key_path, error.to_string()))?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| form(&path, format!("{error:?}")))?;
        let (_, certificate) =
            X509Certificate::from_der(&der).map_err(|error| form(&path, error.to_string()))?;
        if certificate.public_key().subject_public_key.data != key.public_key_raw() {
            let found = format!("is not the key of {}", path.display());
            return Err(form(&key_path, found));
        }
        let seconds = certificate.validity().not_after.timestamp();
        let ends = DateTime::from_timestamp(seconds, 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
        if ends <= now() {
            let folder = folder.to_owned();
            return Err(PkiError::Expired { folder });
        }
        let issuer =
            Issuer::from_ca_cert_der(&der, key).map_err(|error| form(&path, error.to_string()))?;
        Ok(Self { pem, issuer, ends })
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.pem
    }

    /// A certificate for a gateway that is reached by these names and addresses.
    ///
    /// # Errors
    /// When a name is none, or no key or signature can be made.
    pub fn server(&self, names: &[String], valid: Duration) -> Result<Issued, PkiError> {
        let mut params = named(names.first().map_or("supercargo", String::as_str));
        for name in names {
            params.subject_alt_names.push(server_name(name)?);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params, valid)
    }

    /// A certificate for a device.
    ///
    /// # Errors
    /// When no key or signature can be made.
    pub fn device(&self, device: &DeviceId, valid: Duration) -> Result<Issued, PkiError> {
        let mut params = named(device.as_str());
        let uri = format!("{DEVICE_URN}{device}");
        let uri = uri.try_into().map_err(made("the device's URI"))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, valid)
    }

    fn issue(&self, mut params: CertificateParams, valid: Duration) -> Result<Issued, PkiError> {
        const WHAT: &str = "a certificate";
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        date(&mut params, valid, self.ends);
        let key = key("a key")?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(made(WHAT))?;
        let read = ClientCertificate::read(certificate.der()).map_err(made(WHAT))?;
        Ok(Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            fingerprint: read.fingerprint,
            expires_at_ms: read.expires_at_ms,
        })
    }
}

/// A secret of 256 random bits in hexadecimal digits, and the digest of that text.
///
/// # Errors
/// When the system has no randomness.
pub fn secret() -> Result<(String, Digest), PkiError> {
    let mut bytes = [0; SECRET_BYTES];
    let filled = ring::default_provider().secure_random.fill(&mut bytes);
    filled.map_err(|error| PkiError::Make {
        what: "a secret",
        cause: format!("{error:?}"),
    })?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let digest = Digest::of(text.as_bytes());
    Ok((text, digest))
}

/// The first name or address that the certificate in this PEM file is for.
#[must_use]
pub fn first_name(path: &Path) -> Option<String> {
    let der = CertificateDer::from_pem_file(path).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        })
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(sixteen).to_string())
}

/// Write new files for the owner's eyes only: all or none, and nothing is overwritten.
///
/// # Errors
/// When one is there already, or cannot be written.
pub fn write_new(folder: &Path, files: &[Named]) -> Result<Vec<PathBuf>, PkiError> {
    let paths: Vec<PathBuf> = files.iter().map(|(name, _)| folder.join(name)).collect();
    if let Some(path) = paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        let path = path.clone();
        return Err(PkiError::There { path });
    }
    make_private(folder).map_err(|source| PkiError::Write {
        path: folder.to_owned(),
        source,
    })?;
    for (index, (path, (_, text))) in paths.iter().zip(files).enumerate() {
        if let Err(source) = write_private(path, text) {
            let mut written = paths;
            let path = written.swap_remove(index);
            written.truncate(index);
            remove(&written);
            return Err(PkiError::Write { path, source });
        }
    }
    Ok(paths)
}

/// Remove files that turned out to be of no use.
pub fn remove(files: &[PathBuf]) {
    for path in files {
        // It is being given up because of an error that is told already.
        let _ = fs::remove_file(path);
    }
}

#[cfg(unix)]
fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_private(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| PkiError::Read {
        path: path.to_owned(),
        source,
    })
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn server_name(name: &str) -> Result<SanType, PkiError> {
    let wrong = || PkiError::Name {
        name: name.to_owned(),
    };
    if let Ok(address) = name.parse() {
        return Ok(SanType::IpAddress(address));
    }
    let host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if name.is_empty() || !name.bytes().all(host) {
        return Err(wrong());
    }
    Ok(SanType::DnsName(name.try_into().map_err(|_| wrong())?))
}

/// Valid from a little before now for this long, whole days, but not beyond `latest`.
fn date(params: &mut CertificateParams, valid: Duration, latest: DateTime<Utc>) -> DateTime<Utc> {
    let now = now();
    let valid = TimeDelta::from_std(valid).unwrap_or(TimeDelta::MAX);
    let ends = now.checked_add_signed(valid).unwrap_or(latest).min(latest);
    let day = |at: DateTime<Utc>| {
        // Months and days of a calendar fit a byte, and X.509 ends with the year 9999.
        let [month, day] = [at.month(), at.day()].map(|number| u8::try_from(number).unwrap_or(1));
        rcgen::date_time_ymd(at.year().min(9_999), month, day)
    };
    params.not_before = day(now - CLOCK_SLACK);
    params.not_after = day(ends);
    ends
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(wall_utc().get()).unwrap_or_default()
}

fn key(what: &'static str) -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(made(what))
}

fn made<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> PkiError {
    move |error| PkiError::Make {
        what,
        cause: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 86_400);

    #[test]
    fn a_device_certificate_is_p_256_and_names_the_device() {
        let (authority, _) = Authority::found(10 * YEAR).unwrap();
        let device: DeviceId = "t-1".parse().unwrap();
        let issued = authority.device(&device, YEAR).unwrap();
        let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        assert_eq!(
            ClientCertificate::read(&der).unwrap().names(&device),
            Ok(())
        );
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let key = certificate.public_key();
        let curve = key.algorithm.parameters.as_ref().unwrap();
        assert_eq!(
            curve.as_oid().unwrap().to_id_string(),
            "1.2.840.10045.3.1.7"
        );
        let days = certificate.validity().not_after.timestamp() - now().timestamp();
        assert!((364..=365).contains(&(days / 86_400)), "{days} s");
    }

    #[test]
    fn nothing_outlives_the_ca_and_an_expired_ca_signs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (authority, files) = Authority::found(YEAR).unwrap();
        write_new(folder.path(), &files).unwrap();
        let device: DeviceId = "t-1".parse().unwrap();
        let issued = authority.device(&device, 10 * YEAR).unwrap();
        assert!(issued.expires_at_ms <= authority.ends.timestamp_millis());
        let opened = Authority::open(folder.path()).unwrap();
        assert_eq!(opened.certificate(), authority.certificate());

        let old = folder.path().join("old");
        let (_, files) = Authority::found(Duration::ZERO).unwrap();
        write_new(&old, &files).unwrap();
        assert!(matches!(
            Authority::open(&old),
            Err(PkiError::Expired { .. })
        ));
    }

    #[test]
    fn a_ca_with_the_key_of_another_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let [(_, [certificate, _]), (_, [_, key])] =
            [(); 2].map(|()| Authority::found(YEAR).unwrap());
        write_new(folder.path(), &[certificate, key]).unwrap();
        let error = Authority::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains("ca-key.pem: is not the key of"), "{error}");
    }

    #[test]
    fn names_and_addresses_stand_in_the_server_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let (authority, _) = Authority::found(YEAR).unwrap();
        for (names, first) in [
            (["depot.example", "192.0.2.7"], "depot.example"),
            (["192.0.2.7", "depot.example"], "192.0.2.7"),
            (["::1", "depot.example"], "::1"),
        ] {
            let issued = authority.server(&names.map(str::to_owned), YEAR).unwrap();
            let path = folder.path().join("server.pem");
            fs::write(&path, issued.certificate).unwrap();
            assert_eq!(first_name(&path).as_deref(), Some(first));
        }
        let wrong = authority.server(&["a b".to_owned()], YEAR).err().unwrap();
        assert!(matches!(wrong, PkiError::Name { name } if name == "a b"));
    }

    #[cfg(unix)]
    #[test]
    fn files_are_for_their_owner_only_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("new");
        let files = [("a", "1".to_owned()), ("b", "2".to_owned())];
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for path in write_new(&new, &files).unwrap() {
            assert_eq!(mode(&path), 0o600);
        }
        assert_eq!(mode(&new), 0o700);
        fs::remove_file(new.join("a")).unwrap();
        let refused = write_new(&new, &files).unwrap_err();
        assert!(matches!(refused, PkiError::There { path } if path == new.join("b")));
        assert!(!new.join("a").exists(), "all or none");
    }

    #[test]
    fn two_secrets_differ_and_are_256_bits() {
        let (one, digest) = secret().unwrap();
        assert_eq!(one.len(), 2 * SECRET_BYTES);
        assert_ne!(one, secret().unwrap().0);
        assert_eq!(digest, Digest::of(one.as_bytes()));
    }
}
