//! From outbox to sinks.

pub mod format;
pub mod sink;
