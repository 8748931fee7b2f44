//! A shipment: what travels, which trackers watch it, where it shall stop.

use std::collections::{BTreeMap, BTreeSet};

use protocol::key::DeviceId;
use protocol::units::UtcMs;
use toml::de::DeValue;

use super::fault::{Faults, Problem};
use super::gs1::{self, Gs1Key};
use super::reader::{Table, Unique};
use super::value::{self, ID_ALLOWED};

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

/// Most units of one shipment: a full trailer has 33 pallets.
pub const UNITS_MAX: usize = 64;

/// Most trackers on one unit over its journey: swaps included.
pub const ATTACHMENTS_MAX: usize = 16;

/// Most stops of one shipment: a day of milk runs.
pub const STOPS_MAX: usize = 64;

/// Most references, and most parties, of one shipment.
const NAMES_MAX: usize = 32;

const ROLES: [(&str, Role); 4] = [
    ("pickup", Role::Pickup),
    ("hub", Role::Hub),
    ("customs", Role::Customs),
    ("delivery", Role::Delivery),
];

/// What a shipment may name: the ids of the plan's fences and the names of its profiles.
pub(super) struct Known<'k> {
    pub(super) fences: BTreeSet<&'k str>,
    pub(super) profiles: BTreeSet<&'k str>,
}

impl Shipment {
    /// When it shall be over by the plan: at the end of the last stop's window, or when its last tracker is
    /// taken off, and not before any window; `None` when the plan says neither.
    #[must_use]
    pub fn planned_end(&self) -> Option<UtcMs> {
        let trackers = || self.units.iter().flat_map(|unit| &unit.trackers);
        let taken_off: Option<Vec<UtcMs>> = trackers().map(|attached| attached.until).collect();
        let taken_off = taken_off.and_then(|times| times.into_iter().max());
        let windows = self.stops.iter().filter_map(|stop| stop.window);
        let latest = windows.map(|window| window.until).max();
        let last = self.stops.last().and_then(|stop| stop.window);
        let stated = last.map(|window| window.until).max(taken_off)?;
        latest.max(Some(stated))
    }

    pub(super) fn read(
        table: &Table<'_, '_>,
        known: &Known<'_>,
        faults: &mut Faults<'_>,
    ) -> Option<Self> {
        table.check_keys(
            &["id", "references", "parties", "profile", "unit", "stop"],
            faults,
        );
        let id = table.required("id", ID_ALLOWED, faults, value::id);
        let references = names(table, "references", faults);
        let parties = names(table, "parties", faults);
        let profile = table.required("profile", "the name of a profile", faults, |value| {
            named(value, &known.profiles, "no such profile")
        });
        let units = Unit::read_all(table, faults);
        let stops = Stop::read_all(table, known, faults);
        Some(Self {
            id: id?,
            references,
            parties,
            profile: profile?,
            units,
            stops,
        })
    }
}

impl Unit {
    fn read_all(shipment: &Table<'_, '_>, faults: &mut Faults<'_>) -> Vec<Self> {
        let tables = shipment.tables("unit", UNITS_MAX, faults);
        if tables.is_empty() {
            shipment.refuse(
                Problem::new("has no unit", "at least one [[shipment.unit]]"),
                faults,
            );
        }
        let mut seen = Unique::new("of the shipment's units");
        let units = tables.iter().filter_map(|table| {
            let unit = Self::read(table, faults)?;
            seen.check(table, "id", &unit.id, faults);
            Some(unit)
        });
        units.collect()
    }

    fn read(table: &Table<'_, '_>, faults: &mut Faults<'_>) -> Option<Self> {
        table.check_keys(
            &["id", "sscc", "grai", "giai", "trackers", "tracker"],
            faults,
        );
        let id = table.required("id", ID_ALLOWED, faults, value::id);
        let keys = [
            table.optional("sscc", faults, gs1::sscc),
            table.optional("grai", faults, gs1::grai),
            table.optional("giai", faults, gs1::giai),
        ];
        let mut keys = keys.into_iter().flatten();
        let key = keys.next();
        if keys.next().is_some() {
            table.refuse(
                Problem::new("more than one GS1 key", "one of sscc, grai, giai"),
                faults,
            );
        }
        let short = table.list("trackers", ATTACHMENTS_MAX, faults);
        let short = short.iter().filter_map(|node| {
            let device = node.read(faults, value::device)?;
            Some(Attachment {
                device,
                from: None,
                until: None,
            })
        });
        let mut trackers: Vec<Attachment> = short.collect();
        let long = table.tables("tracker", ATTACHMENTS_MAX, faults);
        trackers.extend(
            long.iter()
                .filter_map(|table| Attachment::read(table, faults)),
        );
        Some(Self {
            id: id?,
            key,
            trackers,
        })
    }
}

impl Attachment {
    fn read(table: &Table<'_, '_>, faults: &mut Faults<'_>) -> Option<Self> {
        table.check_keys(&["device", "from", "until"], faults);
        let device = table.required("device", "a device id", faults, value::device);
        let from = table.optional("from", faults, value::time);
        let until = table.optional("until", faults, value::time);
        check_order(table, from, until, faults);
        Some(Self {
            device: device?,
            from,
            until,
        })
    }

