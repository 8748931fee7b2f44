//! Wire types, units, topics and codec shared by tracker and gateway.
//!
//! `wire.cddl` beside this crate is the specification; the golden bytes in `tests/` freeze it.
//! Nothing here allocates, and nothing here needs the standard library.
#![cfg_attr(not(test), no_std)]

pub mod downlink;
pub mod key;
pub mod reading;
pub mod record;
pub mod status;
pub mod topic;
pub mod units;

/// Version of the wire format: first element of every payload.
pub const WIRE_VERSION: u8 = 1;
