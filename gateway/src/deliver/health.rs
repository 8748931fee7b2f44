//! How a sink is doing: for `status`, metrics and the person who asks why nothing arrives.

use std::sync::{Arc, Mutex, PoisonError};

use protocol::units::UtcMs;

/// Shared between a sink's worker and whoever asks.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<State>>);

/// A sink's present state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Notifications confirmed since the gateway started.
    pub delivered: u64,
    /// Rows that needed no delivery any more: a newer revision followed, or nothing to retract.
    pub superseded: u64,
    /// Failed attempts since the last success.
    pub failures: u32,
    /// When and why the last attempt failed; `None` after a success.
    pub failing: Option<(UtcMs, String)>,
}

impl Health {
    /// The state now.
    #[must_use]
    pub fn state(&self) -> State {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
