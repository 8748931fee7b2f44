//! A tracker on virtual time, and a gateway that remembers what it was told. No sockets, no waiting.
#![allow(dead_code, reason = "every test file uses its own part of the rig")]

use std::collections::BTreeMap;

use firmware::port::{
    ClockChip, ConnectionId, Entropy, Flash, FlashError, FlashOperation, LinkEvent, LinkFailure,
    Message, PAGE_BYTES, Page, Sample, Sensors, Token,
};
use firmware::tracker::{Config, Counters, Input, Tracker};
use protocol::batch::Batch;
use protocol::key::{RecordKey, Seq};
use protocol::reading::Measured;
use protocol::record::{Record, ResetCause};
use protocol::status::{SettingsAck, Status};
use protocol::topic::Channel;
use protocol::units::{CentiCelsius, UptimeMs, UtcMs};

/// 2026-03-14T00:00:00Z.
pub(crate) const BUILD_MS: i64 = 1_773_446_400_000;

/// A board made of fields.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    pub(crate) sample: Sample,
    pub(crate) samples: u64,
    pub(crate) pages: [[u8; PAGE_BYTES]; 4],
    pub(crate) flash_works: bool,
    pub(crate) random: u64,
    pub(crate) utc: Option<UtcMs>,
}

impl Board {
    pub(crate) const fn new() -> Self {
        Self {
            sample: Sample::NOTHING_FITTED,
            samples: 0,
            pages: [[0xff; PAGE_BYTES]; 4],
            flash_works: true,
            random: 0,
            utc: None,
        }
    }

    fn flash(&self, page: Page, operation: FlashOperation) -> Result<(), FlashError> {
        let works = self.flash_works.then_some(());
        works.ok_or(FlashError { page, operation })
    }
}

impl Sensors for Board {
    fn sample(&mut self, _now: UptimeMs) -> Sample {
        self.samples += 1;
        self.sample
    }
}

impl Flash for Board {
    fn read(&mut self, page: Page, buffer: &mut [u8]) -> Result<(), FlashError> {
        self.flash(page, FlashOperation::Read)?;
        buffer.copy_from_slice(&self.pages[page as usize][..buffer.len()]);
        Ok(())
    }

    fn erase(&mut self, page: Page) -> Result<(), FlashError> {
        self.flash(page, FlashOperation::Erase)?;
        self.pages[page as usize].fill(0xff);
        Ok(())
    }

    fn write(&mut self, page: Page, bytes: &[u8]) -> Result<(), FlashError> {
        self.flash(page, FlashOperation::Write)?;
        self.pages[page as usize][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

impl Entropy for Board {
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005) + 1;
        self.random
    }
}

impl ClockChip for Board {
    fn utc(&mut self) -> Option<UtcMs> {
        self.utc
    }
}

/// What the gateway has confirmed.
#[derive(Debug, Default)]
pub(crate) struct Gateway {
    pub(crate) records: BTreeMap<RecordKey, Record>,
    /// In the order of arrival: channel and number of the first record of each batch.
    pub(crate) batches: Vec<(Channel, Seq, usize)>,
    pub(crate) births: u32,
    pub(crate) acks: Vec<SettingsAck>,
    pub(crate) time_requests: Vec<protocol::downlink::TimeRequest>,
}

impl Gateway {
    pub(crate) fn take(&mut self, message: &Message) {
        let payload = &message.payload;
        match message.channel {
            Channel::Readings | Channel::Alarms => self.take_batch(message.channel, payload),
            Channel::Status => {
                let status = Status::decode(payload).expect("a status");
                self.births += u32::from(matches!(status, Status::Birth(_)));
            }
            Channel::Ack => self
                .acks
                .push(SettingsAck::decode(payload).expect("an ack")),
            Channel::TimeRequest => {
                let request = protocol::downlink::TimeRequest::decode(payload);
                self.time_requests.push(request.expect("a request"));
            }
            Channel::Settings | Channel::Time => panic!("a downlink channel"),
        }
    }

    fn take_batch(&mut self, channel: Channel, payload: &[u8]) {
        let batch = Batch::decode(payload).expect("a batch");
        let seqs: Vec<Seq> = batch.iter().map(|entry| entry.numbered.seq).collect();
        assert!(seqs.is_sorted(), "a batch is in order: {seqs:?}");
        self.batches.push((channel, seqs[0], seqs.len()));
        for entry in &batch {
            let key = batch.header().key(entry.numbered.seq);
            let record = entry.numbered.record;
            let known = self.records.insert(key, record);
            assert!(known.is_none_or(|known| known == record), "{key} changed");
        }
    }

