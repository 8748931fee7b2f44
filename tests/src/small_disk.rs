//! A file system in memory, so small that a test can fill it: bytes and inodes. Needs root.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Files made to fill it, ever: each gets a name of its own.
    fillers: AtomicU64,
}

/// How often filling is tried while a gateway writes to the same disk.
const TRIES_MAX: u32 = 1_000;

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
        let disk = Self {
            mount,
            fillers: AtomicU64::new(0),
        };
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
        let mut tries = 0;
        loop {
            let taken = self.free(resource)?.saturating_sub(left);
            if taken == 0 {
                return Ok(());
            }
            tries += 1;
            match self.take(resource, taken) {
                // Somebody else took some of it meanwhile: what is left now is taken.
                Err(error) if error.kind() == ErrorKind::StorageFull && tries < TRIES_MAX => {}
                taken => return taken.context("fill the disk"),
            }
        }
    }

    fn take(&self, resource: Resource, amount: u64) -> io::Result<()> {
        let file = || {
            let name = self.fillers.fetch_add(1, Ordering::Relaxed).to_string();
            File::create(self.mount.join(FILLERS).join(name))
        };
        match resource {
            Resource::Bytes => Ok(fallocate(file()?, FallocateFlags::empty(), 0, amount)?),
            Resource::Inodes => (0..amount).try_for_each(|_| file().map(drop)),
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
