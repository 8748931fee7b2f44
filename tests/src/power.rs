//! A power cut with the real kernel: an ext4 file system in a file, shut down under a running program.
//!
//! `EXT4_IOC_SHUTDOWN` without flushing the log makes the kernel drop whatever it had not yet been
//! told to make durable, and refuse everything after. Mounted again, the disk holds what a machine
//! would find after its plug was pulled. Needs root and loop devices.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::peer::{foreign, run, skipped};

/// Size of the disk: sled's segments are 8 MiB, and a test writes a few of them.
const DISK_BYTES: u64 = 512 * 1024 * 1024;

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`. Perl is part of every Debian base system,
/// and this crate has no unsafe code to call ioctl with.
const CUT: &str = "sysopen(my $disk, $ARGV[0], 0) or die \"open: $!\"; \
    my $flags = pack('L', 2); ioctl($disk, 0x8004587D, $flags) or die \"ioctl: $!\"";

/// A mounted disk. Dropping it unmounts it.
#[derive(Debug)]
pub struct Disk {
    perl: PathBuf,
    image: PathBuf,
    mount: PathBuf,
    mounted: bool,
}

impl Disk {
    /// A fresh disk, mounted below `folder`; `None` where this machine does not allow it, and then the
    /// test is skipped by name.
    ///
    /// # Errors
    /// When the disk was made and could not be used.
    pub fn create(folder: &Path) -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            skipped("needs root, to mount a disk of its own");
            return Ok(None);
        }
        if !Path::new("/dev/loop-control").exists() {
            skipped("needs loop devices, to mount a disk of its own");
            return Ok(None);
        }
        let programs = (foreign("mkfs.ext4", "e2fsprogs"), foreign("perl", "perl"));
        let (Some(mkfs), Some(perl)) = programs else {
            return Ok(None);
        };
        let mut disk = Self {
            perl,
            image: folder.join("disk"),
            mount: folder.join("mount"),
            mounted: false,
        };
        fs::create_dir_all(&disk.mount)?;
        fs::File::create(&disk.image)?.set_len(DISK_BYTES)?;
        run(Command::new(mkfs).args(["-q", "-F"]).arg(&disk.image))?;
        if let Err(error) = disk.attach() {
            skipped(&format!("needs loop devices that mount: {error}"));
            return Ok(None);
        }
        Ok(Some(disk))
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Pull the plug: from now on every write and sync on this disk fails.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn cut(&self) -> Result<()> {
        let cut = run(Command::new(&self.perl).args(["-e", CUT]).arg(&self.mount));
        cut.map(drop).context("cut the power of the disk")
    }

    /// Let the kernel find the file system faulty: it makes it read-only under the programs that use it,
    /// as it does over a disk that dies. [`Disk::restore`] makes it whole.
    ///
    /// # Errors
    /// When the kernel does not say which device this is, or refuses.
    pub fn make_read_only(&self) -> Result<()> {
        let mounts = fs::read_to_string("/proc/mounts")?;
        let mount = self.mount.to_string_lossy();
        let mut fields = mounts
            .lines()
            .map(|line| line.split(' ').take(2).collect::<Vec<_>>());
        let own = fields.find(|fields| fields.get(1) == Some(&&*mount));
        let device = own.and_then(|fields| fields[0].strip_prefix("/dev/").map(ToOwned::to_owned));
        let device = device.with_context(|| format!("no device is mounted at {mount}"))?;
        let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        fs::write(&trigger, "fault campaign").with_context(|| trigger)
    }

    /// Plug in again. Every program that had files open there must have ended.
    ///
    /// # Errors
    /// When the disk is still in use or cannot be mounted.
    pub fn restore(&mut self) -> Result<()> {
        self.detach()?;
        self.attach()
    }

    fn attach(&mut self) -> Result<()> {
        let mut mount = Command::new("mount");
        let options = ["-o", "loop,errors=remount-ro"];
        run(mount.args(options).arg(&self.image).arg(&self.mount))?;
        self.mounted = true;
        Ok(())
    }

    fn detach(&mut self) -> Result<()> {
        run(Command::new("umount").arg(&self.mount))?;
        self.mounted = false;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = self.detach();
        }
    }
}
