//! Gateways that lie. Each is put through the fault that must find it out; a rig that does not notice
//! them proves nothing of the gateway that keeps its promises.

use anyhow::Result;
use rand::RngExt;

use super::fate::Fate;
use super::scene::{MOMENTS, Scene};
use super::series::Try;
use super::{Catch, Task, kill};
use crate::proxy::{Lie, Proxy};

/// Lives that a lie may go on for. The first usually shows it; a fault that falls between two commits
/// may not.
const LIVES: u32 = 5;

/// sled as it comes: its flush hands everything to the kernel, nothing waits for the disk. Needs a disk.
pub(super) fn no_barrier(task: &Task) -> Result<Catch> {
    until_caught(task, on_disk(task), |this| {
        let load = begin_flawed(this, "unsynced", "")?;
        Scene::await_acknowledged(&load, this.chance.random_range(MOMENTS))?;
        this.scene.cut()?;
        this.scene.recover(load)
    })
}

/// Everything is acknowledged when it comes, before any commit.
pub(super) fn puback_before_commit(task: &Task) -> Result<Catch> {
    until_caught(task, in_folder(task), |this| {
        this.scene.ensure_running()?;
        let proxy = Proxy::start(this.scene.depot.mqtt, Lie::Everything)?;
        let load = this.scene.load_through(proxy.address)?;
        Scene::await_acknowledged(&load, this.chance.random_range(MOMENTS))?;
        this.scene.depot.kill()?;
        this.scene.recover(load)
    })
}

/// The engine's sync says that all is well and does nothing. Needs a disk: what the engine hands to the
/// kernel of its own accord survives the death of its process.
pub(super) fn no_op_sync(task: &Task) -> Result<Catch> {
    until_caught(task, on_disk(task), |this| {
        let load = begin_flawed(this, "failing", "no-sync")?;
        Scene::await_acknowledged(&load, this.chance.random_range(MOMENTS))?;
        this.scene.cut()?;
        this.scene.recover(load)
    })
}

/// Each run of seen numbers is kept one short. The gateway dies when a commit is durable and not yet
/// acknowledged, so that its last records come again.
pub(super) fn dedup_off_by_one(task: &Task) -> Result<Catch> {
    until_caught(task, in_folder(task), |this| {
        let nth = this.chance.random_range(3..=8);
        let flaw = format!("short-runs+kill@journal.sync.after.{nth}");
        let load = begin_flawed(this, "failing", &flaw)?;
        this.scene.await_death(&load)?;
        this.scene.recover(load)
    })
}

/// What comes a second time is acknowledged at once, while its original waits for its sync.
pub(super) fn duplicate_before_original(task: &Task) -> Result<Catch> {
    until_caught(task, in_folder(task), |this| {
        kill::among_duplicates(this, Lie::Duplicates)
    })
}

fn in_folder(task: &Task) -> impl Fn() -> Result<Option<Scene>> {
    let (engine, seed) = (task.engine, task.seed);
    move || Scene::create(engine, seed).map(Some)
}

fn on_disk(task: &Task) -> impl Fn() -> Result<Option<Scene>> {
    let (engine, seed) = (task.engine, task.seed);
    move || Scene::create_on_disk(engine, seed)
}

fn begin_flawed(this: &mut Try<'_>, program: &str, flaw: &str) -> Result<crate::load::Load> {
    this.scene.stop()?;
    this.scene.start_flawed(program, flaw)?;
    this.scene.load()
}

/// One store, one life after the other.
fn until_caught(
    task: &Task,
    create: impl Fn() -> Result<Option<Scene>>,
    strike: impl Fn(&mut Try<'_>) -> Result<Fate>,
) -> Result<Catch> {
    let Some(mut scene) = create()? else {
        return Ok(Catch::Skipped);
    };
    for number in 0..LIVES {
        let fate = strike(&mut Try {
            number,
            chance: task.chance_of(number),
            scene: &mut scene,
        })?;
        if let Some(broken) = fate.broken() {
            return Ok(Catch::Caught(broken));
        }
    }
    Ok(Catch::Missed)
}
