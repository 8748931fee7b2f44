//! A full disk under a gateway that takes readings, judged from outside: nothing is acknowledged while it is full,
//! what was stored is folded, delivered and exported, a restart works, and readings are taken again within a
//! second of space.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Result, anyhow, ensure};
use gateway::clock::monotonic;
use gateway::config::StoreEngine;
use rand::RngExt;
use rand_pcg::Pcg32;

use super::brim::{ACKNOWLEDGED, Brim, commits};
use super::{Catch, Tally, Task};
use crate::depot::{Depot, Shown, fleet_plan};
use crate::device::Device;
use crate::ledger::{Audit, Ledger};
use crate::load::{Load, Plan};
use crate::peer::{http_get, say, wait_for};
use crate::proxy::{Lie, Proxy};
use crate::small_disk::{Resource, SmallDisk};

/// Size of the disk, in bytes: the store, what it holds back, and other people's files.
const DISK_BYTES: u64 = 192 << 20;

/// Names on the disk.
const DISK_INODES: u64 = 200;

/// Devices of the load, every second one on MQTT 3.1.1.
pub(super) const DEVICES: u32 = 4;

/// Publications of each that may wait for their PUBACK.
pub(super) const WINDOW: usize = 8;

/// Disks that fill up at once; more of them on a small machine would make each of them slow.
const WORKERS: usize = 3;

/// PUBACKs before the disk fills: from a fresh store to one that has folded and delivered.
const PUBLICATIONS: std::ops::Range<u64> = 0..200;

/// What other people leave of the bytes: from nothing to below the watermark, by more than a store of these
/// runs may give back.
const LEFT_BYTES: std::ops::Range<u64> = 0..24 << 20;

/// The same of the inodes.
const LEFT_INODES: std::ops::Range<u64> = 0..14;

/// What the store keeps free in these runs: the least that the configuration allows.
const SETTINGS: &str = "[store]\nwatermark = \"32MiB\"\nreserve = \"32MiB\"\nballast = \"32MiB\"\n";

/// When and how the disk fills up.
#[derive(Clone, Copy, Debug)]
pub struct Strike {
    /// Engine of the store.
    pub engine: StoreEngine,
    /// Seed of the load.
    pub seed: u64,
    /// PUBACKs before it.
    pub after_publications: u64,
    /// What runs out.
    pub resource: Resource,
    /// How much of it other people leave.
    pub left: u64,
    /// Whether it is gone at once, faster than anyone can look: then the gateway may end, with its code.
    pub sudden: bool,
    /// Whether the gateway is killed and started again while the disk is full.
    pub restart: bool,
}

/// Disks fill up at random points of a load.
pub(super) fn run(task: &Task) -> Result<Tally> {
    let begun = AtomicU32::new(0);
    let work = || {
        let mut tally = Tally::default();
        loop {
            let number = begun.fetch_add(1, Ordering::Relaxed);
            if number >= task.tries {
                return tally;
            }
            tally += one(task, number);
        }
    };
    let start = monotonic();
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            tally += worker.join().map_err(|_| anyhow!("a worker panicked"))?;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    let (name, took) = (task.engine.as_str(), start.elapsed().as_secs_f64());
    let Tally { tried, failed, .. } = &tally;
    say(&format!(
        "{} on {name}: {tried} tried, {failed} failed in {took:.0} s",
        task.fault
    ));
    Ok(tally)
}

fn one(task: &Task, number: u32) -> Tally {
    let point = point(task, number, &mut task.chance_of(number));
    let mut tally = Tally::default();
    match tried(&point) {
        Ok(Some(())) => tally.tried = 1,
        Ok(None) => tally.skipped = 1,
        Err(error) => {
            tally.tried = 1;
            let (fault, engine) = (task.fault, task.engine.as_str());
            tally.fail(format!(
                "{fault} on {engine}, try {number}, {point:?}: {error:#}\nrepeat with: cargo xtask faults \
                 receipt --fault {fault} --engine {engine} --tries {} --seed {}",
                number + 1,
                task.seed
            ));
        }
    }
    tally
}

/// One disk; `None` where the machine gives none. What fails is kept.
fn tried(point: &Strike) -> Result<Option<()>> {
    let folder = tempfile::tempdir()?;
    let judged = strike(folder.path(), point).and_then(|audit| {
        let Some(audit) = audit else { return Ok(None) };
        ensure!(audit.holds(), "{audit}");
        ensure!(
            audit.acknowledged == audit.sent,
            "the load has not drained: {audit}"
        );
        Ok(Some(()))
    });
    judged.inspect_err(|_| {
        let kept = folder.keep();
        say(&format!("ledger and log are kept in {}", kept.display()));
    })
}

