//! One row of the view: what was last stated about an event, and when the gateway knew.

use protocol::units::UtcMs;
use rules::event::Revision;
use serde::{Deserialize, Serialize};

/// The last revision of an event, as the view keeps it and sinks send it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Posted {
    /// State of the event and what changed.
    pub revision: Revision,
    /// Gateway's event time when the revision was made, milliseconds since 1970.
    pub recorded_ms: i64,
    /// Rises with every revision of the gateway: the order of `events` and of receivers.
    pub sequence: u64,
}

impl Posted {
    /// When the gateway knew.
    #[must_use]
    pub const fn recorded_at(&self) -> UtcMs {
        UtcMs::saturating(self.recorded_ms)
    }
}
