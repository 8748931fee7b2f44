//! What the gateway does while its calls are noted: ingest, fold, outbox, delivery, delete, over and over,
//! with a stop and a new start in the middle. The real committer, fold and delivery do it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use gateway::clock::Clock;
use gateway::deliver::engine::Worker;
use gateway::deliver::format::cloudevent::Source;
use gateway::deliver::health::Health;
use gateway::deliver::sink::Sink;
use gateway::deliver::sink::file::FileSink;
use gateway::fold::Fold;
use gateway::ingest::commit::{self, Committer, Parts};
use gateway::receipt::{Due, Origin, Publication};
use gateway::store::Store;
use protocol::record::Record;
use protocol::topic::{Channel, Topic};
use protocol::units::UtcMs;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;
use rules::Context;
use rules::plan::Plan;
use tokio::sync::{mpsc, watch};

use super::call::Call;
use crate::depot::fleet_plan;
use crate::device::{BOOT_UTC_MS, Device};
use crate::ledger::Name;

/// Trackers of the voyage: enough for two in a group.
const DEVICES: u32 = 3;

/// Batches of each tracker: enough for a warm spell to begin and to end.
const BATCHES: u32 = 16;

/// Records of a batch.
const BATCH_RECORDS: u32 = 3;

/// Lives of the gateway: the second one opens what the first one left.
const LIVES: usize = 2;

/// Publications handed over at once, at most.
const TOGETHER_MAX: usize = 5;

/// One thing a tracker sends.
#[derive(Clone, Debug)]
pub struct Sending {
    /// Whose, and what.
    pub topic: Topic,
    /// As it goes over the wire.
    pub payload: Vec<u8>,
    /// What it carries; nothing when it cannot be decoded.
    pub records: Vec<(Name, Record)>,
}

/// Everything that is sent, in order: batches, some of them twice, and now and then one that no decoder takes.
///
/// # Errors
/// Never: the batches fit.
pub fn sendings(seed: u64) -> Result<Vec<Sending>> {
    let mut chance = Pcg32::seed_from_u64(seed);
    let devices = (0..DEVICES).map(|index| Device::new(seed, index));
    let mut devices: Vec<Device> = devices.collect::<Result<_>>()?;
    let mut all: Vec<Sending> = Vec::new();
    for _ in 0..BATCHES {
        for device in &mut devices {
            let payload = device.batch(BATCH_RECORDS)?;
            all.push(Sending {
                topic: Topic::new(device.id().clone(), Channel::Readings),
                payload: payload.bytes,
                records: payload.records,
            });
            match chance.random_range(0..10_u32) {
                0 => all.push(all[chance.random_range(0..all.len())].clone()),
                1 => all.push(Sending {
                    topic: Topic::new(device.id().clone(), Channel::Readings),
                    payload: vec![0xff, chance.random()],
                    records: Vec::new(),
                }),
                _ => {}
            }
        }
    }
    Ok(all)
}

/// Goes on the voyage: `open` gives the store at the start of each life, `say` hears what was sent and what
/// was acknowledged, by the number of the sending. Events go to the file `told`.
///
/// # Errors
/// When the gateway fails, which it must not: nothing is cut while the calls are noted.
pub fn sail(
    seed: u64,
    told: &Path,
    open: impl Fn() -> Result<Store>,
    say: impl Fn(Call),
) -> Result<()> {
    let sendings = sendings(seed)?;
    let mut chance = Pcg32::seed_from_u64(seed.wrapping_add(1));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut from = 0;
    for life in 1..=LIVES {
        let until = sendings.len() * life / LIVES;
        let mut gateway = Gateway::start(seed, open()?, told)?;
        while from < until {
            let together = chance.random_range(1..=TOGETHER_MAX).min(until - from);
            let numbers = from..from + together;
            let fold_first = chance.random();
            runtime.block_on(gateway.step(&sendings, numbers, fold_first, &say))?;
            from += together;
        }
        runtime.block_on(gateway.stop())?;
    }
    Ok(())
}

