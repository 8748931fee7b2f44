//! What to measure when, and what measurements mean at once.

pub mod alarm;
pub mod burst;
pub mod fall;
pub mod plan;
pub mod shock;
