//! Which version of a plan is in force, as data.

use protocol::units::UtcMs;

/// Version of a plan and from when it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlanRevision {
    /// Rises with every change of the plan file.
    pub version: u32,
    /// From when it holds in event time; `None`: from the beginning.
    pub effective_from: Option<UtcMs>,
}
