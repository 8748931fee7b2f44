//! End to end: what the tests of this crate share. Real processes, a ledger of promises, load.

pub mod backlog;
pub mod cable;
pub mod cost;
pub mod depot;
pub mod device;
pub mod effort;
pub mod fault;
pub mod flood;
pub mod kit;
pub mod ledger;
pub mod load;
pub mod mqtt;
pub mod peer;
pub mod plan;
pub mod power;
pub mod proxy;
pub mod shown;
pub mod sim_cut;
pub mod small_disk;
pub mod stand_in;
pub mod tracker;
pub mod trouble;
