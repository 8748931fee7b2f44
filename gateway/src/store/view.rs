//! The stored verdict: one row per event of a shipment. Written by the fold.
//!
//! The value is the fold's own type as CBOR: state of the event and its revision.

use std::ops::ControlFlow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::key::{Key, Kind, split_part, tail_text};
use super::table::{decode, encode};
use super::{Batch, Store, StoreError, row_error};

const KIND: &str = "view";

/// Writes an event of a shipment.
///
/// # Errors
/// When it cannot be written as CBOR or is too large.
pub fn put<T: Serialize>(
    batch: &mut Batch,
    shipment: &str,
    event: &str,
    state: &T,
) -> Result<(), StoreError> {
    let value = encode(KIND, format_args!("{shipment} {event}"), state)?;
    batch.put(key(shipment, event), value);
    Ok(())
}

/// Removes an event.
pub fn remove(batch: &mut Batch, shipment: &str, event: &str) {
    batch.remove(key(shipment, event));
}

/// Reads an event.
///
/// # Errors
/// When it cannot be read or is no `T`.
pub fn value<T: DeserializeOwned>(
    store: &Store,
    shipment: &str,
    event: &str,
) -> Result<Option<T>, StoreError> {
    let bytes = store.value(&key(shipment, event))?;
    bytes
        .map(|bytes| decode(KIND, format_args!("{shipment} {event}"), &bytes))
        .transpose()
}

/// Visits the events of a shipment in order of their ids, until `visit` breaks.
///
/// # Errors
/// When a row cannot be read or is no `T`, or `visit` fails.
pub fn each<T: DeserializeOwned>(
    store: &Store,
    shipment: &str,
    mut visit: impl FnMut(String, T) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    store.walk(&Key::of(Kind::View).part(shipment), None, |rest, value| {
        let event = tail_text(rest).ok_or_else(|| row_error(KIND, shipment, "event is no text"))?;
        let state = decode(KIND, format_args!("{shipment} {event}"), &value)?;
        visit(event, state)
    })
}

/// Visits the events of all shipments, by shipment and id, until `visit` breaks.
///
/// # Errors
/// When a row cannot be read or is no `T`, or `visit` fails.
pub fn each_of_all<T: DeserializeOwned>(
    store: &Store,
    mut visit: impl FnMut(String, String, T) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    store.walk(&Key::of(Kind::View), None, |rest, value| {
        let names =
            split_part(rest).and_then(|(shipment, event)| Some((shipment, tail_text(event)?)));
        let (shipment, event) =
            names.ok_or_else(|| row_error(KIND, rest.escape_ascii(), "key names no event"))?;
        let state = decode(KIND, format_args!("{shipment} {event}"), &value)?;
        visit(shipment, event, state)
    })
}

fn key(shipment: &str, event: &str) -> Key {
    Key::of(Kind::View).part(shipment).tail(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory;

    #[test]
    fn a_shipment_sees_its_own_events_only() {
        let store = memory::store();
        let mut batch = Batch::default();
        for (shipment, event, state) in [
            ("S1", "b", 2),
            ("S1", "a", 1),
            ("S1|x", "a", 3),
            ("S", "z", 4),
        ] {
            put(&mut batch, shipment, event, &state).unwrap();
        }
        store.apply(batch).unwrap();
        let mut seen = Vec::new();
        each(&store, "S1", |event, state: i32| {
            seen.push((event, state));
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        assert_eq!(seen, [("a".to_owned(), 1), ("b".to_owned(), 2)]);
        let mut all = 0;
        each_of_all(&store, |_, _, state: i32| {
            all += state;
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        assert_eq!(all, 10);
        let mut batch = Batch::default();
        remove(&mut batch, "S1", "a");
        store.apply(batch).unwrap();
        assert_eq!(value::<i32>(&store, "S1", "a").unwrap(), None);
        assert_eq!(value::<i32>(&store, "S1|x", "a").unwrap(), Some(3));
    }
}
