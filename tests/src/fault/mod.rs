//! Faults, and what becomes of the promises of a gateway that meets them.
//!
//! `cargo xtask faults receipt` runs every fault in [`FAULTS`] on every engine it can meet, and every
//! control in [`CONTROLS`], which is a gateway that lies and must be found out. The oracle stands outside
//! the gateway's process: the acknowledged are a subset of the stored, the stored of the sent, contents
//! are equal, counters balance, the store opens unaided, the backlog drains, every event is told.
//!
//! # How a fault is added
//!
//! A file here with its noun, in it `pub(super) fn run(task: &Task) -> Result<Tally>`, which makes
//! `task.tries` tries from `task.seed`, on `task.engine`; and its row in [`FAULTS`]. A fault that strikes a
//! running gateway hands one try to `series::run`, which gives it a `scene::Scene`, counts, and says
//! what failed and how to repeat it. A fault of another kind keeps its own [`Tally`] and says of each
//! failure, with [`crate::peer::say`], the seed and the number of the try. Where the machine does not give
//! what a fault needs, its tries are skipped, by name; on a build server that is a failure. A control is a
//! function that says whether its lie was caught, and its row in [`CONTROLS`].

mod brim;
mod control;
mod corrupt;
mod eio;
pub mod fate;
pub mod full;
mod kill;
pub mod point;
mod real_cut;
mod recovery_kill;
mod row;
pub mod scene;
mod series;
mod sim_cut;
mod soak;
mod wound;

use std::ops::AddAssign;

use anyhow::Result;
use gateway::config::StoreEngine;
use rand::SeedableRng;
use rand_pcg::Pcg32;
use serde_json::{Value, json};

use crate::peer::say;

/// A way to harm a gateway.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// As it is called on the command line and in the rows.
    pub name: &'static str,
    /// Tries for every change.
    pub quick: u32,
    /// Tries of the long campaign.
    pub full: u32,
    /// Engines it is tried on.
    pub engines: &'static [StoreEngine],
    run: fn(&Task) -> Result<Tally>,
}

/// Every fault.
pub const FAULTS: &[Fault] = &[
    Fault {
        name: "kill",
        quick: 50,
        full: 500,
        engines: &StoreEngine::ALL,
        run: kill::run,
    },
    Fault {
        name: "recovery_kill",
        quick: 10,
        full: 100,
        engines: &StoreEngine::ALL,
        run: recovery_kill::run,
    },
    Fault {
        name: "real_cut",
        quick: 10,
        full: 200,
        engines: &StoreEngine::ALL,
        run: real_cut::run,
    },
    Fault {
        name: "eio",
        quick: 10,
        full: 100,
        engines: &StoreEngine::ALL,
        run: eio::run,
    },
    Fault {
        name: "full",
        quick: 10,
        full: 100,
        engines: &StoreEngine::ALL,
        run: full::run,
    },
    Fault {
        name: "corrupt",
        // 50 when the open defect on redb is closed that one of 700 tries met (docs/evidence/README.md, row
        // D2.corrupt).
        quick: 20,
        full: 500,
        engines: &StoreEngine::ALL,
        run: corrupt::run,
    },
    Fault {
        name: "sim_cut",
        quick: 1_500,
        full: 20_000,
        engines: &StoreEngine::ALL,
        run: sim_cut::run,
    },
    Fault {
        name: "soak",
        quick: 1,
        full: 20,
        engines: &StoreEngine::ALL,
        run: soak::run,
    },
];

/// A gateway that lies, and must be found out.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    /// As it is called on the command line and in the rows.
    pub name: &'static str,
    run: fn(&Task) -> Result<Catch>,
}

/// Every control, on the default engine unless it says otherwise.
pub const CONTROLS: &[Control] = &[
    Control {
        name: "no_barrier",
        run: control::no_barrier,
    },
    Control {
        name: "puback_before_commit",
        run: control::puback_before_commit,
    },
    Control {
        name: "no_op_sync",
        run: control::no_op_sync,
    },
    Control {
        name: "dedup_off_by_one",
        run: control::dedup_off_by_one,
    },
    Control {
        name: "duplicate_before_original",
        run: control::duplicate_before_original,
    },
    Control {
        name: "full_acknowledged",
        run: full::acknowledged,
    },
    Control {
        name: "corrupt_believed",
        run: corrupt::believed,
    },
    Control {
        name: "corrupt_dropped",
        run: corrupt::dropped,
    },
    Control {
        name: "sim_cut_no_barrier",
        run: sim_cut::no_barrier,
    },
    Control {
        name: "sim_cut_file_without_folder",
        run: sim_cut::file_without_folder,
    },
    Control {
        name: "sim_cut_no_op_sync",
        run: sim_cut::no_op_sync,
    },
    Control {
        name: "sim_cut_puback_before_commit",
        run: sim_cut::puback_before_commit,
    },
    Control {
        name: "soak_acknowledged_unseen",
        run: soak::acknowledged_unseen,
    },
];

