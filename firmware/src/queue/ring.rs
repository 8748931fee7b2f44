//! One queue: records in the order of their numbers, waiting or in flight.

use heapless::Deque;
use protocol::key::Seq;
use protocol::record::Numbered;
use protocol::units::UptimeMs;

use crate::port::Token;

/// A bounded queue. What is in flight stays in it until it is confirmed.
#[derive(Debug)]
pub struct Ring<const N: usize> {
    entries: Deque<Entry, N>,
}

/// A record and the message that carries it, if one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The record.
    pub numbered: Numbered,
    /// The message it is in.
    pub flight: Option<Token>,
}

impl<const N: usize> Ring<N> {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Deque::new(),
        }
    }

    /// Append a record; when the queue is full the oldest that is not in flight makes room and is
    /// returned.
    pub fn push(&mut self, numbered: Numbered) -> Option<Numbered> {
        let evicted = if self.entries.is_full() {
            self.evict()
        } else {
            None
        };
        let entry = Entry {
            numbered,
            flight: None,
        };
        match self.entries.push_back(entry) {
            Ok(()) => evicted,
            Err(refused) => Some(refused.numbered),
        }
    }

    /// Take out the oldest record that is not in flight.
    pub fn evict(&mut self) -> Option<Numbered> {
        let oldest = self.waiting().next().copied()?;
        self.entries
            .retain(|entry| entry.numbered.seq != oldest.seq);
        Some(oldest)
    }

    /// Whether the next record evicts another.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.entries.is_full()
    }

    /// Remove what the message carried, telling each.
    pub fn confirm(&mut self, token: Token, mut confirmed: impl FnMut(&Numbered)) {
        self.entries.retain(|entry| {
            let carried = entry.flight == Some(token);
            if carried {
                confirmed(&entry.numbered);
            }
            !carried
        });
    }

    /// Nothing is in flight any more.
    pub fn release(&mut self) {
        for entry in &mut self.entries {
            entry.flight = None;
        }
    }

    /// The records that the message carries no longer.
    pub fn release_message(&mut self, token: Token) {
        for entry in &mut self.entries {
            if entry.flight == Some(token) {
                entry.flight = None;
            }
        }
    }

    /// Put waiting records into the message as long as `choose` says so.
    pub fn load(&mut self, token: Token, mut choose: impl FnMut(&Numbered) -> bool) {
        for entry in &mut self.entries {
            if entry.flight.is_none() && choose(&entry.numbered) {
                entry.flight = Some(token);
            }
        }
    }

    /// The records in the message, in order.
    pub fn loaded(&self, token: Token) -> impl Iterator<Item = &Numbered> {
        self.entries
            .iter()
            .filter(move |entry| entry.flight == Some(token))
            .map(|entry| &entry.numbered)
    }

    /// The records that wait, in order.
    pub fn waiting(&self) -> impl Iterator<Item = &Numbered> {
        self.entries
            .iter()
            .filter(|entry| entry.flight.is_none())
            .map(|entry| &entry.numbered)
    }

    /// All records, in order.
    pub fn records(&self) -> impl Iterator<Item = &Numbered> {
        self.entries.iter().map(|entry| &entry.numbered)
    }

    /// The least number that the message does not carry.
    #[must_use]
    pub fn oldest_without(&self, token: Token) -> Option<Seq> {
        let outside = |entry: &&Entry| entry.flight != Some(token);
        self.entries
            .iter()
            .find(outside)
            .map(|entry| entry.numbered.seq)
    }

    /// When the oldest waiting record was made.
    #[must_use]
    pub fn waiting_since(&self) -> Option<UptimeMs> {
        self.waiting().next().map(|oldest| oldest.record.uptime())
    }
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::reading::Reading;
    use protocol::record::Record;

    fn numbered(seq: u32) -> Numbered {
        let uptime = UptimeMs::saturating(i64::from(seq) * 1_000);
        Numbered {
            seq: Seq(seq),
            record: Record::Reading(Reading::empty(uptime)),
        }
    }

    fn ring(seqs: core::ops::Range<u32>) -> Ring<4> {
        let mut ring = Ring::new();
        for seq in seqs {
            assert_eq!(ring.push(numbered(seq)), None);
        }
        ring
    }

    fn seqs(ring: &Ring<4>) -> Vec<u32> {
        ring.records().map(|numbered| numbered.seq.0).collect()
    }

    #[test]
    fn the_oldest_that_is_not_in_flight_makes_room() {
        let mut ring = ring(0..4);
        ring.load(Token(1), |numbered| numbered.seq.0 < 2);
        assert_eq!(ring.push(numbered(4)), Some(numbered(2)));
        assert_eq!(seqs(&ring), [0, 1, 3, 4]);
    }

    #[test]
    fn a_queue_entirely_in_flight_gives_the_new_record_back() {
        let mut ring = ring(0..4);
        ring.load(Token(1), |_| true);
        assert_eq!(ring.push(numbered(4)), Some(numbered(4)));
        assert_eq!(seqs(&ring), [0, 1, 2, 3]);
    }

    #[test]
    fn only_the_confirmed_message_leaves() {
        let mut ring = ring(0..4);
        ring.load(Token(1), |numbered| numbered.seq.0 == 0);
        ring.load(Token(2), |numbered| numbered.seq.0 == 1);
        let mut confirmed = Vec::new();
        ring.confirm(Token(2), |numbered| confirmed.push(numbered.seq.0));
        assert_eq!((confirmed, seqs(&ring)), (vec![1], vec![0, 2, 3]));
        assert_eq!(ring.oldest_without(Token(1)), Some(Seq(2)));
        ring.release();
        assert_eq!(ring.waiting().count(), 3);
        assert_eq!(ring.waiting_since(), Some(UptimeMs::saturating(0)));
    }
}
