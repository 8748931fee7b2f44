//! The state machine.
//!
//! ```text
//!   handle(input, now) --> GNSS bytes, accelerometer bursts, what the link says
//!   poll(now)          --> samples when due, then the next message to publish, if any
//!   next_deadline()    --> when to poll again if nothing is handled before
//! ```
//! `now` is uptime in event time. A driver calls `poll` until it returns nothing after every input
//! and at every deadline. Sampling and detection never depend on receiver or link: both only tell what
//! they know.

use protocol::downlink::{Settings, TimeReply};
use protocol::key::{DeviceId, RecordKey, Seq};
use protocol::reading::{Measured, Missing, Reading};
use protocol::record::{Alarm, AlarmKind, BootRecord, Numbered, Record, SettingsRecord, Shock};
use protocol::topic::Channel;
use protocol::units::{MilliG, UptimeMs};

use crate::gnss::fix::Receiver;
use crate::outbox::{Outbox, Speaker};
use crate::port::{Board, LinkEvent, Message};
use crate::queue::counter::Counter;
use crate::queue::{Queues, oldest_key};
use crate::sense::alarm::Limits;
use crate::sense::fall::{FALL_BELOW_MG, Fall};
use crate::sense::plan::{Plan, later};
use crate::sense::shock::{Aggregate, Report, is_shock, magnitude};
use crate::settings::InForce;
use crate::time::Timekeeper;

pub use crate::config::Config;
pub use crate::queue::{Account, Counters};
pub use crate::sense::burst::Burst;

