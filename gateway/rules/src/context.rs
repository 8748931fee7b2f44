//! What every step of the rules may look at: the plan, prepared for looking up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug, Write};
use std::sync::Arc;
use std::time::Duration;

use protocol::key::DeviceId;
use sha2::{Digest, Sha256};

use crate::condition::limit::Limit;
use crate::event::Place;
use crate::place::index::FenceIndex;
use crate::plan::Plan;
use crate::plan::fence::{Fence, LatLon};
use crate::plan::limit::LimitRule;
use crate::plan::profile::{Profile, ShockRule};
use crate::plan::shipment::{Attachment, Shipment, Unit};
use crate::quantity::Quantity;
use crate::tracker::STATE_VERSION;

/// How long all units must stand in the final fence to be delivered, unless configured.
const DELIVERED_AFTER: Duration = Duration::from_secs(15 * 60);

/// How far a tracker's time may be from the time of reception before its clock is implausible, unless
/// configured: more than a good link ever takes.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60 * 60);

/// How long after its end a shipment is still judged by what comes late, unless configured: a tracker may be
/// a month at sea.
const LATE_HORIZON: Duration = Duration::from_secs(30 * 86_400);

/// Settings of the gateway that replace or complete values of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Replaces the delay of every temperature rule of every profile (`rules.temperature.delay`).
    pub temperature_delay: Option<Duration>,
    /// How long all units must stand in the final fence to be delivered.
    pub delivered_after: Duration,
    /// How far a tracker's time may be from the time of reception (`rules.clock_tolerance`); for the
    /// watch, no part of any verdict.
    pub clock_tolerance: Duration,
    /// How long after its end a shipment is still judged by what comes late (`store.horizon`); for its
    /// seal, no part of any verdict.
    pub late_horizon: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            temperature_delay: None,
            delivered_after: DELIVERED_AFTER,
            clock_tolerance: CLOCK_TOLERANCE,
            late_horizon: LATE_HORIZON,
        }
    }
}

/// A plan with its options, prepared for looking up. Shipments, units, fences and rules are named by
/// their position in the plan.
#[derive(Clone, Debug)]
pub struct Context {
    plan: Arc<Plan>,
    options: Options,
    fences: FenceIndex,
    /// Of everything that all trackers are judged by.
    digest: [u8; 32],
    routes: BTreeMap<String, Route>,
    duties: BTreeMap<DeviceId, Vec<Duty>>,
}

/// Where a shipment stands in the plan, and where its stops are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) shipment: usize,
    /// Position of each stop's fence, in the order of the stops.
    pub(crate) fences: Vec<Option<usize>>,
}

/// One attachment of a tracker: what it has to watch, for whom.
#[derive(Clone, Debug, PartialEq)]
pub struct Duty {
    /// Position of the shipment in the plan.
    pub shipment: usize,
    /// Position of the unit in the shipment.
    pub unit: usize,
    /// From when until when.
    pub attachment: Attachment,
    /// The profile that judges, its delays replaced where the options say so.
    pub profile: Profile,
    /// The profile's limits, in its order.
    pub limits: Vec<Limit>,
    /// Positions of the fences where the shipment stops.
    pub fences: BTreeSet<usize>,
}

