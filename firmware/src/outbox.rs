//! What to publish next.
//!
//! In this order: birth, answers to settings, a request for the time, alarms, routine readings. A
//! window of messages may be open; each is known by its token until the link confirms it or is gone.

use protocol::downlink::Settings;
use protocol::key::Seq;
use protocol::status::{Birth, SettingsAck, Status};
use protocol::topic::Channel;
use protocol::units::UptimeMs;

use crate::config::Config;
use crate::port::{ConnectionId, Entropy, MESSAGE_MAX_BYTES, Message, Token, WINDOW_MESSAGES};
use crate::queue::counter::Counter;
use crate::queue::{BATCH_RECORDS_MAX, Lane, Queues, ROUTINE_IN_FLIGHT_MAX};
use crate::sense::plan::after;
use crate::time::Timekeeper;

/// Open messages that routine readings may take, so that an alarm always finds a place.
pub const ROUTINE_WINDOW_MESSAGES: usize = WINDOW_MESSAGES - 2;

type Payload = heapless::Vec<u8, MESSAGE_MAX_BYTES>;

/// Open messages and what is still to be said.
#[derive(Debug)]
pub struct Outbox {
    connection: Option<ConnectionId>,
    open: heapless::Vec<Open, WINDOW_MESSAGES>,
    next_token: u32,
    birth: bool,
    /// The newest answer; an older one that was not sent is of no use to anyone.
    answer: Option<SettingsAck>,
    /// Records before this number do not wait for a full batch.
    flush: Option<Seq>,
}

/// A message that is not confirmed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    token: Token,
    content: Content,
}

/// What has to be said again when a message is lost, beyond the records, which go back to their queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Said anew by every connection, or not worth repeating.
    Passing,
    Answer(SettingsAck),
    Alarms,
    Routine,
}

/// Where messages are made from.
#[derive(Debug)]
pub struct Speaker<'a> {
    /// Who speaks.
    pub config: &'a Config,
    /// In force.
    pub settings: &'a Settings,
    /// Names the records.
    pub counter: &'a mut Counter,
    /// Keeps the records.
    pub queues: &'a mut Queues,
    /// Wants the time.
    pub timekeeper: &'a mut Timekeeper,
}

