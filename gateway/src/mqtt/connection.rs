//! One session over one stream: what to wait for, in which order, and how it ends.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use mqtt_proto::v5::DisconnectReasonCode;
use protocol::topic::Channel;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::clock::wall_utc;
use crate::receipt::Publication;

use super::downlink;
use super::endpoint::Shared;
use super::frame::Frames;
use super::handshake::{Admitted, Rejected, Testament, durably, handshake};
use super::limit::{LINGER_BYTES_MAX, LINGER_TIMEOUT, READ_CHUNK_BYTES, WILL_TIMEOUT};
use super::packet::{self, Disconnect};
use super::persistence::SessionRecord;
use super::refusal::{Fault, RefusalReason};
use super::registry::Lease;
use super::session::{Session, Step};

/// Serve one client until it is gone.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    peer: SocketAddr,
    shared: &Shared,
    mut stopping: watch::Receiver<bool>,
) {
    let mut frames = Frames::new(shared.limits.connect_bytes_max.get());
    let outcome = tokio::select! {
        biased;
        () = stop(&mut stopping) => return,
        outcome = handshake(&mut stream, &mut frames, peer, shared) => outcome,
    };
    match outcome {
        Ok(admitted) => {
            frames.allow(shared.limits.packet_bytes_max.get());
            Connection::new(stream, frames, peer, shared, stopping, admitted)
                .run()
                .await;
        }
        Err(Some(rejected)) => turn_away(stream, rejected, peer, shared).await,
        Err(None) => tracing::debug!(%peer, "mqtt: closed without a packet"),
    }
}

async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    mut rejected: Rejected,
    peer: SocketAddr,
    shared: &Shared,
) {
    rejected
        .fault
        .report(rejected.device.as_ref(), peer, &shared.ports.on_refusal);
    let _ = timeout(LINGER_TIMEOUT, stream.write_all_buf(&mut rejected.reply)).await;
    linger(&mut stream).await;
}

/// Close our side, then read on for a moment: a reset would take the reason away from the client.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let drain = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut rest = [0; READ_CHUNK_BYTES];
        let mut drained = 0;
        while drained < LINGER_BYTES_MAX {
            match stream.read(&mut rest).await {
                Ok(0) | Err(_) => return,
                Ok(count) => drained += count,
            }
        }
    };
    let _ = timeout(LINGER_TIMEOUT, drain).await;
}

