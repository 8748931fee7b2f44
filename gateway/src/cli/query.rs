//! Commands that ask: the running gateway over its control socket, else the store itself.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use clap::{Args, ValueEnum};
use serde_json::Value;
use thiserror::Error;

use super::format::{Format, Writer};
use super::output::{self, Output};
use super::{Exit, complain, run};
use crate::config::{Config, DataFolder, Faults, STORE_FOLDER, StoreEngine};
use crate::control::{
    Client, ClientError, Desk, DeskError, EVENT_COLUMNS, READING_COLUMNS, Request, Row,
};
use crate::store::{Store, StoreError};

/// Where the gateway's data is.
#[derive(Args, Debug, Default)]
pub(super) struct Place {
    /// Data folder [default: that of the configuration, else the user's own]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Configuration file that names the data folder
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Place {
    /// Whether it was said, in one way or the other.
    pub(super) const fn is_given(&self) -> bool {
        self.data.is_some() || self.config.is_some()
    }
}

/// Say how the gateway is.
#[derive(Args, Debug)]
pub(super) struct Status {
    #[command(flatten)]
    place: Place,
}

/// Print what is stated about every event, in order of its last change.
#[derive(Args, Debug)]
pub(super) struct Events {
    #[command(flatten)]
    place: Place,
    /// Go on as events change; needs a running gateway
    #[arg(long)]
    follow: bool,
    /// Only what changed after this sequence number
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
    after: u64,
}

/// Print every stored reading, record or event.
#[derive(Args, Debug)]
pub(super) struct Export {
    /// What to export
    #[arg(value_enum)]
    what: What,
    /// What it looks like
    #[arg(long, value_enum, default_value = "jsonl")]
    format: Format,
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// One row per stored reading
    Readings,
    /// One row per stored record: readings, alarms, boots, anchors, settings, losses, contested keys
    Records,
    /// One row per event, as last stated
    Events,
}

/// Copy the store to a new data folder, while the gateway runs or not.
#[derive(Args, Debug)]
pub(super) struct Backup {
    /// Data folder to make; it must not be there
    #[arg(value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    place: Place,
}

/// Why a command got no answer.
#[derive(Debug, Error)]
pub(super) enum QueryError {
    #[error("{0}")]
    Configuration(Faults),
    #[error("there is no store in {}: no gateway has run there; name its folder by --data or --config", data.display())]
    NoStore { data: PathBuf },
    #[error("--follow needs a running gateway, and none runs on {}", data.display())]
    NotRunning { data: PathBuf },
    #[error("a gateway runs on {}: stop it first; at its next start it salvages what is damaged by itself", data.display())]
    Running { data: PathBuf },
    #[error("make data folder {}", data.display())]
    Folder {
        data: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("watch the store")]
    Watch(#[source] io::Error),
    #[error("current folder")]
    CurrentFolder(#[source] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Desk(#[from] DeskError),
    #[error("write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("write result")]
    Output(#[source] io::Error),
}

impl QueryError {
    pub(super) const fn exit(&self) -> Exit {
        match self {
            Self::Configuration(_) | Self::Client(ClientError::Usage { .. }) => Exit::Usage,
            Self::Desk(error) if error.is_usage() => Exit::Usage,
            _ => Exit::Environment,
        }
    }
}

pub(super) fn status(asked: &Status, output: &Output) -> Exit {
    done(ask(&asked.place, &Request::Status, |row| {
        output.row(&row, fact)
    }))
}

pub(super) fn events(asked: &Events, output: &Output) -> Exit {
    let request = Request::Events {
        after: asked.after,
        follow: asked.follow,
    };
    done(ask(&asked.place, &request, |row| {
        output.row(&row, sentence)
    }))
}

pub(super) fn export(asked: &Export, output: &Output) -> Exit {
    // Exports are for programs; --json asks for what jsonl is anyway.
    let format = if output.is_json() {
        Format::Jsonl
    } else {
        asked.format
    };
    done(export_to(output::bulk(), asked, format))
}

pub(super) fn backup(asked: &Backup, output: &Output) -> Exit {
    let absolute = std::path::absolute(&asked.to).map_err(QueryError::CurrentFolder);
    let text = |row: &Row| {
        format!(
            "wrote {}",
            row.value("value").map(plain).unwrap_or_default()
        )
    };
    done(absolute.and_then(|to| {
        ask(&asked.place, &Request::Backup { to }, |row| {
            output.row(&row, text)
        })
    }))
}

fn export_to(out: impl Write, asked: &Export, format: Format) -> Result<u64, QueryError> {
    let (request, columns) = match asked.what {
        What::Readings => (Request::ExportReadings, READING_COLUMNS),
        What::Records => (Request::ExportRecords, READING_COLUMNS),
        What::Events => (Request::ExportEvents, EVENT_COLUMNS),
    };
    let mut writer = Writer::begin(out, format, columns).map_err(QueryError::Output)?;
    let rows = ask(&asked.place, &request, |row| {
        output::unless_closed(writer.row(&row))
    })?;
    let ended = output::unless_closed(writer.end());
    ended.map(|_| rows).map_err(QueryError::Output)
}

pub(super) fn done(asked: Result<u64, QueryError>) -> Exit {
    match asked {
        Ok(_) => Exit::Good,
        Err(error) => complain(error.exit(), &error),
    }
}

/// Ask whoever can answer, and say who that is.
pub(super) fn ask(
    place: &Place,
    request: &Request,
    mut take: impl FnMut(Row) -> io::Result<ControlFlow<()>>,
) -> Result<u64, QueryError> {
    let config = configuration(place)?;
    let data = config.gateway.data.path();
    if let Some(gateway) = Client::connect(data)? {
        output::say(&format!(
            "asking the gateway that runs on {}",
            data.display()
        ));
        return Ok(gateway.ask(request, take)?);
    }
    if matches!(request, Request::Events { follow: true, .. }) {
        let data = data.to_owned();
        return Err(QueryError::NotRunning { data });
    }
    if request.writes() {
        std::fs::create_dir_all(data.join(STORE_FOLDER)).map_err(|source| QueryError::Folder {
            data: data.to_owned(),
            source,
        })?;
    }
    let desk = open(&config, data)?;
    output::say(&format!(
        "no gateway runs on {}: using its store",
        data.display()
    ));
    let mut failed = None;
    let rows = desk.answer(request, &mut |row| {
        take(row).unwrap_or_else(|error| {
            failed = Some(error);
            ControlFlow::Break(())
        })
    })?;
    failed.map_or(Ok(rows), |error| Err(QueryError::Output(error)))
}

/// The configuration as far as a question needs it: the machine is not looked at.
pub(super) fn configuration(place: &Place) -> Result<Config, QueryError> {
    let path = place.config.as_deref();
    let mut config = match path {
        Some(path) => Config::read_only(path),
        None => Config::parse(Path::new(""), "", &[]),
    }
    .map_err(QueryError::Configuration)?;
    if let Some(data) = &place.data {
        config.gateway.data = DataFolder::at(data.clone());
    }
    Ok(config)
}

/// Open the store of a data folder in which a gateway has run.
fn open(config: &Config, data: &Path) -> Result<Desk, QueryError> {
    let folder = data.join(STORE_FOLDER);
    if !folder.is_dir() {
        let data = data.to_owned();
        return Err(QueryError::NoStore { data });
    }
    let patience = run::patience(config.store.call_max).map_err(QueryError::Watch)?;
    // A question takes the store as it is, whatever engine the configuration wants of the next one.
    let engine = StoreEngine::found_in(&folder).unwrap_or(config.store.engine);
    Ok(Desk {
        store: Store::open_watched(engine, &folder, &patience)?,
        zone: config.gateway.time_zone,
        sinks: config
            .sinks
            .iter()
            .map(|sink| sink.name.to_string())
            .collect(),
        running: None,
        changing: Mutex::default(),
    })
}

/// A fact for people: its name, its value, and what it belongs to.
fn fact(row: &Row) -> String {
    let words = row.iter().map(|(name, value)| match name {
        "name" => format!("{:<28}", plain(value)),
        "value" => plain(value),
        other => format!("{other}={}", plain(value)),
    });
    words.collect::<Vec<_>>().join("  ")
}

/// An event for people.
fn sentence(row: &Row) -> String {
    let word = |name| row.value(name).map(plain).unwrap_or_default();
    format!(
        "{}  {:<8}  {:<18}  {}: {}  -> {}",
        word("occurred_at"),
        word("severity"),
        word("code"),
        word("shipment"),
        word("title"),
        word("next_action"),
    )
}

/// A value without quotes.
pub(super) fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
