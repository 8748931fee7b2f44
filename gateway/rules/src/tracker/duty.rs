//! What one tracker sees of one unit, while it is attached to it.

use protocol::key::DeviceId;
use protocol::reading::Reading;
use protocol::record::{Alarm, AlarmKind, Record};
use serde::{Deserialize, Serialize};

use super::limits::Limits;
use super::scene::{Scene, fact};
use super::track::Track;
use crate::condition::device::Battery;
use crate::condition::fall::Fall;
use crate::condition::gap::Coverage;
use crate::condition::limit::Limit;
use crate::condition::shock::{Battering, Impact};
use crate::context::{Context, Duty};
use crate::doubt::is_possible_alarm;
use crate::fact::{Fact, FactKind};
use crate::place::fix::Fix;
use crate::quantity::Quantity;
use crate::timeline::Stamp;

/// State of one duty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DutyState {
    began: Option<Stamp>,
    track: Track,
    coverage: Coverage,
    limits: Limits,
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
            limits: Limits::default(),
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
        let others = [self.battering.is_some(), self.battery.low().is_some()];
        self.limits.open_max() + others.into_iter().filter(|open| *open).count()
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
        self.limits
            .open_facts(context, device, duty, position, facts);
        let mut tell = |key, at: &Stamp, fix: Option<&Fix>, kind| {
            facts.push(fact(context, device, duty, position, (key, at, fix), kind));
        };
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
        if !is_usable(scene.duty, reading) {
            return;
        }
        let during = !self.limits.are_kept();
        let gap = self
            .coverage
            .observe(scene.stamp, scene.key, scene.max_gap_ms, during);
        if let Some(gap) = gap {
            let fix = self.track.last_fix().copied();
            scene.tell(gap.from_key, &gap.from, fix.as_ref(), FactKind::Gap(gap));
        }
    }

    fn feel(&mut self, scene: &mut Scene<'_>, reading: &Reading) {
        let fix = self.track.last_fix().copied();
        let settled = self.is_settled(scene);
        self.limits.feel(scene, reading, fix, settled);
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
            AlarmKind::Shock => self.batter(scene, alarm),
            AlarmKind::Battery => {
                let covered = self
                    .battery
                    .last()
                    .is_some_and(|last| scene.stamp.since_ms(last) <= scene.max_gap_ms);
                let percent = u8::try_from(alarm.extreme).ok();
                self.charge(scene, percent.filter(|_| !covered));
            }
            AlarmKind::FreeFall => self.fall(scene, alarm),
            // Readings say which sensor it is.
            AlarmKind::SensorFault => {}
            _ => {
                let fix = self.track.last_fix().copied();
                let settled = self.is_settled(scene);
                self.limits.heed(scene, alarm, fix, settled);
            }
        }
    }

    /// Each fall is an event of its own: a device tells of one at a time.
    fn fall(&self, scene: &mut Scene<'_>, alarm: &Alarm) {
        let began = scene.timeline.stamp(scene.key, alarm.since);
        let Some((began, rule)) = began.zip(scene.duty.profile.free_fall) else {
            return;
        };
        let fall = Fall::of(alarm, began, scene.stamp);
        if fall.is_event(&rule) {
            let fix = self.track.last_fix().copied();
            scene.tell(scene.key, &began, fix.as_ref(), FactKind::Fell(fall));
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

/// Whether a reading measures what the goods are judged by: temperature, where there is a limit to it.
fn is_usable(duty: &Duty, reading: &Reading) -> bool {
    let measures = |quantity: Quantity| {
        let mut probes = quantity.probes();
        probes.any(|probe| quantity.measured(reading, probe).is_some())
    };
    let mut watched = duty.limits.iter().map(Limit::quantity);
    // Limits stand quantity by quantity, temperature first.
    match watched.next() {
        None => true,
        Some(Quantity::Temperature) => measures(Quantity::Temperature),
        Some(first) => measures(first) || watched.any(measures),
    }
}
