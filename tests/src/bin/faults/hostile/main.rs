//! Malformed packets over sockets, and over TLS malformed handshakes too: no crash, memory flat, and a healthy device
//! beside them is served as before.
//!
//! First the gateway is made to read every one of them, at a pace (`hostile`). Then they come as fast as they can, with
//! the bound on what a failing address may cost, and without it (`hostile_flood`): turns without and with the flood
//! follow each other, so that what else the machine does is in both.
#![expect(clippy::print_stdout, reason = "a campaign answers on standard output")]

mod attack;
mod healthy;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use gateway::clock::monotonic;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tests::depot::{Depot, fleet_plan};
use tests::kit::supercargo;
use tests::peer::{free_address, say};

use attack::{ATTACKERS, Door, Flood};
use healthy::{Healthy, Times};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask faults hostile")]
struct Arguments {
    /// The long campaign: 100,000 packets instead of 10,000, and ten times as many turns of the flood.
    #[arg(long)]
    full: bool,
    /// Seed of all content.
    #[arg(long, default_value_t = 0x5ca1_ab1e)]
    seed: u64,
    /// Packets a second that the gateway is made to read, over TLS a quarter of it; 0 leaves only the flood.
    #[arg(long, default_value_t = 1_000)]
    packets_per_s: u32,
    /// Only over TCP, or only over TLS.
    #[arg(long)]
    by: Option<By>,
    /// Print the rows as JSON Lines.
    #[arg(long)]
    json: bool,
}

/// What attackers and healthy devices speak through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum By {
    Tcp,
    Tls,
}

impl By {
    const ALL: [Self; 2] = [Self::Tcp, Self::Tls];

    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// How much slower the packets come: a whole TLS handshake takes both ends more than a millisecond.
    const fn slowness(self) -> u32 {
        match self {
            Self::Tcp => 1,
            Self::Tls => 4,
        }
    }
}

/// Settings that let an address fail as often as it likes.
const UNBOUNDED: &str = "failure_rate_per_address_max = 100000\nfailure_rate_max = 100000\n";

const QUICK_PACKETS: u32 = 10_000;
const FULL_PACKETS: u32 = 100_000;

/// Turns of quiet and flood.
const QUICK_TURNS: u32 = 5;
const FULL_TURNS: u32 = 50;

/// Length of a quiet time, and of a flood after it.
const TURN: Duration = Duration::from_secs(2);

/// The first of so many packets warm the gateway up; from there on its memory must stay.
const WARM_SHARE: u32 = 5;

/// What memory may grow by after that, in MiB: the store's cache of what was quarantined, and noise.
const GROWTH_MAX_MIB: f64 = 16.0;

impl Arguments {
    /// From one packet of an attacker to its next; `None` when none is to be read.
    fn pace(&self, by: By) -> Option<Duration> {
        let each = Duration::from_secs(ATTACKERS).checked_div(self.packets_per_s)?;
        Some(each * by.slowness())
    }

