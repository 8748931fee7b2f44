//! Which sequence numbers of a boot have been stored, as runs. Written by the committer, in the batch of
//! the records themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use protocol::key::{Boot, DeviceId, Epoch, RecordKey, Seq};

use super::entry::Entry;
use super::key::{Key, Kind, split_part};
use super::{
    Batch, Commit, Order, PAGE_MAX_ROWS, Span, Store, StoreError, damage, history, journal,
    row_error, successor,
};

/// One boot of one device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId {
    /// Whose.
    pub device: DeviceId,
    /// Life of the counters.
    pub epoch: Epoch,
    /// Reset within the epoch.
    pub boot: Boot,
}

impl BootId {
    /// The key of one of its records.
    #[must_use]
    pub const fn record(&self, seq: Seq) -> RecordKey {
        RecordKey {
            epoch: self.epoch,
            boot: self.boot,
            seq,
        }
    }
}

/// Sequence numbers without a gap between them, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// First.
    pub first: Seq,
    /// Last.
    pub last: Seq,
}

/// Writes a run; one with the same first number is replaced.
pub fn put(batch: &mut Batch, boot: &BootId, run: Run) {
    batch.put(key(boot, run.first), run.last.0.to_be_bytes().to_vec());
}

/// Removes the run that begins at `first`.
pub fn remove(batch: &mut Batch, boot: &BootId, first: Seq) {
    batch.remove(key(boot, first));
}

/// The runs of a boot that begin at or before `upto`, newest first, at most `limit_runs`.
///
/// # Errors
/// When they cannot be read or are damaged.
pub fn at_or_before(
    store: &Store,
    boot: &BootId,
    upto: Seq,
    limit_runs: usize,
) -> Result<Vec<Run>, StoreError> {
    let span = Span {
        from: prefix(boot).into_bytes(),
        until: Some(successor(key(boot, upto).bytes())),
        order: Order::Descending,
        limit_rows: limit_runs,
    };
    runs(store, boot, &span)
}

/// The runs of a boot that begin at or behind `from`, oldest first, at most `limit_runs`.
///
/// # Errors
/// When they cannot be read or are damaged.
pub fn at_or_after(
    store: &Store,
    boot: &BootId,
    from: Seq,
    limit_runs: usize,
) -> Result<Vec<Run>, StoreError> {
    let span = Span {
        from: key(boot, from).into_bytes(),
        until: prefix(boot).after_all(),
        order: Order::Ascending,
        limit_rows: limit_runs,
    };
    runs(store, boot, &span)
}

/// Visits the runs of a boot, oldest first.
///
/// # Errors
/// When they cannot be read or are damaged.
pub fn each_run(
    store: &Store,
    boot: &BootId,
    mut visit: impl FnMut(Run),
) -> Result<(), StoreError> {
    let mut from = Some(Seq(0));
    while let Some(first) = from {
        let runs = at_or_after(store, boot, first, PAGE_MAX_ROWS)?;
        let last = runs.last().filter(|_| runs.len() == PAGE_MAX_ROWS);
        from = last.and_then(|run| run.first.0.checked_add(1)).map(Seq);
        runs.into_iter().for_each(&mut visit);
    }
    Ok(())
}

/// The run that begins at `first`, if one does.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn beginning_at(store: &Store, boot: &BootId, first: Seq) -> Result<Option<Run>, StoreError> {
    let Some(value) = store.value(&key(boot, first))? else {
        return Ok(None);
    };
    let last = number_of(&value).filter(|last| *last >= first);
    let last =
        last.ok_or_else(|| row_error("seen run", &boot.device, "not two numbers in order"))?;
    Ok(Some(Run { first, last }))
}

/// The boot behind `behind` in order of device, epoch and boot, of the given device.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn next_boot(
    store: &Store,
    device: &DeviceId,
    behind: Option<&BootId>,
) -> Result<Option<BootId>, StoreError> {
    let all = Key::device(Kind::Seen, device);
    let from = behind.and_then(|boot| prefix(boot).after_all());
    let span = Span {
        from: from.unwrap_or_else(|| all.bytes().to_vec()),
        until: all.after_all(),
        order: Order::Ascending,
        limit_rows: 1,
    };
    let Some((key, _)) = store.scan(&span)?.pop() else {
        return Ok(None);
    };
    boot_of(&key).map(Some)
}

