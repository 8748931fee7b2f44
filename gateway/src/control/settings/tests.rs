//! Settings from the desk's side; the device's part is played by the rows the committer writes.

use std::sync::{Arc, Mutex};

use chrono_tz::Tz;
use protocol::downlink::SettingsRefusal;
use protocol::key::RecordKey;
use protocol::units::{Seconds, UtcMs};
use tokio::sync::watch;

use super::*;
use crate::control::{Request, Running};
use crate::mqtt::endpoint::Handle;
use crate::store::memory::Memory;
use crate::store::settings::{Answer, InForce};

/// A desk on a disk whose power can be cut; no device is connected.
struct Rig {
    disk: Memory,
    desk: Desk,
}

impl Rig {
    fn new() -> Self {
        let disk = Memory::default();
        let running = Running {
            facts: Arc::new(Vec::new),
            posted: watch::channel(0).1,
            endpoint: Handle::default(),
        };
        let desk = Desk {
            store: disk.open(),
            zone: Tz::UTC,
            sinks: Vec::new(),
            running: Some(running),
            changing: Mutex::default(),
        };
        Self { disk, desk }
    }

    fn ask(&self, request: &Request) -> (Vec<Row>, Option<DeskError>) {
        let mut rows = Vec::new();
        let answer = self.desk.answer(request, &mut |row| {
            rows.push(row);
            ControlFlow::Continue(())
        });
        (rows, answer.err())
    }

    fn set(&self, device: &str, changes: &[&str]) -> Row {
        let (mut rows, error) = self.ask(&set(device, changes));
        assert!(error.is_none(), "{error:?} {rows:?}");
        assert_eq!(rows.len(), 1);
        rows.remove(0)
    }

    fn show(&self, device: Option<&str>) -> Vec<Row> {
        let device = device.map(ToOwned::to_owned);
        let (rows, error) = self.ask(&Request::ShowSettings { device });
        assert!(error.is_none(), "{error:?}");
        rows
    }

    fn known(&self, device: &str) -> Known {
        Known::load(&self.desk.store, &device.parse().unwrap()).unwrap()
    }

    fn answer(&self, device: &str, outcome: Result<(), SettingsRefusal>) {
        let mut batch = Batch::default();
        let answer = Answer {
            version: self.known(device).wanted.unwrap().settings.version,
            received_at: UtcMs::saturating(1_773_480_413_000),
            outcome,
        };
        settings::note_answer(&mut batch, &device.parse().unwrap(), &answer).unwrap();
        self.desk.store.apply(batch).unwrap();
    }

    fn record(&self, device: &str, settings: Settings) {
        let mut batch = Batch::default();
        let in_force = InForce {
            key: RecordKey::new(1, 1, 1),
            received_at: UtcMs::saturating(1_773_480_000_000),
            settings,
        };
        settings::note_in_force(&mut batch, &device.parse().unwrap(), &in_force).unwrap();
        self.desk.store.apply(batch).unwrap();
    }
}

fn set(device: &str, changes: &[&str]) -> Request {
    Request::SetSettings {
        device: device.to_owned(),
        changes: changes.iter().map(ToString::to_string).collect(),
    }
}

fn text<'a>(row: &'a Row, name: &str) -> &'a str {
    row.value(name).and_then(Value::as_str).unwrap_or_default()
}

fn version(row: &Row) -> u64 {
    row.value("version").and_then(Value::as_u64).unwrap()
}

#[test]
fn what_is_set_survives_a_power_cut_right_after_the_answer() {
    let rig = Rig::new();
    let row = rig.set("t-1", &["sample_moving=30s", "temperature_above=6.5"]);
    assert_eq!(text(&row, "state"), "waiting");
    assert_eq!(row.value("connected"), Some(&false.into()));
    let before = rig.known("t-1");
    let wanted = before.wanted.unwrap().settings;
    assert_eq!(wanted.sample_moving.get(), 30);
    assert_eq!(wanted.temperature_above.unwrap().get(), 650);
    assert_eq!(wanted.battery_low, Settings::DEFAULT.battery_low);
    rig.disk.cut_power();
    let after = Known::load(&rig.disk.open(), &"t-1".parse().unwrap()).unwrap();
    assert_eq!(after, before);
}

