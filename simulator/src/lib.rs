//! A world of trucks and goods that drives the real firmware over real TCP.
//!
//! ```text
//!   scenario --> world (ground truth) --> device (real tracker on simulated ports) --> gateway
//!                  |      \--> plan (what the gateway is told)                            |
//!                  \--> expect (what must, must not and may happen)  <-- delivered events --/
//! ```

pub mod clock;
pub mod device;
pub mod expect;
pub mod fleet;
pub mod plan;
pub mod recording;
pub mod scenario;
pub mod world;
