//! Answers what commands ask, from the store: behind the control socket, or in the command itself.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono_tz::Tz;
use protocol::key::DeviceIdError;
use thiserror::Error;
use tokio::sync::watch;

use super::audit::{self, Acting};
use super::row::Row;
use super::{Request, episode, export, pressure, settings, shortfall};
use crate::clock::monotonic;
use crate::config::STORE_FOLDER;
use crate::fold::posted::Posted;
use crate::mqtt::endpoint::Handle;
use crate::store::audit::Who;
use crate::store::settings::WANTED_MAX_DEVICES;
use crate::store::{Store, StoreError, history, outbox, view};

/// Events put in order at once: 1,024 places of two ids are 100 KiB.
const ORDERED_MAX_EVENTS: usize = 1_024;

/// How long an export waits for the fold to take what was stored when it began; twice the lag
/// that is allowed at rated load, and more than a refold takes.
const FOLD_TIMEOUT: Duration = Duration::from_secs(20);

/// Pause between two looks at the fold: short beside its usual lag, some 100 ms.
const FOLD_POLL: Duration = Duration::from_millis(10);

/// Most queued rows counted per sink; beyond it `status` says so.
const QUEUE_COUNT_MAX_ROWS: usize = 10_000;

/// What only a running gateway knows, as rows of `status`.
pub type Facts = Arc<dyn Fn() -> Vec<Row> + Send + Sync>;

/// Where rows go; it breaks when nobody takes them any more.
pub type Emit<'a> = dyn FnMut(Row) -> ControlFlow<()> + 'a;

/// Everything commands are answered from.
pub struct Desk {
    /// The store.
    pub store: Store,
    /// Zone of the times in events.
    pub zone: Tz,
    /// Names of the sinks whose queues `status` counts.
    pub sinks: Vec<String>,
    /// What the running gateway adds; `None` while none runs.
    pub running: Option<Running>,
    /// Held while a change reads what is there and writes what follows from it.
    pub changing: Mutex<()>,
}

/// A running gateway's part of a desk.
#[derive(Clone)]
pub struct Running {
    /// Further rows of `status`.
    pub facts: Facts,
    /// Sequence of the newest revision that may be read.
    pub posted: watch::Receiver<u64>,
    /// The connections of the devices.
    pub endpoint: Handle,
}

/// Why a request is not answered.
#[derive(Debug, Error)]
pub enum DeskError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The fold does not keep up.
    #[error(
        "export: the fold is {behind} commits behind and did not catch up in {} s; try again when `status` shows less",
        FOLD_TIMEOUT.as_secs()
    )]
    Lagging {
        /// Commits not yet folded.
        behind: u64,
    },
    /// The folder of a backup cannot be made.
    #[error("backup: make folder {}: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// No device has such a name.
    #[error("{0}")]
    Device(#[from] DeviceIdError),
    /// Settings that cannot be wanted; the rows before say what is wrong with them.
    #[error("{}, nothing was changed", if *faults == 1 { "1 fault".to_owned() } else { format!("{faults} faults") })]
    Settings {
        /// How many.
        faults: usize,
    },
    /// Settings are wanted of as many devices as may be.
    #[error(
        "settings are wanted of {WANTED_MAX_DEVICES} devices, which is the most; clear those of one that has reported them first"
    )]
    WantedFull,
    /// No version is left that is newer than that of the device.
    #[error(
        "the device says that it has the last version there is in force, so nothing newer can be sent; reset its settings"
    )]
    VersionsUsedUp,
    /// A device is not as the request takes it to be.
    #[error("device {device} {why}")]
    Registration {
        /// Which, as asked.
        device: String,
        /// What is the matter, and what to do.
        why: String,
    },
    /// A backup goes to a place every process means alike.
    #[error("backup: path {path} is not absolute")]
    Relative {
        /// The path.
        path: String,
    },
}

impl DeskError {
    /// Whether the request was wrong, and not the machine.
    pub(crate) const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Device(_) | Self::Registration { .. } | Self::Settings { .. }
        )
    }
}

impl Desk {
    /// Answer a request once; how many rows there were. Following is the server's affair.
    ///
    /// # Errors
    /// When the store fails, or the fold lags too far behind for an export.
    pub fn answer(&self, request: &Request, emit: &mut Emit<'_>) -> Result<u64, DeskError> {
        self.answer_to(&Who::here(), request, emit)
    }

