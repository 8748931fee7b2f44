//! Where things are: distances, presence in fences, motion.

pub mod distance;
