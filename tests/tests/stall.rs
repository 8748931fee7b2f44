//! A call to the store's engine that never returns: nothing it holds up is acknowledged, the process says which
//! call it was and ends with the named code, wherever it hangs, and the next start has everything that was
//! acknowledged.

use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tests::depot::{Depot, Shown, fleet_plan};
use tests::device::Device;
use tests::fault::point::HANGS;
use tests::ledger::Ledger;
use tests::load::{Load, Plan};
use tests::mqtt::{Client, Login, Version};
use tests::peer::{http_get, product, wait_for};

/// What the manual calls the environment's fault.
const EXIT_ENVIRONMENT: i32 = 3;

/// Bound of a call in these tests. What does not hang takes milliseconds, and no disk is waited for.
const CALL_MAX: &str = "2s";

/// A bound that no test waits for.
const CALL_MAX_FAR: &str = "1h";

/// Where files are in memory: how slow the machine's disk may be says nothing here.
const MEMORY: &str = "/dev/shm";

fn folder() -> Result<TempDir> {
    let memory = Path::new(MEMORY);
    Ok(if memory.is_dir() {
        tempfile::tempdir_in(memory)?
    } else {
        tempfile::tempdir()?
    })
}

/// Seed of the load.
const SEED: u64 = 0x57a1;

/// Devices of the load. Each has a shipment, and is warm often enough that the fold has something to tell.
const DEVICES: u32 = 4;

/// A depot whose calls to the store are bounded.
fn depot(folder: &Path, engine: &str, call_max: &str) -> Result<Depot> {
    let settings = format!("[store]\nengine = {engine:?}\ncall_max = {call_max:?}\n");
    let names = (0..DEVICES).map(|index| Ok(Device::new(SEED, index)?.id().to_string()));
    let plan = fleet_plan(&names.collect::<Result<Vec<_>>>()?);
    Depot::create(folder, &folder.join("data"), &plan, &settings)
}

/// Start the stand-in, which hangs at this point.
fn begin(depot: &mut Depot, point: &str) -> Result<()> {
    let flaw = format!("hang@{point}");
    depot.begin(&mut Command::new(product("failing")?), &["--flaw", &flaw])
}

fn load(depot: &Depot, ledger: &Arc<Ledger>) -> Result<Load> {
    let plan = Plan {
        address: depot.mqtt,
        seed: SEED,
        devices: DEVICES,
        window: 8,
        batch_records: 5,
        batches: Some(60),
        batches_per_s: None,
    };
    Load::start(plan, Some(ledger))
}

/// A device that wants its session kept. The gateway may hang in that, so an answer is not waited for.
fn keep_a_session(depot: &Depot) {
    let login = Login {
        client_id: "keeper",
        version: Version::V311,
        clean: false,
        credentials: None,
    };
    let _ = Client::connect(depot.mqtt, &login);
}

fn has_given_up(depot: &Depot, ended: ExitStatus, operation: &str) -> Result<()> {
    let log = depot.log()?;
    let named = format!("store {operation} has not returned for 2 s, nothing more is acknowledged");
    ensure!(log.contains(&named), "not said: {named}\n{log}");
    let right = ended.code() == Some(EXIT_ENVIRONMENT);
    ensure!(right, "it ended with {ended}\n{log}");
    Ok(())
}

/// A call hangs under load; the shipped binary starts after, and the load goes on to its end.
fn hangs_under_load(engine: &str, point: &str, operation: &str) -> Result<()> {
    let folder = folder()?;
    let mut depot = depot(folder.path(), engine, CALL_MAX)?;
    let ledger = Arc::new(Ledger::create(&folder.path().join("ledger"))?);
    begin(&mut depot, point)?;
    depot.await_ready()?;
    let load = load(&depot, &ledger)?;
    keep_a_session(&depot);
    let ended = depot.ended()?;
    has_given_up(&depot, ended, operation)?;
    let mut shipped = Command::new(product("supercargo")?);
    let far = format!("store.call_max={CALL_MAX_FAR}");
    depot.begin(&mut shipped, &["--set", &far])?;
    depot.await_ready()?;
    load.finish()?;
    let audit = ledger.audit(&depot.records()?, Shown::of);
    ensure!(audit.holds() && audit.acknowledged == audit.sent, "{audit}");
    ensure!(depot.stop()?.success(), "an orderly stop");
    Ok(())
}

