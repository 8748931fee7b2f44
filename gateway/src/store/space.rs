//! Free space: readings stop being taken before the engine fails for lack of it.
//!
//! ```text
//! free bytes   | watermark                  | floor              0
//! -------------+----------------------------+--------------------+
//!  everything  | full: no reading is taken, | starved: nothing   |
//!  goes on     | fold and delivery go on    | is written         |
//! ```
//! Two files of the data folder hold space back from whatever else fills the disk. The *reserve* is
//! given up when a running gateway comes to the floor, so that fold, delivery and deletes go on. The
//! *ballast* is given up when the store is to be opened on a full disk: the engine must write to open.
//! Both are allocated anew when there is space for them above the watermark. A disk that fills faster than
//! the floor between two looks (800 MB/s) makes a write fail: then the process ends with code 3, and the
//! next start goes on, full. Inodes are watched as well as bytes, and the disk space planned for the store
//! counts as the end of the disk.
//!
//! A start is judged as if the store had been full: a gateway that ended on a full disk has given up its files,
//! and must not take readings into the space that they held.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Store;
use crate::clock::monotonic;

/// How long a look stays true, in wall time: some MiB at the highest rate of writing, a fraction of the
/// floor. A look costs a microsecond.
const LOOK_AGE_MAX: Duration = Duration::from_millis(20);

/// What the engine may still write after it was last looked, in bytes. Sled: a log segment that is sealed and
/// the next one, 8 MiB each. Redb: what it keeps in memory until the next sync, which is bounded there.
pub const FLOOR_BYTES: u64 = 16 * 1024 * 1024;

/// How long nobody else may have taken space before the reserve is given up, in wall time.
const CALM: Duration = Duration::from_millis(100);

/// How often the files are allocated that could not be, in wall time.
const HOLD_PAUSE: Duration = Duration::from_secs(60);

/// Free bytes above the watermark at which readings are taken again: else every small file that comes and
/// goes would switch.
const HYSTERESIS_BYTES: u64 = 4 * 1024 * 1024;

/// Free inodes below which no reading is taken. Opening needs about five names: the engine's snapshots,
/// the control socket, the two files here.
const INODES_WATERMARK: u64 = 16;

/// Free inodes below which the reserve is given up, for the names that the engine makes now and then.
pub const INODES_FLOOR: u64 = 4;

/// Free inodes above the watermark at which readings are taken again.
const INODES_HYSTERESIS: u64 = 8;

impl Store {
    /// Watches `space` from now on. The first watch stays.
    pub fn watch(&self, space: Space) {
        self.0.space.get_or_init(|| space);
    }

    /// Whether there is room for more; always, when no disk is watched.
    #[must_use]
    pub fn room(&self) -> Room {
        let space = self.0.space.get();
        space.map_or(Room::Enough, |space| {
            let _call = self.0.patience.begin("look at the disk");
            space.look(|| self.size_bytes().unwrap_or_default())
        })
    }
}

/// What is kept free, in bytes; see `[store]` of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Below this no reading is taken.
    pub watermark_bytes: u64,
    /// Size of the file given up for fold and delivery.
    pub reserve_bytes: u64,
    /// Size of the file given up for opening.
    pub ballast_bytes: u64,
    /// Disk space planned for the store.
    pub budget_bytes: Option<u64>,
}

/// Whether there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Everything goes on.
    Enough,
    /// No reading is taken; what is stored is folded and delivered.
    Full(Shortage),
    /// Nothing is written.
    Starved(Shortage),
}

impl Room {
    /// What is short, if anything is.
    #[must_use]
    pub const fn shortage(self) -> Option<Shortage> {
        match self {
            Self::Enough => None,
            Self::Full(shortage) | Self::Starved(shortage) => Some(shortage),
        }
    }

    /// Whether fold, delivery and sessions may write.
    #[must_use]
    pub const fn may_write(self) -> bool {
        !matches!(self, Self::Starved(_))
    }
}

