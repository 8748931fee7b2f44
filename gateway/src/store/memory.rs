//! An engine in memory for tests, which can cut its own power: what was not synced is gone.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use super::{Batch, Engine, EngineError, Order, Row, Span, Store};

pub(crate) type Tree = BTreeMap<Vec<u8>, Vec<u8>>;

/// Clones share the "disk", which outlives the stores opened on it.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Disk>>);

#[derive(Default)]
struct Disk {
    live: Tree,
    synced: Tree,
    fail_sync: bool,
    hang_sync: bool,
    /// What was there after each write, if somebody wants to know.
    moments: Option<Vec<Tree>>,
}

/// A fresh store in memory.
pub(crate) fn store() -> Store {
    Memory::default().open()
}

impl Memory {
    /// A store on this disk.
    pub(crate) fn open(&self) -> Store {
        Store::with_engine(Box::new(self.clone()), Path::new("memory")).unwrap()
    }

    /// Loses everything since the last sync.
    pub(crate) fn cut_power(&self) {
        let mut disk = self.disk();
        disk.live = disk.synced.clone();
    }

    /// Flips a bit of a row's value, as a bad disk does.
    pub(crate) fn damage(&self, key: &[u8]) {
        let mut disk = self.disk();
        let value = disk.live.get_mut(key).unwrap();
        *value.last_mut().unwrap() ^= 1;
    }

    /// A disk with these rows.
    pub(crate) fn holding(rows: Tree) -> Self {
        let disk = Disk {
            synced: rows.clone(),
            live: rows,
            ..Disk::default()
        };
        Self(Arc::new(Mutex::new(disk)))
    }

    /// From now on remembers what is there after each write: since the log is one, each of it is what a power
    /// cut may leave.
    pub(crate) fn remember_writes(&self) {
        self.disk().moments = Some(Vec::new());
    }

    /// What was there after each write.
    pub(crate) fn moments(&self) -> Vec<Tree> {
        self.disk().moments.take().unwrap_or_default()
    }

    /// The keys that start with `prefix`.
    pub(crate) fn keys(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        let disk = self.disk();
        let keys = disk.live.keys().filter(|key| key.starts_with(prefix));
        keys.cloned().collect()
    }

    /// Changes what is on the disk behind everybody's back.
    pub(crate) fn tamper(&self, change: impl Fn(&mut Tree)) {
        let mut disk = self.disk();
        change(&mut disk.live);
        change(&mut disk.synced);
    }

    /// Every later sync fails.
    pub(crate) fn fail_syncs(&self) {
        self.disk().fail_sync = true;
    }

    /// No later sync returns.
    pub(crate) fn hang_syncs(&self) {
        self.disk().hang_sync = true;
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }
}

impl Engine for Memory {
    fn apply(&self, batch: &Batch) -> Result<(), EngineError> {
        let mut disk = self.disk();
        for (key, value) in batch.writes() {
            match value {
                Some(value) => drop(disk.live.insert(key.to_vec(), value.to_vec())),
                None => drop(disk.live.remove(key)),
            }
        }
        let Disk { live, moments, .. } = &mut *disk;
        if let Some(moments) = moments {
            moments.push(live.clone());
        }
        Ok(())
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.disk().live.get(key).cloned())
    }

    fn scan(&self, span: &Span) -> Result<Vec<Row>, EngineError> {
        let disk = self.disk();
        let until = match &span.until {
            Some(until) if *until <= span.from => return Ok(Vec::new()),
            Some(until) => Bound::Excluded(until.clone()),
            None => Bound::Unbounded,
        };
        let range = disk.live.range((Bound::Included(span.from.clone()), until));
        let row = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        Ok(match span.order {
            Order::Ascending => range.take(span.limit_rows).map(row).collect(),
            Order::Descending => range.rev().take(span.limit_rows).map(row).collect(),
        })
    }

    fn sync(&self) -> Result<(), EngineError> {
        while self.disk().hang_sync {
            thread::park();
        }
        let mut disk = self.disk();
        if disk.fail_sync {
            return Err("input/output error".into());
        }
        disk.synced = disk.live.clone();
        Ok(())
    }

    fn size_bytes(&self) -> Result<u64, EngineError> {
        Engine::live_bytes(self)
    }

    fn live_bytes(&self) -> Result<u64, EngineError> {
        let disk = self.disk();
        let sizes = disk.live.iter().map(|(key, value)| key.len() + value.len());
        Ok(sizes.sum::<usize>() as u64)
    }
}
