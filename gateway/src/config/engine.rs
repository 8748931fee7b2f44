//! Which engine keeps the store, and how a folder tells whose it is.

use std::path::Path;

use super::value::choice;

choice! {
    /// The embedded engine that keeps the store.
    pub enum StoreEngine {
        /// A log with an index over it: fast ingest.
        Sled = "sled";
        /// A copy-on-write tree in one file: cautious.
        Redb = "redb";
    }
}

impl StoreEngine {
    /// Every engine there is.
    pub const ALL: [Self; 2] = [Self::Sled, Self::Redb];

    /// The file that a folder of this engine has, and no folder of another one.
    #[must_use]
    pub const fn file(self) -> &'static str {
        match self {
            Self::Sled => "db",
            Self::Redb => "store.redb",
        }
    }

    /// The engine that made the store in `folder`; `None` while there is no store.
    #[must_use]
    pub fn found_in(folder: &Path) -> Option<Self> {
        let made = |engine: &Self| folder.join(engine.file()).exists();
        Self::ALL.into_iter().find(made)
    }
}