/// What is short of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// What runs out: `bytes`, `inodes`, or `bytes of store.budget`.
    pub what: &'static str,
    /// How much of it is free.
    pub free: u64,
    /// How much must be free for readings to be taken again.
    pub needed: u64,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, free, needed } = self;
        write!(f, "{free} {what} free, {needed} needed")
    }
}

/// What a file system has left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Free {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

/// The watch over one data folder.
#[derive(Debug)]
pub struct Space {
    folder: PathBuf,
    limits: Limits,
    reserve: Held,
    ballast: Held,
    last: Mutex<Look>,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Option<Instant>,
    /// What was found; nothing before the first look.
    room: Option<Room>,
    /// When allocating the files was tried last.
    tried: Option<Instant>,
    /// Least that was free since the floor was reached, and when.
    least: Option<(u64, Instant)>,
}

impl Space {
    /// Begins the watch over the data folder, before its store is opened: on a full disk the ballast
    /// is given up for that.
    ///
    /// # Errors
    /// When the file system cannot be asked.
    pub fn claim(folder: &Path, limits: Limits) -> io::Result<Self> {
        let space = Self {
            folder: folder.to_owned(),
            limits,
            reserve: Held::new(folder, "reserve", limits.reserve_bytes),
            ballast: Held::new(folder, "ballast", limits.ballast_bytes),
            last: Mutex::new(Look {
                at: None,
                room: None,
                tried: None,
                least: None,
            }),
        };
        let free = measure(folder)?;
        if free.bytes < FLOOR_BYTES || free.inodes < INODES_WATERMARK {
            space.ballast.give_up();
        }
        Ok(space)
    }

    /// Whether there is room, by a look not older than a few milliseconds. `used` counts the bytes of
    /// the store; it is asked only when a budget is set.
    pub(super) fn look(&self, used: impl FnOnce() -> u64) -> Room {
        // A panic while it was held left the look before, which is whole.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = monotonic();
        let fresh = |at| now.saturating_duration_since(at) < LOOK_AGE_MAX;
        // A disk that could not be asked yet is met by the first write.
        let before = last.room.unwrap_or(Room::Enough);
        if last.at.is_some_and(fresh) {
            return before;
        }
        if let Some(free) = self.measure(&mut last.least, now) {
            let room = self.judge(last.room, free, self.left_of_budget(used));
            tell(before, room);
            let waited = |tried| now.saturating_duration_since(tried) >= HOLD_PAUSE;
            let due = before != room || last.tried.is_none_or(waited);
            if room == Room::Enough && due {
                self.hold_again(free);
                last.tried = Some(now);
            }
            last.room = Some(room);
        }
        last.at = Some(now);
        last.room.unwrap_or(before)
    }

    /// What is kept free and what is free now; `None` when the disk cannot be asked.
    pub(super) fn state(&self) -> Option<(Limits, Free)> {
        Some((self.limits, measure(&self.folder).ok()?))
    }

    /// What is free, after the reserve was given up if that helps: not while others still take what they
    /// can get, which would be all of it. A disk that cannot be asked is judged as before: if it is broken, the
    /// next write says so.
    fn measure(&self, least: &mut Option<(u64, Instant)>, now: Instant) -> Option<Free> {
        let free = measure(&self.folder).ok()?;
        if free.bytes >= FLOOR_BYTES && free.inodes >= INODES_FLOOR {
            *least = None;
            return Some(free);
        }
        let (bytes, since) = *least.get_or_insert((free.bytes, now));
        if free.bytes < bytes {
            *least = Some((free.bytes, now));
        } else if now.saturating_duration_since(since) >= CALM && self.reserve.give_up() {
            return measure(&self.folder).ok();
        }
        Some(free)
    }

    fn left_of_budget(&self, used: impl FnOnce() -> u64) -> Option<u64> {
        let budget = self.limits.budget_bytes?;
        Some(budget.saturating_sub(used()))
    }

