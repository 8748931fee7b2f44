//! What a client's certificate says: whose it is, until when, and which one it is.

use protocol::key::DeviceId;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::digest::Digest;

/// What the URI of a device's certificate starts with; its id follows.
pub const DEVICE_URN: &str = "urn:supercargo:device:";

/// Longest part of a name that is repeated, in characters: a device id fits.
const QUOTE_CHARS_MAX: usize = 64;

/// A client certificate. That it comes from our CA, is in its time, and that the client owns its key
/// has been checked by TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// SHA-256 of its DER form.
    pub fingerprint: Digest,
    /// End of its validity, milliseconds since 1970.
    pub expires_at_ms: i64,
    /// The device it names, or why it names none.
    device: Result<DeviceId, String>,
}

/// Why a certificate cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It is no X.509.
    #[error("the certificate cannot be read: {0}")]
    Form(#[source] x509_parser::nom::Err<X509Error>),
    /// An extension that is needed is damaged.
    #[error("the certificate's names cannot be read: {0}")]
    Names(#[source] X509Error),
}

impl ClientCertificate {
    /// Read a certificate in DER form.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(CertificateError::Form)?;
        let seconds = certificate.validity().not_after.timestamp();
        Ok(Self {
            fingerprint: Digest::of(der),
            expires_at_ms: seconds.saturating_mul(1_000),
            device: device(&certificate).map_err(CertificateError::Names)?,
        })
    }

    /// Whether it names this device.
    ///
    /// # Errors
    /// What it names instead.
    pub fn names(&self, device: &DeviceId) -> Result<(), String> {
        match &self.device {
            Ok(named) if named == device => Ok(()),
            Ok(named) => Err(format!("the certificate is that of device {named}")),
            Err(why) => Err(why.clone()),
        }
    }
}

/// The device a certificate names: in its one URI of ours, else in its one common name.
fn device(certificate: &X509Certificate<'_>) -> Result<Result<DeviceId, String>, X509Error> {
    let alternatives = certificate.subject_alternative_name()?;
    let names = alternatives.map_or(&[][..], |names| names.value.general_names.as_slice());
    let ours: Vec<&str> = names.iter().filter_map(urn).collect();
    let common: Vec<&str> = certificate
        .subject()
        .iter_common_name()
        .filter_map(|name| name.as_str().ok())
        .collect();
    let name = match (ours.as_slice(), common.as_slice()) {
        ([name], _) | ([], [name]) => *name,
        ([], []) => {
            let why = format!("the certificate has neither a URI {DEVICE_URN}ID nor a common name");
            return Ok(Err(why));
        }
        _ => return Ok(Err("the certificate names more than one device".to_owned())),
    };
    let parsed = name.parse();
    Ok(parsed.map_err(|error| {
        format!(
            "the certificate's name {:?} is no device id: {error}",
            quoted(name)
        )
    }))
}

/// A name, cut to [`QUOTE_CHARS_MAX`] and without control characters.
fn quoted(name: &str) -> String {
    name.chars().take(QUOTE_CHARS_MAX).collect()
}

/// The id in a URI of ours.
fn urn<'a>(name: &GeneralName<'a>) -> Option<&'a str> {
    match name {
        GeneralName::URI(uri) => uri.strip_prefix(DEVICE_URN),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};

    use super::*;

    /// A certificate with these URIs and common names.
    fn certificate(uris: &[&str], common: Option<&str>) -> ClientCertificate {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        params.subject_alt_names = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().unwrap()))
            .collect();
        let certificate = params.self_signed(&key).unwrap();
        ClientCertificate::read(certificate.der()).unwrap()
    }

    #[test]
    fn the_uri_names_the_device_and_the_common_name_only_without_one() {
        let me: DeviceId = "t-1".parse().unwrap();
        let ours = "urn:supercargo:device:t-1";
        for named in [
            certificate(&[ours], Some("anything")),
            certificate(&["https://example.com", ours], None),
            certificate(&["https://example.com"], Some("t-1")),
            certificate(&[], Some("t-1")),
        ] {
            assert_eq!(named.names(&me), Ok(()));
            assert_eq!(named.expires_at_ms, 1_893_456_000_000);
        }
        let other = certificate(&["urn:supercargo:device:t-2"], Some("t-1"));
        let why = other.names(&me).unwrap_err();
        assert_eq!(why, "the certificate is that of device t-2");
    }

    #[test]
    fn a_certificate_of_no_or_of_two_devices_is_nobodys() {
        let me: DeviceId = "t-1".parse().unwrap();
        let why = |certificate: ClientCertificate| certificate.names(&me).unwrap_err();
        assert!(why(certificate(&[], None)).contains("neither a URI"));
        assert!(why(certificate(&[], Some("t 1"))).contains("is no device id"));
        let both = ["urn:supercargo:device:t-1", "urn:supercargo:device:t-2"];
        assert!(why(certificate(&both, None)).contains("more than one"));
    }

    #[test]
    fn bytes_that_are_no_certificate_are_refused() {
        assert!(ClientCertificate::read(b"").is_err());
        assert!(ClientCertificate::read(&[0x30, 0x82, 0xff, 0xff, 1]).is_err());
    }
}
