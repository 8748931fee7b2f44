//! Which version of a plan is in force, as data.

use protocol::units::UtcMs;

use super::fault::Faults;
use super::reader::Table;
use super::value;

/// Version of a plan and from when it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlanRevision {
    /// Rises with every change of the plan file.
    pub version: u32,
    /// From when it holds in event time; `None`: from the beginning.
    pub effective_from: Option<UtcMs>,
}

impl PlanRevision {
    pub(super) fn read(root: &Table<'_, '_>, faults: &mut Faults<'_>) -> Option<Self> {
        let version = value::integer(1..=i64::from(u32::MAX));
        let version = root.required("version", "a whole number from 1", faults, version);
        let effective_from = root.optional("effective_from", faults, value::time);
        Some(Self {
            version: u32::try_from(version?).ok()?,
            effective_from,
        })
    }
}
