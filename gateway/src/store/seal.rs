//! Seals: what a shipment was judged by when its late horizon was over. Written by the fold, once each, and
//! never changed or removed.
//!
//! ```text
//! z| 00 shipment                               the seal: when and why the shipment ended, when it was sealed
//! z| 01 device 0 0 shipment 0 0 part u16       the keys of one tracker that it covers, and when it was attached
//! i| device 0 0 z shipment                     what came of the tracker after the seal and too late for it
//! m| seals                                     how many seals, and how much came too late, in all
//! m| sealed_changed                            sealed shipments of which the plan says something else now
//! ```
//! A shipment is sealed when the row `z| 00` is there; it is written behind the others. One whose row was set
//! aside as damaged stays sealed: its history may be thinned already.

use std::cmp::Reverse;
use std::ops::ControlFlow;

use protocol::key::{DeviceId, RecordKey};
use serde::{Deserialize, Serialize};

use super::key::{Key, Kind, split_part, tail_text};
use super::seen::{self, BootId, Run};
use super::table::{self, Table, decode, encode};
use super::{Batch, Store, StoreError, device, row_error};
use crate::pki::digest::Digest;

const KIND: &str = "seal";

/// Name of the row that counts seals and what they keep out.
const TOTALS_ROW: &str = "seals";

/// Name of the row that names sealed shipments of which the plan says something else now.
const CHANGED_ROW: &str = "sealed_changed";

/// Most sealed shipments that are named so: a screen of `status`. The log names all.
const CHANGED_MAX: usize = 16;

/// Most trackers of which is told what came too late: a screen of `status`. `ledger` tells all.
const WORST_MAX: usize = 16;

/// Most devices that are looked at for that: a fleet of the design's size, in some tenths of a second.
const DEVICES_MAX: usize = 10_000;

/// Runs of one row: 25 bytes each, and with the times of a shipment's most attachments, 20 KB, it stays
/// below the 64 KiB of a value.
const ROW_RUNS: usize = 1_024;

/// What ended a shipment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// All its units were delivered.
    Delivery,
    /// Its planned end passed, and its trackers said nothing more.
    Plan,
}

impl EndedBy {
    /// As people read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivery => "delivery",
            Self::Plan => "plan",
        }
    }
}

/// A shipment's seal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// When the shipment ended, milliseconds since 1970.
    pub ended_at_ms: i64,
    /// What ended it.
    pub ended_by: EndedBy,
    /// Gateway's event time of the seal, milliseconds since 1970.
    pub sealed_at_ms: i64,
    /// Names everything of the plan that decided about the shipment.
    pub definition: Digest,
    /// How many trackers it had.
    pub trackers: u64,
    /// How many keys it covers.
    pub keys: u64,
}

/// From when until when a tracker was on the shipment, in milliseconds since 1970; `None`: without bound.
pub type Spell = (Option<i64>, Option<i64>);

/// Epoch, boot, first and last number of a run of keys.
pub type KeyRun = (u64, u32, u32, u32);

/// What a seal covers of one tracker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cover {
    /// When the tracker was on the shipment.
    pub attached_ms: Vec<Spell>,
    /// Gateway's event time of the seal, milliseconds since 1970.
    pub sealed_at_ms: i64,
    /// In order.
    pub runs: Vec<KeyRun>,
}

impl Cover {
    /// The same with the runs of all keys of `device` that are stored.
    ///
    /// # Errors
    /// When its seen runs cannot be read.
    pub fn with_runs_of(self, store: &Store, device: &DeviceId) -> Result<Self, StoreError> {
        let mut runs = Vec::new();
        let mut behind: Option<BootId> = None;
        while let Some(boot) = seen::next_boot(store, device, behind.as_ref())? {
            seen::each_run(store, &boot, |Run { first, last }| {
                runs.push((boot.epoch.0, boot.boot.0, first.0, last.0));
            })?;
            behind = Some(boot);
        }
        Ok(Self { runs, ..self })
    }

    fn without_runs(&self) -> Self {
        Self {
            attached_ms: self.attached_ms.clone(),
            sealed_at_ms: self.sealed_at_ms,
            runs: Vec::new(),
        }
    }

