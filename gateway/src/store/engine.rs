//! What the store asks of an engine: little, so that a second one passes the same suite.

use super::Batch;

/// Direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// A stretch of keys to read.
#[derive(Clone, Debug)]
pub struct Span {
    /// First key, included.
    pub from: Vec<u8>,
    /// End, excluded; `None` for the end of the tree.
    pub until: Option<Vec<u8>>,
    /// From which end.
    pub order: Order,
    /// Most rows.
    pub limit_rows: usize,
}

/// Key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// An ordered store of bytes. Small, so that a second engine passes the same suite.
pub trait Engine: Send + Sync {
    /// Applies all writes of `batch`, or after a crash none of them. Never called concurrently.
    ///
    /// # Errors
    /// When the write failed; the engine is not used again.
    fn apply(&self, batch: &Batch) -> Result<(), EngineError>;

    /// The value of `key`.
    ///
    /// # Errors
    /// When it could not be read.
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;

    /// The rows of `span`, in its order, at most its limit.
    ///
    /// # Errors
    /// When they could not be read.
    fn scan(&self, span: &Span) -> Result<Vec<Row>, EngineError>;

    /// Returns when everything applied before the call survives a power cut.
    ///
    /// # Errors
    /// When that is not certain; the engine is not used again.
    fn sync(&self) -> Result<(), EngineError>;

    /// Bytes on disk.
    ///
    /// # Errors
    /// When they could not be counted.
    fn size_bytes(&self) -> Result<u64, EngineError>;

    /// Bytes of the keys and values that are there now: what is on disk less what the engine needs and
    /// what it has not yet given back. Reads every row, so it is for a person, a bench or a daily look.
    ///
    /// # Errors
    /// When they could not be read.
    fn live_bytes(&self) -> Result<u64, EngineError>;
}

/// What an engine says when an operation failed.
pub type EngineError = Box<dyn std::error::Error + Send + Sync>;
