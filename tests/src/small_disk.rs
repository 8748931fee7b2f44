//! A file system in memory, so small that a test can fill it: bytes and inodes. Needs root.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

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

/// What is taken at once, in bytes: less than the hysteresis of a gateway that watches the same disk.
const STEP_BYTES: u64 = 1 << 20;

/// Least that can be taken, in bytes.
const PAGE_BYTES: u64 = 4_096;

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

    /// Fill the disk with other people's files until only `left` of a resource is free. What somebody gives
    /// up meanwhile is left alone.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn fill(&self, resource: Resource, left: u64) -> Result<()> {
        let amount = self.free(resource)?.saturating_sub(left);
        self.take(resource, amount)
    }

    /// Other people take so much more of a resource, or all there is.
    ///
    /// # Errors
    /// When their files cannot be made.
    pub fn take(&self, resource: Resource, amount: u64) -> Result<()> {
        let taken = match resource {
            Resource::Bytes => self.filler().and_then(|file| grow(&file, amount)),
            Resource::Inodes => (0..amount).try_for_each(|_| self.filler().map(drop)),
        };
        match taken {
            // Somebody else took some of it meanwhile.
            Err(error) if error.kind() == ErrorKind::StorageFull => Ok(()),
            taken => taken.context("fill the disk"),
        }
    }

    fn filler(&self) -> io::Result<File> {
        let name = self.fillers.fetch_add(1, Ordering::Relaxed).to_string();
        File::create(self.mount.join(FILLERS).join(name))
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

/// Makes a file `amount` bytes long, or as long as the disk allows. Space that is not enough for the whole of a
/// step is given back, and for that moment it is there for everybody: so steps are small, and smaller at the end.
fn grow(file: &File, amount: u64) -> io::Result<()> {
    let (mut length, mut step) = (0, STEP_BYTES);
    while length < amount {
        let taken = step.min(amount - length);
        match fallocate(file, FallocateFlags::empty(), length, taken) {
            Ok(()) => length += taken,
            Err(error) if step <= PAGE_BYTES => return Err(error.into()),
            Err(Errno::NOSPC) => step /= 2,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nobody is left to tell; a busy mount goes away with its last open file.
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.mount));
    }
}
