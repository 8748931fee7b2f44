//! Failpoints: the shipped gateway and engine, with something in between that kills the process, or
//! fails one call, at a place named on the command line.

use std::cell::Cell;
use std::io;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Error, Result, bail};
use gateway::store::{Batch, Engine, EngineError, Row, Span, Store};
use rustix::process::{Signal, getpid, kill_process};
use tests::fault::point::{Call, Point, Side, Step};
use tests::stand_in;

fn main() -> Result<()> {
    stand_in::run(|kind, folder, flaw| {
        let Flaw { strike, point } = flaw.parse()?;
        let wrap = |engine| -> Box<dyn Engine> {
            Box::new(Failing {
                engine,
                strike,
                point,
                met: AtomicU32::new(0),
            })
        };
        Ok(Store::open_through(kind, folder, wrap)?)
    })
}

/// What happens.
#[derive(Clone, Copy)]
enum Strike {
    /// The process is killed.
    Kill,
    /// The call fails with EIO.
    Error,
}

/// What happens where.
struct Flaw {
    strike: Strike,
    point: Point,
}

impl FromStr for Flaw {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (strike, point) = text.split_once('@').context("a flaw is strike@point")?;
        let strike = match strike {
            "kill" => Strike::Kill,
            "eio" => Strike::Error,
            other => bail!("a strike is kill or eio, not `{other}`"),
        };
        let point = point.parse()?;
        Ok(Self { strike, point })
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
        let is_any = self.point.step == Step::Any;
        let is_here = step == Some(self.point.step) && call == self.point.call;
        if side != self.point.side || !(is_any || is_here) {
            return Ok(());
        }
        let nth = self.met.fetch_add(1, Ordering::SeqCst) + 1;
        if nth != self.point.nth {
            return Ok(());
        }
        match self.strike {
            Strike::Error => Err(io::Error::from_raw_os_error(EIO).into()),
            Strike::Kill => {
                kill_process(getpid(), Signal::KILL)?;
                // The signal may need a moment to reach this thread; it goes no further.
                loop {
                    thread::park();
                }
            }
        }
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
