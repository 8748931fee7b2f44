//! The plan: shipments, profiles and fences, as a person writes them.
//!
//! # Format
//!
//! A plan is a TOML file. Durations are texts with a unit (`"90s"`, `"15min"`, `"10h"`, `"2d"`), times
//! are TOML date-times with an offset, distances are metres (`_m`), temperatures degrees Celsius.
//! Unknown keys are errors.
//!
//! ```
//! # let plan = rules::plan::Plan::parse(r#"
//! version = 3                              # rises with every change
//! effective_from = 2026-03-01T00:00:00Z    # optional
//!
//! [[fence]]                                # a circle ...
//! id = "rtm"
//! name = "Rotterdam cold store"
//! lat = 51.924
//! lon = 4.478
//! radius_m = 400
//! inside_m = 0                             # optional: how deep counts as inside
//! outside_m = 30                           # optional: how far counts as outside
//!
//! [[fence]]                                # ... or a polygon of [longitude, latitude] ...
//! id = "muc"
//! name = "Munich pharmacy depot"
//! polygon = [[11.50, 48.10], [11.51, 48.10], [11.51, 48.11], [11.50, 48.11]]
//!
//! [[fence]]                                # ... or GeoJSON, with holes if need be
//! id = "koeln"
//! geojson = '''{"type": "Polygon", "coordinates":
//!   [[[7.02, 50.93], [7.04, 50.93], [7.04, 50.95], [7.02, 50.95], [7.02, 50.93]]]}'''
//!
//! [[profile]]                              # besides the shipped vaccine_2_8, frozen, ultracold
//! name = "insulin"
//! battery_low_percent = 20                 # optional
//! max_gap = "15min"                        # optional: longest time a reading holds
//! silent_after = "2h"                      # optional
//! settling = "10min"                       # optional: not judged after attachment
//! shock = { class = "electronics" }        # or peak_g, delta_v (m/s) and duration
//! free_fall = { height_m = 0.3 }           # optional: falls from there are events
//!
//! [[profile.temperature]]
//! name = "hot"
//! above = 8.0                              # or below
//! inclusive = false                        # whether 8.0 itself is bad
//! delay = "30min"                          # continuous time beyond that opens an event
//! hysteresis = 0.3                         # optional: kelvin inside the bound that end it
//! clear_delay = "5min"                     # optional: for how long
//! severity = "critical"                    # or warning, info
//!
//! [[profile.humidity]]                     # in percent; the same keys, and so for
//! name = "damp"
//! above = 75
//! delay = "2h"
//!
//! [[profile.tilt]]                         # tilt in degrees from upright,
//! name = "lying"
//! above = 60
//! delay = "1min"
//!
//! [[profile.light]]                        # light in lux,
//! name = "opened"
//! above = 20
//! delay = "0s"
//!
//! [[profile.door]]                         # and a door that is open
//! name = "open"
//! delay = "5min"
//!
//! [[shipment]]
//! id = "S-1001"
//! profile = "insulin"
//! references = { order = "4711", customer = "Apotheke am Markt" }
//! parties = { carrier = "Example Cold Logistics" }
//!
//! [[shipment.unit]]
//! id = "pallet-1"
//! sscc = "376104250021234569"              # or grai, giai; check digit verified
//! trackers = ["t-001"]                     # for the whole journey
//!
//! [[shipment.unit]]
//! id = "pallet-2"
//! [[shipment.unit.tracker]]                # or for some time
//! device = "t-002"
//! from = 2026-03-02T06:00:00Z
//! until = 2026-03-03T18:00:00Z
//!
//! [[shipment.stop]]                        # in the order of travel
//! id = "pickup"
//! fence = "rtm"
//! role = "pickup"                          # pickup, hub, customs, delivery
//!
//! [[shipment.stop]]
//! id = "delivery"
//! fence = "muc"
//! role = "delivery"
//! window = { from = 2026-03-02T14:00:00+01:00, until = 2026-03-02T16:00:00+01:00 }
//! # "#).unwrap();
//! # assert_eq!(plan.shipments[0].units.len(), 2);
//! # assert!(plan.profile("insulin").is_some() && plan.profile("vaccine_2_8").is_some());
//! ```

mod area;
mod fault;
pub mod fence;
pub mod gs1;
pub mod limit;
pub mod profile;
mod reader;
pub mod revision;
pub mod shipment;
pub mod shipped;
mod value;

use std::collections::BTreeMap;

pub use fault::PlanFault;
use protocol::key::DeviceId;
use toml::de::DeTable;

use fault::{Faults, Problem};
use fence::Fence;
use profile::Profile;
use reader::{Table, Unique};
use revision::PlanRevision;
use shipment::{Attachment, Known, Shipment};

/// Most fences of a plan: the design point of the spatial index.
pub const FENCES_MAX: usize = 10_000;

/// Most profiles of a plan file.
pub const PROFILES_MAX: usize = 256;

