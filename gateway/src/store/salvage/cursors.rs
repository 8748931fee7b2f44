//! Cursors as the rows of a salvaged store have them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use protocol::key::{DeviceId, RecordKey};
use serde::Deserialize;

use super::super::history::{self, Kept, Known};
use super::super::journal::{self, Chunk, Entry};
use super::super::key::{Key, Kind, split_part};
use super::super::run::{Entries, merge};
use super::super::table::{self, Table};
use super::super::{Batch, Commit, Store, StoreError, view};

/// Writes the cursors. Returns the newest commit of which something was found.
pub(super) fn derive(store: &Store, promised: Commit) -> Result<Commit, StoreError> {
    let number = |name: &str| {
        Ok::<u64, StoreError>(table::value(store, Table::Meta, name)?.unwrap_or_default())
    };
    settle(store, Commit(number("folded")?))?;
    let mut batch = Batch::default();
    let (oldest, newest) = journal::ends(store)?;
    let found = newest.0.max(number("commit")?).max(number("folded")?);
    let newest = found.max(promised.0);
    table::put(&mut batch, Table::Meta, "commit", &newest)?;
    let folded = oldest.map_or(newest, |oldest| oldest.0.saturating_sub(1));
    table::put(&mut batch, Table::Meta, "folded", &folded)?;
    let mut sequence = number("sequence")?;
    view::each_of_all(store, |_, _, numbered: Numbered| {
        sequence = sequence.max(numbered.sequence);
        Ok(ControlFlow::Continue(()))
    })?;
    table::put(&mut batch, Table::Meta, "sequence", &sequence)?;
    for (sink, place) in outbox_tails(store)? {
        let name = format!("outbox/{sink}");
        let reached = place.max(number(&name)?);
        table::put(&mut batch, Table::Meta, &name, &reached)?;
    }
    store.apply(batch)?;
    Ok(Commit(found))
}

/// What a salvage needs to know of a row of the view.
#[derive(Deserialize)]
struct Numbered {
    sequence: u64,
}

/// Chunks that the fold had taken may be found again. What the history lacks of them goes there, and the
/// chunks go: taken a second time, they could put a record where its key has been contested since.
fn settle(store: &Store, folded: Commit) -> Result<(), StoreError> {
    journal::each(store, Commit(0), |chunk| {
        if chunk.commit > folded {
            return Ok(ControlFlow::Break(()));
        }
        settle_one(store, &chunk)?;
        Ok(ControlFlow::Continue(()))
    })
}

fn settle_one(store: &Store, chunk: &Chunk) -> Result<(), StoreError> {
    let mut taken: BTreeMap<&DeviceId, Entries> = BTreeMap::new();
    for entry in &chunk.entries {
        match entry {
            Entry::Contested { device, key } => {
                merge(taken.entry(device).or_default(), *key, Kept::Contested);
            }
            Entry::Records(arrived) => {
                let of_device = taken.entry(&arrived.device).or_default();
                for stored in &arrived.records {
                    let key = RecordKey {
                        epoch: arrived.epoch,
                        boot: arrived.boot,
                        seq: stored.seq,
                    };
                    let known = Known {
                        received_at: arrived.received_at,
                        qos: arrived.qos,
                        content: stored.content.clone(),
                    };
                    merge(of_device, key, Kept::Known(known));
                }
            }
        }
    }
    let mut batch = Batch::default();
    for (device, entries) in taken {
        let entries: Vec<_> = entries.into_iter().collect();
        for run in history::runs(&entries) {
            history::keep(store, &mut batch, device, run)?;
        }
    }
    journal::remove(&mut batch, chunk);
    store.apply(batch)
}

/// The last place in the queue of each sink.
fn outbox_tails(store: &Store) -> Result<BTreeMap<String, u64>, StoreError> {
    let mut tails = BTreeMap::new();
    store.walk(&Key::of(Kind::Outbox), None, |rest, _| {
        let named = split_part(rest).and_then(|(sink, place)| Some((sink, place.try_into().ok()?)));
        if let Some((sink, place)) = named {
            tails.insert(sink, u64::from_be_bytes(place));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(tails)
}
