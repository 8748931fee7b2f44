//! What each sink must still be told, in order, and what it was told last.
//!
//! The fold appends pointers in the batch that changes the view; delivery removes a row, and notes the
//! revision, when the sink has confirmed it. A pointer names event and revision, not content.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::key::{Key, Kind};
use super::table::{self, Table, decode, encode};
use super::{Batch, Order, Span, Store, StoreError, row_error};

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// Shipment of the event.
    pub shipment: String,
    /// The event.
    pub event: String,
    /// Revision at the time of writing.
    pub revision: u32,
    /// Critical pointers may pass others.
    pub critical: bool,
}

/// A pointer with its place in a sink's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Place.
    pub seq: u64,
    /// What.
    pub pointer: Pointer,
}

/// Hands out places in the sinks' queues. The fold owns the only one.
#[derive(Debug, Default)]
pub struct Tails(BTreeMap<String, u64>);

impl Tails {
    /// Appends a pointer to a sink's queue.
    ///
    /// # Errors
    /// When the place reached so far cannot be read, or the pointer is too large.
    pub fn push(
        &mut self,
        store: &Store,
        batch: &mut Batch,
        sink: &str,
        pointer: &Pointer,
    ) -> Result<(), StoreError> {
        let name = format!("outbox/{sink}");
        let reached = match self.0.get(sink) {
            Some(reached) => *reached,
            None => table::value(store, Table::Meta, &name)?.unwrap_or_default(),
        };
        let seq = reached + 1;
        let value = encode("outbox", format_args!("{sink} {seq}"), pointer)?;
        batch.put(queue(sink).u64(seq), value);
        table::put(batch, Table::Meta, &name, &seq)?;
        self.0.insert(sink.to_owned(), seq);
        Ok(())
    }
}

/// The first `limit_rows` pointers of a sink behind `behind` (0 for all).
///
/// # Errors
/// When they cannot be read or are damaged.
pub fn pending(
    store: &Store,
    sink: &str,
    behind: u64,
    limit_rows: usize,
) -> Result<Vec<Queued>, StoreError> {
    let queue = queue(sink);
    let span = Span {
        from: queue.clone().u64(behind.saturating_add(1)).into_bytes(),
        until: queue.after_all(),
        order: Order::Ascending,
        limit_rows,
    };
    let queued = |(key, value): (Vec<u8>, Vec<u8>)| {
        let place = key.strip_prefix(queue.bytes()).unwrap_or_default();
        let place: [u8; 8] = place
            .try_into()
            .map_err(|_| row_error("outbox", sink, "key is no number"))?;
        let seq = u64::from_be_bytes(place);
        let pointer = decode("outbox", format_args!("{sink} {seq}"), &value)?;
        Ok(Queued { seq, pointer })
    };
    store.scan(&span)?.into_iter().map(queued).collect()
}

/// Takes a pointer that the sink has confirmed out of its queue, and notes the revision told.
///
/// # Errors
/// When the revision cannot be written.
pub fn confirm(batch: &mut Batch, sink: &str, queued: &Queued) -> Result<(), StoreError> {
    batch.remove(queue(sink).u64(queued.seq));
    let pointer = &queued.pointer;
    let value = encode("sent revision", &pointer.event, &pointer.revision)?;
    batch.put(sent(sink, &pointer.event), value);
    Ok(())
}

/// Takes a pointer out of a sink's queue that needs no delivery any more.
pub fn discard(batch: &mut Batch, sink: &str, queued: &Queued) {
    batch.remove(queue(sink).u64(queued.seq));
}

/// The revision of an event that a sink confirmed last.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn last_sent(store: &Store, sink: &str, event: &str) -> Result<Option<u32>, StoreError> {
    let value = store.value(&sent(sink, event))?;
    value
        .map(|value| decode("sent revision", event, &value))
        .transpose()
}

fn queue(sink: &str) -> Key {
    Key::of(Kind::Outbox).part(sink)
}

fn sent(sink: &str, event: &str) -> Key {
    Key::of(Kind::Sent).part(sink).tail(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::Memory;

    fn pointer(event: &str, revision: u32) -> Pointer {
        Pointer {
            shipment: "S".to_owned(),
            event: event.to_owned(),
            revision,
            critical: false,
        }
    }

    #[test]
    fn a_place_is_never_given_twice_even_when_its_row_is_gone_and_the_store_was_reopened() {
        let disk = Memory::default();
        let store = disk.open();
        let mut batch = Batch::default();
        Tails::default()
            .push(&store, &mut batch, "file", &pointer("a", 1))
            .unwrap();
        store.apply(batch).unwrap();
        let first = pending(&store, "file", 0, 9).unwrap().remove(0);
        let mut batch = Batch::default();
        confirm(&mut batch, "file", &first).unwrap();
        store.apply(batch).unwrap();
        store.barrier().unwrap();

        let store = disk.open();
        let mut batch = Batch::default();
        Tails::default()
            .push(&store, &mut batch, "file", &pointer("a", 2))
            .unwrap();
        store.apply(batch).unwrap();
        let next = pending(&store, "file", 0, 9).unwrap();
        assert_eq!(next.len(), 1);
        assert!(next[0].seq > first.seq);
        assert_eq!(last_sent(&store, "file", "a").unwrap(), Some(1));
    }

    #[test]
    fn each_sink_has_its_own_queue_in_order() {
        let store = crate::store::memory::store();
        let (mut tails, mut batch) = (Tails::default(), Batch::default());
        for revision in 1..=300 {
            tails
                .push(&store, &mut batch, "a", &pointer("e", revision))
                .unwrap();
        }
        tails
            .push(&store, &mut batch, "ab", &pointer("e", 7))
            .unwrap();
        store.apply(batch).unwrap();
        let rows = pending(&store, "a", 298, 9).unwrap();
        assert_eq!(
            rows.iter()
                .map(|row| row.pointer.revision)
                .collect::<Vec<_>>(),
            [299, 300]
        );
        assert_eq!(pending(&store, "ab", 0, 9).unwrap().len(), 1);
    }
}
