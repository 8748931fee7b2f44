//! A gateway as its operator has it: the release binary, a configuration, a plan, a data folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, ensure};
use protocol::key::{Boot, Epoch, RecordKey, Seq};
use serde_json::Value;

use crate::device::whole_spells;
use crate::ledger::Name;
use crate::peer::{Peer, free_address, http_get, product, run, wait_for};
pub use crate::plan::{FENCES, TRACKERS_PER_SHIPMENT, fleet_plan, wide_plan};
pub use crate::shown::Shown;

/// A gateway that can be started, killed, stopped and asked.
#[derive(Debug)]
pub struct Depot {
    program: PathBuf,
    folder: PathBuf,
    /// MQTT endpoint; stays the same over restarts.
    pub mqtt: SocketAddr,
    /// Liveness, readiness, metrics.
    pub http: SocketAddr,
    peer: Option<Peer>,
}

impl Depot {
    /// Write configuration and plan into `folder`; `sinks` is put behind the file sink every depot
    /// has, `data` is where the gateway keeps its store.
    ///
    /// # Errors
    /// When the binary has not been built or the files cannot be written.
    pub fn create(folder: &Path, data: &Path, plan: &str, sinks: &str) -> Result<Self> {
        let depot = Self {
            program: product("supercargo")?,
            folder: folder.to_owned(),
            mqtt: free_address()?,
            http: free_address()?,
            peer: None,
        };
        fs::write(folder.join("plan.toml"), plan)?;
        let text = format!(
            "[gateway]\nid = \"depot-test\"\ntime_zone = \"Europe/Amsterdam\"\ndata = {data:?}\n\
             [mqtt]\nlisten = \"{}\"\n[http]\nlisten = \"{}\"\n[rules]\nplan = \"plan.toml\"\n\
             [[sink]]\nname = \"file\"\nkind = \"file\"\npath = \"events.jsonl\"\n{sinks}",
            depot.mqtt, depot.http
        );
        fs::write(depot.config(), text)?;
        Ok(depot)
    }

    /// Run another program in place of the shipped binary: a control that must fail.
    #[must_use]
    pub fn with_program(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    /// Start and wait until it says that it is ready.
    ///
    /// # Errors
    /// When it ends instead, with the end of its log.
    pub fn start(&mut self) -> Result<()> {
        let program = self.program.clone();
        self.begin(&mut Command::new(program), &[])?;
        self.await_ready()
    }

    /// Start on a full disk: wait until it answers; ready it is not.
    ///
    /// # Errors
    /// When it ends instead, with the end of its log.
    pub fn start_full(&mut self) -> Result<()> {
        let program = self.program.clone();
        self.begin(&mut Command::new(program), &[])?;
        self.await_word("/livez")
    }

    /// Start `program`, with `arguments` behind command and configuration, and wait for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn begin(&mut self, program: &mut Command, arguments: &[&str]) -> Result<()> {
        let log = self.folder.join("gateway.log");
        let command = program.arg("run").arg("--config").arg(self.config());
        self.peer = Some(Peer::start("supercargo", command.args(arguments), &log)?);
        Ok(())
    }

    /// Wait until it says that it is ready.
    ///
    /// # Errors
    /// When it ends instead, with the end of its log.
    pub fn await_ready(&mut self) -> Result<()> {
        self.await_word("/readyz")
    }

    fn await_word(&mut self, path: &str) -> Result<()> {
        let http = self.http;
        let ready = || matches!(http_get(http, path), Ok((200, _)));
        let mut peer = self.peer.take().context("no gateway runs")?;
        peer.wait_until("to be ready", ready)?;
        self.peer = Some(peer);
        Ok(())
    }

