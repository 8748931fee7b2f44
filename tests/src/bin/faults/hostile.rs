//! Malformed packets over sockets, and over TLS malformed handshakes too: no crash, memory flat, and a healthy device
//! beside them is served as before.
#![expect(clippy::print_stdout, reason = "a campaign answers on standard output")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use gateway::clock::monotonic;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use tests::depot::{Depot, fleet_plan};
use tests::device::Device;
use tests::kit::supercargo;
use tests::mqtt::{Client, Incoming, Login, Version};
use tests::peer::{free_address, say};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask faults hostile")]
struct Arguments {
    /// The long campaign: 100,000 packets instead of 10,000.
    #[arg(long)]
    full: bool,
    /// Seed of all content.
    #[arg(long, default_value_t = 0x5ca1_ab1e)]
    seed: u64,
    /// Packets a second, over TLS a quarter of it; 0 is as fast as the machine can, which also takes the cores from
    /// the healthy device.
    #[arg(long, default_value_t = 1_000)]
    packets_per_s: u32,
    /// Only over TCP, or only over TLS.
    #[arg(long)]
    by: Option<By>,
    /// Print the rows as JSON Lines.
    #[arg(long)]
    json: bool,
}

/// What the attackers speak through. The healthy device always speaks TCP.
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

const QUICK_PACKETS: u32 = 10_000;
const FULL_PACKETS: u32 = 100_000;

/// Clients that attack at the same time.
const ATTACKERS: u64 = 4;

/// The first of so many packets warm the gateway up; from there on its memory must stay.
const WARM_SHARE: u32 = 5;

/// What memory may grow by after that, in MiB: the store's cache of what was quarantined, and noise.
const GROWTH_MAX_MIB: f64 = 16.0;

/// Publications of the healthy device before the flood.
const QUIET_PUBLICATIONS: usize = 500;

/// Longest wait of an attacker for the end of its connection.
const ATTACKER_PATIENCE: Duration = Duration::from_secs(10);

impl Arguments {
    /// From one packet of an attacker to its next.
    fn pace(&self, by: By) -> Duration {
        let each = Duration::from_secs(ATTACKERS).checked_div(self.packets_per_s);
        each.unwrap_or_default() * by.slowness()
    }

    const fn packets(&self) -> u32 {
        if self.full {
            FULL_PACKETS
        } else {
            QUICK_PACKETS
        }
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut good = true;
    for by in By::ALL {
        if arguments.by.is_none_or(|only| only == by) {
            good &= campaign(by, &arguments)?;
        }
    }
    Ok(ExitCode::from(u8::from(!good)))
}

/// A fresh gateway, a healthy device, and the flood. Whether nothing went wrong.
fn campaign(by: By, arguments: &Arguments) -> Result<bool> {
    let folder = tempfile::tempdir()?;
    let (mut depot, door) = besieged(folder.path(), by)?;
    depot.start()?;
    let gateway = depot.pid().context("the gateway does not run")?;
    let packets = arguments.packets();

    let mut healthy = Healthy::connect(depot.mqtt, arguments.seed)?;
    for _ in 0..QUIET_PUBLICATIONS {
        healthy.publish()?;
    }
    let mut before = std::mem::take(&mut healthy.took);
    let over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&over);
    let serving = thread::spawn(move || {
        while !until.load(Ordering::SeqCst) {
            healthy.publish()?;
        }
        anyhow::Ok(healthy.took)
    });
    let start = monotonic();
    let pace = arguments.pace(by);
    flood(&door, packets / WARM_SHARE, arguments.seed, pace)?;
    let warm_mib = rss_mib(gateway)?;
    let rest = packets - packets / WARM_SHARE;
    flood(&door, rest, arguments.seed ^ 1, pace)?;
    let end_mib = rss_mib(gateway)?;
    let seconds = start.elapsed().as_secs_f64();
    over.store(true, Ordering::SeqCst);
    let served = serving.join().ok().context("the healthy device's thread")?;
    let mut during = served.context("the healthy device was not served")?;
    let refused: f64 = refusals(&depot)?;
    let good = end_mib - warm_mib <= GROWTH_MAX_MIB && refused > 0.0;
    let row = json!({
        "fault": "hostile", "by": by.name(), "tried": packets, "failed": u8::from(!good), "skipped": 0,
        "seed": arguments.seed, "packets_per_s": arguments.packets_per_s / by.slowness(),
        "refused": refused, "seconds": seconds, "rss_warm_mib": warm_mib, "rss_end_mib": end_mib,
        "healthy_publications": during.len(),
        "healthy_p50_us_before": percentile(&mut before, 50), "healthy_p50_us_during": percentile(&mut during, 50),
        "healthy_p99_us_before": percentile(&mut before, 99), "healthy_p99_us_during": percentile(&mut during, 99),
    });
    if arguments.json {
        println!("{row}");
    } else {
        println!("{row:#}");
    }
    ensure!(
        depot.is_running() && depot.stop()?.success(),
        "the gateway did not end well"
    );
    let word = if good { "" } else { ": FAILED" };
    let (name, seed) = (by.name(), arguments.seed);
    say(&format!("{name}, seed {seed}, {seconds:.0} s{word}"));
    Ok(good)
}

