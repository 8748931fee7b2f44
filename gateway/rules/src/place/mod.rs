//! Where things are: fixes, distances, presence in fences, motion.

pub mod distance;
pub mod fix;
pub mod index;
pub mod motion;
pub mod presence;
