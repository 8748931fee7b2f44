//! What a gateway asked of the disk, in order, with what it promised in between.

/// Number of a file; stays the same when the file is renamed.
pub type FileId = usize;

/// Number of a call that takes time, such as a sync.
pub type CallId = u64;

/// Something a sync makes durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The content and the length of a file.
    File(FileId),
    /// The names in a folder; the empty path is the root of the disk.
    Folder(String),
}

/// One call. Paths are relative to the root of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A folder was made.
    MakeFolder(String),
    /// A file was made.
    Make(String, FileId),
    /// Bytes were written at an offset; the file grows with them.
    Write(FileId, u64, Vec<u8>),
    /// The length of a file was set.
    SetLength(FileId, u64),
    /// A name was replaced by another, which may have been there.
    Rename(String, String),
    /// A name was removed.
    Remove(String),
    /// A sync began: it covers every call before this one.
    SyncBegun(CallId, Target),
    /// The sync ended well.
    Synced(CallId),
    /// The gateway was handed a publication, by its number.
    Sent(usize),
    /// The gateway acknowledged a publication.
    Acknowledged(usize),
}

impl Call {
    /// Whether the disk is after it as it was before.
    #[must_use]
    pub const fn is_word(&self) -> bool {
        matches!(self, Self::Sent(_) | Self::Acknowledged(_))
    }
}