/// Counts the runs anew of every boot of which a row was set aside, from the records in journal and
/// history. Returns how many boots there were. For whoever writes runs: nobody else may meanwhile.
///
/// # Errors
/// When the store cannot be read or written.
pub fn mend(store: &Store) -> Result<usize, StoreError> {
    let mut boots = BTreeSet::new();
    let kind = Key::of(Kind::Seen);
    damage::each(store, |key| {
        if key.starts_with(kind.bytes()) {
            boots.insert(boot_of(key)?);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    count_anew(store, &boots)?;
    Ok(boots.len())
}

/// Counts the runs anew of every boot there is.
pub(super) fn recount(store: &Store) -> Result<(), StoreError> {
    let mut boots = BTreeSet::new();
    for kind in [Kind::Seen, Kind::History] {
        store.walk(&Key::of(kind), None, |rest, _| {
            boots.insert(boot_in(rest)?);
            Ok(ControlFlow::Continue(()))
        })?;
    }
    journal::each(store, Commit(0), |chunk| {
        boots.extend(chunk.entries.iter().map(Entry::boot));
        Ok(ControlFlow::Continue(()))
    })?;
    count_anew(store, &boots)
}

/// Writes the runs of boots as their records have them. The journal is read first: what the fold moves
/// meanwhile is then found twice, not never.
fn count_anew(store: &Store, boots: &BTreeSet<BootId>) -> Result<(), StoreError> {
    if boots.is_empty() {
        return Ok(());
    }
    let mut waiting: BTreeMap<BootId, BTreeSet<Seq>> = BTreeMap::new();
    journal::each(store, Commit(0), |chunk| {
        for entry in &chunk.entries {
            let boot = entry.boot();
            if boots.contains(&boot) {
                waiting.entry(boot).or_default().extend(entry.numbers());
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    for boot in boots {
        let numbers = waiting.remove(boot).unwrap_or_default();
        count_boot(store, boot, numbers)?;
    }
    Ok(())
}

fn count_boot(store: &Store, boot: &BootId, mut numbers: BTreeSet<Seq>) -> Result<(), StoreError> {
    let first = RecordKey {
        epoch: boot.epoch,
        boot: boot.boot,
        seq: Seq(0),
    };
    history::each(store, &boot.device, Some(first), |key, _| {
        if (key.epoch, key.boot) != (boot.epoch, boot.boot) {
            return Ok(ControlFlow::Break(()));
        }
        numbers.insert(key.seq);
        Ok(ControlFlow::Continue(()))
    })?;
    let mut batch = Batch::default();
    store.walk(&prefix(boot), None, |rest, _| {
        let first = number_of(rest);
        first
            .into_iter()
            .for_each(|first| remove(&mut batch, boot, first));
        Ok(ControlFlow::Continue(()))
    })?;
    for run in runs_of(&numbers) {
        put(&mut batch, boot, run);
    }
    store.apply(batch)
}

fn runs_of(numbers: &BTreeSet<Seq>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for seq in numbers {
        match runs.last_mut() {
            Some(run) if run.last.0.checked_add(1) == Some(seq.0) => run.last = *seq,
            _ => runs.push(Run {
                first: *seq,
                last: *seq,
            }),
        }
    }
    runs
}

fn prefix(boot: &BootId) -> Key {
    Key::boot(Kind::Seen, &boot.device, boot.epoch, boot.boot)
}

fn key(boot: &BootId, first: Seq) -> Key {
    prefix(boot).u32(first.0)
}

fn runs(store: &Store, boot: &BootId, span: &Span) -> Result<Vec<Run>, StoreError> {
    let prefix = prefix(boot);
    let run = |(key, value): (Vec<u8>, Vec<u8>)| {
        let first = number_of(key.strip_prefix(prefix.bytes()).unwrap_or_default())?;
        let last = number_of(&value)?;
        (first <= last).then_some(Run { first, last })
    };
    let rows = store.scan(span)?.into_iter();
    let runs: Option<Vec<Run>> = rows.map(run).collect();
    runs.ok_or_else(|| row_error("seen run", &boot.device, "not two numbers in order"))
}

fn number_of(bytes: &[u8]) -> Option<Seq> {
    Some(Seq(u32::from_be_bytes(bytes.try_into().ok()?)))
}

fn boot_of(key: &[u8]) -> Result<BootId, StoreError> {
    let rest = key.strip_prefix(Key::of(Kind::Seen).bytes());
    boot_in(rest.unwrap_or_default())
}

/// The boot that the rest of a key names behind its kind.
fn boot_in(rest: &[u8]) -> Result<BootId, StoreError> {
    let parsed = || {
        let (device, rest) = split_part(rest)?;
        let (epoch, rest) = rest.split_first_chunk::<8>()?;
        let (boot, _) = rest.split_first_chunk::<4>()?;
        Some(BootId {
            device: device.parse().ok()?,
            epoch: Epoch(u64::from_be_bytes(*epoch)),
            boot: Boot(u32::from_be_bytes(*boot)),
        })
    };
    parsed().ok_or_else(|| row_error("seen run", rest.escape_ascii(), "key names no boot"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory;

    fn boot(boot: u32) -> BootId {
        BootId {
            device: "t".parse().unwrap(),
            epoch: Epoch(7),
            boot: Boot(boot),
        }
    }

    fn run(first: u32, last: u32) -> Run {
        Run {
            first: Seq(first),
            last: Seq(last),
        }
    }

    #[test]
    fn runs_are_found_on_both_sides_of_a_number_and_only_in_their_boot() {
        let store = memory::store();
        let mut batch = Batch::default();
        for (number, one) in [
            (1, run(0, 4)),
            (1, run(9, 9)),
            (1, run(12, 20)),
            (2, run(3, 3)),
        ] {
            put(&mut batch, &boot(number), one);
        }
        store.apply(batch).unwrap();
        let before = at_or_before(&store, &boot(1), Seq(12), 2).unwrap();
        assert_eq!(before, [run(12, 20), run(9, 9)]);
        let after = at_or_after(&store, &boot(1), Seq(5), 9).unwrap();
        assert_eq!(after, [run(9, 9), run(12, 20)]);
        assert_eq!(at_or_before(&store, &boot(2), Seq(2), 9).unwrap(), []);
    }

    #[test]
    fn boots_of_a_device_are_walked_one_by_one() {
        let store = memory::store();
        let mut batch = Batch::default();
        for number in [4, 1, 2] {
            put(&mut batch, &boot(number), run(0, 1));
            put(&mut batch, &boot(number), run(5, 9));
        }
        store.apply(batch).unwrap();
        let mut found = Vec::new();
        let mut behind = None;
        while let Some(next) = next_boot(&store, &boot(0).device, behind.as_ref()).unwrap() {
            found.push(next.boot.0);
            behind = Some(next);
        }
        assert_eq!(found, [1, 2, 4]);
    }
}
