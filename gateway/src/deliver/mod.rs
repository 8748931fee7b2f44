//! From outbox to sinks.

pub mod engine;
pub mod format;
pub mod health;
pub mod sink;
