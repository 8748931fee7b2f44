//! How a broker is doing: for `status`, metrics and the person who asks why nothing comes.

use std::sync::{Arc, Mutex, PoisonError};

use protocol::units::UtcMs;

/// Shared between a bridge and whoever asks.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<Mutex<State>>);

/// A broker's present state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Since when the subscription stands; `None` while it does not.
    pub connected_since: Option<UtcMs>,
    /// Connections with a subscription since the gateway started.
    pub connections: u64,
    /// Messages that came since the gateway started.
    pub messages: u64,
    /// Messages taken and not yet acknowledged.
    pub unacknowledged: usize,
    /// When and why the last connection ended or failed; kept after a success.
    pub last_error: Option<(UtcMs, String)>,
}

impl Standing {
    /// The state now.
    #[must_use]
    pub fn state(&self) -> State {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        // Plain values: a panic while they were held left none of them half written.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