    fn judge(&self, before: Option<Room>, free: Free, of_budget: Option<u64>) -> Room {
        let short = |what, free, watermark: u64, leave: u64| {
            let needed = match before {
                Some(Room::Enough) => watermark,
                Some(Room::Full(_) | Room::Starved(_)) | None => watermark + leave,
            };
            (free < needed).then_some(Shortage { what, free, needed })
        };
        let watermark = self.limits.watermark_bytes;
        let owed = self.reserve.missing_bytes() + self.ballast.missing_bytes();
        let bytes = short("bytes", free.bytes, watermark, HYSTERESIS_BYTES + owed);
        let inodes = short("inodes", free.inodes, INODES_WATERMARK, INODES_HYSTERESIS);
        let budget = of_budget
            .and_then(|left| short("bytes of store.budget", left, watermark, HYSTERESIS_BYTES));
        match bytes {
            Some(bytes) if free.bytes < FLOOR_BYTES => Room::Starved(bytes),
            // Files that are there can grow without another name.
            _ => bytes.or(inodes).or(budget).map_or(Room::Enough, Room::Full),
        }
    }

    /// Allocates the files that are missing, while that leaves more than the watermark.
    fn hold_again(&self, free: Free) {
        let mut spare = free
            .bytes
            .saturating_sub(self.limits.watermark_bytes + HYSTERESIS_BYTES);
        for held in [&self.ballast, &self.reserve] {
            let missing = held.missing_bytes();
            if missing > spare {
                let path = held.path.display();
                tracing::warn!(
                    "{path}: {missing} bytes not held back: the disk has no room above store.watermark"
                );
            } else if missing > 0 && held.allocate() {
                spare -= missing;
            }
        }
    }
}

fn tell(before: Room, now: Room) {
    match (before, now) {
        (Room::Enough, Room::Full(shortage) | Room::Starved(shortage)) => tracing::error!(
            "store is full: no reading is acknowledged until there is space: {shortage}"
        ),
        (Room::Full(_), Room::Starved(shortage)) => tracing::error!(
            "store is out of space: nothing is folded or delivered until there is some: {shortage}"
        ),
        (Room::Starved(_), Room::Full(shortage)) => {
            tracing::warn!("store is full, fold and delivery go on: {shortage}");
        }
        (Room::Full(_) | Room::Starved(_), Room::Enough) => {
            tracing::warn!("store has space again: readings are taken");
        }
        _ => {}
    }
}

/// A file that holds space back.
#[derive(Debug)]
struct Held {
    path: PathBuf,
    bytes: u64,
}

impl Held {
    fn new(folder: &Path, name: &str, bytes: u64) -> Self {
        Self {
            path: folder.join(name),
            bytes,
        }
    }

    /// Bytes that it should hold and does not.
    fn missing_bytes(&self) -> u64 {
        let held = fs::metadata(&self.path).map_or(0, |file| file.len());
        self.bytes.saturating_sub(held)
    }

    /// Returns whether there was something to give.
    fn give_up(&self) -> bool {
        let given = fs::remove_file(&self.path).is_ok();
        if given {
            let (path, bytes) = (self.path.display(), self.bytes);
            tracing::warn!("{path}: {bytes} bytes given up for the store");
        }
        given
    }

    /// Returns whether all of it is allocated; a part is given back.
    fn allocate(&self) -> bool {
        let allocated = File::create(&self.path)
            .and_then(|file| allocate(&file, self.bytes).and_then(|()| file.sync_all()));
        if let Err(error) = &allocated {
            tracing::warn!("{}: not allocated: {error}", self.path.display());
            // It holds nothing useful; an error here is met again by the next attempt.
            let _ = fs::remove_file(&self.path);
        }
        allocated.is_ok()
    }
}

#[cfg(unix)]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(file, bytes),
        allocated => Ok(allocated?),
    }
}

#[cfg(not(unix))]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    write_zeros(file, bytes)
}

fn write_zeros(mut file: &File, bytes: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), bytes), &mut file).map(drop)
}

#[cfg(unix)]
fn measure(folder: &Path) -> io::Result<Free> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(Free {
        bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        // File systems that make inodes as they need them state none at all.
        inodes: if disk.f_files == 0 {
            u64::MAX
        } else {
            disk.f_favail
        },
    })
}

