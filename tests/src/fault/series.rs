//! Tries one after another on one store, until it has seen [`LIVES_MAX`] of them or one has failed; several
//! such series at once.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Error, Result, anyhow};
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

/// Series at work at once. They mostly wait, for disks and for devices that publish at their pace; more
/// than two for each core of a small machine would only make each of them slow.
const WORKERS: usize = 4;

/// Make all tries of `task` on scenes from `create`, which says `None` where the machine gives none.
pub(super) fn run(
    task: &Task,
    create: impl Fn(StoreEngine, u64) -> Result<Option<Scene>> + Sync,
    strike: impl Fn(&mut Try<'_>) -> Result<Fate> + Sync,
) -> Result<Tally> {
    let start = monotonic();
    let begun = AtomicU32::new(0);
    let work = || -> Result<Tally> {
        let mut tally = Tally::default();
        loop {
            let first = begun.fetch_add(LIVES_MAX, Ordering::Relaxed);
            if first >= task.tries {
                return Ok(tally);
            }
            let last = task.tries.min(first + LIVES_MAX);
            tally += one(task, first..last, &create, &strike)?;
        }
    };
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            tally += worker.join().map_err(|_| anyhow!("a series panicked"))??;
        }
        Ok::<_, Error>(())
    })?;
    say(&format!(
        "{} on {}: {} tried, {} failed, {} skipped in {:.0} s",
        task.fault,
        task.engine.as_str(),
        tally.tried,
        tally.failed,
        tally.skipped,
        start.elapsed().as_secs_f64()
    ));
    Ok(tally)
}

/// The tries of one store; after a failed one the next begins with a new store.
fn one(
    task: &Task,
    numbers: Range<u32>,
    create: impl Fn(StoreEngine, u64) -> Result<Option<Scene>>,
    strike: impl Fn(&mut Try<'_>) -> Result<Fate>,
) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut scene = None;
    for number in numbers {
        let present = match scene.take() {
            Some(scene) => Some(scene),
            None => create(task.engine, task.seed_of(number))?,
        };
        let Some(mut present) = present else {
            tally.skipped += 1;
            continue;
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
                tally.fail(blame(task, number, &what));
                present.keep();
            }
        }
    }
    Ok(tally)
}

/// What went wrong.
fn told(fate: Result<Fate>) -> Option<String> {
    match fate {
        Ok(fate) => fate.broken(),
        Err(error) => Some(format!("not carried through: {error:#}")),
    }
}

fn blame(task: &Task, number: u32, what: &str) -> String {
    format!(
        "{} on {}, try {number}: {what}\nrepeat with: cargo xtask faults receipt --fault {} --engine {} \
         --tries {} --seed {}",
        task.fault,
        task.engine.as_str(),
        task.fault,
        task.engine.as_str(),
        number + 1,
        task.seed
    )
}
