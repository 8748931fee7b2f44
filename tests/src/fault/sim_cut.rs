//! Power cuts on a simulated disk, at every write and sync: see [`crate::sim_cut`].

use anyhow::Result;
use gateway::config::StoreEngine;

use super::{Catch, Tally, Task};
use crate::peer::{foreign, say};
use crate::sim_cut::{Gateway, Lie, Missing, campaign, expose};

pub(super) fn run(task: &Task) -> Result<Tally> {
    let outcome = campaign(task.engine, task.seed_of(0), task.tries)?;
    for broken in &outcome.told {
        say(broken);
    }
    Ok(Tally {
        tried: outcome.tried,
        failed: outcome.failed,
        skipped: outcome.skipped,
        faults: outcome.told,
        means: Some(match task.engine {
            StoreEngine::Sled => "its system calls",
            StoreEngine::Redb => "a storage of the tests, and its system calls",
        }),
    })
}

pub(super) fn no_barrier(task: &Task) -> Result<Catch> {
    catch(Gateway::Without(Missing::Barrier, StoreEngine::Sled), task)
}

pub(super) fn file_without_folder(task: &Task) -> Result<Catch> {
    catch(Gateway::Without(Missing::Folders, StoreEngine::Sled), task)
}

/// On redb, whose storage the tests can replace.
pub(super) fn no_op_sync(task: &Task) -> Result<Catch> {
    catch(Gateway::Stored(Lie::NoSync), task)
}

/// On redb, whose storage the tests can replace.
pub(super) fn puback_before_commit(task: &Task) -> Result<Catch> {
    catch(Gateway::Stored(Lie::Hasty), task)
}

fn catch(gateway: Gateway, task: &Task) -> Result<Catch> {
    if matches!(gateway, Gateway::Without(..)) && foreign("strace", "strace").is_none() {
        return Ok(Catch::Skipped);
    }
    let found = expose(gateway, task.seed_of(0))?;
    Ok(found.map_or(Catch::Missed, Catch::Caught))
}
