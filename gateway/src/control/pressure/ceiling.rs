//! How slowly a device may sample and report before it harms what is said of its goods.
//!
//! The ceiling of a device is the least of these over everything it is attached to in the plan:
//!
//! | of its profile | part | why |
//! |---|---|---|
//! | `max_gap` | a half | a longer gap makes the verdict unknown; one sample may be late or lost |
//! | shortest temperature delay | a half | an excursion just long enough to matter has two readings |
//! | `silent_after` | a quarter | sampled and then published that late, it is still heard twice in time |
//!
//! A profile without `max_gap` lets a reading hold for three of the longest intervals in force, so there the
//! delay decides. A rule without delay allows nothing slower than people have set. A device that is in no
//! plan is judged by nothing; it is held to an hour.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::downlink::{Settings, SettingsField};
use protocol::key::DeviceId;
use rules::Context;
use rules::plan::profile::Profile;

/// Devices are asked to sample and to report so many times more slowly. In the settings they start with, that
/// leaves 72 of 288 readings a day at rest.
const SLOWER_TIMES: i64 = 4;

/// Longest interval asked of a moving device, in seconds: a truck has gone 7 km, and a stop of a quarter of an
/// hour at a fence is still seen twice.
const MOVING_MAX_S: i64 = 300;

/// Longest interval asked of a device that is in no plan.
const UNPLANNED_MAX: Duration = Duration::from_secs(3_600);

/// The ceilings of all devices of a plan.
#[derive(Clone, Debug, Default)]
pub struct Ceilings(BTreeMap<DeviceId, Duration>);

impl Ceilings {
    /// Those of a plan with its options.
    #[must_use]
    pub fn of(context: &Context) -> Self {
        let of_device = |device: &DeviceId| {
            let duties = context.duties(device).iter();
            let least = duties.map(|duty| tolerated(&duty.profile)).min()?;
            Some((device.clone(), least))
        };
        Self(context.trackers().filter_map(of_device).collect())
    }

    /// The settings that send least within the ceiling of `device`; never faster than `base`.
    #[must_use]
    pub fn slower(&self, device: &DeviceId, base: Settings) -> Settings {
        let ceiling = self.0.get(device).copied().unwrap_or(UNPLANNED_MAX);
        let ceiling_s = i64::try_from(ceiling.as_secs()).unwrap_or(i64::MAX);
        let fields = [
            (SettingsField::SampleResting, ceiling_s),
            (SettingsField::SampleMoving, ceiling_s.min(MOVING_MAX_S)),
            (SettingsField::PublishInterval, ceiling_s),
        ];
        fields.into_iter().fold(base, |settings, (field, max_s)| {
            let Some(before) = settings.raw(field) else {
                return settings;
            };
            let most = max_s.min(field.range().max);
            let slower = before.saturating_mul(SLOWER_TIMES).min(most).max(before);
            settings.with(field, Some(slower)).unwrap_or(settings)
        })
    }
}

/// The longest interval that a profile tolerates.
fn tolerated(profile: &Profile) -> Duration {
    let limits = profile.limits.iter();
    let slow = limits.filter(|rule| rule.quantity.is_slow());
    let delays = slow.map(|rule| rule.delay / 2);
    let gap = profile.max_gap.map(|gap| gap / 2);
    let silence = profile.silent_after / 4;
    delays.chain(gap).fold(silence, Duration::min)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rules::plan::Plan;

    use super::*;

    /// Intervals at rest, moving, near a limit and between publications, in seconds.
    fn intervals(settings: &Settings) -> [i64; 4] {
        use SettingsField as F;
        let fields = [
            F::SampleResting,
            F::SampleMoving,
            F::SampleNearLimit,
            F::PublishInterval,
        ];
        fields.map(|field| settings.raw(field).unwrap())
    }

    /// The slowest a tracker of this profile is asked to be, from the settings it starts with.
    fn slowest(profile: &str) -> [i64; 4] {
        let plan = format!(
            "version = 1\n[[fence]]\nid = \"f\"\nlat = 1.0\nlon = 1.0\nradius_m = 300\n\
             [[profile]]\nname = \"p\"\n{profile}\n\
             [[shipment]]\nid = \"s\"\nprofile = \"p\"\n[[shipment.unit]]\nid = \"u\"\ntrackers = [\"t-1\"]\n\
             [[shipment.stop]]\nid = \"o\"\nfence = \"f\"\nrole = \"pickup\"\n"
        );
        let plan = Plan::parse(&plan).unwrap();
        let context = Context::new(Arc::new(plan), rules::Options::default());
        let device = "t-1".parse().unwrap();
        intervals(&Ceilings::of(&context).slower(&device, Settings::DEFAULT))
    }

    fn hot(delay: &str) -> String {
        format!(
            "[[profile.temperature]]\nname = \"hot\"\nabove = 8.0\ndelay = \"{delay}\"\nseverity = \"critical\"\n"
        )
    }

    #[test]
    fn a_tracker_goes_as_slow_as_its_profile_tolerates_and_never_faster_than_it_was() {
        assert_eq!(intervals(&Settings::DEFAULT), [300, 60, 60, 300]);
        // A quarter of two hours of silence, unless the profile says less.
        assert_eq!(slowest(&hot("10h")), [1_200, 240, 60, 1_200]);
        assert_eq!(slowest(&hot("20min")), [600, 240, 60, 600]);
        let gap = format!("max_gap = \"16min\"\n{}", hot("10h"));
        assert_eq!(slowest(&gap), [480, 240, 60, 480]);
        let silent = format!("silent_after = \"1h\"\n{}", hot("10h"));
        assert_eq!(slowest(&silent), [900, 240, 60, 900]);
        // Below what people have set nothing changes.
        assert_eq!(slowest(&hot("3min")), [300, 90, 60, 300]);
        assert_eq!(slowest(&hot("0s")), [300, 60, 60, 300]);
    }

    #[test]
    fn a_tracker_in_no_plan_is_held_to_an_hour_and_to_what_the_wire_allows() {
        let ceilings = Ceilings::default();
        let device = "t-1".parse().unwrap();
        let slow = ceilings.slower(&device, Settings::DEFAULT);
        assert_eq!(intervals(&slow), [1_200, 240, 60, 1_200]);
        let again = ceilings.slower(&device, slow);
        assert_eq!(intervals(&again), [3_600, 300, 60, 3_600]);
        assert_eq!(ceilings.slower(&device, again), again);
    }
}