/// Done when the endpoint stops.
async fn stop(stopping: &mut watch::Receiver<bool>) {
    // An error says that the endpoint itself is gone.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

struct Connection<'a, S> {
    stream: S,
    frames: Frames,
    peer: SocketAddr,
    shared: &'a Shared,
    stopping: watch::Receiver<bool>,
    session: Session,
    acknowledged: mpsc::Receiver<u16>,
    /// Packet ids just released; kept for its room.
    released: Vec<u16>,
    lease: Lease,
    patience: Duration,
    /// When the last packet was taken.
    heard: Instant,
    /// When unreported settings are sent again.
    resend_at: Instant,
    /// Set when the endpoint stops: until then owed PUBACKs are waited for.
    drain_until: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    expiry_seconds: u32,
    stored: bool,
    will: Option<Testament>,
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
enum Ending {
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
    fn new(
        stream: S,
        frames: Frames,
        peer: SocketAddr,
        shared: &'a Shared,
        stopping: watch::Receiver<bool>,
        admitted: Admitted,
    ) -> Self {
        let now = Instant::now();
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
            expiry_seconds: admitted.expiry_seconds,
            stored: admitted.stored,
            will: admitted.will,
        }
    }

    async fn run(mut self) {
        tracing::debug!(device = %self.lease.device(), peer = %self.peer, "mqtt: connected");
        self.send_settings();
        let ending = loop {
            if let Err(ending) = self.turn().await {
                break ending;
            }
        };
        self.part(ending).await;
    }

    /// Wait for one event and act on it.
    async fn turn(&mut self) -> Result<(), Ending> {
        self.hand_over();
        self.flush().await?;
        if self.drain_until.is_some() && self.session.is_settled() {
            return Err(Ending::Stopped);
        }
        let event = self.event().await;
        if !self.session.takes_input() {
            // Nobody listens to the client now, so its silence does not count.
            self.heard = Instant::now();
        }
        match event {
            Event::Replaced => return Err(Ending::Replaced),
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
                self.digest().await?;
            }
            Event::Timer => self.tick()?,
            Event::SettingsChanged => self.send_settings(),
            Event::Read(Ok(0)) => return Err(Ending::Lost("ended without DISCONNECT".into())),
            Event::Read(Ok(_)) => self.digest().await?,
            Event::Read(Err(error)) => return Err(Ending::Lost(error.to_string())),
        }
        Ok(())
    }

    async fn event(&mut self) -> Event<'a> {
        let shared = self.shared;
        let reads = self.reads();
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

    fn reads(&self) -> bool {
        self.drain_until.is_none() && self.session.takes_input()
    }

    /// Pass on what the journal's queue has room for.
    fn hand_over(&mut self) {
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
            () = self.lease.replaced() => return Err(Ending::Replaced),
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
            let packet = packet::decode(self.session.replies.version(), &frame)?;
            let step = self.session.handle(packet)?;
            self.follow(step).await?;
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

    fn note(&self, fault: Fault) {
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
        let Some(settings) = self.shared.ports.settings.unreported(self.lease.device()) else {
            return;
        };
        if let Err(fault) = self.session.tell(Channel::Settings, settings) {
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
        if self.resend_at <= now {
            self.resend_at = now + self.shared.limits.settings_resend;
            self.send_settings();
        }
        self.timer.as_mut().reset(silent_at.min(self.resend_at));
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

    const fn record(&self, left_at_ms: Option<i64>) -> SessionRecord {
        SessionRecord {
            subscriptions: self.session.subscriptions,
            expiry_seconds: self.expiry_seconds,
            left_at_ms,
        }
    }

    /// Say why, leave the session in order, and speak the will.
    async fn part(mut self, ending: Ending) {
        let wills = !matches!(
            &ending,
            Ending::Left(Disconnect { normal: true, .. }) | Ending::Stopped
        );
        let replaced = matches!(ending, Ending::Replaced);
        let refused = matches!(ending, Ending::Refused(_));
        self.say_goodbye(ending);
        let out = &mut self.session.replies.out;
        let _ = timeout(LINGER_TIMEOUT, self.stream.write_all_buf(out)).await;
        if refused {
            tokio::select! {
                () = self.lease.replaced() => {}
                () = linger(&mut self.stream) => {}
            }
        } else {
            let _ = timeout(LINGER_TIMEOUT, self.stream.shutdown()).await;
        }
        if let Err(fault) = self.leave(replaced).await {
            self.note(fault);
        }
        if let Some(will) = self.will.take().filter(|_| wills) {
            self.speak(will).await;
        }
    }

    fn say_goodbye(&mut self, ending: Ending) {
        let device = self.lease.device();
        match ending {
            Ending::Left(_) => tracing::debug!(%device, "mqtt: left"),
            Ending::Lost(why) => tracing::debug!(%device, "mqtt: lost: {why}"),
            Ending::Stopped => self.session.replies.goodbye(
                DisconnectReasonCode::ServerShuttingDown,
                "the gateway stops",
            ),
            Ending::Replaced => self.session.replies.goodbye(
                DisconnectReasonCode::SessionTakenOver,
                "a newer connection has taken over",
            ),
            Ending::Refused(fault) => {
                self.session
                    .replies
                    .goodbye(fault.reason.disconnect_code(), &fault.detail);
                self.note(fault);
            }
        }
    }

    /// From now on the session's expiry counts, or it is over. A session taken over goes on.
    async fn leave(&self, replaced: bool) -> Result<(), Fault> {
        let sessions = &self.shared.ports.sessions;
        let device = self.lease.device();
        if self.expiry_seconds > 0 && !replaced {
            let record = self.record(Some(wall_utc().get()));
            return durably(self.shared, sessions.save(device, record)).await;
        }
        if self.expiry_seconds == 0 && self.stored {
            return durably(self.shared, sessions.remove(device)).await;
        }
        Ok(())
    }

    /// Publish the will when its delay is over or the session ends, but not when the session is resumed before. A
    /// stop of the gateway says nothing about the device.
    async fn speak(mut self, will: Testament) {
        // The stream is closed for good while the will waits.
        drop(self.stream);
        if !will.delay.is_zero() {
            tokio::select! {
                biased;
                () = self.lease.replaced() => {
                    if !self.lease.replaced_by_clean_start() {
                        return;
                    }
                }
                () = stop(&mut self.stopping) => return,
                () = tokio::time::sleep(will.delay) => {}
            }
        }
        let sent = timeout(
            WILL_TIMEOUT,
            self.shared.ports.ingest.send(will.publication),
        )
        .await;
        if !matches!(sent, Ok(Ok(()))) {
            let fault = Fault::new(RefusalReason::WillDropped, "no room towards the journal");
            fault.report(
                Some(self.lease.device()),
                self.peer,
                &self.shared.ports.on_refusal,
            );
        }
    }
}
