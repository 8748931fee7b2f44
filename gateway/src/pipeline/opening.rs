//! The store that a configuration asks for.

use super::Failure;
use crate::config::{Config, STORE_FOLDER};
use crate::store::space::{Limits, Space};
use crate::store::{Patience, Store};

/// Open the store in the data folder, or salvage it first; the disk under it is watched, and by `patience` every
/// call to its engine.
///
/// # Errors
/// What cannot be made, read or opened.
pub fn open_store(config: &Config, patience: &Patience) -> Result<Store, Failure> {
    let data = config.gateway.data.path();
    let named = |operation: &str| format!("{operation} {}", data.display());
    std::fs::create_dir_all(data)
        .map_err(|error| Failure::system(named("make data folder"), error))?;
    let limits = Limits {
        watermark_bytes: config.store.watermark.0,
        reserve_bytes: config.store.reserve.0,
        ballast_bytes: config.store.ballast.0,
        budget_bytes: config.store.budget.map(|budget| budget.0),
    };
    let space = Space::claim(data, limits)
        .map_err(|error| Failure::system(named("ask for the free space of"), error))?;
    // What salvage did is in the log, and stays in `status`.
    let folder = data.join(STORE_FOLDER);
    let (store, _) = Store::open_or_salvage(config.store.engine, &folder, patience)?;
    store.watch(space);
    Ok(store)
}
