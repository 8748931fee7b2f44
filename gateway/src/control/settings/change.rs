//! `KEY=VALUE` as people write it, against the one table of settings in protocol.

use std::time::Duration;

use protocol::downlink::{SETTINGS_RANGES, Settings, SettingsField, SettingsRange};
use protocol::setting::Amount;

use crate::config;
use crate::control::row::Row;

/// The word for a limit that is not watched.
const OFF: &str = "off";

/// Something wrong with a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// As written.
    key: String,
    /// As written.
    value: Option<String>,
    problem: &'static str,
    /// What would be allowed.
    allowed: String,
    /// The key that was probably meant.
    meant: Option<&'static str>,
}

impl Fault {
    /// One flat object; its names are those of a fault of the configuration.
    pub(super) fn row(&self) -> Row {
        let mut row = Row::new();
        row.put("key", self.key.as_str());
        row.put("value", self.value.clone());
        row.put("problem", self.problem);
        row.put("allowed", self.allowed.as_str());
        row.put("did_you_mean", self.meant);
        row
    }
}

/// The keys that people may set; the version is the gateway's to give.
pub fn keys() -> impl Iterator<Item = &'static SettingsRange> {
    let ranges = SETTINGS_RANGES.iter();
    ranges.filter(|range| range.field != SettingsField::Version)
}

/// `base` with every change made, or everything that is wrong with them.
pub(super) fn apply(base: Settings, changes: &[String]) -> Result<Settings, Vec<Fault>> {
    let mut settings = base;
    let mut faults = Vec::new();
    let mut given = Vec::new();
    for change in changes {
        match parse(change).and_then(|(range, raw)| {
            if given.contains(&range.field) {
                return Err(fault(change, "given twice", "each key once".to_owned()));
            }
            given.push(range.field);
            let changed = settings.with(range.field, raw);
            changed.ok_or_else(|| not_allowed(change, range))
        }) {
            Ok(changed) => settings = changed,
            Err(fault) => faults.push(fault),
        }
    }
    // A limit that could not be read says nothing about the other one.
    let limits = [
        SettingsField::TemperatureAbove,
        SettingsField::TemperatureBelow,
    ];
    let limits = limits.map(|field| field.range().name);
    let readable = !faults
        .iter()
        .any(|fault| limits.contains(&fault.key.as_str()));
    if readable && settings.validate().is_err() {
        faults.push(crossed(&settings));
    }
    if faults.is_empty() {
        Ok(settings)
    } else {
        Err(faults)
    }
}

/// What a setting may be, with its unit.
pub fn allowed(range: &SettingsRange) -> String {
    let SettingsRange {
        field, min, max, ..
    } = *range;
    let off = if range.optional { ", or off" } else { "" };
    let (min, raw) = (Amount::number(field, min), Some(max));
    format!("{min} to {}{off}", Amount { field, raw })
}

/// The setting that `change` names and its raw value; `None` is off.
fn parse(change: &str) -> Result<(&'static SettingsRange, Option<i64>), Fault> {
    let Some((key, value)) = change.split_once('=') else {
        return Err(fault(change, "no value", "KEY=VALUE".to_owned()));
    };
    let Some(range) = keys().find(|range| range.name == key) else {
        return Err(unknown(change, key));
    };
    if value == OFF {
        return Ok((range, None));
    }
    let raw = raw(value, range).ok_or_else(|| not_allowed(change, range))?;
    Ok((range, Some(raw)))
}

fn fault(change: &str, problem: &'static str, allowed: String) -> Fault {
    let (key, value) = match change.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (change, None),
    };
    Fault {
        key: key.to_owned(),
        value,
        problem,
        allowed,
        meant: None,
    }
}

fn unknown(change: &str, key: &str) -> Fault {
    let names: Vec<&str> = keys().map(|range| range.name).collect();
    let meant = config::nearest(key, names.iter().copied());
    Fault {
        meant: meant
            .and_then(|name| keys().find(|range| range.name == name))
            .map(|range| range.name),
        ..fault(change, "unknown key", names.join(", "))
    }
}

fn not_allowed(change: &str, range: &SettingsRange) -> Fault {
    fault(change, "not allowed", allowed(range))
}

fn crossed(settings: &Settings) -> Fault {
    let show = |field| {
        Amount {
            field,
            raw: settings.raw(field),
        }
        .to_string()
    };
    Fault {
        key: SettingsField::TemperatureBelow.range().name.to_owned(),
        value: Some(show(SettingsField::TemperatureBelow)),
        problem: "not below temperature_above",
        allowed: format!(
            "less than {}, or off",
            show(SettingsField::TemperatureAbove)
        ),
        meant: None,
    }
}

/// A number with or without the setting's unit; times also as in the configuration, such as 5min.
fn raw(value: &str, range: &SettingsRange) -> Option<i64> {
    let per_ms = match range.unit {
        "s" => Some(1_000),
        "ms" => Some(1),
        _ => None,
    };
    if let (Some(per_ms), Ok(duration)) = (per_ms, config::duration(value)) {
        return whole(duration, per_ms);
    }
    let number = value.strip_suffix(range.unit).unwrap_or(value).trim_end();
    scaled(number, range.decimals)
}

