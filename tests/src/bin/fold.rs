//! How fast readings that wait in the journal are folded and judged.
#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]

use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Parser;
use gateway::clock::{Clock, monotonic};
use gateway::config::StoreEngine;
use gateway::fold::Fold;
use gateway::store::Store;
use protocol::units::UtcMs;
use rules::Context;
use rules::plan::Plan;
use serde_json::json;
use tests::backlog::{self, Shape};
use tests::cost::Cost;
use tests::depot::{FENCES, TRACKERS_PER_SHIPMENT, wide_plan};
use tests::device::BOOT_UTC_MS;
use tokio::sync::watch;

#[derive(Debug, Parser)]
#[command(about = "readings a second from the journal through the rules into the view")]
struct Arguments {
    /// Readings that wait.
    #[arg(long, default_value_t = 1_000_000)]
    readings: u32,
    /// Only shapes whose name contains this.
    #[arg(long, default_value = "")]
    shape: String,
    /// The engine, sled or redb.
    #[arg(long, default_value = "sled")]
    engine: String,
    /// JSON Lines, one flat object a row.
    #[arg(long)]
    json: bool,
    /// Seed of the content.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// How the backlog came to be.
struct Backlog {
    name: &'static str,
    trackers: u32,
    shape: Shape,
}

const BACKLOGS: [Backlog; 3] = [
    // A fleet that was out of reach, and comes home.
    Backlog {
        name: "batches",
        trackers: 1_000,
        shape: Shape {
            records: 20,
            publications: 12,
        },
    },
    // What the ingest bench sends: 100 connections, one reading in each message.
    Backlog {
        name: "singles",
        trackers: 100,
        shape: Shape {
            records: 1,
            publications: 250,
        },
    },
    // Many trackers of which each seldom has anything to say.
    Backlog {
        name: "sparse",
        trackers: 10_000,
        shape: Shape {
            records: 1,
            publications: 250,
        },
    },
];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let wanted = |backlog: &&Backlog| backlog.name.contains(&arguments.shape);
    for backlog in BACKLOGS.iter().filter(wanted) {
        measure(backlog, &arguments)?;
    }
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "rates need no more than 52 bits"
)]
fn measure(backlog: &Backlog, arguments: &Arguments) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let engine = StoreEngine::ALL
        .into_iter()
        .find(|engine| engine.as_str() == arguments.engine)
        .context("an engine is sled or redb")?;
    let store = Store::open_on(engine, &folder.path().join("store"))?;
    let mut fold = open(&store, backlog.trackers)?;
    // Nothing waits yet: it makes its trackers.
    fold.catch_up()?;
    let fleet = (arguments.readings, backlog.trackers);
    let payload_bytes = backlog::fill(&store, arguments.seed, fleet, backlog.shape)?;
    let before = Cost::of(std::process::id())?;
    let begun = monotonic();
    let folded = fold.catch_up()?;
    let took = begun.elapsed();
    store.barrier()?;
    let cost = Cost::of(std::process::id())?.since(&before);
    let events = events(&store)?;
    let written = cost.written_bytes as f64 / payload_bytes as f64;
    let row = json!({
        "name": backlog.name,
        "engine": engine.as_str(),
        "readings": folded,
        "devices": backlog.trackers,
        "folded_per_s": (folded as f64 / took.as_secs_f64()).round(),
        "cpu_s": (cost.cpu_s * 100.0).round() / 100.0,
        "rss_mb": cost.rss_mb.round(),
        "bytes_written_per_payload_byte": (written * 10.0).round() / 10.0,
        "live_per_payload_byte": (store.live_bytes()? as f64 / payload_bytes as f64 * 10.0).round() / 10.0,
        "fences": FENCES,
        "plans": backlog.trackers.div_ceil(TRACKERS_PER_SHIPMENT),
        "events": events,
    });
    if arguments.json {
        println!("{row}");
        return Ok(());
    }
    let fields = row.as_object().context("a row")?.iter();
    let fields: Vec<String> = fields
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    println!("{}", fields.join("  "));
    Ok(())
}

fn open(store: &Store, trackers: u32) -> Result<Fold> {
    let plan = Plan::parse(&wide_plan(trackers)).ok();
    let plan = Arc::new(plan.context("the plan is sound")?);
    let context = Context::new(plan, rules::Options::default());
    let (wake, _) = watch::channel(0);
    let clock = Clock::scaled(UtcMs::saturating(BOOT_UTC_MS), 0);
    let sinks = vec!["bench".to_owned()];
    Ok(Fold::open(store.clone(), context, sinks, clock, wake)?)
}

/// Events in the view.
fn events(store: &Store) -> Result<u64> {
    let mut events = 0;
    gateway::store::view::each_of_all(store, |_, _, _: gateway::fold::posted::Posted| {
        events += 1;
        Ok(std::ops::ControlFlow::Continue(()))
    })?;
    Ok(events)
}
