//! The limits of a duty, each watched at every sensor of its quantity.

use protocol::key::DeviceId;
use protocol::reading::{Reading, TEMPERATURE_PROBES_MAX};
use protocol::record::Alarm;
use protocol::units::{CentiCelsius, UptimeMs};
use serde::{Deserialize, Serialize};

use super::scene::{Scene, fact};
use crate::condition::excursion::{Episode, Excursion};
use crate::condition::figures::Sample;
use crate::context::{Context, Duty};
use crate::fact::{Fact, FactKind};
use crate::place::fix::Fix;
use crate::quantity::{Claim, Quantity};
use crate::timeline::Stamp;

/// The machines of all limits at all probes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Limits {
    /// By limit, then by probe; nothing for a probe that never told a value.
    watched: Vec<Option<Box<Watched>>>,
}

/// One limit at one probe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Watched {
    machine: Excursion,
    /// Where the value left the range.
    left_at: Option<Fix>,
}

/// A value of one limit's quantity at one probe.
#[derive(Clone, Copy)]
struct Value {
    rule: usize,
    probe: u8,
    at: Stamp,
    value: i32,
}

impl Limits {
    /// Whether no excursion is pending, open or recovering.
    pub(super) fn are_kept(&self) -> bool {
        self.machines().all(Excursion::is_in_range)
    }

    /// How many episodes are open, or a few more: not everything pending comes to be open.
    pub(super) fn open_max(&self) -> usize {
        self.machines()
            .filter(|machine| !machine.is_in_range())
            .count()
    }

    /// The open episodes as facts.
    pub(super) fn open_facts(
        &self,
        context: &Context,
        device: &DeviceId,
        duty: &Duty,
        position: usize,
        facts: &mut Vec<Fact>,
    ) {
        for (place, watched) in self.watched.iter().enumerate() {
            let (rule, probe) = rule_and_probe(place);
            let limit = duty.limits.get(rule);
            let open = watched
                .as_ref()
                .zip(limit)
                .and_then(|(watched, limit)| Some((watched, watched.machine.open_episode(limit)?)));
            if let Some((watched, episode)) = open {
                let shown = (episode.opened_by, &episode.began, watched.left_at.as_ref());
                let kind = told(rule, probe, episode);
                facts.push(fact(context, device, duty, position, shown, kind));
            }
        }
    }

    /// Judge everything that `reading` measures; until the sensors have `settled`, not what changes slowly.
    pub(super) fn feel(
        &mut self,
        scene: &mut Scene<'_>,
        reading: &Reading,
        fix: Option<Fix>,
        settled: bool,
    ) {
        let duty = scene.duty;
        for (rule, limit) in duty.limits.iter().enumerate() {
            let quantity = limit.quantity();
            if quantity.is_slow() && !settled {
                continue;
            }
            for probe in quantity.probes() {
                if let Some(value) = quantity.measured(reading, probe) {
                    let at = scene.stamp;
                    let value = Value {
                        rule,
                        probe,
                        at,
                        value,
                    };
                    self.judge(scene, value, fix);
                }
            }
        }
    }

    /// The device says that a quantity has been beyond its own limit since some time.
    pub(super) fn heed(
        &mut self,
        scene: &mut Scene<'_>,
        alarm: &Alarm,
        fix: Option<Fix>,
        settled: bool,
    ) {
        let Some(claim) = Claim::of(alarm) else {
            return;
        };
        let Some(since) = scene.timeline.stamp(scene.key, alarm.since) else {
            return;
        };
        let quantity = claim.quantity;
        if quantity.is_slow() && !settled && !settled_since_boot(scene, alarm.since) {
            return;
        }
        let duty = scene.duty;
        let concerned = duty.limits.iter().enumerate();
        let concerned = concerned
            .filter(|(_, limit)| limit.quantity() == quantity && limit.side() == claim.side);
        for (rule, limit) in concerned {
            let (of, extreme) = (carried(&claim, claim.limit), carried(&claim, claim.extreme));
            let Some((begin, now)) = limit.claimed_by(of, extreme) else {
                continue;
            };
            let probe = claim.probe;
            let last = self.last(rule, probe);
            // A temperature moves slowly: a reading of late knows better than the alarm. A door may have been
            // opened and closed between two readings.
            let covered = |last: Stamp| scene.stamp.since_ms(&last) <= scene.max_gap_ms;
            if quantity.is_slow() && last.is_some_and(covered) {
                continue;
            }
            let uncovered = last.is_none_or(|last| since.since_ms(&last) > 0);
            let value = |at, value| Value {
                rule,
                probe,
                at,
                value,
            };
            if uncovered && since.uptime_ms < scene.stamp.uptime_ms {
                self.judge(scene, value(since, begin), fix);
            }
            self.judge(scene, value(scene.stamp, now), fix);
        }
    }

    fn judge(&mut self, scene: &mut Scene<'_>, value: Value, fix: Option<Fix>) {
        let Value {
            rule,
            probe,
            at,
            value,
        } = value;
        let duty = scene.duty;
        let place = place(rule, probe);
        if self.watched.len() <= place {
            self.watched
                .resize_with(duty.limits.len() * TEMPERATURE_PROBES_MAX, || None);
        }
        let (Some(slot), Some(limit)) = (self.watched.get_mut(place), duty.limits.get(rule)) else {
            return;
        };
        let watched = slot.get_or_insert_default();
        let sample = Sample {
            at,
            key: scene.key,
            value,
        };
        let was_in_range = watched.machine.is_in_range();
        let ended = watched.machine.observe(limit, sample, scene.max_gap_ms);
        if was_in_range {
            watched.left_at = fix;
        }
        if let Some(episode) = ended {
            let left_at = watched.left_at;
            let kind = told(rule, probe, episode);
            scene.tell(episode.opened_by, &episode.began, left_at.as_ref(), kind);
        }
    }

    /// When a limit was judged last at a probe.
    fn last(&self, rule: usize, probe: u8) -> Option<Stamp> {
        let watched = self.watched.get(place(rule, probe))?.as_ref()?;
        watched.machine.last().map(|last| last.at)
    }

    fn machines(&self) -> impl Iterator<Item = &Excursion> {
        self.watched
            .iter()
            .flatten()
            .map(|watched| &watched.machine)
    }
}

/// Where the machine of a limit at a probe stands.
fn place(rule: usize, probe: u8) -> usize {
    rule * TEMPERATURE_PROBES_MAX + usize::from(probe)
}

fn rule_and_probe(place: usize) -> (usize, u8) {
    let probe = place % TEMPERATURE_PROBES_MAX;
    (
        place / TEMPERATURE_PROBES_MAX,
        u8::try_from(probe).unwrap_or(u8::MAX),
    )
}

const fn told(rule: usize, probe: u8, episode: Episode) -> FactKind {
    FactKind::Excursion {
        probe,
        rule,
        episode,
    }
}

/// The nearest value of the claim's quantity that the wire can carry.
fn carried(claim: &Claim, raw: i32) -> i32 {
    match claim.quantity {
        Quantity::Temperature => i32::from(CentiCelsius::saturating(i64::from(raw)).get()),
        // Refused before, see `doubt::is_possible_alarm`.
        Quantity::Humidity | Quantity::Tilt | Quantity::Light | Quantity::Door => raw,
    }
}

/// Whether the device had been on for the settling time when the condition began; for an alarm whose
/// earlier records have not come yet.
fn settled_since_boot(scene: &Scene<'_>, since: UptimeMs) -> bool {
    u128::from(since.get()) >= scene.duty.profile.settling.as_millis()
}
