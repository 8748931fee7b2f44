//! `supercargo demo`: a gateway and a simulated fleet in one process, on a clock of their own.
//!
//! The gateway is the real one with its own store, endpoint, rules and a file sink; the trackers run the
//! real firmware and speak MQTT over TCP. With `--for` event time freezes at the end, everything
//! drains, and what was delivered is compared with what the simulated world says had to be.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use protocol::record::Record;
use serde_json::json;
use simulator::clock::EventClock;
use simulator::expect::{Comparison, Delivered, Expectations, Finding, compare};
use simulator::fleet::{Fleet, FleetSpec, Totals};
use simulator::plan::plan_toml;
use simulator::scenario::Scenario;
use simulator::world::lane::Point;
use simulator::world::{Shipment, World};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep_until};

use super::heard::{Heard, Newest};
use super::live::{Headline, LiveView, TrackerLine};
use super::output::{self, Output};
use super::tail::{Tail, Told};
use super::{Exit, run};
use crate::clock::Clock;
use crate::config::{Config, Faults};
use crate::deliver::format::cloudevent;
use crate::pipeline::{self, Failure, Gateway};
use crate::store::history::{self, Kept};
use crate::store::{Store, StoreError};

/// Event seconds per wall second unless told otherwise: five hours on the road pass in 20 s.
const SPEED_DEFAULT: u32 = 900;
/// Fastest event time that the trackers keep up with on two cores.
const SPEED_MAX: u32 = 2_000;
/// Wall time between two redraws of the screen.
const SCREEN_PERIOD: Duration = Duration::from_millis(500);
/// Wall time between two lines about the fleet where there is no terminal.
const LINE_PERIOD: Duration = Duration::from_secs(2);
/// Wall time that devices get to publish what they have after event time froze.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait of a routine reading for its batch, in event time: the firmware's default.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(300);
/// Longest time on the wall from publishing to the gateway's hearing it, on a loaded machine.
const ARRIVAL_WALL: Duration = Duration::from_secs(1);
/// Speed from which a tracker is shown as moving: that of a brisk walk.
const MOVING_MPS: f64 = 2.0;
/// Name of the file that the gateway delivers to, in the data folder.
const EVENTS_FILE: &str = "events.jsonl";
/// Name of the file with the plan the gateway judges by.
const PLAN_FILE: &str = "plan.toml";
/// Run a gateway and a fleet of simulated trackers, and watch them
#[derive(Args, Clone, Debug)]
pub(super) struct Demo {
    /// Number that the simulated world follows from: the same seed, the same world
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Event seconds per wall second
    #[arg(long, default_value_t = SPEED_DEFAULT, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(SPEED_MAX)))]
    speed: u32,
    /// Keep the data in this folder, which must be new or empty [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Change a key of the gateway's configuration, such as rules.temperature.delay=1000h
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Stop after this wall time, compare with what really happened, and end with one line of JSON
    #[arg(long = "for", value_name = "DURATION", value_parser = super::duration)]
    wall: Option<Duration>,
}

/// Where the demo keeps its data.
enum Folder {
    Kept(PathBuf),
    Temporary(TempDir),
}

/// Everything that runs.
struct Stage {
    seed: u64,
    speed: u32,
    world: Arc<World>,
    clock: Clock,
    gateway: Gateway,
    fleet: Fleet,
    tail: Tail,
    heard: Heard,
    view: LiveView,
    period: Duration,
}

/// `demo`: one finding is enough to end with 1.
pub(super) fn demo(asked: Demo, output: &Output) -> Exit {
    let json = output.is_json();
    let played = Runtime::new()
        .context("start the runtime")
        .and_then(|runtime| runtime.block_on(asked.run(json)));
    played.unwrap_or_else(|error| {
        output::say(&format!("{error:#}"));
        match (error.downcast_ref::<Failure>(), error.is::<Faults>()) {
            (Some(failure), _) => run::exit(failure),
            (None, true) => Exit::Usage,
            (None, false) => Exit::Environment,
        }
    })
}

impl Demo {
    async fn run(self, json: bool) -> anyhow::Result<Exit> {
        let folder = Folder::open(self.data.as_deref())?;
        let scenario = Scenario {
            seed: self.seed,
            ..Scenario::default()
        };
        let world = Arc::new(World::generate(&scenario).context("generate the world")?);
        let mut stage = self.set_up(&folder, world, json).await?;
        let outcome = stage.play(self.wall).await;
        match (outcome, self.wall) {
            (Ok(()), Some(_)) => stage.judge().await,
            (Ok(()), None) => stage.leave().await.map(|()| Exit::Good),
            (Err(error), _) => Err(error),
        }
    }

