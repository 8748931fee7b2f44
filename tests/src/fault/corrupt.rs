//! A store that was damaged while no gateway ran: a flipped bit, a page of zeros, a file that ends early, in any
//! file of its folder; or one row that was changed behind the engine's back.
//!
//! The shipped binary must start unaided. Every record that was acknowledged and that the damage did not touch
//! is served, whatever is served is as it was sent, and nothing else is. What is missing is owned up to: by the
//! salvage or the rows set aside in `status`, by the device's ledger, and after a salvage by a critical event
//! that reached the sink. And ingest goes on.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use gateway::config::{STORE_FOLDER, StoreEngine};
use rand::RngExt;
use serde_json::Value;

use super::fate::Fate;
use super::row;
use super::scene::{MOMENTS, Scene};
use super::series::{self, Try};
use super::wound::{self, KINDS, Kind};
use super::{Catch, Tally, Task};
use crate::depot::{Shown, fact};
use crate::ledger::Name;
use crate::load::Load;

pub(super) fn run(task: &Task) -> Result<Tally> {
    let create = |engine, seed| Scene::create(engine, seed).map(Some);
    series::run(task, create, |this| strike(this, task.engine))
}

fn strike(this: &mut Try<'_>, engine: StoreEngine) -> Result<Fate> {
    let load = live(this)?;
    let store = this.scene.data().join(STORE_FOLDER);
    // All that was sent: a PUBACK may still be on its way to its device.
    let sent = this.scene.ledger().lines();
    let sent = || sent.iter().map(|(name, line)| (name, &line.record));
    let turn = this.number as usize % (KINDS.len() + 1);
    let set_aside_before = set_aside(this.scene)?;
    let (what, touched, all_is_named) = if let Some(kind) = KINDS.get(turn) {
        let wound = wound::strike(&store, engine, *kind, &mut this.chance)?;
        let all_is_named = !matches!(kind, Kind::Cut);
        (wound.to_string(), wound.touched(sent())?, all_is_named)
    } else {
        let row = row::damage(&store, engine, &mut this.chance)?;
        let touched = wound::found_in(&row, sent())?;
        (format!("the row of {touched:?}"), touched, true)
    };
    let harm = Harm {
        touched,
        all_is_named,
        set_aside_before,
    };
    if let Some(refused) = this.scene.start()? {
        load.abandon();
        return Ok(Fate::Broken(format!(
            "{what}: {}",
            refused.broken().unwrap_or_default()
        )));
    }
    let fate = judge(this.scene, load, &harm);
    fate.with_context(|| what.clone()).map(|fate| match fate {
        Fate::Broken(fault) => Fate::Broken(format!("{what}: {fault}")),
        fate => fate,
    })
}

/// What was done to a store, and what it held before.
struct Harm {
    /// Records that the damage touched.
    touched: BTreeSet<Name>,
    /// Whether every device of which something is missing must be named.
    all_is_named: bool,
    /// Damaged folders before.
    set_aside_before: usize,
}

/// A part of a life; then the gateway ends, every second time in good order.
fn live(this: &mut Try<'_>) -> Result<Load> {
    this.scene.ensure_running()?;
    let load = this.scene.load()?;
    Scene::await_acknowledged(&load, this.chance.random_range(MOMENTS))?;
    if this.chance.random_bool(0.5) {
        this.scene.stop()?;
    } else {
        this.scene.depot.kill()?;
    }
    Ok(load)
}

/// The gateway runs again: the load goes on to its end, then everything is compared.
fn judge(scene: &mut Scene, load: Load, harm: &Harm) -> Result<Fate> {
    let touched = &harm.touched;
    load.join().context("the load did not come to its end")?;
    let records = scene.depot.records()?;
    let promised = scene.ledger().promised();
    let missing = |name: &&Name| !records.contains_key(name);
    let lost: Vec<Name> = promised.keys().filter(missing).cloned().collect();
    let untouched: Vec<_> = lost.iter().filter(|name| !touched.contains(name)).collect();
    if let Some(first) = untouched.first() {
        let (lost, of) = (lost.len(), promised.len());
        return Ok(Fate::Broken(format!(
            "{} acknowledged records are gone that the damage did not touch, {first} first; \
             {lost} of {of} are gone, {} were touched",
            untouched.len(),
            touched.len()
        )));
    }
    let owned_up = || -> Result<()> {
        owns_up(scene, &lost, harm.all_is_named)?;
        salvages_are_told(scene, harm.set_aside_before)?;
        scene.depot.folded()
    };
    if let Err(fault) = owned_up() {
        return Ok(Fate::Broken(format!("{fault:#}")));
    }
    scene.ledger().excuse(&lost);
    let audit = scene.ledger().audit(&records, Shown::of);
    Ok(if audit.holds() {
        Fate::Kept(audit)
    } else {
        Fate::Broken(audit.to_string())
    })
}

