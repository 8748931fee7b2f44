//! What must hold of a store that a power cut has left, judged by what was said outside.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use gateway::fold::posted::Posted;
use gateway::ingest::admit::Admission;
use gateway::ingest::commit;
use gateway::store::history::{self, Kept};
use gateway::store::journal::{self, Entry};
use gateway::store::{Commit, Store, outbox, view};
use protocol::key::{DeviceId, RecordKey};
use protocol::record::Record;
use protocol::units::UtcMs;
use rules::event::Phase;

use super::voyage::{SINK, Sending, deliver, open_fold};
use crate::ledger::Name;

/// What was said until the cut.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Sendings handed to the gateway, by number.
    pub sent: BTreeSet<usize>,
    /// Sendings it acknowledged.
    pub acknowledged: BTreeSet<usize>,
}

/// Judges a store that has just been opened: acknowledged is a subset of stored, stored of sent, contents are
/// equal, counters balance; what is sent again is known; the backlog drains and every event is told.
///
/// # Errors
/// The first promise that was broken.
pub fn judge(
    store: &Store,
    seed: u64,
    sendings: &[Sending],
    said: &Said,
    told: &Path,
) -> Result<()> {
    let found = stored(store)?;
    compare(&found, sendings, said)?;
    balance(store, found.len())?;
    send_again(store, sendings, found.len())?;
    drain(store, seed, told)?;
    let found = stored(store)?;
    let everything = Said {
        sent: (0..sendings.len()).collect(),
        acknowledged: (0..sendings.len()).collect(),
    };
    compare(&found, sendings, &everything).context("after everything was sent again")
}

/// Every record in journal and history.
fn stored(store: &Store) -> Result<BTreeMap<Name, Record>> {
    let mut found = BTreeMap::new();
    let mut devices = Vec::new();
    history::each_device(store, |device| {
        devices.push(device);
        Ok(ControlFlow::Continue(()))
    })?;
    for device in devices {
        let mut kept = Vec::new();
        history::each(store, &device, None, |key, row| {
            kept.push((key, row));
            Ok(ControlFlow::Continue(()))
        })?;
        for (key, row) in kept {
            let Kept::Known(known) = row else {
                bail!("{device}/{key} is contested, and nothing was");
            };
            keep(&mut found, &device, key, known.content.decode()?.record)?;
        }
    }
    let mut entries = Vec::new();
    journal::each(store, Commit(0), |chunk| {
        entries.extend(chunk.entries);
        Ok(ControlFlow::Continue(()))
    })?;
    for entry in entries {
        let Entry::Records(arrived) = entry else {
            bail!("the journal holds a contested key, and nothing was");
        };
        for stored in arrived.records {
            let key = RecordKey {
                epoch: arrived.epoch,
                boot: arrived.boot,
                seq: stored.seq,
            };
            keep(
                &mut found,
                &arrived.device,
                key,
                stored.content.decode()?.record,
            )?;
        }
    }
    Ok(found)
}

/// A chunk that was taken up but not yet removed may be in both; then both say the same.
fn keep(
    found: &mut BTreeMap<Name, Record>,
    device: &DeviceId,
    key: RecordKey,
    record: Record,
) -> Result<()> {
    let name = Name {
        device: device.clone(),
        key,
    };
    match found.insert(name.clone(), record) {
        Some(other) if other != record => bail!("{name} is stored with two contents"),
        _ => Ok(()),
    }
}

fn compare(found: &BTreeMap<Name, Record>, sendings: &[Sending], said: &Said) -> Result<()> {
    let mut sent = BTreeMap::new();
    for number in &said.sent {
        sent.extend(sendings[*number].records.iter().cloned());
    }
    for (name, record) in found {
        let said = sent.get(name);
        let said = said.with_context(|| format!("{name}: stored and never sent"))?;
        ensure!(said == record, "{name}: sent {said:?}, stored {record:?}");
    }
    for number in &said.acknowledged {
        for (name, _) in &sendings[*number].records {
            ensure!(found.contains_key(name), "{name}: acknowledged and lost");
        }
    }
    Ok(())
}

/// The account is that of what is stored.
fn balance(store: &Store, stored: usize) -> Result<()> {
    let tally = commit::account(store)?.tally();
    ensure!(
        tally.records.balances(),
        "the counters do not balance: {tally:?}"
    );
    let counted = tally.records.stored;
    ensure!(
        counted == stored as u64,
        "{stored} stored, {counted} counted"
    );
    Ok(())
}

/// The trackers send everything again: what is stored is recognised, the rest is new, nothing is contested.
fn send_again(store: &Store, sendings: &[Sending], stored: usize) -> Result<()> {
    let mut admission = Admission::open(store)?;
    admission.begin(UtcMs::saturating(0))?;
    let mut names = BTreeSet::new();
    for sending in sendings {
        names.extend(sending.records.iter().map(|(name, _)| name));
        admission.admit(&sending.topic, &sending.payload, 1)?;
    }
    let sealed = admission.seal()?;
    let records = &sealed.tally.records;
    ensure!(records.contested == 0, "{} contested", records.contested);
    let new = names.len() - stored;
    ensure!(
        records.stored == new as u64,
        "{new} are new, {} were taken as new",
        records.stored
    );
    store.apply(sealed.batch)?;
    store.barrier()?;
    Ok(())
}

/// The fold takes the journal, and the sink is told everything that is stated.
fn drain(store: &Store, seed: u64, told: &Path) -> Result<()> {
    let mut fold = open_fold(seed, store)?;
    fold.catch_up()?;
    let left = journal::chunk(store, Commit(0))?;
    ensure!(left.is_none(), "the journal holds {left:?} after the fold");
    ensure!(
        store.newest_folded() == store.newest_commit(),
        "the fold stands still"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(deliver(store, told))?;
    ensure!(
        outbox::pending(store, SINK, 0, 1)?.is_empty(),
        "the outbox is not empty"
    );
    let mut stated = Vec::new();
    view::each_of_all(store, |_, event, posted: Posted| {
        let known = posted.revision.phase != Phase::Retract;
        stated.extend(known.then_some((event, posted.revision.rev)));
        Ok(ControlFlow::Continue(()))
    })?;
    ensure!(!stated.is_empty(), "no event is stated");
    for (event, revision) in stated {
        let sent = outbox::last_sent(store, SINK, &event)?;
        ensure!(sent == Some(revision), "{event}-{revision}: told {sent:?}");
    }
    Ok(())
}
