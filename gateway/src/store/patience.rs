//! How long a call to the engine may take: none may wait for ever.
//!
//! ```text
//! call begins ... SLOW_AFTER: a warning, and not ready ... store.call_max: the process ends
//! ```
//! A disk may hang, and sled 0.34 hangs by itself: when a write of its log fails on a thread of its own, nobody
//! wakes the flush that waits for it, and that flush holds a lock which the next batch needs. What hangs in the
//! engine cannot be cancelled, and may hold anything that an orderly end needs. So the thread that watches
//! the calls does not ask it: it does what the process asked for when it made its [`Patience`].
//!
//! Time is counted in looks of that thread, not read from a clock. A machine that was asleep, or a process that
//! was stopped or got no processor, is not taken for a disk that hangs.

use std::fmt;
use std::fs;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;

use super::folder::panic_text;
use super::{Batch, Engine, EngineError, Row, Span, Store, StoreError};

/// Time between two looks: a bound is kept to this, and a wake-up costs microseconds.
const LOOK: Duration = Duration::from_millis(250);

/// From when on a call is slow, in I/O time: far more than a sync takes on a slow card, and early enough for
/// whoever looks to see it coming.
pub const SLOW_AFTER: Duration = Duration::from_secs(5);

/// Slowest that a store is still read while it is opened, in bytes a second: a tenth of what the slowest
/// class of memory cards promises, because a damaged log is read more than once.
const OPENING_MIN_BYTES_PER_S: u64 = 1024 * 1024;

/// A call that has not returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// What was asked of the engine.
    pub operation: &'static str,
    /// How long ago.
    pub waited: Duration,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, waited } = self;
        let seconds = waited.as_secs();
        write!(f, "store {operation} has not returned for {seconds} s")
    }
}

/// The calls under way, and how long they may take. Clones share them.
#[derive(Clone)]
pub struct Patience(Arc<Calls>);

impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patience")
            .field("call_max", &self.0.call_max)
            .finish_non_exhaustive()
    }
}

struct Calls {
    call_max: Duration,
    under_way: Mutex<UnderWay>,
    /// The call that took too long.
    stalled: watch::Sender<Option<Stall>>,
}

#[derive(Default)]
struct UnderWay {
    /// How often it was looked.
    looks: u64,
    /// How many calls have begun.
    begun: u64,
    /// As many as there are threads in the engine.
    calls: Vec<Begun>,
    /// The slow call that was told of.
    slow: Option<Stall>,
}

#[derive(Clone, Copy)]
struct Begun {
    number: u64,
    operation: &'static str,
    /// The look before it began.
    look: u64,
    looks_max: u64,
}

/// What a look finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Nothing new.
    Nothing,
    /// A call is slow.
    Slow(Stall),
    /// No call is slow any more; so long one took.
    Swift(Stall),
    /// A call has taken too long.
    Stalled(Stall),
}

impl Patience {
    /// Watches calls; when one has taken longer than `call_max`, `give_up` is told. It should end the process,
    /// by means that wait for nobody.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(
        call_max: Duration,
        give_up: impl FnOnce(&StoreError) + Send + 'static,
    ) -> io::Result<Self> {
        let calls = Arc::new(Calls::new(call_max));
        let watched = Arc::downgrade(&calls);
        thread::Builder::new()
            .name("store watch".to_owned())
            .spawn(move || watch_over(&watched, give_up))?;
        Ok(Self(calls))
    }

    /// Watches nothing: for tests and benches, which somebody looks at.
    #[must_use]
    pub fn endless() -> Self {
        Self(Arc::new(Calls::new(Duration::MAX)))
    }

    /// A call begins; it ends when what is returned is dropped.
    pub(super) fn begin(&self, operation: &'static str) -> Call<'_> {
        self.begin_for(operation, self.0.call_max)
    }

    fn begin_for(&self, operation: &'static str, longest: Duration) -> Call<'_> {
        let number = self.0.under_way().begin(operation, longest);
        let calls = &self.0;
        Call { calls, number }
    }

    /// Opens a store: the larger its files, the longer that may take.
    pub(super) fn opening<T>(&self, folder: &Path, open: impl FnOnce() -> T) -> T {
        let reading = Duration::from_secs(size_of(folder) / OPENING_MIN_BYTES_PER_S);
        let _call = self.begin_for("open", self.0.call_max.saturating_add(reading));
        open()
    }

    /// The engine, its calls watched.
    pub(super) fn over(&self, engine: Box<dyn Engine>) -> Box<dyn Engine> {
        Box::new(Timed {
            engine: Some(engine),
            patience: self.clone(),
        })
    }

    /// The call that has taken too long, if one has.
    fn stall(&self) -> Option<Stall> {
        *self.0.stalled.borrow()
    }
}

impl Store {
    /// The slow call under way that began first. From [`SLOW_AFTER`] on a call is slow.
    #[must_use]
    pub fn slow(&self) -> Option<Stall> {
        self.0.patience.0.under_way().slow_one()
    }

    /// The call that has taken too long, if one has. Nothing is acknowledged from then on.
    #[must_use]
    pub fn stall(&self) -> Option<Stall> {
        self.0.patience.stall()
    }

    /// Waits until a call has taken too long.
    pub async fn stalled(&self) -> StoreError {
        let mut stalled = self.0.patience.0.stalled.subscribe();
        if let Ok(stall) = stalled.wait_for(Option::is_some).await
            && let Some(stall) = *stall
        {
            return StoreError::Stalled { stall };
        }
        // The sender lives as long as this store.
        std::future::pending().await
    }
}

/// A call under way.
#[must_use]
pub(super) struct Call<'a> {
    calls: &'a Calls,
    number: u64,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut under_way = self.calls.under_way();
        under_way.calls.retain(|call| call.number != self.number);
    }
}

