//! What is owed to a broker over one connection: pure.
//!
//! ```text
//! message QoS 1 -> pending [7 held, 8 held]     held [publication, publication] -> journal
//!                          [7 handed over, ..]  receipt of 7 -> released
//! PUBACK <- next released, in the order in which the messages came
//! ```

use std::collections::VecDeque;

use crate::receipt::Publication;

/// Messages that are not acknowledged yet, in the order in which they came.
#[derive(Debug)]
pub(super) struct Owed {
    /// Most publications held before those of `QoS` 0 are turned away.
    held_max: usize,
    pending: VecDeque<Pending>,
    /// Publications without a place in the journal's queue: those with `QoS` 1 are pending too.
    held: VecDeque<Publication>,
}

#[derive(Debug)]
struct Pending {
    packet_id: u16,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its publication is held.
    Held,
    /// The journal has it.
    HandedOver,
    /// It is durable, or was refused for good.
    Released,
}

impl Owed {
    pub(super) fn new(held_max: usize) -> Self {
        Self {
            held_max,
            pending: VecDeque::new(),
            held: VecDeque::new(),
        }
    }

    /// Messages not acknowledged.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether no further message with `QoS` 0 may be taken: nobody waits for its PUBACK.
    pub(super) fn is_crowded(&self) -> bool {
        self.held.len() >= self.held_max
    }

    /// Whether the message is here already: some brokers send again what takes long.
    pub(super) fn is_repeated(&self, packet_id: u16) -> bool {
        let mut pending = self.pending.iter();
        pending.any(|pending| pending.packet_id == packet_id)
    }

    /// Hold a publication until the journal's queue has a place for it.
    pub(super) fn hold(&mut self, packet_id: Option<u16>, publication: Publication) {
        if let Some(packet_id) = packet_id {
            let stage = Stage::Held;
            self.pending.push_back(Pending { packet_id, stage });
        }
        self.held.push_back(publication);
    }

    /// A message that is refused: nothing is stored, so only its turn is waited for.
    pub(super) fn refuse(&mut self, packet_id: u16) {
        let stage = Stage::Released;
        self.pending.push_back(Pending { packet_id, stage });
    }

    /// Whether a publication is held.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// The publication that has waited longest, for the journal.
    pub(super) fn hand_over(&mut self) -> Option<Publication> {
        let publication = self.held.pop_front()?;
        if publication.due.is_some() {
            let held = |pending: &&mut Pending| pending.stage == Stage::Held;
            if let Some(pending) = self.pending.iter_mut().find(held) {
                pending.stage = Stage::HandedOver;
            }
        }
        Some(publication)
    }

    /// Forget what the journal does not have: it is not acknowledged, and comes again.
    pub(super) fn drop_held(&mut self) {
        self.held.clear();
        let held = |pending: &Pending| pending.stage == Stage::Held;
        let first = self.pending.iter().position(held);
        self.pending.truncate(first.unwrap_or(self.pending.len()));
    }

    /// The journal has released this packet id.
    pub(super) fn release(&mut self, packet_id: u16) {
        let owed = |pending: &&mut Pending| {
            pending.packet_id == packet_id && pending.stage == Stage::HandedOver
        };
        if let Some(pending) = self.pending.iter_mut().find(owed) {
            pending.stage = Stage::Released;
        }
    }

    /// The packet id whose turn it is, if it is released.
    pub(super) fn due(&self) -> Option<u16> {
        let first = self.pending.front()?;
        (first.stage == Stage::Released).then_some(first.packet_id)
    }

    /// The packet id whose turn it was is acknowledged.
    pub(super) fn acknowledged(&mut self) {
        self.pending.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use protocol::topic::{Channel, Topic};
    use tokio::sync::mpsc;

    use super::*;
    use crate::receipt::{Due, Origin};

    fn publication(packet_id: Option<u16>) -> Publication {
        let (acknowledge, _) = mpsc::channel(1);
        Publication {
            topic: Topic::new("t-1".parse().unwrap(), Channel::Readings),
            payload: Vec::new(),
            origin: Origin::Broker,
            due: packet_id.map(|packet_id| Due::new(packet_id, acknowledge)),
        }
    }

    fn due(owed: &mut Owed) -> Vec<u16> {
        let mut acknowledged = Vec::new();
        while let Some(packet_id) = owed.due() {
            owed.acknowledged();
            acknowledged.push(packet_id);
        }
        acknowledged
    }

    #[test]
    fn acknowledgements_keep_the_order_of_arrival_whatever_is_released_or_refused_first() {
        let mut owed = Owed::new(2);
        owed.hold(Some(1), publication(Some(1)));
        owed.refuse(2);
        owed.hold(Some(3), publication(Some(3)));
        assert!(owed.is_crowded() && owed.is_repeated(2) && !owed.is_repeated(4));
        while owed.hand_over().is_some() {}
        owed.release(3);
        assert_eq!(due(&mut owed), [] as [u16; 0]);
        owed.release(1);
        assert_eq!(due(&mut owed), [1, 2, 3]);
        assert_eq!(owed.len(), 0);
    }

    #[test]
    fn what_the_journal_does_not_have_is_never_acknowledged() {
        let mut owed = Owed::new(4);
        owed.hold(Some(1), publication(Some(1)));
        owed.hold(None, publication(None));
        owed.hold(Some(2), publication(Some(2)));
        owed.release(1);
        assert_eq!(
            due(&mut owed),
            [] as [u16; 0],
            "released before it was handed over"
        );
        assert!(owed.hand_over().is_some());
        owed.drop_held();
        assert!(!owed.holds());
        owed.release(2);
        owed.release(1);
        assert_eq!(due(&mut owed), [1]);
        assert_eq!(owed.len(), 0, "2 comes again in the next session");
    }
}
