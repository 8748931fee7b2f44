//! One device: the real tracker of the firmware on simulated ports.
//!
//! The tracker is driven in event time by its own deadlines, one after the other, also when the
//! wall is behind: what it samples depends on the world and on its settings, never on how busy the
//! machine is. Only the link runs in wall time.

pub mod bare;
pub mod board;
pub mod modem;
pub mod network;

use std::sync::Arc;
use std::time::Duration;

use firmware::port::{Board, DOWNLINK_MAX_BYTES, LinkEvent};
use firmware::tracker::{Burst, Config, Counters, Input, Tracker};
use protocol::downlink::Settings;
use protocol::key::DeviceId;
use protocol::record::ResetCause;
use protocol::topic::Channel;
use protocol::units::{
    CentiCelsius, MilliG, MillimetresPerSecond, Milliseconds, Percent, UptimeMs, UtcMs,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::EventClock;
use crate::world::goods::{BURST_PRE_TRIGGER, BURST_RATE_HZ, Impact};
use crate::world::{BATTERY_LOW_PERCENT, Cargo, SHOCK_DURATION_S, Tracker as Truth, World};
use board::{FlashMemory, SimBoard, second_at};
use modem::{Wire, modem};
use network::RadioNetwork;

/// How often the receiver reports between samples: fresh enough for a fix to be young at every
/// sample, seldom enough for a thousand-fold clock.
const GNSS_PERIOD_MS: u64 = 10_000;

/// When the simulated firmware was built: 2026-01-05T00:00:00Z, before the constant date on which
/// demo worlds start.
pub const BUILD_TIME: UtcMs = UtcMs::saturating(1_767_571_200_000);

/// Steps of event time between two looks at link and orders, so that catching up starves nobody.
const STEPS_PER_TURN: u32 = 32;

/// Records queued or in flight at which a device with reception lets event time wait for the wall,
/// which then is what is slow: two full batches. What is left of the firmware's queue of 256 holds three
/// hours on the road without radio.
const HOLD_RECORDS: u64 = 40;

/// How long it waits in the same way for a link while it has none: connecting takes wall time too. Then
/// it goes on, so that an outage of the gateway costs records as it would in the field.
const LINK_PATIENCE: Duration = Duration::from_secs(5);

/// How often a waiting device looks up, in case patience has ended.
const HOLD_LOOK: Duration = Duration::from_millis(100);

/// Version of the settings a depot gives a tracker when it is attached.
pub(crate) const DEPOT_SETTINGS_VERSION: u32 = 1;

/// What a device is made of.
#[derive(Debug)]
pub struct DeviceSpec {
    /// The truth it measures.
    pub world: Arc<World>,
    /// Which tracker of the world it is.
    pub index: usize,
    /// Where the gateway listens, host:port.
    pub address: String,
    /// Event time.
    pub clock: EventClock,
    /// Its flash.
    pub flash: FlashMemory,
    /// Distinguishes lives of the same world.
    pub life: u64,
}

/// What all devices are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Follow the clock.
    Run,
    /// Sample up to this time and no further, then publish everything.
    Freeze(UtcMs),
    /// Make the counters durable and switch off.
    Stop,
}

/// How a device is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Where its records went.
    pub counters: Counters,
    /// Event time of the last confirmation.
    pub confirmed_at: Option<UtcMs>,
    /// Whether the link is up.
    pub connected: bool,
    /// Frozen, caught up, and nothing queued or in flight.
    pub drained: bool,
}

/// Run a device until it is told to stop.
pub async fn run(spec: DeviceSpec, orders: watch::Receiver<Order>, report: watch::Sender<Report>) {
    let truth = &spec.world.trackers[spec.index];
    let boot = spec.world.utc_at(truth.boot_s);
    while spec.clock.now() < boot && *orders.borrow() == Order::Run {
        tokio::time::sleep(spec.clock.wait_until(boot)).await;
    }
    let Ok(device) = truth.device.parse::<DeviceId>() else {
        tracing::error!(device = %truth.device, "the world has a tracker without a valid id");
        return;
    };
    let (radio, reception) = watch::channel(true);
    let network = RadioNetwork::new(spec.address.clone(), reception);
    let seed = spec.world.scenario.seed ^ spec.life ^ spec.index as u64;
    let (wire, modem) = modem(device.clone(), network, seed);
    let driver = Driver::new(spec, device, radio, wire, report);
    tokio::select! {
        never = modem.run() => never,
        () = driver.run(orders) => {}
    }
}

