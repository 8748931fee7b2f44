//! Why the store refuses, and what to do about it.

use std::path::PathBuf;

use super::space::Shortage;
use super::{Stall, VALUE_MAX_BYTES};

/// Why the store refuses.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error(
        "open store {}: it is in use by another process; stop that gateway, or let the command talk to it over its control socket", path.display()
    )]
    Locked {
        /// The store's folder.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error(
        "open store {}: it is damaged ({detail}); `supercargo salvage` or `supercargo run` rescues what it holds; or restore a backup", path.display()
    )]
    Damaged {
        /// The store's folder.
        path: PathBuf,
        /// What the engine found.
        detail: String,
    },
    /// Another engine made it.
    #[error(
        "open store {}: the engine {found} made it, the configuration asks for {asked}; set store.engine = \"{found}\", or move the folder away and start empty", path.display()
    )]
    OtherEngine {
        /// The store's folder.
        path: PathBuf,
        /// Engine that made it.
        found: &'static str,
        /// Engine asked for.
        asked: &'static str,
    },
    /// A newer supercargo wrote it.
    #[error(
        "open store {}: its format version is {found}, this supercargo knows up to {known}; use the newer supercargo", path.display()
    )]
    Newer {
        /// The store's folder.
        path: PathBuf,
        /// Version of the store.
        found: u32,
        /// Newest version understood.
        known: u32,
    },
    /// The operating system refused.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A write or sync failed, now or earlier. Nothing may be acknowledged; the process must end.
    #[error("store {operation} failed, nothing more is acknowledged: {cause}")]
    Failed {
        /// The first operation that failed.
        operation: &'static str,
        /// What the engine said.
        cause: String,
    },
    /// A call to the engine did not return. Nothing may be acknowledged; the process must end.
    #[error(
        "{stall}, nothing more is acknowledged: the disk hangs, or the engine does after a write that failed; see the system's log and start again; for a disk that is only slow raise store.call_max"
    )]
    Stalled {
        /// Which, and how long it was waited for.
        stall: Stall,
    },
    /// Nothing was written, because the disk has no space; later it may.
    #[error("store has no space: {shortage}")]
    NoSpace {
        /// What is short.
        shortage: Shortage,
    },
    /// A read failed. Engines refuse reads too once a write has failed, so nothing may be acknowledged.
    #[error("store read failed, nothing more is acknowledged: {cause}")]
    Read {
        /// What the engine said.
        cause: String,
    },
    /// A row does not hold what its key promises.
    #[error("store row {kind} {name}: {fault}")]
    Row {
        /// Kind of row.
        kind: &'static str,
        /// Which.
        name: String,
        /// What is wrong with it.
        fault: String,
    },
    /// A value above [`VALUE_MAX_BYTES`].
    #[error("store write {kind} {name}: {bytes} bytes, allowed {VALUE_MAX_BYTES}")]
    TooLarge {
        /// Kind of row.
        kind: &'static str,
        /// Which.
        name: String,
        /// Its size.
        bytes: usize,
    },
    /// A backup could not be made.
    #[error("backup to {}: {fault}", path.display())]
    Backup {
        /// The folder asked for.
        path: PathBuf,
        /// Why not.
        fault: String,
    },
}

impl StoreError {
    /// Whether the process must end: exit code 3, recovery at the next start.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::Failed { .. } | Self::Stalled { .. } | Self::Read { .. }
        )
    }
}

/// A read that the engine could not do.
pub(super) fn read_error(cause: &dyn std::error::Error) -> StoreError {
    StoreError::Read {
        cause: cause.to_string(),
    }
}

/// A row that does not hold what its key promises.
pub(super) fn row_error(
    kind: &'static str,
    name: impl ToString,
    fault: impl ToString,
) -> StoreError {
    StoreError::Row {
        kind,
        name: name.to_string(),
        fault: fault.to_string(),
    }
}
