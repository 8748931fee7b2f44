//! Power cuts without a machine: at every write and sync of ingest, fold, outbox and delete.
//!
//! The real committer, fold and delivery go on a [`voyage`] while every call they make on the disk is noted:
//! of both engines by strace, of redb also by a storage of the tests. A [`disk`] then takes the calls one by
//! one and is cut after each of them, in several ways: what was synced stays, of everything else chance
//! decides, sector by sector. The real engine opens what is left, and the [`oracle`] judges it by what
//! was said outside. Engines that lie are found out the same way.

pub mod call;
pub mod content;
pub mod disk;
pub mod hasty;
pub mod oracle;
pub mod storage;
pub mod trace;
pub mod voyage;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use gateway::config::StoreEngine;
use gateway::store::{Redb, Store};
use rand::SeedableRng;
use rand_pcg::Pcg32;
use tempfile::TempDir;

use self::call::{Call, Target};
use self::disk::{Disk, Wreck};
use self::hasty::Hasty;
use self::oracle::Said;
use self::storage::{Storage, Syncs};
use self::voyage::{Sending, sendings};
use crate::peer::{foreign, product, run};

/// Folder of the store on the disk.
const FOLDER: &str = "store";

/// Longest text that strace writes out, in bytes: a segment of sled's log.
const TEXT_MAX_BYTES: usize = 8 * 1024 * 1024;

/// Where disks are laid out: in memory, because they are many and their loss means nothing.
const MEMORY: &str = "/dev/shm";

/// Cuts in which a lie must come out: a third of the places at which one is made.
const CONTROL_TRIES: u32 = 150;

/// Most failed tries told in words.
const TOLD_MAX: usize = 5;

/// What makes the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// As it is shipped.
    Shipped(StoreEngine),
    /// As it is shipped, but some of its syncs never happen.
    Without(Missing, StoreEngine),
    /// On redb, with a storage of the tests in place of its file.
    Stored(Lie),
}

/// Syncs that never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Those of the file that the engine keeps its rows in: the barrier.
    Barrier,
    /// Those of folders.
    Folders,
}

/// What a gateway on a storage of the tests does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Nothing.
    None,
    /// Its disk says that it has synced, and has not.
    NoSync,
    /// It acknowledges before the commit is on the disk.
    Hasty,
}

/// Gateways that must be found out, by the name of what they do wrong.
pub const CONTROLS: [(&str, Gateway); 4] = [
    (
        "sled_without_barrier",
        Gateway::Without(Missing::Barrier, StoreEngine::Sled),
    ),
    (
        "sync_without_folder",
        Gateway::Without(Missing::Folders, StoreEngine::Sled),
    ),
    ("no_op_sync", Gateway::Stored(Lie::NoSync)),
    ("ack_before_commit", Gateway::Stored(Lie::Hasty)),
];

/// What came of the cuts.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Cuts made.
    pub tried: u32,
    /// Of these, cuts that broke a promise.
    pub failed: u32,
    /// Cuts not made, because this machine does not give what noting the calls needs.
    pub skipped: u32,
    /// Places at which the power was cut.
    pub places: usize,
    /// The first broken promises in words, with what repeats them.
    pub told: Vec<String>,
}

impl Outcome {
    fn failed(&mut self, broken: String) {
        self.failed += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(broken);
        }
    }

    fn add(&mut self, other: Self) {
        self.tried += other.tried;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.places += other.places;
        self.told.extend(other.told);
        self.told.truncate(TOLD_MAX);
    }
}

/// Cuts the power of the shipped gateway `tries` times. Half of redb's cuts are on a storage of the tests, all
/// others on the files that the process wrote.
///
/// # Errors
/// When the calls could not be noted.
pub fn campaign(engine: StoreEngine, seed: u64, tries: u32) -> Result<Outcome> {
    let shipped = Gateway::Shipped(engine);
    if engine == StoreEngine::Sled {
        return cut(shipped, seed, tries);
    }
    let mut outcome = cut(Gateway::Stored(Lie::None), seed, tries / 2)?;
    outcome.add(cut(shipped, seed, tries - tries / 2)?);
    Ok(outcome)
}

/// Cuts the power of a gateway that lies until it is found out; what gave it away.
///
/// # Errors
/// When the calls could not be noted.
pub fn expose(gateway: Gateway, seed: u64) -> Result<Option<String>> {
    let Some(record) = Record::make(gateway, seed)? else {
        bail!("the calls of {gateway:?} cannot be noted on this machine");
    };
    let outcome = record.cut(seed, CONTROL_TRIES, 1)?;
    Ok(outcome.told.into_iter().next())
}

