//! How long a gateway takes to serve again after kill -9, to tell of an alarm, and to have its view back.
#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, abort};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use gateway::clock::monotonic;
use gateway::config::STORE_FOLDER;
use gateway::store::Store;
use protocol::topic::{Channel, Topic};
use serde_json::json;
use tests::backlog::{self, Shape};
use tests::depot::{Depot, wide_plan};
use tests::device::Device;
use tests::mqtt::{Client, Incoming, Login, Version};

/// Records of one publication, as a tracker batches them.
const BATCH_RECORDS: u32 = 20;

/// Publications of one group commit.
const COMMIT_PUBLICATIONS: usize = 12;

/// Records between two blows: so many readings are still on the device, and ten hours.
const BLOW_LATER: u32 = 600;

/// Pause between two looks at the gateway.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Longest a gateway may take to have its view back: beyond this something is wrong.
const VIEW_MAX: Duration = Duration::from_secs(1_800);

#[derive(Debug, Parser)]
#[command(
    about = "milliseconds from the start of a killed gateway until it serves, and until its view is whole"
)]
struct Arguments {
    /// Readings that are stored, in all.
    #[arg(long, default_values_t = [1_000_000_u32, 5_000_000])]
    readings: Vec<u32>,
    /// Trackers that sent them.
    #[arg(long, default_value_t = 1_000)]
    trackers: u32,
    /// JSON Lines, one flat object a row.
    #[arg(long)]
    json: bool,
    /// Seed of the content.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Fill a store in this folder and end as a crash does.
    #[arg(long, hide = true)]
    fill: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(folder) = &arguments.fill {
        let readings = arguments.readings.first().context("--readings")?;
        return fill(folder, *readings, &arguments);
    }
    for readings in &arguments.readings {
        measure(*readings, &arguments)?;
    }
    Ok(())
}

/// The same store after four crashes: with all readings in the journal, with all of them folded, with a
/// plan that makes every checkpoint useless, and with that plan's checkpoints.
fn measure(readings: u32, arguments: &Arguments) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    crash_after_filling(&data, readings, arguments)?;
    let plan = wide_plan(arguments.trackers);
    let mut depot = Depot::create(folder.path(), &data, &plan, "")?;
    let mut senders = Senders {
        stranger: Device::new(arguments.seed, arguments.trackers)?,
        struck: Device::new(arguments.seed, 0)?,
    };
    // Behind all that waits of it.
    senders
        .struck
        .blow(readings.div_ceil(arguments.trackers) + BATCH_RECORDS)?;
    for name in ["journal", "folded", "plan_changed", "folded_again"] {
        if name == "plan_changed" {
            let warmer = plan.replace("above = 8.0", "above = 7.9");
            fs::write(folder.path().join("plan.toml"), warmer)?;
        }
        let opened = reopen(&mut depot, &mut senders)?;
        opened.print(name, readings, arguments);
        depot.kill()?;
    }
    Ok(())
}

/// Who sends after a start.
struct Senders {
    /// No shipment has it, so what it sends changes no view.
    stranger: Device,
    /// Its readings wait with those of the others, and it falls.
    struck: Device,
}

/// What a start took.
struct Opened {
    ready: Duration,
    ready_rss_mb: f64,
    /// Until a reading that came after the start was acknowledged.
    receipt: Duration,
    /// From the receipt of an alarm until its event was in the file of the sink.
    alarm: Duration,
    /// Commits that waited to be folded when the alarm's receipt came.
    alarm_behind_commits: f64,
    whole: Duration,
    rss_mb: f64,
    peak_mb: f64,
}

impl Opened {
    fn print(&self, name: &str, readings: u32, arguments: &Arguments) {
        let ms = |duration: Duration| duration.as_millis() as u64;
        let after = (self.whole.saturating_sub(self.ready)).as_secs_f64();
        let row = json!({
            "name": name,
            "readings": readings,
            "trackers": arguments.trackers,
            "ready_ms": ms(self.ready),
            "ready_rss_mb": self.ready_rss_mb.round(),
            "receipt_ms": ms(self.receipt),
            "alarm_ms": ms(self.alarm),
            "alarm_behind_commits": self.alarm_behind_commits,
            "whole_ms": ms(self.whole),
            "readings_per_s": (f64::from(readings) / after).round(),
            "rss_mb": self.rss_mb.round(),
            "peak_rss_mb": self.peak_mb.round(),
        });
        if arguments.json {
            println!("{row}");
            return;
        }
        println!(
            "{name}, {readings} readings of {} trackers: ready after {} ms with {:.0} MB, \
             first receipt after {} ms, an alarm behind {} commits told {} ms after its receipt, \
             view whole after {} ms with {:.0} MB (peak {:.0} MB)",
            arguments.trackers,
            ms(self.ready),
            self.ready_rss_mb,
            ms(self.receipt),
            self.alarm_behind_commits,
            ms(self.alarm),
            ms(self.whole),
            self.rss_mb,
            self.peak_mb,
        );
    }
}

