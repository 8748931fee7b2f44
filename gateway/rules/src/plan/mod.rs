//! The plan: shipments, profiles and fences, as a person writes them.

mod fault;
pub mod fence;
pub mod profile;
pub mod revision;
pub mod shipment;

pub use fault::PlanFault;

use fence::Fence;
use profile::Profile;
use revision::PlanRevision;
use shipment::Shipment;

/// Everything the rules are told besides records. References inside it are resolved: every fence and
/// profile that is named exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Which version, from when.
    pub revision: PlanRevision,
    /// In the order of the file.
    pub fences: Vec<Fence>,
    /// The shipped ones and those of the file, by name.
    pub profiles: Vec<Profile>,
    /// In the order of the file.
    pub shipments: Vec<Shipment>,
}

impl Plan {
    /// The plan of a gateway that has none: records are stored, nothing is judged.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            revision: PlanRevision {
                version: 0,
                effective_from: None,
            },
            fences: Vec::new(),
            profiles: Vec::new(),
            shipments: Vec::new(),
        }
    }

    /// The shipment with this id.
    #[must_use]
    pub fn shipment(&self, id: &str) -> Option<&Shipment> {
        self.shipments.iter().find(|shipment| shipment.id == id)
    }

    /// The profile with this name.
    #[must_use]
    pub fn profile(&self, name: &str) -> Option<&Profile> {
        self.profiles.iter().find(|profile| profile.name == name)
    }

    /// The fence with this id.
    #[must_use]
    pub fn fence(&self, id: &str) -> Option<&Fence> {
        self.fences.iter().find(|fence| fence.id == id)
    }
}
