//! Reading a scenario: every number within its range, or the key that is not.

use protocol::units::UtcMs;

use super::{HORIZON_MAX_HOURS, Scenario, ScenarioError, Span, Strikes, TRACKERS_MAX};

/// The longest horizon in minutes: no delay or duration needs to be longer.
const MINUTES_MAX: f64 = 60.0 * 24.0 * 14.0;

/// A seed moves the start by whole minutes, up to a day, so that worlds differ in time of day too.
const START_SPREAD_MINUTES: u64 = 24 * 60;

const MINUTE_MS: i64 = 60_000;

impl Scenario {
    /// Parse and check a scenario.
    ///
    /// # Errors
    /// When it is not TOML of this shape, or a value is outside its range; the first one found.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(ScenarioError::Undecodable)?;
        scenario.checked()
    }

    /// The scenario itself, if every value is within its range.
    ///
    /// # Errors
    /// The first value that is not.
    pub fn checked(self) -> Result<Self, ScenarioError> {
        self.check_counts()?;
        self.check_shares()?;
        self.check_spans()?;
        self.check_rates()?;
        Ok(self)
    }

    /// Event time at which the world begins: the constant date moved by the seed.
    #[must_use]
    pub fn start_utc(&self) -> UtcMs {
        let minutes = (self.seed % START_SPREAD_MINUTES).cast_signed();
        UtcMs::saturating(self.start.timestamp_millis() + minutes * MINUTE_MS)
    }

    fn check_counts(&self) -> Result<(), ScenarioError> {
        let trackers = self.trackers as f64;
        within("trackers", trackers, 1.0, TRACKERS_MAX as f64, "1 to 1000")?;
        let hours = f64::from(self.horizon_hours);
        let longest = f64::from(HORIZON_MAX_HOURS);
        within("horizon_hours", hours, 1.0, longest, "1 to 336")
    }

    fn check_shares(&self) -> Result<(), ScenarioError> {
        let faults: [(&'static str, Strikes); 5] = [
            ("temperature.failing.share", self.temperature.failing),
            ("shock.hard.share", self.shock.hard),
            ("battery.weak.share", self.battery.weak),
            ("silence.radio.share", self.silence.radio),
            ("silence.asleep.share", self.silence.asleep),
        ];
        let cargo = self.cargo.chilled_share + self.cargo.frozen_share;
        let shares = [
            ("cargo.chilled_share", self.cargo.chilled_share),
            ("cargo.frozen_share", self.cargo.frozen_share),
            ("cargo.chilled_share + cargo.frozen_share", cargo),
            ("legs.hub_share", self.legs.hub_share),
            ("legs.queue_share", self.legs.queue_share),
            ("legs.pair_share", self.legs.pair_share),
        ];
        let faults = faults.map(|(key, strikes)| (key, strikes.share));
        for (key, share) in shares.into_iter().chain(faults) {
            within(key, share, 0.0, 1.0, "0 to 1")?;
        }
        Ok(())
    }

    fn check_spans(&self) -> Result<(), ScenarioError> {
        for (key, span) in self.minutes() {
            rising(key, span, 0.0, MINUTES_MAX, "[0, 20160], rising")?;
        }
        let (legs, ambient) = (&self.legs, self.temperature.ambient_c);
        rising("legs.early_km", legs.early_km, 5.0, 5e3, RISING_KM)?;
        rising("legs.km", legs.km, 5.0, 5e3, RISING_KM)?;
        let kmh = legs.cruise_kmh;
        rising("legs.cruise_kmh", kmh, 35.0, 120.0, "[35, 120], rising")?;
        let allowed = "[-50, 60], rising";
        rising("temperature.ambient_c", ambient, -50.0, 60.0, allowed)?;
        let tunnel = self.gnss.tunnel_m;
        rising("gnss.tunnel_m", tunnel, 100.0, 2e4, "[100, 20000], rising")?;
        let pulse = self.shock.pulse_ms;
        rising("shock.pulse_ms", pulse, 1.0, 100.0, "[1, 100], rising")?;
        for (key, span) in self.percents() {
            rising(key, span, 0.0, 100.0, "[0, 100], rising")?;
        }
        for (key, span) in self.peaks() {
            rising(key, span, 0.0, 3.0, "[0, 3], rising")?;
        }
        Ok(())
    }

    fn minutes(&self) -> [(&'static str, Span); 13] {
        let (legs, temperature) = (&self.legs, &self.temperature);
        let (shock, silence) = (&self.shock, &self.silence);
        [
            ("legs.early_loading_minutes", legs.early_loading_minutes),
            ("legs.loading_minutes", legs.loading_minutes),
            ("legs.hub_minutes", legs.hub_minutes),
            ("legs.queue_minutes", legs.queue_minutes),
            (
                "temperature.first_failure_minutes",
                temperature.first_failure_minutes,
            ),
            ("temperature.failure_minutes", temperature.failure_minutes),
            ("temperature.repair_minutes", temperature.repair_minutes),
            ("temperature.door_minutes", temperature.door_minutes),
            ("shock.first_minutes", shock.first_minutes),
            ("shock.minutes", shock.minutes),
            ("silence.radio_minutes", silence.radio_minutes),
            ("silence.radio_for_minutes", silence.radio_for_minutes),
            ("silence.asleep_for_minutes", silence.asleep_for_minutes),
        ]
    }

    fn percents(&self) -> [(&'static str, Span); 4] {
        let battery = &self.battery;
        [
            ("battery.percent", battery.percent),
            ("battery.weak_percent", battery.weak_percent),
            ("battery.percent_per_hour", battery.percent_per_hour),
            (
                "battery.weak_percent_per_hour",
                battery.weak_percent_per_hour,
            ),
        ]
    }

    fn peaks(&self) -> [(&'static str, Span); 2] {
        let shock = &self.shock;
        [
            ("shock.hard_times_limit", shock.hard_times_limit),
            ("shock.bump_times_limit", shock.bump_times_limit),
        ]
    }

    fn check_rates(&self) -> Result<(), ScenarioError> {
        let legs = &self.legs;
        let rates = [
            (
                "temperature.doors_per_hour",
                self.temperature.doors_per_hour,
                6.0,
                "0 to 6",
            ),
            (
                "temperature.probe_noise_c",
                self.temperature.probe_noise_c,
                2.0,
                "0 to 2",
            ),
            (
                "shock.bumps_per_hour",
                self.shock.bumps_per_hour,
                20.0,
                "0 to 20",
            ),
            ("gnss.error_m", self.gnss.error_m, 20.0, "0 to 20"),
            (
                "gnss.tunnels_per_100_km",
                self.gnss.tunnels_per_100_km,
                10.0,
                "0 to 10",
            ),
            ("legs.rest_minutes", legs.rest_minutes, 1_440.0, "0 to 1440"),
        ];
        for (key, value, max, allowed) in rates {
            within(key, value, 0.0, max, allowed)?;
        }
        within(
            "legs.rest_after_hours",
            legs.rest_after_hours,
            0.5,
            24.0,
            "0.5 to 24",
        )
    }
}

const RISING_KM: &str = "[5, 5000], rising";

/// NaN is outside every range.
fn within(
    key: &'static str,
    value: f64,
    min: f64,
    max: f64,
    allowed: &'static str,
) -> Result<(), ScenarioError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ScenarioError::OutOfRange {
        key,
        value,
        allowed,
    })
}

fn rising(
    key: &'static str,
    span: Span,
    min: f64,
    max: f64,
    allowed: &'static str,
) -> Result<(), ScenarioError> {
    within(key, span[0], min, max, allowed)?;
    within(key, span[1], span[0], max, allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMO: &str = include_str!("../../scenarios/demo.toml");

    #[test]
    fn the_shipped_demo_scenario_states_exactly_the_defaults() {
        assert_eq!(Scenario::parse(DEMO).unwrap(), Scenario::default());
    }

    #[test]
    fn the_shipped_demo_scenario_states_every_key() {
        let stated: toml::Table = DEMO.parse().unwrap();
        let every: toml::Table = toml::to_string(&Scenario::default())
            .unwrap()
            .parse()
            .unwrap();
        let keys = |table: &toml::Table| {
            let nested = |(key, value): (&String, &toml::Value)| match value {
                toml::Value::Table(inner) => inner.keys().map(|k| format!("{key}.{k}")).collect(),
                _ => vec![key.clone()],
            };
            let mut keys: Vec<String> = table.iter().flat_map(nested).collect();
            keys.sort();
            keys
        };
        assert_eq!(keys(&stated), keys(&every));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = Scenario::parse("seed = 1\n[legs]\nkilometres = 3\n").unwrap_err();
        let ScenarioError::Undecodable(source) = error else {
            panic!("not decodable");
        };
        assert!(source.to_string().contains("line 3"), "{source}");
    }

    #[test]
    fn a_value_outside_its_range_is_refused_by_key() {
        for (text, key) in [
            ("trackers = 0", "trackers"),
            ("[legs]\nhub_share = 1.5", "legs.hub_share"),
            ("[legs]\nkm = [300.0, 200.0]", "legs.km"),
            (
                "[temperature]\nprobe_noise_c = nan",
                "temperature.probe_noise_c",
            ),
        ] {
            let said = Scenario::parse(text).unwrap_err().to_string();
            assert!(said.contains(key), "{said}");
        }
    }

    #[test]
    fn the_start_follows_from_the_seed_alone() {
        let start = |seed| {
            Scenario {
                seed,
                ..Scenario::default()
            }
            .start_utc()
            .get()
        };
        assert_eq!(start(5), start(5));
        assert_eq!(start(5) - start(0), 5 * MINUTE_MS);
        assert_eq!(start(START_SPREAD_MINUTES), start(0));
    }
}