    /// Whether both say that the same tracker is on two things at once.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let before = |a: Option<UtcMs>, b: Option<UtcMs>| a.zip(b).is_some_and(|(a, b)| a <= b);
        self.device == other.device
            && !before(self.until, other.from)
            && !before(other.until, self.from)
    }
}

impl Stop {
    fn read_all(shipment: &Table<'_, '_>, known: &Known<'_>, faults: &mut Faults<'_>) -> Vec<Self> {
        let mut seen = Unique::new("of the shipment's stops");
        let tables = shipment.tables("stop", STOPS_MAX, faults);
        let stops = tables.iter().filter_map(|table| {
            let stop = Self::read(table, known, faults)?;
            seen.check(table, "id", &stop.id, faults);
            Some(stop)
        });
        stops.collect()
    }

    fn read(table: &Table<'_, '_>, known: &Known<'_>, faults: &mut Faults<'_>) -> Option<Self> {
        table.check_keys(&["id", "fence", "role", "window"], faults);
        let id = table.required("id", ID_ALLOWED, faults, value::id);
        let fence = table.required("fence", "the id of a fence", faults, |value| {
            named(value, &known.fences, "no such fence")
        });
        let allowed = "pickup, hub, customs or delivery";
        let role = table.required("role", allowed, faults, value::choice(&ROLES));
        let window = table
            .table("window", faults)
            .and_then(|table| Window::read(&table, faults));
        Some(Self {
            id: id?,
            fence: fence?,
            role: role?,
            window,
        })
    }
}

impl Window {
    fn read(table: &Table<'_, '_>, faults: &mut Faults<'_>) -> Option<Self> {
        table.check_keys(&["from", "until"], faults);
        let from = table.required("from", "a moment", faults, value::time);
        let until = table.required("until", "a moment", faults, value::time);
        check_order(table, from, until, faults);
        Some(Self {
            from: from?,
            until: until?,
        })
    }
}

fn check_order(
    table: &Table<'_, '_>,
    from: Option<UtcMs>,
    until: Option<UtcMs>,
    faults: &mut Faults<'_>,
) {
    if from.zip(until).is_some_and(|(from, until)| from >= until) {
        table.refuse(
            Problem::new("ends before it begins", "from earlier than until"),
            faults,
        );
    }
}

fn named(value: &DeValue<'_>, known: &BTreeSet<&str>, problem: &str) -> Result<String, Problem> {
    let text = value::string(value, "a name")?;
    if known.contains(text) {
        Ok(text.to_owned())
    } else {
        Err(Problem::choice(problem, text, known.iter().copied()))
    }
}

fn names(table: &Table<'_, '_>, key: &str, faults: &mut Faults<'_>) -> BTreeMap<String, String> {
    let Some(names) = table.table(key, faults) else {
        return BTreeMap::new();
    };
    let read = names.nodes().take(NAMES_MAX).filter_map(|(name, node)| {
        let text = node.read(faults, value::text)?;
        Some((name.to_owned(), text))
    });
    let read = read.collect();
    if names.nodes().count() > NAMES_MAX {
        names.refuse(
            Problem::new("too many names", format!("at most {NAMES_MAX}")),
            faults,
        );
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: i64) -> UtcMs {
        UtcMs::saturating(ms)
    }

    /// A shipment with stops whose windows end at these times, and trackers that are taken off at these.
    fn shipment(windows: &[Option<i64>], trackers: &[Option<i64>]) -> Shipment {
        let stop = |until: &Option<i64>| Stop {
            id: String::new(),
            fence: String::new(),
            role: Role::Hub,
            window: until.map(|until| Window {
                from: at(0),
                until: at(until),
            }),
        };
        let attached = |until: &Option<i64>| Attachment {
            device: "t".parse().unwrap(),
            from: None,
            until: until.map(at),
        };
        Shipment {
            id: String::new(),
            references: BTreeMap::new(),
            parties: BTreeMap::new(),
            profile: String::new(),
            units: vec![Unit {
                id: String::new(),
                key: None,
                trackers: trackers.iter().map(attached).collect(),
            }],
            stops: windows.iter().map(stop).collect(),
        }
    }

    #[test]
    fn a_planned_end_is_stated_by_the_last_window_or_by_the_removal_of_every_tracker() {
        let end = |windows: &[Option<i64>], trackers: &[Option<i64>]| {
            shipment(windows, trackers).planned_end().map(UtcMs::get)
        };
        assert_eq!(end(&[Some(5), Some(9)], &[None]), Some(9));
        assert_eq!(end(&[Some(12), Some(9)], &[None]), Some(12));
        assert_eq!(
            end(&[Some(5), None], &[None]),
            None,
            "the last stop has none"
        );
        assert_eq!(
            end(&[Some(5), None], &[Some(7), None]),
            None,
            "one stays on"
        );
        assert_eq!(end(&[Some(5), None], &[Some(7), Some(8)]), Some(8));
        assert_eq!(end(&[Some(5), Some(9)], &[Some(20)]), Some(20));
        assert_eq!(end(&[], &[]), None);
    }
}
