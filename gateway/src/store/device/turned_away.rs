//! What the endpoint turned away of a device before ingest: a foreign topic, a packet that is none.
//!
//! ```text
//! i| device 0 0 n   by reason: how often; written by the pipeline
//! ```
//! Such things were never received, so they are in no book; the device's ledger tells them beside it.

use std::collections::BTreeMap;

use protocol::key::DeviceId;

use super::is_heard;
use crate::account::Reason;
use crate::store::key::{Key, Kind};
use crate::store::table::{decode, encode};
use crate::store::{Batch, Store, StoreError, identity};

const KIND: &str = "turned away";

/// How often, by reason.
pub type Counts = BTreeMap<Reason, u64>;

/// Adds to what was turned away of a device.
///
/// # Errors
/// When it cannot be read.
pub fn add(
    store: &Store,
    batch: &mut Batch,
    device: &DeviceId,
    counts: &Counts,
) -> Result<(), StoreError> {
    let mut all = of(store, device)?;
    for (reason, count) in counts {
        *all.entry(*reason).or_default() += count;
    }
    let named = all.iter().map(|(reason, count)| (reason.as_str(), *count));
    let named: BTreeMap<&str, u64> = named.collect();
    batch.put(key(device), encode(KIND, device, &named)?);
    Ok(())
}

/// What was turned away of a device. Reasons that this version does not know are left out.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn of(store: &Store, device: &DeviceId) -> Result<Counts, StoreError> {
    let Some(bytes) = store.value(&key(device))? else {
        return Ok(Counts::new());
    };
    let named: BTreeMap<String, u64> = decode(KIND, device, &bytes)?;
    let known = |reason: &Reason| Some((*reason, *named.get(reason.as_str())?));
    Ok(Reason::ALL.iter().filter_map(known).collect())
}

/// Whether a name is that of a device we know: heard, or registered. Anybody can claim any name.
///
/// # Errors
/// When it cannot be read.
pub fn is_known(store: &Store, name: &DeviceId) -> Result<bool, StoreError> {
    Ok(is_heard(store, name)? || identity::value(store, name)?.is_some())
}

fn key(device: &DeviceId) -> Key {
    Key::device(Kind::Device, device).tail("n")
}
