//! What is known of each device besides its records. Written by the committer.
//!
//! ```text
//! i| device 0 0 p            presence: last birth, goodbye or last will
//! i| device 0 0 b            last birth
//! i| device 0 0 a            last answer to settings
//! i| device 0 0 o            oldest key still queued on the device, as last stated
//! i| device 0 0 t epoch boot     last number used in a boot, as the next boot states
//! i| device 0 0 l epoch boot first   records the device says are gone -> last, count, reason
//! ```
//! What it says of settings wanted and in force (`r`, `s`) is in [`super::settings`], what came of it too late
//! for a seal (`z`) in [`super::seal`].

pub mod turned_away;

use std::ops::ControlFlow;

use protocol::key::{DeviceId, Epoch, RecordKey, Seq};
use protocol::units::UtcMs;
use serde::{Deserialize, Serialize};

use super::key::{Key, Kind, split_part, split_record};
pub use super::quarantine::Octets;
use super::seen::BootId;
use super::table::{decode, encode, of_device};
use super::{Batch, Order, Span, Store, StoreError, row_error, successor};

const KIND: &str = "device";

/// A payload of a device that the gateway keeps only the newest of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Its birth, goodbye or last will.
    Presence,
    /// Its birth; a later goodbye or last will leaves it.
    Birth,
    /// Its answer to settings, whoever sent them.
    SettingsAnswer,
}

/// The newest payload of a field. It decodes with protocol: it was decoded before it was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stated {
    /// Gateway's time at admission, milliseconds since 1970.
    pub received_at_ms: i64,
    /// As received.
    pub payload: Octets,
}

/// What a device last said about its queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// When the gateway heard it.
    pub received_at: UtcMs,
    /// Epoch of the batch that said it.
    pub epoch: Epoch,
    /// Least key that still waited in any of its queues, that of the statement included.
    pub oldest: RecordKey,
}

/// Records a device says are gone; same epoch and boot as its key in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lost {
    /// First of the range.
    pub first: RecordKey,
    /// Last of the range.
    pub last: Seq,
    /// Records lost within the range.
    pub count: u32,
}

/// Writes a field.
///
/// # Errors
/// When the payload is too large for a row.
pub fn state(
    batch: &mut Batch,
    device: &DeviceId,
    field: Field,
    stated: &Stated,
) -> Result<(), StoreError> {
    let value = encode(KIND, device, stated)?;
    batch.put(field_key(device, field), value);
    Ok(())
}

/// Reads a field.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn stated(
    store: &Store,
    device: &DeviceId,
    field: Field,
) -> Result<Option<Stated>, StoreError> {
    of_device(store, KIND, device, &field_key(device, field))
}

/// Notes what a device says about its queues.
///
/// # Errors
/// Never in practice: the row is small.
pub fn note_pending(
    batch: &mut Batch,
    device: &DeviceId,
    pending: Pending,
) -> Result<(), StoreError> {
    let RecordKey { epoch, boot, seq } = pending.oldest;
    let heard = (pending.received_at.get(), pending.epoch.0);
    let row = (heard, (epoch.0, boot.0, seq.0));
    let value = encode(KIND, device, &row)?;
    batch.put(pending_key(device), value);
    Ok(())
}

/// What a device last said about its queues; `None` when it never sent records.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn pending(store: &Store, device: &DeviceId) -> Result<Option<Pending>, StoreError> {
    type Row = ((i64, u64), (u64, u32, u32));
    let row: Option<Row> = of_device(store, KIND, device, &pending_key(device))?;
    Ok(
        row.map(|((received_at, heard), (epoch, boot, seq))| Pending {
            received_at: UtcMs::saturating(received_at),
            epoch: Epoch(heard),
            oldest: RecordKey::new(epoch, boot, seq),
        }),
    )
}

/// Whether a device ever said anything that was stored.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn is_heard(store: &Store, device: &DeviceId) -> Result<bool, StoreError> {
    let present = stated(store, device, Field::Presence)?.is_some();
    Ok(present || pending(store, device)?.is_some())
}

/// Notes the last number used in a boot, as the boot after it states.
///
/// # Errors
/// Never in practice: the row is small.
pub fn note_end(batch: &mut Batch, boot: &BootId, last: Seq) -> Result<(), StoreError> {
    let value = encode(KIND, &boot.device, &last.0)?;
    batch.put(end_key(boot), value);
    Ok(())
}

/// The last number used in a boot, if the boot after it was heard.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn end(store: &Store, boot: &BootId) -> Result<Option<Seq>, StoreError> {
    let last: Option<u32> = of_device(store, KIND, &boot.device, &end_key(boot))?;
    Ok(last.map(Seq))
}

/// Visits the boots whose last number is known, in key order, until `visit` breaks.
///
/// # Errors
/// When a row cannot be read, or `visit` fails.
pub fn each_end(
    store: &Store,
    device: &DeviceId,
    mut visit: impl FnMut(BootId) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let prefix = Key::device(Kind::Device, device).tail("t");
    store.walk(&prefix, None, |rest, _| {
        // Padded with a sequence number, the rest of the key reads like that of a record.
        let padded = split_record(&[rest, &[0; 4]].concat());
        let key = padded.ok_or_else(|| row_error(KIND, device, "end without boot"))?;
        visit(BootId {
            device: device.clone(),
            epoch: key.epoch,
            boot: key.boot,
        })
    })
}

/// Notes records a device says are gone. A second statement about the same first key replaces the
/// first: devices repeat a loss with a longer range when it grows.
///
/// # Errors
/// Never in practice: the row is small.
pub fn note_lost(batch: &mut Batch, device: &DeviceId, lost: Lost) -> Result<(), StoreError> {
    let value = encode(KIND, device, &(lost.last.0, lost.count))?;
    let key = lost_prefix(device)
        .u64(lost.first.epoch.0)
        .u32(lost.first.boot.0);
    batch.put(key.u32(lost.first.seq.0), value);
    Ok(())
}

