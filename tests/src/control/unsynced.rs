//! A control that must fail: the gateway on an engine of its own, which is the shipped one without the
//! barrier. Its sync hands everything to the kernel and returns, as sled's own flush does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use gateway::store::{Batch, Engine, EngineError, Order, Row, Span, Store, StoreError};
use tests::stand_in;

/// Like the shipped engine's: larger nodes would go to files of their own.
const SEGMENT_BYTES: usize = 8 * 1024 * 1024;

fn main() -> Result<ExitCode> {
    stand_in::run(|_, folder, patience, _| {
        let engine = Box::new(Unsynced::open(folder)?);
        Ok(Store::with_patience(engine, folder, patience)?)
    })
}

/// sled as it comes.
struct Unsynced(sled::Db);

impl Unsynced {
    /// Like the shipped engine, it says whether what it found is damaged or could not be reached.
    fn open(folder: &Path) -> Result<Self> {
        let config = sled::Config::new()
            .path(folder)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(None);
        let detail = match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Ok(db)) => return Ok(Self(db)),
            Ok(Err(sled::Error::Io(source))) => return Err(source).context("open sled"),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "sled panicked".to_owned(),
        };
        let path = folder.to_owned();
        Err(StoreError::Damaged { path, detail }.into())
    }
}

impl Engine for Unsynced {
    fn apply(&self, batch: &Batch) -> Result<(), EngineError> {
        let mut writes = sled::Batch::default();
        for (key, value) in batch.writes() {
            match value {
                Some(value) => writes.insert(key, value),
                None => writes.remove(key),
            }
        }
        Ok(self.0.apply_batch(writes)?)
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.0.get(key)?.map(|value| value.to_vec()))
    }

    fn scan(&self, span: &Span) -> Result<Vec<Row>, EngineError> {
        let until = span.until.clone();
        let rows = self.0.range(span.from.clone()..);
        let inside = move |row: &sled::Result<(sled::IVec, sled::IVec)>| match (row, &until) {
            (Ok((key, _)), Some(until)) => key.as_ref() < until.as_slice(),
            _ => true,
        };
        let mut found = Vec::new();
        for row in rows.take_while(inside) {
            let (key, value) = row?;
            found.push((key.to_vec(), value.to_vec()));
        }
        if span.order == Order::Descending {
            found.reverse();
        }
        found.truncate(span.limit_rows);
        Ok(found)
    }

    fn sync(&self) -> Result<(), EngineError> {
        // The shipped engine syncs the file here. That is all that is missing.
        self.0.flush()?;
        Ok(())
    }

    fn size_bytes(&self) -> Result<u64, EngineError> {
        Ok(self.0.size_on_disk()?)
    }

    fn live_bytes(&self) -> Result<u64, EngineError> {
        // Nothing that the tests ask of this control looks at it.
        self.size_bytes()
    }
}
