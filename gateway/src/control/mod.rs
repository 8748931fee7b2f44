//! The control socket: how commands reach a running gateway.
//!
//! A Unix socket `control.sock` in the data folder, mode 0600, and only for the user the gateway runs
//! as. One request a connection, one JSON value a line:
//!
//! ```text
//! -> {"op":"events","after":17,"follow":true}
//! <- {"sequence":18,"code":"DELIVERED", ...}        one flat object a row
//! <- ["end",1]                                      number of rows; or ["error","why"]
//! ```
//! `["refused","why"]` in place of an error says that the request is at fault; the rows before it, if any,
//! say each what is wrong with it.
//!
//! The same [`Desk`] answers a command that opens the store itself while no gateway runs.

mod audit;
mod client;
mod desk;
mod episode;
mod export;
mod identity;
mod ledger;
mod plan;
mod pressure;
mod quarantine;
mod row;
mod sample;
#[cfg(unix)]
mod server;
#[cfg(not(unix))]
#[path = "unsupported.rs"]
mod server;
pub mod settings;
mod shortfall;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use client::{Client, ClientError};
pub use desk::{Desk, DeskError, Emit, Facts, Running};
pub use episode::COLUMNS as EVENT_COLUMNS;
pub use pressure::{Ceilings, Lookout};
pub use quarantine::Which;
pub use row::Row;
pub use sample::COLUMNS as READING_COLUMNS;
pub use server::{Server, bind};

use crate::store::identity::Proof;

/// Longest request, in bytes: a path has at most 4096, escaped at most six times as many.
const REQUEST_MAX_BYTES: u64 = 32 * 1024;

/// Longest wait for a request on an open connection: commands send theirs at once.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for a command to take a row: a stopped pager holds no connection for ever.
const ROW_TIMEOUT: Duration = Duration::from_secs(60);

/// Rows made ahead of what the command has taken: hides the latency of single reads, some 100 KiB.
const ROWS_AHEAD_MAX: usize = 64;

/// What a command asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How the gateway is: rows of one fact each.
    Status,
    /// What is stated about every event, in order of its last change.
    Events {
        /// Only what changed after this sequence number; 0 for everything.
        after: u64,
        /// Go on as events change, until the connection closes.
        follow: bool,
    },
    /// Every stored reading.
    ExportReadings,
    /// Every stored record: readings, alarms, what devices say of themselves, contested keys.
    ExportRecords,
    /// Every event.
    ExportEvents,
    /// Copy the store while it is in use.
    Backup {
        /// Absolute path of a data folder that does not exist.
        to: PathBuf,
    },
    /// Write down that certificates were made, which the command did itself.
    NoteCertificates {
        /// Whether by a CA that was there; else with a new one.
        renewed: bool,
        /// Folder that they were written to.
        folder: PathBuf,
        /// Names in the gateway's certificate.
        names: Vec<String>,
    },
    /// Where the settings of devices stand.
    ShowSettings {
        /// Of one device, and each of them; without it of all of which some are wanted.
        device: Option<String>,
    },
    /// Want settings of a device.
    SetSettings {
        /// Which.
        device: String,
        /// `KEY=VALUE` each.
        changes: Vec<String>,
    },
    /// Want nothing of a device any more.
    ClearSettings {
        /// Which.
        device: String,
    },
    /// Every registered device.
    Devices {
        /// Only this one.
        only: Option<String>,
    },
    /// Register a device, or give it another proof.
    DeviceRegister {
        /// Its id.
        device: String,
        /// What it proves itself by.
        proof: Proof,
        /// Whether it is registered and gets another proof.
        rotate: bool,
    },
    /// Believe a device no longer.
    DeviceRevoke {
        /// Its id.
        device: String,
    },
    /// What came of devices, what became of it, and what is missing.
    Ledger {
        /// Of one device; without it of all.
        device: Option<String>,
    },
    /// Every plan that judged, in the order of first use.
    ListPlans,
    /// One of them, with its texts.
    ShowPlan {
        /// Its number; without it the newest.
        number: Option<u64>,
    },
    /// What people did.
    Audit {
        /// Only from this time on, in milliseconds since 1970.
        since_ms: Option<i64>,
    },
    /// What was refused and is kept, without the payloads.
    ListQuarantine {
        /// Which of it.
        which: Which,
    },
    /// What was refused and is kept whole, with the payloads.
    ExportQuarantine {
        /// Which of it.
        which: Which,
    },
    /// Forget payloads that were refused.
    DropQuarantine {
        /// Which of them.
        which: Which,
    },
}

impl Request {
    /// Whether it changes the store. Such a request may come before a gateway has ever run.
    #[must_use]
    pub const fn writes(&self) -> bool {
        matches!(
            self,
            Self::DeviceRegister { .. } | Self::DeviceRevoke { .. } | Self::NoteCertificates { .. }
        )
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
