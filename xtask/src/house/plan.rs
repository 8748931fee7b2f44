//! The plan of the house, as data: who stands where and who may know whom.

/// A package of the workspace.
#[derive(Debug)]
pub(super) struct Package {
    /// Name, as in `use`.
    pub(super) name: &'static str,
    /// Folder from the workspace root.
    pub(super) folder: &'static str,
    /// Packages of ours it may import.
    pub(super) imports: &'static [&'static str],
    /// The only foreign packages it may depend on outside tests; `None` is any.
    pub(super) foreign: Option<&'static [&'static str]>,
}

/// The floors between packages, from the ground. A package imports only what its row names.
pub(super) const PACKAGES: &[Package] = &[
    Package {
        name: "protocol",
        folder: "protocol",
        imports: &[],
        foreign: Some(&["heapless", "minicbor"]),
    },
    // Pure: readings in, events out. Whatever could reach a clock, a file or the net stays out.
    Package {
        name: "rules",
        folder: "gateway/rules",
        imports: &["protocol"],
        foreign: Some(&RULES_MAY_USE),
    },
    Package {
        name: "firmware",
        folder: "firmware",
        imports: &["protocol"],
        foreign: None,
    },
    Package {
        name: "simulator",
        folder: "simulator",
        imports: &["protocol", "firmware"],
        foreign: None,
    },
    Package {
        name: "gateway",
        folder: "gateway",
        imports: &["protocol", "rules", "simulator"],
        foreign: None,
    },
    Package {
        name: "thumb",
        folder: "tests/thumb",
        imports: &["protocol", "firmware"],
        foreign: Some(&["heapless"]),
    },
    Package {
        name: "tests",
        folder: "tests",
        imports: &["protocol", "rules", "firmware", "simulator", "gateway"],
        foreign: None,
    },
    Package {
        name: "protocol-fuzz",
        folder: "protocol/fuzz",
        imports: &["protocol"],
        foreign: Some(&["libfuzzer-sys"]),
    },
    Package {
        name: "xtask",
        folder: "xtask",
        imports: &[],
        foreign: Some(&[]),
    },
];

const RULES_MAY_USE: [&str; 8] = [
    "geo",
    "rstar",
    "serde",
    "serde_json",
    "sha2",
    "thiserror",
    "toml",
    "strsim",
];

/// The floors inside the gateway, from the ground. A room imports strictly lower floors only, so two
/// rooms of one floor never know each other: `mqtt` and `ingest` meet in `receipt` and in `pipeline`.
const GATEWAY_FLOORS: &[&[&str]] = &[
    &["clock", "account"],
    &["pki"],
    &["config", "route"],
    // Mints the proof that releases a receipt.
    &["store"],
    &["receipt", "fold"],
    &["deliver"],
    &["mqtt", "ingest"],
    &["control", "http"],
    &["pipeline"],
    &["cli"],
    &["main", "lib"],
];

/// A path that may be named in some places of a room only.
#[derive(Debug)]
pub(super) struct Only {
    /// Where the rule holds: a path from the workspace root, or its beginning.
    pub(super) room: &'static str,
    /// The path that must not be named there.
    pub(super) path: &'static str,
    /// Places within the room that may name it.
    pub(super) except: &'static [&'static str],
    /// Why.
    pub(super) why: &'static str,
}

/// The nevers that floors alone do not hold.
pub(super) const ONLY: &[Only] = &[
    Only {
        room: "gateway/",
        path: "simulator",
        except: &["gateway/src/cli/demo"],
        why: "inside the gateway only the demo knows the simulator",
    },
    Only {
        room: "gateway/src/deliver/sink",
        path: "gateway::store",
        except: &[],
        why: "a sink is handed an event and answers with a confirmation",
    },
    never_in_rules("std::fs", NO_IO),
    never_in_rules("std::net", NO_IO),
    never_in_rules("std::io", NO_IO),
    never_in_rules("std::env", NO_IO),
    never_in_rules("std::process", NO_IO),
    never_in_rules(
        "std::thread",
        "a verdict follows from its records in one order",
    ),
    never_in_rules("Instant", NO_CLOCK),
    never_in_rules("SystemTime", NO_CLOCK),
    never_in_rules("HashMap", NO_HASH),
    never_in_rules("HashSet", NO_HASH),
    never_in_rules("std::collections::hash_map", NO_HASH),
    never_in_rules("std::collections::hash_set", NO_HASH),
];

const NO_IO: &str = "a verdict follows from its records alone, without files, net or process";
const NO_CLOCK: &str = "a verdict knows event time only";
const NO_HASH: &str = "its order differs from run to run; take the BTree kind";

/// A part of the standard library that would make verdicts of the same records differ.
const fn never_in_rules(path: &'static str, why: &'static str) -> Only {
    Only {
        room: "gateway/rules/src/",
        path,
        except: &[],
        why,
    }
}

/// The proof that a commit survives a power cut, and the one file that may make it: its barrier calls
/// the engine's sync first. (Its field is private to the store; this keeps the store's other files out.)
pub(super) const PROOF: (&str, &str) = ("Durable", "gateway/src/store/mod.rs");

/// Most lines of a source file, tests not counted: what one reader holds in mind.
pub(super) const FILE_LINES_MAX: usize = 450;

/// Names that say nothing about what lives in a room.
pub(super) const BANNED_ROOMS: [&str; 8] = [
    "util", "utils", "common", "helper", "helpers", "types", "manager", "misc",
];

/// Marks of unfinished work, in halves so that this file does not find itself.
pub(super) const LEFTOVERS: [[&str; 2]; 3] = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]];

/// Whether `name` is a package of ours.
pub(super) fn is_ours(name: &str) -> bool {
    PACKAGES.iter().any(|package| package.name == name)
}

/// The package a file belongs to: the one with the longest folder around it.
pub(super) fn package_of(file: &str) -> Option<&'static Package> {
    PACKAGES
        .iter()
        .filter(|package| {
            file.strip_prefix(package.folder)
                .is_some_and(|rest| rest.starts_with('/'))
        })
        .max_by_key(|package| package.folder.len())
}

/// The floor of a room of the gateway, counted from 0.
pub(super) fn floor_of(room: &str) -> Option<usize> {
    GATEWAY_FLOORS
        .iter()
        .position(|floor| floor.contains(&room))
}