/// The standard library cannot ask; there the budget alone is watched.
#[cfg(not(unix))]
fn measure(_: &Path) -> io::Result<Free> {
    Ok(Free {
        bytes: u64::MAX,
        inodes: u64::MAX,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn space(folder: &Path, budget_bytes: Option<u64>) -> Space {
        let limits = Limits {
            watermark_bytes: 64 * MIB,
            reserve_bytes: MIB,
            ballast_bytes: 2 * MIB,
            budget_bytes,
        };
        Space::claim(folder, limits).unwrap()
    }

    const fn free(bytes: u64, inodes: u64) -> Free {
        Free { bytes, inodes }
    }

    #[test]
    fn full_begins_below_the_watermark_and_ends_above_it_with_the_files_held_again() {
        let folder = tempfile::tempdir().unwrap();
        let space = space(folder.path(), None);
        let judge = |before, bytes| space.judge(Some(before), free(bytes, u64::MAX), None);
        assert_eq!(judge(Room::Enough, 64 * MIB), Room::Enough);
        let full = judge(Room::Enough, 64 * MIB - 1);
        assert!(matches!(full, Room::Full(_)), "{full:?}");
        assert!(full.may_write());
        // Hysteresis, and both files are still to be allocated.
        let leave = 64 * MIB + HYSTERESIS_BYTES + 3 * MIB;
        let still = judge(full, leave - 1);
        assert_eq!(still.shortage().unwrap().needed, leave);
        assert_eq!(judge(full, leave), Room::Enough);
        let starved = judge(full, FLOOR_BYTES - 1);
        assert!(!starved.may_write(), "{starved:?}");
    }

    #[test]
    fn a_start_takes_no_readings_into_the_space_of_files_that_were_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let start = |bytes| space(folder.path(), None).judge(None, free(bytes, u64::MAX), None);
        let needed = 64 * MIB + HYSTERESIS_BYTES + 3 * MIB;
        let full = start(needed - 1);
        assert_eq!(full.shortage().unwrap().needed, needed);
        assert!(full.may_write());
        assert_eq!(start(needed), Room::Enough);
        space(folder.path(), None).hold_again(free(needed, 99));
        assert_eq!(start(64 * MIB + HYSTERESIS_BYTES), Room::Enough, "held");
    }

    #[test]
    fn inodes_and_the_budget_run_out_as_bytes_do() {
        let folder = tempfile::tempdir().unwrap();
        let space = space(folder.path(), Some(200 * MIB));
        let judge =
            |before, inodes, left| space.judge(Some(before), free(u64::MAX, inodes), Some(left));
        assert_eq!(judge(Room::Enough, 16, 64 * MIB), Room::Enough);
        let inodes = judge(Room::Enough, 15, 64 * MIB);
        let text = inodes.shortage().unwrap().to_string();
        assert_eq!(text, "15 inodes free, 16 needed");
        assert!(matches!(judge(inodes, 23, 200 * MIB), Room::Full(_)));
        assert_eq!(judge(inodes, 24, 200 * MIB), Room::Enough);
        assert!(judge(Room::Enough, 0, 64 * MIB).may_write());
        let budget = judge(Room::Enough, 99, 64 * MIB - 1);
        assert_eq!(budget.shortage().unwrap().what, "bytes of store.budget");
        assert!(budget.may_write());
    }

    #[test]
    fn the_files_are_allocated_at_the_first_look_given_up_and_allocated_again() {
        let folder = tempfile::tempdir().unwrap();
        let space = space(folder.path(), None);
        let held = [&space.reserve, &space.ballast];
        space.hold_again(free(67 * MIB, 99));
        assert_eq!(held.map(Held::missing_bytes), [MIB, 2 * MIB], "no room");
        space.hold_again(free(71 * MIB, 99));
        assert_eq!(held.map(Held::missing_bytes), [0, 0]);
        assert!(space.reserve.give_up());
        assert!(!space.reserve.give_up(), "there is only one to give");
        assert_eq!(held.map(Held::missing_bytes), [MIB, 0]);
        space.hold_again(free(71 * MIB, 99));
        assert_eq!(held.map(Held::missing_bytes), [0, 0]);
    }
}
