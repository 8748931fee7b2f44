//! From outbox to sinks.
