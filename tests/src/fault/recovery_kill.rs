//! Killed under load, and killed again while the next start recovers: after so many calls to the engine,
//! or a random while after the process was started, which also falls into the engine's own opening.

use anyhow::Result;
use rand::RngExt;

use super::fate::Fate;
use super::point::{Call, Point, Side, Step};
use super::scene::{MOMENTS, Scene};
use super::series::{self, Try};
use super::{Tally, Task};
use crate::load::Load;

/// Calls to the engine among which a recovery is killed: a recovery with this load makes a few dozen.
const CALLS: std::ops::RangeInclusive<u32> = 1..=40;

/// Deaths in a row before a start is left in peace, at most.
const DEATHS_MAX: u32 = 3;

pub(super) fn run(task: &Task) -> Result<Tally> {
    let create = |engine, seed| Scene::create(engine, seed).map(Some);
    series::run(task, create, strike)
}

fn strike(this: &mut Try<'_>) -> Result<Fate> {
    this.scene.ensure_running()?;
    let load = this.scene.load()?;
    Scene::await_acknowledged(&load, this.chance.random_range(MOMENTS))?;
    this.scene.depot.kill()?;
    for _ in 0..this.chance.random_range(1..=DEATHS_MAX) {
        if this.chance.random_bool(0.5) {
            at_call(this, &load)?;
        } else {
            after_a_while(this)?;
        }
    }
    this.scene.recover(load)
}

fn at_call(this: &mut Try<'_>, load: &Load) -> Result<()> {
    let point = Point {
        step: Step::Any,
        call: Call::Apply,
        side: if this.chance.random_bool(0.5) {
            Side::Before
        } else {
            Side::After
        },
        nth: this.chance.random_range(CALLS),
    };
    let flaw = format!("kill@{point}");
    this.scene.start_flawed("failing", &flaw)?;
    this.scene.await_death(load)
}

fn after_a_while(this: &mut Try<'_>) -> Result<()> {
    this.scene
        .start_in_part(this.chance.random_range(0.0..1.0))?;
    this.scene.depot.kill()
}
