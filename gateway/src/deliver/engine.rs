//! One worker per sink: outbox row, notice, receiver, confirmation, row gone.
//!
//! The outbox is the only queue. A worker takes the first rows, leaves out what no receiver needs any
//! more, hands the rest to its sink and removes what the sink confirmed. Whatever fails stays where it
//! is and is tried again after a pause, so one sick sink never delays another.
//!
//! A row whose event has a newer revision is dropped: the newer revision has a row of its own behind it
//! and carries the full state. A retraction of what this receiver never got is dropped as well.

use std::hash::BuildHasher;
use std::time::Duration;

use rules::event::Phase;
use tokio::sync::watch;

use super::format::cloudevent::{Source, structured};
use super::health::Health;
use super::sink::{Notice, Sink, SinkError};
use crate::clock;
use crate::fold::posted::Posted;
use crate::store::outbox::{self, Queued};
use crate::store::{Batch, Store, StoreError, view};

/// Rows handed to a sink at once: bounds memory to a few hundred kilobytes per sink.
const BATCH_ROWS: usize = 100;
/// First pause after a failure, in milliseconds.
const PAUSE_FIRST_MS: u64 = 500;
/// Longest pause: a receiver that comes back is served within a minute.
const PAUSE_MAX_MS: u64 = 60_000;

/// How often a disk without space is looked at, in wall time.
const SPACE_LOOK: Duration = Duration::from_millis(200);

/// Delivers one sink's rows until it is told to stop.
pub struct Worker {
    /// Name of the sink in the configuration and in the outbox.
    pub name: String,
    /// Where the rows are.
    pub store: Store,
    /// Where they go.
    pub sink: Sink,
    /// Who speaks.
    pub source: Source,
    /// How it goes.
    pub health: Health,
    /// Sequence of the newest revision that survives a power cut; changes when the fold has appended rows
    /// and made them durable.
    pub wake: watch::Receiver<u64>,
    /// Becomes true when the gateway stops.
    pub stop: watch::Receiver<bool>,
}

/// What to do with the first rows of an outbox.
#[derive(Default)]
struct Work {
    due: Vec<Queued>,
    notices: Vec<Notice>,
    superseded: Vec<Queued>,
}

impl Worker {
    /// Deliver until `stop`. Rows not confirmed by then wait for the next start.
    ///
    /// # Errors
    /// When the store fails; a failing sink is no error here.
    pub async fn run(mut self) -> Result<(), StoreError> {
        let mut stop = self.stop.clone();
        tokio::select! {
            ended = self.deliver_all() => ended,
            _ = stop.wait_for(|stop| *stop) => Ok(()),
        }
    }