    /// Whether the seal covers `key`.
    #[must_use]
    pub fn covers(&self, key: RecordKey) -> bool {
        let place = (key.epoch.0, key.boot.0, key.seq.0);
        let behind = |(epoch, boot, first, _): &KeyRun| (*epoch, *boot, *first);
        let after = self.runs.partition_point(|run| behind(run) <= place);
        let run = after
            .checked_sub(1)
            .and_then(|before| self.runs.get(before));
        run.is_some_and(|(epoch, boot, _, last)| {
            (*epoch, *boot) == (place.0, place.1) && *last >= place.2
        })
    }

    /// Whether something that the tracker saw at this time would have counted for the shipment.
    #[must_use]
    pub fn concerns(&self, at_ms: i64) -> bool {
        let mut attached = self.attached_ms.iter();
        let is_on = |(from, until): &Spell| {
            from.is_none_or(|from| at_ms >= from) && until.is_none_or(|until| at_ms < until)
        };
        at_ms <= self.sealed_at_ms && attached.any(is_on)
    }

    /// Until when something that the tracker sees may concern the shipment, in milliseconds since 1970.
    #[must_use]
    pub fn concerned_until_ms(&self) -> i64 {
        let ends = self
            .attached_ms
            .iter()
            .map(|(_, until)| until.unwrap_or(i64::MAX));
        self.sealed_at_ms.min(ends.max().unwrap_or(i64::MIN))
    }

    /// How many keys it covers.
    #[must_use]
    pub fn keys(&self) -> u64 {
        let runs = self.runs.iter();
        runs.map(|(_, _, first, last)| u64::from(last - first) + 1)
            .sum()
    }
}

/// What came of a tracker after a seal, belongs before it, and changes no event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Late {
    /// Records.
    pub records: u64,
    /// Keys covered by the seal that were contested after it.
    pub contested: u64,
    /// Gateway's time when the last of them came, milliseconds since 1970.
    pub last_ms: i64,
}

impl Late {
    /// Adds what came of another time or tracker.
    pub fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.contested += other.contested;
        self.last_ms = self.last_ms.max(other.last_ms);
    }
}

/// Seals and what they keep out, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Sealed shipments.
    pub shipments: u64,
    /// Records that came too late for one of them.
    pub late_records: u64,
    /// Keys covered by one of them that were contested after it.
    pub late_contested: u64,
}

/// Seals a shipment; durable on return. A seal that a power cut left unfinished is written over.
///
/// # Errors
/// When the store fails.
pub fn write(
    store: &Store,
    shipment: &str,
    seal: &Seal,
    covers: &[(DeviceId, Cover)],
) -> Result<(), StoreError> {
    for (device, cover) in covers {
        let mut batch = Batch::default();
        let prefix = cover_prefix(device).part(shipment);
        store.walk(&prefix, None, |rest, _| {
            batch.remove(prefix.clone().raw(rest));
            Ok(ControlFlow::Continue(()))
        })?;
        for (part, runs) in (0_u16..).zip(parts(&cover.runs)) {
            let row = Cover {
                runs: runs.to_vec(),
                ..cover.without_runs()
            };
            batch.put(prefix.clone().u16(part), encode(KIND, shipment, &row)?);
        }
        store.apply(batch)?;
    }
    let mut batch = Batch::default();
    batch.put(head_key(shipment), encode(KIND, shipment, seal)?);
    let mut totals = totals(store)?;
    totals.shipments += 1;
    table::put(&mut batch, Table::Meta, TOTALS_ROW, &totals)?;
    store.apply(batch)?;
    store.barrier().map(drop)
}

/// The runs of each row; one row without runs when there are none.
fn parts(runs: &[KeyRun]) -> impl Iterator<Item = &[KeyRun]> {
    let none = runs.is_empty().then_some(runs);
    none.into_iter().chain(runs.chunks(ROW_RUNS))
}

/// Whether a shipment is sealed.
///
/// # Errors
/// When the store cannot be read.
pub fn is_sealed(store: &Store, shipment: &str) -> Result<bool, StoreError> {
    let key = head_key(shipment);
    // A damaged row is set aside by the first look at it.
    let there = store.value(&key)?.is_some();
    Ok(there || store.value(&Key::set_aside(key.bytes()))?.is_some())
}

/// A shipment's seal; `None` when it has none, or when that is damaged.
///
/// # Errors
/// When it cannot be read.
pub fn of(store: &Store, shipment: &str) -> Result<Option<Seal>, StoreError> {
    let bytes = store.value(&head_key(shipment))?;
    bytes
        .map(|bytes| decode(KIND, shipment, &bytes))
        .transpose()
}