/// Time between checkpoints of the counters, in milliseconds: with two pages that is 4,400 erasures of
/// each in a year, against 100,000 that flash endures.
pub const CHECKPOINT_INTERVAL_MS: u64 = 3_600_000;

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The satellite receiver said these bytes; any cut is allowed.
    GnssBytes(&'a [u8]),
    /// The accelerometer triggered and its FIFO was read.
    Burst(Burst<'a>),
    /// The accelerometer triggered in peak-detect mode: largest signed value per axis.
    Peak([MilliG; 3]),
    /// The link has something to say.
    Link(&'a LinkEvent),
    /// Publish everything queued now instead of waiting for full batches.
    Flush,
    /// The device is about to be switched off in good order: stop sampling, publish what there is,
    /// make the counters durable.
    Stop,
}

/// The tracker. Under 32 KB: two queues of records, the rest is small.
#[derive(Debug)]
pub struct Tracker<B> {
    config: Config,
    board: B,
    counter: Counter,
    queues: Queues,
    settings: InForce,
    receiver: Receiver,
    plan: Plan,
    limits: Limits,
    shocks: Aggregate,
    timekeeper: Timekeeper,
    outbox: Outbox,
    checkpoint_due: UptimeMs,
    stopped: bool,
}

impl<B: Board> Tracker<B> {
    /// A tracker that has just been switched on: draws its counters, makes the boot durable, and
    /// records boot and settings in force.
    #[must_use]
    pub fn new(config: Config, mut board: B, now: UptimeMs) -> Self {
        let counter = Counter::start(&mut board);
        let settings = InForce::load(&mut board);
        let mut tracker = Self {
            receiver: Receiver::new(config.build_time),
            timekeeper: Timekeeper::new(config.build_time),
            config,
            board,
            counter,
            settings,
            queues: Queues::new(),
            plan: Plan::new(),
            limits: Limits::new(),
            shocks: Aggregate::new(),
            outbox: Outbox::new(),
            checkpoint_due: later(now, CHECKPOINT_INTERVAL_MS),
            stopped: false,
        };
        tracker.record(Record::Boot(BootRecord {
            uptime: now,
            build_time: tracker.config.build_time,
            previous_last: tracker.counter.previous_last(),
            cause: tracker.config.cause,
            version: tracker.config.version,
        }));
        tracker.record_settings(now);
        tracker.read_clock_chip(now);
        tracker
    }

    /// Take note of what happened. Never waits, never publishes.
    pub fn handle(&mut self, input: Input<'_>, now: UptimeMs) {
        match input {
            Input::GnssBytes(bytes) => self.hear(bytes, now),
            Input::Burst(burst) => {
                self.fall(burst.fall(), now);
                self.feel(burst.impact(), now);
            }
            Input::Peak(peak) => self.feel(Some(peak_only(peak)), now),
            Input::Link(event) => self.link(event, now),
            Input::Flush => self.outbox.flush(self.counter.upcoming()),
            Input::Stop => self.stop(),
        }
    }

    /// Sample if it is time, then say what to publish next, if anything.
    pub fn poll(&mut self, now: UptimeMs) -> Option<Message> {
        if self.sample_at() <= now {
            self.sample(now);
        }
        if let Some(report) = self.shocks.due(now) {
            self.record_shock(&report, now);
        }
        if self.checkpoint_due <= now {
            self.counter.checkpoint(&mut self.board);
            self.checkpoint_due = later(now, CHECKPOINT_INTERVAL_MS);
        }
        let mut speaker = Speaker {
            config: &self.config,
            settings: self.settings.settings(),
            counter: &mut self.counter,
            queues: &mut self.queues,
            timekeeper: &mut self.timekeeper,
        };
        self.outbox.next(&mut speaker, &mut self.board, now)
    }

    /// When `poll` has something to do, if nothing is handled before. After a `poll` that returned
    /// nothing it lies in the future.
    #[must_use]
    pub fn next_deadline(&self) -> UptimeMs {
        let settings = self.settings.settings();
        let outbox = self
            .outbox
            .deadline(settings, &self.queues, &self.timekeeper);
        [Some(self.sample_at()), self.shocks.deadline(), outbox]
            .into_iter()
            .flatten()
            .fold(self.checkpoint_due, UptimeMs::min)
    }

    /// Who it is.
    #[must_use]
    pub const fn device(&self) -> &DeviceId {
        &self.config.device
    }

    /// The settings it obeys.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        self.settings.settings()
    }

    /// Where records went.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.queues.counters()
    }

    /// The least key that is queued or in flight.
    #[must_use]
    pub fn oldest_pending(&self) -> Option<RecordKey> {
        oldest_key(&self.queues, &self.counter)
    }

    /// The key that a number of this boot belongs to.
    #[must_use]
    pub const fn key(&self, seq: Seq) -> RecordKey {
        self.counter.key(seq)
    }

    /// The board, for what only it knows.
    pub const fn board_mut(&mut self) -> &mut B {
        &mut self.board
    }

    /// The board back, to start again after a reset.
    #[must_use]
    pub fn into_board(self) -> B {
        self.board
    }

    fn hear(&mut self, bytes: &[u8], now: UptimeMs) {
        self.receiver.push(bytes, now);
        if let Some(fix) = self.receiver.current(now) {
            self.plan.note_speed(fix.speed, fix.received);
        }
        let told = self.receiver.time();
        if let Some(anchor) = told.and_then(|time| self.timekeeper.offer_gnss(&time)) {
            self.record(Record::Anchor(anchor));
        }
    }

    fn feel(&mut self, impact: Option<Shock>, now: UptimeMs) {
        let settings = self.settings.settings();
        let shock = impact.filter(|impact| is_shock(impact, settings));
        if let Some(report) = shock.and_then(|shock| self.shocks.note(shock, now)) {
            self.record_shock(&report, now);
        }
    }

    fn fall(&mut self, fall: Option<Fall>, now: UptimeMs) {
        let Some(fall) = fall else { return };
        let since = now.get().saturating_sub(u64::from(fall.duration.get()));
        self.record(Record::Alarm(Alarm {
            uptime: now,
            kind: AlarmKind::FreeFall,
            limit: FALL_BELOW_MG,
            since: UptimeMs::saturating(since.cast_signed()),
            extreme: fall.least.get(),
            count: 1,
            shock: None,
        }));
    }

    fn link(&mut self, event: &LinkEvent, now: UptimeMs) {
        match event {
            LinkEvent::Up(connection) => {
                self.queues.release();
                self.timekeeper.forget_request();
                self.outbox.connected(*connection, self.counter.upcoming());
            }
            LinkEvent::Down(_) => {
                self.queues.release();
                self.timekeeper.forget_request();
                self.outbox.disconnected();
            }
            LinkEvent::Confirmed(token) => {
                if self.outbox.confirmed(*token) {
                    self.queues.confirm(*token);
                }
            }
            LinkEvent::Downlink { channel, payload } => self.obey(*channel, payload, now),
        }
    }

    fn obey(&mut self, channel: Channel, payload: &[u8], now: UptimeMs) {
        match channel {
            Channel::Settings => {
                let answer = self.settings.offer(payload, &mut self.board);
                self.outbox.answer(answer.ack);
                if answer.changed {
                    self.record_settings(now);
                }
            }
            Channel::Time => {
                let reply = TimeReply::decode(payload).ok();
                let anchor = reply.and_then(|reply| self.timekeeper.answer(&reply, now));
                if let Some(anchor) = anchor {
                    self.record(Record::Anchor(anchor));
                }
            }
            _ => {}
        }
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.outbox.flush(self.counter.upcoming());
        self.counter.checkpoint(&mut self.board);
    }

    fn sample_at(&self) -> UptimeMs {
        if self.stopped {
            return UptimeMs::saturating(i64::MAX);
        }
        self.plan.due(self.settings.settings())
    }

    fn sample(&mut self, now: UptimeMs) {
        let sample = self.board.sample(now);
        let settings = self.settings.settings();
        self.plan.note_sample(&sample.temperatures, settings, now);
        let alarms = self.limits.check(&sample, settings, now);
        let position = if self.config.gnss_fitted {
            self.receiver.position(now)
        } else {
            Measured::Missing(Missing::NotFitted)
        };
        self.record(Record::Reading(Reading {
            uptime: now,
            position,
            temperatures: sample.temperatures,
            humidity: sample.humidity,
            battery: sample.battery,
            tilt: sample.tilt,
            light: sample.light,
            door: sample.door,
            radio: sample.radio,
        }));
        for alarm in alarms {
            self.record(Record::Alarm(alarm));
        }
        self.read_clock_chip(now);
    }

    /// A clock chip is read when nobody better has told the time.
    fn read_clock_chip(&mut self, now: UptimeMs) {
        if !self.timekeeper.wants_clock_chip(now) {
            return;
        }
        let utc = self.board.utc();
        if let Some(anchor) = utc.and_then(|utc| self.timekeeper.offer_clock_chip(utc, now)) {
            self.record(Record::Anchor(anchor));
        }
    }

    fn record_settings(&mut self, now: UptimeMs) {
        let settings = *self.settings.settings();
        self.record(Record::Settings(SettingsRecord {
            uptime: now,
            settings,
        }));
    }

    fn record_shock(&mut self, report: &Report, now: UptimeMs) {
        self.record(Record::Alarm(Alarm {
            uptime: now,
            kind: AlarmKind::Shock,
            limit: self.settings.settings().shock_peak.get(),
            since: report.since,
            extreme: magnitude(&report.shock.peak).get(),
            count: report.count,
            shock: Some(report.shock),
        }));
    }

    /// Number a record and queue it. After the last number nothing is recorded any more: a key must
    /// never come twice, and 4 billion records are a century. After a stop no batch will fill any more,
    /// so what is still learned, such as the time, is published at once.
    fn record(&mut self, record: Record) {
        if let Some(seq) = self.counter.take() {
            self.queues.push(Numbered { seq, record });
        }
        if self.stopped {
            self.outbox.flush(self.counter.upcoming());
        }
    }
}

/// All that peak-detect mode knows.
const fn peak_only(peak: [MilliG; 3]) -> Shock {
    Shock {
        peak,
        duration: None,
        delta_v: None,
    }
}
