//! An engine that lies.

use std::sync::Mutex;

use gateway::store::{Batch, Engine, EngineError, Row, Span};

/// An engine whose barrier is given before the commit is on the disk: the sync it was asked for happens when
/// the next batch comes.
pub struct Hasty {
    inner: Box<dyn Engine>,
    owed: Mutex<bool>,
}

impl Hasty {
    /// Makes an honest engine hasty.
    #[must_use]
    pub fn on(inner: Box<dyn Engine>) -> Self {
        let owed = Mutex::new(false);
        Self { inner, owed }
    }
}

impl Engine for Hasty {
    fn apply(&self, batch: &Batch) -> Result<(), EngineError> {
        let owed = self.owed.lock().map(|mut owed| std::mem::take(&mut *owed));
        if owed.map_err(|error| error.to_string())? {
            self.inner.sync()?;
        }
        self.inner.apply(batch)
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.inner.value(key)
    }

    fn scan(&self, span: &Span) -> Result<Vec<Row>, EngineError> {
        self.inner.scan(span)
    }

    fn sync(&self) -> Result<(), EngineError> {
        *self.owed.lock().map_err(|error| error.to_string())? = true;
        Ok(())
    }

    fn size_bytes(&self) -> Result<u64, EngineError> {
        self.inner.size_bytes()
    }

    fn live_bytes(&self) -> Result<u64, EngineError> {
        self.inner.live_bytes()
    }
}
