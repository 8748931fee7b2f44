//! The state of one connected session: pure, packets in, publications and replies out.
//!
//! ```text
//! PUBLISH QoS 1 -> pending [7, 8, 9]      held [publication, ..] -> journal
//!                   released(8): nothing   (8 waits for 7: PUBACKs keep the order of arrival)
//!                   released(7): PUBACK 7, PUBACK 8
//! ```
//!
//! A packet id that is never released is never acknowledged; dropping the session drops all that it owes.

use std::collections::VecDeque;

use mqtt_proto::{Pid, QosPid, TopicFilter};
use protocol::key::DeviceId;
use protocol::topic::{Channel, Topic};
use tokio::sync::mpsc;

use crate::receipt::{Due, Origin, Publication};

use super::identity;
use super::packet::{Disconnect, Incoming, Publish, Subscribe, Unsubscribe, Version};
use super::persistence::Subscriptions;
use super::refusal::{Fault, RefusalReason};
use super::reply::{Grant, Replies};
use super::shelf::Shelf;

/// A connected session.
#[derive(Debug)]
pub(crate) struct Session {
    device: DeviceId,
    /// Most PUBACKs owed.
    receive_maximum: usize,
    acknowledge: mpsc::Sender<u16>,
    /// PUBACKs owed, in the order of arrival; at most `receive_maximum`.
    pending: VecDeque<Pending>,
    /// Publications without a place in the journal's queue yet: at most `receive_maximum` with `QoS` 1, and
    /// `QoS` 0 only while fewer than that wait.
    held: Shelf,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) replies: Replies,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pending {
    packet_id: u16,
    released: bool,
}

/// What a packet asks of the connection around the session.
#[derive(Debug)]
pub(crate) enum Step {
    /// Nothing more.
    Done,
    /// Make the subscriptions durable, then [`Session::subscribed`].
    Subscribed(Subscribed),
    /// Make the subscriptions durable, then [`Session::unsubscribed`].
    Unsubscribed { packet_id: u16, existed: Vec<bool> },
    /// Answer with [`Session::tell`] on the time channel, at once or never.
    TimeAsked(Vec<u8>),
    /// Count this; the connection goes on.
    Noted(Fault),
    /// The client says goodbye.
    Left(Disconnect),
}

/// The outcome of a SUBSCRIBE.
#[derive(Debug)]
pub(crate) struct Subscribed {
    packet_id: u16,
    grants: Vec<Grant>,
    /// Why a filter was refused, and with it the connection.
    pub(crate) fault: Option<Fault>,
    /// Whether settings are among the filters.
    pub(crate) settings: bool,
}

impl Session {
    /// `acknowledge` takes at least `receive_maximum` packet ids.
    pub(crate) fn new(
        device: DeviceId,
        receive_maximum: usize,
        acknowledge: mpsc::Sender<u16>,
        subscriptions: Subscriptions,
        replies: Replies,
        held: Shelf,
    ) -> Self {
        Self {
            device,
            receive_maximum,
            acknowledge,
            pending: VecDeque::new(),
            held,
            subscriptions,
            replies,
        }
    }

    /// Whether the next packet may be looked at. MQTT 5 bounds what the client sends, so reading goes on; 3.1.1
    /// has no such bound, so reading stops while as many PUBACKs are owed as may be. It stops in both while all
    /// sessions together hold too much.
    pub(crate) fn takes_input(&self) -> bool {
        if self.held.is_crowded() {
            return false;
        }
        match self.replies.version() {
            Version::V5 => true,
            Version::V311 => self.pending.len() < self.receive_maximum,
        }
    }

