//! Kill -9 of the gateway under load: no acknowledged record is lost, none is made up, none altered,
//! every event reaches its sink, and what is missing or refused is counted exactly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;
use serde_json::Value;
use tests::depot::{Depot, fact, fleet_plan, warm_spells_are_told};
use tests::device::Device;
use tests::effort::repeats;
use tests::ledger::Ledger;
use tests::load::{Load, Plan, Summary};
use tests::peer::{say, wait_for};
use tests::shown::Shown;
use tests::trouble::{Known, Trouble};

/// How often the gateway is killed, usually.
const KILLS: u32 = 50;

/// Seed of the load and of the moments of death.
const SEED: u64 = 0x5ca1_ab1e;

const DEVICES: u32 = 8;

/// Publications acknowledged from one start to the next death, at least and at most: the kill falls
/// at a random place of the journal, with most windows full.
const LIFE_PUBLICATIONS: std::ops::Range<u64> = 5..150;

#[test]
fn no_acknowledged_record_is_lost_when_the_gateway_is_killed_fifty_times() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<_> = (0..DEVICES)
        .map(|index| Device::new(SEED, index).unwrap().id().to_string())
        .collect();
    let plan = fleet_plan(&names);
    let data = folder.path().join("data");
    let mut depot = Depot::create(folder.path(), &data, &plan, "").unwrap();
    let ledger = Arc::new(Ledger::create(&folder.path().join("ledger")).unwrap());

    let kills = repeats(KILLS);
    let (summary, known) = load_and_kill(&mut depot, &ledger, kills).unwrap();

    depot.folded().unwrap();
    let audit = ledger.audit(&depot.records().unwrap(), Shown::of);
    say(&format!(
        "seed {SEED:#x}, {kills} kills, {audit}, {summary:?}, {known:?}"
    ));
    assert!(audit.holds(), "{audit}");
    assert_eq!(audit.acknowledged, audit.sent, "the load has drained");
    assert!(summary.resent > 0, "no kill left anything unacknowledged");
    let delivered = depot.drained().unwrap();
    each_revision_once(&delivered).unwrap();
    every_warm_spell_is_told(&delivered, &names, &summary).unwrap();
    let status = depot.status().unwrap();
    misses_exactly(&status, &known);
    refuses_exactly(&status, &known);
    assert!(depot.stop().unwrap().success());
    misses_exactly(&depot.status().unwrap(), &known);
}

fn load_and_kill(depot: &mut Depot, ledger: &Arc<Ledger>, kills: u32) -> Result<(Summary, Known)> {
    depot.start()?;
    let mut trouble = Trouble::new(SEED)?;
    let load = Load::start(
        Plan {
            address: depot.mqtt,
            seed: SEED,
            devices: DEVICES,
            window: 16,
            batch_records: 20,
            batches: None,
            batches_per_s: Some(60.0),
        },
        Some(ledger),
    )?;
    let mut moments = Pcg32::seed_from_u64(SEED);
    for _ in 0..kills {
        trouble.stir(depot.mqtt, ledger)?;
        let death = load.acknowledged() + moments.random_range(LIFE_PUBLICATIONS);
        wait_for("the load to go on", || {
            ensure!(load.is_running(), "a device gave up");
            Ok((load.acknowledged() >= death).then_some(()))
        })?;
        depot.kill()?;
        depot.start()?;
    }
    trouble.hold_back(depot.mqtt, ledger)?;
    Ok((load.finish()?, trouble.known()))
}

/// The load leaves no gap and nothing to refuse, so all that `status` counts is the troubled device's.
fn misses_exactly(status: &[Value], known: &Known) {
    for (name, expected) in [
        ("records_lost", known.lost),
        ("records_pending", known.pending),
        ("records_unexplained", known.unexplained),
        ("quarantine_rows", known.undecodable + known.wire_version),
        ("quarantine_bytes", known.refused_bytes),
        ("quarantine_overflow", 0),
    ] {
        assert!(
            fact(status, name, &[]) == Some(expected),
            "{name} is not {expected}: {status:?}"
        );
    }
}

fn refuses_exactly(status: &[Value], known: &Known) {
    for (reason, expected) in [
        ("undecodable", known.undecodable),
        ("wire_version", known.wire_version),
    ] {
        let refused = fact(
            status,
            "supercargo_records_refused_total",
            &[("reason", reason)],
        );
        assert!(
            refused == Some(expected),
            "{reason} is not {expected}: {status:?}"
        );
    }
}

/// A line may come twice, when a kill fell between writing and confirming; then it is the same line.
fn each_revision_once(delivered: &[Value]) -> Result<()> {
    let mut bodies: BTreeMap<&str, &Value> = BTreeMap::new();
    let mut revisions = BTreeSet::new();
    for event in delivered {
        let id = event["id"].as_str().context("id")?;
        let before = bodies.insert(id, &event["data"]);
        let same = before.is_none_or(|before| *before == event["data"]);
        ensure!(same, "{id} came with two contents");
        let revision = (
            event["data"]["event_id"].to_string(),
            event["data"]["rev"].to_string(),
        );
        ensure!(
            before.is_some() || revisions.insert(revision),
            "{id} repeats a revision"
        );
    }
    Ok(())
}

/// The load knows how often it was warm; the gateway must have told exactly that.
fn every_warm_spell_is_told(delivered: &[Value], names: &[String], load: &Summary) -> Result<()> {
    let mut devices = names.iter().zip(&load.records);
    devices.try_for_each(|(name, records)| warm_spells_are_told(delivered, name, *records))
}
