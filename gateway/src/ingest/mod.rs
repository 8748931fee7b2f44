//! Payload to journal.
