//! A world of trucks and goods that drives the real firmware over real TCP.
pub mod scenario;
pub mod world;
