//! A file system in memory, so small that a test can fill it: bytes and inodes. Needs root.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::peer::{run, skipped};

/// What runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Space.
    Bytes,
    /// Names.
    Inodes,
}

/// A mounted disk. Dropping it unmounts it.
#[derive(Debug)]
pub struct SmallDisk {
    mount: PathBuf,
}

/// Files that fill the disk are made in this folder of it.
const FILLERS: &str = "other-peoples-files";

impl SmallDisk {
    /// A fresh disk below `folder`; `None` where this machine does not allow it, and then the test is
    /// skipped by name.
    ///
    /// # Errors
    /// When it was mounted and cannot be used.
    pub fn create(folder: &Path, bytes: u64, inodes: u64) -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            skipped("needs root, to mount a small disk of its own");
            return Ok(None);
        }
        let mount = folder.join("small");
        fs::create_dir_all(&mount)?;
        let options = format!("size={bytes},nr_inodes={inodes}");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, "tmpfs"]);
        if let Err(error) = run(command.arg(&mount)) {
            skipped(&format!("needs to mount a tmpfs: {error}"));
            return Ok(None);
        }
        let disk = Self { mount };
        fs::create_dir(disk.mount.join(FILLERS))?;
        Ok(Some(disk))
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// What is free of a resource.
    ///
    /// # Errors
    /// When the disk cannot be asked.
    pub fn free(&self, resource: Resource) -> Result<u64> {
        let disk = statvfs(&self.mount)?;
        Ok(match resource {
            Resource::Bytes => disk.f_bavail * disk.f_frsize,
            Resource::Inodes => disk.f_favail,
        })
    }

    /// Fill the disk with other people's files until only `left` of a resource is free.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn fill(&self, resource: Resource, left: u64) -> Result<()> {
        let taken = self.free(resource)?.saturating_sub(left);
        let folder = self.mount.join(FILLERS);
        match resource {
            Resource::Bytes if taken == 0 => Ok(()),
            Resource::Bytes => {
                let file = File::create(folder.join(format!("bytes-{left}")))?;
                fallocate(&file, FallocateFlags::empty(), 0, taken).context("fill the disk")
            }
            Resource::Inodes => (0..taken).try_for_each(|number| {
                let file = File::create(folder.join(format!("name-{left}-{number}")));
                file.map(drop).context("use up the names")
            }),
        }
    }

    /// Remove other people's files.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub fn clear(&self) -> Result<()> {
        for file in fs::read_dir(self.mount.join(FILLERS))? {
            fs::remove_file(file?.path())?;
        }
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nobody is left to tell; a busy mount goes away with its last open file.
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.mount));
    }
}
