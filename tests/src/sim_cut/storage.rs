//! Storage of redb that notes every call, and storage that a cut has left.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::call::{Call, CallId, FileId, Target};

/// The one file.
const FILE: FileId = 0;

/// What a storage does when it is asked to sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncs {
    /// It makes everything durable.
    Honest,
    /// It says so, and does nothing.
    Lies,
}

/// Storage in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct Storage(Arc<Mutex<Inside>>);

#[derive(Debug)]
struct Inside {
    bytes: Vec<u8>,
    calls: Vec<Call>,
    syncs: CallId,
    honest: Syncs,
}

impl Storage {
    /// Storage that holds `bytes`.
    #[must_use]
    pub fn holding(bytes: Vec<u8>, honest: Syncs) -> Self {
        Self(Arc::new(Mutex::new(Inside {
            bytes,
            calls: Vec::new(),
            syncs: 0,
            honest,
        })))
    }

    /// Everything asked of it since the last time, and what it held before that is durable.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.inside().calls)
    }

    /// Notes a word between the calls.
    pub fn note(&self, word: Call) {
        self.inside().calls.push(word);
    }

    /// What it holds now.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.inside().bytes.clone()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

impl StorageBackend for Storage {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inside().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inside = self.inside();
        let from = place(offset)?;
        let found = inside.bytes.get(from..from + out.len());
        let found = found.ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut inside = self.inside();
        inside.bytes.resize(place(length)?, 0);
        inside.calls.push(Call::SetLength(FILE, length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inside = self.inside();
        if inside.honest == Syncs::Honest {
            inside.syncs += 1;
            let sync = inside.syncs;
            inside.calls.push(Call::SyncBegun(sync, Target::File(FILE)));
            inside.calls.push(Call::Synced(sync));
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inside = self.inside();
        let from = place(offset)?;
        let room = inside.bytes.get_mut(from..from + data.len());
        room.ok_or(io::ErrorKind::UnexpectedEof)?
            .copy_from_slice(data);
        inside.calls.push(Call::Write(FILE, offset, data.to_vec()));
        Ok(())
    }
}
