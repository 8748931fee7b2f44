//! Damage to the files of a store, and which records it touched, told from the bytes alone: what an engine's
//! files look like is not known here.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use gateway::config::StoreEngine;
use protocol::entry::{RECORD_MAX_BYTES, encode_record};
use protocol::record::{Numbered, Record};
use rand::RngExt;
use rand_pcg::Pcg32;

use crate::ledger::Name;

/// A page of a disk, in bytes.
const PAGE_BYTES: u64 = 4096;

/// How far from damage an engine may have to give up a record, in bytes: the page or message of its file that first
/// held its row has one checksum for all of it, and the longest rows of these loads (a group commit, a run of 128
/// records) take less than 10 KiB. A leaf may be ten times as long, but each of its rows was written before alone.
const REACH_BYTES: u64 = 16 * 1024;

/// Of so many strikes one falls on another file than the engine's main one.
const OTHER_FILE_EVERY: u32 = 5;

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// One bit is another.
    Bit,
    /// A page is all zeros.
    Page,
    /// The file ends early.
    Cut,
}

/// The kinds in turn.
pub(super) const KINDS: [Kind; 3] = [Kind::Bit, Kind::Page, Kind::Cut];

/// A file that was damaged, and where.
#[derive(Debug)]
pub(super) struct Wound {
    file: PathBuf,
    kind: Kind,
    at: Range<u64>,
    /// The file as it was.
    before: Vec<u8>,
}

impl std::fmt::Display for Wound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, at, file) = (self.kind, &self.at, self.file.display());
        write!(f, "{kind:?} at {at:?} of {file}")
    }
}

/// Damage a file of the store in `folder`, which nobody has open.
pub(super) fn strike(
    folder: &Path,
    engine: StoreEngine,
    kind: Kind,
    chance: &mut Pcg32,
) -> Result<Wound> {
    let main = folder.join(engine.file());
    let mut others = files(folder)?;
    others.retain(|file| *file != main);
    let file = match others.len() {
        0 => main,
        _ if chance.random_range(0..OTHER_FILE_EVERY) > 0 => main,
        count => others.swap_remove(chance.random_range(0..count)),
    };
    let before = fs::read(&file)?;
    // Behind the last byte that is not zero nothing was ever written.
    let used = before.iter().rposition(|byte| *byte != 0);
    let used = used.context("a file with something in it")? as u64 + 1;
    let place = chance.random_range(0..used);
    let at = match kind {
        Kind::Bit => place..place + 1,
        Kind::Page => {
            let from = place - place % PAGE_BYTES;
            from..(from + PAGE_BYTES).min(before.len() as u64)
        }
        Kind::Cut => place..before.len() as u64,
    };
    let range = usize::try_from(at.start)?..usize::try_from(at.end)?;
    let mut bytes = before.clone();
    match kind {
        Kind::Bit => bytes[range.start] ^= 1 << chance.random_range(0..8),
        Kind::Page => bytes[range].fill(0),
        Kind::Cut => bytes.truncate(range.start),
    }
    fs::write(&file, bytes)?;
    Ok(Wound {
        file,
        kind,
        at,
        before,
    })
}

/// The files of a store that hold something, in order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(self::files(&entry.path())?);
        } else if fs::read(entry.path())?.iter().any(|byte| *byte != 0) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

impl Wound {
    /// The records of which a copy lies so near to the damage that it may have been lost with it.
    pub(super) fn touched<'a>(
        &self,
        records: impl Iterator<Item = (&'a Name, &'a Record)>,
    ) -> Result<BTreeSet<Name>> {
        let from = self.at.start.saturating_sub(REACH_BYTES);
        let until = (self.at.end + REACH_BYTES).min(self.before.len() as u64);
        found_in(
            &self.before[usize::try_from(from)?..usize::try_from(until)?],
            records,
        )
    }
}

/// The records that some bytes hold.
pub(super) fn found_in<'a>(
    near: &[u8],
    records: impl Iterator<Item = (&'a Name, &'a Record)>,
) -> Result<BTreeSet<Name>> {
    let mut sought: HashMap<[u8; PREFIX_BYTES], Vec<(Vec<u8>, &Name)>> = HashMap::new();
    for (name, record) in records {
        let content = content(name, record)?;
        let prefix = *content.first_chunk().context("a record is longer")?;
        sought.entry(prefix).or_default().push((content, name));
    }
    let mut touched = BTreeSet::new();
    for (at, window) in near.windows(PREFIX_BYTES).enumerate() {
        let candidates = window.first_chunk().and_then(|prefix| sought.get(prefix));
        let found = candidates.into_iter().flatten();
        let found = found.filter(|(content, _)| near[at..].starts_with(content));
        touched.extend(found.map(|(_, name)| (*name).clone()));
    }
    Ok(touched)
}

/// Bytes of a record by which it is looked for first: version, number, and most of the uptime.
const PREFIX_BYTES: usize = 8;

/// The bytes that stand for a record wherever it is stored: how the protocol writes one record alone.
fn content(name: &Name, record: &Record) -> Result<Vec<u8>> {
    let mut buffer = [0; RECORD_MAX_BYTES];
    let numbered = Numbered {
        seq: name.key.seq,
        record: *record,
    };
    let length = encode_record(&numbered, &mut buffer)
        .ok()
        .context("room for the longest record")?;
    ensure!(length >= PREFIX_BYTES, "{name} takes {length} bytes");
    Ok(buffer[..length].to_vec())
}