    /// Kill it without warning.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.peer.take().context("no gateway runs")?.kill()
    }

    /// End it in good order.
    ///
    /// # Errors
    /// When it does not run or does not end.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.peer.take().context("no gateway runs")?.stop()
    }

    /// Wait until it has ended by itself.
    ///
    /// # Errors
    /// When it does not run or does not end.
    pub fn ended(&mut self) -> Result<ExitStatus> {
        self.peer.take().context("no gateway runs")?.wait()
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.peer.as_ref().map(Peer::id)
    }

    /// Whether one has been started that was neither killed, stopped nor waited for.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.peer.is_some()
    }

    /// Whether it has not ended by itself yet.
    ///
    /// # Errors
    /// When it was not started, or the system does not say.
    pub fn is_alive(&mut self) -> Result<bool> {
        self.peer.as_mut().context("no gateway runs")?.is_alive()
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.join("depot.toml")
    }

    /// What the gateway has logged since it was made.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join("gateway.log"))?)
    }

    /// Everything at `/metrics`.
    ///
    /// # Errors
    /// When the gateway does not answer.
    pub fn metrics(&self) -> Result<String> {
        Ok(http_get(self.http, "/metrics")?.1)
    }

    /// One value of `/metrics`, with its labels as they stand there.
    ///
    /// # Errors
    /// When the gateway does not answer or has no such metric.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let text = self.metrics()?;
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.with_context(|| format!("no metric {name} in\n{text}"))?;
        Ok(value.parse()?)
    }

    /// Facts of `supercargo status --json`, by the shipped binary.
    ///
    /// # Errors
    /// When the command fails or prints something else than rows.
    pub fn status(&self) -> Result<Vec<Value>> {
        let mut command = Command::new(product("supercargo")?);
        command.args(["status", "--json", "--config"]);
        rows(&run(command.arg(self.config()))?.stdout)
    }

    /// Rows of `supercargo settings ... --json`, by the shipped binary, and what it said besides.
    ///
    /// # Errors
    /// When the command fails or prints something else than rows.
    pub fn settings(&self, arguments: &[&str]) -> Result<(Vec<Value>, String)> {
        let mut command = Command::new(product("supercargo")?);
        command.args(["settings", "--json"]).args(arguments);
        let output = run(command.arg("--config").arg(self.config()))?;
        Ok((rows(&output.stdout)?, String::from_utf8(output.stderr)?))
    }

    /// Rows of `supercargo ledger --json`, by the shipped binary: one for each device ever heard.
    ///
    /// # Errors
    /// When the command fails or prints something else than rows.
    pub fn ledger(&self) -> Result<Vec<Value>> {
        let mut command = Command::new(product("supercargo")?);
        command.args(["ledger", "--json", "--config"]);
        let output = command.arg(self.config()).output()?;
        ensure!(
            matches!(output.status.code(), Some(0 | 1)),
            "ledger ended with {}",
            output.status
        );
        rows(&output.stdout)
    }

    /// Rows of `supercargo export WHAT --format jsonl`, by the shipped binary.
    ///
    /// # Errors
    /// When the command fails or prints something else than rows.
    pub fn export(&self, what: &str) -> Result<Vec<Value>> {
        let mut command = Command::new(product("supercargo")?);
        command.args(["export", what, "--format", "jsonl", "--config"]);
        rows(&run(command.arg(self.config()))?.stdout)
    }

    /// Every stored record, under its name.
    ///
    /// # Errors
    /// When the export fails, or shows a name twice.
    pub fn records(&self) -> Result<BTreeMap<Name, Shown>> {
        let mut records = BTreeMap::new();
        for row in self.export("records")? {
            let name = name(&row)?;
            let before = records.insert(name.clone(), Shown::from_row(&row)?);
            ensure!(before.is_none(), "{name} is exported twice");
        }
        Ok(records)
    }

    /// What the file sink writes.
    #[must_use]
    pub fn sink_file(&self) -> PathBuf {
        self.folder.join("events.jsonl")
    }

    /// Lines of the file sink, each a `CloudEvent`; one that is being written is not there yet.
    ///
    /// # Errors
    /// When there is a line that is no JSON.
    pub fn delivered(&self) -> Result<Vec<Value>> {
        let path = self.sink_file();
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(path)?;
        let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
        let line = |line| serde_json::from_str(line).with_context(|| format!("line {line:?}"));
        whole.lines().map(line).collect()
    }

    /// Wait until the gateway has judged everything it has stored by now, however much that is.
    ///
    /// # Errors
    /// When the fold does not go on.
    pub fn folded(&self) -> Result<()> {
        let commit = |name| {
            let found = fact(&self.status()?, name, &[]);
            found.with_context(|| format!("no {name} in status"))
        };
        let stored = commit("newest_commit")?;
        let mut folded = commit("folded_commit")?;
        while folded < stored {
            folded = wait_for("the fold to go on", || {
                let now = commit("folded_commit")?;
                Ok((now > folded).then_some(now))
            })?;
        }
        Ok(())
    }

    /// Wait until the file sink has so many events of a code, and give those.
    ///
    /// # Errors
    /// When they do not come.
    pub fn drained_of(&self, code: &str, count: usize) -> Result<Vec<Value>> {
        wait_for(&format!("{count} events {code} at the sink"), || {
            let mut events = self.delivered()?;
            events.retain(|event| event["data"]["code"] == code);
            Ok((events.len() >= count).then_some(events))
        })
    }

    /// Wait until everything stored is judged and the file sink has all that the gateway states, and
    /// give its lines.
    ///
    /// # Errors
    /// When that does not come about, with the difference.
    pub fn drained(&self) -> Result<Vec<Value>> {
        self.folded()?;
        let mut difference = String::new();
        let waited = wait_for("the file sink to have everything stated", || {
            let stated: BTreeSet<_> = self.export("events")?.iter().filter_map(stated).collect();
            let delivered = self.delivered()?;
            let told = newest(&delivered)?;
            difference = format!("stated {stated:?}\ndelivered {told:?}");
            Ok((stated == told).then_some(delivered))
        });
        waited.with_context(|| difference)
    }
}