    async fn set_up(
        &self,
        folder: &Folder,
        world: Arc<World>,
        json: bool,
    ) -> anyhow::Result<Stage> {
        let data = folder.path();
        let plan = data.join(PLAN_FILE);
        std::fs::write(&plan, plan_toml(&world))
            .with_context(|| format!("write plan {}", plan.display()))?;
        let config = Config::parse(Path::new("demo"), &configuration(data), &self.overrides)?;
        run::log(&config.log);
        let clock = Clock::scaled(world.start, self.speed);
        let patience = run::patience(config.store.call_max).context("watch the store")?;
        let store = pipeline::open_store(&config, &patience)?;
        let gateway = Gateway::start(store, config, clock.clone()).await?;
        let shared = clock.clone();
        let address = gateway.addresses().mqtt;
        let address = address.context("the demo's trackers speak no TLS: leave mqtt.listen on")?;
        let fleet = Fleet::start(FleetSpec {
            world: Arc::clone(&world),
            address: address.to_string(),
            clock: EventClock::new(Arc::new(move || shared.event_now()), self.speed),
            flash: None,
            life: self.seed,
        })
        .context("start the trackers")?;
        let view = LiveView::new(json);
        let period = if view.is_screen() {
            SCREEN_PERIOD
        } else {
            LINE_PERIOD
        };
        let tail = Tail::new(data.join(EVENTS_FILE));
        let (seed, speed) = (self.seed, self.speed);
        Ok(Stage {
            seed,
            speed,
            world,
            clock,
            gateway,
            fleet,
            tail,
            heard: Heard::default(),
            view,
            period,
        })
    }
}

impl Folder {
    /// A demo never mixes its world with other data: the folder must be new or empty.
    fn open(wanted: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = wanted else {
            let folder = tempfile::Builder::new()
                .prefix("supercargo-demo-")
                .tempdir();
            return Ok(Self::Temporary(folder.context("make a temporary folder")?));
        };
        std::fs::create_dir_all(path).with_context(|| format!("make folder {}", path.display()))?;
        let mut entries =
            std::fs::read_dir(path).with_context(|| format!("read folder {}", path.display()))?;
        if entries.next().is_some() {
            bail!(
                "folder {} is not empty: the demo needs a new or empty one",
                path.display()
            );
        }
        Ok(Self::Kept(path.to_path_buf()))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}

/// The gateway's configuration: loopback, free ports, everything in the data folder. A second on the wall
/// is a quarter of an hour of event time here, so a slow machine alone must not make clocks implausible.
fn configuration(data: &Path) -> String {
    let quoted = |path: PathBuf| toml::Value::String(path.display().to_string()).to_string();
    format!(
        "[gateway]\nid = \"demo\"\ndata = {}\n[mqtt]\nlisten = \"127.0.0.1:0\"\n\
         [http]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"warn\"\n[rules]\nplan = {}\nclock_tolerance = \"24h\"\n\
         [[sink]]\nname = \"file\"\nkind = \"file\"\npath = {}\n",
        quoted(data.to_path_buf()),
        quoted(data.join(PLAN_FILE)),
        quoted(data.join(EVENTS_FILE)),
    )
}

impl Stage {
    /// Show what happens until the wall time is over or someone presses Ctrl-C.
    async fn play(&mut self, wall: Option<Duration>) -> anyhow::Result<()> {
        let until = wall.map(|wall| Instant::now() + wall);
        let mut next = Instant::now();
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        loop {
            self.look()?;
            next += self.period;
            let wake = until.map_or(next, |until| until.min(next));
            tokio::select! {
                () = sleep_until(wake) => {}
                failure = self.gateway.failure() => return Err(failure.into()),
                _ = &mut interrupt, if wall.is_none() => return Ok(()),
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(());
            }
        }
    }

    fn look(&mut self) -> anyhow::Result<()> {
        let news = self.tail.news().context("read what was delivered")?;
        self.view.tell(news)?;
        let head = Headline {
            event_time: cloudevent::at(self.clock.event_now(), chrono_tz::UTC),
            speed: self.speed,
            stored: self.gateway.account().tally().records.stored,
            events: self.tail.codes().values().sum(),
        };
        let trackers = self.trackers()?;
        self.view.draw(&head, &trackers)?;
        Ok(())
    }

    /// Every tracker as the gateway knows it.
    fn trackers(&mut self) -> anyhow::Result<Vec<TrackerLine>> {
        let now = self.clock.event_now();
        let mut lines = Vec::new();
        for tracker in &self.world.trackers {
            let newest = self
                .heard
                .newest(self.gateway.store(), &tracker.device.parse()?)?;
            let place = place(&self.world, self.world.shipment_of(tracker), newest);
            let at = newest.reading.as_ref().and_then(|(_, at)| *at);
            lines.push(TrackerLine {
                device: tracker.device.clone(),
                place,
                celsius: newest.celsius(),
                battery: newest.battery(),
                age_s: at.map(|at| (now.get() - at.get()) / 1_000),
            });
        }
        Ok(lines)
    }

