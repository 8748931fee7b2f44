//! `supercargo-sim fleet`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use protocol::units::UtcMs;
use serde::Serialize;
use simulator::clock::EventClock;
use simulator::expect::{Expectations, NearMiss};
use simulator::fleet::{Fleet, FleetSpec, Snapshot, Totals};
use simulator::plan::plan_toml;
use simulator::scenario::Scenario;
use simulator::world::World;

use super::{CommandError, Outcome, Output, value};

/// How often the trackers are shown, on the wall.
const SHOW_EVERY: Duration = Duration::from_secs(5);

/// Longest time from a sample to its arrival that expectations allow for, on the wall.
const LATENCY: Duration = Duration::from_secs(2);

/// Drive a fleet of simulated trackers on lanes against a gateway.
///
/// Each tracker is the real firmware on simulated ports. Event time begins at the scenario's start and
/// runs SPEED times as fast as the wall. The same scenario and seed give the same world; with the same
/// --for and --speed event time also ends at the same moment, so two runs say the same.
#[derive(Debug, Args)]
pub(super) struct FleetArgs {
    /// Where the gateway listens for MQTT.
    #[arg(long, value_name = "HOST:PORT")]
    addr: String,
    /// Scenario in TOML; without it the demo scenario of 24 trackers.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Replaces the scenario's seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Replaces the scenario's start, and is not moved by the seed: a date, or a time with offset.
    #[arg(long, value_name = "TIME", value_parser = value::moment)]
    start: Option<UtcMs>,
    /// Event seconds per second on the wall.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    speed: u32,
    /// How long to run on the wall, such as 30s; without it until interrupted.
    #[arg(long = "for", value_name = "DURATION", value_parser = value::duration)]
    run_for: Option<Duration>,
    /// Folder for the trackers' flash, so that their counters survive; without it in memory.
    #[arg(long, value_name = "DIR")]
    flash: Option<PathBuf>,
    /// Write the shipment plan for the gateway here, before anything starts.
    #[arg(long, value_name = "FILE")]
    plan_out: Option<PathBuf>,
    /// Write what must, may and must not be reported here at the end, as JSON Lines.
    #[arg(long, value_name = "FILE")]
    expect_out: Option<PathBuf>,
    /// How long devices may take to publish what they have after the end, on the wall.
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = value::duration)]
    patience: Duration,
}

pub(super) async fn run(args: FleetArgs, output: Output) -> Result<Outcome, CommandError> {
    let world = Arc::new(world(&args)?);
    if let Some(path) = &args.plan_out {
        write(path, &plan_toml(&world))?;
    }
    if let Some(folder) = &args.flash {
        let made = std::fs::create_dir_all(folder);
        made.with_context(|| format!("cannot make folder {}", folder.display()))
            .map_err(CommandError::environment)?;
    }
    let clock = clock(&world, &args);
    let fleet = Fleet::start(FleetSpec {
        world: Arc::clone(&world),
        address: args.addr.clone(),
        clock: clock.clone(),
        life: 0,
        flash: args.flash.clone(),
    });
    let fleet = fleet
        .context("cannot open flash file")
        .map_err(CommandError::environment)?;
    show_until_the_end(&fleet, &args, output).await?;
    let end = clock.now();
    let totals = fleet.freeze(end, args.patience).await;
    fleet.stop().await;
    if let Some(path) = &args.expect_out {
        let expectations = Expectations::of(&world, end, LATENCY * args.speed);
        write(path, &rows(&expectations)?)?;
    }
    let row = TotalsRow::new(&world, totals);
    output.row(&row, &row.text())?;
    Ok(match (totals.drained, totals.connected) {
        (true, _) => Outcome::Clean,
        (false, 0) => Outcome::Environment,
        (false, _) => Outcome::Finding,
    })
}

fn world(args: &FleetArgs) -> Result<World, CommandError> {
    let mut scenario = match &args.scenario {
        Some(path) => {
            let text = std::fs::read_to_string(path);
            let text = text.with_context(|| format!("cannot read {}", path.display()));
            let text = text.map_err(CommandError::environment)?;
            let parsed = Scenario::parse(&text);
            let parsed = parsed.with_context(|| path.display().to_string());
            parsed.map_err(CommandError::usage)?
        }
        None => Scenario::default(),
    };
    scenario.seed = args.seed.unwrap_or(scenario.seed);
    let mut world = World::generate(&scenario).map_err(CommandError::usage)?;
    world.start = args.start.unwrap_or(world.start);
    Ok(world)
}

