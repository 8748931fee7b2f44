//! A PUBACK owed: where session and journal meet.
//!
//! A session hands every publication on with what it owes for it ([`Due`]). Ingest decides which
//! commit the publication waits for and turns the due into a [`Receipt`]; the receipt can be
//! released only by a [`Durable`] that covers that commit, and only the store's barrier mints those.
//! Dropping a receipt sends nothing: unstored means no PUBACK, and the device sends again.

mod reception;

use protocol::topic::Topic;
use tokio::sync::mpsc;

pub use self::reception::{Origin, Reception};
pub use crate::store::{Commit, Durable};

/// One publication on its way from a session to the journal.
#[derive(Debug)]
pub struct Publication {
    /// Whose and what; the session has checked that the device speaks for itself.
    pub topic: Topic,
    /// As received.
    pub payload: Vec<u8>,
    /// Who took it from its device.
    pub origin: Origin,
    /// What the session owes for it; `None` for `QoS` 0, which is outside the Receipt law.
    pub due: Option<Due>,
}

/// A promise not yet tied to a commit.
#[derive(Debug)]
#[must_use = "a due that is dropped is never acknowledged"]
pub struct Due {
    packet_id: u16,
    acknowledge: mpsc::Sender<u16>,
}

impl Publication {
    /// How it came.
    #[must_use]
    pub const fn reception(&self) -> Reception {
        Reception {
            origin: self.origin,
            promised: self.due.is_some(),
        }
    }
}

impl Due {
    /// The session waits for `packet_id` on the other end of `acknowledge`, whose capacity is at
    /// least the connection's receive maximum, so that a release never has to wait.
    pub const fn new(packet_id: u16, acknowledge: mpsc::Sender<u16>) -> Self {
        Self {
            packet_id,
            acknowledge,
        }
    }

    /// Tie the promise to the commit that carries the publication. For a duplicate that is the newest
    /// commit open at its admission, because its original may still be in it.
    pub fn waits_for(self, commit: Commit) -> Receipt {
        Receipt { due: self, commit }
    }
}

/// A promise that `release` keeps once its commit is durable.
#[derive(Debug)]
#[must_use = "a receipt that is dropped is never acknowledged"]
pub struct Receipt {
    due: Due,
    commit: Commit,
}

impl Receipt {
    /// Acknowledge, if `durable` covers the commit waited for.
    ///
    /// A connection that has gone in the meantime is no error: the device will send again and be
    /// recognised as a duplicate.
    ///
    /// # Errors
    /// The receipt itself, unreleased, when `durable` does not cover it.
    pub fn release(self, durable: Durable) -> Result<(), Self> {
        if durable.commit() < self.commit {
            return Err(self);
        }
        let _ = self.due.acknowledge.try_send(self.due.packet_id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::store::{Batch, journal, memory};

    #[test]
    fn an_earlier_commit_does_not_release_a_receipt() {
        let store = memory::store();
        let commit = |number| {
            let mut batch = Batch::default();
            journal::append(&mut batch, Commit(number), &[]).unwrap();
            store.apply(batch).unwrap();
            store.barrier().unwrap()
        };
        let (acknowledge, mut released) = mpsc::channel(1);
        let receipt = Due::new(7, acknowledge).waits_for(Commit(3));
        let receipt = receipt.release(commit(2)).unwrap_err();
        assert!(released.try_recv().is_err());
        receipt.release(commit(3)).unwrap();
        assert_eq!(released.try_recv(), Ok(7));
    }
}
