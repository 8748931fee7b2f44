//! Passwords of trackers, from a file of their own.

use std::collections::HashMap;
use std::path::PathBuf;

use protocol::key::{DeviceId, DeviceIdError};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::path::SecretFile;

/// Largest password file: 10,000 trackers with 64 characters each take 1.3 MB.
const FILE_MAX_BYTES: u64 = 16 << 20;

/// Shortest password, in bytes: below it a radio link is fast enough to guess.
const PASSWORD_MIN_BYTES: usize = 8;

/// The digest of each tracker's password; the passwords themselves are not kept.
#[derive(Clone, Debug, Default)]
pub struct Passwords(HashMap<DeviceId, [u8; 32]>);

/// Why a password file cannot be used. The text of the file is never repeated.
#[derive(Debug, Error)]
pub enum PasswordsError {
    /// The file could not be read.
    #[error("read password file {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is larger than any fleet needs.
    #[error("password file {path} has {bytes} bytes, at most {FILE_MAX_BYTES} are read")]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A line has no colon.
    #[error("line {line} is not DEVICE:PASSWORD")]
    Form {
        /// Which line, from 1.
        line: usize,
    },
    /// A line's device is none.
    #[error("line {line}: {reason}")]
    Device {
        /// Which line, from 1.
        line: usize,
        /// Why.
        reason: DeviceIdError,
    },
    /// A device stands twice.
    #[error("line {line}: device {device} has a password already")]
    Twice {
        /// Which line, from 1.
        line: usize,
        /// Which device.
        device: DeviceId,
    },
    /// A password is too short.
    #[error("line {line}: password is shorter than {PASSWORD_MIN_BYTES} bytes")]
    Short {
        /// Which line, from 1.
        line: usize,
    },
}

impl Passwords {
    /// Read a password file: one `DEVICE:PASSWORD` a line; empty lines and lines that start with #
    /// are skipped.
    ///
    /// # Errors
    /// When the file cannot be read, or its first bad line.
    pub fn read(file: &SecretFile) -> Result<Self, PasswordsError> {
        let path = file.path();
        let unreadable = |source| PasswordsError::Read {
            path: path.to_owned(),
            source,
        };
        let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
        if bytes > FILE_MAX_BYTES {
            let path = path.to_owned();
            return Err(PasswordsError::TooLarge { path, bytes });
        }
        Self::parse(&std::fs::read_to_string(path).map_err(unreadable)?)
    }

    /// Whether `password` is the one of `device`. Digests are compared, so the time taken says
    /// nothing about the password.
    #[must_use]
    pub fn admits(&self, device: &DeviceId, password: &[u8]) -> bool {
        let offered = digest(password);
        self.0.get(device).is_some_and(|known| *known == offered)
    }

    fn parse(text: &str) -> Result<Self, PasswordsError> {
        let mut digests = HashMap::new();
        for (index, entry) in text.lines().enumerate() {
            if entry.is_empty() || entry.starts_with('#') {
                continue;
            }
            let line = index + 1;
            let (device, password) = entry.split_once(':').ok_or(PasswordsError::Form { line })?;
            let device: DeviceId = device
                .parse()
                .map_err(|reason| PasswordsError::Device { line, reason })?;
            if password.len() < PASSWORD_MIN_BYTES {
                return Err(PasswordsError::Short { line });
            }
            if digests
                .insert(device.clone(), digest(password.as_bytes()))
                .is_some()
            {
                return Err(PasswordsError::Twice { line, device });
            }
        }
        Ok(Self(digests))
    }
}

fn digest(password: &[u8]) -> [u8; 32] {
    Sha256::digest(password).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_of_the_right_device_is_admitted() {
        let passwords =
            Passwords::parse("# fleet\n\nt-1:correct horse\nt-2:other:with colon").unwrap();
        let device = |name: &str| name.parse::<DeviceId>().unwrap();
        assert!(passwords.admits(&device("t-1"), b"correct horse"));
        assert!(passwords.admits(&device("t-2"), b"other:with colon"));
        assert!(!passwords.admits(&device("t-2"), b"correct horse"));
        assert!(!passwords.admits(&device("t-3"), b""));
    }

    #[test]
    fn a_bad_line_is_named_without_repeating_the_password() {
        let error = |text: &str| Passwords::parse(text).unwrap_err().to_string();
        assert_eq!(error("t-1"), "line 1 is not DEVICE:PASSWORD");
        assert_eq!(
            error("\nt-1:short"),
            "line 2: password is shorter than 8 bytes"
        );
        assert!(error("a b:password1").starts_with("line 1: device id has a character"));
        assert!(error("t:password1\nt:password2").contains("line 2: device t has"));
    }
}
