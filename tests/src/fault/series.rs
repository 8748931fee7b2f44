//! Tries one after another on one store, until it has seen [`LIVES_MAX`] of them or one has failed.

use anyhow::Result;
use gateway::clock::monotonic;
use gateway::config::StoreEngine;
use rand_pcg::Pcg32;

use super::fate::Fate;
use super::scene::{LIVES_MAX, Scene};
use super::{Tally, Task};
use crate::peer::say;

/// One try: what strikes, how often it has, and where.
pub(super) struct Try<'a> {
    /// Its number, from 0.
    pub(super) number: u32,
    /// All that is random in it.
    pub(super) chance: Pcg32,
    /// Where.
    pub(super) scene: &'a mut Scene,
}

/// Make all tries of `task` on scenes from `create`, which says `None` where the machine gives none.
pub(super) fn run(
    task: &Task,
    create: impl Fn(StoreEngine, u64) -> Result<Option<Scene>>,
    strike: impl Fn(&mut Try<'_>) -> Result<Fate>,
) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut scene = None;
    let start = monotonic();
    for number in 0..task.tries {
        if number % LIVES_MAX == 0 {
            scene = None;
        }
        let mut present = match scene.take() {
            Some(scene) => scene,
            None => match create(task.engine, task.seed_of(number))? {
                Some(scene) => scene,
                None => {
                    tally.skipped = task.tries - number;
                    return Ok(tally);
                }
            },
        };
        tally.tried += 1;
        let fate = strike(&mut Try {
            number,
            chance: task.chance_of(number),
            scene: &mut present,
        });
        match told(fate) {
            None => scene = Some(present),
            Some(what) => {
                tally.failed += 1;
                blame(task, number, &what);
                present.keep();
            }
        }
    }
    say(&format!(
        "{} on {}: {} tried, {} failed in {:.0} s",
        task.fault,
        task.engine.as_str(),
        tally.tried,
        tally.failed,
        start.elapsed().as_secs_f64()
    ));
    Ok(tally)
}

/// What went wrong.
fn told(fate: Result<Fate>) -> Option<String> {
    match fate {
        Ok(fate) => fate.broken(),
        Err(error) => Some(format!("not carried through: {error:#}")),
    }
}

fn blame(task: &Task, number: u32, what: &str) {
    say(&format!(
        "{} on {}, try {number}: {what}\nrepeat with: cargo xtask faults receipt --fault {} --engine {} \
         --tries {} --seed {}",
        task.fault,
        task.engine.as_str(),
        task.fault,
        task.engine.as_str(),
        number + 1,
        task.seed
    ));
}