/// What a tracker is told at the depot: limits of its cargo, everything else as by default.
#[must_use]
pub fn depot_settings(cargo: Cargo) -> Settings {
    let bound = |above: bool| {
        let limit = cargo.limits().iter().find(|limit| limit.above == above);
        limit.map(|limit| CentiCelsius::saturating(whole(limit.bound_c * 100.0)))
    };
    Settings {
        version: DEPOT_SETTINGS_VERSION,
        temperature_above: bound(true),
        temperature_below: bound(false),
        shock_peak: MilliG::saturating(whole(cargo.shock_g() * 1_000.0)),
        shock_delta_v: MillimetresPerSecond::saturating(whole(cargo.shock_delta_v() * 1_000.0)),
        shock_duration: Milliseconds::saturating(whole(SHOCK_DURATION_S * 1_000.0)),
        battery_low: Percent::saturating(i64::from(BATTERY_LOW_PERCENT)),
        ..Settings::DEFAULT
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "limits of goods are far inside the range of an i64"
)]
fn whole(value: f64) -> i64 {
    value.round() as i64
}

/// How far a device has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Everything that is due is done.
    CaughtUp,
    /// There is more to do at once.
    Busy,
    /// There is more to do once the link has confirmed some of what it has.
    Held,
}

struct Driver {
    world: Arc<World>,
    index: usize,
    clock: EventClock,
    boot: UtcMs,
    tracker: Tracker<SimBoard>,
    wire: Wire,
    radio: watch::Sender<bool>,
    report: watch::Sender<Report>,
    now: UptimeMs,
    next_epoch: UptimeMs,
    impacts_felt: usize,
    /// When the link was lost, or could first be made.
    linkless_since: Instant,
}

impl Driver {
    fn new(
        spec: DeviceSpec,
        device: DeviceId,
        radio: watch::Sender<bool>,
        wire: Wire,
        report: watch::Sender<Report>,
    ) -> Self {
        let truth = &spec.world.trackers[spec.index];
        let cargo = spec.world.shipment_of(truth).cargo;
        let boot = spec.world.utc_at(truth.boot_s);
        let now = UptimeMs::saturating(0);
        let board = SimBoard::new(Arc::clone(&spec.world), spec.index, spec.flash, spec.life);
        let mut tracker = Tracker::new(config(device, BUILD_TIME), board, now);
        provision(&mut tracker, &depot_settings(cargo), now);
        Self {
            world: spec.world,
            index: spec.index,
            clock: spec.clock,
            boot,
            tracker,
            wire,
            radio,
            report,
            now,
            next_epoch: now,
            impacts_felt: 0,
            linkless_since: Instant::now(),
        }
    }

    async fn run(mut self, mut orders: watch::Receiver<Order>) {
        loop {
            let order = *orders.borrow_and_update();
            if order == Order::Stop {
                self.tracker.handle(Input::Stop, self.now);
                return;
            }
            let progress = self.catch_up(order);
            self.tell(order, progress);
            let waiting = progress == Progress::CaughtUp && order == Order::Run;
            let wait = self.clock.wait_until(self.utc(self.next()));
            tokio::select! {
                event = self.wire.recv() => self.hear(&event),
                changed = orders.changed() => if changed.is_err() { return },
                () = tokio::task::yield_now(), if progress == Progress::Busy => {}
                () = tokio::time::sleep(HOLD_LOOK), if progress == Progress::Held => {}
                () = tokio::time::sleep(wait), if waiting => {}
            }
        }
    }

    /// Do what is due, up to a bound of steps.
    fn catch_up(&mut self, order: Order) -> Progress {
        let target = match order {
            Order::Freeze(at) => self.uptime(at),
            Order::Run | Order::Stop => self.uptime(self.clock.now()),
        };
        for _ in 0..STEPS_PER_TURN {
            let next = self.next();
            if next > target {
                self.pass(target);
                self.flush_if_frozen(order);
                return Progress::CaughtUp;
            }
            if self.is_held() {
                return Progress::Held;
            }
            self.step(next);
        }
        Progress::Busy
    }

    fn is_held(&self) -> bool {
        let connected = self.report.borrow().connected;
        let connecting = self.linkless_since.elapsed() < LINK_PATIENCE;
        let linked = *self.radio.borrow() && (connected || connecting);
        linked && self.tracker.counters().records.pending >= HOLD_RECORDS
    }

    /// Nothing is due until `target`, so it is later now; a sleeping device does not notice.
    fn pass(&mut self, target: UptimeMs) {
        if self.awake(target) == target {
            self.now = self.now.max(target);
        }
    }

    /// Event time stands still: coverage is back and everything is published at once, also what the
    /// gateway's answers add.
    fn flush_if_frozen(&mut self, order: Order) {
        if matches!(order, Order::Freeze(_)) {
            let back = |there: &mut bool| !std::mem::replace(there, true);
            self.radio.send_if_modified(back);
            self.tracker.handle(Input::Flush, self.now);
            self.publish();
        }
    }

    /// When something happens next: a report of the receiver, an impact, or what the tracker wants.
    fn next(&self) -> UptimeMs {
        let impact = self.next_impact().map(|impact| self.uptime_at(impact.at_s));
        let wanted = self.tracker.next_deadline().min(self.next_epoch);
        let next = impact.map_or(wanted, |impact| impact.min(wanted));
        let next = next.max(UptimeMs::saturating(whole_ms(self.now) + 1));
        self.awake(next)
    }

