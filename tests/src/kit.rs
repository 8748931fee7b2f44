//! What `supercargo device add` hands over for a tracker, used as a tracker's maker would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::peer::product;

/// A tracker's folder.
#[derive(Clone, Debug)]
pub struct Kit {
    folder: PathBuf,
}

impl Kit {
    /// Make one by the command: `verb` is `add` or `rotate`.
    ///
    /// # Errors
    /// When the command fails, with all it wrote.
    pub fn provision(verb: &str, device: &str, out: &Path, arguments: &[&str]) -> Result<Self> {
        let folder = out.display().to_string();
        let mut all = vec!["device", verb, device, "--out", &folder];
        all.extend_from_slice(arguments);
        supercargo(&all)?;
        let folder = out.to_owned();
        Ok(Self { folder })
    }

    /// One of its files.
    ///
    /// # Errors
    /// When it is not there.
    pub fn file(&self, name: &str) -> Result<String> {
        let path = self.folder.join(name);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// TLS as the files say: the CA, and the certificate if there is one.
    ///
    /// # Errors
    /// When a file is missing or is not what its name says.
    pub fn tls(&self) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.folder.join("ca.pem"))?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let certificate = self.folder.join("certificate.pem");
        if !certificate.exists() {
            return Ok(Arc::new(config.with_no_client_auth()));
        }
        let chain = vec![CertificateDer::from_pem_file(certificate)?];
        let key = PrivateKeyDer::from_pem_file(self.folder.join("key.pem"))?;
        Ok(Arc::new(config.with_client_auth_cert(chain, key)?))
    }
}

/// Run the shipped binary to its end.
///
/// # Errors
/// When it fails, with all it wrote.
pub fn supercargo(arguments: &[&str]) -> Result<Output> {
    let output = Command::new(product("supercargo")?)
        .args(arguments)
        .output()?;
    ensure!(
        output.status.success(),
        "supercargo {arguments:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}