/// Cuts the power of one gateway `tries` times, spread over everything it asked of the disk.
///
/// # Errors
/// When the calls could not be noted.
pub fn cut(gateway: Gateway, seed: u64, tries: u32) -> Result<Outcome> {
    match Record::make(gateway, seed)? {
        Some(record) => record.cut(seed, tries, tries),
        None => Ok(Outcome {
            skipped: tries,
            ..Outcome::default()
        }),
    }
}
/// The number of each try and its place, in order of place.
fn spread(tries: u32, places: usize) -> Vec<(u32, usize)> {
    let places = places.max(1);
    let place = |number: u32| {
        if tries as usize >= places {
            number as usize % places
        } else {
            number as usize * places / tries as usize
        }
    };
    let mut tries: Vec<_> = (0..tries).map(|number| (number, place(number))).collect();
    tries.sort_by_key(|(_, place)| *place);
    tries
}

impl Said {
    fn hear(&mut self, call: &Call) {
        match call {
            Call::Sent(number) => drop(self.sent.insert(*number)),
            Call::Acknowledged(number) => drop(self.acknowledged.insert(*number)),
            _ => {}
        }
    }
}

fn brief(call: &Call) -> String {
    match call {
        Call::Write(file, offset, bytes) => {
            format!("write of {} bytes to file {file} at {offset}", bytes.len())
        }
        other => format!("{other:?}"),
    }
}

/// Everything a gateway asked of the disk.
struct Record {
    gateway: Gateway,
    seed: u64,
    sendings: Vec<Sending>,
    /// The disk before the first call.
    before: Disk,
    calls: Vec<Call>,
}

impl Record {
    /// Sends the gateway on its voyage; `None` where this machine does not let its calls be noted.
    fn make(gateway: Gateway, seed: u64) -> Result<Option<Self>> {
        let noted = match gateway {
            Gateway::Stored(lie) => Some(by_storage(lie, seed)?),
            Gateway::Shipped(engine) => by_strace(engine, seed)?,
            Gateway::Without(missing, engine) => by_strace(engine, seed)?
                .map(|(before, calls)| (before, missing.taken_out_of(calls, engine))),
        };
        let Some((before, calls)) = noted else {
            return Ok(None);
        };
        Ok(Some(Self {
            gateway,
            seed,
            sendings: sendings(seed)?,
            before,
            calls,
        }))
    }

    /// Cuts `tries` times in order of place, until `enough` cuts have broken a promise.
    fn cut(&self, seed: u64, tries: u32, enough: u32) -> Result<Outcome> {
        let words = self.calls.iter().enumerate();
        let places: Vec<usize> = words
            .filter(|(_, call)| !call.is_word())
            .map(|(at, _)| at)
            .collect();
        let mut outcome = Outcome {
            places: places.len(),
            ..Outcome::default()
        };
        let mut disk = self.before.clone();
        let mut said = Said::default();
        let mut taken = 0;
        for (number, place) in spread(tries, places.len()) {
            // A word said right behind the call was heard before the cut.
            let until = places.get(place + 1).copied().unwrap_or(self.calls.len());
            for call in &self.calls[taken..until] {
                disk.take(call)?;
                said.hear(call);
            }
            taken = until;
            let mut chance = Pcg32::seed_from_u64(seed ^ (u64::from(number) << 20));
            outcome.tried += 1;
            if let Err(broken) = self.judge(&disk.cut(&mut chance), &said) {
                let behind = brief(&self.calls[places[place]]);
                outcome.failed(format!(
                    "{:?}, seed {seed:#x}, cut {number} of {tries} at place {place} of {} ({behind}): {broken:#}",
                    self.gateway,
                    places.len(),
                ));
            }
            if outcome.failed >= enough {
                break;
            }
        }
        Ok(outcome)
    }

    fn judge(&self, wreck: &Wreck, said: &Said) -> Result<()> {
        let scratch = scratch()?;
        let told = scratch.path().join("told");
        let disk = scratch.path().join("disk");
        fs::create_dir(&disk)?;
        let store = match self.gateway {
            Gateway::Stored(_) => {
                let file = wreck.file(FOLDER).context("the file has no name")?;
                open_storage(&Storage::holding(file.bytes(), Syncs::Honest))?
            }
            Gateway::Shipped(engine) | Gateway::Without(_, engine) => {
                wreck.write(&disk)?;
                Store::open_on(engine, &disk.join(FOLDER))?
            }
        };
        oracle::judge(&store, self.seed, &self.sendings, said, &told)
    }
}

