//! One strike of a full disk on a gateway under load, judged from outside.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gateway::clock::monotonic;

use crate::depot::{Depot, Shown, fleet_plan};
use crate::device::Device;
use crate::ledger::{Audit, Ledger};
use crate::load::{Load, Plan};
use crate::peer::{http_get, wait_for};
use crate::small_disk::{Resource, SmallDisk};

/// Size of the disk, in bytes: the store, what it holds back, and other people's files.
const DISK_BYTES: u64 = 192 << 20;

/// Names on the disk.
const DISK_INODES: u64 = 200;

/// Devices of the load, every second one on MQTT 3.1.1.
const DEVICES: u32 = 4;

/// How long nothing may be acknowledged once the gateway says that it is full, for it to count: many
/// rounds of a load that sends all the time.
const SILENCE: Duration = Duration::from_millis(400);

/// Longest time from space to the next PUBACK.
const RESUME_MAX: Duration = Duration::from_secs(1);

/// What other people write at once, and the pause behind it.
const FILL_STEP_BYTES: u64 = 1 << 20;
const FILL_PAUSE: Duration = Duration::from_millis(2);

/// What the manual calls the environment's fault.
const EXIT_ENVIRONMENT: i32 = 3;

/// What the store keeps free in these runs: the least that the configuration allows.
const SETTINGS: &str = "[store]\nwatermark = \"32MiB\"\nreserve = \"32MiB\"\nballast = \"32MiB\"\n";

/// When and how the disk fills up.
#[derive(Clone, Copy, Debug)]
pub struct Strike {
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

/// Fill the disk of a gateway under load and make space again; what became of the readings. `None` where the
/// machine does not allow a disk of its own.
///
/// # Errors
/// When a promise about a full disk is broken, or the run could not be made.
pub fn strike(folder: &Path, point: &Strike) -> Result<Option<Audit>> {
    let Some(disk) = SmallDisk::create(folder, DISK_BYTES, DISK_INODES)? else {
        return Ok(None);
    };
    let names = (0..DEVICES).map(|index| Ok(Device::new(point.seed, index)?.id().to_string()));
    let plan = fleet_plan(&names.collect::<Result<Vec<_>>>()?);
    let mut depot = Depot::create(folder, &disk.path().join("data"), &plan, SETTINGS)?;
    let ledger = Arc::new(Ledger::create(&folder.join("ledger"))?);
    depot.start()?;
    let load = Load::start(load_plan(&depot, point.seed), Some(&ledger))?;
    wait_for("the load to go on", || {
        ensure!(load.is_running(), "a device gave up");
        Ok((load.acknowledged() >= point.after_publications).then_some(()))
    })?;
    fill(&disk, point)?;
    if point.sudden && has_ended(&mut depot)? {
        depot.start_full()?;
    }
    await_full(&depot, point.resource)?;
    is_silent(&load).context("while full")?;
    goes_on(&depot).context("while full")?;
    if point.restart {
        depot.kill()?;
        depot.start_full()?;
        await_full(&depot, point.resource)?;
        is_silent(&load).context("after a restart while full")?;
        goes_on(&depot).context("after a restart while full")?;
    }
    disk.clear()?;
    resumes(&load)?;
    wait_for("the gateway to be ready again", || {
        Ok((http_get(depot.http, "/readyz")?.0 == 200).then_some(()))
    })?;
    load.finish()?;
    let log = depot.log()?;
    for line in ["store is full", "store has space again"] {
        ensure!(log.contains(line), "the log does not say {line:?}");
    }
    depot.drained()?;
    let audit = ledger.audit(&depot.records()?, Shown::of);
    depot.stop()?;
    Ok(Some(audit))
}

/// Other people's files grow; unless it is sudden, at half a gigabyte a second, which is more than most disks
/// take.
fn fill(disk: &SmallDisk, point: &Strike) -> Result<()> {
    if !point.sudden {
        fill_slowly(disk, point)?;
    }
    disk.fill(point.resource, point.left)
}

fn fill_slowly(disk: &SmallDisk, point: &Strike) -> Result<()> {
    let step = match point.resource {
        Resource::Bytes => FILL_STEP_BYTES,
        Resource::Inodes => 1,
    };
    loop {
        let free = disk.free(point.resource)?;
        if free <= point.left + step {
            return Ok(());
        }
        disk.fill(point.resource, free - step)?;
        thread::sleep(FILL_PAUSE);
    }
}

/// Whether the gateway has ended; then with the code of the environment's faults.
fn has_ended(depot: &mut Depot) -> Result<bool> {
    let deadline = monotonic() + RESUME_MAX;
    while monotonic() < deadline {
        if http_get(depot.http, "/livez").is_err() {
            let status = depot.ended()?;
            ensure!(
                status.code() == Some(EXIT_ENVIRONMENT),
                "it ended with {status}"
            );
            return Ok(true);
        }
        thread::sleep(FILL_PAUSE);
    }
    Ok(false)
}

fn load_plan(depot: &Depot, seed: u64) -> Plan {
    Plan {
        address: depot.mqtt,
        seed,
        devices: DEVICES,
        window: 8,
        batch_records: 20,
        batches: None,
        batches_per_s: Some(60.0),
    }
}

/// Readiness names what is short, how much of it there is and how much is needed.
fn await_full(depot: &Depot, resource: Resource) -> Result<()> {
    let what = match resource {
        Resource::Bytes => "bytes free",
        Resource::Inodes => "inodes free",
    };
    wait_for("readiness to say full", || {
        let (status, text) = http_get(depot.http, "/readyz")?;
        let named = ["full: ", what, "needed"]
            .iter()
            .all(|word| text.contains(word));
        Ok((status == 503 && named).then_some(()))
    })
}

/// Nothing is acknowledged. What was on its way when the gateway found itself full may still arrive first.
fn is_silent(load: &Load) -> Result<()> {
    let mut last = (load.acknowledged(), monotonic());
    let settled = |since: Instant| since.elapsed() >= SILENCE;
    wait_for("PUBACKs to stop", || {
        ensure!(load.is_running(), "a device gave up");
        let acknowledged = load.acknowledged();
        if acknowledged != last.0 {
            last = (acknowledged, monotonic());
        }
        Ok(settled(last.1).then_some(()))
    })?;
    thread::sleep(SILENCE);
    let after = load.acknowledged();
    ensure!(
        after == last.0,
        "{} publications were acknowledged on a full disk",
        after - last.0
    );
    Ok(())
}

/// What was stored is folded and delivered, and can be read.
fn goes_on(depot: &Depot) -> Result<()> {
    ensure!(depot.metric("supercargo_store_full")? == 1.0, "metrics");
    depot.drained()?;
    ensure!(!depot.export("readings")?.is_empty(), "nothing to export");
    Ok(())
}

fn resumes(load: &Load) -> Result<()> {
    let (before, begun) = (load.acknowledged(), monotonic());
    wait_for("readings to be taken again", || {
        ensure!(load.is_running(), "a device gave up");
        Ok((load.acknowledged() > before).then_some(()))
    })?;
    let took = begun.elapsed();
    ensure!(took <= RESUME_MAX, "it took {took:?} from space to PUBACK");
    Ok(())
}