/// Most shipments of a plan: one per tracker of the largest gateway.
pub const SHIPMENTS_MAX: usize = 50_000;

/// Everything the rules are told besides records. References inside it are resolved: every fence and
/// profile that is named exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Which version, from when.
    pub revision: PlanRevision,
    /// In the order of the file.
    pub fences: Vec<Fence>,
    /// The shipped ones, then those of the file; a file may replace a shipped one by its name.
    pub profiles: Vec<Profile>,
    /// In the order of the file.
    pub shipments: Vec<Shipment>,
    /// What is odd and usable.
    pub warnings: Vec<PlanFault>,
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
            warnings: Vec::new(),
        }
    }

    /// The plan in `text`, in the format above.
    ///
    /// # Errors
    /// Every fault of the file, in its order; warnings among them are marked.
    pub fn parse(text: &str) -> Result<Self, Vec<PlanFault>> {
        let mut faults = Faults::of(text);
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let problem = Problem::new(error.message(), "TOML");
            faults.add("", error.span().unwrap_or(0..0), problem);
        }
        let plan = Self::read(&Table::root(&document), &mut faults);
        let warnings = faults.finish()?;
        Ok(Self {
            warnings,
            ..plan.unwrap_or_else(Self::empty)
        })
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

    /// `None` only when a fault was found.
    fn read(root: &Table<'_, '_>, faults: &mut Faults<'_>) -> Option<Self> {
        let keys = ["version", "effective_from", "fence", "profile", "shipment"];
        root.check_keys(&keys, faults);
        let revision = PlanRevision::read(root, faults);
        let fences = read_unique(root, "fence", FENCES_MAX, faults, Fence::read);
        let profiles = read_unique(root, "profile", PROFILES_MAX, faults, Profile::read);
        let profiles = shipped::with(profiles);
        let known = Known {
            fences: fences.iter().map(|fence| fence.id.as_str()).collect(),
            profiles: profiles
                .iter()
                .map(|profile| profile.name.as_str())
                .collect(),
        };
        let mut attached = Attached::default();
        let shipments = read_unique(root, "shipment", SHIPMENTS_MAX, faults, |table, faults| {
            let shipment = Shipment::read(table, &known, faults)?;
            attached.check(table, &shipment, faults);
            Some(shipment)
        });
        Some(Self {
            revision: revision?,
            fences,
            profiles,
            shipments,
            warnings: Vec::new(),
        })
    }
}

/// A thing with a name that must be unique.
trait Named {
    /// The key of the file that holds the name.
    const KEY: &'static str;
    fn unique(&self) -> &str;
}

impl Named for Fence {
    const KEY: &'static str = "id";
    fn unique(&self) -> &str {
        &self.id
    }
}

impl Named for Profile {
    const KEY: &'static str = "name";
    fn unique(&self) -> &str {
        &self.name
    }
}

impl Named for Shipment {
    const KEY: &'static str = "id";
    fn unique(&self) -> &str {
        &self.id
    }
}