    /// Records that `choose` finds something in, in the order of their keys.
    pub(crate) fn all<T>(&self, choose: impl Fn(&Record) -> Option<T>) -> Vec<T> {
        self.records.values().filter_map(choose).collect()
    }
}

/// Tracker, gateway, and the time.
pub(crate) struct Rig {
    pub(crate) tracker: Tracker<Board>,
    pub(crate) gateway: Gateway,
    pub(crate) now: UptimeMs,
    pub(crate) open: Vec<Message>,
    /// Whether the gateway confirms at once.
    pub(crate) prompt: bool,
    pub(crate) connected: bool,
    connections: u32,
}

pub(crate) fn config() -> Config {
    Config {
        device: "rig-1".parse().expect("a device id"),
        hardware: "rig".try_into().expect("a short name"),
        version: [0, 1, 0],
        build_time: UtcMs::saturating(BUILD_MS),
        cause: ResetCause::PowerOn,
        gnss_fitted: true,
    }
}

pub(crate) fn at(s: i64) -> UptimeMs {
    UptimeMs::saturating(s * 1_000)
}

pub(crate) fn celsius(centi: i64) -> Measured<CentiCelsius> {
    Measured::Value(CentiCelsius::saturating(centi))
}

impl Rig {
    pub(crate) fn new() -> Self {
        let mut board = Board::new();
        board.sample.temperatures[0] = celsius(500);
        Self::with(board)
    }

    pub(crate) fn with(board: Board) -> Self {
        Self {
            tracker: Tracker::new(config(), board, at(0)),
            gateway: Gateway::default(),
            now: at(0),
            open: Vec::new(),
            prompt: true,
            connected: false,
            connections: 0,
        }
    }

    /// A rig whose link is up from the start.
    pub(crate) fn connected() -> Self {
        let mut rig = Self::new();
        rig.up();
        rig
    }

    pub(crate) fn handle(&mut self, input: Input<'_>) {
        self.tracker.handle(input, self.now);
        self.drain();
    }

    pub(crate) fn up(&mut self) {
        self.connections += 1;
        self.connected = true;
        let event = LinkEvent::Up(ConnectionId(self.connections));
        self.handle(Input::Link(&event));
    }

    pub(crate) fn down(&mut self) {
        self.open.clear();
        self.connected = false;
        self.handle(Input::Link(&LinkEvent::Down(LinkFailure::Disconnected)));
    }

    pub(crate) fn downlink(&mut self, channel: Channel, payload: &[u8]) {
        let payload = heapless::Vec::from_slice(payload).expect("a short payload");
        self.handle(Input::Link(&LinkEvent::Downlink { channel, payload }));
    }

    /// Confirm an open message.
    pub(crate) fn confirm(&mut self, index: usize) {
        let message = self.open.remove(index);
        self.gateway.take(&message);
        let event = LinkEvent::Confirmed(message.token);
        self.handle(Input::Link(&event));
    }

    pub(crate) fn confirm_all(&mut self) {
        while !self.open.is_empty() {
            self.confirm(0);
        }
    }

    pub(crate) fn tokens(&self) -> Vec<Token> {
        self.open.iter().map(|message| message.token).collect()
    }

    /// Poll until there is nothing to say; the deadline then lies ahead.
    pub(crate) fn drain(&mut self) {
        while let Some(message) = self.tracker.poll(self.now) {
            assert!(self.connected, "nothing is said to nobody");
            assert_eq!(message.connection, ConnectionId(self.connections));
            self.open.push(message);
            if self.prompt {
                let message = self.open.remove(0);
                self.gateway.take(&message);
                let event = LinkEvent::Confirmed(message.token);
                self.tracker.handle(Input::Link(&event), self.now);
            }
        }
        let deadline = self.tracker.next_deadline();
        assert!(
            deadline > self.now,
            "deadline {deadline:?} at {:?}",
            self.now
        );
    }

    /// Let time pass up to `s` seconds of uptime, stopping at every deadline.
    pub(crate) fn run_to(&mut self, s: i64) {
        self.drain();
        while self.now < at(s) {
            self.now = self.tracker.next_deadline().min(at(s));
            self.drain();
        }
    }

    pub(crate) fn set_temperature(&mut self, centi: i64) {
        self.tracker.board_mut().sample.temperatures[0] = celsius(centi);
    }

    /// Power fails; the device starts again with what its flash holds.
    pub(crate) fn reboot(&mut self) {
        self.down();
        let board = self.tracker.board_mut().clone();
        self.tracker = Tracker::new(config(), board, at(0));
        self.now = at(0);
    }

    pub(crate) fn counters(&self) -> Counters {
        self.tracker.counters()
    }

    /// An RMC sentence of a receiver: seconds since the build day, position in minutes north of
    /// 48 degrees, speed in knots.
    pub(crate) fn hear(&mut self, day_s: i64, minutes: f64, knots: f64) {
        let (hours, rest) = (day_s / 3_600, day_s % 3_600);
        let text = format!(
            "GPRMC,{hours:02}{:02}{:02}.00,A,48{minutes:07.4},N,01131.0000,E,{knots:05.1},084.4,140326,,,A",
            rest / 60,
            rest % 60
        );
        let sum = text.bytes().fold(0, |sum, byte| sum ^ byte);
        let line = format!("${text}*{sum:02X}\r\n");
        self.handle(Input::GnssBytes(line.as_bytes()));
    }
}
