//! `supercargo quarantine`: what was refused.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand};
use protocol::key::DeviceId;

use super::Exit;
use super::output::{self, Output};
use super::query::{Place, QueryError, ask, done, plain};
use crate::control::{Request, Row, Which};

/// File that describes the payloads beside it, one row each.
const INDEX_FILE: &str = "index.jsonl";

/// What a person types to drop payloads.
const CONFIRMATION: &str = "drop";

/// List, take away or drop the payloads that were refused.
///
/// A payload that cannot be decoded is acknowledged, so that the device does not send it for ever, and kept
/// here. When the quarantine is full, digest, length and count are kept in its place.
#[derive(Args, Debug)]
pub(super) struct Quarantine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Say what is kept, whose it is and why it was refused
    List {
        #[command(flatten)]
        only: Only,
        #[command(flatten)]
        place: Place,
    },
    /// Print payloads as JSON Lines with hex, or write them to files
    Export {
        #[command(flatten)]
        only: Only,
        /// Folder to make, with one file a payload and index.jsonl; it must not be there
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
    /// Forget payloads for good; how many, of which reasons, stays in the store
    #[command(group(ArgGroup::new("which").required(true).multiple(true)))]
    Drop {
        /// The payload of this number
        #[arg(long, group = "which", conflicts_with = "all")]
        id: Option<u64>,
        /// Those of this device
        #[arg(long, group = "which", conflicts_with = "all")]
        device: Option<DeviceId>,
        /// All of them
        #[arg(long, group = "which")]
        all: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        place: Place,
    },
}

/// Which payloads.
#[derive(Args, Debug)]
struct Only {
    /// Only the payload of this number
    #[arg(long)]
    id: Option<u64>,
    /// Only those of this device
    #[arg(long)]
    device: Option<DeviceId>,
}

pub(super) fn quarantine(asked: &Quarantine, output: &Output) -> Exit {
    match &asked.command {
        Command::List { only, place } => list(only, place, output),
        Command::Export {
            only,
            to: None,
            place,
        } => print(only, place),
        Command::Export {
            only,
            to: Some(to),
            place,
        } => export(only, to, place, output),
        Command::Drop {
            id,
            device,
            all: _,
            yes,
            place,
        } => drop_payloads(&which(*id, device.as_ref()), *yes, place, output),
    }
}

fn which(id: Option<u64>, device: Option<&DeviceId>) -> Which {
    Which {
        id,
        device: device.map(DeviceId::to_string),
    }
}

impl Only {
    fn which(&self) -> Which {
        which(self.id, self.device.as_ref())
    }
}

fn list(only: &Only, place: &Place, output: &Output) -> Exit {
    let which = only.which();
    let asked = ask(place, &Request::ListQuarantine { which }, |row| {
        output.row(&row, line)
    });
    if matches!(asked, Ok(0)) {
        output::say("nothing is in the quarantine");
    }
    done(asked)
}

/// JSON Lines, with or without `--json`: payloads are for programs.
fn print(only: &Only, place: &Place) -> Exit {
    let (which, mut out) = (only.which(), output::bulk());
    let asked = ask(place, &Request::ExportQuarantine { which }, |row| {
        output::unless_closed(writeln!(out, "{row}"))
    });
    let flushed = output::unless_closed(out.flush()).map_err(QueryError::Output);
    done(asked.and_then(|rows| flushed.map(|_| rows)))
}

/// Every payload to a file of its own, named by number and device, which no device can choose.
fn export(only: &Only, to: &Path, place: &Place, output: &Output) -> Exit {
    let made = fs::create_dir(to).and_then(|()| File::create_new(to.join(INDEX_FILE)));
    let mut index = match made {
        Ok(index) => io::BufWriter::new(index),
        Err(source) => return done(Err(unwritten(to, source))),
    };
    let which = only.which();
    let mut failed = None;
    let asked = ask(place, &Request::ExportQuarantine { which }, |row| {
        let written = write_payloads(to, &row, &mut index);
        Ok(written.map_or_else(
            |source| {
                failed = Some(source);
                ControlFlow::Break(())
            },
            ControlFlow::Continue,
        ))
    });
    let written = failed.map_or_else(|| index.flush(), Err);
    let asked = asked.and_then(|rows| match written {
        Ok(()) => Ok(rows),
        Err(source) => Err(unwritten(to, source)),
    });
    if let Ok(rows) = asked {
        let mut row = Row::new();
        row.put("payloads", rows);
        row.put("folder", to.display().to_string());
        let told = output.row(&row, |row| {
            format!("wrote {rows} payloads to {}", word(row, "folder"))
        });
        return done(told.map(|_| rows).map_err(QueryError::Output));
    }
    done(asked)
}

