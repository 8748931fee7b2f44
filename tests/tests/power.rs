//! Power cuts: what was acknowledged is there when the machine comes back, and the rig would see it if
//! it were not, because the same gateway without its barrier breaks its promises.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, ensure};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;
use tests::depot::{Depot, Shown, fleet_plan};
use tests::device::Device;
use tests::effort::repeats;
use tests::fault::fate::{Fate, refusal};
use tests::ledger::Ledger;
use tests::load::{Load, Plan};
use tests::peer::{product, say, wait_for};
use tests::power::Disk;

#[test]
fn a_cut_takes_what_was_written_and_leaves_what_was_synced() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut disk) = Disk::create(folder.path()).unwrap() else {
        return;
    };
    let mut synced = File::create(disk.path().join("synced")).unwrap();
    synced.write_all(b"kept").unwrap();
    synced.sync_all().unwrap();
    File::open(disk.path()).unwrap().sync_all().unwrap();
    fs::write(disk.path().join("written"), b"gone").unwrap();
    disk.cut().unwrap();
    assert!(fs::write(disk.path().join("late"), b"refused").is_err());
    drop(synced);
    disk.restore().unwrap();
    assert_eq!(fs::read(disk.path().join("synced")).unwrap(), b"kept");
    assert!(!disk.path().join("written").exists());
    assert!(!disk.path().join("late").exists());
}

/// Seed of the load and of the moments of the cuts.
const SEED: u64 = 0x0ff;

/// Power cuts under load, usually. More cost time and show the same: with the barrier removed the first or
/// second is enough.
const CUTS: u32 = 5;

#[test]
fn the_gateway_keeps_its_promises_over_power_cuts() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut disk) = Disk::create(folder.path()).unwrap() else {
        return;
    };
    match load_and_cut(folder.path(), &mut disk, None).unwrap() {
        Fate::Kept(audit) => {
            let cuts = repeats(CUTS);
            say(&format!("seed {SEED:#x}, {cuts} power cuts: {audit}"));
            assert!(audit.acknowledged > 0, "{audit}");
        }
        fate => panic!("{}", fate.broken().unwrap()),
    }
}

#[test]
fn without_the_barrier_the_same_power_cuts_break_promises() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut disk) = Disk::create(folder.path()).unwrap() else {
        return;
    };
    let control = product("unsynced").unwrap();
    let told = match load_and_cut(folder.path(), &mut disk, Some(control)).unwrap() {
        Fate::Kept(audit) => panic!("the barrier's absence went unnoticed: {audit}"),
        fate => fate.broken().unwrap(),
    };
    say(&format!(
        "seed {SEED:#x}, up to {CUTS} power cuts, no barrier: {told}"
    ));
}

fn load_and_cut(folder: &Path, disk: &mut Disk, control: Option<PathBuf>) -> Result<Fate> {
    let names = (0..4).map(|index| Ok(Device::new(SEED, index)?.id().to_string()));
    let plan = fleet_plan(&names.collect::<Result<Vec<_>>>()?);
    let mut depot = Depot::create(folder, &disk.path().join("data"), &plan, "")?;
    if let Some(program) = control {
        depot = depot.with_program(program);
    }
    let ledger = Arc::new(Ledger::create(&folder.join("ledger"))?);
    depot.start()?;
    let load = Load::start(
        Plan {
            address: depot.mqtt,
            seed: SEED,
            devices: 4,
            window: 8,
            batch_records: 20,
            batches: None,
            batches_per_s: Some(100.0),
        },
        Some(&ledger),
    )?;
    let mut moments = Pcg32::seed_from_u64(SEED);
    for _ in 0..repeats(CUTS) {
        let cut = load.acknowledged() + moments.random_range(20..200);
        wait_for("the load to go on", || {
            ensure!(load.is_running(), "a device gave up");
            Ok((load.acknowledged() >= cut).then_some(()))
        })?;
        disk.cut()?;
        depot.kill()?;
        disk.restore()?;
        let logged = depot.log()?.len();
        if let Err(error) = depot.start() {
            let log = depot.log()?;
            let words = log.get(logged..).and_then(refusal);
            let words = words.ok_or_else(|| error.context("not the store's refusal"))?;
            return Ok(Fate::Refused(words.to_owned()));
        }
    }
    load.finish()?;
    depot.stop()?;
    let audit = ledger.audit(&depot.records()?, Shown::of);
    Ok(if audit.holds() {
        Fate::Kept(audit)
    } else {
        Fate::Broken(audit.to_string())
    })
}
