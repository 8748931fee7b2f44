//! Kill -9 under load: at every named failpoint in turn, and in between at random moments and while
//! duplicates come of what is not durable yet.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use rand::RngExt;

use super::fate::Fate;
use super::point::{NAMED, Point, Step};
use super::scene::{MOMENTS, Scene};
use super::series::{self, Try};
use super::{Tally, Task};
use crate::mqtt::{Client, Login, Version};
use crate::proxy::{Lie, Proxy};

/// Of so many tries one is at a random moment and one among duplicates.
const OTHERS_EVERY: u32 = 10;

/// How long a connection lasts while they are broken: long enough to publish, and several of them fit
/// into the time that a sync is held up.
const CONNECTION_LIFE: Duration = Duration::from_millis(100);

pub(super) fn run(task: &Task) -> Result<Tally> {
    let create = |engine, seed| Scene::create(engine, seed).map(Some);
    series::run(task, create, |this| {
        if this.number % OTHERS_EVERY == 0 {
            return at_random(this);
        }
        if this.number % OTHERS_EVERY == 1 {
            return among_duplicates(this, Lie::None);
        }
        let turn = this.number / OTHERS_EVERY * (OTHERS_EVERY - 2) + this.number % OTHERS_EVERY - 2;
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
    this.scene.ensure_running()?;
    let load = this.scene.load()?;
    Scene::await_acknowledged(&load, this.chance.random_range(MOMENTS))?;
    this.scene.depot.kill()?;
    this.scene.recover(load)
}

/// The gateway with failpoints kills itself; the shipped one finds what it left.
fn at_point(scene: &mut Scene, point: Point) -> Result<Fate> {
    scene.stop()?;
    scene.start_flawed("failing", &format!("kill@{point}"))?;
    let load = scene.load()?;
    if point.step == Step::Session {
        scene.depot.await_ready()?;
        keep_a_session(scene);
    }
    scene.await_death(&load)?;
    scene.recover(load)
}

/// Connections break while a commit waits for its sync, so that devices repeat what is not durable yet;
/// then the gateway dies before that sync. The proxy in between can be one that lies.
pub(super) fn among_duplicates(this: &mut Try<'_>, lie: Lie) -> Result<Fate> {
    let scene = &mut *this.scene;
    scene.stop()?;
    let nth = this.chance.random_range(3..=8);
    scene.start_flawed("failing", &format!("stall@journal.sync.before.{nth}"))?;
    let proxy = Proxy::start(scene.depot.mqtt, lie)?;
    let load = scene.load_through(proxy.address)?;
    while scene.depot.is_alive()? {
        thread::sleep(CONNECTION_LIFE);
        proxy.sever();
    }
    scene.await_death(&load)?;
    scene.recover(load)
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
