//! A broker that the depot already has: what trackers publish there comes in by a subscription.
//!
//! ```text
//! broker -> link -> inlet (ours? vouched for?) -> owed -> Publication { due, origin: broker } -> ingest
//! broker <- PUBACK in the order of arrival <- owed <- packet id <- receipt released by the store
//! ```
//! The session at the broker is not clean and keeps what comes while the gateway is away. Each connection
//! is a generation of its own: a new link, a new ledger of what is owed, and a new channel on which receipts
//! give back their packet ids. So a receipt that is released after a reconnect reaches nobody, and cannot
//! acknowledge the message that has its packet id now; what it stood for comes again and is a duplicate.
//!
//! While the journal takes nothing (a full disk, a fold too far behind), nothing is acknowledged and nothing
//! dropped: at [`Target::inflight_max`] an MQTT 5 broker should send no more, and from one that does, or
//! speaks 3.1.1, nothing more is read, which pauses our keep-alive.
//!
//! The Receipt law covers the endpoint only. A tracker behind a broker was told by the broker that its
//! reading is safe, maybe long before it is on disk here; such records say so (`receipt` = broker).

mod generation;
mod inlet;
mod link;
mod owed;
mod standing;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

pub use self::inlet::Refused;
pub use self::link::Target;
pub use self::standing::{Standing, State};

use self::generation::{End, Generation};
use super::guard::Guard;
use crate::clock::Clock;
use crate::config::Vouched;
use crate::deliver::engine::pause;
use crate::receipt::Publication;
use crate::store::Store;

/// Takes every message that is refused, to count it and to tell it. Called from the bridge's task: it must
/// not block.
pub type OnRefused = Arc<dyn Fn(&Refused) + Send + Sync>;

/// What a bridge needs from outside.
#[derive(Clone)]
pub struct Ports {
    /// The way to the journal. Bounded; a bridge holds back when it is full.
    pub ingest: mpsc::Sender<Publication>,
    /// Where the session at the broker is remembered.
    pub store: Store,
    /// Which devices are registered here.
    pub guard: Guard,
    /// For which devices the broker is believed.
    pub vouched: Vouched,
    /// Dates the losses of sessions.
    pub clock: Clock,
    /// Counts and tells refusals.
    pub on_refused: OnRefused,
}

/// A subscription at one broker.
pub struct Bridge {
    /// Name of the broker in the configuration.
    pub name: String,
    /// Where it is.
    pub target: Target,
    /// What it needs.
    pub ports: Ports,
    /// How it goes.
    pub standing: Standing,
}

/// Returns when the gateway stops, or is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

impl Bridge {
    /// Subscribe, and connect anew after every failure, until `stop`.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut failures = 0;
        loop {
            let before = self.standing.state().connections;
            let ended = Generation::run(&self, &mut stop).await;
            self.standing.change(|state| {
                state.connected_since = None;
                state.unacknowledged = 0;
            });
            let reason = match ended {
                End::Stopped => return,
                End::Overrun => continue,
                End::Failed(reason) => reason,
            };
            if self.standing.state().connections > before {
                failures = 0;
            }
            failures += 1;
            let pause = pause(failures, RandomState::new().hash_one(failures));
            self.note(reason, failures, pause.as_millis());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopped(&mut stop) => return,
            }
        }
    }

    fn note(&self, reason: String, failures: u32, retry_in_ms: u128) {
        tracing::warn!(
            broker = self.name,
            failures,
            retry_in_ms,
            "no connection to the broker, which keeps what comes: {reason}"
        );
        let now = self.ports.clock.event_now();
        let error = Some((now, reason));
        self.standing.change(|state| state.last_error = error);
    }
}