/// What became of a lie.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Catch {
    /// Found out: by this.
    Caught(String),
    /// Nobody noticed.
    Missed,
    /// Not tried, because this machine does not give what that needs.
    Skipped,
}

/// What a fault is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Name of the fault.
    pub fault: &'static str,
    /// Engine of the store.
    pub engine: StoreEngine,
    /// How often.
    pub tries: u32,
    /// Seed of the campaign.
    pub seed: u64,
}

impl Task {
    /// Seed of everything that is random in a try.
    #[must_use]
    pub fn seed_of(&self, number: u32) -> u64 {
        // Another stream for each fault, so that two never strike at the same moments.
        let fault = self.fault.bytes().fold(0_u64, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        self.seed
            .wrapping_add(fault << 20)
            .wrapping_add(u64::from(number) << 40)
    }

    /// The randomness of a try.
    #[must_use]
    pub fn chance_of(&self, number: u32) -> Pcg32 {
        Pcg32::seed_from_u64(self.seed_of(number))
    }
}

/// What came of the tries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Made.
    pub tried: u32,
    /// Of these, with a broken promise, or not carried through.
    pub failed: u32,
    /// What was wrong with those that failed, as far as it was told one by one.
    pub faults: Vec<String>,
    /// Not made, because this machine does not give what they need.
    pub skipped: u32,
    /// How the fault was brought about, where there is more than one way.
    pub means: Option<&'static str>,
}

impl Tally {
    /// Count a try that failed, and say why at once.
    fn fail(&mut self, what: String) {
        say(&what);
        self.failed += 1;
        self.faults.push(what);
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.tried += other.tried;
        self.failed += other.failed;
        self.faults.extend(other.faults);
        self.skipped += other.skipped;
        self.means = self.means.or(other.means);
    }
}

impl Fault {
    /// Run it on one engine.
    #[must_use]
    pub fn run(&self, engine: StoreEngine, tries: u32, seed: u64) -> Report {
        let task = Task {
            fault: self.name,
            engine,
            tries,
            seed,
        };
        let tally = (self.run)(&task).unwrap_or_else(|error| {
            let mut tally = Tally::default();
            tally.fail(format!("{} on {}: {error:#}", self.name, engine.as_str()));
            (tally.tried, tally.failed) = (tries, tries);
            tally
        });
        let mut row = json!({
            "fault": self.name,
            "engine": engine.as_str(),
            "tried": tally.tried,
            "failed": tally.failed,
            "skipped": tally.skipped,
            "seed": seed,
        });
        if let Some(means) = tally.means {
            row["means"] = means.into();
        }
        let mut faults = tally.faults;
        if !may_skip(tally.skipped) {
            faults.push(format!("{} on {} was skipped", self.name, engine.as_str()));
        }
        Report {
            row,
            good: tally.failed == 0 && faults.is_empty(),
            faults,
        }
    }
}

impl Control {
    /// Whether it is found out.
    #[must_use]
    pub fn run(&self, seed: u64) -> Report {
        let task = Task {
            fault: self.name,
            engine: StoreEngine::Sled,
            tries: 1,
            seed,
        };
        let name = self.name;
        let repeat =
            format!("repeat with: cargo xtask faults receipt --fault {name} --seed {seed}");
        let (tried, caught, fault) = match (self.run)(&task) {
            Ok(Catch::Caught(what)) => {
                let first = what.lines().next().unwrap_or_default();
                say(&format!("{name}: caught: {first}"));
                (1, 1, None)
            }
            Ok(Catch::Missed) => (1, 0, Some(format!("{name}: not caught\n{repeat}"))),
            Ok(Catch::Skipped) if may_skip(1) => (0, 0, None),
            Ok(Catch::Skipped) => (0, 0, Some(format!("{name} was skipped"))),
            Err(error) => (
                1,
                0,
                Some(format!("{name}: not carried through: {error:#}\n{repeat}")),
            ),
        };
        let faults: Vec<_> = fault.into_iter().collect();
        faults.iter().for_each(|fault| say(fault));
        Report {
            row: json!({"control": name, "tried": tried, "caught": caught}),
            good: faults.is_empty(),
            faults,
        }
    }
}

/// Nothing is skipped on a build server.
fn may_skip(skipped: u32) -> bool {
    skipped == 0 || std::env::var_os("CI").is_none_or(|value| value.is_empty())
}

/// One row of a campaign.
#[derive(Clone, Debug)]
pub struct Report {
    /// As it is printed.
    pub row: Value,
    /// Whether it is as it must be.
    pub good: bool,
    /// What is not, to be told once more at the end of a long output.
    pub faults: Vec<String>,
}