/// Visits the losses of a device in key order until `visit` breaks.
///
/// # Errors
/// When a row cannot be read or is damaged, or `visit` fails.
pub fn each_lost(
    store: &Store,
    device: &DeviceId,
    mut visit: impl FnMut(Lost) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    store.walk(&lost_prefix(device), None, |rest, value| {
        let first =
            split_record(rest).ok_or_else(|| row_error(KIND, device, "loss without key"))?;
        let (last, count): (u32, u32) = decode(KIND, device, &value)?;
        visit(Lost {
            first,
            last: Seq(last),
            count,
        })
    })
}

/// Visits the devices that were ever heard, in order of their names, until `visit` breaks.
///
/// # Errors
/// When a row cannot be read or is damaged, or `visit` fails.
pub fn each(
    store: &Store,
    mut visit: impl FnMut(DeviceId) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    each_device(store, Kind::Device, &mut visit)
}

/// The same from the device behind `after` on.
///
/// # Errors
/// As [`each`].
pub fn each_after(
    store: &Store,
    after: Option<&DeviceId>,
    mut visit: impl FnMut(DeviceId) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let from = after.and_then(|device| Key::device(Kind::Device, device).after_all());
    each_device_from(store, Kind::Device, from, &mut visit)
}

/// Visits the devices that have rows of a kind whose keys begin with the device, one step per device.
pub(super) fn each_device(
    store: &Store,
    kind: Kind,
    visit: &mut dyn FnMut(DeviceId) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    each_device_from(store, kind, None, visit)
}

fn each_device_from(
    store: &Store,
    kind: Kind,
    from: Option<Vec<u8>>,
    visit: &mut dyn FnMut(DeviceId) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let prefix = Key::of(kind);
    let mut span = Span {
        from: from.unwrap_or_else(|| prefix.bytes().to_vec()),
        until: prefix.after_all(),
        order: Order::Ascending,
        limit_rows: 1,
    };
    while let Some((key, _)) = store.scan(&span)?.pop() {
        let name = key.strip_prefix(prefix.bytes()).and_then(split_part);
        let device = name.and_then(|(name, _)| name.parse::<DeviceId>().ok());
        let device =
            device.ok_or_else(|| row_error(KIND, key.escape_ascii(), "no device in its key"))?;
        let behind = Key::device(kind, &device).after_all();
        span.from = behind.unwrap_or_else(|| successor(&key));
        if visit(device)?.is_break() {
            break;
        }
    }
    Ok(())
}

fn field_key(device: &DeviceId, field: Field) -> Key {
    Key::device(Kind::Device, device).tail(match field {
        Field::Presence => "p",
        Field::Birth => "b",
        Field::SettingsAnswer => "a",
    })
}

fn pending_key(device: &DeviceId) -> Key {
    Key::device(Kind::Device, device).tail("o")
}

fn end_key(boot: &BootId) -> Key {
    let prefix = Key::device(Kind::Device, &boot.device).tail("t");
    prefix.u64(boot.epoch.0).u32(boot.boot.0)
}

fn lost_prefix(device: &DeviceId) -> Key {
    Key::device(Kind::Device, device).tail("l")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory;

    #[test]
    fn what_a_device_states_replaces_what_it_stated_before() {
        let store = memory::store();
        let device: DeviceId = "t".parse().unwrap();
        for (seq, payload) in [(1, b"old".as_slice()), (9, b"new")] {
            let mut batch = Batch::default();
            let said = Stated {
                received_at_ms: i64::from(seq),
                payload: Octets(payload.to_vec()),
            };
            state(&mut batch, &device, Field::Presence, &said).unwrap();
            let pending = Pending {
                received_at: UtcMs::saturating(i64::from(seq)),
                epoch: Epoch(u64::MAX),
                oldest: RecordKey::new(u64::MAX, 2, seq),
            };
            note_pending(&mut batch, &device, pending).unwrap();
            store.apply(batch).unwrap();
        }
        let said = stated(&store, &device, Field::Presence).unwrap().unwrap();
        assert_eq!(said.payload.0, b"new");
        assert_eq!(
            stated(&store, &device, Field::SettingsAnswer).unwrap(),
            None
        );
        assert!(is_heard(&store, &device).unwrap());
        assert!(!is_heard(&store, &"u".parse().unwrap()).unwrap());
        let pending = pending(&store, &device).unwrap().unwrap();
        assert_eq!(pending.oldest, RecordKey::new(u64::MAX, 2, 9));
        assert_eq!(pending.epoch, Epoch(u64::MAX));
    }

    #[test]
    fn losses_come_back_in_key_order_and_a_longer_one_replaces_the_shorter() {
        let store = memory::store();
        let device: DeviceId = "t".parse().unwrap();
        let lost = |boot, first, last, count| Lost {
            first: RecordKey::new(1, boot, first),
            last: Seq(last),
            count,
        };
        let mut batch = Batch::default();
        for one in [lost(2, 0, 1, 2), lost(1, 5, 6, 2), lost(1, 5, 9, 4)] {
            note_lost(&mut batch, &device, one).unwrap();
        }
        store.apply(batch).unwrap();
        let mut found = Vec::new();
        each_lost(&store, &device, |lost| {
            found.push(lost);
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        assert_eq!(found, [lost(1, 5, 9, 4), lost(2, 0, 1, 2)]);
        let mut devices = Vec::new();
        each(&store, |device| {
            devices.push(device);
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        assert_eq!(devices, [device]);
    }
}
