//! A disk that keeps what was synced, and of everything else whatever chance keeps.
//!
//! It is stricter than the file systems in use: names are durable only by a sync of their folder, and lengths
//! and contents come to the disk in any order. A sector of [`SECTOR_BYTES`] is written whole or not at all
//! and holds what the file held there at some moment since the last sync, so a write of several sectors
//! may be torn anywhere. Names of one folder come to the disk in order, as a journal keeps them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use rand::RngExt;
use rand_pcg::Pcg32;

use super::call::{Call, CallId, FileId, Target};
use super::content::{Change, Content, SECTOR_BYTES, Sector, blank};

/// What is on the disk, and what is on its way there.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: BTreeMap<FileId, File>,
    folders: BTreeMap<String, Folder>,
    /// What each sync that has begun covers: its target, and how many changes of it there were.
    begun: BTreeMap<CallId, (Target, u64)>,
}

/// A file: what is durable, then what is not.
#[derive(Clone, Debug, Default)]
struct File {
    sectors: BTreeMap<u64, Sector>,
    length: u64,
    pending: Vec<Change>,
    /// Changes that are durable by now.
    settled: u64,
}

#[derive(Clone, Debug, Default)]
struct Folder {
    names: BTreeMap<String, Node>,
    pending: Vec<Naming>,
    settled: u64,
}

#[derive(Clone, Debug)]
enum Node {
    File(FileId),
    Folder(String),
}

#[derive(Clone, Debug)]
enum Naming {
    Add(String, Node),
    Rename(String, String),
    Remove(String),
}

/// What a machine finds after the cut.
#[derive(Clone, Debug, Default)]
pub struct Wreck {
    folders: Vec<String>,
    files: BTreeMap<String, Content>,
}

/// How much of what was not synced reaches the disk.
#[derive(Clone, Copy, Debug)]
enum Mercy {
    Nothing,
    Everything,
    Chance,
}

impl Disk {
    /// Takes a call.
    ///
    /// # Errors
    /// When it names a file or folder that was never made: then the record of calls is wrong.
    pub fn take(&mut self, call: &Call) -> Result<()> {
        match call {
            Call::MakeFolder(path) => {
                self.folders.insert(path.clone(), Folder::default());
                self.name(path, |name| Naming::Add(name, Node::Folder(path.clone())))?;
            }
            Call::Make(path, id) => {
                self.files.insert(*id, File::default());
                self.name(path, |name| Naming::Add(name, Node::File(*id)))?;
            }
            Call::Rename(from, to) => self.rename(from, to)?,
            Call::Remove(path) => self.name(path, Naming::Remove)?,
            Call::Write(id, offset, bytes) => {
                let change = Change::Write(*offset, bytes.clone());
                self.file(*id)?.pending.push(change);
            }
            Call::SetLength(id, length) => {
                self.file(*id)?.pending.push(Change::SetLength(*length));
            }
            Call::SyncBegun(call, target) => {
                let covered = self.changes(target)?;
                self.begun.insert(*call, (target.clone(), covered));
            }
            Call::Synced(call) => {
                let begun = self.begun.remove(call);
                let (target, covered) = begun.context("a sync ended that never began")?;
                self.settle(&target, covered)?;
            }
            Call::Sent(_) | Call::Acknowledged(_) => {}
        }
        Ok(())
    }

    /// Makes everything durable, as when the machine had been left alone for long.
    ///
    /// # Errors
    /// Never: what it names is there.
    pub fn settle_all(&mut self) -> Result<()> {
        let files = self.files.keys().copied().map(Target::File);
        let folders = self.folders.keys().cloned().map(Target::Folder);
        for target in files.chain(folders).collect::<Vec<_>>() {
            let covered = self.changes(&target)?;
            self.settle(&target, covered)?;
        }
        Ok(())
    }

    /// A disk with an empty root.
    #[must_use]
    pub fn empty() -> Self {
        let mut disk = Self::default();
        disk.folders.insert(String::new(), Folder::default());
        disk
    }

    /// Cuts the power now: what `chance` leaves on the disk.
    #[must_use]
    pub fn cut(&self, chance: &mut Pcg32) -> Wreck {
        let mercy = match chance.random_range(0..8_u32) {
            0 => Mercy::Nothing,
            1 => Mercy::Everything,
            _ => Mercy::Chance,
        };
        let mut wreck = Wreck::default();
        self.leave("", mercy, chance, &mut wreck);
        wreck
    }

    fn leave(&self, path: &str, mercy: Mercy, chance: &mut Pcg32, wreck: &mut Wreck) {
        let Some(folder) = self.folders.get(path) else {
            return;
        };
        for (name, node) in folder.left(mercy, chance) {
            let path = join(path, &name);
            match node {
                Node::Folder(made) => {
                    wreck.folders.push(path);
                    self.leave(&made, mercy, chance, wreck);
                }
                Node::File(id) => {
                    let file = self.files.get(&id);
                    let content = file.map(|file| file.left(mercy, chance));
                    wreck.files.insert(path, content.unwrap_or_default());
                }
            }
        }
    }

    fn file(&mut self, id: FileId) -> Result<&mut File> {
        self.files
            .get_mut(&id)
            .context("a file that was never made")
    }

