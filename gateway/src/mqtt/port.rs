//! What the endpoint needs from outside, and what its connections share.

use std::sync::Arc;

use protocol::units::Milliseconds;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::receipt::Publication;

use super::budget::Budgets;
use super::doorkeeper::Doorkeeper;
use super::downlink::DesiredSettings;
use super::identity::Authenticate;
use super::limit::Limits;
use super::persistence::SessionStore;
use super::refusal::OnRefusal;
use super::registry::Registry;
use super::shelf::Shelves;

/// What the endpoint needs from outside.
#[derive(Clone)]
pub struct Ports {
    /// The way to the journal. Bounded; sessions hold back and slow down when it is full.
    pub ingest: mpsc::Sender<Publication>,
    /// Where sessions outlive their connections.
    pub sessions: Arc<dyn SessionStore>,
    /// Who is believed.
    pub identity: Arc<dyn Authenticate>,
    /// Which settings devices should have.
    pub settings: Arc<dyn DesiredSettings>,
    /// The time that devices are told.
    pub clock: Clock,
    /// How far that time may be off.
    pub time_uncertainty: Milliseconds,
    /// Counts refusals.
    pub on_refusal: OnRefusal,
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) ports: Ports,
    pub(crate) registry: Arc<Registry>,
    pub(crate) shelves: Arc<Shelves>,
    pub(crate) budgets: Budgets,
    pub(crate) doorkeeper: Arc<Doorkeeper>,
}

impl Shared {
    pub(crate) fn new(limits: Limits, ports: Ports, registry: Arc<Registry>) -> Self {
        let shelves = Arc::new(Shelves::new(limits.held_bytes_max));
        let budgets = Budgets::new(limits.device_bytes_per_s);
        let (each, all) = (limits.failures_per_address_per_s, limits.failures_per_s);
        let doorkeeper = Arc::new(Doorkeeper::new(each, all, Instant::now()));
        Self {
            limits,
            ports,
            registry,
            shelves,
            budgets,
            doorkeeper,
        }
    }
}