#[test]
fn a_change_starts_from_what_is_wanted_or_in_force_and_versions_only_rise() {
    let rig = Rig::new();
    let in_force = Settings {
        version: 4,
        sample_resting: Seconds::saturating(900),
        ..Settings::DEFAULT
    };
    rig.record("t-1", in_force);
    let first = version(&rig.set("t-1", &["sample_moving=30"]));
    let second = version(&rig.set("t-1", &["battery_low=20"]));
    assert!(4 < first && first < second, "{first} {second}");
    let wanted = rig.known("t-1").wanted.unwrap().settings;
    assert_eq!(wanted.sample_resting.get(), 900);
    assert_eq!(
        (wanted.sample_moving.get(), wanted.battery_low.get()),
        (30, 20)
    );
    let other = version(&rig.set("t-2", &["battery_low=20"]));
    assert!(second < other, "no version is given twice");
}

#[test]
fn a_version_is_newer_than_any_the_device_is_known_to_have_and_no_other_device_pays_for_it() {
    let rig = Rig::new();
    let far = Settings {
        version: u32::MAX - 1,
        ..Settings::DEFAULT
    };
    rig.record("t-1", far);
    assert_eq!(
        version(&rig.set("t-1", &["battery_low=20"])),
        u64::from(u32::MAX)
    );
    let (_, error) = rig.ask(&set("t-1", &["battery_low=21"]));
    assert!(
        matches!(error, Some(DeskError::VersionsUsedUp)),
        "{error:?}"
    );
    assert!(version(&rig.set("t-2", &["battery_low=20"])) < u64::from(u32::MAX - 1));
}

#[test]
fn setting_the_same_again_changes_nothing_unless_it_was_refused() {
    let rig = Rig::new();
    let first = version(&rig.set("t-1", &["sample_moving=30"]));
    let same = rig.set("t-1", &["sample_moving=30"]);
    assert_eq!(same.value("changed"), Some(&false.into()));
    assert_eq!(version(&same), first);
    rig.answer("t-1", Ok(()));
    assert_eq!(
        rig.set("t-1", &["sample_moving=30"]).value("changed"),
        Some(&false.into())
    );
    let next = version(&rig.set("t-1", &["sample_moving=31"]));
    rig.answer("t-1", Err(SettingsRefusal::NotStored));
    let again = rig.set("t-1", &["sample_moving=31"]);
    assert_eq!(again.value("changed"), Some(&true.into()));
    assert_eq!(text(&again, "state"), "waiting");
    assert!(version(&again) > next);
}

#[test]
fn settings_that_cannot_be_wanted_are_refused_whole_with_every_fault_and_nothing_is_written() {
    let rig = Rig::new();
    let (rows, error) = rig.ask(&set(
        "t-1",
        &["sample_moving=30", "batery_low=5", "light_above=0"],
    ));
    let error = error.unwrap();
    assert!(error.is_usage());
    assert_eq!(error.to_string(), "2 faults, nothing was changed");
    let keys: Vec<_> = rows.iter().map(|row| text(row, "key")).collect();
    assert_eq!(keys, ["batery_low", "light_above"]);
    assert_eq!(text(&rows[0], "did_you_mean"), "battery_low");
    assert_eq!(text(&rows[1], "allowed"), "1 to 200000 lx, or off");
    assert_eq!(rig.known("t-1"), Known::default());
    let (_, error) = rig.ask(&set("no such name", &["battery_low=20"]));
    assert!(error.unwrap().is_usage());
}

