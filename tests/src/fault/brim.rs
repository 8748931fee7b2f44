//! A disk filled to the brim under a gateway that takes readings: how it gets there, and what must hold there.
//!
//! Nothing here is judged by time. What is sent after the gateway has said that it is full must not be
//! acknowledged, and at most one commit, under way at that moment, may still come. Other people's files
//! grow in steps: each step waits until the gateway has seen the one before, and leaves it as much as it may
//! need for what it had begun by then.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gateway::clock::monotonic;
use gateway::store::space::{FLOOR_BYTES, INODES_FLOOR};

use super::full::{DEVICES, Strike, WINDOW};
use crate::depot::{Depot, fact, newest, stated};
use crate::load::Load;
use crate::peer::{http_get, say, wait_for};
use crate::small_disk::{Resource, SmallDisk};

/// What is said of a gateway that goes on acknowledging.
pub(super) const ACKNOWLEDGED: &str = "were acknowledged on a full disk";

/// How long nothing may be acknowledged when every device waits for as much as it may: many rounds of a
/// load that sends all the time.
const SILENCE: Duration = Duration::from_millis(400);

/// Longest time from space to the next PUBACK. A second is promised, and each try says how long it took; other
/// programs that take the cores shall not make it fail.
const RESUME_MAX: Duration = Duration::from_secs(10);

/// How long a gateway whose write has failed may need to end.
const ENDING_MAX: Duration = Duration::from_secs(10);

/// Between two looks whether it has.
const ENDING_LOOK: Duration = Duration::from_millis(10);

/// What the manual calls the environment's fault.
const EXIT_ENVIRONMENT: i32 = 3;

/// Free bytes of the first step: below the watermark of these runs (32 MiB), by more than their store may give
/// back and by less than the floor.
const BELOW_WATERMARK_BYTES: u64 = 28 << 20;

/// Free bytes of the second step: below the floor, by half of it.
const BELOW_FLOOR_BYTES: u64 = FLOOR_BYTES / 2;

/// Free inodes of the first step: below the watermark, which is 16.
const BELOW_WATERMARK_INODES: u64 = 12;

/// Free inodes of the second step: below the floor.
const BELOW_FLOOR_INODES: u64 = INODES_FLOOR / 2;

/// How many commits the gateway has made.
pub(super) fn commits(depot: &Depot) -> Result<u64> {
    fact(&depot.status()?, "newest_commit", &[]).context("no newest_commit in status")
}

/// Whether everything stored by now is judged, and the file sink has all that the gateway states.
fn has_drained(depot: &Depot) -> Result<bool> {
    let status = depot.status()?;
    let commit = |name| fact(&status, name, &[]);
    let folded = commit("folded_commit") >= commit("newest_commit");
    let stated: BTreeSet<_> = depot.export("events")?.iter().filter_map(stated).collect();
    Ok(folded && stated == newest(&depot.delivered()?)?)
}

/// A gateway, its load, and the disk that fills up.
pub(super) struct Brim<'a> {
    pub(super) disk: &'a SmallDisk,
    pub(super) depot: &'a mut Depot,
    pub(super) load: &'a Load,
    pub(super) point: &'a Strike,
}

