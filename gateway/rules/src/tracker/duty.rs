//! What one tracker sees of one unit, while it is attached to it.

use std::collections::BTreeMap;

use protocol::key::{DeviceId, RecordKey};
use protocol::reading::{Reading, TEMPERATURE_PROBES_MAX};
use protocol::record::{Alarm, AlarmKind, Record};
use protocol::units::UptimeMs;

use crate::condition::device::Battery;
use crate::condition::excursion::{Excursion, Sample};
use crate::condition::gap::Coverage;
use crate::condition::shock::{Battering, Impact};
use crate::context::{Context, Duty};
use crate::event::{Place, Side};
use crate::fact::{Fact, FactKind};
use crate::place::fix::Fix;
use crate::place::motion::Motion;
use crate::place::presence::{Crossing, Presence, Whereabouts};
use crate::timeline::{Stamp, Timeline};

/// How far around a fix fences are looked for, besides its accuracy and the fence's own hysteresis, in
/// metres. A fence farther away can only be left, and those the tracker is in are looked at anyway.
const REACH_M: f64 = 100.0;

/// Oldest fix that still says where something happened, in milliseconds.
const PLACE_AGE_MAX_MS: i64 = 3_600_000;

/// Everything that one step may look at, and where its facts go.
pub(super) struct Scene<'s> {
    pub(super) context: &'s Context,
    pub(super) device: &'s DeviceId,
    pub(super) timeline: &'s Timeline,
    pub(super) duty: &'s Duty,
    pub(super) position: usize,
    pub(super) key: RecordKey,
    pub(super) stamp: Stamp,
    pub(super) max_gap_ms: i64,
    pub(super) facts: &'s mut Vec<Fact>,
}

impl Scene<'_> {
    fn tell(&mut self, key: RecordKey, at: &Stamp, fix: Option<&Fix>, kind: FactKind) {
        let fact = fact(
            self.context,
            self.device,
            self.duty,
            self.position,
            (key, at, fix),
            kind,
        );
        self.facts.push(fact);
    }
}

/// State of one duty.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DutyState {
    began: Option<Stamp>,
    has_fix: bool,
    /// Fences that are not simply outside, by position.
    presences: BTreeMap<usize, Presence>,
    /// Fences the tracker is in: first fix there, and whether its rest was told.
    stays: BTreeMap<usize, Stay>,
    /// Whether the tracker left a fence and was not seen moving since.
    leaving: bool,
    motion: Motion,
    coverage: Coverage,
    /// By probe, then by rule: the machine, and where it left the range.
    excursions: [Vec<(Excursion, Option<Fix>)>; TEMPERATURE_PROBES_MAX],
    battering: Option<(Battering, Option<Fix>)>,
    battery: Battery,
    battery_fix: Option<Fix>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Stay {
    entered: Fix,
    rested: bool,
}

impl DutyState {
    pub(super) fn new(duty: &Duty) -> Self {
        let machines = || vec![(Excursion::default(), None); duty.limits.len()];
        Self {
            began: None,
            has_fix: false,
            presences: BTreeMap::new(),
            stays: BTreeMap::new(),
            leaving: false,
            motion: Motion::default(),
            coverage: Coverage::default(),
            excursions: std::array::from_fn(|_| machines()),
            battering: None,
            battery: Battery::default(),
            battery_fix: None,
        }
    }

    pub(super) const fn last_fix(&self) -> Option<&Fix> {
        self.motion.last()
    }

    pub(super) fn step(&mut self, scene: &mut Scene<'_>, record: &Record) {
        self.began.get_or_insert(scene.stamp);
        let now = scene.stamp;
        self.settle_battering(scene, |battering| battering.is_over(&now));
        match record {
            Record::Reading(reading) => {
                self.locate(scene, reading);
                self.cover(scene, reading);
                self.feel(scene, reading);
                self.charge(
                    scene,
                    reading.battery.value().map(|battery| battery.charge.get()),
                );
            }
            Record::Alarm(alarm) => self.heed(scene, alarm),
            Record::Boot(_) | Record::Anchor(_) | Record::Settings(_) | Record::Loss(_) => {}
        }
    }