fn scratch() -> Result<TempDir> {
    Ok(if Path::new(MEMORY).is_dir() {
        tempfile::tempdir_in(MEMORY)?
    } else {
        tempfile::tempdir()?
    })
}

impl Missing {
    /// The calls without those syncs, as if each of them had said that it was done.
    fn taken_out_of(self, calls: Vec<Call>, engine: StoreEngine) -> Vec<Call> {
        let rows = format!("{FOLDER}/{}", engine.file());
        let mut file = None;
        let mut out = BTreeSet::new();
        let mut left = calls;
        left.retain(|call| match call {
            Call::Make(path, id) if *path == rows => {
                file = Some(*id);
                true
            }
            Call::SyncBegun(sync, target) => {
                let missing = match (self, target) {
                    (Self::Barrier, Target::File(id)) => Some(*id) == file,
                    (Self::Folders, Target::Folder(_)) => true,
                    _ => false,
                };
                !(missing && out.insert(*sync))
            }
            Call::Synced(sync) => !out.contains(sync),
            _ => true,
        });
        left
    }
}

fn open_storage(storage: &Storage) -> Result<Store> {
    let folder = Path::new(FOLDER);
    let engine = Redb::on(storage.clone(), folder)?;
    Ok(Store::with_engine(Box::new(engine), folder)?)
}

/// Notes the calls of redb on a storage of the tests. It is on the disk already when the voyage begins.
fn by_storage(lie: Lie, seed: u64) -> Result<(Disk, Vec<Call>)> {
    let made = Storage::holding(Vec::new(), Syncs::Honest);
    drop(open_storage(&made)?);
    let bytes = made.bytes();
    let mut before = Disk::empty();
    before.take(&Call::Make(FOLDER.to_owned(), 0))?;
    before.take(&Call::Write(0, 0, bytes.clone()))?;
    before.settle_all()?;
    let syncs = if lie == Lie::NoSync {
        Syncs::Lies
    } else {
        Syncs::Honest
    };
    let storage = Storage::holding(bytes, syncs);
    let open = || match lie {
        Lie::Hasty => {
            let folder = Path::new(FOLDER);
            let honest = Redb::on(storage.clone(), folder)?;
            let engine = Hasty::on(Box::new(honest));
            Ok(Store::with_engine(Box::new(engine), folder)?)
        }
        Lie::None | Lie::NoSync => open_storage(&storage),
    };
    let scratch = scratch()?;
    let told = scratch.path().join("told");
    voyage::sail(seed, &told, open, |word| storage.note(word))?;
    Ok((before, storage.take_calls()))
}

/// Notes the calls of a process of its own.
fn by_strace(engine: StoreEngine, seed: u64) -> Result<Option<(Disk, Vec<Call>)>> {
    let Some(strace) = foreign("strace", "strace") else {
        return Ok(None);
    };
    let scratch = scratch()?;
    let place = |name: &str| scratch.path().join(name);
    fs::create_dir(place("disk"))?;
    let mut command = Command::new(strace);
    command.args(["-f", "-xx", "-e", trace::TRACED, "-s"]);
    command
        .arg(TEXT_MAX_BYTES.to_string())
        .arg("-o")
        .arg(place("trace"));
    command.arg(product("voyager")?);
    command.arg("--engine").arg(engine.as_str());
    command.arg("--folder").arg(place("disk").join(FOLDER));
    command.arg("--told").arg(place("told"));
    command.arg("--seed").arg(seed.to_string());
    run(&mut command)?;
    let trace = fs::read_to_string(place("trace"))?;
    let calls = trace::read(&trace, &place("disk"))?;
    let acknowledged = calls
        .iter()
        .filter(|call| matches!(call, Call::Acknowledged(_)));
    let expected = sendings(seed)?.len();
    ensure!(acknowledged.count() == expected, "not every word was heard");
    Ok(Some((Disk::empty(), calls)))
}

/// Arguments of the process that goes on the voyage.
#[derive(clap::Parser, Debug)]
pub struct Arguments {
    /// Engine of its store.
    #[arg(long)]
    pub engine: String,
    /// Folder of its store.
    #[arg(long)]
    pub folder: PathBuf,
    /// File of its sink.
    #[arg(long)]
    pub told: PathBuf,
    /// Seed of what is sent.
    #[arg(long)]
    pub seed: u64,
}
