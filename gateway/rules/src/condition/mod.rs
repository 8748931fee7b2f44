//! What happens to the goods: excursions, shocks, the tracker's own state.

pub mod device;
pub mod excursion;
pub mod fall;
pub mod figures;
pub mod gap;
pub mod limit;
pub mod shock;
