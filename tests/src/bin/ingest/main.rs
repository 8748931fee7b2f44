//! How fast readings become durable and acknowledged, beside the brokers people use today.
#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]

mod nats;
mod row;
mod subject;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use tests::cost::Cost;
use tests::flood::{Flood, Plan};
use tests::peer::say;

use self::row::Row;
use self::subject::{Name, Subject};

/// Publications that are encoded before the clock starts, at most: about 400 MB of packets.
const PUBLICATIONS_MAX: u32 = 3_000_000;

/// Publications a second that no subject exceeds on the machines this is run on.
const PER_S_MAX: u32 = 400_000;

#[derive(Debug, Parser)]
#[command(about = "publications a second made durable and acknowledged, and how long each took")]
struct Arguments {
    /// Measure the brokers too: mosquitto and nats-server (built once from its Go module).
    #[arg(long)]
    peers: bool,
    /// Only 100 connections x 10 in flight, for 3 seconds each.
    #[arg(long)]
    quick: bool,
    /// JSON Lines, one flat object a row.
    #[arg(long)]
    json: bool,
    /// Only shapes whose name contains this.
    #[arg(long, default_value = "")]
    shape: String,
    /// How long each measurement sends, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Rounds; every row of every round is printed.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Seed of the content.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// How the load is cut.
#[derive(Clone, Copy, Debug)]
struct Shape {
    name: &'static str,
    connections: u32,
    window: usize,
    per_s: Option<u32>,
    /// Whether the brokers are measured with it too.
    peers: bool,
}

const SHAPES: [Shape; 5] = [
    Shape {
        name: "100x10",
        connections: 100,
        window: 10,
        per_s: None,
        peers: true,
    },
    Shape {
        name: "1x1",
        connections: 1,
        window: 1,
        per_s: None,
        peers: true,
    },
    Shape {
        name: "1000 at 10k/s",
        connections: 1_000,
        window: 10,
        per_s: Some(10_000),
        peers: true,
    },
    Shape {
        name: "100 at 2k/s",
        connections: 100,
        window: 10,
        per_s: Some(2_000),
        peers: false,
    },
    Shape {
        name: "10000 at 2k/s",
        connections: 10_000,
        window: 10,
        per_s: Some(2_000),
        peers: false,
    },
];

impl Shape {
    fn plan(&self, arguments: &Arguments) -> Plan {
        let seconds = if arguments.quick {
            3
        } else {
            arguments.seconds
        };
        let all = self.per_s.unwrap_or(PER_S_MAX).saturating_mul(seconds);
        let all = all.min(PUBLICATIONS_MAX);
        Plan {
            seed: arguments.seed,
            connections: self.connections,
            window: self.window,
            records: 1,
            publications: all.div_ceil(self.connections),
            time_max: Duration::from_secs(seconds.into()),
            per_s: self.per_s.map(f64::from),
        }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let shapes = SHAPES.iter().filter(|shape| {
        let wanted = shape.name.contains(&arguments.shape);
        wanted && (!arguments.quick || shape.name == "100x10")
    });
    let shapes: Vec<_> = shapes.collect();
    for round in 1..=arguments.rounds {
        for shape in &shapes {
            say(&format!("round {round}: {}", shape.name));
            for name in Name::ALL {
                if name == Name::Supercargo || (arguments.peers && shape.peers) {
                    measure(name, shape, &arguments)?;
                }
            }
            if shape.name == "1x1" {
                row::floor()?.print(arguments.json);
            }
        }
    }
    Ok(())
}

fn measure(name: Name, shape: &Shape, arguments: &Arguments) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let plan = shape.plan(arguments);
    let Some(mut subject) = Subject::start(name, folder.path(), &plan)? else {
        return Ok(());
    };
    let row = flood(&mut subject, plan).with_context(|| name.as_str())?;
    row.print(arguments.json);
    subject.stop()
}

fn flood(subject: &mut Subject, plan: Plan) -> Result<Row> {
    let flood = Flood::encode(plan)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let open = runtime.block_on(flood.connect(subject.address))?;
    let before = Cost::of(subject.pid)?;
    let outcome = runtime.block_on(open.run())?;
    let drained = subject.drain()?;
    let spent = Cost::of(subject.pid)?.since(&before);
    Ok(Row::new(subject, &plan, &outcome, drained, &spent))
}

/// A folder for what is built once: beside the binaries.
fn cache() -> Result<std::path::PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().unwrap_or(Path::new(".")).join("peers");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