impl Calls {
    fn new(call_max: Duration) -> Self {
        Self {
            call_max,
            under_way: Mutex::default(),
            stalled: watch::Sender::new(None),
        }
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        // A panic while it was held leaves the list whole: one call more or less.
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay {
    fn begin(&mut self, operation: &'static str, longest: Duration) -> u64 {
        self.begun += 1;
        let looks = longest.as_millis().div_ceil(LOOK.as_millis());
        self.calls.push(Begun {
            number: self.begun,
            operation,
            look: self.looks,
            looks_max: u64::try_from(looks).unwrap_or(u64::MAX),
        });
        self.begun
    }

    /// One look later. Said is only what is new, so that a disk that stays slow fills no log.
    fn look(&mut self) -> Seen {
        self.looks += 1;
        // The first look may follow at once, so that one more must have passed.
        let over = |call: &&Begun| self.looks - call.look > call.looks_max.saturating_add(1);
        if let Some(call) = self.calls.iter().find(over) {
            return Seen::Stalled(self.stall_of(call));
        }
        let now = self.slow_one();
        match (mem::replace(&mut self.slow, now), now) {
            (None, Some(slow)) => Seen::Slow(slow),
            (Some(before), None) => Seen::Swift(before),
            _ => Seen::Nothing,
        }
    }

    fn slow_one(&self) -> Option<Stall> {
        let oldest = self.calls.iter().min_by_key(|call| call.look)?;
        Some(self.stall_of(oldest)).filter(|stall| stall.waited >= SLOW_AFTER)
    }

    /// How long a call has been waiting at least.
    fn stall_of(&self, call: &Begun) -> Stall {
        let whole = (self.looks - call.look).saturating_sub(1);
        Stall {
            operation: call.operation,
            waited: LOOK.saturating_mul(u32::try_from(whole).unwrap_or(u32::MAX)),
        }
    }
}

/// Looks until nobody can call any more, or one call has taken too long.
fn watch_over(calls: &Weak<Calls>, give_up: impl FnOnce(&StoreError)) {
    loop {
        thread::sleep(LOOK);
        let Some(calls) = calls.upgrade() else {
            return;
        };
        let seen = calls.under_way().look();
        match seen {
            Seen::Nothing => {}
            Seen::Slow(stall) => {
                tracing::warn!("{stall}: nothing it holds up is acknowledged meanwhile");
            }
            Seen::Swift(stall) => {
                let seconds = stall.waited.as_secs();
                tracing::warn!("store answers again: {} took {seconds} s", stall.operation);
            }
            Seen::Stalled(stall) => {
                give_up(&StoreError::Stalled { stall });
                calls.stalled.send_replace(Some(stall));
                return;
            }
        }
    }
}

/// Bytes of the files in `folder`, as far as they can be seen.
fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| entry.metadata().ok());
    files.map(|file| file.len()).sum()
}

/// An engine whose calls are watched.
struct Timed {
    /// There until the end.
    engine: Option<Box<dyn Engine>>,
    patience: Patience,
}

impl Timed {
    fn engine(&self) -> &dyn Engine {
        self.engine.as_deref().expect("it is taken by the end only")
    }
}

impl Engine for Timed {
    fn apply(&self, batch: &Batch) -> Result<(), EngineError> {
        let _call = self.patience.begin("write");
        self.engine().apply(batch)
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let _call = self.patience.begin("read");
        self.engine().value(key)
    }

    fn scan(&self, span: &Span) -> Result<Vec<Row>, EngineError> {
        let _call = self.patience.begin("read");
        self.engine().scan(span)
    }

    fn sync(&self) -> Result<(), EngineError> {
        let _call = self.patience.begin("sync");
        self.engine().sync()
    }

    fn size_bytes(&self) -> Result<u64, EngineError> {
        let _call = self.patience.begin("count of its bytes");
        self.engine().size_bytes()
    }

    /// Not watched: it takes as long as there are rows, and only benches ask.
    fn live_bytes(&self) -> Result<u64, EngineError> {
        self.engine().live_bytes()
    }
}

