//! The state machine.
//!
//! ```text
//!   handle(input, now) --> GNSS bytes, accelerometer bursts, what the link says
//!   poll(now)          --> samples when due, then the next message to publish, if any
//!   next_deadline()    --> when to poll again if nothing is handled before
//! ```
//! `now` is uptime in event time. A driver calls `poll` until it returns nothing after every input
//! and at every deadline.

use protocol::key::{DeviceId, RecordKey};
use protocol::record::ResetCause;
use protocol::status::HARDWARE_MAX_BYTES;
use protocol::units::{MilliG, UptimeMs, UtcMs};

use crate::port::{Board, LinkEvent, Message};
use crate::sense::shock::Burst;

/// What a tracker is told when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who it is.
    pub device: DeviceId,
    /// Board name.
    pub hardware: heapless::String<HARDWARE_MAX_BYTES>,
    /// Firmware version: major, minor, patch.
    pub version: [u8; 3],
    /// When the firmware was built: no true time is earlier.
    pub build_time: UtcMs,
    /// Why the device started.
    pub cause: ResetCause,
    /// Whether there is a satellite receiver.
    pub gnss_fitted: bool,
}

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
    /// The device is about to be switched off in good order: make the counters durable.
    Stop,
}

/// Where records went; `made = confirmed + lost + pending` holds at every moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Numbered in this boot.
    pub made: u64,
    /// Confirmed by the gateway.
    pub confirmed: u64,
    /// Evicted to make room.
    pub lost: u64,
    /// Queued or in flight.
    pub pending: u64,
}

/// What a tracker counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// All records: readings, alarms, and the device's statements about itself.
    pub records: Account,
    /// Readings alone: `made` is the number of samples.
    pub readings: Account,
}

/// The tracker.
#[derive(Debug)]
pub struct Tracker<B> {
    config: Config,
    board: B,
}

impl<B: Board> Tracker<B> {
    /// A tracker that has just been switched on: draws its counters, makes the boot durable, and
    /// records boot and settings in force.
    #[must_use]
    pub fn new(config: Config, board: B, now: UptimeMs) -> Self {
        let _ = now;
        Self { config, board }
    }

    /// Take note of what happened. Never waits, never publishes.
    pub fn handle(&mut self, input: Input<'_>, now: UptimeMs) {
        let _ = (input, now);
    }

    /// Sample if it is time, then say what to publish next, if anything.
    pub fn poll(&mut self, now: UptimeMs) -> Option<Message> {
        let _ = self.board.sample(now);
        None
    }

    /// When `poll` has something to do, if nothing is handled before.
    #[must_use]
    pub fn next_deadline(&self) -> UptimeMs {
        UptimeMs::saturating(0)
    }

    /// Who it is.
    #[must_use]
    pub const fn device(&self) -> &DeviceId {
        &self.config.device
    }

    /// Where records went.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters::default()
    }

    /// The least key that is queued or in flight.
    #[must_use]
    pub fn oldest_pending(&self) -> Option<RecordKey> {
        None
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
}
