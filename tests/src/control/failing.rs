//! Failpoints and engines that lie: the shipped gateway and engine, with something in between that kills
//! the process, or fails one call, at a place named on the command line, or that does not do what it says.
//!
//! The flaw is `no-sync`, `short-runs`, `believe`, or `strike@point`, the strike being `kill`, `stall`, `hang` or `eio`; several
//! are joined by `+`.

mod lying;

use std::cell::Cell;
use std::io;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use gateway::store::{Batch, Engine, EngineError, Row, Span, Store};
use rustix::process::{Signal, getpid, kill_process};
use tests::fault::point::{Call, HANGS, Point, Side, Step};
use tests::peer::say;
use tests::stand_in;

use crate::lying::{Believing, NoSync, ShortRuns};

fn main() -> Result<ExitCode> {
    stand_in::run(|kind, folder, patience, flaws| {
        let flaws: Vec<Flaw> = flaws.split('+').map(str::parse).collect::<Result<_>>()?;
        let wrap = |engine| {
            flaws
                .iter()
                .fold(engine, |engine, flaw| flaw.put_on(engine))
        };
        Ok(Store::open_through(kind, folder, patience, wrap)?)
    })
}

/// What is wrong with an engine.
#[derive(Clone, Copy)]
enum Flaw {
    NoSync,
    ShortRuns,
    Believe,
    Strike(Strike, Point),
}

/// What happens at a point.
#[derive(Clone, Copy)]
enum Strike {
    /// The process is killed.
    Kill,
    /// The call waits for [`STALL`], then the process is killed.
    Stall,
    /// The call never returns.
    Hang,
    /// The call fails with EIO.
    Error,
}

/// How long a stalled call waits: many times what a device needs to connect again and to repeat what it
/// has no answer for.
const STALL: Duration = Duration::from_millis(500);

impl FromStr for Flaw {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (strike, point) = match text {
            "no-sync" => return Ok(Self::NoSync),
            "short-runs" => return Ok(Self::ShortRuns),
            "believe" => return Ok(Self::Believe),
            other => other
                .split_once('@')
                .context("a flaw has a name, or is strike@point")?,
        };
        let strike = match strike {
            "kill" => Strike::Kill,
            "stall" => Strike::Stall,
            "hang" => Strike::Hang,
            "eio" => Strike::Error,
            other => bail!("a strike is kill, stall, hang or eio, not `{other}`"),
        };
        Ok(Self::Strike(strike, point.parse()?))
    }
}

impl Flaw {
    fn put_on(self, engine: Box<dyn Engine>) -> Box<dyn Engine> {
        match self {
            Self::NoSync => Box::new(NoSync(engine)),
            Self::ShortRuns => Box::new(ShortRuns(engine)),
            Self::Believe => Box::new(Believing(engine)),
            Self::Strike(strike, point) => Box::new(Failing {
                engine,
                strike,
                point,
                met: AtomicU32::new(0),
            }),
        }
    }
}

thread_local! {
    /// The step whose batch this thread has applied last: the one it syncs for.
    static STEP: Cell<Option<Step>> = const { Cell::new(None) };
}

struct Failing {
    engine: Box<dyn Engine>,
    strike: Strike,
    point: Point,
    /// How often the point has been passed.
    met: AtomicU32,
}

impl Failing {
    fn pass(&self, step: Option<Step>, call: Call, side: Side) -> Result<(), EngineError> {
        let is_any = self.point.step == Step::Any && self.point.call != Call::Close;
        let is_here = step == Some(self.point.step) && call == self.point.call;
        if side != self.point.side || !(is_any || is_here) {
            return Ok(());
        }
        let nth = self.met.fetch_add(1, Ordering::SeqCst) + 1;
        if nth != self.point.nth {
            return Ok(());
        }
        match self.strike {
            Strike::Error => return Err(io::Error::from_raw_os_error(EIO).into()),
            Strike::Hang => hang(),
            Strike::Stall => thread::sleep(STALL),
            Strike::Kill => {}
        }
        kill_process(getpid(), Signal::KILL)?;
        // The signal may need a moment to reach this thread; it goes no further.
        park()
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&dyn Engine) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        self.pass(None, Call::Apply, Side::Before)?;
        let answer = read(&*self.engine);
        self.pass(None, Call::Apply, Side::After)?;
        answer
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        if self.point.call == Call::Close {
            // An error has nobody to go to here.
            let _ = self.pass(Some(self.point.step), Call::Close, Side::Before);
        }
    }
}

/// Says so, for whoever waits for it, and goes no further.
fn hang() -> ! {
    say(HANGS);
    park()
}

fn park() -> ! {
    loop {
        thread::park();
    }
}

/// "Input/output error", as Linux numbers it.
const EIO: i32 = 5;

impl Engine for Failing {
    fn apply(&self, batch: &Batch) -> Result<(), EngineError> {
        let step = Step::of(batch);
        STEP.set(step);
        self.pass(step, Call::Apply, Side::Before)?;
        self.engine.apply(batch)?;
        self.pass(step, Call::Apply, Side::After)
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.read(|engine| engine.value(key))
    }

    fn scan(&self, span: &Span) -> Result<Vec<Row>, EngineError> {
        self.read(|engine| engine.scan(span))
    }

    fn sync(&self) -> Result<(), EngineError> {
        let step = STEP.get();
        self.pass(step, Call::Sync, Side::Before)?;
        self.engine.sync()?;
        self.pass(step, Call::Sync, Side::After)
    }

    fn size_bytes(&self) -> Result<u64, EngineError> {
        self.engine.size_bytes()
    }

    fn live_bytes(&self) -> Result<u64, EngineError> {
        self.engine.live_bytes()
    }
}