/// The parts of a gateway between endpoint and sink.
struct Gateway {
    store: Store,
    committer: Committer,
    publications: mpsc::Sender<Publication>,
    fold: Fold,
    told: std::path::PathBuf,
}

/// Name of the sink.
pub const SINK: &str = "file";

impl Gateway {
    fn start(seed: u64, store: Store, told: &Path) -> Result<Self> {
        let (publications, queue) = commit::queue();
        let committer = Committer::spawn(Parts {
            store: store.clone(),
            account: commit::account(&store)?,
            clock: clock(),
            publications: queue,
        })?;
        Ok(Self {
            fold: open_fold(seed, &store)?,
            store,
            committer,
            publications,
            told: told.to_owned(),
        })
    }

    /// Sends, folds while some of it is still on its way, and delivers.
    async fn step(
        &mut self,
        sendings: &[Sending],
        numbers: std::ops::Range<usize>,
        fold_first: bool,
        say: &impl Fn(Call),
    ) -> Result<()> {
        let (acknowledge, mut acknowledged) = mpsc::channel(TOGETHER_MAX);
        for number in numbers.clone() {
            say(Call::Sent(number));
            let sending = &sendings[number];
            let due = Due::new(u16::try_from(number + 1)?, acknowledge.clone());
            let sent = self.publications.send(Publication {
                topic: sending.topic.clone(),
                payload: sending.payload.clone(),
                origin: Origin::Endpoint,
                due: Some(due),
            });
            ensure!(sent.await.is_ok(), "the committer has gone");
        }
        drop(acknowledge);
        if fold_first {
            self.fold.catch_up()?;
        }
        for number in numbers {
            let packet = acknowledged.recv().await.context("no PUBACK")?;
            ensure!(usize::from(packet) == number + 1, "PUBACK out of order");
            say(Call::Acknowledged(number));
        }
        self.fold.catch_up()?;
        deliver(&self.store, &self.told).await
    }

    async fn stop(mut self) -> Result<()> {
        drop(self.publications);
        self.committer.ended().await?;
        self.fold.catch_up()?;
        deliver(&self.store, &self.told).await
    }
}

/// The fold of the voyage's plan.
///
/// # Errors
/// When the store fails.
pub fn open_fold(seed: u64, store: &Store) -> Result<Fold> {
    let names = (0..DEVICES).map(|index| Ok(Device::new(seed, index)?.id().to_string()));
    let text = fleet_plan(&names.collect::<Result<Vec<_>>>()?);
    let plan = Plan::parse(&text).ok().context("the plan is sound")?;
    let context = Context::new(Arc::new(plan), rules::Options::default());
    let (wake, _) = watch::channel(0);
    let sinks = vec![SINK.to_owned()];
    Ok(Fold::open(store.clone(), context, sinks, clock(), wake)?)
}

/// Delivers until the outbox is empty.
///
/// # Errors
/// When the store fails.
pub async fn deliver(store: &Store, told: &Path) -> Result<()> {
    let (_keep, stop) = watch::channel(false);
    let worker = Worker {
        name: SINK.to_owned(),
        store: store.clone(),
        sink: Sink::File(FileSink::new(told.to_owned())),
        source: Source {
            gateway: "depot-test".to_owned(),
            zone: chrono_tz::UTC,
        },
        health: Health::default(),
        // Everything is durable when the fold has come back. Nobody can wake it any more, so it ends when
        // there is nothing left.
        wake: watch::channel(u64::MAX).1,
        stop,
    };
    Ok(worker.run().await?)
}

/// Time stands still a month after the boots: what is late or silent does not depend on the machine.
fn clock() -> Clock {
    Clock::scaled(UtcMs::saturating(BOOT_UTC_MS + 30 * 86_400_000), 0)
}