impl Outbox {
    /// Nothing to say, nobody to say it to.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            connection: None,
            open: heapless::Vec::new(),
            next_token: 0,
            birth: false,
            answer: None,
            flush: None,
        }
    }

    /// A new connection: say who is there, and what has piled up.
    pub fn connected(&mut self, connection: ConnectionId, upcoming: Seq) {
        self.disconnected();
        self.connection = Some(connection);
        self.birth = true;
        self.flush(upcoming);
    }

    /// No message will be confirmed any more.
    pub fn disconnected(&mut self) {
        self.connection = None;
        for open in &self.open {
            if let Content::Answer(ack) = open.content {
                self.answer.get_or_insert(ack);
            }
        }
        self.open.clear();
    }

    /// A message arrived; false when it is none of those that are open.
    pub fn confirmed(&mut self, token: Token) -> bool {
        let place = self.open.iter().position(|open| open.token == token);
        place.map(|place| self.open.swap_remove(place)).is_some()
    }

    /// Settings were answered.
    pub const fn answer(&mut self, ack: SettingsAck) {
        self.answer = Some(ack);
    }

    /// What is queued before `upcoming` does not wait for a full batch.
    pub const fn flush(&mut self, upcoming: Seq) {
        self.flush = Some(upcoming);
    }

    /// The next message, if there is a connection, room in the window, and something to say.
    pub fn next<E: Entropy>(
        &mut self,
        speaker: &mut Speaker<'_>,
        entropy: &mut E,
        now: UptimeMs,
    ) -> Option<Message> {
        let connection = self.connection?;
        if self.open.is_full() {
            return None;
        }
        let token = Token(self.next_token);
        let (channel, content, payload) = self.compose(speaker, entropy, token, now)?;
        self.next_token = self.next_token.wrapping_add(1);
        let _ = self.open.push(Open { token, content });
        Some(Message {
            connection,
            token,
            channel,
            payload,
        })
    }

    /// When `next` has something to say if nothing happens before.
    #[must_use]
    pub fn deadline(
        &self,
        settings: &Settings,
        queues: &Queues,
        timekeeper: &Timekeeper,
    ) -> Option<UptimeMs> {
        self.connection?;
        if self.open.is_full() {
            return None;
        }
        if self.birth || self.answer.is_some() || queues.waiting(Lane::Alarms) > 0 {
            return Some(UptimeMs::saturating(0));
        }
        let routine = self.routine_at(settings, queues);
        Some(routine.map_or(timekeeper.ask_at(), |at| at.min(timekeeper.ask_at())))
    }

    fn compose<E: Entropy>(
        &mut self,
        speaker: &mut Speaker<'_>,
        entropy: &mut E,
        token: Token,
        now: UptimeMs,
    ) -> Option<(Channel, Content, Payload)> {
        if core::mem::take(&mut self.birth) {
            let payload = encoded(|buffer| speaker.birth().encode(buffer).ok())?;
            return Some((Channel::Status, Content::Passing, payload));
        }
        if let Some(ack) = self.answer.take() {
            let payload = encoded(|buffer| ack.encode(buffer).ok())?;
            return Some((Channel::Ack, Content::Answer(ack), payload));
        }
        if speaker.timekeeper.ask_at() <= now {
            let request = speaker.timekeeper.ask(entropy.random(), now);
            let payload = encoded(|buffer| request.encode(buffer).ok())?;
            return Some((Channel::TimeRequest, Content::Passing, payload));
        }
        if let Some(payload) =
            speaker
                .queues
                .batch(Lane::Alarms, token, BATCH_RECORDS_MAX, speaker.counter)
        {
            return Some((Channel::Alarms, Content::Alarms, payload));
        }
        if self.routine_at(speaker.settings, speaker.queues)? > now {
            return None;
        }
        speaker.queues.tell_losses(speaker.counter, now);
        let most = batch_readings(speaker.settings);
        let payload = speaker
            .queues
            .batch(Lane::Routine, token, most, speaker.counter)?;
        Some((Channel::Readings, Content::Routine, payload))
    }

    /// When the next routine batch is due; nothing when none waits or none may be opened.
    fn routine_at(&self, settings: &Settings, queues: &Queues) -> Option<UptimeMs> {
        let (oldest, since) = queues.oldest_routine()?;
        let waiting = queues.waiting(Lane::Routine);
        let batch = batch_readings(settings);
        let room = ROUTINE_IN_FLIGHT_MAX.saturating_sub(queues.routine_in_flight());
        let open = self.open.iter();
        let open = open.filter(|open| open.content == Content::Routine).count();
        if open >= ROUTINE_WINDOW_MESSAGES || room < waiting.min(batch) {
            return None;
        }
        if waiting >= batch || self.flush.is_some_and(|before| oldest < before) {
            return Some(UptimeMs::saturating(0));
        }
        Some(after(since, settings.publish_interval))
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Speaker<'_> {
    fn birth(&self) -> Status {
        let pending = self.queues.counters().records.pending;
        Status::Birth(Birth {
            version: self.config.version,
            hardware: self.config.hardware.clone(),
            epoch: self.counter.epoch(),
            boot: self.counter.boot(),
            cause: self.config.cause,
            settings_version: self.settings.version,
            pending: u32::try_from(pending).unwrap_or(u32::MAX),
        })
    }
}

fn batch_readings(settings: &Settings) -> usize {
    usize::from(settings.batch_readings).clamp(1, BATCH_RECORDS_MAX)
}

/// What `encode` wrote; the buffer holds the longest of all messages.
fn encoded(encode: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<Payload> {
    let mut buffer = [0; MESSAGE_MAX_BYTES];
    let length = encode(&mut buffer)?;
    Payload::from_slice(buffer.get(..length)?).ok()
}
