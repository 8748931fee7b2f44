//! Where faults happen: a depot, its devices, and the ledger of what was promised to them.
//!
//! One store sees several lives, so that faults meet it fresh and aged. Each life has devices of its
//! own; the check after a fault covers every record of every life so far.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use gateway::clock::monotonic;
use gateway::config::StoreEngine;
use tempfile::TempDir;

use super::fate::{Fate, refusal};
use crate::depot::{Depot, Shown, fleet_plan, warm_spells_are_told};
use crate::device::Device;
use crate::ledger::Ledger;
use crate::load::{Load, Plan, Summary};
use crate::peer::{product, say, wait_for};
use crate::power::Disk;

/// Lives of one store: the first fault meets a fresh one, the last one that has been through four.
pub const LIVES_MAX: u32 = 5;

/// Name of the data folder.
const DATA: &str = "data";

/// Devices of one life.
const DEVICES: u32 = 4;

/// Publications of a device in one life.
const BATCHES: u32 = 60;

/// Acknowledged publications of a life after which a fault strikes at random: never at its very end.
pub const MOMENTS: std::ops::Range<u64> = 0..(DEVICES * BATCHES) as u64 * 3 / 4;

/// How long a gateway that still has to die has had nothing to do, until it is killed: what it goes on to do
/// is the same for ever. How many calls to the engine a load makes depends on how busy the machine is.
const IDLE: Duration = Duration::from_secs(1);

/// How a life's devices publish: 300 records each, which is four warm spells, in 0.4 s if nothing stops
/// them.
const PACE: Plan = Plan {
    address: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)),
    seed: 0,
    devices: DEVICES,
    window: 8,
    batch_records: 5,
    batches: Some(BATCHES),
    batches_per_s: Some(150.0),
};

/// A depot and everything around it.
#[derive(Debug)]
pub struct Scene {
    /// The gateway.
    pub depot: Depot,
    /// The disk under its data, when it has one of its own.
    pub disk: Option<Disk>,
    ledger: Arc<Ledger>,
    seed: u64,
    lives: u32,
    start_took: Duration,
    /// Last, because the disk is mounted below it.
    folder: TempDir,
}

impl Scene {
    /// A depot in an ordinary folder.
    ///
    /// # Errors
    /// When something of it cannot be made.
    pub fn create(engine: StoreEngine, seed: u64) -> Result<Self> {
        Self::create_with(engine, seed, "")
    }

    /// The same, with more lines in `[store]` of the configuration.
    ///
    /// # Errors
    /// When something of it cannot be made.
    pub fn create_with(engine: StoreEngine, seed: u64, lines: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let data = folder.path().join(DATA);
        let settings = settings(engine, lines);
        Self::assemble(folder, None, &data, &settings, seed)
    }

    /// A depot with its data on a disk of its own; `None` where this machine gives none.
    ///
    /// # Errors
    /// When something of it cannot be made.
    pub fn create_on_disk(engine: StoreEngine, seed: u64) -> Result<Option<Self>> {
        Self::create_on_disk_with(engine, seed, "")
    }

