//! The world: what is true, whatever anybody measures.
pub mod lane;
pub mod noise;
pub mod truck;