/// Engines write and sync when they are closed. By then everything that was acknowledged is durable.
impl Drop for Timed {
    fn drop(&mut self) {
        let _call = self.patience.begin("close");
        let engine = self.engine.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(engine))) {
            let cause = panic_text(&*panic);
            tracing::error!("store close failed, what was acknowledged is kept: {cause}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::*;

    const CALL_MAX: Duration = Duration::from_secs(10);

    /// Nothing but the test looks.
    fn patience() -> Patience {
        Patience(Arc::new(Calls::new(CALL_MAX)))
    }

    /// Looks for as long as this, and gives all that was seen.
    fn look_for(patience: &Patience, time: Duration) -> Vec<Seen> {
        let looks = time.as_millis() / LOOK.as_millis();
        let seen = (0..looks).map(|_| patience.0.under_way().look());
        seen.filter(|seen| *seen != Seen::Nothing).collect()
    }

    const fn waited(operation: &'static str, waited: Duration) -> Stall {
        Stall { operation, waited }
    }

    #[test]
    fn a_call_that_is_slow_and_returns_below_the_bound_is_told_of_once_and_ends_nothing() {
        let patience = patience();
        assert_eq!(look_for(&patience, CALL_MAX * 3), [], "nothing is called");
        let call = patience.begin("sync");
        let seen = look_for(&patience, CALL_MAX);
        assert_eq!(seen, [Seen::Slow(waited("sync", SLOW_AFTER))]);
        drop(call);
        let longest = waited("sync", CALL_MAX - LOOK);
        assert_eq!(
            look_for(&patience, CALL_MAX * 3),
            [Seen::Swift(longest)],
            "and then nothing is slow"
        );
    }

    #[test]
    fn a_call_that_has_not_returned_at_the_bound_is_named_with_how_long_it_took() {
        let patience = patience();
        let _call = patience.begin("write");
        let seen = look_for(&patience, CALL_MAX + 2 * LOOK);
        let slow = Seen::Slow(waited("write", SLOW_AFTER));
        let stalled = waited("write", CALL_MAX + LOOK);
        assert_eq!(seen, [slow, Seen::Stalled(stalled)]);
        assert_eq!(
            StoreError::Stalled { stall: stalled }.to_string(),
            "store write has not returned for 10 s, nothing more is acknowledged: the disk hangs, or the \
             engine does after a write that failed; see the system's log and start again; for a disk that \
             is only slow raise store.call_max"
        );
    }

    #[test]
    fn many_calls_one_after_the_other_are_never_a_slow_one() {
        let patience = patience();
        for _ in 0..100 {
            let call = patience.begin("write");
            assert_eq!(look_for(&patience, SLOW_AFTER - LOOK), []);
            drop(call);
        }
    }

    #[test]
    fn a_large_store_may_take_longer_to_open() {
        let folder = tempfile::tempdir().unwrap();
        let file = fs::File::create(folder.path().join("db")).unwrap();
        file.set_len(20 * OPENING_MIN_BYTES_PER_S).unwrap();
        let patience = patience();
        patience.opening(folder.path(), || {
            let seen = look_for(&patience, CALL_MAX + Duration::from_secs(20));
            assert!(!seen.iter().any(|seen| matches!(seen, Seen::Stalled(_))));
            let seen = look_for(&patience, 2 * LOOK);
            assert!(matches!(seen[..], [Seen::Stalled(_)]), "{seen:?}");
        });
    }

    #[test]
    fn after_a_call_that_took_too_long_the_store_acknowledges_nothing() {
        let patience = patience();
        let engine = Box::new(Memory::default());
        let path = Path::new("memory");
        let store = Store::with_patience(engine, path, &patience).unwrap();
        assert!(store.barrier().is_ok());
        let stall = waited("sync", CALL_MAX);
        patience.0.stalled.send_replace(Some(stall));
        let refused = store.barrier().unwrap_err();
        assert!(matches!(refused, StoreError::Stalled { stall: named } if named == stall));
        assert!(refused.is_fatal());
    }

    #[test]
    fn the_watch_gives_up_with_the_call_that_hangs_and_says_so_to_whoever_waits() {
        let (told, heard) = std::sync::mpsc::sync_channel(1);
        let give_up = move |error: &StoreError| told.send(error.to_string()).unwrap();
        let patience = Patience::new(Duration::from_secs(3_600), give_up).unwrap();
        let engine = Box::new(Memory::default());
        let store = Store::with_patience(engine, Path::new("memory"), &patience).unwrap();
        let _call = patience.begin_for("sync", Duration::ZERO);
        assert!(heard.recv().unwrap().starts_with("store sync has not"));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let stalled = runtime.unwrap().block_on(store.stalled());
        assert!(matches!(stalled, StoreError::Stalled { .. }), "{stalled}");
        assert!(store.stall().is_some());
    }
}