    /// The same for somebody else than the user of this process; what is done is noted under the name.
    ///
    /// # Errors
    /// As [`Desk::answer`].
    pub fn answer_to(
        &self,
        who: &Who,
        request: &Request,
        emit: &mut Emit<'_>,
    ) -> Result<u64, DeskError> {
        let mut acting = Acting::of(request, who);
        let outcome = self.perform(request, &mut acting, emit);
        let noted = self.note_rest(&mut acting, &outcome);
        let rows = outcome?;
        noted?;
        Ok(rows)
    }

    fn perform(
        &self,
        request: &Request,
        acting: &mut Acting,
        emit: &mut Emit<'_>,
    ) -> Result<u64, DeskError> {
        match request {
            Request::Status => self.status(emit),
            Request::Events { after, .. } => Ok(self.events(*after, emit)?.rows),
            Request::ExportReadings => {
                self.wait_for_fold()?;
                self.export_readings(emit)
            }
            Request::ExportRecords => {
                self.wait_for_fold()?;
                Ok(export::records(&self.store, emit)?)
            }
            Request::ExportEvents => self.export_events(emit),
            Request::Backup { to } => self.backup(to, acting, emit),
            Request::NoteCertificates { .. } => {
                self.note_progress(acting, "done")?;
                Ok(0)
            }
            Request::ShowSettings { device } => self.show_settings(device.as_deref(), emit),
            Request::SetSettings { device, changes } => {
                self.set_settings(device, changes, acting, emit)
            }
            Request::ClearSettings { device } => self.clear_settings(device, acting, emit),
            Request::Devices { only } => self.identities(only.as_deref(), emit),
            Request::DeviceRegister {
                device,
                proof,
                rotate,
            } => self.register((device, proof), *rotate, acting, emit),
            Request::DeviceRevoke { device } => self.revoke(device, acting, emit),
            Request::Ledger { device } => self.ledger(device.as_deref(), emit),
            Request::Audit { since_ms } => self.audit(*since_ms, emit),
            Request::ListPlans => self.list_plans(emit),
            Request::ShowPlan { number } => self.show_plan(*number, emit),
            Request::ListQuarantine { which } => self.list_quarantine(which, false, emit),
            Request::ExportQuarantine { which } => self.export_quarantine(which, acting, emit),
            Request::DropQuarantine { which } => self.drop_quarantine(which, acting, emit),
        }
    }

    /// Rows of the events that changed after `after`, in order of their last change.
    pub(super) fn events(&self, after: u64, emit: &mut Emit<'_>) -> Result<Told, DeskError> {
        let mut told = Told { rows: 0, after };
        loop {
            let next = self.ordered(told.after)?;
            let full = next.len() == ORDERED_MAX_EVENTS;
            for (sequence, (shipment, event)) in next {
                told.after = sequence;
                let posted: Option<Posted> = view::value(&self.store, &shipment, &event)?;
                let Some(posted) = posted.filter(|posted| posted.sequence == sequence) else {
                    continue;
                };
                told.rows += 1;
                if emit(episode::row(&posted, self.zone)).is_break() {
                    return Ok(told);
                }
            }
            if !full {
                return Ok(told);
            }
        }
    }

