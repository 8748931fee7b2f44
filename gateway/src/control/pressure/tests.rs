//! Devices are slowed and get back what they had, through restarts and people's changes.

use std::sync::Mutex;

use chrono_tz::Tz;
use protocol::key::RecordKey;
use protocol::units::Seconds;

use super::*;
use crate::control::Request;
use crate::store::memory::Memory;
use crate::store::settings::{Answer, InForce, State};
use crate::store::space::Shortage;

const SHORT: Option<Shortage> = Some(Shortage {
    what: "bytes",
    free: 1,
    needed: 2,
});

struct Rig {
    disk: Memory,
    desk: Desk,
    lookout: Lookout,
}

impl Rig {
    fn new() -> Self {
        let disk = Memory::default();
        let desk = desk(&disk);
        let lookout = Lookout::new(Ceilings::default());
        Self {
            disk,
            desk,
            lookout,
        }
    }

    /// The power goes, and another gateway starts.
    fn restart(&mut self) {
        self.disk.cut_power();
        self.desk = desk(&self.disk);
        self.lookout = Lookout::new(Ceilings::default());
    }

    fn look(&mut self, shortage: Option<Shortage>) {
        self.desk.look(&mut self.lookout, shortage).unwrap();
    }

    fn known(&self, device: &str) -> Known {
        Known::load(&self.desk.store, &device.parse().unwrap()).unwrap()
    }

    /// The device takes what it is sent, answers, and records it; what it was sent, if anything.
    fn obey(&self, device: &str, seq: u32) -> Option<Settings> {
        let sent = self.known(device).unreported()?;
        let name = device.parse().unwrap();
        let received_at = wall_utc();
        let mut batch = Batch::default();
        let answer = Answer {
            version: sent.version,
            received_at,
            outcome: Ok(()),
        };
        settings::note_answer(&mut batch, &name, &answer).unwrap();
        self.desk.store.apply(batch).unwrap();
        self.record(device, seq, sent);
        Some(sent)
    }

    fn record(&self, device: &str, seq: u32, settings: Settings) {
        let in_force = InForce {
            key: RecordKey::new(1, 0, seq),
            received_at: wall_utc(),
            settings,
        };
        let mut batch = Batch::default();
        settings::note_in_force(&mut batch, &device.parse().unwrap(), &in_force).unwrap();
        self.desk.store.apply(batch).unwrap();
        self.desk.store.barrier().unwrap();
    }

    fn set(&self, device: &str, change: &str) {
        let request = Request::SetSettings {
            device: device.to_owned(),
            changes: vec![change.to_owned()],
        };
        let mut emit = |_| ControlFlow::Continue(());
        self.desk.answer(&request, &mut emit).unwrap();
    }

    fn status(&self) -> Vec<String> {
        let rows = status(&self.desk.store).unwrap();
        let known = rows.iter().filter(|row| {
            let name = row.value("name").unwrap();
            name != "store_pressure_since"
        });
        known
            .map(|row| row.value("value").unwrap().to_string())
            .collect()
    }
}

fn desk(disk: &Memory) -> Desk {
    Desk {
        store: disk.open(),
        zone: Tz::UTC,
        sinks: Vec::new(),
        running: None,
        changing: Mutex::default(),
    }
}

fn moving(settings: Settings) -> i64 {
    i64::from(settings.sample_moving.get())
}

#[test]
fn a_device_is_slowed_once_and_gets_back_what_it_had_over_restarts() {
    let mut rig = Rig::new();
    rig.record("t-1", 1, Settings::DEFAULT);
    rig.look(None);
    assert_eq!(
        (rig.obey("t-1", 2), rig.status()),
        (None, vec!["false".to_owned()])
    );
    rig.look(SHORT);
    let told = r#"true,"1 bytes free, 2 needed",1"#;
    assert_eq!(rig.status().join(","), told);
    rig.restart();
    rig.look(SHORT);
    let slow = rig.obey("t-1", 2).unwrap();
    assert_eq!(
        (moving(slow), slow.sample_near_limit),
        (240, Seconds::saturating(60))
    );
    rig.look(SHORT);
    assert_eq!(rig.obey("t-1", 3), None, "it has them");

    rig.look(None);
    rig.restart();
    rig.look(None);
    let back = rig.obey("t-1", 3).unwrap();
    assert!(alike(&back, &Settings::DEFAULT) && back.version > slow.version);
    rig.look(None);
    rig.look(None);
    assert_eq!(rig.status(), ["false"]);
    assert_eq!((rig.obey("t-1", 4), rig.known("t-1").slowed), (None, None));
    // And once more, from what it has now.
    rig.look(SHORT);
    assert_eq!(moving(rig.obey("t-1", 4).unwrap()), 240);
}

