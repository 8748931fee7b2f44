//! What is measured: the gateway doing its full work, and the brokers as people run them.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use gateway::clock::monotonic;
pub(crate) use tests::depot::FENCES;
use tests::depot::{Depot, TRACKERS_PER_SHIPMENT, wide_plan};
use tests::flood::Plan;
use tests::mqtt::{Client, Login, Version};
use tests::peer::{Peer, foreign, free_address, run};

use crate::nats;

/// Pause between two looks at a draining gateway.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Subjects by the names of their rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Supercargo,
    Nats,
    NatsSyncAlways,
    MosquittoMemory,
    MosquittoAutosave,
}

impl Name {
    pub(crate) const ALL: [Self; 5] = [
        Self::Supercargo,
        Self::Nats,
        Self::NatsSyncAlways,
        Self::MosquittoMemory,
        Self::MosquittoAutosave,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Supercargo => "supercargo",
            Self::Nats => "nats",
            Self::NatsSyncAlways => "nats_sync_always",
            Self::MosquittoMemory => "mosquitto_memory",
            Self::MosquittoAutosave => "mosquitto_autosave",
        }
    }
}

/// One of them, running.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) name: Name,
    pub(crate) version: String,
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
    pub(crate) shipments: u32,
    process: Process,
}

#[derive(Debug)]
enum Process {
    Gateway(Box<Depot>),
    Broker(Peer),
}

/// What a gateway has done with what it took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drained {
    /// From the last PUBACK until nothing waited for the fold.
    pub(crate) took: Duration,
    /// Records stored.
    pub(crate) stored: u64,
    /// Events in the view.
    pub(crate) events: u64,
}

impl Subject {
    /// Started and ready; `None` when it is not installed.
    pub(crate) fn start(name: Name, folder: &Path, load: &Plan) -> Result<Option<Self>> {
        match name {
            Name::Supercargo => gateway(folder, load).map(Some),
            Name::Nats => broker(name, nats::start(folder, "")?),
            Name::NatsSyncAlways => broker(name, nats::start(folder, ", sync_interval: always")?),
            Name::MosquittoMemory => broker(name, mosquitto(folder, "persistence false\n")?),
            Name::MosquittoAutosave => {
                let settings = format!(
                    "persistence true\npersistence_location {}/\nautosave_interval 1\n\
                     max_queued_messages 0\n",
                    folder.display()
                );
                let broker = broker(name, mosquitto(folder, &settings)?)?;
                if let Some(broker) = &broker {
                    subscribe_and_leave(broker.address)?;
                }
                Ok(broker)
            }
        }
    }

    /// Wait until nothing waits behind the journal.
    pub(crate) fn drain(&self) -> Result<Drained> {
        let Process::Gateway(depot) = &self.process else {
            return Ok(Drained::default());
        };
        let start = monotonic();
        while depot.metric("supercargo_fold_lag_commits")? > 0.0 {
            sleep(LOOK_AGAIN);
        }
        let took = start.elapsed();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count"
        )]
        let stored = depot.metric("supercargo_records_stored_total")? as u64;
        let events = depot.export("events")?.len() as u64;
        Ok(Drained {
            took,
            stored,
            events,
        })
    }

    /// End it.
    pub(crate) fn stop(self) -> Result<()> {
        match self.process {
            Process::Gateway(mut depot) => depot.stop().map(drop),
            Process::Broker(mut peer) => peer.kill(),
        }
    }
}

/// A broker that runs: its process, where it listens, its version.
pub(crate) type Running = (Peer, SocketAddr, String);

fn broker(name: Name, running: Option<Running>) -> Result<Option<Subject>> {
    let Some((peer, address, version)) = running else {
        return Ok(None);
    };
    Ok(Some(Subject {
        name,
        version,
        address,
        pid: peer.id(),
        shipments: 0,
        process: Process::Broker(peer),
    }))
}

fn gateway(folder: &Path, load: &Plan) -> Result<Subject> {
    let data = folder.join("data");
    let plan = wide_plan(load.connections);
    let shipments = load.connections.div_ceil(TRACKERS_PER_SHIPMENT);
    let mut depot = Box::new(Depot::create(folder, &data, &plan, "")?);
    depot.start()?;
    Ok(Subject {
        name: Name::Supercargo,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        address: depot.mqtt,
        pid: depot.pid().context("no gateway runs")?,
        shipments,
        process: Process::Gateway(depot),
    })
}

fn mosquitto(folder: &Path, settings: &str) -> Result<Option<Running>> {
    let Some(program) = foreign("mosquitto", "mosquitto") else {
        return Ok(None);
    };
    let address = free_address()?;
    let file = folder.join("mosquitto.conf");
    let text = format!(
        "listener {} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\n{settings}",
        address.port()
    );
    fs::write(&file, text)?;
    let mut command = Command::new(&program);
    let mut peer = Peer::start(
        "mosquitto",
        command.arg("-c").arg(&file),
        &folder.join("mosquitto.log"),
    )?;
    peer.wait_until("to listen", || TcpStream::connect(address).is_ok())?;
    let help = Command::new(&program).arg("-h").output()?;
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let version = help.split_whitespace().nth(2).unwrap_or("?").to_owned();
    Ok(Some((peer, address, version)))
}

/// A subscriber that is away: for it a broker has to keep what comes.
pub(crate) fn subscribe_and_leave(address: SocketAddr) -> Result<()> {
    let mut client = Client::connect(
        address,
        &Login {
            client_id: "absent",
            version: Version::V311,
            clean: false,
            credentials: None,
        },
    )?;
    client.subscribe("sc/1/#", 1)?;
    client.receive()?;
    client.disconnect()?;
    Ok(())
}

/// First line a program prints for `arguments`.
pub(crate) fn first_line(program: &Path, argument: &str) -> Result<String> {
    let output = run(Command::new(program).arg(argument))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