fn read_unique<T: Named>(
    root: &Table<'_, '_>,
    key: &str,
    max: usize,
    faults: &mut Faults<'_>,
    mut read: impl FnMut(&Table<'_, '_>, &mut Faults<'_>) -> Option<T>,
) -> Vec<T> {
    let mut seen = Unique::new("of this file");
    let tables = root.tables(key, max, faults);
    let things = tables.iter().filter_map(|table| {
        let thing = read(table, faults)?;
        seen.check(table, T::KEY, thing.unique(), faults);
        Some(thing)
    });
    things.collect()
}

/// Which tracker is where, to find one that is on two units at once.
#[derive(Default)]
struct Attached(BTreeMap<DeviceId, Vec<(String, Attachment)>>);

impl Attached {
    fn check(&mut self, table: &Table<'_, '_>, shipment: &Shipment, faults: &mut Faults<'_>) {
        for unit in &shipment.units {
            for attachment in &unit.trackers {
                let others = self.0.entry(attachment.device.clone()).or_default();
                if let Some((place, _)) =
                    others.iter().find(|(_, other)| other.overlaps(attachment))
                {
                    let problem = format!(
                        "tracker {} is on unit {} while it is on {place}",
                        attachment.device, unit.id
                    );
                    table.refuse(
                        Problem::new(problem, "from and until that do not overlap"),
                        faults,
                    );
                }
                let place = format!("unit {} of shipment {}", unit.id, shipment.id);
                others.push((place, attachment.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small plan; each test breaks it in one place.
    const PLAN: &str = r#"
version = 1
[[fence]]
id = "depot"
lat = 51.9
lon = 4.5
radius_m = 300
[[shipment]]
id = "S-1"
profile = "vaccine_2_8"
[[shipment.unit]]
id = "box"
trackers = ["t-1"]
[[shipment.stop]]
id = "pickup"
fence = "depot"
role = "pickup"
"#;

    fn fault(from: &str, to: &str) -> PlanFault {
        assert!(PLAN.contains(from), "{from}");
        let mut faults = Plan::parse(&PLAN.replace(from, to)).unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults.remove(0)
    }

    #[test]
    fn the_shipped_profiles_are_free_of_faults() {
        for (name, text) in shipped::FILES {
            let whole = format!("version = 1\n{text}");
            let plan = Plan::parse(&whole).unwrap();
            assert_eq!(plan.warnings, []);
            assert!(plan.profile(name).is_some() && plan.profiles.len() == 3);
        }
        let names: Vec<_> = shipped::with(Vec::new())
            .into_iter()
            .map(|p| p.name)
            .collect();
        assert_eq!(names, ["vaccine_2_8", "frozen", "ultracold"]);
        assert_eq!(Plan::parse(PLAN).unwrap().profiles.len(), 3);
    }

    #[test]
    fn a_plan_cites_the_shipped_profiles_that_judge_and_that_it_does_not_replace() {
        let names = |text: &str| -> Vec<&str> {
            let cited = shipped::cited(&Plan::parse(text).unwrap());
            cited.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(PLAN), ["vaccine_2_8"]);
        assert_eq!(names("version = 1"), [""; 0]);
        let own = "[[profile]]\nname = \"vaccine_2_8\"\nbattery_low_percent = 20\n";
        assert_eq!(names(&format!("{PLAN}{own}")), [""; 0]);
    }

    #[test]
    fn a_misspelt_name_is_refused_with_its_place_and_what_was_meant() {
        let fault = fault("fence = \"depot\"", "fence = \"dept\"");
        assert_eq!(fault.path, "shipment[0].stop[0].fence");
        assert_eq!((fault.line, fault.column), (16, 9));
        assert_eq!(fault.value, "\"dept\"");
        assert_eq!(fault.did_you_mean.as_deref(), Some("depot"));
        assert_eq!(
            fault.to_string(),
            "16:9: error: shipment[0].stop[0].fence = \"dept\": no such fence; allowed: depot; \
             did you mean \"depot\"?"
        );
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let fault = fault("trackers", "tracker_s");
        assert_eq!(fault.path, "shipment[0].unit[0].tracker_s");
        assert_eq!(fault.did_you_mean.as_deref(), Some("trackers"));
    }

    #[test]
    fn a_tracker_on_two_units_at_once_is_refused() {
        let second = "trackers = [\"t-1\"]\n[[shipment.unit]]\nid = \"bag\"\ntrackers = [\"t-1\"]";
        let fault = fault("trackers = [\"t-1\"]", second);
        let expected = "tracker t-1 is on unit bag while it is on unit box of shipment S-1";
        assert_eq!(fault.problem, expected);
    }

    #[test]
    fn a_tracker_that_moves_from_one_unit_to_another_is_accepted() {
        let moved = r#"
[[shipment.unit.tracker]]
device = "t-1"
until = 2026-03-02T12:00:00Z
[[shipment.unit]]
id = "bag"
[[shipment.unit.tracker]]
device = "t-1"
from = 2026-03-02T12:00:00Z"#;
        let plan = Plan::parse(&PLAN.replace("trackers = [\"t-1\"]", moved)).unwrap();
        assert_eq!(plan.shipments[0].units.len(), 2);
    }

    #[test]
    fn a_window_that_ends_before_it_begins_is_refused() {
        let window = "role = \"pickup\"\nwindow = { from = 2026-03-02T12:00:00Z, until = 2026-03-02T11:00:00Z }";
        assert_eq!(
            fault("role = \"pickup\"", window).problem,
            "ends before it begins"
        );
    }

    #[test]
    fn a_fence_smaller_than_the_error_of_a_fix_is_a_warning() {
        let text = PLAN.replace("radius_m = 300", "radius_m = 12");
        let plan = Plan::parse(&text).unwrap();
        assert_eq!(plan.warnings.len(), 1);
        assert!(
            plan.warnings[0].to_string().contains("only 12 m"),
            "{}",
            plan.warnings[0]
        );
    }

    #[test]
    fn all_faults_come_at_once_in_the_order_of_the_file() {
        let text = PLAN
            .replace("version = 1", "version = 0")
            .replace("51.9", "151.9");
        let faults = Plan::parse(&text.replace("\"t-1\"", "\"t 1\"")).unwrap_err();
        let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
        let expected = ["version", "fence[0].lat", "shipment[0].unit[0].trackers[0]"];
        assert!(
            expected.iter().all(|path| paths.contains(path)),
            "{paths:?}"
        );
        assert!(faults.is_sorted_by_key(|fault| fault.line));
    }

    #[test]
    fn broken_toml_is_a_fault_with_its_line() {
        let faults = Plan::parse("version = 1\n[[fence]\nid = \"a\"").unwrap_err();
        assert_eq!(faults[0].line, 2, "{faults:?}");
    }
}
