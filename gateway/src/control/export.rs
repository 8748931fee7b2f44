//! Every stored record, once: the history, then what still waits in the journal.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use protocol::key::{DeviceId, RecordKey};
use rules::timeline::Timeline;

use super::row::Row;
use super::sample;
use crate::store::history::{self, Kept, Known};
use crate::store::journal::{self, Entry, Records};
use crate::store::{Commit, Store, StoreError};

/// Hand out a row for every stored record; how many there were.
///
/// Of a device first its anchors are learned, then its records are read again and dated: only clocks
/// are kept in memory, never records.
pub(super) fn records(
    store: &Store,
    emit: &mut dyn FnMut(Row) -> ControlFlow<()>,
) -> Result<u64, StoreError> {
    let mut count = 0;
    let mut stopped = false;
    history::each_device(store, |device| {
        let timeline = timeline(store, &device)?;
        history::each(store, &device, None, |key, kept| {
            count += 1;
            let flow = emit(sample::row(&device, key, &kept, &timeline));
            stopped = flow.is_break();
            Ok(flow)
        })?;
        Ok(flow(stopped))
    })?;
    if !stopped {
        count += waiting(store, emit)?;
    }
    Ok(count)
}

/// What the records of a device say about its clock.
fn timeline(store: &Store, device: &DeviceId) -> Result<Timeline, StoreError> {
    let mut timeline = Timeline::default();
    history::each(store, device, None, |key, kept| {
        if let Kept::Known(known) = kept
            && let Ok(numbered) = known.content.decode()
        {
            timeline.learn(key, &numbered.record);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(timeline)
}

/// Records of the journal that the fold has not taken. Clocks of the devices concerned are kept: at
/// most one per device.
fn waiting(store: &Store, emit: &mut dyn FnMut(Row) -> ControlFlow<()>) -> Result<u64, StoreError> {
    let mut count = 0;
    let mut clocks: BTreeMap<DeviceId, Timeline> = BTreeMap::new();
    journal::each(store, Commit(0), |chunk| {
        for entry in chunk.entries {
            let Entry::Records(arrived) = entry else {
                continue;
            };
            if !clocks.contains_key(&arrived.device) {
                clocks.insert(arrived.device.clone(), timeline(store, &arrived.device)?);
            }
            let Some(clock) = clocks.get_mut(&arrived.device) else {
                continue;
            };
            for row in unfolded(store, &arrived, clock)? {
                count += 1;
                if emit(row).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(count)
}

/// Rows of those records of one payload that the history does not hold.
fn unfolded(
    store: &Store,
    arrived: &Records,
    clock: &mut Timeline,
) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    for stored in &arrived.records {
        let key = RecordKey {
            epoch: arrived.epoch,
            boot: arrived.boot,
            seq: stored.seq,
        };
        if history::value(store, &arrived.device, key)?.is_some() {
            continue;
        }
        if let Ok(numbered) = stored.content.decode() {
            clock.learn(key, &numbered.record);
        }
        let kept = Kept::Known(Known {
            received_at: arrived.received_at,
            qos: arrived.qos,
            content: stored.content.clone(),
        });
        rows.push(sample::row(&arrived.device, key, &kept, clock));
    }
    Ok(rows)
}

const fn flow(stopped: bool) -> ControlFlow<()> {
    if stopped {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}