impl Brim<'_> {
    /// Fills the disk; readings stop and nothing else does, over a restart as well.
    pub(super) fn reach(&mut self) -> Result<()> {
        let Strike { resource, left, .. } = *self.point;
        if !self.point.sudden {
            return self.creep();
        }
        self.disk.fill(resource, left)?;
        match self.stays_full(Self::goes_on) {
            Err(_) if self.may_end() && self.has_ended()? => {
                self.load.forbid();
                self.depot.start_full()?;
                self.stays_full(Self::goes_on).context("after it ended")
            }
            judged => judged,
        }
    }

    /// Other people's files go, and readings are taken again. A gateway whose write had failed may still have
    /// answered until now: it is started again. Returns whether it was.
    pub(super) fn leave(&mut self) -> Result<bool> {
        self.load.allow();
        self.disk.clear()?;
        let before = self.load.acknowledged();
        let (mut begun, mut restarted) = (monotonic(), false);
        wait_for("readings to be taken again", || {
            ensure!(self.load.is_running(), "a device gave up");
            if !self.depot.is_alive()? {
                ensure!(self.may_end() && self.has_ended()?, "the gateway ended");
                self.depot.start()?;
                (begun, restarted) = (monotonic(), true);
            }
            Ok((self.load.acknowledged() > before).then_some(()))
        })?;
        let took = begun.elapsed();
        say(&format!("from space to PUBACK: {} ms", took.as_millis()));
        ensure!(took <= RESUME_MAX, "it took {took:?} from space to PUBACK");
        Ok(restarted)
    }

    /// Other people's files grow step by step.
    fn creep(&mut self) -> Result<()> {
        let Strike { resource, left, .. } = *self.point;
        let (first, second) = match resource {
            Resource::Bytes => (BELOW_WATERMARK_BYTES, BELOW_FLOOR_BYTES),
            Resource::Inodes => (BELOW_WATERMARK_INODES, BELOW_FLOOR_INODES),
        };
        self.disk.fill(resource, first.max(left))?;
        self.stays_full(|brim| {
            let second = second.max(left);
            brim.disk.fill(resource, second)?;
            if resource == Resource::Bytes && second < FLOOR_BYTES {
                brim.await_line("store is out of space")?;
            }
            // What it had begun has ended; for what follows it gives up its reserve.
            brim.goes_on()?;
            brim.disk.take(resource, second - left)?;
            brim.goes_on()
        })
    }

    /// From the moment it says that it is full until `then`, and a restart after that, no reading is taken.
    fn stays_full(&mut self, then: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.await_full()?;
        self.load.forbid();
        let before = commits(self.depot)?;
        then(self).context("while full")?;
        self.is_silent().context("while full")?;
        if self.point.restart {
            self.depot.kill()?;
            self.depot.start_full()?;
            self.await_full()?;
            self.goes_on().context("after a restart while full")?;
            self.is_silent().context("after a restart while full")?;
        }
        let late = commits(self.depot)?.saturating_sub(before);
        ensure!(late <= 1, "{late} commits {ACKNOWLEDGED}");
        let log = self.depot.log()?;
        ensure!(!log.contains("store has space again"), "there was no space");
        Ok(())
    }

    /// Readiness names what is short, how much of it there is and how much is needed.
    fn await_full(&mut self) -> Result<()> {
        let what = match self.point.resource {
            Resource::Bytes => "bytes free",
            Resource::Inodes => "inodes free",
        };
        let depot = &mut *self.depot;
        wait_for("readiness to say full", || {
            ensure!(depot.is_alive()?, "the gateway ended");
            let (status, text) = http_get(depot.http, "/readyz")?;
            let named = ["full: ", what, "needed"]
                .iter()
                .all(|word| text.contains(word));
            Ok((status == 503 && named).then_some(()))
        })
    }

    fn await_line(&self, line: &str) -> Result<()> {
        wait_for(&format!("the log to say {line:?}"), || {
            Ok(self.depot.log()?.contains(line).then_some(()))
        })
    }

    /// Every device waits for as much as it may, and waits on.
    fn is_silent(&self) -> Result<()> {
        wait_for("every window to be full", || {
            self.none_acknowledged()?;
            let all = u64::from(DEVICES) * WINDOW as u64;
            Ok((self.load.waiting() == all).then_some(()))
        })?;
        thread::sleep(SILENCE);
        self.none_acknowledged()
    }

    fn none_acknowledged(&self) -> Result<()> {
        ensure!(self.load.is_running(), "a device gave up");
        let acknowledged = self.load.acknowledged_forbidden();
        ensure!(
            acknowledged == 0,
            "{acknowledged} publications {ACKNOWLEDGED}"
        );
        Ok(())
    }

    /// What was stored is folded and delivered, and can be read.
    fn goes_on(&mut self) -> Result<()> {
        let full = self.depot.metric("supercargo_store_full")?;
        ensure!(full == 1.0, "metrics");
        // Commands answer for a gateway that has ended as well, but it delivers nothing more.
        let depot = &mut *self.depot;
        wait_for("what is stored to be folded and delivered", || {
            ensure!(depot.is_alive()?, "the gateway ended");
            Ok(has_drained(depot)?.then_some(()))
        })?;
        ensure!(
            !self.depot.export("readings")?.is_empty(),
            "nothing to export"
        );
        Ok(())
    }

    /// Whether a write may fail: the disk loses more than the floor faster than anyone can look.
    fn may_end(&self) -> bool {
        let floor = match self.point.resource {
            Resource::Bytes => FLOOR_BYTES,
            Resource::Inodes => INODES_FLOOR,
        };
        self.point.sudden && self.point.left < floor
    }

    /// Whether the gateway ends; then with the code of the environment's faults.
    fn has_ended(&mut self) -> Result<bool> {
        let begun = monotonic();
        while self.depot.is_alive()? {
            if begun.elapsed() > ENDING_MAX {
                return Ok(false);
            }
            thread::sleep(ENDING_LOOK);
        }
        let status = self.depot.ended()?;
        ensure!(
            status.code() == Some(EXIT_ENVIRONMENT),
            "it ended with {status}"
        );
        Ok(true)
    }
}
