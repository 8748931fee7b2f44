//! From facts to the stages of a journey.
//!
//! Facts of all trackers of a shipment, in order of time, are laid along the planned stops. A visit
//! belongs to the stop where the shipment is, else to the next one with that fence, else to an earlier
//! one that was never reported: such a stop is inserted, the journey does not step back.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::Code;
use crate::context::Route;
use crate::event::{Confidence, Detail, Severity};
use crate::fact::{Fact, FactKind};
use crate::plan::shipment::{Role, Shipment};

/// A stage that was reached.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Milestone<'f> {
    pub(crate) code: Code,
    /// Position of its stop in the plan.
    pub(crate) stop: usize,
    /// The fact that decided.
    pub(crate) fact: &'f Fact,
    pub(crate) confidence: Confidence,
    /// Further facts it rests on.
    pub(crate) also: Vec<&'f Fact>,
}

impl Milestone<'_> {
    pub(crate) const SEVERITY: Severity = Severity::Info;

    pub(crate) fn detail(&self, shipment: &Shipment) -> Detail {
        let stop = shipment.stops.get(self.stop);
        Detail::Stop {
            stop: stop.map_or_else(String::new, |stop| stop.id.clone()),
            index: u32::try_from(self.stop).unwrap_or(u32::MAX),
        }
    }
}

/// The stages that `facts`, in their order, show of `shipment`.
pub(crate) fn milestones<'f>(
    route: &Route,
    shipment: &Shipment,
    facts: &[&'f Fact],
) -> Vec<Milestone<'f>> {
    let mut journey = Journey::along(route);
    for fact in facts {
        journey.take(fact);
    }
    journey.reached(shipment)
}

#[derive(Default)]
struct Visit<'f> {
    arrived: Option<&'f Fact>,
    /// The last departure before the next stop.
    departed: Option<&'f Fact>,
    /// Every first moving fix after a departure.
    moving: Vec<&'f Fact>,
    /// By unit.
    rested: BTreeMap<usize, &'f Fact>,
}

struct Journey<'r, 'f> {
    /// Position in the plan of each stop's fence.
    fences: &'r [Option<usize>],
    visits: Vec<Visit<'f>>,
    /// The farthest stop reached.
    current: Option<usize>,
}

impl<'r, 'f> Journey<'r, 'f> {
    fn along(route: &'r Route) -> Self {
        Self {
            visits: route.fences.iter().map(|_| Visit::default()).collect(),
            fences: &route.fences,
            current: None,
        }
    }

    fn take(&mut self, fact: &'f Fact) {
        match fact.kind {
            FactKind::Arrived { fence, .. } => {
                let stop = self.stop_entered(fence);
                if let Some(visit) = stop.and_then(|stop| self.visits.get_mut(stop)) {
                    visit.arrived.get_or_insert(fact);
                    self.current = self.current.max(stop);
                }
            }
            FactKind::Departed { fence } => {
                if let Some(visit) = self.visit_at_current(fence) {
                    visit.departed = Some(fact);
                }
            }
            FactKind::Moving => {
                if let Some(visit) = self.current.and_then(|stop| self.visits.get_mut(stop)) {
                    visit.moving.push(fact);
                }
            }
            FactKind::Rested { fence, .. } => {
                if let Some(visit) = self.visit_at_current(fence) {
                    visit.rested.entry(fact.unit).or_insert(fact);
                }
            }
            FactKind::Excursion { .. }
            | FactKind::Battered(_)
            | FactKind::Fell(_)
            | FactKind::BatteryLow(_)
            | FactKind::Gap(_) => {}
        }
    }

    /// The stop that a visit to `fence` belongs to; `None` for a return to a stop left behind.
    fn stop_entered(&self, fence: usize) -> Option<usize> {
        let has_fence = |stop: &usize| self.fences.get(*stop) == Some(&Some(fence));
        let from = self.current.unwrap_or(0);
        let unreported = |stop: &usize| {
            self.visits
                .get(*stop)
                .is_some_and(|visit| visit.arrived.is_none())
        };
        (from..self.fences.len()).find(has_fence).or_else(|| {
            let mut earlier = (0..from).filter(has_fence);
            earlier.rfind(unreported)
        })
    }

