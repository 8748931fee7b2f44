//! A disk that takes no more: the gateway acknowledges nothing from then on, ends with the named code, and
//! the next start has everything that was acknowledged.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use tests::depot::{Depot, Shown, fleet_plan};
use tests::ledger::Ledger;
use tests::load::{Load, Plan};
use tests::peer::product;

/// Largest file the gateway may have, in 512 bytes: more than an empty store needs, and less than one
/// segment of the log or a few hundred publications take.
const FILE_MAX_BLOCKS: u32 = 4_096;

/// What the manual calls the environment's fault.
const EXIT_ENVIRONMENT: i32 = 3;

/// The shipped binary, under a limit of file size. With the signal ignored a write beyond it fails, as one
/// on a full disk does, and every write after it.
fn limited(folder: &Path) -> Result<PathBuf> {
    let script = folder.join("limited");
    let program = product("supercargo")?;
    let text = format!(
        "#!/bin/sh\ntrap '' XFSZ\nulimit -f {FILE_MAX_BLOCKS}\nexec {} \"$@\"\n",
        program.display()
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700))?;
    Ok(script)
}

fn loses_nothing_when_writes_fail(engine: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let settings = format!("[store]\nengine = {engine:?}\n");
    let mut depot = Depot::create(folder.path(), &data, &fleet_plan(&[]), &settings)?;
    depot = depot.with_program(limited(folder.path())?);
    let ledger = Arc::new(Ledger::create(&folder.path().join("ledger"))?);
    depot.start()?;
    let load = Load::start(
        Plan {
            address: depot.mqtt,
            seed: 0xfa11,
            devices: 4,
            window: 8,
            batch_records: 20,
            batches: None,
            batches_per_s: None,
        },
        Some(&ledger),
    )?;
    let ended = depot.ended()?;
    assert_eq!(ended.code(), Some(EXIT_ENVIRONMENT), "{}", depot.log()?);
    let log = depot.log()?;
    assert!(
        log.contains("failed, nothing more is acknowledged"),
        "{log}"
    );
    let mut depot = depot.with_program(product("supercargo")?);
    depot.start()?;
    load.finish()?;
    let audit = ledger.audit(&depot.records()?, Shown::of);
    assert!(audit.holds() && audit.acknowledged > 0, "{audit}");
    assert!(depot.stop()?.success());
    Ok(())
}

/// One engine after the other: a program that is started beside them would inherit the script that is being
/// written, and the kernel refuses to start a script that somebody may write to.
#[test]
fn a_gateway_whose_write_fails_ends_with_code_3_and_has_what_it_acknowledged() {
    for engine in ["sled", "redb"] {
        loses_nothing_when_writes_fail(engine).unwrap();
    }
}