    async fn deliver_all(&mut self) -> Result<(), StoreError> {
        loop {
            // What cannot be noted as delivered is not delivered.
            while !self.store.room().may_write() {
                tokio::time::sleep(SPACE_LOOK).await;
            }
            self.wake.mark_unchanged();
            let work = self.work()?;
            if work.due.is_empty() && work.superseded.is_empty() {
                tokio::select! {
                    () = self.sink.idle() => {}
                    changed = self.wake.changed() => {
                        if changed.is_err() {
                            return Ok(());
                        }
                    }
                }
                continue;
            }
            let outcome = self.sink.deliver(&work.notices).await;
            self.settle(&work, &outcome.confirmed)?;
            if let Some(failure) = outcome.failure {
                let pause = self.note_failure(&failure);
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// The first rows, sorted into what must be sent and what needs not. Rows whose barrier is still to
    /// come stay: a receiver would know what a power cut takes from the store, and nothing would ever
    /// take it back.
    fn work(&self) -> Result<Work, StoreError> {
        let durable = *self.wake.borrow();
        let mut work = Work::default();
        for row in outbox::pending(&self.store, &self.name, 0, BATCH_ROWS)? {
            let pointer = &row.pointer;
            let posted: Option<Posted> =
                view::value(&self.store, &pointer.shipment, &pointer.event)?;
            match posted.filter(|posted| posted.revision.rev == pointer.revision) {
                Some(posted) if posted.sequence > durable => {}
                Some(posted) if self.is_needed(&posted)? => {
                    work.notices.push(self.notice(&posted));
                    work.due.push(row);
                }
                _ => work.superseded.push(row),
            }
        }
        Ok(work)
    }

    /// What was never delivered is never retracted.
    fn is_needed(&self, posted: &Posted) -> Result<bool, StoreError> {
        if posted.revision.phase != Phase::Retract {
            return Ok(true);
        }
        let event = posted.revision.event.id.as_str();
        Ok(outbox::last_sent(&self.store, &self.name, event)?.is_some())
    }

    fn notice(&self, posted: &Posted) -> Notice {
        let told = &posted.revision;
        Notice {
            id: told.notification_id(),
            code: told.event.code.as_str(),
            body: structured(&self.source, told, posted.recorded_at(), posted.sequence),
        }
    }

    /// Remove what the receiver has and what it does not need.
    fn settle(&self, work: &Work, confirmed: &[usize]) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        let done = confirmed.iter().filter_map(|row| work.due.get(*row));
        for row in done {
            outbox::confirm(&mut batch, &self.name, row)?;
        }
        for row in &work.superseded {
            outbox::discard(&mut batch, &self.name, row);
        }
        self.store.apply(batch)?;
        self.health.change(|state| {
            state.delivered += confirmed.len() as u64;
            state.superseded += work.superseded.len() as u64;
            if !confirmed.is_empty() {
                state.failures = 0;
                state.failing = None;
            }
        });
        Ok(())
    }

    /// Count and log a failure; how long to wait before the next attempt.
    fn note_failure(&self, failure: &SinkError) -> Duration {
        let mut failures = 0;
        self.health.change(|state| {
            state.failures = state.failures.saturating_add(1);
            state.failing = Some((clock::wall_utc(), chain(failure)));
            failures = state.failures;
        });
        let pause = pause(failures, std::hash::RandomState::new().hash_one(failures));
        tracing::warn!(
            sink = self.name,
            failures,
            retry_in_ms = pause.as_millis(),
            "delivery failed, rows wait in the outbox: {}",
            chain(failure)
        );
        pause
    }
}

/// Exponential back-off with full jitter: `luck` spreads the gateways that lost the same receiver.
pub(crate) fn pause(failures: u32, luck: u64) -> Duration {
    let doubled = PAUSE_FIRST_MS.saturating_mul(1 << failures.saturating_sub(1).min(16));
    Duration::from_millis(luck % (doubled.min(PAUSE_MAX_MS) + 1))
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use protocol::units::UtcMs;
    use rules::code::Code;
    use rules::event::{
        CaseId, Confidence, Detail, Event, EventId, Revision, Severity, TimeQuality,
    };

    use super::*;
    use crate::deliver::sink::file::FileSink;
    use crate::store::memory;
    use crate::store::outbox::{Pointer, Tails};

    fn event() -> Event {
        Event {
            id: EventId("e1".to_owned()),
            code: Code::Temperature,
            shipment: "S-1".to_owned(),
            rule: "high".to_owned(),
            title: "Too warm".to_owned(),
            next_action: "Check the reefer".to_owned(),
            severity: Severity::Critical,
            confidence: Confidence::Certain,
            occurred_at: UtcMs::saturating(0),
            ended_at: None,
            time_quality: TimeQuality::Anchored,
            time_uncertainty_s: 0,
            closed: false,
            as_of: None,
            place: None,
            actor: "t-1".parse().unwrap(),
            references: BTreeMap::new(),
            unit: None,
            probe: None,
            plan_version: 1,
            detail: Detail::Gap {
                unobserved_s: 0,
                max_gap_s: 0,
            },
            evidence: Vec::new(),
        }
    }

    /// Posts a revision as the fold does: view row and pointer in one batch.
    fn post(store: &Store, tails: &mut Tails, rev: u32, phase: Phase) {
        let case_id = CaseId("e1".to_owned());
        let event = event();
        let revision = Revision {
            event,
            rev,
            phase,
            case_id,
            predecessors: Vec::new(),
            late: false,
        };
        let posted = Posted {
            revision,
            recorded_ms: 0,
            sequence: u64::from(rev),
        };
        let pointer = Pointer {
            shipment: "S-1".to_owned(),
            event: "e1".to_owned(),
            revision: rev,
            critical: true,
        };
        let mut batch = Batch::default();
        view::put(&mut batch, "S-1", "e1", &posted).unwrap();
        tails.push(store, &mut batch, "file", &pointer).unwrap();
        store.apply(batch).unwrap();
    }

    /// A worker to whom everything is durable.
    fn worker(store: &Store, path: &Path) -> Worker {
        Worker {
            name: "file".to_owned(),
            store: store.clone(),
            sink: Sink::File(FileSink::new(path.to_path_buf())),
            source: Source {
                gateway: "depot-1".to_owned(),
                zone: chrono_tz::UTC,
            },
            health: Health::default(),
            wake: watch::channel(u64::MAX).1,
            stop: watch::channel(false).1,
        }
    }

    /// Delivers until the outbox is empty: the worker ends because nobody can wake it any more.
    async fn drain(store: &Store, path: &Path) -> Health {
        let worker = worker(store, path);
        let health = worker.health.clone();
        let (_keep, stop) = watch::channel(false);
        Worker { stop, ..worker }.run().await.unwrap();
        health
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[tokio::test]
    async fn a_row_goes_when_the_sink_has_it_and_an_older_revision_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let (store, mut tails) = (memory::store(), Tails::default());
        post(&store, &mut tails, 1, Phase::Open);
        post(&store, &mut tails, 2, Phase::Update);
        let health = drain(&store, &path).await;
        let lines = lines(&path);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["id"], "e1-2");
        assert_eq!(
            (health.state().delivered, health.state().superseded),
            (1, 1)
        );
        assert!(outbox::pending(&store, "file", 0, 9).unwrap().is_empty());
        assert_eq!(outbox::last_sent(&store, "file", "e1").unwrap(), Some(2));
    }

    #[test]
    fn a_row_that_a_power_cut_could_still_take_is_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let (store, mut tails) = (memory::store(), Tails::default());
        post(&store, &mut tails, 1, Phase::Open);
        let (applied, woken) = watch::channel(0);
        let worker = Worker {
            wake: woken,
            ..worker(&store, &path)
        };
        let before = worker.work().unwrap();
        assert!(before.due.is_empty() && before.superseded.is_empty());
        applied.send_replace(1);
        assert_eq!(worker.work().unwrap().due.len(), 1);
    }