fn reopen(depot: &mut Depot, senders: &mut Senders) -> Result<Opened> {
    let Senders { stranger, struck } = senders;
    let start = monotonic();
    depot.start()?;
    // Ready means that a device gets its CONNACK.
    let login = Login {
        client_id: stranger.id().as_str(),
        version: Version::V5,
        clean: true,
        credentials: None,
    };
    let mut client = Client::connect(depot.mqtt, &login)?;
    let ready = start.elapsed();
    let pid = depot.pid().context("no gateway runs")?;
    let ready_rss_mb = memory_mb(pid, "VmRSS:")?;
    let topic = Topic::new(stranger.id().clone(), Channel::Readings);
    publish(&mut client, &topic, &stranger.batch(1)?.bytes)?;
    let receipt = start.elapsed();
    client.disconnect()?;
    let (alarm, alarm_behind_commits) = strike(depot, struck)?;
    while !is_whole(depot, start)? {
        sleep(LOOK_AGAIN);
    }
    Ok(Opened {
        ready,
        ready_rss_mb,
        receipt,
        alarm,
        alarm_behind_commits,
        whole: start.elapsed(),
        rss_mb: memory_mb(pid, "VmRSS:")?,
        peak_mb: memory_mb(pid, "VmHWM:")?,
    })
}

/// Until its receipt.
fn publish(client: &mut Client, topic: &Topic, payload: &[u8]) -> Result<()> {
    client.publish(&topic.name(), 1, payload)?;
    let answer = client.receive()?;
    if !matches!(answer, Incoming::PubAck { packet_id: 1, reason } if reason < 0x80) {
        bail!("expected PUBACK, got {answer:?}");
    }
    Ok(())
}

/// An alarm, and the time from its receipt until the sink's file has its event; and how many commits waited.
fn strike(depot: &Depot, struck: &mut Device) -> Result<(Duration, f64)> {
    let login = Login {
        client_id: struck.id().as_str(),
        version: Version::V5,
        clean: true,
        credentials: None,
    };
    let mut client = Client::connect(depot.mqtt, &login)?;
    let topic = Topic::new(struck.id().clone(), Channel::Alarms);
    let payload = struck.blow(BLOW_LATER)?.bytes;
    let mut told = fs::metadata(depot.sink_file()).map_or(0, |file| file.len());
    publish(&mut client, &topic, &payload)?;
    let received = monotonic();
    let behind_commits = depot.metric("supercargo_fold_lag_commits")?;
    client.disconnect()?;
    while !tells_of_a_blow(&depot.sink_file(), &mut told)? {
        if received.elapsed() > VIEW_MAX {
            bail!("the alarm is not told after {} s", VIEW_MAX.as_secs());
        }
        sleep(LOOK_AGAIN);
    }
    Ok((received.elapsed(), behind_commits))
}

/// Whether what was appended behind `seen` bytes tells of a new blow; moves `seen` behind the last whole line.
fn tells_of_a_blow(path: &Path, seen: &mut u64) -> Result<bool> {
    let Ok(mut file) = fs::File::open(path) else {
        return Ok(false);
    };
    file.seek(SeekFrom::Start(*seen))?;
    let mut appended = Vec::new();
    file.read_to_end(&mut appended)?;
    let end = appended.iter().rposition(|byte| *byte == b'\n');
    appended.truncate(end.map_or(0, |end| end + 1));
    *seen += appended.len() as u64;
    let lines = std::str::from_utf8(&appended)?.lines();
    for line in lines.filter(|line| line.contains("EX_SHOCK")) {
        let event: serde_json::Value = serde_json::from_str(line)?;
        if event["data"]["code"] == "EX_SHOCK" && event["data"]["rev"] == 1 {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_whole(depot: &Depot, start: Instant) -> Result<bool> {
    if start.elapsed() > VIEW_MAX {
        bail!("the view is not whole after {} s", VIEW_MAX.as_secs());
    }
    let waiting = depot.metric("supercargo_fold_lag_commits")?
        + depot.metric("supercargo_refold_pending_trackers")?;
    Ok(waiting == 0.0)
}

fn memory_mb(pid: u32, name: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: f64 = kib.context(name.to_owned())?.parse()?;
    Ok(kib / 1024.0)
}

/// Fill a store in another process, which dies without closing it.
fn crash_after_filling(data: &Path, readings: u32, arguments: &Arguments) -> Result<()> {
    let status = Command::new(std::env::current_exe()?)
        .arg("--fill")
        .arg(data)
        .args(["--readings", &readings.to_string()])
        .args(["--trackers", &arguments.trackers.to_string()])
        .args(["--seed", &arguments.seed.to_string()])
        .status()?;
    if status.code().is_some() {
        bail!("filling the store ended with {status}, not by the crash it ends with");
    }
    Ok(())
}

fn fill(data: &Path, readings: u32, arguments: &Arguments) -> Result<()> {
    fs::create_dir_all(data)?;
    let store = Store::open(&data.join(STORE_FOLDER))?;
    let shape = Shape {
        records: BATCH_RECORDS,
        publications: COMMIT_PUBLICATIONS,
    };
    backlog::fill(
        &store,
        arguments.seed,
        (readings, arguments.trackers),
        shape,
    )?;
    store.barrier()?;
    abort();
}