#[test]
fn a_sync_of_the_journal_that_never_returns_ends_the_gateway_with_code_3() {
    for engine in ["sled", "redb"] {
        hangs_under_load(engine, "journal.sync.before.3", "sync").unwrap();
    }
}

#[test]
fn a_write_that_never_returns_ends_the_gateway_with_code_3() {
    for point in ["journal.apply.before.3", "fold.apply.after.2"] {
        hangs_under_load("sled", point, "write").unwrap();
    }
}

#[test]
fn a_sync_of_the_fold_that_never_returns_ends_the_gateway_with_code_3() {
    hangs_under_load("sled", "fold.sync.before.1", "sync").unwrap();
}

#[test]
fn a_session_that_waits_for_its_store_for_ever_ends_the_gateway_with_code_3() {
    hangs_under_load("sled", "session.sync.before.1", "sync").unwrap();
}

#[test]
fn a_start_that_hangs_in_the_store_ends_with_code_3() {
    let folder = folder().unwrap();
    let mut depot = depot(folder.path(), "sled", CALL_MAX).unwrap();
    begin(&mut depot, "any.apply.before.1").unwrap();
    let ended = depot.ended().unwrap();
    has_given_up(&depot, ended, "read").unwrap();
}

#[test]
fn an_orderly_stop_that_hangs_in_closing_the_store_ends_with_code_3() {
    let folder = folder().unwrap();
    let mut depot = depot(folder.path(), "sled", CALL_MAX).unwrap();
    begin(&mut depot, "any.close.before.1").unwrap();
    depot.await_ready().unwrap();
    let ended = depot.stop().unwrap();
    has_given_up(&depot, ended, "close").unwrap();
}

#[test]
fn an_orderly_stop_while_a_call_hangs_ends_with_code_3() {
    let folder = folder().unwrap();
    let mut depot = depot(folder.path(), "sled", CALL_MAX).unwrap();
    let ledger = Ledger::create(&folder.path().join("ledger")).unwrap();
    begin(&mut depot, "journal.sync.before.1").unwrap();
    depot.await_ready().unwrap();
    let load = load(&depot, &Arc::new(ledger)).unwrap();
    says_that_it_hangs(&depot).unwrap();
    let ended = depot.stop().unwrap();
    assert_eq!(load.acknowledged(), 0, "nothing is durable");
    load.abandon();
    has_given_up(&depot, ended, "sync").unwrap();
}

#[test]
fn while_a_call_is_slow_the_gateway_is_not_ready_says_why_and_goes_on_waiting() {
    let folder = folder().unwrap();
    let mut depot = depot(folder.path(), "sled", CALL_MAX_FAR).unwrap();
    let ledger = Ledger::create(&folder.path().join("ledger")).unwrap();
    begin(&mut depot, "journal.sync.before.1").unwrap();
    depot.await_ready().unwrap();
    let load = load(&depot, &Arc::new(ledger)).unwrap();
    let why = "not ready: store sync has not returned for ";
    let told = wait_for("the gateway to be not ready", || {
        let (code, said) = http_get(depot.http, "/readyz")?;
        Ok((code == 503 && said.starts_with(why)).then_some(said))
    });
    told.unwrap();
    let (alive, _) = http_get(depot.http, "/livez").unwrap();
    assert_eq!(alive, 200, "it may return yet");
    let log = depot.log().unwrap();
    assert!(
        log.contains(
            "store sync has not returned for 5 s: nothing it holds up is acknowledged meanwhile"
        ),
        "{log}"
    );
    assert!(depot.is_alive().unwrap());
    assert_eq!(load.acknowledged(), 0, "nothing is durable");
    load.abandon();
    depot.kill().unwrap();
}

fn says_that_it_hangs(depot: &Depot) -> Result<()> {
    wait_for("a call to hang", || {
        Ok(depot.log()?.contains(HANGS).then_some(()))
    })
}
