//! What the endpoint refuses: every case counted, the log bounded per sender and reason.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::key::DeviceId;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Failure;
use crate::account::throttle::Throttle;
use crate::account::{Account, Reason};
use crate::clock::monotonic;
use crate::mqtt::bridge::{OnRefused, Refused};
use crate::mqtt::refusal::{OnRefusal, Refusal};
use crate::store::device::turned_away::{self, Counts};
use crate::store::{Batch, Store, StoreError};

/// Who is refused, as far as known, and why: ports are left out, since every connection has another.
type Whose = (String, Reason);

/// Most devices whose refusals wait to be written: more than are refused in a second by a machine this
/// serves. Those of further ones are in the counters by reason only.
const WAITING_MAX_DEVICES: usize = 4_096;

/// How often they are written, in wall time: one barrier a second at most, and none without refusals.
const WRITE_PERIOD: Duration = Duration::from_secs(1);

/// Refusals of devices that wait to be written into their ledgers. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting(Arc<Mutex<BTreeMap<DeviceId, Counts>>>);

impl Waiting {
    fn note(&self, refusal: &Refusal) {
        let Some(device) = &refusal.device else {
            return;
        };
        let mut waiting = self.lock();
        if waiting.len() < WAITING_MAX_DEVICES || waiting.contains_key(device) {
            let counts = waiting.entry(device.clone()).or_default();
            *counts.entry(refusal.reason).or_default() += 1;
        }
    }