    /// The visit to the current stop, if that is at `fence`: what happens at a stop left behind is over.
    fn visit_at_current(&mut self, fence: usize) -> Option<&mut Visit<'f>> {
        let current = self.current?;
        let here = self.fences.get(current) == Some(&Some(fence));
        self.visits.get_mut(current).filter(|_| here)
    }

    fn reached(&self, shipment: &Shipment) -> Vec<Milestone<'f>> {
        let mut reached = Vec::new();
        for (stop, (visit, planned)) in self.visits.iter().zip(&shipment.stops).enumerate() {
            let mut add = |code, stop, fact| reached.push(plain(code, stop, fact));
            if let Some(arrived) = visit.arrived {
                add(arrival(planned.role), stop, arrived);
            }
            let Some(departed) = visit.departed else {
                continue;
            };
            add(departure(planned.role), stop, departed);
            let next = shipment.stops.get(stop + 1);
            if next.is_some_and(|next| next.role == Role::Delivery) {
                add(Code::OutForDelivery, stop + 1, departed);
            }
            if let Some(moving) = visit.first_moving(departed).filter(|_| next.is_some()) {
                add(Code::InTransit, stop, moving);
            }
        }
        reached.extend(self.delivered(shipment));
        reached
    }

    /// All units that have a tracker stand in the fence of the last stop.
    fn delivered(&self, shipment: &Shipment) -> Option<Milestone<'f>> {
        let stop = shipment.stops.len().checked_sub(1)?;
        let is_delivery = shipment.stops.get(stop)?.role == Role::Delivery;
        let rested = &self.visits.get(stop).filter(|_| is_delivery)?.rested;
        let tracked = shipment.units.iter().enumerate();
        let tracked = tracked.filter(|(_, unit)| !unit.trackers.is_empty());
        let tracked: BTreeSet<usize> = tracked.map(|(position, _)| position).collect();
        if tracked.is_empty() || !tracked.iter().all(|unit| rested.contains_key(unit)) {
            return None;
        }
        let last = rested.values().copied().max_by(|a, b| a.order(b))?;
        let inferred = |fact: &&Fact| matches!(fact.kind, FactKind::Rested { inferred: true, .. });
        Some(Milestone {
            confidence: if rested.values().any(inferred) {
                Confidence::Inferred
            } else {
                Confidence::Certain
            },
            also: rested.values().copied().collect(),
            ..plain(Code::Delivered, stop, last)
        })
    }
}

impl<'f> Visit<'f> {
    /// The first moving fix of the leg that `departed` begins; one of another unit that left a little
    /// earlier will do.
    fn first_moving(&self, departed: &Fact) -> Option<&'f Fact> {
        let after = |fact: &&&Fact| fact.at.at >= departed.at.at;
        let found = self.moving.iter().find(after).or(self.moving.last());
        found.copied()
    }
}

fn plain<'f>(code: Code, stop: usize, fact: &'f Fact) -> Milestone<'f> {
    let initial = matches!(fact.kind, FactKind::Arrived { initial: true, .. });
    Milestone {
        code,
        stop,
        fact,
        confidence: if initial {
            Confidence::Inferred
        } else {
            Confidence::Certain
        },
        also: Vec::new(),
    }
}

const fn arrival(role: Role) -> Code {
    match role {
        Role::Pickup => Code::ArrivedPickup,
        Role::Hub => Code::ArrivedHub,
        Role::Customs => Code::AtCustoms,
        Role::Delivery => Code::ArrivedDelivery,
    }
}

const fn departure(role: Role) -> Code {
    match role {
        Role::Pickup => Code::PickedUp,
        Role::Hub => Code::DepartedHub,
        Role::Customs => Code::CustomsCleared,
        Role::Delivery => Code::DepartedDelivery,
    }
}