    /// Whether nothing is owed or held.
    pub(crate) fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.held.is_empty()
    }

    /// Whether a publication waits for a place in the journal's queue.
    pub(crate) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// The publication that has waited longest.
    pub(crate) fn hand_over(&mut self) -> Option<Publication> {
        self.held.take()
    }

    /// Take one packet.
    ///
    /// # Errors
    /// When it ends the connection, and why.
    pub(crate) fn handle(&mut self, packet: Incoming) -> Result<Step, Fault> {
        match packet {
            Incoming::Publish(publish) => self.publish(publish),
            Incoming::Subscribe(subscribe) => self.subscribe(&subscribe),
            Incoming::Unsubscribe(unsubscribe) => Ok(self.unsubscribe(&unsubscribe)),
            Incoming::Disconnect(disconnect) => Ok(Step::Left(disconnect)),
            Incoming::StrayPuback => Ok(Step::Done),
            Incoming::Ping => {
                self.replies.pong();
                Ok(Step::Done)
            }
        }
    }

    /// The journal has released this packet id.
    pub(crate) fn released(&mut self, packet_id: u16) {
        let owed = |pending: &&mut Pending| pending.packet_id == packet_id && !pending.released;
        if let Some(pending) = self.pending.iter_mut().find(owed) {
            pending.released = true;
        }
        self.acknowledge_in_order();
    }

    /// The subscriptions are durable as far as they have to be: say so.
    pub(crate) fn subscribed(&mut self, subscribed: &Subscribed) {
        if let Ok(packet_id) = Pid::try_from(subscribed.packet_id) {
            self.replies.suback(packet_id, &subscribed.grants);
        }
    }

    /// The subscriptions are durable as far as they have to be: say so.
    pub(crate) fn unsubscribed(&mut self, packet_id: u16, existed: &[bool]) {
        if let Ok(packet_id) = Pid::try_from(packet_id) {
            self.replies.unsuback(packet_id, existed);
        }
    }

    /// Send to the device, if it listens. Says whether it does.
    ///
    /// # Errors
    /// When the message is larger than the client takes.
    pub(crate) fn tell(&mut self, channel: Channel, payload: Vec<u8>) -> Result<bool, Fault> {
        if !self.listens(channel) {
            return Ok(false);
        }
        let topic = Topic::new(self.device.clone(), channel);
        self.replies.publish(&topic.name(), payload).map(|()| true)
    }

    fn publish(&mut self, publish: Publish) -> Result<Step, Fault> {
        offered(&publish)?;
        let packet_id = publish.qos.pid().map(Pid::value);
        if let Some(packet_id) = packet_id {
            if self.is_repeated(packet_id, publish.dup)? {
                return Ok(Step::Done);
            }
            if self.pending.len() >= self.receive_maximum {
                let detail = format!(
                    "more than {} unacknowledged publications",
                    self.receive_maximum
                );
                return Err(Fault::new(RefusalReason::ReceiveMaximum, detail).about(&publish.topic));
            }
        }
        let channel = identity::publishes(&self.device, &publish.topic)?;
        if channel == Channel::TimeRequest {
            return Ok(self.time_asked(packet_id, publish.payload.into()));
        }
        Ok(self.hold(channel, packet_id, publish.payload.into()))
    }

    /// Whether this is a packet that is still owed its PUBACK, sent again. 3.1.1 clients may do that on a timer;
    /// MQTT 5 forbids it, and nobody may reuse a packet id in flight.
    fn is_repeated(&self, packet_id: u16, dup: bool) -> Result<bool, Fault> {
        if !self
            .pending
            .iter()
            .any(|pending| pending.packet_id == packet_id)
        {
            return Ok(false);
        }
        if dup && self.replies.version() == Version::V311 {
            return Ok(true);
        }
        Err(Fault::protocol(format!(
            "packet id {packet_id} is still in flight"
        )))
    }

    fn hold(&mut self, channel: Channel, packet_id: Option<u16>, payload: Vec<u8>) -> Step {
        let topic = Topic::new(self.device.clone(), channel);
        if packet_id.is_none() && self.held.len() >= self.receive_maximum {
            let detail = "QoS 0 while the way to the journal is full";
            return Step::Noted(
                Fault::new(RefusalReason::QosZeroDropped, detail).about(&topic.name()),
            );
        }
        let due = packet_id.map(|packet_id| {
            self.pending.push_back(Pending {
                packet_id,
                released: false,
            });
            Due::new(packet_id, self.acknowledge.clone())
        });
        self.held.put(Publication {
            topic,
            payload,
            origin: Origin::Endpoint,
            due,
        });
        Step::Done
    }

    /// A time request is no reading: it needs no journal, only its turn.
    fn time_asked(&mut self, packet_id: Option<u16>, payload: Vec<u8>) -> Step {
        if let Some(packet_id) = packet_id {
            self.pending.push_back(Pending {
                packet_id,
                released: true,
            });
            self.acknowledge_in_order();
        }
        Step::TimeAsked(payload)
    }

    fn acknowledge_in_order(&mut self) {
        while let Some(first) = self.pending.pop_front_if(|first| first.released) {
            self.replies.puback(first.packet_id);
        }
    }

    fn subscribe(&mut self, subscribe: &Subscribe) -> Result<Step, Fault> {
        if subscribe.identifier {
            let detail = "subscription identifiers are not available";
            return Err(Fault::new(RefusalReason::SubscriptionIdentifier, detail));
        }
        let mut wanted = self.subscriptions;
        let mut subscribed = Subscribed {
            packet_id: subscribe.packet_id,
            grants: Vec::with_capacity(subscribe.filters.len()),
            fault: None,
            settings: false,
        };
        for filter in &subscribe.filters {
            match self.filter(filter) {
                Ok(channel) => {
                    if let Some(switch) = wanted.switch(channel) {
                        *switch = true;
                    }
                    subscribed.settings |= channel == Channel::Settings;
                    subscribed.grants.push(Grant::Granted);
                }
                // MQTT 5 names what is not offered in DISCONNECT, not in SUBACK (3.2.2.3.11, 3.2.2.3.13).
                Err(fault) if self.replies.version() == Version::V5 && is_unavailable(&fault) => {
                    return Err(fault);
                }
                Err(fault) => {
                    subscribed.grants.push(match fault.reason {
                        RefusalReason::ForeignTopic => Grant::Foreign,
                        _ => Grant::Unknown,
                    });
                    subscribed.fault.get_or_insert(fault);
                }
            }
        }
        if subscribed.fault.is_none() {
            self.subscriptions = wanted;
        }
        Ok(Step::Subscribed(subscribed))
    }

    fn filter(&self, filter: &TopicFilter) -> Result<Channel, Fault> {
        if filter.starts_with("$share/") {
            let detail = "shared subscriptions are not available";
            return Err(Fault::new(RefusalReason::SharedSubscription, detail).about(filter));
        }
        if filter.contains(['+', '#']) {
            let detail = "wildcard subscriptions are not available";
            return Err(Fault::new(RefusalReason::Wildcard, detail).about(filter));
        }
        identity::subscribes(&self.device, filter)
    }

    fn unsubscribe(&mut self, unsubscribe: &Unsubscribe) -> Step {
        let mut existed = Vec::with_capacity(unsubscribe.filters.len());
        for filter in &unsubscribe.filters {
            let channel = identity::subscribes(&self.device, filter).ok();
            let switch = channel.and_then(|channel| self.subscriptions.switch(channel));
            existed.push(switch.is_some_and(std::mem::take));
        }
        Step::Unsubscribed {
            packet_id: unsubscribe.packet_id,
            existed,
        }
    }

    fn listens(&self, channel: Channel) -> bool {
        let mut subscriptions = self.subscriptions;
        subscriptions.switch(channel).is_some_and(|switch| *switch)
    }
}

/// What CONNACK has said is not available.
fn offered(publish: &Publish) -> Result<(), Fault> {
    let refused =
        |reason, detail: &'static str| Err(Fault::new(reason, detail).about(&publish.topic));
    if matches!(publish.qos, QosPid::Level2(_)) {
        return refused(RefusalReason::QosTwo, "QoS 2 is not available");
    }
    if publish.retain {
        return refused(RefusalReason::Retain, "retained messages are not available");
    }
    if publish.alias {
        return refused(RefusalReason::TopicAlias, "topic aliases are not available");
    }
    Ok(())
}

const fn is_unavailable(fault: &Fault) -> bool {
    matches!(
        fault.reason,
        RefusalReason::Wildcard | RefusalReason::SharedSubscription
    )
}
