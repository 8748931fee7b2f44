//! What is remembered of a broker that the gateway subscribes to: the session it should have, and how
//! often it had lost it. One row a broker, `broker/NAME`; written by the bridge, told by the fold.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::table::{self, Table};
use super::{Batch, Store, StoreError};

/// What the names of the rows begin with.
const ROWS: &str = "broker/";

/// What is remembered of one broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The session that the broker should still have; `None` while it has confirmed no subscription.
    pub session: Option<Session>,
    /// When that session was last known to be there, in milliseconds since 1970.
    pub seen_at_ms: i64,
    /// How often the broker had lost a session that it should have had.
    pub losses: u64,
    /// The newest of those losses.
    pub last_loss: Option<Loss>,
}

/// A session at a broker, with the subscriptions it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Client id under which it is kept.
    pub client_id: String,
    /// What stands before our topics in its subscriptions.
    pub prefix: String,
}

/// A session that was lost: what came to the broker between both times may be lost with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// When it was last known to be there, in milliseconds since 1970.
    pub seen_at_ms: i64,
    /// When the broker said that it is gone, in milliseconds since 1970.
    pub noticed_at_ms: i64,
}

impl Session {
    /// Whether both are kept by the same broker under the same client id.
    #[must_use]
    pub fn is_kept_with(&self, other: &Self) -> bool {
        (&self.host, self.port, &self.client_id) == (&other.host, other.port, &other.client_id)
    }
}

impl Memory {
    /// What is remembered of the broker `name`; nothing of one that was never reached.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(store: &Store, name: &str) -> Result<Self, StoreError> {
        let kept = table::value(store, Table::Meta, &format!("{ROWS}{name}"))?;
        Ok(kept.unwrap_or_default())
    }

    /// Remembers, durably.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, store: &Store, name: &str) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        table::put(&mut batch, Table::Meta, &format!("{ROWS}{name}"), self)?;
        store.apply(batch)?;
        store.barrier().map(drop)
    }

    /// The broker had lost the session, and has a new one that holds nothing.
    pub fn lose(&mut self, noticed_at_ms: i64) {
        self.session = None;
        self.losses += 1;
        self.last_loss = Some(Loss {
            seen_at_ms: self.seen_at_ms,
            noticed_at_ms,
        });
    }
}

/// What is remembered of every broker, by name.
///
/// # Errors
/// When it cannot be read.
pub fn all(store: &Store) -> Result<Vec<(String, Memory)>, StoreError> {
    let mut brokers = Vec::new();
    table::each(store, Table::Meta, ROWS, |name, memory| {
        let name = name.strip_prefix(ROWS).unwrap_or(&name).to_owned();
        brokers.push((name, memory));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(brokers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory;

    #[test]
    fn a_loss_is_remembered_with_the_time_in_which_something_may_have_been_lost() {
        let store = memory::store();
        let session = Session {
            host: "broker".to_owned(),
            port: 1883,
            client_id: "depot".to_owned(),
            prefix: String::new(),
        };
        let mut kept = Memory {
            session: Some(session),
            seen_at_ms: 10,
            ..Memory::default()
        };
        kept.lose(25);
        kept.save(&store, "yard").unwrap();
        let loss = Loss {
            seen_at_ms: 10,
            noticed_at_ms: 25,
        };
        assert_eq!((kept.losses, kept.last_loss), (1, Some(loss)));
        assert_eq!(kept.session, None, "the next session is a first one");
        assert_eq!(Memory::load(&store, "yard").unwrap(), kept);
        assert_eq!(Memory::load(&store, "gate").unwrap(), Memory::default());
        assert_eq!(all(&store).unwrap(), [("yard".to_owned(), kept)]);
    }
}
