//! The power of a real disk is cut under load, and every second time again while the next start
//! recovers. Needs root and loop devices.

use anyhow::{Context, Result};
use rand::RngExt;

use super::fate::Fate;
use super::scene::{MOMENTS, Scene};
use super::series::{self, Try};
use super::{Tally, Task};

pub(super) fn run(task: &Task) -> Result<Tally> {
    series::run(task, Scene::create_on_disk, strike)
}

fn strike(this: &mut Try<'_>) -> Result<Fate> {
    if !this.scene.depot.is_running()
        && let Some(refused) = this.scene.start()?
    {
        return Ok(refused);
    }
    let load = this.scene.load()?;
    let moment = this.chance.random_range(MOMENTS);
    Scene::await_acknowledged(&load, moment)?;
    cut(this.scene)?;
    if this.number % 2 == 1 {
        this.scene
            .start_in_part(this.chance.random_range(0.0..1.0))?;
        cut(this.scene)?;
    }
    match this.scene.start()? {
        Some(refused) => {
            load.abandon();
            Ok(refused)
        }
        None => this.scene.outlive(load),
    }
}

/// The disk goes first: what the gateway still writes is lost, as in a cut.
fn cut(scene: &mut Scene) -> Result<()> {
    let disk = scene.disk.as_mut().context("a disk of its own")?;
    disk.cut()?;
    scene.depot.kill()?;
    disk.restore()
}