    /// What is not complete yet, as facts.
    pub(super) fn open_facts(
        &self,
        context: &Context,
        device: &DeviceId,
        duty: &Duty,
        position: usize,
        facts: &mut Vec<Fact>,
    ) {
        let mut tell = |key, at: &Stamp, fix: Option<&Fix>, kind| {
            facts.push(fact(context, device, duty, position, (key, at, fix), kind));
        };
        for (probe, machines) in (0_u8..).zip(&self.excursions) {
            for (rule, ((machine, fix), limit)) in machines.iter().zip(&duty.limits).enumerate() {
                if let Some(episode) = machine.open_episode(limit) {
                    let kind = FactKind::Excursion {
                        probe,
                        rule,
                        episode,
                    };
                    tell(episode.opened_by, &episode.began, fix.as_ref(), kind);
                }
            }
        }
        if let Some((battering, fix)) = &self.battering {
            let first = &battering.first;
            tell(
                first.key,
                &first.at,
                fix.as_ref(),
                FactKind::Battered(*battering),
            );
        }
        if let Some(low) = self.battery.low() {
            let kind = FactKind::BatteryLow(*low);
            tell(low.opened_by, &low.began, self.battery_fix.as_ref(), kind);
        }
    }

    fn locate(&mut self, scene: &mut Scene<'_>, reading: &Reading) {
        if let Some(fix) = Fix::of(reading, scene.key, &scene.stamp) {
            let away = self.motion.observe(&fix);
            self.cross(scene, &fix);
            self.has_fix = true;
            self.depart(scene, &fix, away);
        }
        self.rest(scene);
    }

    /// Judge the fences around `fix`, and those the tracker was in or between.
    fn cross(&mut self, scene: &mut Scene<'_>, fix: &Fix) {
        let duty = scene.duty;
        if duty.fences.is_empty() {
            return;
        }
        let widest = duty
            .fences
            .iter()
            .filter_map(|fence| scene.context.fence(*fence));
        let widest = widest.map(|fence| fence.outside_m).fold(REACH_M, f64::max);
        let mut nearby: Vec<usize> = scene
            .context
            .fences_near(fix.point, widest + fix.accuracy_m)
            .filter(|fence| duty.fences.contains(fence))
            .chain(self.presences.keys().copied())
            .collect();
        nearby.sort_unstable();
        nearby.dedup();
        for position in nearby {
            let Some(fence) = scene.context.fence(position) else {
                continue;
            };
            // Whoever was not near this fence with an earlier fix was outside it.
            let unknown = if self.has_fix {
                Presence::OUTSIDE
            } else {
                Presence::default()
            };
            let presence = self.presences.entry(position).or_insert(unknown);
            let crossing = presence.observe(fence, fix);
            if presence.is_idle() {
                self.presences.remove(&position);
            }
            if let Some(crossing) = crossing {
                self.tell_crossing(scene, position, crossing);
            }
        }
    }

    fn tell_crossing(&mut self, scene: &mut Scene<'_>, fence: usize, crossing: Crossing) {
        let (inside, first, initial) = match crossing {
            Crossing::Initial(Whereabouts::Outside, _) => return,
            Crossing::Initial(Whereabouts::Inside, fix) => (true, fix, true),
            Crossing::Changed(Whereabouts::Inside, fix) => (true, fix, false),
            Crossing::Changed(Whereabouts::Outside, fix) => (false, fix, false),
        };
        let kind = if inside {
            let stay = Stay {
                entered: first,
                rested: false,
            };
            self.stays.insert(fence, stay);
            self.leaving = false;
            FactKind::Arrived { fence, initial }
        } else {
            self.stays.remove(&fence);
            self.leaving = true;
            FactKind::Departed { fence }
        };
        scene.tell(first.key, &first.at, Some(&first), kind);
        if !inside && first.moving {
            self.tell_moving(scene, &first);
        }
    }

    fn depart(&mut self, scene: &mut Scene<'_>, fix: &Fix, away: bool) {
        if self.leaving && self.stays.is_empty() && (fix.moving || away) {
            self.tell_moving(scene, fix);
        }
    }

    fn tell_moving(&mut self, scene: &mut Scene<'_>, fix: &Fix) {
        self.leaving = false;
        scene.tell(fix.key, &fix.at, Some(fix), FactKind::Moving);
    }

