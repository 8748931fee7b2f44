//! A shipment: what travels, which trackers watch it, where it shall stop.

use std::collections::BTreeMap;

use protocol::key::DeviceId;
use protocol::units::UtcMs;

/// What travels together under one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Shipment {
    /// Unique in the plan; part of every event id.
    pub id: String,
    /// The customer's names for it: order, customer, delivery note.
    pub references: BTreeMap<String, String>,
    /// Who is concerned: sender, carrier, recipient.
    pub parties: BTreeMap<String, String>,
    /// Name of the profile that judges its readings.
    pub profile: String,
    /// At least one.
    pub units: Vec<Unit>,
    /// In the order of travel.
    pub stops: Vec<Stop>,
}

/// One handling unit of a shipment: a pallet, a box, a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Unique in the shipment; part of event ids.
    pub id: String,
    /// Its GS1 key, if it has one.
    pub key: Option<Gs1Key>,
    /// Trackers on it.
    pub trackers: Vec<Attachment>,
}

/// A tracker on a unit for some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Device id of the tracker.
    pub device: DeviceId,
    /// From when its readings count; `None`: from its first.
    pub from: Option<UtcMs>,
    /// Until when, exclusively; `None`: for ever.
    pub until: Option<UtcMs>,
}

impl Attachment {
    /// Whether a reading at `time` counts for the unit.
    #[must_use]
    pub fn covers(&self, time: UtcMs) -> bool {
        self.from.is_none_or(|from| time >= from) && self.until.is_none_or(|until| time < until)
    }
}

/// A GS1 identification key of a logistic unit or asset, check digit verified.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gs1Key {
    /// Serial shipping container code, AI (00): 18 digits.
    Sscc(String),
    /// Global returnable asset identifier, AI (8003): 14 digits (leading 0, check digit last) and
    /// up to 16 characters of serial number.
    Grai(String),
    /// Global individual asset identifier, AI (8004): up to 30 characters, no check digit.
    Giai(String),
}

/// What a fence is to a shipment that stops there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Goods are handed to the carrier here.
    Pickup,
    /// Goods are handled or transferred here.
    Hub,
    /// Goods wait for clearance here.
    Customs,
    /// Goods are handed to the recipient here.
    Delivery,
}

/// One planned stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Unique in the shipment; part of milestone ids.
    pub id: String,
    /// Id of a fence of the plan.
    pub fence: String,
    /// What happens here.
    pub role: Role,
    /// Planned arrival, if there is one.
    pub window: Option<Window>,
}

/// A planned time window, `from` before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Earliest.
    pub from: UtcMs,
    /// Latest.
    pub until: UtcMs,
}