#[test]
fn what_people_want_is_never_changed_and_comes_back_whenever_they_said_so() {
    let mut rig = Rig::new();
    rig.record("t-1", 1, Settings::DEFAULT);
    rig.set("t-1", "sample_moving=30s");
    let wanted = rig.obey("t-1", 2).unwrap();
    rig.look(SHORT);
    let slow = rig.obey("t-1", 3).unwrap();
    assert_eq!(moving(slow), 120);
    assert_eq!(rig.known("t-1").wanted.unwrap().settings, wanted);
    assert!(matches!(rig.known("t-1").state(), State::Reported { .. }));

    // While it is slowed: theirs go out, built on theirs, and slower ones follow.
    rig.set("t-1", "battery_low=20%");
    let theirs = rig.obey("t-1", 4).unwrap();
    assert_eq!((moving(theirs), theirs.battery_low.get()), (30, 20));
    rig.look(SHORT);
    let slow = rig.obey("t-1", 5).unwrap();
    assert_eq!((moving(slow), slow.battery_low.get()), (120, 20));

    rig.look(None);
    let back = rig.obey("t-1", 6).unwrap();
    assert!(alike(&back, &theirs) && back.version > slow.version);
    let known = rig.known("t-1");
    assert_eq!((known.wanted.unwrap().settings, known.slowed), (back, None));
    rig.look(None);
    assert_eq!(rig.status(), ["false"]);
}

#[test]
fn pressure_that_comes_back_while_settings_go_back_slows_again_from_the_same_base() {
    let mut rig = Rig::new();
    rig.record("t-1", 1, Settings::DEFAULT);
    rig.look(SHORT);
    rig.obey("t-1", 2).unwrap();
    rig.look(None);
    // The device has not heard of it yet.
    rig.look(SHORT);
    let slow = rig.obey("t-1", 3).unwrap();
    assert_eq!(moving(slow), 240);
    assert_eq!(rig.known("t-1").slowed.unwrap().base, Settings::DEFAULT);
    rig.look(None);
    assert!(alike(&rig.obey("t-1", 4).unwrap(), &Settings::DEFAULT));
}

#[test]
fn settings_that_people_forget_meanwhile_are_what_the_device_gets_back() {
    let mut rig = Rig::new();
    rig.set("t-1", "sample_moving=30s");
    rig.record("t-1", 1, rig.known("t-1").wanted.unwrap().settings);
    rig.look(SHORT);
    rig.obey("t-1", 2).unwrap();
    let request = Request::ClearSettings {
        device: "t-1".to_owned(),
    };
    rig.desk
        .answer(&request, &mut |_| ControlFlow::Continue(()))
        .unwrap();
    rig.look(None);
    assert_eq!(moving(rig.obey("t-1", 3).unwrap()), 30);
}

#[test]
fn a_fleet_is_gone_through_in_bounded_looks_and_comes_back_whole() {
    let mut rig = Rig::new();
    let names: Vec<String> = (0..=2 * LOOK_MAX_DEVICES)
        .map(|n| format!("t-{n:04}"))
        .collect();
    for name in &names {
        rig.record(name, 1, Settings::DEFAULT);
    }
    let slowed = |rig: &Rig| pressure::pressed(&rig.desk.store).unwrap().unwrap().devices;
    rig.look(SHORT);
    assert_eq!(slowed(&rig), LOOK_MAX_DEVICES as u64);
    rig.look(SHORT);
    rig.look(SHORT);
    assert_eq!(slowed(&rig), names.len() as u64);
    for name in &names {
        rig.obey(name, 2).unwrap();
    }
    for _ in 0..3 {
        rig.look(None);
    }
    for name in &names {
        assert!(alike(&rig.obey(name, 3).unwrap(), &Settings::DEFAULT));
    }
    for _ in 0..4 {
        rig.look(None);
    }
    assert_eq!(rig.status(), ["false"]);
}
