//! Rows that only one room reads: a name and a CBOR value.

use std::ops::ControlFlow;

use protocol::key::DeviceId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::key::{Key, Kind, tail_text};
use super::{Batch, Store, StoreError, VALUE_MAX_BYTES, row_error, successor};

/// Which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// `c|`: MQTT sessions by client id; durable before CONNACK.
    Sessions,
    /// `w|`: desired settings by device.
    Desired,
    /// `t|`: temporary settings by device; read and written by [`super::pressure`].
    Slowed,
    /// `k|`: who may speak for a device; read and written by [`super::identity`].
    Identities,
    /// `a|`: what people did; read and written by [`super::audit`], what salvages did by [`super::salvage`].
    Audit,
    /// `m|`: format version, counters, cursors.
    Meta,
}

impl Table {
    const fn kind(self) -> Kind {
        match self {
            Self::Sessions => Kind::Session,
            Self::Desired => Kind::Desired,
            Self::Slowed => Kind::Slowed,
            Self::Identities => Kind::Identity,
            Self::Audit => Kind::Audit,
            Self::Meta => Kind::Meta,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "session",
            Self::Desired => "desired settings",
            Self::Slowed => "temporary settings",
            Self::Identities => "identity",
            Self::Audit => "audit",
            Self::Meta => "meta",
        }
    }
}

/// Writes a row.
///
/// # Errors
/// When the value cannot be written as CBOR or is too large.
pub fn put<T: Serialize>(
    batch: &mut Batch,
    table: Table,
    name: &str,
    value: &T,
) -> Result<(), StoreError> {
    let key = Key::of(table.kind()).tail(name);
    batch.put(key, encode(table.name(), name, value)?);
    Ok(())
}

/// Removes a row.
pub fn remove(batch: &mut Batch, table: Table, name: &str) {
    batch.remove(Key::of(table.kind()).tail(name));
}

/// Reads a row.
///
/// # Errors
/// When it cannot be read, or is no `T`.
pub fn value<T: DeserializeOwned>(
    store: &Store,
    table: Table,
    name: &str,
) -> Result<Option<T>, StoreError> {
    let bytes = store.value(&Key::of(table.kind()).tail(name))?;
    bytes
        .map(|bytes| decode(table.name(), name, &bytes))
        .transpose()
}

/// Visits the rows whose names start with `prefix`, in order of name, until `visit` breaks.
///
/// # Errors
/// When a row cannot be read or is no `T`, or `visit` fails.
pub fn each<T: DeserializeOwned>(
    store: &Store,
    table: Table,
    prefix: &str,
    mut visit: impl FnMut(String, T) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let key = Key::of(table.kind()).tail(prefix);
    store.walk(&key, None, |rest, bytes| {
        let rest = tail_text(rest)
            .ok_or_else(|| row_error(table.name(), rest.escape_ascii(), "name is no text"))?;
        let name = format!("{prefix}{rest}");
        let value = decode(table.name(), &name, &bytes)?;
        visit(name, value)
    })
}

/// Visits the names of the rows behind `after`, in their order, until `visit` breaks; the values are not
/// read.
///
/// # Errors
/// When a row cannot be read, or `visit` fails.
pub(super) fn each_after(
    store: &Store,
    table: Table,
    after: Option<&str>,
    mut visit: impl FnMut(String) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let prefix = Key::of(table.kind());
    let from = after.map(|name| successor(Key::of(table.kind()).tail(name).bytes()));
    store.walk(&prefix, from, |rest, _| {
        let name = tail_text(rest)
            .ok_or_else(|| row_error(table.name(), rest.escape_ascii(), "name is no text"))?;
        visit(name)
    })
}

/// `value` as CBOR, if it fits a row.
pub(super) fn encode<T: Serialize>(
    kind: &'static str,
    name: impl ToString,
    value: &T,
) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes)
        .map_err(|error| row_error(kind, name.to_string(), error))?;
    if bytes.len() > VALUE_MAX_BYTES {
        return Err(StoreError::TooLarge {
            kind,
            name: name.to_string(),
            bytes: bytes.len(),
        });
    }
    Ok(bytes)
}

/// The value that `bytes` are the CBOR of.
pub(super) fn decode<T: DeserializeOwned>(
    kind: &'static str,
    name: impl ToString,
    bytes: &[u8],
) -> Result<T, StoreError> {
    ciborium::from_reader(bytes).map_err(|error| row_error(kind, name, error))
}

/// What the CBOR under `key` says, a row of this `kind` that is about `device`.
pub(super) fn of_device<T: DeserializeOwned>(
    store: &Store,
    kind: &'static str,
    device: &DeviceId,
    key: &Key,
) -> Result<Option<T>, StoreError> {
    let bytes = store.value(key)?;
    bytes.map(|bytes| decode(kind, device, &bytes)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory;

    #[test]
    fn rows_come_back_in_order_of_name_and_only_those_asked_for() {
        let store = memory::store();
        let mut batch = Batch::default();
        for (name, value) in [("b/2", 2), ("b/1", 1), ("c", 3), ("a", 0)] {
            put(&mut batch, Table::Audit, name, &value).unwrap();
        }
        remove(&mut batch, Table::Audit, "a");
        store.apply(batch).unwrap();
        let mut seen = Vec::new();
        each(&store, Table::Audit, "b/", |name, value: i32| {
            seen.push((name, value));
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        assert_eq!(seen, [("b/1".to_owned(), 1), ("b/2".to_owned(), 2)]);
        assert_eq!(value::<i32>(&store, Table::Audit, "a").unwrap(), None);
        assert_eq!(value::<i32>(&store, Table::Desired, "c").unwrap(), None);
    }

    #[test]
    fn a_value_too_large_for_a_leaf_is_refused_before_it_is_written() {
        let mut batch = Batch::default();
        let large = "x".repeat(VALUE_MAX_BYTES + 1);
        let refused = put(&mut batch, Table::Audit, "t", &large).unwrap_err();
        assert!(matches!(refused, StoreError::TooLarge { .. }), "{refused}");
        assert!(batch.is_empty());
    }
}