    /// Whether the tracker has stood in a fence for as long as a delivery needs.
    fn rest(&mut self, scene: &mut Scene<'_>) {
        let needed_ms = scene.context.options().delivered_after.as_millis();
        let needed_ms = i64::try_from(needed_ms).unwrap_or(i64::MAX);
        let Some(stop) = self.motion.stopped_since(&scene.stamp) else {
            return;
        };
        let last = self.motion.last().map_or(stop.at, |fix| fix.at);
        for (fence, stay) in &mut self.stays {
            // Whoever drove through the gate before standing still stands since the later of the two.
            let standing = stop.at.since_ms(&stay.entered.at) > 0;
            let since = if standing { stop } else { &stay.entered };
            if stay.rested || scene.stamp.since_ms(&since.at) < needed_ms {
                continue;
            }
            stay.rested = true;
            let kind = FactKind::Rested {
                fence: *fence,
                decided_by: scene.key,
                inferred: scene.stamp.since_ms(&last) >= needed_ms,
            };
            scene.tell(since.key, &since.at.before(-needed_ms), Some(since), kind);
        }
    }

    /// Notice time without a usable reading.
    fn cover(&mut self, scene: &mut Scene<'_>, reading: &Reading) {
        let measured = reading.temperatures.iter().any(|t| t.value().is_some());
        if !measured && !scene.duty.limits.is_empty() {
            return;
        }
        let in_range = |(machine, _): &(Excursion, _)| machine.is_in_range();
        let during = !self.excursions.iter().flatten().all(in_range);
        let gap = self
            .coverage
            .observe(scene.stamp, scene.key, scene.max_gap_ms, during);
        if let Some(gap) = gap {
            let fix = self.motion.last().copied();
            scene.tell(gap.from_key, &gap.from, fix.as_ref(), FactKind::Gap(gap));
        }
    }

    fn feel(&mut self, scene: &mut Scene<'_>, reading: &Reading) {
        if !self.is_settled(scene) {
            return;
        }
        for (probe, measured) in (0_u8..).zip(&reading.temperatures) {
            if let Some(celsius) = measured.value() {
                let centi = i32::from(celsius.get());
                self.judge(scene, probe, scene.stamp, centi, |_| true);
            }
        }
    }

    /// Judge a temperature by the probe's rules for which `concerns` holds.
    fn judge(
        &mut self,
        scene: &mut Scene<'_>,
        probe: u8,
        at: Stamp,
        centi: i32,
        concerns: impl Fn(usize) -> bool,
    ) {
        let sample = Sample {
            at,
            key: scene.key,
            centi,
        };
        let fix = self.motion.last().copied();
        let Some(machines) = self.excursions.get_mut(usize::from(probe)) else {
            return;
        };
        for (rule, ((machine, left_at), limit)) in
            machines.iter_mut().zip(&scene.duty.limits).enumerate()
        {
            if !concerns(rule) {
                continue;
            }
            let was_in_range = machine.is_in_range();
            let ended = machine.observe(limit, sample, scene.max_gap_ms);
            if was_in_range {
                *left_at = fix;
            }
            if let Some(episode) = ended {
                let kind = FactKind::Excursion {
                    probe,
                    rule,
                    episode,
                };
                scene.tell(episode.opened_by, &episode.began, left_at.as_ref(), kind);
            }
        }
    }

    fn is_settled(&self, scene: &Scene<'_>) -> bool {
        let settling_ms = scene.duty.profile.settling.as_millis();
        let settling_ms = i64::try_from(settling_ms).unwrap_or(i64::MAX);
        self.began
            .is_some_and(|began| scene.stamp.since_ms(&began) >= settling_ms)
    }

    fn charge(&mut self, scene: &mut Scene<'_>, percent: Option<u8>) {
        let Some(percent) = percent else { return };
        let limit = scene.duty.profile.battery_low_percent;
        let was_low = self.battery.low().is_some();
        let ended = self.battery.observe(percent, limit, scene.stamp, scene.key);
        if let Some(low) = ended {
            let kind = FactKind::BatteryLow(low);
            scene.tell(low.opened_by, &low.began, self.battery_fix.as_ref(), kind);
        } else if !was_low {
            self.battery_fix = self.motion.last().copied();
        }
    }