impl Context {
    /// Prepare `plan`.
    #[must_use]
    pub fn new(plan: Arc<Plan>, options: Options) -> Self {
        let fences = FenceIndex::of(&plan.fences);
        let positions: BTreeMap<&str, usize> = plan
            .fences
            .iter()
            .enumerate()
            .map(|(position, fence)| (fence.id.as_str(), position))
            .collect();
        let mut routes = BTreeMap::new();
        let mut duties: BTreeMap<DeviceId, Vec<Duty>> = BTreeMap::new();
        for (position, shipment) in plan.shipments.iter().enumerate() {
            // The plan resolves profiles; one that were missing would judge nothing.
            let Some(profile) = plan.profile(&shipment.profile) else {
                continue;
            };
            let stops = shipment.stops.iter();
            let route = Route {
                shipment: position,
                fences: stops
                    .map(|stop| positions.get(stop.fence.as_str()).copied())
                    .collect(),
            };
            let stops: BTreeSet<usize> = route.fences.iter().flatten().copied().collect();
            routes.insert(shipment.id.clone(), route);
            for duty in Duty::all(position, shipment, profile, &options, &stops) {
                let device = duty.attachment.device.clone();
                duties.entry(device).or_default().push(duty);
            }
        }
        Self {
            digest: digest(&(
                STATE_VERSION,
                env!("CARGO_PKG_VERSION"),
                options,
                &plan.fences,
            )),
            plan,
            options,
            fences,
            routes,
            duties,
        }
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The options.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// What `device` has to watch, in the order of the plan.
    #[must_use]
    pub fn duties(&self, device: &DeviceId) -> &[Duty] {
        self.duties.get(device).map_or(&[], Vec::as_slice)
    }

    /// Names everything besides its records that decides what `device` shows: its duties, the fences, the
    /// options, and the version of the rules. State that was kept under another name is of no use.
    #[must_use]
    pub fn fingerprint(&self, device: &DeviceId) -> [u8; 32] {
        digest(&(self.digest, self.duties(device)))
    }

    /// Names everything that decides about the shipment with this id, whatever else the plan says; `None` when
    /// there is none.
    #[must_use]
    pub fn definition(&self, shipment: &str) -> Option<[u8; 32]> {
        let route = self.routes.get(shipment)?;
        let named = self.plan.shipments.get(route.shipment)?;
        let fences = route.fences.iter();
        let fences: Vec<_> = fences.map(|at| at.and_then(|at| self.fence(at))).collect();
        Some(digest(&(named, self.plan.profile(&named.profile), fences)))
    }

    /// Judge the shipment with this id no more: its trackers lose their duties to it. Returns these trackers.
    pub fn release(&mut self, shipment: &str) -> BTreeSet<DeviceId> {
        let mut released = BTreeSet::new();
        let Some(position) = self.routes.get(shipment).map(|route| route.shipment) else {
            return released;
        };
        self.duties.retain(|device, duties| {
            let before = duties.len();
            duties.retain(|duty| duty.shipment != position);
            if duties.len() < before {
                released.insert(device.clone());
            }
            !duties.is_empty()
        });
        released
    }

    /// Ids of the shipments that `device` watches, each once.
    #[must_use]
    pub fn shipments_of(&self, device: &DeviceId) -> BTreeSet<&str> {
        let shipments = self.duties(device).iter();
        shipments
            .filter_map(|duty| self.plan.shipments.get(duty.shipment))
            .map(|shipment| shipment.id.as_str())
            .collect()
    }

    /// Every tracker that some shipment names.
    pub fn trackers(&self) -> impl Iterator<Item = &DeviceId> {
        self.duties.keys()
    }

    /// The route of the shipment with this id.
    pub(crate) fn route(&self, shipment: &str) -> Option<&Route> {
        self.routes.get(shipment)
    }

    /// A point in words and numbers.
    #[must_use]
    pub fn place(&self, point: LatLon, accuracy_m: f64) -> Place {
        self.fences.place(&self.plan.fences, point, accuracy_m)
    }

    /// Fences near `point`, by position; one with several parts may come twice.
    pub(crate) fn fences_near(&self, point: LatLon, reach_m: f64) -> impl Iterator<Item = usize> {
        self.fences.near(point, reach_m)
    }

    /// The fence at `position`.
    #[must_use]
    pub fn fence(&self, position: usize) -> Option<&Fence> {
        self.plan.fences.get(position)
    }
}

impl Duty {
    fn all(
        position: usize,
        shipment: &Shipment,
        profile: &Profile,
        options: &Options,
        fences: &BTreeSet<usize>,
    ) -> Vec<Self> {
        let mut profile = profile.clone();
        let temperatures = profile.limits.iter_mut();
        for rule in temperatures.filter(|rule| rule.quantity == Quantity::Temperature) {
            rule.delay = options.temperature_delay.unwrap_or(rule.delay);
        }
        let limits: Vec<Limit> = profile.limits.iter().map(Limit::of).collect();
        let duties_of = |(unit, attached): (usize, &Unit)| {
            let duty = |attachment: &Attachment| Self {
                shipment: position,
                unit,
                attachment: attachment.clone(),
                profile: profile.clone(),
                limits: limits.clone(),
                fences: fences.clone(),
            };
            attached.trackers.iter().map(duty).collect::<Vec<_>>()
        };
        shipment
            .units
            .iter()
            .enumerate()
            .flat_map(duties_of)
            .collect()
    }

    /// The limit at `position` of the profile.
    #[must_use]
    pub fn rule(&self, position: usize) -> Option<&LimitRule> {
        self.profile.limits.get(position)
    }

    /// The profile's shock limits.
    #[must_use]
    pub const fn shock(&self) -> Option<&ShockRule> {
        self.profile.shock.as_ref()
    }
}

/// SHA-256 of the debug form, which names every field and tells every number in full.
fn digest(value: &impl Debug) -> [u8; 32] {
    struct Hasher(Sha256);
    impl Write for Hasher {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.update(text);
            Ok(())
        }
    }
    let mut hasher = Hasher(Sha256::new());
    // The hasher takes every text, and the plan's types write themselves without fail.
    let _ = write!(hasher, "{value:?}");
    hasher.0.finalize().into()
}