fn point(task: &Task, number: u32, chance: &mut Pcg32) -> Strike {
    let resource = if number.is_multiple_of(2) {
        Resource::Bytes
    } else {
        Resource::Inodes
    };
    Strike {
        engine: task.engine,
        seed: task.seed_of(number),
        after_publications: chance.random_range(PUBLICATIONS),
        resource,
        left: match resource {
            // Every second time nothing at all.
            _ if chance.random_bool(0.5) => 0,
            Resource::Bytes => chance.random_range(LEFT_BYTES),
            Resource::Inodes => chance.random_range(LEFT_INODES),
        },
        sudden: chance.random_bool(0.5),
        restart: chance.random_bool(0.5),
    }
}

/// A gateway that acknowledges while its disk is full: a proxy does it in its place.
pub(super) fn acknowledged(task: &Task) -> Result<Catch> {
    let folder = tempfile::tempdir()?;
    let point = Strike {
        engine: task.engine,
        seed: task.seed,
        after_publications: 0,
        resource: Resource::Bytes,
        left: 0,
        sudden: false,
        restart: false,
    };
    match strike_behind(folder.path(), &point, Lie::Everything) {
        Ok(None) => Ok(Catch::Skipped),
        Ok(Some(_)) => Ok(Catch::Missed),
        Err(error) => {
            let what = format!("{error:#}");
            ensure!(what.contains(ACKNOWLEDGED), "another fault: {what}");
            Ok(Catch::Caught(what))
        }
    }
}

/// Fill the disk of a gateway under load and make space again; what became of the readings. `None` where the
/// machine does not allow a disk of its own.
///
/// # Errors
/// When a promise about a full disk is broken, or the run could not be made.
pub fn strike(folder: &Path, point: &Strike) -> Result<Option<Audit>> {
    strike_behind(folder, point, Lie::None)
}

/// The same with a proxy between devices and gateway, which may lie.
fn strike_behind(folder: &Path, point: &Strike, lie: Lie) -> Result<Option<Audit>> {
    let Some(disk) = SmallDisk::create(folder, DISK_BYTES, DISK_INODES)? else {
        return Ok(None);
    };
    let names = (0..DEVICES).map(|index| Ok(Device::new(point.seed, index)?.id().to_string()));
    let plan = fleet_plan(&names.collect::<Result<Vec<_>>>()?);
    let settings = format!("{SETTINGS}engine = {:?}\n", point.engine.as_str());
    let mut depot = Depot::create(folder, &disk.path().join("data"), &plan, &settings)?;
    let ledger = Arc::new(Ledger::create(&folder.join("ledger"))?);
    depot.start()?;
    let proxy = Proxy::start(depot.mqtt, lie)?;
    let load = Load::start(load_plan(proxy.address, point.seed), Some(&ledger))?;
    wait_for("the load to go on", || {
        ensure!(load.is_running(), "a device gave up");
        ensure!(depot.is_alive()?, "the gateway ended");
        Ok((load.acknowledged() >= point.after_publications).then_some(()))
    })?;
    wait_for("something to be stored", || {
        Ok((commits(&depot)? > 0).then_some(()))
    })?;
    let mut brim = Brim {
        disk: &disk,
        depot: &mut depot,
        load: &load,
        point,
    };
    brim.reach()?;
    let restarted = brim.leave()?;
    wait_for("the gateway to be ready again", || {
        Ok((http_get(depot.http, "/readyz")?.0 == 200).then_some(()))
    })?;
    load.finish()?;
    let log = depot.log()?;
    for (line, due) in [
        ("store is full", true),
        ("store has space again", !restarted),
    ] {
        ensure!(!due || log.contains(line), "the log does not say {line:?}");
    }
    depot.drained()?;
    let audit = ledger.audit(&depot.records()?, Shown::of);
    depot.stop()?;
    Ok(Some(audit))
}

fn load_plan(address: SocketAddr, seed: u64) -> Plan {
    Plan {
        address,
        seed,
        devices: DEVICES,
        window: WINDOW,
        batch_records: 20,
        batches: None,
        batches_per_s: Some(60.0),
    }
}
