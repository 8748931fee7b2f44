//! The depot gateway: durable ingest, rules, delivery.
//!
//! `pipeline.rs` shows the whole path on one screen; ARCHITECTURE.md says who may import whom.

pub mod account;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod deliver;
pub mod fold;
pub mod http;
pub mod ingest;
pub mod mqtt;
pub mod pipeline;
pub mod pki;
pub mod receipt;
pub mod store;
