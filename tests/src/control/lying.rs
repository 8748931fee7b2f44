//! Engines that lie, for controls: a sync that does nothing, seen runs that are one short, rows that pass for
//! sound whatever they hold.

use gateway::store::seen::{self, BootId, Run};
use gateway::store::{Batch, Engine, EngineError, Row, Span};
use protocol::key::{Boot, Epoch, Seq};

/// Says that everything is durable at once.
pub(crate) struct NoSync(pub(crate) Box<dyn Engine>);

impl Engine for NoSync {
    fn apply(&self, batch: &Batch) -> Result<(), EngineError> {
        self.0.apply(batch)
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.0.value(key)
    }

    fn scan(&self, span: &Span) -> Result<Vec<Row>, EngineError> {
        self.0.scan(span)
    }

    fn sync(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn size_bytes(&self) -> Result<u64, EngineError> {
        self.0.size_bytes()
    }

    fn live_bytes(&self) -> Result<u64, EngineError> {
        self.0.live_bytes()
    }
}

/// Notes every run of seen sequence numbers without its last one.
pub(crate) struct ShortRuns(pub(crate) Box<dyn Engine>);

impl Engine for ShortRuns {
    fn apply(&self, batch: &Batch) -> Result<(), EngineError> {
        let mut short = batch.clone();
        for (key, value) in batch.writes() {
            if let Some((boot, first)) = value.and_then(|_| run_of(key))
                && let Some(last) = value.and_then(last_of)
                && last > first
            {
                let last = Seq(last.0 - 1);
                seen::put(&mut short, &boot, Run { first, last });
            }
        }
        self.0.apply(&short)
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.0.value(key)
    }

    fn scan(&self, span: &Span) -> Result<Vec<Row>, EngineError> {
        self.0.scan(span)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.0.sync()
    }

    fn size_bytes(&self) -> Result<u64, EngineError> {
        self.0.size_bytes()
    }

    fn live_bytes(&self) -> Result<u64, EngineError> {
        self.0.live_bytes()
    }
}

/// Gives every row the checksum that it should have: as if nobody looked.
pub(crate) struct Believing(pub(crate) Box<dyn Engine>);

impl Engine for Believing {
    fn apply(&self, batch: &Batch) -> Result<(), EngineError> {
        self.0.apply(batch)
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let value = self.0.value(key)?;
        Ok(value.map(|value| sealed(key, value)))
    }

    fn scan(&self, span: &Span) -> Result<Vec<Row>, EngineError> {
        let rows = self.0.scan(span)?.into_iter();
        let believed = rows.map(|(key, value)| {
            let value = sealed(&key, value);
            (key, value)
        });
        Ok(believed.collect())
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.0.sync()
    }

    fn size_bytes(&self) -> Result<u64, EngineError> {
        self.0.size_bytes()
    }

    fn live_bytes(&self) -> Result<u64, EngineError> {
        self.0.live_bytes()
    }
}

/// The last four bytes become the checksum of key and value, as the store has them.
fn sealed(key: &[u8], mut row: Vec<u8>) -> Vec<u8> {
    row.truncate(row.len().saturating_sub(4));
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(&row);
    row.extend_from_slice(&hasher.finalize().to_le_bytes());
    row
}

/// `d| device 0 0 epoch u64 boot u32 first u32`, as the store lays a run out; a device id has no zero.
fn run_of(key: &[u8]) -> Option<(BootId, Seq)> {
    let (name, rest) = key.strip_prefix(b"d|")?.split_at_checked(key.len() - 20)?;
    let (epoch, rest) = rest.strip_prefix(&[0, 0])?.split_first_chunk::<8>()?;
    let (boot, first) = rest.split_first_chunk::<4>()?;
    let boot = BootId {
        device: std::str::from_utf8(name).ok()?.parse().ok()?,
        epoch: Epoch(u64::from_be_bytes(*epoch)),
        boot: Boot(u32::from_be_bytes(*boot)),
    };
    Some((boot, Seq(u32::from_be_bytes(first.try_into().ok()?))))
}

/// The last number of a run: the first four bytes of its value, a checksum follows.
fn last_of(value: &[u8]) -> Option<Seq> {
    let (last, _) = value.split_first_chunk::<4>()?;
    Some(Seq(u32::from_be_bytes(*last)))
}