/// Visits the seals in order of shipment, until `visit` breaks.
///
/// # Errors
/// When one cannot be read, or `visit` fails.
pub fn each(
    store: &Store,
    mut visit: impl FnMut(String, Seal) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    store.walk(&Key::of(Kind::Seal).u8(HEAD), None, |rest, bytes| {
        let shipment = tail_text(rest);
        let shipment = shipment.ok_or_else(|| misnamed(rest))?;
        let seal = decode(KIND, &shipment, &bytes)?;
        visit(shipment, seal)
    })
}

/// What seals cover of a tracker, by shipment. One whose seal was never finished is left out.
///
/// # Errors
/// When it cannot be read.
pub fn of_device(store: &Store, device: &DeviceId) -> Result<Vec<(String, Cover)>, StoreError> {
    let mut covers: Vec<(String, Cover)> = Vec::new();
    store.walk(&cover_prefix(device), None, |rest, bytes| {
        let (shipment, _) = split_part(rest).ok_or_else(|| misnamed(rest))?;
        let row: Cover = decode(KIND, &shipment, &bytes)?;
        match covers.last_mut().filter(|(last, _)| *last == shipment) {
            Some((_, cover)) => cover.runs.extend(row.runs),
            None => covers.push((shipment, row)),
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let mut finished = Vec::new();
    for (shipment, cover) in covers {
        if is_sealed(store, &shipment)? {
            finished.push((shipment, cover));
        }
    }
    Ok(finished)
}

/// Adds what came too late of trackers, by shipment.
///
/// # Errors
/// When what was counted before cannot be read.
pub fn note_late(
    store: &Store,
    batch: &mut Batch,
    late: &[(DeviceId, String, Late)],
) -> Result<(), StoreError> {
    if late.is_empty() {
        return Ok(());
    }
    let mut all = totals(store)?;
    for (device, shipment, more) in late {
        let key = late_prefix(device).tail(shipment);
        let before = store.value(&key)?;
        let before: Option<Late> = before
            .map(|bytes| decode(KIND, shipment, &bytes))
            .transpose()?;
        let mut sum = before.unwrap_or_default();
        sum.add(more);
        batch.put(key, encode(KIND, shipment, &sum)?);
        all.late_records += more.records;
        all.late_contested += more.contested;
    }
    table::put(batch, Table::Meta, TOTALS_ROW, &all)
}

/// What came of a tracker too late for a seal, by shipment.
///
/// # Errors
/// When it cannot be read.
pub fn late_of(store: &Store, device: &DeviceId) -> Result<Vec<(String, Late)>, StoreError> {
    let mut found = Vec::new();
    store.walk(&late_prefix(device), None, |rest, bytes| {
        let shipment = tail_text(rest).ok_or_else(|| misnamed(rest))?;
        let late = decode(KIND, &shipment, &bytes)?;
        found.push((shipment, late));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// What came too late, most records first, a screen of it; the first ten thousand devices are looked
/// at, and none when nothing came too late.
///
/// # Errors
/// When it cannot be read.
pub fn worst_late(store: &Store) -> Result<Vec<(DeviceId, String, Late)>, StoreError> {
    let mut worst: Vec<(DeviceId, String, Late)> = Vec::new();
    let all = totals(store)?;
    if all.late_records + all.late_contested == 0 {
        return Ok(worst);
    }
    let mut devices = 0;
    device::each(store, |device| {
        devices += 1;
        let of_device = late_of(store, &device)?.into_iter();
        worst.extend(of_device.map(|(shipment, late)| (device.clone(), shipment, late)));
        // Stable, so devices alike stay in order of their names.
        worst.sort_by_key(|(_, _, late)| Reverse(late.records + late.contested));
        worst.truncate(WORST_MAX);
        Ok(if devices == DEVICES_MAX {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    Ok(worst)
}

/// Seals and what they keep out, in all.
///
/// # Errors
/// When it cannot be read.
pub fn totals(store: &Store) -> Result<Totals, StoreError> {
    Ok(table::value(store, Table::Meta, TOTALS_ROW)?.unwrap_or_default())
}

/// Sealed shipments of which the plan in force says something else than when they were sealed.
///
/// # Errors
/// When they cannot be read.
pub fn changed_in_plan(store: &Store) -> Result<Vec<String>, StoreError> {
    Ok(table::value(store, Table::Meta, CHANGED_ROW)?.unwrap_or_default())
}

/// Writes them, the first of them when there are too many to be told.
///
/// # Errors
/// When the store fails.
pub fn note_changed_in_plan(store: &Store, changed: &[String]) -> Result<(), StoreError> {
    let told = changed.get(..CHANGED_MAX).unwrap_or(changed);
    if changed_in_plan(store)? == told {
        return Ok(());
    }
    let mut batch = Batch::default();
    table::put(&mut batch, Table::Meta, CHANGED_ROW, &told)?;
    store.apply(batch)
}

/// What follows the kind in the key of a seal.
const HEAD: u8 = 0;

/// What follows the kind in the keys of what it covers.
const COVER: u8 = 1;

fn head_key(shipment: &str) -> Key {
    Key::of(Kind::Seal).u8(HEAD).tail(shipment)
}

fn cover_prefix(device: &DeviceId) -> Key {
    Key::of(Kind::Seal).u8(COVER).part(device.as_str())
}

fn late_prefix(device: &DeviceId) -> Key {
    Key::device(Kind::Device, device).tail("z")
}

fn misnamed(rest: &[u8]) -> StoreError {
    row_error(KIND, rest.escape_ascii(), "key names no shipment")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory;

    fn device() -> DeviceId {
        "t-1".parse().unwrap()
    }

    fn sealed(keys: u64) -> Seal {
        Seal {
            ended_at_ms: 1,
            ended_by: EndedBy::Plan,
            sealed_at_ms: 9,
            definition: Digest::of(b"S"),
            trackers: 1,
            keys,
        }
    }

    #[test]
    fn a_cover_of_more_runs_than_a_row_holds_comes_back_whole() {
        let store = memory::store();
        let runs: Vec<_> = (0..3_000).map(|run| (7, 1, run * 3, run * 3 + 1)).collect();
        let cover = Cover {
            attached_ms: vec![(None, None)],
            sealed_at_ms: 9,
            runs,
        };
        write(
            &store,
            "S",
            &sealed(cover.keys()),
            &[(device(), cover.clone())],
        )
        .unwrap();
        assert_eq!(of(&store, "S").unwrap(), Some(sealed(6_000)));
        let [(shipment, read)] = &of_device(&store, &device()).unwrap()[..] else {
            panic!("one shipment");
        };
        assert_eq!((shipment.as_str(), read), ("S", &cover));
        for (seq, covered) in [
            (0, true),
            (1, true),
            (2, false),
            (8_998, true),
            (8_999, false),
        ] {
            assert_eq!(read.covers(RecordKey::new(7, 1, seq)), covered, "{seq}");
        }
        assert!(!read.covers(RecordKey::new(7, 2, 0)) && !read.covers(RecordKey::new(6, 1, 0)));
    }

    #[test]
    fn a_cover_concerns_what_lies_in_an_attachment_and_before_the_seal() {
        let cover = Cover {
            attached_ms: vec![(None, Some(3)), (Some(5), None)],
            sealed_at_ms: 9,
            runs: Vec::new(),
        };
        let concerned: Vec<i64> = (0..12).filter(|at_ms| cover.concerns(*at_ms)).collect();
        assert_eq!(concerned, [0, 1, 2, 5, 6, 7, 8, 9]);
        assert_eq!(cover.concerned_until_ms(), 9);
    }

    #[test]
    fn shipments_whose_names_begin_alike_are_kept_apart() {
        let store = memory::store();
        for (shipment, first) in [("S", 0), ("S-1", 10)] {
            let cover = Cover {
                attached_ms: vec![(None, None)],
                sealed_at_ms: 9,
                runs: vec![(7, 1, first, first + 4)],
            };
            write(&store, shipment, &sealed(5), &[(device(), cover)]).unwrap();
        }
        let covers = of_device(&store, &device()).unwrap();
        let named: Vec<_> = covers
            .iter()
            .map(|(id, cover)| (id.as_str(), cover.runs[0].2))
            .collect();
        assert_eq!(named, [("S", 0), ("S-1", 10)]);
        assert!(!is_sealed(&store, "S-2").unwrap());
        assert_eq!(totals(&store).unwrap().shipments, 2);
    }
}
