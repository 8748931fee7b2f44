//! A fleet: every tracker of a world as a device, against one gateway.

use std::future::{Future, poll_fn};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use protocol::units::UtcMs;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::EventClock;
use crate::device::board::FlashMemory;
use crate::device::{self, DeviceSpec, Order, Report};
use crate::world::World;

/// Most tasks of one fleet; devices beyond share tasks. The firmware's timer queue on a host has 64
/// entries, one per task, and others in the process need some.
const TASKS_MAX: usize = 48;

/// How often a draining fleet is looked at.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub struct FleetSpec {
    /// The truth.
    pub world: Arc<World>,
    /// Where the gateway listens for MQTT, host:port.
    pub address: String,
    /// Event time, shared with the gateway.
    pub clock: EventClock,
    /// Folder for the devices' flash, one file each; `None` keeps it in memory.
    pub flash: Option<PathBuf>,
    /// Distinguishes lives of the same world: devices draw other epochs in another life.
    pub life: u64,
}

/// A running fleet. Dropping it switches every device off at once.
#[derive(Debug)]
pub struct Fleet {
    spec: FleetSpec,
    orders: watch::Sender<Order>,
    reports: Vec<watch::Receiver<Report>>,
    tasks: JoinSet<()>,
}

/// One tracker at a glance.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Device id.
    pub device: String,
    /// Shipment it rides with.
    pub shipment: String,
    /// In words: "moving, 12 km after Lafayette towards Lebanon".
    pub place: String,
    /// Temperature at its probe, in C.
    pub celsius: f64,
    /// Charge in percent.
    pub battery_percent: f64,
    /// Whether its link is up.
    pub connected: bool,
    /// Event time since the gateway last confirmed something of it.
    pub age: Option<Duration>,
    /// Records not confirmed yet.
    pub pending: u64,
}

/// Where all readings of a fleet went: `sampled = confirmed + lost_on_device + pending`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Devices.
    pub trackers: usize,
    /// Of these, with a link that is up.
    pub connected: usize,
    /// Readings made.
    pub sampled: u64,
    /// Readings the gateway has confirmed.
    pub confirmed: u64,
    /// Readings evicted from a device's queue.
    pub lost_on_device: u64,
    /// Readings queued or in flight.
    pub pending: u64,
    /// Whether every device has published everything it had.
    pub drained: bool,
}

type BoxedDevice = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Fleet {
    /// Switch all devices on. Needs a tokio runtime.
    ///
    /// # Errors
    /// When a flash file cannot be opened.
    pub fn start(spec: FleetSpec) -> io::Result<Self> {
        let (orders, order) = watch::channel(Order::Run);
        let mut reports = Vec::new();
        let mut devices: Vec<BoxedDevice> = Vec::new();
        for index in 0..spec.world.trackers.len() {
            let (report, reported) = watch::channel(Report::default());
            let device = spec.device(index)?;
            devices.push(Box::pin(device::run(device, order.clone(), report)));
            reports.push(reported);
        }
        let mut tasks = JoinSet::new();
        for share in shares(devices) {
            tasks.spawn(all(share));
        }
        Ok(Self {
            spec,
            orders,
            reports,
            tasks,
        })
    }

    /// The truth the fleet measures.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.spec.world
    }

    /// Every tracker at a glance, in the order of the world.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Snapshot> {
        let now = self.spec.clock.now();
        let indices = 0..self.reports.len();
        indices.map(|index| self.snapshot_of(index, now)).collect()
    }

    /// Stop event time for all devices at `at`, let them publish what they have, and wait for that at
    /// most `patience` of wall time.
    pub async fn freeze(&self, at: UtcMs, patience: Duration) -> Totals {
        self.orders.send_replace(Order::Freeze(at));
        let drained = async {
            while !self.totals().drained {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        if tokio::time::timeout(patience, drained).await.is_err() {
            tracing::warn!(?patience, "devices did not publish everything in time");
        }
        self.totals()
    }

    /// Where all readings went, as of now.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let nothing = Totals {
            trackers: self.reports.len(),
            drained: true,
            ..Totals::default()
        };
        self.reports.iter().fold(nothing, |sum, report| {
            let report = report.borrow();
            let readings = report.counters.readings;
            Totals {
                connected: sum.connected + usize::from(report.connected),
                sampled: sum.sampled + readings.made,
                confirmed: sum.confirmed + readings.confirmed,
                lost_on_device: sum.lost_on_device + readings.lost,
                pending: sum.pending + readings.pending,
                drained: sum.drained && report.drained,
                ..sum
            }
        })
    }

    /// Switch all devices off in good order.
    pub async fn stop(mut self) {
        self.orders.send_replace(Order::Stop);
        while self.tasks.join_next().await.is_some() {}
    }

    fn snapshot_of(&self, index: usize, now: UtcMs) -> Snapshot {
        let world = &self.spec.world;
        let tracker = &world.trackers[index];
        let shipment = world.shipment_of(tracker);
        let at_s = world.second_of(now);
        let report = *self.reports[index].borrow();
        let age = |at: UtcMs| {
            Duration::from_millis(now.get().saturating_sub(at.get()).max(0).unsigned_abs())
        };
        Snapshot {
            device: tracker.device.clone(),
            shipment: shipment.id.clone(),
            place: world.place_words(shipment, at_s),
            celsius: world.probe_celsius(tracker, at_s),
            battery_percent: tracker.cell.percent_at(at_s),
            connected: report.connected,
            age: report.confirmed_at.map(age),
            pending: report.counters.records.pending,
        }
    }
}

impl FleetSpec {
    fn device(&self, index: usize) -> io::Result<DeviceSpec> {
        let name = &self.world.trackers[index].device;
        let in_file = |folder: &Path| FlashMemory::in_file(&folder.join(format!("{name}.flash")));
        Ok(DeviceSpec {
            world: Arc::clone(&self.world),
            index,
            address: self.address.clone(),
            clock: self.clock.clone(),
            flash: match &self.flash {
                Some(folder) => in_file(folder)?,
                None => FlashMemory::in_memory(),
            },
            life: self.life,
        })
    }
}

/// Devices dealt out to at most [`TASKS_MAX`] tasks.
fn shares(devices: Vec<BoxedDevice>) -> Vec<Vec<BoxedDevice>> {
    let tasks = devices.len().min(TASKS_MAX);
    let mut shares: Vec<Vec<BoxedDevice>> = (0..tasks).map(|_| Vec::new()).collect();
    for (index, device) in devices.into_iter().enumerate() {
        shares[index % tasks].push(device);
    }
    shares
}

/// Run all of them in one task until all have ended.
async fn all(mut devices: Vec<BoxedDevice>) {
    poll_fn(|context| {
        devices.retain_mut(|device| device.as_mut().poll(context).is_pending());
        if devices.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
