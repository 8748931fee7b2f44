//! One session over one stream: what to wait for, in which order, and how it ends.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use protocol::topic::Channel;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::receipt::Publication;

use super::budget::Budget;
use super::downlink;
use super::frame::Frames;
use super::handshake::{Admitted, Testament, durably};
use super::packet::{self, Disconnect};
use super::persistence::SessionRecord;
use super::port::Shared;
use super::refusal::{Fault, RefusalReason};
use super::registry::Lease;
use super::session::{Session, Step};

/// Done when the endpoint stops.
pub(crate) async fn stop(stopping: &mut watch::Receiver<bool>) {
    // An error says that the endpoint itself is gone.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// A session and the stream it is served over.
pub(crate) struct Connection<'a, S> {
    pub(super) stream: S,
    pub(super) frames: Frames,
    pub(super) peer: SocketAddr,
    pub(super) shared: &'a Shared,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) session: Session,
    pub(super) acknowledged: mpsc::Receiver<u16>,
    /// Packet ids just released; kept for its room.
    pub(super) released: Vec<u16>,
    pub(super) lease: Lease,
    pub(super) patience: Duration,
    /// When the last packet was taken.
    pub(super) heard: Instant,
    /// When unreported settings are sent again.
    pub(super) resend_at: Instant,
    /// Set when the endpoint stops: until then owed PUBACKs are waited for.
    pub(super) drain_until: Option<Instant>,
    pub(super) timer: Pin<Box<Sleep>>,
    /// What the device may still send.
    pub(super) budget: Budget,
    /// Set while it has sent too much: until then it is not read.
    pub(super) listen_at: Option<Instant>,
    /// Since when a packet is begun and not whole.
    pub(super) begun: Option<Instant>,
    pub(super) expiry_seconds: u32,
    pub(super) stored: bool,
    pub(super) will: Option<Testament>,
}

enum Event<'a> {
    Replaced,
    Stop,
    Released,
    Room(mpsc::Permit<'a, Publication>),
    JournalGone,
    Timer,
    SettingsChanged,
    Read(std::io::Result<usize>),
}

/// How a connection ends.
pub(crate) enum Ending {
    /// The client said goodbye.
    Left(Disconnect),
    /// The stream broke, or ended without a goodbye.
    Lost(String),
    Refused(Fault),
    Replaced,
    Stopped,
}

impl From<Fault> for Ending {
    fn from(fault: Fault) -> Self {
        Self::Refused(fault)
    }
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Connection<'a, S> {
    pub(crate) fn new(
        stream: S,
        frames: Frames,
        peer: SocketAddr,
        shared: &'a Shared,
        stopping: watch::Receiver<bool>,
        admitted: Admitted,
    ) -> Self {
        let now = Instant::now();
        let budget = shared.budgets.take(admitted.lease.device(), now);
        Self {
            stream,
            frames,
            peer,
            shared,
            stopping,
            session: admitted.session,
            acknowledged: admitted.acknowledged,
            released: Vec::new(),
            lease: admitted.lease,
            patience: admitted.patience,
            heard: now,
            resend_at: now + shared.limits.settings_resend,
            drain_until: None,
            timer: Box::pin(sleep_until(now)),
            budget,
            listen_at: None,
            begun: None,
            expiry_seconds: admitted.expiry_seconds,
            stored: admitted.stored,
            will: admitted.will,
        }
    }

    /// Serve the client until something ends the connection.
    pub(crate) async fn talk(&mut self) -> Ending {
        tracing::debug!(device = %self.lease.device(), peer = %self.peer, "mqtt: connected");
        self.send_settings();
        loop {
            if let Err(ending) = self.turn().await {
                return ending;
            }
        }
    }

    /// Wait for one event and act on it.
    async fn turn(&mut self) -> Result<(), Ending> {
        self.flush().await?;
        if self.drain_until.is_some() && self.session.is_settled() {
            return Err(Ending::Stopped);
        }
        let event = self.event().await;
        if !self.listens() {
            // Nobody listens to the client now, so its silence does not count.
            self.heard = Instant::now();
        }
        match event {
            Event::Replaced => return Err(self.dismissal()),
            Event::JournalGone => return Err(Ending::Stopped),
            Event::Stop => self.start_draining(),
            Event::Room(permit) => {
                if let Some(publication) = self.session.hand_over() {
                    permit.send(publication);
                }
            }
            Event::Released => {
                for packet_id in self.released.drain(..) {
                    self.session.released(packet_id);
                }
            }
            Event::Timer => self.tick()?,
            Event::SettingsChanged => self.send_settings(),
            Event::Read(Ok(0)) => return Err(Ending::Lost("ended without DISCONNECT".into())),
            Event::Read(Ok(bytes)) => self.spend(bytes),
            Event::Read(Err(error)) => return Err(Ending::Lost(error.to_string())),
        }
        // Not only after a read: packets may have waited for a PUBACK to leave or for room.
        self.digest().await?;
        self.watch_packet();
        Ok(())
    }