fn unwritten(path: &Path, source: io::Error) -> QueryError {
    let path = path.to_owned();
    QueryError::Write { path, source }
}

/// Writes the payloads of a row, and the row with the names of their files in their place.
fn write_payloads(folder: &Path, row: &Row, index: &mut impl Write) -> io::Result<()> {
    let mut listed = Row::new();
    for (name, value) in row.iter() {
        let number = match name {
            "payload_hex" => "",
            "payload_2_hex" => "-2",
            _ => {
                listed.put(name.to_owned(), value.clone());
                continue;
            }
        };
        let device: DeviceId = word(row, "device").parse().map_err(io::Error::other)?;
        let file = format!("{}-{device}{number}.bin", word(row, "id"));
        let bytes = unhex(value.as_str().unwrap_or_default())?;
        File::create_new(folder.join(&file))?.write_all(&bytes)?;
        listed.put(name.replace("_hex", "_file"), file);
    }
    writeln!(index, "{listed}")
}

fn unhex(text: &str) -> io::Result<Vec<u8>> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "payload is no hex");
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or_else(wrong);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).map_err(io::Error::other),
        _ => Err(wrong()),
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

fn drop_payloads(which: &Which, yes: bool, place: &Place, output: &Output) -> Exit {
    if !yes {
        match confirmed(which, place, output) {
            Ok(Exit::Good) => {}
            Ok(exit) => return exit,
            Err(error) => return done(Err(error)),
        }
    }
    let which = which.clone();
    let mut dropped = 0;
    let asked = ask(place, &Request::DropQuarantine { which }, |row| {
        dropped = row
            .value("value")
            .and_then(serde_json::Value::as_u64)
            .unwrap_or_default();
        output.row(&row, |row| {
            let (count, bytes) = (word(row, "value"), word(row, "bytes"));
            format!("dropped {count} payloads of {bytes} bytes")
        })
    });
    match done(asked) {
        Exit::Good if dropped == 0 => Exit::Finding,
        exit => exit,
    }
}

/// Lets a person see what would be dropped, and say so.
fn confirmed(which: &Which, place: &Place, output: &Output) -> Result<Exit, QueryError> {
    if output.is_json() || !io::stdin().is_terminal() {
        output::say("payloads are dropped for good: say --yes where nobody can be asked");
        return Ok(Exit::Usage);
    }
    let which = which.clone();
    let (mut payloads, mut bytes) = (0_u64, 0);
    ask(place, &Request::ListQuarantine { which }, |row| {
        // A row without a number is a digest; it stays.
        if row.value("id").is_some() {
            payloads += 1;
            bytes += row
                .value("bytes")
                .and_then(serde_json::Value::as_u64)
                .unwrap_or_default();
        }
        Ok(ControlFlow::Continue(()))
    })?;
    output::say(&format!(
        "{payloads} payloads of {bytes} bytes would be dropped for good; type {CONFIRMATION} to go on"
    ));
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(QueryError::Output)?;
    if answer.trim() == CONFIRMATION {
        return Ok(Exit::Good);
    }
    output::say("nothing was dropped");
    Ok(Exit::Finding)
}

/// A row for people.
fn line(row: &Row) -> String {
    let from = match row.value("topic") {
        Some(topic) => plain(topic),
        None => word(row, "device"),
    };
    let id = row.value("id").map_or_else(|| "-".to_owned(), plain);
    format!(
        "{id:>6}  {}  {from}  {}  {} payloads, {} bytes, sha256 {:.16}  {}",
        word(row, "received_at"),
        word(row, "reason"),
        word(row, "payloads"),
        word(row, "bytes"),
        word(row, "sha256"),
        word(row, "detail"),
    )
}

fn word(row: &Row, name: &str) -> String {
    row.value(name).map(plain).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_comes_back_as_bytes_and_anything_else_is_refused() {
        assert_eq!(unhex("00ff7a").unwrap(), [0, 0xff, 0x7a]);
        assert_eq!(unhex("").unwrap(), [0_u8; 0]);
        for wrong in ["0", "0g", "+1", "ä"] {
            assert!(unhex(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_payload_of_a_device_whose_name_is_a_path_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut row = Row::new();
        row.put("id", 7);
        row.put("device", "../t-1");
        row.put("payload_hex", "00");
        assert!(write_payloads(folder.path(), &row, &mut Vec::new()).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
