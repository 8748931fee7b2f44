//! What both engines do with the folder of their files.

use std::any::Any;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::{Engine, EngineError, StoreError};
use crate::config::StoreEngine;

/// Opens or creates the store of `engine` in `folder`; a store of another engine is left alone.
pub(super) fn open(engine: StoreEngine, folder: &Path) -> Result<Box<dyn Engine>, StoreError> {
    match StoreEngine::found_in(folder) {
        Some(found) if found != engine => {
            return Err(StoreError::OtherEngine {
                path: folder.to_owned(),
                found: found.as_str(),
                asked: engine.as_str(),
            });
        }
        _ => {}
    }
    Ok(match engine {
        StoreEngine::Sled => Box::new(super::sled::Sled::open(folder)?),
        StoreEngine::Redb => Box::new(super::redb::Redb::open(folder)?),
    })
}

/// Makes the store's folder.
pub(super) fn make_folder(folder: &Path) -> Result<(), StoreError> {
    let made = std::fs::create_dir_all(folder);
    made.map_err(|source| io_error("create store folder", folder, source))
}

/// Makes the names in `folder` durable. Windows has no such call and needs none: NTFS logs names.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    File::open(folder)?.sync_all()
}

/// The operating system refused.
pub(super) fn io_error(operation: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}

/// An engine met something in its files that it does not understand.
#[derive(Debug, thiserror::Error)]
#[error("the engine panicked: {0}")]
pub(super) struct Panicked(String);

/// Engines panic on some damage instead of saying so; both become errors.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done,
        Err(panic) => Err(Box::new(Panicked(panic_text(&*panic)))),
    }
}

/// Whether an engine's files are to blame, not the machine: what is full or read-only is not damaged.
pub(super) fn is_damage(engine: StoreEngine, error: &EngineError) -> bool {
    match engine {
        StoreEngine::Sled => super::sled::is_damage(&**error),
        StoreEngine::Redb => super::redb::is_damage(&**error),
    }
}

/// A file that ends too early, or does not hold what belongs there.
pub(super) fn is_mangled(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | InvalidData)
}

/// What an engine said when it panicked over what it found.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the engine panicked".to_owned())
}