/// What is missing is counted. Every device of which something is missing is named, if all is: a file that ends early
/// may have lost what was known of a device together with its records.
fn owns_up(scene: &Scene, lost: &[Name], all_is_named: bool) -> Result<()> {
    if lost.is_empty() {
        return Ok(());
    }
    let status = scene.depot.status()?;
    let counted = status.iter().any(|row| {
        row["name"] == "store_damaged_rows"
            || row["name"] == "store_salvaged"
                && (row["damaged"].as_u64() > Some(0)
                    || row["promised_commit"].as_u64() > row["newest_commit"].as_u64())
    });
    ensure!(
        counted,
        "{} are gone, and status counts no damage",
        lost.len()
    );
    if !all_is_named {
        return Ok(());
    }
    let ledgers = scene.depot.ledger()?;
    let devices: BTreeSet<_> = lost.iter().map(|name| name.device.to_string()).collect();
    for device in devices {
        let ledger = ledgers.iter().find(|row| row["device"] == device.as_str());
        let named = ledger.is_some_and(|row| {
            let some = |name: &str| row[name].as_u64() > Some(0);
            some("unexplained") || some("damaged_rows_h") || row["balanced"] == Value::Bool(false)
        });
        ensure!(
            named,
            "records of {device} are gone, and its ledger is {ledger:?}"
        );
    }
    Ok(())
}

/// Every folder that was set aside has its row in `status`, and its critical event at the sink.
fn salvages_are_told(scene: &Scene, before: usize) -> Result<()> {
    let now = set_aside(scene)?;
    if now == before {
        return Ok(());
    }
    let status = scene.depot.status()?;
    ensure!(
        fact(&status, "store_salvaged", &[]).is_some(),
        "a folder was set aside, and status does not say so"
    );
    let delivered = scene.depot.drained_of("EX_STORE_DAMAGED", now)?;
    let critical = |event: &&Value| event["data"]["severity"] == "critical";
    let told = delivered.iter().filter(critical).count();
    ensure!(told >= now, "{now} salvages, {told} critical events");
    Ok(())
}

/// How many damaged folders have been set aside beside the store.
fn set_aside(scene: &Scene) -> Result<usize> {
    let prefix = format!("{STORE_FOLDER}.damaged-");
    let mut count = 0;
    for entry in std::fs::read_dir(scene.data())? {
        count += usize::from(entry?.file_name().to_string_lossy().starts_with(&prefix));
    }
    Ok(count)
}

/// A gateway that believes rows without their checksum, on a store with one row changed.
pub(super) fn believed(task: &Task) -> Result<Catch> {
    flawed(task, "believe", |this, store| {
        let row = row::damage(store, StoreEngine::Sled, &mut this.chance)?;
        wound::found_in(&row, this.scene.ledger().promised().iter())
    })
}

/// A row that was never damaged, and is gone all the same.
pub(super) fn dropped(task: &Task) -> Result<Catch> {
    flawed(task, "believe", |this, store| {
        row::remove(store, StoreEngine::Sled, &mut this.chance).map(|_| BTreeSet::new())
    })
}

fn flawed(
    task: &Task,
    flaw: &str,
    harm: impl FnOnce(&mut Try<'_>, &std::path::Path) -> Result<BTreeSet<Name>>,
) -> Result<Catch> {
    let mut scene = Scene::create(task.engine, task.seed)?;
    scene.ensure_running()?;
    let load = scene.load()?;
    load.join()?;
    // Everything is in the history, so that a row of it is what is served.
    scene.depot.folded()?;
    scene.stop()?;
    let store = scene.data().join(STORE_FOLDER);
    let touched = harm(
        &mut Try {
            number: 0,
            chance: task.chance_of(0),
            scene: &mut scene,
        },
        &store,
    )?;
    scene.start_flawed("failing", flaw)?;
    scene.depot.await_ready()?;
    let load = scene.load()?;
    let harm = Harm {
        touched,
        all_is_named: true,
        set_aside_before: 0,
    };
    let fate = judge(&mut scene, load, &harm)?;
    Ok(match fate.broken() {
        Some(broken) => Catch::Caught(broken),
        None => Catch::Missed,
    })
}
