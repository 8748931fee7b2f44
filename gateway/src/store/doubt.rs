//! What is not believed of each device, kept for people. Written by the committer.
//!
//! ```text
//! i| device 0 0 d             by doubt: how many records, and the last of them
//! i| device 0 0 c epoch boot  what the boot says of its clock: build time, anchors before it was known
//! ```

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use protocol::key::DeviceId;
use serde::{Deserialize, Serialize};

use super::key::{Key, Kind};
use super::seen::BootId;
use super::table::{decode, encode};
use super::{Batch, Store, StoreError, device};

const KIND: &str = "doubt";

/// Records of one device that give the same reason to doubt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubted {
    /// How many.
    pub count: u64,
    /// Gateway's time when the last came, milliseconds since 1970.
    pub last_received_at_ms: i64,
    /// Key of the last, as text.
    pub last_key: String,
    /// What the last said.
    pub last_detail: String,
}

/// What is doubted of a device, by label.
pub type Doubts = BTreeMap<String, Doubted>;

/// What a boot says of its clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockNote {
    /// When the firmware was built, milliseconds since 1970, once the boot's first record came.
    pub build_ms: Option<i64>,
    /// Anchors that came before it: number, milliseconds since 1970.
    pub unjudged: Vec<(u32, i64)>,
}

/// Writes what is doubted of a device.
///
/// # Errors
/// Never in practice: labels are few and details short.
pub fn put(batch: &mut Batch, device: &DeviceId, doubts: &Doubts) -> Result<(), StoreError> {
    batch.put(doubts_key(device), encode(KIND, device, doubts)?);
    Ok(())
}

/// What is doubted of a device.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn of(store: &Store, device: &DeviceId) -> Result<Doubts, StoreError> {
    let bytes = store.value(&doubts_key(device))?;
    let doubts = bytes
        .map(|bytes| decode(KIND, device, &bytes))
        .transpose()?;
    Ok(doubts.unwrap_or_default())
}

/// Visits the devices of which something is doubted, in order of their names, until `visit` breaks.
///
/// # Errors
/// When a row cannot be read or is damaged, or `visit` fails.
pub fn each(
    store: &Store,
    mut visit: impl FnMut(DeviceId, Doubts) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    device::each(store, |device| {
        let doubts = of(store, &device)?;
        if doubts.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        visit(device, doubts)
    })
}

/// Writes what a boot says of its clock.
///
/// # Errors
/// When there is more of it than a row holds.
pub fn put_clock(batch: &mut Batch, boot: &BootId, note: &ClockNote) -> Result<(), StoreError> {
    batch.put(clock_key(boot), encode(KIND, &boot.device, note)?);
    Ok(())
}

/// What a boot says of its clock.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn clock(store: &Store, boot: &BootId) -> Result<ClockNote, StoreError> {
    let bytes = store.value(&clock_key(boot))?;
    let read = bytes.map(|bytes| decode(KIND, &boot.device, &bytes));
    Ok(read.transpose()?.unwrap_or_default())
}

fn doubts_key(device: &DeviceId) -> Key {
    Key::device(Kind::Device, device).tail("d")
}

fn clock_key(boot: &BootId) -> Key {
    let prefix = Key::device(Kind::Device, &boot.device).tail("c");
    prefix.u64(boot.epoch.0).u32(boot.boot.0)
}
