//! From outbox to sinks.

pub mod sink;
