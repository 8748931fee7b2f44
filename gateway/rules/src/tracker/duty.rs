//! What one tracker sees of one unit, while it is attached to it.

use protocol::key::DeviceId;
use protocol::reading::{Reading, TEMPERATURE_PROBES_MAX};
use protocol::record::{Alarm, AlarmKind, Record};
use protocol::units::{CentiCelsius, UptimeMs};
use serde::{Deserialize, Serialize};

use super::scene::{Scene, fact};
use super::track::Track;
use crate::condition::device::Battery;
use crate::condition::excursion::Excursion;
use crate::condition::figures::Sample;
use crate::condition::gap::Coverage;
use crate::condition::shock::{Battering, Impact};
use crate::context::{Context, Duty};
use crate::doubt::is_possible_alarm;
use crate::event::Side;
use crate::fact::{Fact, FactKind};
use crate::place::fix::Fix;
use crate::timeline::Stamp;

/// State of one duty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DutyState {
    began: Option<Stamp>,
    track: Track,
    coverage: Coverage,
    /// By probe, then by rule: the machine, and where it left the range. Empty for a probe that never
    /// told a value.
    excursions: [Vec<(Excursion, Option<Fix>)>; TEMPERATURE_PROBES_MAX],
    battering: Option<(Battering, Option<Fix>)>,
    battery: Battery,
    battery_fix: Option<Fix>,
}

impl DutyState {
    pub(super) fn new() -> Self {
        Self {
            began: None,
            track: Track::default(),
            coverage: Coverage::default(),
            excursions: Default::default(),
            battering: None,
            battery: Battery::default(),
            battery_fix: None,
        }
    }

    pub(super) const fn last_fix(&self) -> Option<&Fix> {
        self.track.last_fix()
    }

    pub(super) fn step(&mut self, scene: &mut Scene<'_>, record: &Record) {
        self.began.get_or_insert(scene.stamp);
        let now = scene.stamp;
        self.settle_battering(scene, |battering| battering.is_over(&now));
        match record {
            Record::Reading(reading) => {
                // A gap is told where the goods were when it began, so before they are located anew.
                self.cover(scene, reading);
                self.track.locate(scene, reading);
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

    /// How many facts [`Self::open_facts`] gives, or a few more: not everything pending comes to be open.
    pub(super) fn open_max(&self) -> usize {
        let machines = self.excursions.iter().flatten();
        let begun = machines.filter(|(machine, _)| !machine.is_in_range());
        let others = [self.battering.is_some(), self.battery.low().is_some()];
        begun.count() + others.into_iter().filter(|open| *open).count()
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
            let fix = self.track.last_fix().copied();
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
        let fix = self.track.last_fix().copied();
        let Some(machines) = self.excursions.get_mut(usize::from(probe)) else {
            return;
        };
        machines.resize_with(scene.duty.limits.len(), Default::default);
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
            self.battery_fix = self.track.last_fix().copied();
        }
    }

    /// An alarm record is evidence: it decides only where no reading covers its moment, and not at all
    /// when it cannot be what it says.
    fn heed(&mut self, scene: &mut Scene<'_>, alarm: &Alarm) {
        if !is_possible_alarm(alarm) {
            return;
        }
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
            let Some((begin, now)) = limit.claimed_by(centi(alarm.limit), centi(alarm.extreme))
            else {
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
                let fix = self.track.last_fix().copied();
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

/// The nearest temperature that the wire can carry.
fn centi(raw: i32) -> i32 {
    i32::from(CentiCelsius::saturating(i64::from(raw)).get())
}

/// Whether the device had been on for the settling time when the condition began; for an alarm whose
/// earlier records have not come yet.
fn settled_since_boot(scene: &Scene<'_>, since: UptimeMs) -> bool {
    u128::from(since.get()) >= scene.duty.profile.settling.as_millis()
}