    /// The same, with more lines in `[store]` of the configuration.
    ///
    /// # Errors
    /// When something of it cannot be made.
    pub fn create_on_disk_with(
        engine: StoreEngine,
        seed: u64,
        lines: &str,
    ) -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let Some(disk) = Disk::create(folder.path())? else {
            return Ok(None);
        };
        let data = disk.path().join(DATA);
        let settings = settings(engine, lines);
        Self::assemble(folder, Some(disk), &data, &settings, seed).map(Some)
    }

    fn assemble(
        folder: TempDir,
        disk: Option<Disk>,
        data: &Path,
        settings: &str,
        seed: u64,
    ) -> Result<Self> {
        let names =
            (0..DEVICES * LIVES_MAX).map(|index| Ok(Device::new(seed, index)?.id().to_string()));
        let plan = fleet_plan(&names.collect::<Result<Vec<_>>>()?);
        let depot = Depot::create(folder.path(), data, &plan, settings)?;
        Ok(Self {
            depot,
            disk,
            ledger: Arc::new(Ledger::create(&folder.path().join("ledger"))?),
            seed,
            lives: 0,
            start_took: Duration::ZERO,
            folder,
        })
    }

    /// Start the shipped binary, if none runs.
    ///
    /// # Errors
    /// When it does not start.
    pub fn ensure_running(&mut self) -> Result<()> {
        if !self.depot.is_running()
            && let Some(refused) = self.start()?
        {
            bail!("between two tries {}", refused.broken().unwrap_or_default());
        }
        Ok(())
    }

    /// Start the shipped binary and measure how long that takes. A store that refuses what it finds is
    /// a fate.
    ///
    /// # Errors
    /// When it does not start for another reason.
    pub(super) fn start(&mut self) -> Result<Option<Fate>> {
        let logged = self.depot.log().unwrap_or_default().len();
        let began = monotonic();
        if let Err(error) = self.depot.start() {
            let log = self.depot.log()?;
            let words = log.get(logged..).and_then(refusal);
            let words = words.ok_or_else(|| error.context("not the store's refusal"))?;
            return Ok(Some(Fate::Refused(words.to_owned())));
        }
        self.start_took = began.elapsed();
        Ok(None)
    }

    /// Start a stand-in with `flaw`, and do not wait for it: it may end before it is ready.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_flawed(&mut self, program: &str, flaw: &str) -> Result<()> {
        let mut program = Command::new(product(program)?);
        self.depot.begin(&mut program, &["--flaw", flaw])
    }

    /// Start the shipped binary and let it get as far as it does in this part of the time that the last
    /// start took until it was ready.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_in_part(&mut self, part: f64) -> Result<()> {
        let mut program = Command::new(product("supercargo")?);
        self.depot.begin(&mut program, &[])?;
        thread::sleep(self.start_took.mul_f64(part));
        Ok(())
    }

    /// What was promised to the devices of all lives.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// A file beside configuration and ledger.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The gateway's data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        let parent = self.disk.as_ref().map_or(self.folder.path(), Disk::path);
        parent.join(DATA)
    }

    /// Let the devices of the next life publish to the gateway.
    ///
    /// # Errors
    /// When a device cannot be made.
    pub fn load(&mut self) -> Result<Load> {
        self.load_through(self.depot.mqtt)
    }

    /// The same, to an address in front of the gateway.
    ///
    /// # Errors
    /// When a device cannot be made.
    pub fn load_through(&mut self, address: SocketAddr) -> Result<Load> {
        ensure!(self.lives < LIVES_MAX, "the plan knows no more devices");
        let plan = Plan {
            address,
            seed: self.seed,
            ..PACE
        };
        let first = self.lives * DEVICES;
        self.lives += 1;
        Load::start_from(first, plan, Some(&self.ledger))
    }

    /// Wait until `load` has had this many publications acknowledged, or is over.
    ///
    /// # Errors
    /// When neither comes about.
    pub fn await_acknowledged(load: &Load, publications: u64) -> Result<()> {
        wait_for("the load to go on", || {
            let enough = load.acknowledged() >= publications || !load.is_running();
            Ok(enough.then_some(()))
        })
    }

    /// Wait until the gateway has died of a signal. One that has done all that `load` gives it to do, before
    /// it came to the point where it should die, is killed where it stands.
    ///
    /// # Errors
    /// When it lives on, or ended otherwise.
    pub fn await_death(&mut self, load: &Load) -> Result<()> {
        let mut busy = monotonic();
        wait_for("the gateway to die", || {
            if !self.depot.is_alive()? {
                let status = self.depot.ended()?;
                let died = status.code().is_none();
                ensure!(died, "the gateway was not killed but ended with {status}");
                return Ok(Some(()));
            }
            if load.is_running() || !self.is_idle() {
                busy = monotonic();
            }
            let idle = busy.elapsed() > IDLE;
            idle.then(|| self.depot.kill()).transpose()
        })
    }

    /// Whether nothing waits for the fold.
    fn is_idle(&self) -> bool {
        let metrics = self.depot.metrics();
        metrics.is_ok_and(|metrics| total(&metrics, "supercargo_fold_lag_commits") == 0)
    }

    /// Cut the power of the disk and plug it in again. The disk goes first: what the gateway still
    /// writes is lost.
    ///
    /// # Errors
    /// When the scene has no disk of its own, or the kernel refuses.
    pub fn cut(&mut self) -> Result<()> {
        let disk = self.disk.as_mut().context("a disk of its own")?;
        disk.cut()?;
        if self.depot.is_running() {
            self.depot.kill()?;
        }
        disk.restore()
    }

    /// The gateway has ended: the shipped one starts, the load goes on, and every promise is checked.
    ///
    /// # Errors
    /// When the gateway cannot be asked.
    pub fn recover(&mut self, load: Load) -> Result<Fate> {
        match self.start() {
            Ok(None) => self.outlive(load),
            Ok(Some(refused)) => {
                load.abandon();
                Ok(refused)
            }
            Err(error) => {
                load.abandon();
                Err(error)
            }
        }
    }

    /// After the fault: the load goes on to its end, then every promise is checked.
    ///
    /// # Errors
    /// When the gateway cannot be asked.
    fn outlive(&mut self, load: Load) -> Result<Fate> {
        let summary = load.join().context("the load did not come to its end")?;
        let records = self.depot.records()?;
        let audit = self.ledger.audit(&records, Shown::of);
        if !audit.holds() {
            return Ok(Fate::Broken(audit.to_string()));
        }
        let checks = || -> Result<()> {
            ensure!(
                audit.acknowledged == audit.sent,
                "the load has not drained: {audit}"
            );
            self.counters_balance(audit.stored)?;
            self.backlog_drains()?;
            self.every_warm_spell_is_told(&summary)
        };
        Ok(match checks() {
            Ok(()) => Fate::Kept(audit),
            Err(fault) => Fate::Broken(format!("{fault:#}")),
        })
    }

    /// End the gateway in good order, if it runs.
    ///
    /// # Errors
    /// When it does not end well.
    pub fn stop(&mut self) -> Result<()> {
        if self.depot.is_running() {
            let status = self.depot.stop()?;
            ensure!(status.success(), "an orderly stop ended with {status}");
        }
        Ok(())
    }

    /// Keep ledger, log and store for whoever looks into a failure. A disk of its own is unmounted and
    /// stays as an image.
    pub fn keep(mut self) {
        if self.depot.is_running() {
            let _ = self.depot.kill();
        }
        drop(self.disk.take());
        let folder = self.folder.keep();
        say(&format!(
            "ledger, log and store are kept in {}",
            folder.display()
        ));
    }

    /// Law Account: everything received is stored, duplicate, contested or refused, and what is counted
    /// as stored is what there is.
    fn counters_balance(&self, stored: usize) -> Result<()> {
        let metrics = self.depot.metrics()?;
        let sum = |name: &str| total(&metrics, &format!("supercargo_records_{name}_total"));
        let [received, kept, duplicate, contested, refused] =
            ["received", "stored", "duplicate", "contested", "refused"].map(sum);
        let told = format!(
            "received {received}, stored {kept}, duplicate {duplicate}, contested {contested}, refused {refused}"
        );
        ensure!(
            received == kept + duplicate + contested + refused,
            "counters: {told}"
        );
        ensure!(
            contested + refused == 0,
            "good records were turned away: {told}"
        );
        ensure!(
            kept == stored as u64,
            "{stored} records are there, but: {told}"
        );
        Ok(())
    }

    /// Nothing waits for the fold, and the sink has everything that is stated.
    fn backlog_drains(&self) -> Result<()> {
        self.depot.drained().map(drop)
    }

    /// The load knows how often it was warm; the gateway must have told exactly that.
    fn every_warm_spell_is_told(&self, life: &Summary) -> Result<()> {
        let first = (self.lives - 1) * DEVICES;
        let delivered = self.depot.delivered()?;
        for (index, records) in (first..).zip(&life.records) {
            let device = Device::new(self.seed, index)?;
            warm_spells_are_told(&delivered, device.id().as_str(), *records)?;
        }
        Ok(())
    }
}

fn settings(engine: StoreEngine, lines: &str) -> String {
    format!("[store]\nengine = {:?}\n{lines}", engine.as_str())
}

/// Sum of a metric over its labels.
fn total(metrics: &str, name: &str) -> u64 {
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let labelled = rest.starts_with('{') || rest.starts_with(' ');
        labelled.then_some(())?;
        rest.rsplit(' ').next()?.parse::<u64>().ok()
    };
    metrics.lines().filter_map(value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_no_other_name() {
        let text =
            "# HELP a_total 9\na_total{x=\"1\"} 3\na_total{x=\"2\"} 4\na_total_b 5\nb_total 6\n";
        assert_eq!(total(text, "a_total"), 7);
        assert_eq!(total(text, "b_total"), 6);
    }
}
