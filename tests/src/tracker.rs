//! The real tracker of the firmware, its messages carried by a client of the test: every packet between
//! tracker and gateway is seen, and time passes only when the test says so.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use firmware::port::{
    ClockChip, ConnectionId, Entropy, Flash as FlashPort, FlashError, FlashOperation, LinkEvent,
    Message, Page, Sample, Sensors,
};
use firmware::tracker::{Config, Input, Tracker};
use protocol::reading::Measured;
use protocol::record::ResetCause;
use protocol::topic::Channel;
use protocol::units::{CentiCelsius, UptimeMs, UtcMs};

use crate::mqtt::{Client, Incoming, Login, Version};

/// 2026-03-02T06:00:00Z, what the clock chip says at boot.
const BOOT_UTC_MS: i64 = 1_772_431_200_000;

/// 2026-02-01T00:00:00Z.
const BUILD_UTC_MS: i64 = 1_769_904_000_000;

/// The tracker's flash, which outlives it. Clones are the same flash.
#[derive(Clone, Debug, Default)]
pub struct Flash(Arc<Mutex<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    written: BTreeMap<Page, Vec<u8>>,
    broken: bool,
}

impl Flash {
    /// Take no more writes, or take them again.
    pub fn set_broken(&self, broken: bool) {
        self.pages().broken = broken;
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A board with one probe, a clock chip and a flash.
#[derive(Debug)]
struct Board {
    celsius: CentiCelsius,
    flash: Flash,
}

impl Sensors for Board {
    fn sample(&mut self, _: UptimeMs) -> Sample {
        let mut sample = Sample::NOTHING_FITTED;
        sample.temperatures[0] = Measured::Value(self.celsius);
        sample
    }
}

impl FlashPort for Board {
    fn read(&mut self, page: Page, buffer: &mut [u8]) -> Result<(), FlashError> {
        let written = self.flash.pages().written.get(&page).cloned();
        buffer.fill(0xff);
        for (to, from) in buffer.iter_mut().zip(written.unwrap_or_default()) {
            *to = from;
        }
        Ok(())
    }

    fn erase(&mut self, page: Page) -> Result<(), FlashError> {
        self.flash.pages().written.remove(&page);
        Ok(())
    }

    fn write(&mut self, page: Page, bytes: &[u8]) -> Result<(), FlashError> {
        let mut pages = self.flash.pages();
        let operation = FlashOperation::Write;
        if pages.broken || pages.written.contains_key(&page) {
            return Err(FlashError { page, operation });
        }
        pages.written.insert(page, bytes.to_vec());
        Ok(())
    }
}

impl Entropy for Board {
    fn random(&mut self) -> u64 {
        0x0123_4567_89ab_cdef
    }
}

impl ClockChip for Board {
    fn utc(&mut self) -> Option<UtcMs> {
        UtcMs::new(BOOT_UTC_MS)
    }
}

/// A tracker that is switched on, and its connection if it has one.
pub struct Carried {
    /// The firmware's state machine.
    tracker: Tracker<Board>,
    client: Option<Client>,
    connections: u32,
    packet_id: u16,
    now: UptimeMs,
    /// Payloads of the settings that came, in order.
    pub settings: Vec<Vec<u8>>,
    /// Messages that the gateway has acknowledged, in order.
    pub published: Vec<Message>,
}

impl Carried {
    /// Switch a tracker on, whose only probe always says `celsius`.
    ///
    /// # Errors
    /// When `device` is no device id.
    pub fn boot(device: &str, celsius: CentiCelsius, flash: &Flash) -> Result<Self> {
        let config = Config {
            device: device.parse()?,
            hardware: heapless::String::new(),
            version: [0, 1, 0],
            build_time: UtcMs::new(BUILD_UTC_MS).context("build time")?,
            cause: ResetCause::PowerOn,
            gnss_fitted: false,
        };
        let flash = flash.clone();
        let now = UptimeMs::saturating(0);
        Ok(Self {
            tracker: Tracker::new(config, Board { celsius, flash }, now),
            client: None,
            connections: 0,
            // The subscription of a connection has packet id 1.
            packet_id: 1,
            now,
            settings: Vec::new(),
            published: Vec::new(),
        })
    }

    /// The settings that the tracker obeys.
    #[must_use]
    pub const fn in_force(&self) -> &protocol::downlink::Settings {
        self.tracker.settings()
    }

    /// Connect, listen for settings as the link does, and say everything that is due.
    ///
    /// # Errors
    /// When the gateway does not take it.
    pub fn connect(&mut self, address: SocketAddr) -> Result<()> {
        let device = self.tracker.device().to_string();
        let login = Login {
            client_id: &device,
            version: Version::V5,
            clean: true,
            credentials: None,
        };
        let mut client = Client::connect(address, &login)?;
        client.subscribe(&format!("sc/1/{device}/settings"), 0)?;
        let granted = client.receive()?;
        let success =
            matches!(&granted, Incoming::Other { header: 0x90, body } if body.ends_with(&[0]));
        ensure!(success, "subscription not granted: {granted:?}");
        self.client = Some(client);
        self.connections += 1;
        let up = LinkEvent::Up(ConnectionId(self.connections));
        self.tracker.handle(Input::Link(&up), self.now);
        self.speak()
    }

    /// Say goodbye in good order.
    ///
    /// # Errors
    /// When there is no connection.
    pub fn disconnect(&mut self) -> Result<()> {
        self.client.take().context("not connected")?.disconnect()?;
        self.lose();
        Ok(())
    }

    /// The connection is gone, as after a gateway was killed.
    pub fn lose(&mut self) {
        self.client = None;
        let down = LinkEvent::Down(firmware::port::LinkFailure::Disconnected);
        self.tracker.handle(Input::Link(&down), self.now);
    }

    /// Let time pass and publish what becomes due, until `until`; then publish all that is queued.
    ///
    /// # Errors
    /// When the connection breaks or a publication is refused.
    pub fn live(&mut self, until: UptimeMs) -> Result<()> {
        while self.now < until {
            self.speak()?;
            self.now = self.tracker.next_deadline().max(self.now);
        }
        self.flush()
    }

    /// Publish all that is queued.
    ///
    /// # Errors
    /// When the connection breaks or a publication is refused.
    pub fn flush(&mut self) -> Result<()> {
        self.tracker.handle(Input::Flush, self.now);
        self.speak()
    }

    /// Wait until settings came `times` in all, and publish the answers and everything queued.
    ///
    /// # Errors
    /// When fewer come.
    pub fn obey(&mut self, times: usize) -> Result<()> {
        while self.settings.len() < times {
            self.hear()
                .with_context(|| format!("settings {times} times"))?;
        }
        self.flush()
    }

    /// Hear everything that the gateway has sent by now.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn hear_all(&mut self) -> Result<()> {
        self.connection()?.ping()?;
        // Packets keep their order, so all that was sent before comes before the answer.
        while !self.hear()?.is_pong() {}
        Ok(())
    }

    /// Carry every message that is due, and its confirmation.
    fn speak(&mut self) -> Result<()> {
        while let Some(message) = self.tracker.poll(self.now) {
            self.packet_id += 1;
            let (packet_id, device) = (self.packet_id, self.tracker.device());
            let topic = format!("sc/1/{device}/{}", message.channel.as_str());
            self.connection()?
                .publish(&topic, packet_id, &message.payload)?;
            self.confirm(packet_id)?;
            let confirmed = LinkEvent::Confirmed(message.token);
            self.tracker.handle(Input::Link(&confirmed), self.now);
            self.published.push(message);
        }
        Ok(())
    }

    /// Wait for the PUBACK; settings may come before it.
    fn confirm(&mut self, expected: u16) -> Result<()> {
        loop {
            if let Incoming::PubAck { packet_id, reason } = self.hear()? {
                ensure!(
                    packet_id == expected && reason < 0x80,
                    "reason {reason:#04x}"
                );
                return Ok(());
            }
        }
    }

    /// The next packet; settings go to the tracker.
    fn hear(&mut self) -> Result<Incoming> {
        let incoming = self.connection()?.receive()?;
        let Some((topic, payload)) = incoming.published() else {
            return Ok(incoming);
        };
        ensure!(topic.ends_with("/settings"), "a message on {topic}");
        let downlink = LinkEvent::Downlink {
            channel: Channel::Settings,
            payload: heapless::Vec::from_slice(payload)
                .ok()
                .context("too long")?,
        };
        self.settings.push(payload.to_vec());
        self.tracker.handle(Input::Link(&downlink), self.now);
        Ok(incoming)
    }

    fn connection(&mut self) -> Result<&mut Client> {
        self.client.as_mut().context("not connected")
    }
}