    fn print(&self, row: &Value) {
        if self.json {
            println!("{row}");
        } else {
            println!("{row:#}");
        }
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut good = true;
    for by in By::ALL {
        if arguments.by.is_some_and(|only| only != by) {
            continue;
        }
        if let Some(pace) = arguments.pace(by) {
            good &= read(by, pace, &arguments)?;
        }
        for bounded in [true, false] {
            good &= flood(by, bounded, &arguments)?;
        }
    }
    Ok(ExitCode::from(u8::from(!good)))
}

/// A fresh gateway that reads every packet, and a healthy device. Whether nothing went wrong.
fn read(by: By, pace: Duration, arguments: &Arguments) -> Result<bool> {
    let folder = tempfile::tempdir()?;
    let (mut depot, door) = besieged(folder.path(), by, UNBOUNDED)?;
    depot.start()?;
    let gateway = depot.pid().context("the gateway does not run")?;
    let packets = if arguments.full {
        FULL_PACKETS
    } else {
        QUICK_PACKETS
    };

    let mut healthy = Healthy::connect(&door, arguments.seed)?;
    let mut before = healthy.work(TURN)?;
    let over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&over);
    let serving = thread::spawn(move || {
        let mut times = Times::default();
        while !until.load(Ordering::SeqCst) {
            healthy.publish(&mut times)?;
        }
        anyhow::Ok(times)
    });
    let start = monotonic();
    attack::send(&door, packets / WARM_SHARE, arguments.seed, pace)?;
    let warm_mib = rss_mib(gateway)?;
    let rest = packets - packets / WARM_SHARE;
    attack::send(&door, rest, arguments.seed ^ 1, pace)?;
    let end_mib = rss_mib(gateway)?;
    let seconds = start.elapsed().as_secs_f64();
    over.store(true, Ordering::SeqCst);
    let served = serving.join().ok().context("the healthy device's thread")?;
    let mut during = served.context("the healthy device was not served")?;
    let refused = refusals(&depot)?;
    let good = end_mib - warm_mib <= GROWTH_MAX_MIB && refused > 0.0;
    arguments.print(&json!({
        "fault": "hostile", "by": by.name(), "tried": packets, "failed": u8::from(!good), "skipped": 0,
        "seed": arguments.seed, "packets_per_s": f64::from(packets) / seconds,
        "refused": refused, "seconds": seconds, "rss_warm_mib": warm_mib, "rss_end_mib": end_mib,
        "healthy_publications": during.published_us.len(),
        "healthy_p50_us_before": before.published(50), "healthy_p50_us_during": during.published(50),
        "healthy_p99_us_before": before.published(99), "healthy_p99_us_during": during.published(99),
    }));
    end(&mut depot)?;
    let word = if good { "" } else { ": FAILED" };
    let (name, seed) = (by.name(), arguments.seed);
    say(&format!(
        "read by {name}, seed {seed}, {seconds:.0} s{word}"
    ));
    Ok(good)
}

/// What the healthy device saw, what the gateway took of the cores, and how many attacks there were.
#[derive(Default)]
struct Spell {
    times: Times,
    cpu_s: f64,
    attacks: u64,
}

impl Spell {
    /// A turn more, with a flood at this door, if at any.
    fn go_on(
        &mut self,
        healthy: &mut Healthy,
        gateway: u32,
        attacked: Option<&Door>,
        seed: u64,
    ) -> Result<()> {
        let cpu_s = cpu_seconds(gateway)?;
        let flood = attacked.map(|door| Flood::begin(door, seed));
        let served = healthy
            .work(TURN)
            .context("the healthy device was not served");
        self.cpu_s += cpu_seconds(gateway)? - cpu_s;
        self.attacks += flood.map_or(Ok(0), Flood::end)?;
        self.times.add(served?);
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    fn publications(&self) -> f64 {
        self.times.published_us.len() as f64
    }
}

/// A fresh gateway, a healthy device, and as many attacks as come. Whether nothing went wrong.
fn flood(by: By, bounded: bool, arguments: &Arguments) -> Result<bool> {
    let folder = tempfile::tempdir()?;
    let (mut depot, door) = besieged(folder.path(), by, if bounded { "" } else { UNBOUNDED })?;
    depot.start()?;
    let gateway = depot.pid().context("the gateway does not run")?;
    let turns = if arguments.full {
        FULL_TURNS
    } else {
        QUICK_TURNS
    };
    let mut healthy = Healthy::connect(&door, arguments.seed)?;
    let decoy = attack::decoy(&door)?;
    let [mut quiet, mut elsewhere, mut here] = [(); 3].map(|()| Spell::default());
    let mut warm_mib = None;
    for turn in 0..turns {
        let seed = arguments.seed ^ u64::from(turn) << 16;
        quiet.go_on(&mut healthy, gateway, None, seed)?;
        elsewhere.go_on(&mut healthy, gateway, Some(&decoy), seed)?;
        here.go_on(&mut healthy, gateway, Some(&door), seed)?;
        warm_mib.get_or_insert(rss_mib(gateway)?);
    }
    let (warm_mib, end_mib) = (warm_mib.unwrap_or_default(), rss_mib(gateway)?);
    let refused = refusals(&depot)?;
    let good = end_mib - warm_mib <= GROWTH_MAX_MIB && refused > 0.0;
    let mut row = figures(
        [quiet, elsewhere, here],
        f64::from(turns) * TURN.as_secs_f64(),
    );
    let told = json!({
        "fault": "hostile_flood", "by": by.name(), "bounded": bounded,
        "failed": u8::from(!good), "skipped": 0, "seed": arguments.seed, "refused": refused,
        "rss_warm_mib": warm_mib, "rss_end_mib": end_mib,
    });
    if let (Value::Object(row), Value::Object(told)) = (&mut row, told) {
        row.extend(told);
    }
    arguments.print(&row);
    end(&mut depot)?;
    Ok(good)
}

/// Figures for people, of `seconds` each without a flood, with one at the decoy, and with one at the gateway.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn figures(mut spells: [Spell; 3], seconds: f64) -> Value {
    let [quiet_us, elsewhere_us, here_us] =
        spells.each_mut().map(|spell| spell.times.published(99));
    let newcomer_us = spells.each_mut().map(|spell| spell.times.connected(99));
    let [quiet, elsewhere, here] = &spells;
    let served_s = quiet.cpu_s / quiet.publications() * here.publications();
    let attacked_s = (here.cpu_s - served_s).max(0.0);
    json!({
        "tried": here.attacks, "attacks_per_s": here.attacks as f64 / seconds,
        "attacks_elsewhere_per_s": elsewhere.attacks as f64 / seconds,
        "healthy_p99_us": [quiet_us, elsewhere_us, here_us],
        "healthy_p99_ratio": here_us as f64 / quiet_us as f64,
        "healthy_p99_ratio_to_elsewhere": here_us as f64 / elsewhere_us as f64,
        "newcomer_p99_us": newcomer_us,
        "gateway_cores_quiet": quiet.cpu_s / seconds,
        "gateway_cores_for_flood": attacked_s / seconds,
        "gateway_us_per_attack": attacked_s * 1e6 / here.attacks as f64,
    })
}