#[test]
fn show_and_status_tell_where_settings_stand_and_why_they_were_refused() {
    let rig = Rig::new();
    for device in ["t-1", "t-2", "t-3"] {
        rig.set(device, &["sample_moving=30"]);
    }
    rig.answer("t-2", Ok(()));
    rig.answer("t-3", Err(SettingsRefusal::NotStored));
    let shown = rig.show(None);
    let states: Vec<_> = shown
        .iter()
        .map(|row| (text(row, "device"), text(row, "state")))
        .collect();
    assert_eq!(
        states,
        [("t-1", "waiting"), ("t-2", "reported"), ("t-3", "refused")]
    );
    assert_eq!(text(&shown[1], "since"), "2026-03-14T09:26:53.000Z");
    assert_eq!(
        shown[1].value("in_force_version"),
        shown[1].value("version")
    );
    assert_eq!(text(&shown[2], "reason"), "the device could not store them");

    let (status, _) = rig.ask(&Request::Status);
    let lines: Vec<_> = status.iter().map(ToString::to_string).collect();
    for expected in [
        r#"{"name":"settings_wanted","value":3}"#,
        r#"{"name":"settings_waiting","value":1}"#,
        r#"{"name":"settings_refused","value":1}"#,
        r#"{"name":"settings_refusal","value":"the device could not store them","device":"t-3","#,
    ] {
        assert!(
            lines.iter().any(|line| line.starts_with(expected)),
            "{expected} in {lines:#?}"
        );
    }
}

#[test]
fn each_setting_of_a_device_is_shown_with_what_is_wanted_in_force_and_allowed() {
    let rig = Rig::new();
    let settings = Settings {
        version: 4,
        light_above: None,
        ..Settings::DEFAULT
    };
    rig.record("t-1", settings);
    rig.set("t-1", &["temperature_above=6.5", "light_above=500"]);
    let rows = rig.show(Some("t-1"));
    assert_eq!(rows.len(), 1 + keys().count());
    let of = |key| {
        rows.iter()
            .find(|row| text(row, "key") == key)
            .unwrap()
            .to_string()
    };
    assert_eq!(
        of("temperature_above"),
        r#"{"device":"t-1","key":"temperature_above","wanted":6.5,"in_force":8.0,"default":8.0,"unit":"C","min":-200.0,"max":150.0,"off_allowed":true}"#
    );
    assert!(of("light_above").contains(r#""wanted":500,"in_force":"off","default":"off""#));
    assert!(of("sample_moving").contains(r#""wanted":60,"in_force":60,"#));
    let unheard = rig.show(Some("t-9"));
    assert_eq!(text(&unheard[0], "state"), "unwanted");
    assert_eq!(unheard[0].value("heard"), Some(&false.into()));
    assert!(unheard[1].value("in_force").is_none());
}

#[test]
fn cleared_settings_are_wanted_no_longer_and_a_damaged_row_can_be_cleared() {
    let rig = Rig::new();
    rig.set("t-1", &["sample_moving=30"]);
    let mut batch = Batch::default();
    crate::store::table::put(
        &mut batch,
        crate::store::table::Table::Desired,
        "t-2",
        &"no settings",
    )
    .unwrap();
    rig.desk.store.apply(batch).unwrap();
    let shown = rig.show(None);
    assert_eq!(
        (text(&shown[1], "device"), text(&shown[1], "state")),
        ("t-2", "damaged")
    );
    assert!(text(&shown[1], "reason").contains("t-2"), "{shown:?}");
    for (device, changed) in [("t-1", true), ("t-2", true), ("t-3", false)] {
        let device = device.to_owned();
        let (rows, error) = rig.ask(&Request::ClearSettings { device });
        assert!(error.is_none(), "{error:?}");
        assert_eq!(rows[0].value("changed"), Some(&changed.into()));
    }
    assert!(rig.show(None).is_empty());
    rig.disk.cut_power();
    let store = rig.disk.open();
    assert_eq!(
        Known::load(&store, &"t-1".parse().unwrap()).unwrap(),
        Known::default()
    );
}

#[test]
fn the_number_of_devices_of_which_settings_are_wanted_is_bounded() {
    let rig = Rig::new();
    let mut batch = Batch::default();
    for number in 0..WANTED_MAX_DEVICES {
        let wanted = Wanted {
            settings: Settings::DEFAULT,
            set_at: UtcMs::saturating(0),
        };
        let device = format!("t-{number}").parse().unwrap();
        settings::want(&mut batch, &device, &wanted, 1).unwrap();
    }
    rig.desk.store.apply(batch).unwrap();
    let (_, error) = rig.ask(&set("one-more", &["battery_low=20"]));
    assert!(matches!(error, Some(DeskError::WantedFull)), "{error:?}");
    assert_eq!(
        text(&rig.set("t-7", &["battery_low=20"]), "state"),
        "waiting"
    );
}