    async fn event(&mut self) -> Event<'a> {
        let shared = self.shared;
        let reads = self.listens();
        let most = usize::from(shared.limits.receive_maximum.get());
        tokio::select! {
            biased;
            () = self.lease.replaced() => Event::Replaced,
            () = stop(&mut self.stopping), if self.drain_until.is_none() => Event::Stop,
            _ = self.acknowledged.recv_many(&mut self.released, most) => Event::Released,
            permit = shared.ports.ingest.reserve(), if self.session.holds() => {
                permit.map_or(Event::JournalGone, Event::Room)
            }
            () = self.timer.as_mut() => Event::Timer,
            () = self.lease.settings_changed() => Event::SettingsChanged,
            read = self.stream.read_buf(self.frames.room()), if reads => Event::Read(read),
        }
    }

    /// How a connection ends that must make way.
    fn dismissal(&self) -> Ending {
        if !self.lease.expelled() {
            return Ending::Replaced;
        }
        let detail = "the device was revoked, or its credential replaced";
        Fault::new(RefusalReason::Revoked, detail).into()
    }

    /// Whether more is read from the device now.
    fn listens(&self) -> bool {
        self.reads() && self.listen_at.is_none()
    }

    /// Count what was read, and listen no more for a while when it was too much.
    fn spend(&mut self, bytes: usize) {
        self.listen_at = self.budget.spend(bytes, Instant::now());
        if let Some(until) = self.listen_at {
            self.look_at(until);
        }
    }

    /// Begin or end the time that a packet has to become whole. It runs only while the device is read.
    fn watch_packet(&mut self) {
        if !self.listens() || self.frames.first_byte().is_none() {
            self.begun = None;
        } else if self.begun.is_none() {
            let now = Instant::now();
            self.begun = Some(now);
            self.look_at(now + self.shared.limits.packet_timeout);
        }
    }

    /// Have the timer fire by then.
    fn look_at(&mut self, at: Instant) {
        if at < self.timer.deadline() {
            self.timer.as_mut().reset(at);
        }
    }

    fn reads(&self) -> bool {
        self.drain_until.is_none() && self.session.takes_input()
    }

    /// Pass on what the journal's queue has room for.
    pub(super) fn hand_over(&mut self) {
        while self.session.holds() {
            let Ok(permit) = self.shared.ports.ingest.try_reserve() else {
                return;
            };
            if let Some(publication) = self.session.hand_over() {
                permit.send(publication);
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Ending> {
        let out = &mut self.session.replies.out;
        if out.is_empty() {
            return Ok(());
        }
        let write = async {
            self.stream.write_all_buf(out).await?;
            self.stream.flush().await
        };
        let written = tokio::select! {
            biased;
            written = timeout(self.shared.limits.write_timeout, write) => written,
            () = self.lease.replaced() => return Err(self.dismissal()),
        };
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Ending::Lost(error.to_string())),
            Err(_) => {
                let detail = format!("nothing taken for {:?}", self.shared.limits.write_timeout);
                Err(Fault::new(RefusalReason::SlowReader, detail).into())
            }
        }
    }

    /// Take the packets that have come, as far as the session takes input.
    async fn digest(&mut self) -> Result<(), Ending> {
        while self.reads() {
            let Some(frame) = self.frames.take()? else {
                break;
            };
            self.heard = Instant::now();
            self.begun = None;
            let packet = packet::decode(self.session.replies.version(), &frame)?;
            let step = self.session.handle(packet)?;
            self.follow(step).await?;
            self.hand_over();
        }
        Ok(())
    }

    async fn follow(&mut self, step: Step) -> Result<(), Ending> {
        match step {
            Step::Done => {}
            Step::Noted(fault) => self.note(fault),
            Step::TimeAsked(request) => self.answer_time(&request),
            Step::Unsubscribed { packet_id, existed } => {
                self.store().await?;
                self.session.unsubscribed(packet_id, &existed);
            }
            Step::Subscribed(mut subscribed) => {
                if subscribed.fault.is_none() {
                    self.store().await?;
                }
                self.session.subscribed(&subscribed);
                if let Some(fault) = subscribed.fault.take() {
                    return Err(fault.into());
                }
                if subscribed.settings {
                    self.send_settings();
                }
            }
            Step::Left(disconnect) => {
                self.leave_later(disconnect)?;
                return Err(Ending::Left(disconnect));
            }
        }
        Ok(())
    }

    /// A goodbye may change the expiry, but not bring a session back that was to end (MQTT 5, 3.14.2.2.2).
    fn leave_later(&mut self, disconnect: Disconnect) -> Result<(), Fault> {
        let Some(expiry_seconds) = disconnect.expiry_seconds else {
            return Ok(());
        };
        if self.expiry_seconds == 0 && expiry_seconds > 0 {
            return Err(Fault::protocol(
                "DISCONNECT prolongs a session that has no expiry",
            ));
        }
        self.expiry_seconds = expiry_seconds.min(self.shared.limits.session_expiry_seconds_max);
        Ok(())
    }

    pub(super) fn note(&self, fault: Fault) {
        fault.report(
            Some(self.lease.device()),
            self.peer,
            &self.shared.ports.on_refusal,
        );
    }

    fn answer_time(&mut self, request: &[u8]) {
        let ports = &self.shared.ports;
        let reply = downlink::time_reply(request, ports.clock.event_now(), ports.time_uncertainty);
        let told = reply.and_then(|reply| self.session.tell(Channel::Time, reply));
        match told {
            Ok(true) => {}
            Ok(false) => {
                let detail = "a time request without a subscription to the reply";
                self.note(Fault::new(RefusalReason::TimeRequest, detail));
            }
            Err(fault) => self.note(fault),
        }
    }

    fn send_settings(&mut self) {
        if !self.session.subscriptions.settings {
            return;
        }
        let unreported = self.shared.ports.settings.unreported(self.lease.device());
        let told = match unreported {
            Ok(None) => return,
            Ok(Some(settings)) => self.session.tell(Channel::Settings, settings).map(drop),
            Err(error) => Err(Fault::new(RefusalReason::SettingsStore, error.to_string())),
        };
        if let Err(fault) = told {
            self.note(fault);
        }
    }

    fn start_draining(&mut self) {
        let until = Instant::now() + self.shared.limits.drain_timeout;
        self.drain_until = Some(until);
        self.timer.as_mut().reset(until);
    }

    /// The timer has fired: see what is due, and set it anew. It is not moved with every packet.
    fn tick(&mut self) -> Result<(), Ending> {
        let now = Instant::now();
        if let Some(until) = self.drain_until {
            self.timer.as_mut().reset(until);
            return if until <= now {
                Err(Ending::Stopped)
            } else {
                Ok(())
            };
        }
        let silent_at = self.heard + self.patience;
        if silent_at <= now {
            let detail = format!("nothing heard for {:?}", self.patience);
            return Err(Fault::new(RefusalReason::KeepAlive, detail).into());
        }
        self.listen_at = self.listen_at.filter(|at| now < *at);
        let late = self.begun.map(|at| at + self.shared.limits.packet_timeout);
        if late.is_some_and(|late| late <= now) {
            let allowed = self.shared.limits.packet_timeout;
            let detail = format!("a packet was not whole within {allowed:?}");
            return Err(Fault::new(RefusalReason::SlowWriter, detail).into());
        }
        if self.resend_at <= now {
            self.resend_at = now + self.shared.limits.settings_resend;
            self.send_settings();
        }
        let due = [self.listen_at, late].into_iter().flatten();
        let next = due.fold(silent_at.min(self.resend_at), Instant::min);
        self.timer.as_mut().reset(next);
        Ok(())
    }

    /// Make the session as it is now durable, if it is one that stays.
    async fn store(&self) -> Result<(), Fault> {
        if self.expiry_seconds == 0 {
            return Ok(());
        }
        let save = self
            .shared
            .ports
            .sessions
            .save(self.lease.device(), self.record(None));
        durably(self.shared, save).await
    }

    pub(super) const fn record(&self, left_at_ms: Option<i64>) -> SessionRecord {
        SessionRecord {
            subscriptions: self.session.subscriptions,
            expiry_seconds: self.expiry_seconds,
            left_at_ms,
        }
    }
}