/// JSON Lines.
fn rows(output: &[u8]) -> Result<Vec<Value>> {
    let text = std::str::from_utf8(output)?;
    let row = |line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}"));
    text.lines().map(row).collect()
}

/// The number a row of `status` gives under `name` with these labels.
#[must_use]
pub fn fact(status: &[Value], name: &str, labels: &[(&str, &str)]) -> Option<u64> {
    let labelled = |row: &Value| labels.iter().all(|(label, value)| row[label] == *value);
    let mut rows = status.iter();
    let row = rows.find(|row| row["name"] == name && labelled(row))?;
    row["value"].as_u64()
}

/// The shipment of a device of [`fleet_plan`] was told of every warm spell that ended within the device's
/// first `records` records, and of no other.
///
/// # Errors
/// When it was not, with both numbers.
pub fn warm_spells_are_told(delivered: &[Value], device: &str, records: u32) -> Result<()> {
    let shipment = format!("S-{device}");
    let closed = |event: &&Value| {
        event["subject"] == shipment.as_str()
            && event["data"]["code"] == "EX_TEMPERATURE"
            && event["data"]["closed"] == true
    };
    let told = delivered.iter().filter(closed);
    let told: BTreeSet<_> = told
        .map(|event| event["data"]["event_id"].to_string())
        .collect();
    let expected = whole_spells(records) as usize;
    ensure!(
        told.len() == expected,
        "{shipment}: {expected} warm spells ended, {} were told",
        told.len()
    );
    Ok(())
}

/// What a row of the events' export states, unless it was taken back.
pub(crate) fn stated(row: &Value) -> Option<(String, u64)> {
    let text = |key: &str| row.get(key)?.as_str().map(ToOwned::to_owned);
    let retracted = text("phase")? == "retract";
    (!retracted).then_some((text("event_id")?, row.get("rev")?.as_u64()?))
}

/// Event and revision that a receiver ends up with: the highest of each event, minus retracted.
///
/// # Errors
/// When an event has no id or revision.
pub fn newest(delivered: &[Value]) -> Result<BTreeSet<(String, u64)>> {
    let mut highest: BTreeMap<String, (u64, bool)> = BTreeMap::new();
    for event in delivered {
        let data = &event["data"];
        let id = data["event_id"].as_str().context("event_id")?;
        let revision = data["rev"].as_u64().context("rev")?;
        let seen = highest.entry(id.to_owned()).or_default();
        *seen = (*seen).max((revision, data["phase"] == "retract"));
    }
    let kept = highest.into_iter().filter(|(_, (_, retracted))| !retracted);
    Ok(kept.map(|(id, (revision, _))| (id, revision)).collect())
}

fn name(row: &Value) -> Result<Name> {
    let text = |key: &str| row[key].as_str().with_context(|| format!("{key} in {row}"));
    let number = |key: &str| row[key].as_u64().with_context(|| format!("{key} in {row}"));
    Ok(Name {
        device: text("device")?.parse()?,
        key: RecordKey {
            epoch: Epoch(u64::from_str_radix(text("epoch")?, 16)?),
            boot: Boot(u32::try_from(number("boot")?)?),
            seq: Seq(u32::try_from(number("seq")?)?),
        },
    })
}