    /// Freeze event time, let everything drain, compare, and print the last line.
    async fn judge(mut self) -> anyhow::Result<Exit> {
        self.clock.freeze();
        let until = self.clock.event_now();
        let totals = self.fleet.freeze(until, DRAIN_PATIENCE).await;
        self.gateway.drain().await?;
        let news = self.tail.news().context("read what was delivered")?;
        self.view.tell(news)?;
        let latency = PUBLISH_INTERVAL + ARRIVAL_WALL * self.speed;
        let expectations = Expectations::of(&self.world, until, latency);
        let told: Vec<Delivered> = self.tail.told.iter().map(delivered).collect();
        let found = compare(&self.world, &expectations, &told);
        let stored = readings_stored(self.gateway.store())?;
        report(&found)?;
        let balanced = explain(&totals, stored)?;
        let line = self.summary(totals, stored, &found);
        let clean = found.is_clean() && balanced;
        self.leave().await?;
        writeln!(io::stdout(), "{line}")?;
        Ok(if clean { Exit::Good } else { Exit::Finding })
    }

    fn summary(&self, totals: Totals, stored: u64, found: &Comparison) -> serde_json::Value {
        let books = self.gateway.account().tally();
        let refused: u64 = books.records.refused.values().sum();
        let codes = self.tail.codes();
        json!({
            "seed": self.seed,
            "trackers": totals.trackers,
            "sampled": totals.sampled,
            "readings_stored": stored,
            "duplicates": books.records.duplicate,
            "refused": refused,
            "contested": books.records.contested,
            "lost_on_device": totals.lost_on_device,
            "pending": totals.pending,
            "events": codes.values().sum::<u64>(),
            "codes": codes,
            "expected_events": found.counts.expected,
            "missing_events": found.counts.missing,
            "unexpected_events": found.counts.unexpected,
            "ambiguous_events": found.counts.ambiguous,
        })
    }

    async fn leave(self) -> anyhow::Result<()> {
        self.fleet.stop().await;
        self.gateway.stop().await.map_err(Failure::into)
    }
}

fn delivered(told: &Told) -> Delivered {
    Delivered {
        event_id: told.event_id.clone(),
        revision: told.rev,
        phase: told.phase.clone(),
        shipment: told.shipment.clone(),
        code: told.code.clone(),
        occurred_at_ms: told.occurred_at.timestamp_millis(),
        ended_at_ms: told.ended_at.map(|ended| ended.timestamp_millis()),
        lat: told.place.map(|place| place.lat),
        lon: told.place.map(|place| place.lon),
        accuracy_m: told.place.map(|place| place.accuracy_m),
    }
}

/// Where a tracker was last seen, in the words of its lane.
fn place(world: &World, shipment: &Shipment, newest: &Newest) -> String {
    let Some(seen) = newest.position else {
        return "not seen yet".to_owned();
    };
    let point = Point {
        lat: seen.latitude.degrees(),
        lon: seen.longitude.degrees(),
    };
    let moving = seen.speed.metres_per_second() > MOVING_MPS;
    let words = world.words_of(shipment, point, moving);
    let current = newest
        .reading
        .as_ref()
        .is_some_and(|(reading, _)| reading.position.value().is_some());
    if current {
        words
    } else {
        format!("no fix; last {words}")
    }
}

/// Name everything that is missing or was not to be, for people, on standard error.
fn report(found: &Comparison) -> io::Result<()> {
    let mut err = io::stderr().lock();
    let mut each = |what: &str, findings: &[Finding]| {
        let name = |finding: &Finding| writeln!(err, "{what}: {}", finding.sentence);
        findings.iter().try_for_each(name)
    };
    each("missing", &found.missing)?;
    each("unexpected", &found.unexpected)
}

/// Say which readings are unaccounted for, if any.
fn explain(totals: &Totals, stored: u64) -> io::Result<bool> {
    let explained = stored + totals.lost_on_device + totals.pending;
    if totals.sampled != explained {
        writeln!(
            io::stderr(),
            "account: {} readings sampled, {explained} explained: {stored} stored, {} lost on device, {} pending",
            totals.sampled,
            totals.lost_on_device,
            totals.pending
        )?;
    }
    Ok(totals.sampled == explained)
}

/// Readings in the history: what `export readings` gives.
fn readings_stored(store: &Store) -> Result<u64, StoreError> {
    let mut devices = Vec::new();
    history::each_device(store, |device| {
        devices.push(device);
        Ok(ControlFlow::Continue(()))
    })?;
    let mut readings = 0;
    for device in devices {
        history::each(store, &device, None, |_, kept| {
            let Kept::Known(known) = kept else {
                return Ok(ControlFlow::Continue(()));
            };
            let record = known.content.decode().map(|numbered| numbered.record);
            readings += u64::from(matches!(record, Ok(Record::Reading(_))));
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(readings)
}
