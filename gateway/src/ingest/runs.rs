//! Which sequence numbers have been seen: the newest runs of each boot in memory, all of them in the store.
//!
//! The rows in the store, overlaid with what the open group has changed (`staged`), are the whole truth.
//! Memory mirrors its top: for numbers at or above `floor` it can answer alone, below that the rows are
//! looked up. Nothing is ever assumed seen, or new, because memory does not know it.

use std::collections::{BTreeMap, HashMap};

use protocol::key::Seq;

use crate::store::seen::{self, BootId, Run};
use crate::store::{Batch, Store, StoreError};

/// Runs kept in memory for each boot: a device that sends in order has one, one with a bad link a few.
pub(super) const RUNS_IN_MEMORY: usize = 64;

/// Boots kept in memory: a fleet of 10,000 with some restarts; each is below 2 KiB.
pub(super) const BOOTS_IN_MEMORY: usize = 16_384;

/// The seen runs.
pub(super) struct Runs {
    store: Store,
    boots: HashMap<BootId, Cached>,
    /// Boots used by the open group.
    touched: Vec<BootId>,
    runs_max: usize,
    boots_max: usize,
    /// Counts groups, to tell which boots were not used for long.
    group: u64,
}

#[derive(Default)]
struct Cached {
    /// First to last, all of them that lie at or above `floor`.
    runs: BTreeMap<u32, u32>,
    /// Lowest number about which, and about whose lower neighbour, `runs` is complete.
    floor: u64,
    /// Rows changed by the open group.
    staged: BTreeMap<u32, Option<u32>>,
    /// Group that used it last.
    used: u64,
}

impl Runs {
    pub(super) fn new(store: Store) -> Self {
        Self::bounded(store, RUNS_IN_MEMORY, BOOTS_IN_MEMORY)
    }

    fn bounded(store: Store, runs_max: usize, boots_max: usize) -> Self {
        Self {
            store,
            boots: HashMap::new(),
            touched: Vec::new(),
            runs_max,
            boots_max,
            group: 1,
        }
    }

    /// Marks a number as seen. Returns whether it was new.
    pub(super) fn insert(&mut self, boot: &BootId, seq: Seq) -> Result<bool, StoreError> {
        if !self.boots.contains_key(boot) {
            let loaded = load(&self.store, boot, self.runs_max)?;
            self.boots.insert(boot.clone(), loaded);
        }
        let Some(cached) = self.boots.get_mut(boot) else {
            return Ok(true);
        };
        if cached.used != self.group {
            cached.used = self.group;
            self.touched.push(boot.clone());
        }
        let seq = seq.0;
        let before = cached.at_or_before(&self.store, boot, seq)?;
        if before.is_some_and(|(_, last)| last >= seq) {
            return Ok(false);
        }
        let first = match before {
            Some((first, last)) if last.checked_add(1) == Some(seq) => first,
            _ => seq,
        };
        let after = match seq.checked_add(1) {
            Some(next) => cached.beginning_at(&self.store, boot, next)?,
            None => None,
        };
        if after.is_some() {
            cached.remove(seq + 1);
        }
        cached.put(first, after.unwrap_or(seq));
        Ok(true)
    }

    /// Adds the rows changed by the group to its batch.
    pub(super) fn write(&self, batch: &mut Batch) {
        let touched = self.touched.iter();
        for (boot, cached) in touched.filter_map(|boot| self.boots.get_key_value(boot)) {
            for (first, last) in &cached.staged {
                let first = Seq(*first);
                match last {
                    Some(last) => seen::put(
                        batch,
                        boot,
                        Run {
                            first,
                            last: Seq(*last),
                        },
                    ),
                    None => seen::remove(batch, boot, first),
                }
            }
        }
    }

    /// The group's batch is applied: memory goes back within its bounds.
    pub(super) fn settle(&mut self) {
        let runs_max = self.runs_max;
        for boot in self.touched.drain(..) {
            if let Some(cached) = self.boots.get_mut(&boot) {
                cached.staged.clear();
                cached.trim(runs_max);
            }
        }
        self.group += 1;
        if self.boots.len() > self.boots_max {
            self.evict();
        }
    }

    /// Forgets the half of the boots that were not used for longest; their rows stay.
    fn evict(&mut self) {
        let mut used: Vec<u64> = self.boots.values().map(|cached| cached.used).collect();
        let (_, median, _) = used.select_nth_unstable(self.boots.len() / 2);
        let median = *median;
        self.boots.retain(|_, cached| cached.used > median);
    }
}

fn load(store: &Store, boot: &BootId, runs_max: usize) -> Result<Cached, StoreError> {
    let mut newest = seen::at_or_before(store, boot, Seq(u32::MAX), runs_max + 1)?;
    let beyond = (newest.len() > runs_max).then(|| newest.pop()).flatten();
    Ok(Cached {
        runs: newest.iter().map(|run| (run.first.0, run.last.0)).collect(),
        floor: beyond.map_or(0, |run| floor_above(run.last.0)),
        ..Cached::default()
    })
}

/// The lowest number that neither lies in a run ending at `last` nor touches it.
fn floor_above(last: u32) -> u64 {
    u64::from(last) + 2
}