fn end(depot: &mut Depot) -> Result<()> {
    ensure!(
        depot.is_running() && depot.stop()?.success(),
        "the gateway did not end well"
    );
    Ok(())
}

/// A gateway that listens with and without TLS, with `more` in `[mqtt]`, and the door that is attacked.
fn besieged(folder: &Path, by: By, more: &str) -> Result<(Depot, Door)> {
    let ca = folder.join("ca").display().to_string();
    supercargo(&["ca", "init", &ca, "--name", "127.0.0.1"])?;
    let secured = free_address()?;
    // A flood is refused loudly; here the loud lines would only measure the disk.
    let sections = format!(
        "[log]\nlevel = \"error\"\n[mqtt.tls]\nlisten = \"{secured}\"\ncertificate = \"ca/server.pem\"\n\
         key_file = \"ca/server-key.pem\"\nclient_ca = \"ca/ca.pem\"\n"
    );
    let depot = Depot::create(folder, &folder.join("data"), &fleet_plan(&[]), &sections)?;
    let written = fs::read_to_string(depot.config())?;
    fs::write(
        depot.config(),
        written.replace("[mqtt]\n", &format!("[mqtt]\n{more}")),
    )?;
    let door = match by {
        By::Tcp => Door {
            address: depot.mqtt,
            tls: None,
        },
        By::Tls => Door {
            address: secured,
            tls: Some(trusting(&folder.join("ca").join("ca.pem"))?),
        },
    };
    Ok((depot, door))
}

/// TLS that trusts the depot's own authority.
fn trusting(authority: &Path) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(
        config.with_root_certificates(roots).with_no_client_auth(),
    ))
}

fn refusals(depot: &Depot) -> Result<f64> {
    let metrics = depot.metrics()?;
    let counters = metrics.lines().filter_map(|line| {
        line.strip_prefix("supercargo_refusals_total{")?
            .split_once("} ")
    });
    counters.map(|(_, value)| Ok(value.parse::<f64>()?)).sum()
}

fn rss_mib(process: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("VmRSS")?.parse::<f64>()? / 1024.0)
}

/// Processor time of a process so far, user and system.
fn cpu_seconds(process: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, rest) = text.rsplit_once(')').context("stat")?;
    let ticks: Vec<f64> = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    // The kernel counts in hundredths for whoever asks.
    Ok(ticks.iter().sum::<f64>() / 100.0)
}
