//! One connection to a broker, from CONNECT to its end.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::link::{self, Events, Message, Requests, Turn};
use super::owed::Owed;
use super::{Bridge, inlet, stopped};
use crate::account::Reason;
use crate::deliver::sink::mqtt::Version;
use crate::mqtt::refusal::quote;
use crate::receipt::{Due, Origin, Publication};
use crate::store::broker::{Memory, Session};
use crate::store::space::Room;
use crate::store::{Store, StoreError};

/// How long an orderly stop waits for what the journal has taken to be durable and acknowledged.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Messages that are taken beyond `inflight_max` from a broker that sends more ahead, against what it was told
/// (mosquitto 2.0.11 sends all it has when a session is resumed) or because 3.1.1 cannot tell it: rumqttc
/// reads nine packets for an acknowledgement that it writes. Beyond it nothing is taken: what was taken is
/// acknowledged, then the connection is made anew and the rest comes again, in order. At 60 KiB each 15 MiB.
const OVERRUN_MAX_MESSAGES: usize = 256;

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The gateway stops.
    Stopped,
    /// The broker has sent more than may be taken, and has an acknowledgement of what was: connect anew.
    Overrun,
    /// Something failed; it is tried again.
    Failed(String),
}

/// A turn under way: the events come back with what happened.
type Turning = Pin<Box<dyn Future<Output = (Events, Result<Turn, String>)> + Send>>;

/// What belongs to one connection, and ends with it.
pub(super) struct Generation<'a> {
    bridge: &'a Bridge,
    requests: Requests,
    owed: Owed,
    owed_max: usize,
    /// Acknowledgements that rumqttc has and has not written.
    unwritten: usize,
    /// Receipts of this connection give their packet ids back here; one of an earlier connection holds the
    /// other end of a channel that is gone.
    acknowledge: mpsc::Sender<u16>,
    memory: Memory,
    /// Whether the broker has confirmed the subscription.
    is_subscribed: bool,
    /// Whether more came than may be taken: nothing more is.
    is_overrun: bool,
    /// Set when an orderly stop began: until when it waits.
    draining_until: Option<Instant>,
}

impl<'a> Generation<'a> {
    /// Connect and take messages until the connection ends or the gateway stops.
    pub(super) async fn run(bridge: &'a Bridge, stop: &mut watch::Receiver<bool>) -> End {
        if *stop.borrow() {
            return End::Stopped;
        }
        let memory = match Memory::load(&bridge.ports.store, &bridge.name) {
            Ok(memory) => memory,
            Err(error) => return End::Failed(error.to_string()),
        };
        let ours = session(bridge);
        // Under another prefix the broker's session holds subscriptions that nobody wants any more.
        let before = memory.session.as_ref();
        let clean = before.is_some_and(|kept| kept.is_kept_with(&ours) && *kept != ours);
        let (requests, events) = link::open(&bridge.target, clean);
        let inflight_max = usize::from(bridge.target.inflight_max);
        let owed_max = inflight_max + OVERRUN_MAX_MESSAGES;
        let (acknowledge, released) = mpsc::channel(owed_max);
        let mut generation = Self {
            bridge,
            requests,
            owed: Owed::new(inflight_max),
            owed_max,
            unwritten: 0,
            acknowledge,
            memory,
            is_subscribed: false,
            is_overrun: false,
            draining_until: None,
        };
        let served = generation.serve(events, released, stop).await;
        let parted = generation.part().await;
        match served {
            Ok(end) => end,
            Err(reason) => End::Failed(parted.err().unwrap_or(reason)),
        }
    }

    async fn serve(
        &mut self,
        events: Events,
        mut released: mpsc::Receiver<u16>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<End, String> {
        let ingest = self.bridge.ports.ingest.clone();
        let mut turning: Turning = Box::pin(events.turn());
        loop {
            if self.draining_until.is_some() && self.owed.len() == 0 {
                self.leave(turning).await;
                return Ok(End::Stopped);
            }
            if self.is_overrun && self.owed.len() == 0 && self.unwritten == 0 {
                return Ok(End::Overrun);
            }
            let drained_by = self.draining_until.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(drained_by), if self.draining_until.is_some() => {
                    return Ok(End::Stopped);
                }
                () = stopped(stop), if self.draining_until.is_none() => {
                    self.owed.drop_held();
                    self.draining_until = Some(Instant::now() + DRAIN_TIMEOUT);
                }
                Some(packet_id) = released.recv() => self.owed.release(packet_id),
                permit = ingest.reserve(), if self.owed.holds() => {
                    let Ok(permit) = permit else {
                        return Ok(End::Stopped); // The committer has ended, and with it the gateway.
                    };
                    if let Some(publication) = self.owed.hand_over() {
                        permit.send(publication);
                    }
                }
                (events, turn) = &mut turning, if self.takes_input() => {
                    self.handle(turn?).await?;
                    turning = Box::pin(events.turn());
                }
            }
            self.acknowledge_in_order();
        }
    }

    /// An MQTT 5 broker knows the bound and is read at it, so that keep-alive goes on; one that sends more all
    /// the same (mosquitto 2.0.11 does), and one of 3.1.1, waits beyond it. What is acknowledged is always
    /// written, and rumqttc may read as it writes: see [`OVERRUN_MAX_MESSAGES`].
    fn takes_input(&self) -> bool {
        let inflight_max = usize::from(self.bridge.target.inflight_max);
        self.unwritten > 0
            || match self.bridge.target.version {
                Version::V5 => self.owed.len() <= inflight_max,
                Version::V4 => self.owed.len() < inflight_max,
            }
    }