    /// Write what waits, durably; names that are no device of ours are left out. While nothing may be
    /// written it goes on waiting.
    fn write(&self, store: &Store) -> Result<(), StoreError> {
        if self.lock().is_empty() || !store.room().may_write() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut *self.lock());
        let mut batch = Batch::default();
        for (device, counts) in waiting {
            match turned_away::is_known(store, &device) {
                Ok(true) => turned_away::add(store, &mut batch, &device, &counts)?,
                // A row that cannot be read is told where it matters; the counters have the refusals.
                Ok(false) | Err(StoreError::Row { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        store.apply(batch)?;
        store.barrier().map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Counts>> {
        // Plain numbers: a panic while they were held left none of them half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the refusals of devices wait; a task of `tasks` writes them into their ledgers.
pub(super) fn kept(
    tasks: &mut JoinSet<Result<(), Failure>>,
    store: &Store,
    stopping: &watch::Receiver<bool>,
) -> Waiting {
    let waiting = Waiting::default();
    tasks.spawn(keep(waiting.clone(), store.clone(), stopping.clone()));
    waiting
}

/// Write the refusals of devices into their ledgers until `stopping`, and the last of them then.
async fn keep(
    waiting: Waiting,
    store: Store,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), Failure> {
    loop {
        let stopped = tokio::select! {
            () = tokio::time::sleep(WRITE_PERIOD) => false,
            _ = stopping.wait_for(|stop| *stop) => true,
        };
        let (waiting, store) = (waiting.clone(), store.clone());
        let written = tokio::task::spawn_blocking(move || waiting.write(&store)).await;
        let ended = |_| Failure::Ended {
            part: "account of refusals",
        };
        written.map_err(ended)??;
        if stopped {
            return Ok(());
        }
    }
}

/// Count every refusal of the endpoint by its reason and for its device, and tell it.
pub(super) fn reported(account: Account, waiting: Waiting) -> OnRefusal {
    let throttle = Mutex::new(Throttle::default());
    Arc::new(move |refusal: &Refusal| {
        account.count(refusal.reason);
        waiting.note(refusal);
        // Counts of lines: a panic while they were held left them whole enough to go on.
        let mut throttle = throttle.lock().unwrap_or_else(PoisonError::into_inner);
        tell(&mut throttle, refusal, monotonic());
    })
}

/// Count every message of a broker that is refused by its reason, and tell it.
pub(super) fn reported_of_broker(account: Account, broker: String) -> OnRefused {
    let throttle = Mutex::new(Throttle::default());
    Arc::new(move |refused: &Refused| {
        account.count(refused.reason);
        let device = refused.device.as_ref().map(DeviceId::as_str);
        let whose = (device.unwrap_or(&broker).to_owned(), refused.reason);
        // Counts of lines: a panic while they were held left them whole enough to go on.
        let mut throttle = throttle.lock().unwrap_or_else(PoisonError::into_inner);
        let now = monotonic();
        tell_withheld(&mut throttle, now);
        if let Some(withheld) = throttle.ask(&whose, now) {
            tracing::warn!(
                reason = refused.reason.as_str(),
                broker,
                device,
                topic = refused.topic,
                withheld,
                "message refused: {}",
                refused.detail
            );
        }
    })
}

fn tell_withheld(throttle: &mut Throttle<Whose>, now: Instant) {
    for (whose, withheld) in throttle.ended(now) {
        match whose {
            Some((who, reason)) => {
                tracing::warn!(who, reason = reason.as_str(), withheld, "lines withheld");
            }
            None => tracing::warn!(withheld, "lines withheld about further senders"),
        }
    }
}

fn tell(throttle: &mut Throttle<Whose>, refusal: &Refusal, now: Instant) {
    tell_withheld(throttle, now);
    if let Some(withheld) = throttle.ask(&whose(refusal), now) {
        tracing::warn!(
            reason = refusal.reason.as_str(),
            device = refusal.device.as_ref().map(DeviceId::as_str),
            peer = %refusal.peer,
            topic = refusal.topic,
            withheld,
            "mqtt refused: {}",
            refusal.detail
        );
    }
}

fn whose(refusal: &Refusal) -> Whose {
    let who = match &refusal.device {
        Some(device) => device.to_string(),
        None => refusal.peer.ip().to_string(),
    };
    (who, refusal.reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::throttle::{LINES_MAX, WINDOW};
    use crate::pki::digest::Digest;
    use crate::store::identity::{self, Identity, Proof};
    use crate::store::memory::Memory;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(say: impl FnOnce()) -> Vec<String> {
        let log = Log::default();
        let writer = log.clone();
        let logging = tracing_subscriber::fmt()
            .json()
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(logging, say);
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        text.lines().map(ToOwned::to_owned).collect()
    }

    fn refusal(port: u16, device: Option<&str>) -> Refusal {
        Refusal {
            reason: Reason::Malformed,
            device: device.map(|device| device.parse().unwrap()),
            peer: ([192, 0, 2, 1], port).into(),
            topic: None,
            detail: "no packet".to_owned(),
        }
    }

    #[test]
    fn every_refusal_is_counted_and_a_flood_from_one_address_is_told_in_few_lines() {
        let account = Account::default();
        let report = reported(account.clone(), Waiting::default());
        let lines = logged(|| (0..1_000).for_each(|port| report(&refusal(port, None))));
        assert_eq!(account.tally().elsewhere[&Reason::Malformed], 1_000);
        assert_eq!(lines.len(), LINES_MAX as usize, "{lines:#?}");
    }

    #[test]
    fn one_loud_sender_does_not_hide_another_and_what_was_withheld_is_told_later() {
        let mut throttle = Throttle::default();
        let start = monotonic();
        let lines = logged(|| {
            for _ in 0..LINES_MAX + 7 {
                tell(&mut throttle, &refusal(1, None), start);
            }
            tell(&mut throttle, &refusal(2, Some("t-1")), start);
            tell(&mut throttle, &refusal(2, Some("t-1")), start + WINDOW);
        });
        let named = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
        assert_eq!(named("\"device\":\"t-1\""), 2, "{lines:#?}");
        let withheld = "\"who\":\"192.0.2.1\",\"reason\":\"malformed\",\"withheld\":7";
        assert_eq!(named(withheld), 1, "{lines:#?}");
    }

    #[test]
    fn refusals_of_known_devices_are_in_their_ledgers_over_a_power_cut_and_bounded() {
        let disk = Memory::default();
        let store = disk.open();
        let known: DeviceId = "t-1".parse().unwrap();
        let identity = Identity {
            proof: Proof::Secret {
                digest: Digest::of(b"secret"),
            },
            added_at_ms: 1,
            revoked_at_ms: None,
        };
        let mut batch = Batch::default();
        identity::put(&mut batch, &known, &identity).unwrap();
        store.apply(batch).unwrap();
        let waiting = Waiting::default();
        let report = reported(Account::default(), waiting.clone());
        let twice = || {
            for _ in 0..2 {
                report(&refusal(1, Some("t-1")));
            }
            report(&refusal(1, Some("somebody")));
            report(&refusal(1, None));
            waiting.write(&store).unwrap();
        };
        twice();
        twice();
        disk.cut_power();
        let store = disk.open();
        let told = turned_away::of(&store, &known).unwrap();
        assert_eq!(
            told.into_iter().collect::<Vec<_>>(),
            [(Reason::Malformed, 4)]
        );
        let claimed = "somebody".parse().unwrap();
        assert!(turned_away::of(&store, &claimed).unwrap().is_empty());
        // A flood of names takes no more memory than this, and no place of those that are there.
        waiting.note(&refusal(1, Some("t-1")));
        for name in 0..2 * WAITING_MAX_DEVICES {
            waiting.note(&refusal(1, Some(&format!("x-{name}"))));
        }
        waiting.note(&refusal(1, Some("t-1")));
        assert_eq!(waiting.lock().len(), WAITING_MAX_DEVICES);
        assert_eq!(waiting.lock()[&known][&Reason::Malformed], 2);
    }
}
