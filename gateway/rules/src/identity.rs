//! Names that do not depend on luck: event ids and content digests.
//!
//! Both are SHA-256 over canonical bytes, so that two gateways that know the same records give an
//! event the same id, whatever the order in which the records came.

use protocol::key::{DeviceId, RecordKey};
use protocol::units::UtcMs;
use sha2::{Digest, Sha256};

use crate::event::{CaseId, Event, EventId};

/// Bytes of the hash kept in an event id: 128 bits, no collision to be expected in a fleet's life.
const ID_BYTES: usize = 16;

/// What tells apart two events of the same rule, unit and probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening<'a> {
    /// The plan's stop, for milestones.
    Stop(&'a str),
    /// The record that opened it, for episodes.
    Record(&'a DeviceId, RecordKey),
    /// The moment it happened, for what concerns the gateway itself.
    Moment(UtcMs),
}

/// What an event is about, and therefore what its id is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// Shipment id.
    pub shipment: &'a str,
    /// Name of the rule.
    pub rule: &'a str,
    /// Logistic unit, if it is about one.
    pub unit: Option<&'a str>,
    /// Temperature probe, if it is about one.
    pub probe: Option<u8>,
    /// What opened it.
    pub opening: Opening<'a>,
}

/// The event id of `subject`.
///
/// Fields are separated by the byte 0x1f and an absent field is the byte 0x00, which no field can
/// contain: plan ids are printable text.
#[must_use]
pub fn event_id(subject: &Subject<'_>) -> EventId {
    let mut hash = Sha256::new();
    let mut field = |text: Option<&str>| {
        hash.update(text.map_or(&[0_u8][..], str::as_bytes));
        hash.update([0x1f]);
    };
    field(Some(subject.shipment));
    field(Some(subject.rule));
    field(subject.unit);
    field(subject.probe.map(|probe| probe.to_string()).as_deref());
    match subject.opening {
        Opening::Stop(stop) => {
            field(Some("stop"));
            field(Some(stop));
        }
        Opening::Record(device, key) => {
            field(Some("record"));
            field(Some(device.as_str()));
            field(Some(&key.to_string()));
        }
        Opening::Moment(at) => {
            field(Some("moment"));
            field(Some(&at.get().to_string()));
        }
    }
    EventId(hex(&hash.finalize()[..ID_BYTES]))
}

/// The case an event opens when it replaces no other.
#[must_use]
pub fn case_id(event: &EventId) -> CaseId {
    CaseId(event.0.clone())
}

/// Digest of everything an event states: 64 hex digits.
///
/// An [`Event`] holds no receive time, lateness, gateway, case or revision number, so its canonical
/// JSON (fields in declaration order, maps sorted, floats quantised) is what equality means.
///
/// # Panics
/// Never: an event has only text keys and finite numbers.
#[must_use]
pub fn digest(event: &Event) -> String {
    #[expect(
        clippy::expect_used,
        reason = "serialising to memory fails only for maps with keys that are no text; an event has none"
    )]
    let json = serde_json::to_vec(event).expect("an event's maps have text keys");
    hex(&Sha256::digest(&json))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(opening: Opening<'_>) -> Subject<'_> {
        Subject {
            shipment: "S-1",
            rule: "hot",
            unit: Some("pallet-1"),
            probe: Some(0),
            opening,
        }
    }

    #[test]
    fn an_event_id_is_frozen() {
        // If this fails, do not change the test: stored events and receivers know the old ids.
        let device: DeviceId = "t-1".parse().unwrap();
        let opening = Opening::Record(&device, RecordKey::new(1, 2, 3));
        let id = event_id(&subject(opening));
        assert_eq!(id.as_str(), "d78d55c13a227d8fab6ea1f20865b199");
    }

    #[test]
    fn each_part_of_the_subject_changes_the_id() {
        let base = subject(Opening::Stop("a"));
        let others = [
            Subject {
                shipment: "S-2",
                ..base
            },
            Subject {
                rule: "cold",
                ..base
            },
            Subject { unit: None, ..base },
            Subject {
                probe: None,
                ..base
            },
            subject(Opening::Stop("b")),
        ];
        for other in others {
            assert_ne!(event_id(&other), event_id(&base), "{other:?}");
        }
    }
}