    async fn handle(&mut self, turn: Turn) -> Result<(), String> {
        match turn {
            Turn::Connected { session_present } => self.connected(session_present).await,
            Turn::Subscribed(granted) => {
                granted?;
                self.subscribed().await
            }
            Turn::Message(message) => self.take(message),
            Turn::Acknowledged => {
                self.unwritten = self.unwritten.saturating_sub(1);
                Ok(())
            }
            Turn::Left | Turn::Nothing => Ok(()),
        }
    }

    /// The broker has taken the connection; a session that should be there and is not is a loss, which is on
    /// disk before anything else happens.
    async fn connected(&mut self, session_present: bool) -> Result<(), String> {
        let bridge = self.bridge;
        let expected = self.memory.session.as_ref() == Some(&session(bridge));
        if expected && !session_present {
            self.memory.lose(bridge.ports.clock.event_now().get());
            tracing::error!(
                broker = bridge.name,
                losses = self.memory.losses,
                "the broker had lost the session: what came to it since the last connection may be lost, \
                 how much is not known"
            );
            self.remember().await?;
        }
        self.requests
            .subscribe(inlet::filters(&bridge.target.prefix))?;
        if expected && session_present {
            // The session holds the subscriptions, and what waits in it comes before the answer to this one.
            self.subscribed().await?;
        }
        Ok(())
    }

    async fn subscribed(&mut self) -> Result<(), String> {
        if self.is_subscribed {
            return Ok(());
        }
        let bridge = self.bridge;
        let now = bridge.ports.clock.event_now();
        self.memory.session = Some(session(bridge));
        self.memory.seen_at_ms = now.get();
        self.remember().await?;
        self.is_subscribed = true;
        tracing::info!(broker = bridge.name, at = ?bridge.target, "subscribed at the broker");
        bridge.standing.change(|state| {
            state.connected_since = Some(now);
            state.connections += 1;
        });
        Ok(())
    }

    /// The session was there until now.
    async fn part(&mut self) -> Result<(), String> {
        if !self.is_subscribed {
            return Ok(());
        }
        self.memory.seen_at_ms = self.bridge.ports.clock.event_now().get();
        self.remember().await
    }

    /// Off the task: a barrier takes as long as the disk does.
    async fn remember(&self) -> Result<(), String> {
        let (store, name) = (self.bridge.ports.store.clone(), self.bridge.name.clone());
        let memory = self.memory.clone();
        let saved = tokio::task::spawn_blocking(move || save(&store, &name, &memory)).await;
        let failed = |cause: String| format!("the session is not remembered: {cause}");
        saved
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))
    }

    fn take(&mut self, message: Message) -> Result<(), String> {
        if self.draining_until.is_some() || self.is_overrun {
            return Ok(()); // Not acknowledged: it comes again.
        }
        let repeated = |packet_id| self.owed.is_repeated(packet_id);
        if message.packet_id.is_some_and(repeated) {
            return Ok(());
        }
        if message.packet_id.is_some() && self.owed.len() >= self.owed_max {
            self.is_overrun = true;
            return Ok(());
        }
        self.bridge.standing.change(|state| state.messages += 1);
        let Bridge { target, ports, .. } = self.bridge;
        let judged = inlet::judge(&target.prefix, &ports.guard, ports.vouched, &message);
        match judged.map_err(|error| error.to_string())? {
            Ok(_) if message.packet_id.is_none() && self.owed.is_crowded() => {
                let detail = "the way to the journal is full".to_owned();
                self.refuse(&message, Reason::QosZeroDropped, detail);
            }
            Ok(topic) => {
                let channel = &self.acknowledge;
                let due = message.packet_id.map(|id| Due::new(id, channel.clone()));
                let publication = Publication {
                    topic,
                    payload: message.payload,
                    origin: Origin::Broker,
                    due,
                };
                self.owed.hold(message.packet_id, publication);
            }
            Err(refused) => {
                (ports.on_refused)(&refused);
                if let Some(packet_id) = message.packet_id {
                    self.owed.refuse(packet_id);
                }
            }
        }
        Ok(())
    }

    fn refuse(&self, message: &Message, reason: Reason, detail: String) {
        (self.bridge.ports.on_refused)(&inlet::Refused {
            reason,
            device: None,
            topic: quote(&message.topic),
            detail,
        });
    }

    /// Acknowledge what is released, in its turn and as far as there is room; the rest goes after a later turn.
    fn acknowledge_in_order(&mut self) {
        while let Some(packet_id) = self.owed.due() {
            if !self.requests.acknowledge(packet_id) {
                break;
            }
            self.owed.acknowledged();
            self.unwritten += 1;
        }
        let unacknowledged = self.owed.len();
        let standing = &self.bridge.standing;
        standing.change(|state| state.unacknowledged = unacknowledged);
    }

    /// Say goodbye behind the last acknowledgement, and wait until it is written.
    async fn leave(&self, mut turning: Turning) {
        if !self.is_subscribed {
            return;
        }
        self.requests.leave();
        let until = self.draining_until.unwrap_or_else(Instant::now);
        while let Ok((events, turn)) = tokio::time::timeout_at(until, &mut turning).await {
            // An error is an end too: what was not acknowledged comes again.
            match turn {
                Err(_) | Ok(Turn::Left) => break,
                Ok(_) => turning = Box::pin(events.turn()),
            }
        }
    }
}

/// The session that the broker keeps for us, as configured.
fn session(bridge: &Bridge) -> Session {
    let target = &bridge.target;
    Session {
        host: target.host.clone(),
        port: target.port,
        client_id: target.client_id.clone(),
        prefix: target.prefix.clone(),
    }
}

fn save(store: &Store, name: &str, memory: &Memory) -> Result<(), StoreError> {
    match store.room() {
        Room::Starved(shortage) => Err(StoreError::NoSpace { shortage }),
        Room::Enough | Room::Full(_) => memory.save(store, name),
    }
}