    /// The first events after `after`, by sequence.
    fn ordered(&self, after: u64) -> Result<BTreeMap<u64, (String, String)>, StoreError> {
        let mut first = BTreeMap::new();
        view::each_of_all(&self.store, |shipment, event, posted: Posted| {
            if posted.sequence > after {
                first.insert(posted.sequence, (shipment, event));
            }
            if first.len() > ORDERED_MAX_EVENTS {
                first.pop_last();
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(first)
    }

    fn export_readings(&self, emit: &mut Emit<'_>) -> Result<u64, DeskError> {
        let mut readings = 0;
        export::records(&self.store, &mut |row| {
            if row.value("kind").is_none_or(|kind| kind != "reading") {
                return ControlFlow::Continue(());
            }
            readings += 1;
            emit(row)
        })?;
        Ok(readings)
    }

    fn export_events(&self, emit: &mut Emit<'_>) -> Result<u64, DeskError> {
        let mut rows = 0;
        view::each_of_all(&self.store, |_, _, posted: Posted| {
            rows += 1;
            Ok(emit(episode::row(&posted, self.zone)))
        })?;
        Ok(rows)
    }

    fn status(&self, emit: &mut Emit<'_>) -> Result<u64, DeskError> {
        let mut rows = vec![
            fact("running", self.running.is_some()),
            fact("store_bytes", self.store.size_bytes()?),
            fact("newest_commit", self.store.newest_commit().0),
            fact("folded_commit", self.store.newest_folded().0),
            fact("devices", self.devices()?),
            fact("events", self.count_events()?),
        ];
        rows.extend(shortfall::missing(&self.store)?);
        rows.extend(shortfall::doubted(&self.store)?);
        rows.extend(shortfall::quarantine(&self.store)?);
        rows.extend(shortfall::damaged(&self.store)?);
        rows.extend(shortfall::salvaged(&self.store)?);
        rows.extend(shortfall::sealed(&self.store)?);
        rows.extend(audit::status(&self.store)?);
        rows.extend(pressure::status(&self.store)?);
        rows.extend(shortfall::lost_sessions(&self.store)?);
        rows.extend(settings::status(&self.store)?);
        for sink in &self.sinks {
            let queued = outbox::pending(&self.store, sink, 0, QUEUE_COUNT_MAX_ROWS)?.len();
            let mut row = fact("outbox_rows", queued);
            row.put("sink", sink.as_str());
            row.put("at_least", queued == QUEUE_COUNT_MAX_ROWS);
            rows.push(row);
        }
        if let Some(running) = &self.running {
            rows.extend((running.facts)());
        }
        let mut count = 0;
        for row in rows {
            count += 1;
            if emit(row).is_break() {
                break;
            }
        }
        Ok(count)
    }

    /// The right to change something that was looked at before.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        // It guards no data: a panic while it was held left nothing half changed.
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn devices(&self) -> Result<u64, StoreError> {
        let mut devices = 0_u64;
        history::each_device(&self.store, |_| {
            devices += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(devices)
    }

    fn count_events(&self) -> Result<u64, StoreError> {
        let mut events = 0_u64;
        view::each_of_all(&self.store, |_, _, _: Posted| {
            events += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(events)
    }

    /// Copy the store. That it is handed out is written down before, so that the copy has it too, and again
    /// when it is known what came of it.
    fn backup(
        &self,
        to: &Path,
        acting: &mut Acting,
        emit: &mut Emit<'_>,
    ) -> Result<u64, DeskError> {
        if !to.is_absolute() {
            let path = to.display().to_string();
            return Err(DeskError::Relative { path });
        }
        let made = std::fs::create_dir(to);
        made.map_err(|source| DeskError::Folder {
            path: to.to_owned(),
            source,
        })?;
        self.note_progress(acting, "begun")?;
        if let Err(error) = self.store.backup(&to.join(STORE_FOLDER)) {
            // Leaves the folder alone when something stands in it by now.
            let _ = std::fs::remove_dir(to);
            self.note_progress(acting, format_args!("failed: {error}"))?;
            return Err(error.into());
        }
        self.note_progress(acting, "done")?;
        let _ = emit(fact("backup", to.display().to_string()));
        Ok(1)
    }

    /// Wait until everything stored by now is in the history, where an export finds it. While no
    /// gateway runs nothing moves, and the export reads the journal as well.
    fn wait_for_fold(&self) -> Result<(), DeskError> {
        if self.running.is_none() {
            return Ok(());
        }
        let wanted = self.store.newest_commit();
        let deadline = monotonic() + FOLD_TIMEOUT;
        while self.store.newest_folded() < wanted {
            if monotonic() > deadline {
                let behind = wanted.0.saturating_sub(self.store.newest_folded().0);
                return Err(DeskError::Lagging { behind });
            }
            std::thread::sleep(FOLD_POLL);
        }
        Ok(())
    }
}

/// How far `events` has told.
pub(super) struct Told {
    /// Rows handed out.
    pub(super) rows: u64,
    /// Sequence to go on after.
    pub(super) after: u64,
}

pub(super) fn fact(name: &'static str, value: impl Into<serde_json::Value>) -> Row {
    let mut row = Row::new();
    row.put("name", name);
    row.put("value", value);
    row
}
