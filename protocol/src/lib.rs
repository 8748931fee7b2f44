//! Wire types, units, topics and codec shared by tracker and gateway.
//!
//! `wire.cddl` beside this crate is the specification; the golden bytes in `tests/` freeze it.
//! Nothing here allocates, and nothing here needs the standard library.
#![cfg_attr(not(test), no_std)]

mod alarm;
pub mod batch;
mod bits;
mod delta;
pub mod downlink;
pub mod entry;
mod fault;
pub mod key;
mod message;
pub mod reading;
mod reckoning;
pub mod record;
mod row;
pub mod setting;
pub mod status;
pub mod topic;
pub mod units;
pub mod wire;

/// Version of the wire format: first element of every payload.
pub const WIRE_VERSION: u8 = 1;

#[cfg(test)]
extern crate self as protocol;

#[cfg(test)]
#[path = "../tests/journey/mod.rs"]
mod journey;