    #[tokio::test]
    async fn what_was_never_delivered_is_never_retracted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let (store, mut tails) = (memory::store(), Tails::default());
        post(&store, &mut tails, 1, Phase::Open);
        post(&store, &mut tails, 2, Phase::Retract);
        drain(&store, &path).await;
        assert!(lines(&path).is_empty());

        post(&store, &mut tails, 3, Phase::Open);
        drain(&store, &path).await;
        post(&store, &mut tails, 4, Phase::Retract);
        drain(&store, &path).await;
        let ids: Vec<_> = lines(&path).iter().map(|line| line["id"].clone()).collect();
        assert_eq!(ids, ["e1-3", "e1-4"]);
    }

    #[tokio::test(start_paused = true)]
    async fn rows_of_a_sick_sink_wait_and_its_sickness_is_visible() {
        let folder = tempfile::tempdir().unwrap();
        let (store, mut tails) = (memory::store(), Tails::default());
        post(&store, &mut tails, 1, Phase::Open);
        // A folder cannot be opened for appending.
        let worker = worker(&store, folder.path());
        let health = worker.health.clone();
        let attempts = Duration::from_secs(3_600);
        assert!(
            tokio::time::timeout(attempts, worker.deliver_forever())
                .await
                .is_err()
        );
        assert!(health.state().failures > 3, "{:?}", health.state());
        assert!(health.state().failing.unwrap().1.contains("open"));
        assert_eq!(outbox::pending(&store, "file", 0, 9).unwrap().len(), 1);
    }

    impl Worker {
        async fn deliver_forever(mut self) -> Result<(), StoreError> {
            self.deliver_all().await
        }
    }

    #[test]
    fn pauses_grow_with_failures_and_stay_below_their_cap() {
        assert!(pause(1, u64::MAX).as_millis() <= u128::from(PAUSE_FIRST_MS));
        let longest = |failures| {
            (0..200_000)
                .step_by(97)
                .map(|luck| pause(failures, luck))
                .max()
        };
        assert!(longest(4) > longest(1));
        assert!(longest(u32::MAX) <= Some(Duration::from_millis(PAUSE_MAX_MS)));
        assert_eq!(pause(9, 0), Duration::ZERO, "full jitter starts at nothing");
    }
}
