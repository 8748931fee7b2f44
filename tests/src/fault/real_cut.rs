//! The power of a real disk is cut under load, and every second time again while the next start
//! recovers. Needs root and loop devices.

use anyhow::Result;
use rand::RngExt;

use super::fate::Fate;
use super::scene::{MOMENTS, Scene};
use super::series::{self, Try};
use super::{Tally, Task};

pub(super) fn run(task: &Task) -> Result<Tally> {
    series::run(task, Scene::create_on_disk, strike)
}

fn strike(this: &mut Try<'_>) -> Result<Fate> {
    this.scene.ensure_running()?;
    let load = this.scene.load()?;
    Scene::await_acknowledged(&load, this.chance.random_range(MOMENTS))?;
    this.scene.cut()?;
    if this.number % 2 == 1 {
        this.scene
            .start_in_part(this.chance.random_range(0.0..1.0))?;
        this.scene.cut()?;
    }
    this.scene.recover(load)
}
