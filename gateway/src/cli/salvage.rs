//! `supercargo salvage`: what a damaged store still holds.

use std::path::Path;

use clap::Args;

use super::Exit;
use super::output::{self, Output};
use super::query::{Place, QueryError, configuration, done, plain};
use crate::clock::wall_utc;
use crate::config::{STORE_FOLDER, StoreEngine};
use crate::control::{Client, Row};
use crate::store::audit::{self, Act, Who};
use crate::store::salvage::{self, Report, Survey};
use crate::store::{Batch, Patience, Store, StoreError};

/// Most times that a store is opened until all of it can be read: damage that opening does not meet is met by
/// reading, and then opening salvages.
const OPENINGS_MAX: u32 = 3;

/// Rescue what a damaged store still holds. No gateway may run on it.
///
/// Every row that passes its checksum goes into a new store; the damaged folder is kept beside it under a dated
/// name. `supercargo run` does the same by itself. Exit code 1 when something is damaged or missing.
#[derive(Args, Debug)]
pub(super) struct Salvage {
    /// Say what could be recovered and what not, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: Place,
}

pub(super) fn salvage(asked: &Salvage, output: &Output) -> Exit {
    match rescue(asked, output) {
        Ok(true) => Exit::Good,
        Ok(false) => Exit::Finding,
        Err(error) => done(Err(error)),
    }
}

/// Whether nothing is damaged and nothing missing.
fn rescue(asked: &Salvage, output: &Output) -> Result<bool, QueryError> {
    let config = configuration(&asked.place)?;
    let data = config.gateway.data.path();
    if Client::connect(data)?.is_some() {
        let data = data.to_owned();
        return Err(QueryError::Running { data });
    }
    let folder = data.join(STORE_FOLDER);
    if !folder.is_dir() {
        let data = data.to_owned();
        return Err(QueryError::NoStore { data });
    }
    let engine = StoreEngine::found_in(&folder).unwrap_or(config.store.engine);
    if asked.dry_run {
        let survey = salvage::survey(engine, &folder)?;
        return tell(output, &surveyed(&survey));
    }
    let (store, reports, rows) = open_all(engine, &folder)?;
    for report in &reports {
        output::say(&format!(
            "the store is damaged ({}): what checked is in a new one, the old is kept as {}",
            report.fault, report.set_aside_as
        ));
    }
    if !reports.is_empty() {
        note(&store)?;
    }
    drop(store);
    let Some(last) = reports.last() else {
        output::say(&format!(
            "the store opens, and each of its {rows} rows checks"
        ));
        let mut row = Row::new();
        row.put("salvaged", false);
        row.put("rows", rows);
        return tell(output, &row);
    };
    tell(output, &salvaged(last))
}

/// Writes down that somebody asked for it. What each salvage did is written down beside it, as the program's own act.
fn note(store: &Store) -> Result<(), StoreError> {
    let act = Act {
        at_ms: wall_utc().get(),
        who: Who::here(),
        what: "salvage".to_owned(),
        device: None,
        detail: "by command".to_owned(),
        result: "done".to_owned(),
    };
    let mut batch = Batch::default();
    audit::note(store, &mut batch, &act)?;
    store.apply(batch)?;
    store.barrier().map(drop)
}

/// Opens until every row can be read: the store, what was salvaged on the way, and how many rows there are.
fn open_all(engine: StoreEngine, folder: &Path) -> Result<(Store, Vec<Report>, u64), StoreError> {
    let mut reports = Vec::new();
    let mut opening = 1;
    loop {
        let (store, report) = Store::open_or_salvage(engine, folder, &Patience::endless())?;
        reports.extend(report);
        match store.check_rows() {
            Err(StoreError::Damaged { .. } | StoreError::Read { .. }) if opening < OPENINGS_MAX => {
            }
            Err(error) => return Err(error),
            Ok(rows) => return Ok((store, reports, rows)),
        }
        opening += 1;
    }
}

/// Print the row; whether it names nothing that is damaged or missing.
fn tell(output: &Output, row: &Row) -> Result<bool, QueryError> {
    // It is the only row, so it does not matter whether anybody still listens.
    let _ = output.row(row, line).map_err(QueryError::Output)?;
    let number = |name| row.value(name).and_then(serde_json::Value::as_u64);
    let missing = number("promised_commit") > number("newest_commit");
    Ok(!missing && number("damaged").unwrap_or_default() == 0)
}

fn surveyed(survey: &Survey) -> Row {
    let mut row = Row::new();
    row.put("salvaged", false);
    row.put("rows", survey.rows.values().sum::<u64>());
    row.put("damaged", survey.damaged);
    row.put("newest_commit", survey.newest_commit);
    row.put("promised_commit", survey.promised_commit);
    for (kind, rows) in &survey.rows {
        row.put(format!("rows_{kind}"), *rows);
    }
    row
}

fn salvaged(report: &Report) -> Row {
    let mut row = Row::new();
    row.put("salvaged", true);
    row.put("rows", report.rows.values().sum::<u64>());
    row.put("damaged", report.damaged);
    row.put("newest_commit", report.newest_commit);
    row.put("promised_commit", report.promised_commit);
    row.put("fault", report.fault.as_str());
    row.put("set_aside_as", report.set_aside_as.as_str());
    for (kind, rows) in &report.rows {
        row.put(format!("rows_{kind}"), *rows);
    }
    row
}

/// A row for people.
fn line(row: &Row) -> String {
    let words = row
        .iter()
        .map(|(name, value)| format!("{name} {}", plain(value)));
    words.collect::<Vec<_>>().join("  ")
}
