//! Wire types, units, topics and codec shared by tracker and gateway.
//!
//! `wire.cddl` beside this crate is the specification; the golden bytes in `tests/` freeze it.
//! Nothing here allocates, and nothing here needs the standard library.
#![cfg_attr(not(test), no_std)]

pub mod batch;
mod delta;
pub mod downlink;
pub mod entry;
pub mod key;
mod message;
pub mod reading;
pub mod record;
mod row;
pub mod status;
pub mod topic;
pub mod units;
pub mod wire;

/// Version of the wire format: first element of every payload.
pub const WIRE_VERSION: u8 = 1;
