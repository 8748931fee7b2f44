//! Kill -9 under load: at every named failpoint in turn, and in between at random moments.

use anyhow::{Result, ensure};
use rand::RngExt;

use super::fate::Fate;
use super::point::{NAMED, Point, Step};
use super::scene::{MOMENTS, Scene};
use super::series::{self, Try};
use super::{Tally, Task};
use crate::mqtt::{Client, Login, Version};

/// One try in so many is at a random moment.
const RANDOM_EVERY: u32 = 5;

pub(super) fn run(task: &Task) -> Result<Tally> {
    let create = |engine, seed| Scene::create(engine, seed).map(Some);
    series::run(task, create, |this| {
        if this.number % RANDOM_EVERY == 0 {
            return at_random(this);
        }
        let turn = this.number - this.number / RANDOM_EVERY - 1;
        let (step, call, side, most) = NAMED[turn as usize % NAMED.len()];
        let nth = this.chance.random_range(1..=most);
        at_point(
            this.scene,
            Point {
                step,
                call,
                side,
                nth,
            },
        )
    })
}

fn at_random(this: &mut Try<'_>) -> Result<Fate> {
    let scene = &mut *this.scene;
    if !scene.depot.is_running()
        && let Some(refused) = scene.start()?
    {
        return Ok(refused);
    }
    let load = scene.load()?;
    Scene::await_acknowledged(&load, this.chance.random_range(MOMENTS))?;
    scene.depot.kill()?;
    match scene.start()? {
        Some(refused) => {
            load.abandon();
            Ok(refused)
        }
        None => scene.outlive(load),
    }
}

/// The flawed gateway kills itself at the point; the shipped one finds what it left.
fn at_point(scene: &mut Scene, point: Point) -> Result<Fate> {
    scene.stop()?;
    scene.start_flawed("failing", &format!("kill@{point}"))?;
    let load = scene.load()?;
    if point.step == Step::Session {
        scene.depot.await_ready()?;
        keep_a_session(scene);
    }
    let status = scene.depot.ended()?;
    ensure!(
        status.code().is_none(),
        "at {point} the gateway ended with {status}"
    );
    match scene.start()? {
        Some(refused) => {
            load.abandon();
            Ok(refused)
        }
        None => scene.outlive(load),
    }
}

/// A device that wants its session kept. The gateway may die of it, so an answer is not waited for.
fn keep_a_session(scene: &Scene) {
    let login = Login {
        client_id: "keeper",
        version: Version::V311,
        clean: false,
        credentials: None,
    };
    let _ = Client::connect(scene.depot.mqtt, &login);
}
