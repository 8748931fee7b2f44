//! A soak: a fleet of real trackers lives on, with dead radios and full queues, while the gateway is killed
//! again and again. In the end every record that a tracker numbered is stored, or its loss is explained.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use gateway::config::StoreEngine;
use rand::RngExt;
use rand_pcg::Pcg32;
use serde_json::Value;
use simulator::plan::plan_toml;
use simulator::scenario::Scenario;
use simulator::world::World;
use tempfile::TempDir;

use super::{Catch, Tally, Task};
use crate::depot::Depot;
use crate::peer::{product, say};
use crate::proxy::{Lie, Proxy};

/// Journeys of one try, each after the trackers were switched off and on again.
const JOURNEYS: u32 = 2;

/// How long a journey takes on the wall, and how fast event time runs: 18 hours, which leaves the longest
/// silence behind.
const JOURNEY: [&str; 4] = ["--for", "9s", "--speed", "7200"];

/// How long trackers may take to hand in what they have, which takes a second or two: nothing is measured here.
const PATIENCE: &str = "240s";

/// A third of the trackers lose their radio for longer than their queue holds readings of a minute each.
const SCENARIO: &str = "\
    [silence]\n\
    radio = { at_least = 8, share = 0.0 }\n\
    radio_minutes = [30.0, 90.0]\n\
    radio_for_minutes = [500.0, 800.0]\n";

/// Kills in a journey; after the last one the trackers are left to hand in what they have.
const KILLS: u32 = 8;

/// How long the gateway lives between two kills, in milliseconds.
const LIFE_MS: std::ops::Range<u64> = 200..1_200;

pub(super) fn run(task: &Task) -> Result<Tally> {
    let mut tally = Tally::default();
    for number in 0..task.tries {
        tally.tried += 1;
        let mut chance = task.chance_of(number);
        let ended = Soak::prepare(task.engine, task.seed_of(number))
            .and_then(|soak| soak.run(Lie::None, &mut chance));
        if let Err(what) = ended {
            let engine = task.engine.as_str();
            let (tries, seed) = (number + 1, task.seed);
            tally.fail(format!(
                "soak on {engine}, try {number}: {what:#}\nrepeat with: cargo xtask faults receipt \
                 --fault soak --engine {engine} --tries {tries} --seed {seed}"
            ));
        }
    }
    Ok(tally)
}

/// A gateway's word is given by somebody else, before it has anything: what it loses has no explanation.
pub(super) fn acknowledged_unseen(task: &Task) -> Result<Catch> {
    let soak = Soak::prepare(task.engine, task.seed_of(0))?;
    match soak.run(Lie::Everything, &mut task.chance_of(0)) {
        Ok(()) => Ok(Catch::Missed),
        Err(what) => Ok(Catch::Caught(format!("{what:#}"))),
    }
}

/// A depot, the world around it, and where the trackers keep their flash.
struct Soak {
    depot: Depot,
    folder: TempDir,
    seed: u64,
}

/// What the trackers say of themselves, readings only.
struct Made {
    confirmed: u64,
    lost: u64,
}

impl Soak {
    fn prepare(engine: StoreEngine, seed: u64) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut scenario = Scenario::parse(SCENARIO)?;
        scenario.seed = seed;
        fs::write(folder.path().join("soak.toml"), SCENARIO)?;
        let plan = plan_toml(&World::generate(&scenario)?);
        let setting = format!("[store]\nengine = {:?}\n", engine.as_str());
        let depot = Depot::create(folder.path(), &folder.path().join("data"), &plan, &setting)?;
        Ok(Self {
            depot,
            folder,
            seed,
        })
    }

    /// Live through it all; what a broken promise leaves behind is kept.
    fn run(mut self, lie: Lie, chance: &mut Pcg32) -> Result<()> {
        let lived = self.live(lie, chance);
        if lived.is_err() {
            let folder = self.folder.keep();
            say(&format!("logs and store are kept in {}", folder.display()));
        }
        lived
    }

    fn live(&mut self, lie: Lie, chance: &mut Pcg32) -> Result<()> {
        self.depot.start()?;
        let proxy = Proxy::start(self.depot.mqtt, lie)?;
        let mut made = Made {
            confirmed: 0,
            lost: 0,
        };
        for _ in 0..JOURNEYS {
            let journey = self.travel(proxy.address, chance)?;
            made.confirmed += journey.confirmed;
            made.lost += journey.lost;
        }
        ensure!(
            made.lost > 0,
            "no queue overflowed: nothing was put to the test"
        );
        let running = self.is_explained(&made)?;
        ensure!(self.depot.stop()?.success(), "an orderly stop failed");
        let stopped = self.is_explained(&made)?;
        ensure!(
            running == stopped,
            "another ledger from the store than from the gateway"
        );
        Ok(())
    }

    /// One journey of the fleet to its end, the gateway killed and started all the while.
    fn travel(&mut self, address: SocketAddr, chance: &mut Pcg32) -> Result<Made> {
        let fleet = self.set_out(address)?;
        for _ in 0..KILLS {
            thread::sleep(Duration::from_millis(chance.random_range(LIFE_MS)));
            self.depot.kill()?;
            self.depot.start()?;
        }
        let Output { status, stdout, .. } = fleet.wait_with_output()?;
        let told = String::from_utf8(stdout)?;
        ensure!(
            status.success(),
            "the fleet did not drain: {status}\n{told}"
        );
        let totals: Value = serde_json::from_str(told.lines().last().unwrap_or_default())?;
        let count = |name: &str| {
            totals[name]
                .as_u64()
                .with_context(|| format!("no {name}: {totals}"))
        };
        Ok(Made {
            confirmed: count("confirmed")?,
            lost: count("lost_on_device")?,
        })
    }

    fn set_out(&self, address: SocketAddr) -> Result<Child> {
        let file = |name: &str| self.folder.path().join(name);
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(file("fleet.log"))?;
        let mut command = Command::new(product("supercargo-sim")?);
        command.args(["fleet", "--json", "--addr", &address.to_string()]);
        command.args(["--seed", &self.seed.to_string(), "--patience", PATIENCE]);
        command
            .args(JOURNEY)
            .arg("--scenario")
            .arg(file("soak.toml"));
        command.arg("--flash").arg(file("flash"));
        Ok(command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?)
    }

    /// Every tracker's ledger balances, nothing is unexplained, and the sums are what the trackers say.
    fn is_explained(&self, made: &Made) -> Result<Vec<Value>> {
        let rows = self.depot.ledger()?;
        for row in &rows {
            ensure!(
                row["balanced"] == true && row["unexplained"] == 0,
                "not explained: {row}"
            );
        }
        let sum = |name: &str| {
            rows.iter()
                .filter_map(|row| row[name].as_u64())
                .sum::<u64>()
        };
        let (lost, pending) = (sum("lost_on_device"), sum("pending"));
        ensure!(
            pending == 0,
            "{pending} are said to be pending, and no tracker has any"
        );
        // What was stored, and could not be confirmed before a kill, may have left a full queue after it: the
        // tracker lost it, the owner did not.
        let readings = self.depot.export("readings")?.len() as u64;
        let Some(unconfirmed) = readings.checked_sub(made.confirmed) else {
            bail!(
                "{} readings were confirmed, {readings} are stored",
                made.confirmed
            );
        };
        ensure!(
            unconfirmed <= made.lost && lost + unconfirmed >= made.lost,
            "trackers lost {} readings, {lost} are accounted for and {unconfirmed} stored",
            made.lost
        );
        Ok(rows)
    }
}