    /// That moment, or the one at which the device wakes.
    fn awake(&self, next: UptimeMs) -> UptimeMs {
        let truth = self.truth();
        let at_s = second_at(truth, next);
        let asleep = truth.asleep.iter().find(|sleep| sleep.contains(at_s));
        asleep.map_or(next, |sleep| self.uptime_at(sleep.to_s).max(next))
    }

    fn step(&mut self, at: UptimeMs) {
        self.now = at;
        let world = Arc::clone(&self.world);
        let truth = &world.trackers[self.index];
        let at_s = second_at(truth, at);
        let reception = !truth.radio_off.iter().any(|off| off.contains(at_s));
        let changed = self
            .radio
            .send_if_modified(|now| std::mem::replace(now, reception) != reception);
        if changed {
            self.linkless_since = Instant::now();
        }
        let sampling = self.tracker.next_deadline() <= at;
        if sampling || self.next_epoch <= at {
            let sentences = world.sentences(truth, at_s);
            self.tracker
                .handle(Input::GnssBytes(sentences.as_bytes()), at);
            self.next_epoch = UptimeMs::saturating(whole_ms(at) + GNSS_PERIOD_MS.cast_signed());
        }
        while let Some(impact) = self.next_impact().filter(|impact| impact.at_s <= at_s) {
            self.impacts_felt += 1;
            feel(&mut self.tracker, &impact, at);
        }
        self.publish();
    }

    fn publish(&mut self) {
        while let Some(message) = self.tracker.poll(self.now) {
            self.wire.send(message);
        }
    }

    fn hear(&mut self, event: &LinkEvent) {
        let now = self.utc(self.now);
        if matches!(event, LinkEvent::Down(_)) && self.report.borrow().connected {
            self.linkless_since = Instant::now();
        }
        self.report.send_modify(|report| match event {
            LinkEvent::Up(_) => report.connected = true,
            LinkEvent::Down(_) => report.connected = false,
            LinkEvent::Confirmed(_) => report.confirmed_at = Some(now),
            LinkEvent::Downlink { .. } => {}
        });
        self.tracker.handle(Input::Link(event), self.now);
        self.publish();
    }

    fn tell(&self, order: Order, progress: Progress) {
        let counters = self.tracker.counters();
        let frozen = matches!(order, Order::Freeze(_));
        self.report.send_modify(|report| {
            report.counters = counters;
            let caught_up = progress == Progress::CaughtUp;
            report.drained = frozen && caught_up && counters.records.pending == 0;
        });
    }

    fn truth(&self) -> &Truth {
        &self.world.trackers[self.index]
    }

    fn next_impact(&self) -> Option<Impact> {
        self.truth().impacts.get(self.impacts_felt).copied()
    }

    fn utc(&self, uptime: UptimeMs) -> UtcMs {
        UtcMs::saturating(self.boot.get() + whole_ms(uptime))
    }

    fn uptime(&self, utc: UtcMs) -> UptimeMs {
        UptimeMs::saturating(utc.get() - self.boot.get())
    }

    fn uptime_at(&self, at_s: f64) -> UptimeMs {
        UptimeMs::saturating(whole((at_s - self.truth().boot_s) * 1_000.0))
    }
}

/// Uptime as a signed number; it fits, because its range ends at `i64::MAX`.
const fn whole_ms(uptime: UptimeMs) -> i64 {
    uptime.get().cast_signed()
}

/// What a simulated tracker is told when it is made.
pub(crate) fn config(device: DeviceId, build_time: UtcMs) -> Config {
    Config {
        device,
        hardware: heapless::String::try_from("simulated").unwrap_or_default(),
        version: [0, 1, 0],
        build_time,
        cause: ResetCause::PowerOn,
        gnss_fitted: true,
    }
}

/// What the depot does when it attaches a tracker, through the way any settings take.
pub(crate) fn provision<B: Board>(tracker: &mut Tracker<B>, settings: &Settings, now: UptimeMs) {
    let mut buffer = [0; DOWNLINK_MAX_BYTES];
    let encoded = settings.encode(&mut buffer);
    let Some(payload) = encoded.ok().and_then(|length| buffer.get(..length)) else {
        tracing::error!("settings do not fit a downlink");
        return;
    };
    let event = LinkEvent::Downlink {
        channel: Channel::Settings,
        payload: heapless::Vec::from_slice(payload).unwrap_or_default(),
    };
    tracker.handle(Input::Link(&event), now);
}

/// The accelerometer triggers and its FIFO is read.
fn feel(tracker: &mut Tracker<SimBoard>, impact: &Impact, now: UptimeMs) {
    let milli_g = |axes: [f64; 3]| axes.map(|g| MilliG::saturating(whole(g * 1_000.0)));
    let samples: Vec<[MilliG; 3]> = impact.burst().into_iter().map(milli_g).collect();
    let burst = Burst {
        rate_hz: BURST_RATE_HZ,
        pre_trigger: BURST_PRE_TRIGGER,
        samples: &samples,
    };
    tracker.handle(Input::Burst(burst), now);
}
