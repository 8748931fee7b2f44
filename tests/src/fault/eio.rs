//! A disk that fails: the n-th write or the n-th sync of the store's file returns EIO, or the kernel makes
//! the file system read-only. The gateway ends with code 3 and says so, be it that the call fails or that the
//! engine hangs after it, acknowledges nothing after, and recovers at the next start.
//!
//! Where there is a disk of its own its power is cut before that start: what a failed sync left in the
//! kernel is gone, so that one acknowledgement after the failure is a broken promise. Calls fail by
//! strace, which does not let them reach the kernel; without strace the engine's calls fail, in a stand-in.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use gateway::config::{STORE_FOLDER, StoreEngine};
use rand::RngExt;

use super::fate::Fate;
use super::point::{Call, Point, Side, Step};
use super::scene::{MOMENTS, Scene};
use super::series::{self, Try};
use super::{Tally, Task};
use crate::load::Load;
use crate::peer::{Peer, foreign, product, say};

/// What fails.
#[derive(Clone, Copy)]
enum Wound {
    /// A system call on the store's file, counted from the process's start.
    FromStart(&'static str),
    /// A system call on the store's file, counted from a moment under load.
    UnderLoad(&'static str),
    /// Everything, because the kernel makes the file system read-only.
    ReadOnly,
}

/// All ways by which the engines write, and to make it durable.
const WRITES: &str = "write,pwrite64,pwritev";
const SYNCS: &str = "fdatasync,fsync,sync_file_range";

const WOUNDS: [Wound; 5] = [
    Wound::UnderLoad(SYNCS),
    Wound::UnderLoad(WRITES),
    Wound::ReadOnly,
    Wound::FromStart(SYNCS),
    Wound::FromStart(WRITES),
];

/// Which call fails, counted in each thread: every load gets that far.
const NTH: std::ops::RangeInclusive<u32> = 1..=6;

/// The exit code of a gateway whose machine does not give what it needs.
const EXIT_ENVIRONMENT: i32 = 3;

/// What the store says of a write or sync that failed, or that never returned: sled may hang after it.
const SAID: &str = "nothing more is acknowledged";

/// What it says of a call that never returned.
const HUNG: &str = "has not returned for 15 s";

/// The bound of a call to the store, in its configuration: many times what a disk that works needs, and short of
/// the time in which a gateway must have ended.
const CALL_MAX: &str = "call_max = \"15s\"\n";

pub(super) fn run(task: &Task) -> Result<Tally> {
    let strace = foreign("strace", "strace");
    let create = |engine, seed| match Scene::create_on_disk_with(engine, seed, CALL_MAX)? {
        Some(scene) => Ok(Some(scene)),
        None => Scene::create_with(engine, seed, CALL_MAX).map(Some),
    };
    let mut tally = series::run(task, create, |this| {
        strike(this, strace.as_ref(), task.engine)
    })?;
    tally.means = Some(if strace.is_some() { "strace" } else { "engine" });
    Ok(tally)
}

fn strike(this: &mut Try<'_>, strace: Option<&PathBuf>, engine: StoreEngine) -> Result<Fate> {
    let logged = this.scene.depot.log().unwrap_or_default().len();
    let wound = WOUNDS[this.number as usize % WOUNDS.len()];
    let (load, was_ready) = match (wound, strace) {
        (Wound::ReadOnly, _) if this.scene.disk.is_some() => (read_only(this)?, true),
        (Wound::FromStart(calls), Some(strace)) => {
            (from_start(this, strace, calls, engine)?, false)
        }
        (Wound::UnderLoad(calls), Some(strace)) => (under_load(this, strace, calls, engine)?, true),
        _ => (by_engine(this)?, false),
    };
    let status = this.scene.depot.ended()?;
    if this.scene.disk.is_some() {
        this.scene.cut()?;
    }
    let log = this.scene.depot.log()?;
    let said = log.get(logged..).unwrap_or_default();
    if status.code() != Some(EXIT_ENVIRONMENT) {
        load.abandon();
        return Ok(Fate::Broken(format!(
            "it ended with {status}, saying\n{said}"
        )));
    }
    if said.contains(HUNG) {
        say(&format!(
            "eio on {}, try {}: the engine hung, and the gateway ended by itself",
            engine.as_str(),
            this.number
        ));
    }
    // A start that fails says what it could not open instead.
    if !said.contains(SAID) && (was_ready || !said.to_lowercase().contains("error")) {
        load.abandon();
        return Ok(Fate::Broken(format!(
            "it did not say that the store failed, but\n{said}"
        )));
    }
    this.scene.recover(load)
}

fn read_only(this: &mut Try<'_>) -> Result<Load> {
    this.scene.ensure_running()?;
    let load = this.scene.load()?;
    Scene::await_acknowledged(&load, this.chance.random_range(MOMENTS))?;
    this.scene
        .disk
        .as_ref()
        .context("a disk of its own")?
        .make_read_only()?;
    Ok(load)
}

/// The tracer is a child of its own (`-D`): the process started here becomes the gateway itself.
fn from_start(
    this: &mut Try<'_>,
    strace: &PathBuf,
    calls: &str,
    engine: StoreEngine,
) -> Result<Load> {
    this.scene.stop()?;
    let mut command = Command::new(strace);
    command.arg("-D").args(injection(this, calls, engine));
    command.arg(product("supercargo")?);
    this.scene.depot.begin(&mut command, &[])?;
    this.scene.load()
}

fn under_load(
    this: &mut Try<'_>,
    strace: &PathBuf,
    calls: &str,
    engine: StoreEngine,
) -> Result<Load> {
    this.scene.ensure_running()?;
    let pid = this.scene.depot.pid().context("a gateway that runs")?;
    let mut command = Command::new(strace);
    command.args(injection(this, calls, engine));
    command.arg("-p").arg(pid.to_string());
    let log = this.scene.file("strace.log");
    // It ends with the gateway.
    let mut tracer = Peer::start("strace", &mut command, &log)?;
    let said = || {
        std::fs::read_to_string(&log)
            .unwrap_or_default()
            .contains("attached")
    };
    tracer.wait_until("to attach", said)?;
    let load = this.scene.load()?;
    tracer.wait()?;
    std::fs::remove_file(&log)?;
    Ok(load)
}

/// Arguments of strace that make the n-th of `calls` on the store's file fail, and leave all others alone.
fn injection(this: &mut Try<'_>, calls: &str, engine: StoreEngine) -> Vec<String> {
    let nth = this.chance.random_range(NTH);
    let file = this.scene.data().join(STORE_FOLDER).join(engine.file());
    let words = [
        "-f",
        "--seccomp-bpf",
        "-o",
        &this.scene.file("calls").display().to_string(),
        "-P",
        &file.display().to_string(),
        "-e",
        &format!("trace={calls}"),
        "-e",
        &format!("inject={calls}:error=EIO:when={nth}"),
    ];
    words.map(ToOwned::to_owned).to_vec()
}

/// Without strace: the engine's own call fails.
fn by_engine(this: &mut Try<'_>) -> Result<Load> {
    let call = if this.chance.random_bool(0.5) {
        Call::Apply
    } else {
        Call::Sync
    };
    let point = Point {
        step: Step::Journal,
        call,
        side: Side::Before,
        nth: this.chance.random_range(NTH),
    };
    this.scene
        .start_flawed("failing", &format!("eio@{point}"))?;
    this.scene.load()
}