/// A gateway that listens with and without TLS, and the door that is attacked.
fn besieged(folder: &Path, by: By) -> Result<(Depot, Door)> {
    let ca = folder.join("ca").display().to_string();
    supercargo(&["ca", "init", &ca, "--name", "127.0.0.1"])?;
    let secured = free_address()?;
    // A flood is refused loudly; here the loud lines would only measure the disk.
    let more = format!(
        "[log]\nlevel = \"error\"\n[mqtt.tls]\nlisten = \"{secured}\"\ncertificate = \"ca/server.pem\"\n\
         key_file = \"ca/server-key.pem\"\nclient_ca = \"ca/ca.pem\"\n"
    );
    let depot = Depot::create(folder, &folder.join("data"), &fleet_plan(&[]), &more)?;
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

/// A device that does everything right, one publication after the other.
struct Healthy {
    client: Client,
    device: Device,
    packet_id: u16,
    /// From publication to PUBACK, in microseconds.
    took: Vec<u64>,
}

impl Healthy {
    fn connect(address: SocketAddr, seed: u64) -> Result<Self> {
        let device = Device::new(seed, 0)?;
        let login = Login {
            client_id: device.id().as_str(),
            version: Version::V5,
            clean: true,
            credentials: None,
        };
        Ok(Self {
            client: Client::connect(address, &login)?,
            device,
            packet_id: 0,
            took: Vec::new(),
        })
    }

    fn publish(&mut self) -> Result<()> {
        let payload = self.device.batch(1)?;
        let topic = format!("sc/1/{}/readings", self.device.id());
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        let start = monotonic();
        self.client
            .publish(&topic, self.packet_id, &payload.bytes)?;
        let heard = self.client.receive()?;
        self.took.push(u64::try_from(start.elapsed().as_micros())?);
        let (packet_id, reason) = (self.packet_id, 0);
        ensure!(heard == Incoming::PubAck { packet_id, reason }, "{heard:?}");
        Ok(())
    }
}

/// So many malformed packets, each over a connection of its own.
fn flood(door: &Door, packets: u32, seed: u64, pace: Duration) -> Result<()> {
    let start = monotonic();
    let left = Arc::new(AtomicU32::new(packets));
    let attackers: Vec<_> = (0..ATTACKERS)
        .map(|number| {
            let (left, door) = (Arc::clone(&left), door.clone());
            let mut random = Pcg32::seed_from_u64(seed.wrapping_add(number << 32));
            thread::spawn(move || {
                let mut sent = 0;
                let another = |left: u32| left.checked_sub(1);
                while left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, another)
                    .is_ok()
                {
                    door.attack(&mut random, number)?;
                    sent += 1;
                    let due = pace * sent;
                    thread::sleep(due.saturating_sub(start.elapsed()));
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for attacker in attackers {
        attacker.join().ok().context("an attacker's thread")??;
    }
    Ok(())
}

/// What is attacked.
#[derive(Clone)]
struct Door {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Door {
    /// One connection that goes wrong. That the gateway closes in the middle is no failure of the attack; that it does
    /// not answer the door is.
    fn attack(&self, random: &mut Pcg32, attacker: u64) -> Result<()> {
        let stream = self.knock()?;
        let Some(tls) = &self.tls else {
            shout(stream, &malformed(random, attacker));
            return Ok(());
        };
        let name = ServerName::IpAddress(self.address.ip().into());
        let mut session = ClientConnection::new(Arc::clone(tls), name)?;
        if random.random() {
            whisper(stream, session, &malformed(random, attacker));
            return Ok(());
        }
        let mut hello = Vec::new();
        session.write_tls(&mut hello)?;
        shout(stream, &malformed_handshake(random, hello));
        Ok(())
    }

    fn knock(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, ATTACKER_PATIENCE);
        let stream = stream.context("refused at the door")?;
        stream.set_read_timeout(Some(ATTACKER_PATIENCE))?;
        stream.set_write_timeout(Some(ATTACKER_PATIENCE))?;
        Ok(stream)
    }
}

/// Say it all, and wait for the end.
fn shout(mut stream: TcpStream, bytes: &[u8]) {
    if stream.write_all(bytes).is_ok() && stream.shutdown(Shutdown::Write).is_ok() {
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

/// The same, inside of TLS.
fn whisper(stream: TcpStream, session: ClientConnection, bytes: &[u8]) {
    let mut secured = StreamOwned::new(session, stream);
    if secured.write_all(bytes).is_ok() {
        secured.conn.send_close_notify();
        if secured.flush().is_ok() && secured.sock.shutdown(Shutdown::Write).is_ok() {
            let _ = secured.read_to_end(&mut Vec::new());
        }
    }
}

/// A TLS handshake that is wrong in one of many ways; `hello` is a right beginning.
fn malformed_handshake(random: &mut Pcg32, mut hello: Vec<u8>) -> Vec<u8> {
    match random.random_range(0..5) {
        0 => noise(random, 600),
        1 => mutated(random, hello),
        2 => {
            hello.truncate(random.random_range(1..hello.len()));
            hello
        }
        // A record that says it is as long as a record can say.
        3 => [&[0x16, 3, 3, 0xff, 0xff][..], &noise(random, 600)].concat(),
        _ => [hello, noise(random, 600)].concat(),
    }
}

/// Bytes that are wrong in one of many ways, or a packet that is right behind which something wrong comes.
fn malformed(random: &mut Pcg32, attacker: u64) -> Vec<u8> {
    let mut hello = connect(&format!("attacker-{attacker}"));
    match random.random_range(0..8) {
        0 => noise(random, 300),
        1 => mutated(random, hello),
        2 => {
            hello.truncate(random.random_range(1..hello.len()));
            hello
        }
        3 => [&[0x16, 3, 1][..], &noise(random, 200)].concat(),
        4 => [
            &hello[..],
            &[0x30, 0xff, 0xff, 0xff, 0x7f],
            &noise(random, 2_000),
        ]
        .concat(),
        5 => {
            let subscribe = framed(
                0x82,
                &[&[0, 1, 0][..], &text("sc/1/attacker/time"), &[0]].concat(),
            );
            [hello, mutated(random, subscribe)].concat()
        }
        6 => [hello, noise(random, 300)].concat(),
        _ => {
            let topic = text(&format!("sc/1/attacker-{attacker}/readings"));
            let publish = framed(0x32, &[&topic[..], &[0, 1, 0], &noise(random, 60)].concat());
            [hello, mutated(random, publish)].concat()
        }
    }
}

fn noise(random: &mut Pcg32, most: usize) -> Vec<u8> {
    let length = random.random_range(1..=most);
    (0..length).map(|_| random.random()).collect()
}

fn mutated(random: &mut Pcg32, mut packet: Vec<u8>) -> Vec<u8> {
    for _ in 0..random.random_range(1..6) {
        let place = random.random_range(0..packet.len());
        packet[place] = random.random();
    }
    packet
}

/// CONNECT of MQTT 5: a clean start, a keep-alive of a minute, no properties.
fn connect(device: &str) -> Vec<u8> {
    framed(
        0x10,
        &[b"\0\x04MQTT\x05\x02\0\x3c\0", &text(device)[..]].concat(),
    )
}

/// A text of less than 256 bytes behind its length.
fn text(text: &str) -> Vec<u8> {
    [&[0, text.len() as u8], text.as_bytes()].concat()
}

/// A packet of less than 128 bytes of body.
fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first, body.len() as u8], body].concat()
}

fn refusals(depot: &Depot) -> Result<f64> {
    let metrics = depot.metrics()?;
    let counters = metrics.lines().filter_map(|line| {
        line.strip_prefix("supercargo_refusals_total{")?
            .split_once("} ")
    });
    counters.map(|(_, value)| Ok(value.parse::<f64>()?)).sum()
}

fn percentile(took: &mut [u64], percent: usize) -> u64 {
    took.sort_unstable();
    let place = took.len().saturating_sub(1) * percent / 100;
    took.get(place).copied().unwrap_or_default()
}

fn rss_mib(process: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("VmRSS")?.parse::<f64>()? / 1024.0)
}
