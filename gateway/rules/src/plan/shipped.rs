//! The profiles that come with the program, and the plan's use of them.

use toml::de::DeTable;

use super::fault::Faults;
use super::profile::Profile;
use super::reader::Table;
use super::{Plan, read_unique};

/// Names and files.
pub(super) const FILES: [(&str, &str); 3] = [
    (
        "vaccine_2_8",
        include_str!("../../profiles/vaccine_2_8.toml"),
    ),
    ("frozen", include_str!("../../profiles/frozen.toml")),
    ("ultracold", include_str!("../../profiles/ultracold.toml")),
];

/// The shipped profiles that shipments of `plan` are judged by, by name, with the text of each: what the
/// plan's own text does not say.
#[must_use]
pub fn cited(plan: &Plan) -> Vec<(&'static str, &'static str)> {
    let is_cited = |(name, text): &(&str, &str)| {
        let mut shipments = plan.shipments.iter();
        let used = shipments.any(|shipment| shipment.profile == *name);
        // A plan that replaces it has another one under the name.
        used && plan.profile(name) == read(text).as_ref()
    };
    FILES.into_iter().filter(is_cited).collect()
}

/// The shipped profiles that `own` does not replace, then `own`.
pub(super) fn with(own: Vec<Profile>) -> Vec<Profile> {
    let shipped = FILES.iter().filter_map(|(_, text)| read(text));
    let mut profiles: Vec<Profile> = shipped.collect();
    profiles.retain(|shipped| own.iter().all(|profile| profile.name != shipped.name));
    profiles.extend(own);
    profiles
}

/// A test holds that the shipped files are free of faults and hold one profile each.
fn read(text: &str) -> Option<Profile> {
    let (document, _) = DeTable::parse_recoverable(text);
    let mut faults = Faults::of(text);
    let root = Table::root(&document);
    read_unique(&root, "profile", 1, &mut faults, Profile::read).pop()
}