    /// An alarm record is evidence: it decides only where no reading covers its moment.
    fn heed(&mut self, scene: &mut Scene<'_>, alarm: &Alarm) {
        match alarm.kind {
            AlarmKind::TemperatureAbove(probe) => self.claim(scene, alarm, probe, Side::Above),
            AlarmKind::TemperatureBelow(probe) => self.claim(scene, alarm, probe, Side::Below),
            AlarmKind::Shock => self.batter(scene, alarm),
            AlarmKind::Battery => {
                let covered = self
                    .battery
                    .last()
                    .is_some_and(|last| scene.stamp.since_ms(last) <= scene.max_gap_ms);
                let percent = u8::try_from(alarm.extreme).ok();
                self.charge(scene, percent.filter(|_| !covered));
            }
            // Judged by later versions of the rules; the records are kept.
            AlarmKind::HumidityAbove
            | AlarmKind::HumidityBelow
            | AlarmKind::FreeFall
            | AlarmKind::Tilt
            | AlarmKind::Light
            | AlarmKind::Door
            | AlarmKind::SensorFault => {}
        }
    }

    /// The device says that a probe has been beyond its own limit since some time.
    fn claim(&mut self, scene: &mut Scene<'_>, alarm: &Alarm, probe: u8, side: Side) {
        let Some(since) = scene.timeline.stamp(scene.key, alarm.since) else {
            return;
        };
        if !self.is_settled(scene) && !settled_since_boot(scene, alarm.since) {
            return;
        }
        let limits: Vec<_> = scene.duty.limits.clone();
        for (rule, limit) in limits.iter().enumerate().filter(|(_, l)| l.side() == side) {
            let Some((begin, now)) = limit.claimed_by(alarm.limit, alarm.extreme) else {
                continue;
            };
            let machine = self.excursions.get(usize::from(probe));
            let machine = machine.and_then(|machines| machines.get(rule));
            let last = machine
                .and_then(|(machine, _)| machine.last())
                .map(|last| last.at);
            if last.is_some_and(|last| scene.stamp.since_ms(&last) <= scene.max_gap_ms) {
                continue;
            }
            let uncovered = last.is_none_or(|last| since.since_ms(&last) > 0);
            if uncovered && since.uptime_ms < scene.stamp.uptime_ms {
                self.judge(scene, probe, since, begin, |of| of == rule);
            }
            self.judge(scene, probe, scene.stamp, now, |of| of == rule);
        }
    }

    fn batter(&mut self, scene: &mut Scene<'_>, alarm: &Alarm) {
        let stamp = |uptime| scene.timeline.stamp(scene.key, uptime);
        let impact = Impact::of(alarm, scene.key, stamp);
        let judged = impact.zip(scene.duty.shock());
        let judged = judged.and_then(|(impact, rule)| Some((impact, impact.judge(rule)?)));
        let Some((impact, ground)) = judged else {
            return;
        };
        self.settle_battering(scene, |battering| !battering.goes_on_with(&impact));
        match &mut self.battering {
            Some((battering, _)) => battering.add(impact, ground),
            None => {
                let fix = self.motion.last().copied();
                self.battering = Some((Battering::starting(impact, ground), fix));
            }
        }
    }

    /// Impacts are complete once `over` says so.
    fn settle_battering(&mut self, scene: &mut Scene<'_>, over: impl Fn(&Battering) -> bool) {
        if let Some((battering, fix)) = self.battering.take_if(|(battering, _)| over(battering)) {
            let first = &battering.first;
            let kind = FactKind::Battered(battering);
            scene.tell(first.key, &first.at, fix.as_ref(), kind);
        }
    }
}

/// Whether the device had been on for the settling time when the condition began; for an alarm whose
/// earlier records have not come yet.
fn settled_since_boot(scene: &Scene<'_>, since: UptimeMs) -> bool {
    u128::from(since.get()) >= scene.duty.profile.settling.as_millis()
}

fn fact(
    context: &Context,
    device: &DeviceId,
    duty: &Duty,
    position: usize,
    (key, at, fix): (RecordKey, &Stamp, Option<&Fix>),
    kind: FactKind,
) -> Fact {
    Fact {
        shipment: duty.shipment,
        unit: duty.unit,
        duty: position,
        device: device.clone(),
        key,
        at: at.dated,
        place: fix.and_then(|fix| place(context, at, fix)),
        kind,
    }
}

/// Where `fix` was, if it is of the time of `at`.
fn place(context: &Context, at: &Stamp, fix: &Fix) -> Option<Place> {
    let apart_ms = at.since_ms(&fix.at).max(fix.at.since_ms(at));
    (apart_ms <= PLACE_AGE_MAX_MS).then(|| context.place(fix.point, fix.accuracy_m))
}
