//! A note, outside the engine, of the newest commit that was promised.
//!
//! sled recovers a log up to the first part that it cannot read, and takes a log whose end is lost or
//! damaged for one that was never longer: it opens, and acknowledged readings are gone without a
//! word. So each barrier writes its commit into a file beside the log, and opening refuses a store that
//! ends before it. The note is not synced, which would cost a second barrier: after a power cut it may
//! be older than the truth, never newer, because it is written only once the commit is durable.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::{Commit, StoreError};

const NAME: &str = "promised";

/// The open file.
pub(super) struct Witness {
    file: Mutex<File>,
    /// What it said when it was opened.
    promised: Commit,
}

impl Witness {
    /// Opens the note in the store's folder, or begins one.
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(NAME);
        let io = |source| StoreError::Io {
            operation: "open",
            path: path.clone(),
            source,
        };
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(io)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        Ok(Self {
            file: Mutex::new(file),
            promised: parse(&bytes).unwrap_or(Commit(0)),
        })
    }

    /// Refuses a store that ends before what was promised.
    pub(super) fn check(&self, folder: &Path, newest: Commit) -> Result<(), StoreError> {
        if newest >= self.promised {
            return Ok(());
        }
        Err(StoreError::Damaged {
            path: folder.to_owned(),
            detail: format!(
                "it ends at commit {}, but commit {} was acknowledged",
                newest.0, self.promised.0
            ),
        })
    }

    /// Notes a commit that is durable.
    pub(super) fn note(&self, commit: Commit) -> std::io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&record(commit))
    }
}

/// The newest commit that was promised, as the note in the store's folder has it. Nothing is changed.
pub(super) fn promised_in(folder: &Path) -> Commit {
    let bytes = std::fs::read(folder.join(NAME)).unwrap_or_default();
    parse(&bytes).unwrap_or(Commit(0))
}

/// Name of the note that the store is damaged in a place that opening does not meet.
const SUSPECT: &str = "damaged";

/// Notes damage that was met while the store was open: opening it again would only meet it again.
pub(super) fn suspect(folder: &Path, detail: &str) {
    // A memory of what the log says as well; without the note the next start meets the damage anew.
    let _ = std::fs::write(folder.join(SUSPECT), detail);
}

/// Refuses a store that is known to be damaged.
pub(super) fn sound(folder: &Path) -> Result<(), StoreError> {
    match std::fs::read_to_string(folder.join(SUSPECT)) {
        Ok(detail) => Err(StoreError::Damaged {
            path: folder.to_owned(),
            detail,
        }),
        Err(_) => Ok(()),
    }
}

/// The number and its checksum: a torn note is no note.
fn record(commit: Commit) -> [u8; 12] {
    let mut record = [0; 12];
    let number = commit.0.to_be_bytes();
    record[..8].copy_from_slice(&number);
    record[8..].copy_from_slice(&crc32fast::hash(&number).to_be_bytes());
    record
}

fn parse(bytes: &[u8]) -> Option<Commit> {
    let (number, checksum) = bytes.split_first_chunk::<8>()?;
    let sound = checksum == crc32fast::hash(number).to_be_bytes();
    sound.then(|| Commit(u64::from_be_bytes(*number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_note_is_no_note() {
        let record = record(Commit(0x0102));
        assert_eq!(parse(&record), Some(Commit(0x0102)));
        for at in 0..record.len() {
            let mut torn = record;
            torn[at] ^= 1;
            assert_eq!(parse(&torn), None);
        }
        assert_eq!(parse(&record[..11]), None);
    }
}