/// `duration` in units of `per_ms` milliseconds, if it is a whole number of them.
fn whole(duration: Duration, per_ms: u128) -> Option<i64> {
    let ms = duration.as_millis();
    ms.is_multiple_of(per_ms)
        .then(|| i64::try_from(ms / per_ms).ok())?
}

/// A decimal number in units of its last decimal place; more places than that are no value.
fn scaled(number: &str, decimals: u8) -> Option<i64> {
    let (sign, digits) = match number.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let places = usize::from(decimals);
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let good = plain(whole) && (plain(fraction) || !digits.contains('.'));
    if !good || fraction.len() > places {
        return None;
    }
    let raw: i64 = format!("{whole}{fraction:0<places$}").parse().ok()?;
    Some(sign * raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply_all(changes: &[&str]) -> Result<Settings, Vec<Fault>> {
        let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
        apply(Settings::DEFAULT, &changes)
    }

    fn raw_of(change: &str) -> Option<i64> {
        let (key, _) = change.split_once('=').unwrap();
        let field = keys().find(|range| range.name == key).unwrap().field;
        apply_all(&[change])
            .unwrap_or_else(|faults| panic!("{faults:?}"))
            .raw(field)
    }

    #[test]
    fn values_are_numbers_in_the_unit_of_their_key_with_or_without_it() {
        for (change, raw) in [
            ("sample_moving=30", 30),
            ("sample_moving=30s", 30),
            ("sample_resting=10min", 600),
            ("publish_interval=1h", 3_600),
            ("temperature_above=8.5", 850),
            ("temperature_above=8.05 C", 805),
            ("temperature_below=-0.05C", -5),
            ("temperature_below=-20", -2_000),
            ("shock_peak=2.125g", 2_125),
            ("shock_duration=20ms", 20),
            ("shock_duration=1s", 1_000),
            ("shock_delta_v=900mm/s", 900),
            ("battery_low=20%", 20),
            ("batch_readings=10", 10),
            ("light_above=500lx", 500),
        ] {
            assert_eq!(raw_of(change), Some(raw), "{change}");
        }
        assert_eq!(raw_of("temperature_above=off"), None);
        assert_eq!(raw_of("light_above=off"), None);
    }

    #[test]
    fn a_value_that_is_none_or_outside_its_range_is_told_what_is_allowed() {
        for (change, allowed) in [
            ("sample_moving=4", "5 to 3600 s"),
            ("sample_moving=1500ms", "5 to 3600 s"),
            ("sample_moving=30.5", "5 to 3600 s"),
            ("sample_moving=off", "5 to 3600 s"),
            ("sample_moving=", "5 to 3600 s"),
            ("sample_moving=99999999999999999999", "5 to 3600 s"),
            ("temperature_above=8.505", "-200.00 to 150.00 C, or off"),
            ("temperature_above=--8", "-200.00 to 150.00 C, or off"),
            ("temperature_above=8F", "-200.00 to 150.00 C, or off"),
            ("temperature_above=.5", "-200.00 to 150.00 C, or off"),
            ("shock_peak=0.1g", "0.500 to 400.000 g"),
        ] {
            let faults = apply_all(&[change]).unwrap_err();
            let told: Vec<_> = faults
                .iter()
                .map(|fault| (fault.problem, fault.allowed.as_str()))
                .collect();
            assert_eq!(told, [("not allowed", allowed)], "{change}");
        }
    }

    #[test]
    fn every_fault_is_told_at_once_and_nothing_is_changed() {
        let faults = apply_all(&[
            "sample_moving=30",
            "sample_movin=40",
            "version=9",
            "battery_low",
            "battery_low=91",
            "sample_moving=50",
        ])
        .unwrap_err();
        let told: Vec<_> = faults
            .iter()
            .map(|fault| (fault.key.as_str(), fault.problem))
            .collect();
        assert_eq!(
            told,
            [
                ("sample_movin", "unknown key"),
                ("version", "unknown key"),
                ("battery_low", "no value"),
                ("battery_low", "not allowed"),
                ("sample_moving", "given twice"),
            ]
        );
        assert_eq!(faults[0].meant, Some("sample_moving"));
        for range in keys() {
            assert!(
                faults[0].allowed.contains(range.name),
                "{}",
                faults[0].allowed
            );
        }
        assert_eq!(faults[1].meant, None);
    }

    #[test]
    fn limits_are_checked_against_each_other_and_against_what_was_wanted_before() {
        assert!(apply_all(&["temperature_below=5", "temperature_above=5.01"]).is_ok());
        let faults = apply_all(&["temperature_below=9"]).unwrap_err();
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].problem, "not below temperature_above");
        assert_eq!(faults[0].allowed, "less than 8.00 C, or off");
        let with_others = apply_all(&["temperature_below=9", "battery_low=99"]).unwrap_err();
        assert_eq!(with_others.len(), 2);
        let unreadable = apply_all(&["temperature_below=9", "temperature_above=warm"]).unwrap_err();
        assert_eq!(unreadable.len(), 1);
        let row = faults[0].row().to_string();
        assert!(
            row.starts_with(r#"{"key":"temperature_below","value":"9.00 C""#),
            "{row}"
        );
    }
}
