//! What to measure when, and what measurements mean at once.

pub mod alarm;
pub mod plan;
pub mod shock;