    fn name(&mut self, path: &str, naming: impl FnOnce(String) -> Naming) -> Result<()> {
        let (folder, name) = split(path);
        let folder = self.folders.get_mut(folder);
        let folder = folder.with_context(|| format!("{path}: its folder was never made"))?;
        folder.pending.push(naming(name.to_owned()));
        Ok(())
    }

    /// Between two folders a name may be in both or in neither when the power is cut.
    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let ((old, name), (new, renamed)) = (split(from), split(to));
        if old == new {
            return self.name(from, |from| Naming::Rename(from, renamed.to_owned()));
        }
        let node = self
            .folders
            .get(old)
            .and_then(|folder| folder.now().remove(name));
        let node = node.with_context(|| format!("{from} was never made"))?;
        self.name(to, |to| Naming::Add(to, node))?;
        self.name(from, Naming::Remove)
    }

    fn changes(&mut self, target: &Target) -> Result<u64> {
        Ok(match target {
            Target::File(id) => {
                let file = self.file(*id)?;
                file.settled + file.pending.len() as u64
            }
            Target::Folder(path) => {
                let folder = self
                    .folders
                    .get(path)
                    .context("a folder that was never made")?;
                folder.settled + folder.pending.len() as u64
            }
        })
    }

    fn settle(&mut self, target: &Target, covered: u64) -> Result<()> {
        match target {
            Target::File(id) => self.file(*id)?.settle(covered),
            Target::Folder(path) => {
                let folder = self.folders.get_mut(path);
                folder
                    .context("a folder that was never made")?
                    .settle(covered);
            }
        }
        Ok(())
    }
}

impl File {
    fn settle(&mut self, covered: u64) {
        while self.settled < covered && !self.pending.is_empty() {
            let change = self.pending.remove(0);
            let mut content = Content {
                length: self.length,
                sectors: std::mem::take(&mut self.sectors),
            };
            content.change(&change);
            (self.length, self.sectors) = (content.length, content.sectors);
            self.settled += 1;
        }
    }

    /// What is left of it: each sector, and the length, as of a moment of its own.
    fn left(&self, mercy: Mercy, chance: &mut Pcg32) -> Content {
        let moments = self.pending.len();
        let mut moment = || match mercy {
            Mercy::Nothing => 0,
            Mercy::Everything => moments,
            Mercy::Chance => chance.random_range(0..=moments),
        };
        let mut left = Content {
            length: self.length,
            sectors: self.sectors.clone(),
        };
        for number in self.touched() {
            let sector = self.sector_at(number, moment());
            left.sectors.insert(number, sector);
        }
        for change in self.pending.iter().take(moment()) {
            left.length = change.length_after(left.length);
        }
        left.clip();
        left
    }

    /// The sectors that a pending write reaches.
    fn touched(&self) -> Vec<u64> {
        let mut touched = Vec::new();
        for change in &self.pending {
            if let Change::Write(offset, bytes) = change {
                let end = offset + bytes.len() as u64;
                touched.extend(offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
            }
        }
        touched.sort_unstable();
        touched.dedup();
        touched
    }

    /// A sector as it was after the first `moment` of the pending changes.
    fn sector_at(&self, number: u64, moment: usize) -> Sector {
        let mut content = Content {
            length: self.length,
            sectors: BTreeMap::new(),
        };
        if let Some(sector) = self.sectors.get(&number) {
            content.sectors.insert(number, sector.clone());
        }
        for change in self.pending.iter().take(moment) {
            content.change_sector(change, number);
        }
        content.sectors.remove(&number).unwrap_or_else(blank)
    }
}

impl Folder {
    fn settle(&mut self, covered: u64) {
        while self.settled < covered && !self.pending.is_empty() {
            let naming = self.pending.remove(0);
            naming.change(&mut self.names);
            self.settled += 1;
        }
    }

    /// The names as a running machine sees them.
    fn now(&self) -> BTreeMap<String, Node> {
        let mut names = self.names.clone();
        for naming in &self.pending {
            naming.change(&mut names);
        }
        names
    }

    fn left(&self, mercy: Mercy, chance: &mut Pcg32) -> BTreeMap<String, Node> {
        let moment = match mercy {
            Mercy::Nothing => 0,
            Mercy::Everything => self.pending.len(),
            Mercy::Chance => chance.random_range(0..=self.pending.len()),
        };
        let mut names = self.names.clone();
        for naming in self.pending.iter().take(moment) {
            naming.change(&mut names);
        }
        names
    }
}

impl Naming {
    fn change(&self, names: &mut BTreeMap<String, Node>) {
        match self {
            Self::Add(name, node) => drop(names.insert(name.clone(), node.clone())),
            Self::Remove(name) => drop(names.remove(name)),
            Self::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

impl Wreck {
    /// A file of it.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&Content> {
        self.files.get(path)
    }

    /// Puts it into a folder that is there and empty.
    ///
    /// # Errors
    /// When the machine does not let it.
    pub fn write(&self, root: &Path) -> Result<()> {
        for folder in &self.folders {
            fs::create_dir_all(root.join(folder))?;
        }
        for (path, content) in &self.files {
            content.write(&root.join(path))?;
        }
        Ok(())
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}