/// With `--for` event time ends exactly that long after the start, times the speed.
fn clock(world: &World, args: &FleetArgs) -> EventClock {
    let clock = EventClock::starting_at(world.start, args.speed);
    let Some(run_for) = args.run_for else {
        return clock;
    };
    let event_ms = run_for.as_millis().saturating_mul(args.speed.into());
    let event_ms = i64::try_from(event_ms).unwrap_or(i64::MAX);
    let end = world.start.get().saturating_add(event_ms);
    clock.standing_still_at(UtcMs::saturating(end))
}

async fn show_until_the_end(
    fleet: &Fleet,
    args: &FleetArgs,
    output: Output,
) -> Result<(), CommandError> {
    let end = async {
        match args.run_for {
            Some(run_for) => tokio::time::sleep(run_for).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return Ok(()),
            interrupted = tokio::signal::ctrl_c() => {
                return interrupted.map_err(CommandError::environment);
            }
            () = tokio::time::sleep(SHOW_EVERY) => show(fleet, output)?,
        }
    }
}

fn show(fleet: &Fleet, output: Output) -> Result<(), CommandError> {
    for snapshot in fleet.snapshot() {
        let row = TrackerRow::new(&snapshot);
        output.row(&row, &row.text())?;
    }
    Ok(())
}

/// What must and may be reported, then what must not, in rows of the same columns.
fn rows(expectations: &Expectations) -> Result<String, CommandError> {
    let expected = expectations.expected.iter().map(serde_json::to_string);
    let near_misses = expectations.near_misses.iter().map(NearMissRow::new);
    let must_not = near_misses.map(|row| serde_json::to_string(&row));
    let rows: Result<Vec<String>, _> = expected.chain(must_not).collect();
    Ok(rows.map_err(CommandError::environment)?.join("\n") + "\n")
}

#[derive(Debug, Serialize)]
struct NearMissRow<'a> {
    shipment: &'a str,
    code: &'static str,
    certainty: &'static str,
    from_ms: i64,
    to_ms: i64,
    why: &'a str,
}

impl<'a> NearMissRow<'a> {
    fn new(miss: &'a NearMiss) -> Self {
        Self {
            shipment: &miss.shipment,
            code: miss.code,
            certainty: "must_not",
            from_ms: miss.at_ms,
            to_ms: miss.at_ms,
            why: &miss.why,
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), CommandError> {
    let written = std::fs::write(path, text);
    written
        .with_context(|| format!("cannot write {}", path.display()))
        .map_err(CommandError::environment)
}

#[derive(Debug, Serialize)]
struct TrackerRow<'a> {
    row: &'static str,
    device: &'a str,
    shipment: &'a str,
    place: &'a str,
    celsius: f64,
    battery_percent: f64,
    connected: bool,
    age_s: Option<u64>,
    pending: u64,
}

impl<'a> TrackerRow<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        Self {
            row: "tracker",
            device: &snapshot.device,
            shipment: &snapshot.shipment,
            place: &snapshot.place,
            celsius: (snapshot.celsius * 100.0).round() / 100.0,
            battery_percent: snapshot.battery_percent.floor(),
            connected: snapshot.connected,
            age_s: snapshot.age.map(|age| age.as_secs()),
            pending: snapshot.pending,
        }
    }

    fn text(&self) -> String {
        let age = match self.age_s {
            Some(age_s) => format!("{} min ago", age_s / 60),
            None => "never heard".to_owned(),
        };
        format!(
            "{}  {}  {:6.2} C  {:3.0} %  {age}  {}",
            self.device, self.shipment, self.celsius, self.battery_percent, self.place
        )
    }
}

#[derive(Debug, Serialize)]
struct TotalsRow {
    row: &'static str,
    seed: u64,
    trackers: usize,
    connected: usize,
    sampled: u64,
    confirmed: u64,
    lost_on_device: u64,
    pending: u64,
    drained: bool,
}

impl TotalsRow {
    const fn new(world: &World, totals: Totals) -> Self {
        Self {
            row: "totals",
            seed: world.scenario.seed,
            trackers: totals.trackers,
            connected: totals.connected,
            sampled: totals.sampled,
            confirmed: totals.confirmed,
            lost_on_device: totals.lost_on_device,
            pending: totals.pending,
            drained: totals.drained,
        }
    }

    fn text(&self) -> String {
        format!(
            "{} trackers sampled {} readings: {} confirmed, {} lost on device, {} pending",
            self.trackers, self.sampled, self.confirmed, self.lost_on_device, self.pending
        )
    }
}