impl Cached {
    /// The run that begins at or before `seq`.
    fn at_or_before(
        &self,
        store: &Store,
        boot: &BootId,
        seq: u32,
    ) -> Result<Option<(u32, u32)>, StoreError> {
        if u64::from(seq) >= self.floor {
            return Ok(self.runs.range(..=seq).next_back().map(pair));
        }
        let staged = self.staged.range(..=seq).rev();
        let staged = staged
            .filter_map(|(first, last)| Some((*first, (*last)?)))
            .next();
        let mut upto = seq;
        let stored = loop {
            let found = seen::at_or_before(store, boot, Seq(upto), 1)?.pop();
            match found.map(|run| (run.first.0, run.last.0)) {
                Some((first, _)) if self.staged.contains_key(&first) => {
                    match first.checked_sub(1) {
                        Some(lower) => upto = lower,
                        None => break None,
                    }
                }
                other => break other,
            }
        };
        Ok(staged.max(stored))
    }

    /// The last number of the run that begins at `first`.
    fn beginning_at(
        &self,
        store: &Store,
        boot: &BootId,
        first: u32,
    ) -> Result<Option<u32>, StoreError> {
        if u64::from(first) >= self.floor {
            return Ok(self.runs.get(&first).copied());
        }
        match self.staged.get(&first) {
            Some(staged) => Ok(*staged),
            None => Ok(seen::beginning_at(store, boot, Seq(first))?.map(|run| run.last.0)),
        }
    }

    fn remove(&mut self, first: u32) {
        self.runs.remove(&first);
        self.staged.insert(first, None);
    }

    fn put(&mut self, first: u32, last: u32) {
        self.staged.insert(first, Some(last));
        if u64::from(first) >= self.floor {
            self.runs.insert(first, last);
        } else {
            self.raise_floor(floor_above(last));
        }
    }

    fn raise_floor(&mut self, floor: u64) {
        if floor > self.floor {
            self.floor = floor;
            self.runs.retain(|first, _| u64::from(*first) >= floor);
        }
    }

    fn trim(&mut self, runs_max: usize) {
        while self.runs.len() > runs_max
            && let Some((_, last)) = self.runs.pop_first()
        {
            self.raise_floor(floor_above(last));
        }
    }
}

fn pair((first, last): (&u32, &u32)) -> (u32, u32) {
    (*first, *last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory;
    use proptest::prelude::*;
    use protocol::key::{Boot, Epoch};
    use std::collections::HashSet;

    fn boot(boot: u32) -> BootId {
        BootId {
            device: "t".parse().unwrap(),
            epoch: Epoch(1),
            boot: Boot(boot),
        }
    }

    fn finish_group(runs: &mut Runs, store: &Store) {
        let mut batch = Batch::default();
        runs.write(&mut batch);
        store.apply(batch).unwrap();
        runs.settle();
    }

    #[test]
    fn the_ends_of_the_number_space_are_numbers_like_others() {
        let store = memory::store();
        let mut runs = Runs::new(store.clone());
        for seq in [u32::MAX, 0, u32::MAX - 1, 1] {
            assert!(runs.insert(&boot(0), Seq(seq)).unwrap());
            assert!(!runs.insert(&boot(0), Seq(seq)).unwrap());
        }
        finish_group(&mut runs, &store);
        let stored = seen::at_or_before(&store, &boot(0), Seq(u32::MAX), 9).unwrap();
        assert_eq!(stored.len(), 2);
    }

    proptest! {
        /// Whatever order numbers come in, however little memory there is, and wherever it is lost,
        /// a number is new exactly once, and the rows are the runs of the numbers that came.
        #[test]
        fn a_number_is_new_exactly_once(
            groups in prop::collection::vec(
                (prop::collection::vec((0_u32..2, 0_u32..48), 0..24), any::<bool>()), 1..24),
            runs_max in 1_usize..5,
            boots_max in 1_usize..3,
        ) {
            let store = memory::store();
            let mut runs = Runs::bounded(store.clone(), runs_max, boots_max);
            let mut model = HashSet::new();
            for (numbers, forget) in groups {
                for (number, seq) in numbers {
                    let new = runs.insert(&boot(number), Seq(seq)).unwrap();
                    prop_assert_eq!(new, model.insert((number, seq)), "boot {} seq {}", number, seq);
                }
                finish_group(&mut runs, &store);
                prop_assert!(runs.boots.values().all(|cached| cached.runs.len() <= runs_max));
                if forget {
                    runs = Runs::bounded(store.clone(), runs_max, boots_max);
                }
            }
            for number in 0..2 {
                let rows = seen::at_or_after(&store, &boot(number), Seq(0), 99).unwrap();
                let listed = rows.iter().flat_map(|run| run.first.0..=run.last.0);
                let expected: Vec<u32> =
                    (0..48).filter(|seq| model.contains(&(number, *seq))).collect();
                prop_assert_eq!(listed.collect::<Vec<u32>>(), expected);
                let apart = rows.windows(2).all(|pair| pair[0].last.0 + 1 < pair[1].first.0);
                prop_assert!(apart, "runs that touch must be one: {:?}", rows);
            }
        }
    }
}
