//! Settings wanted of a tracker: by the shipped commands, a real gateway and the real firmware, through
//! kills and restarts of the gateway.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use protocol::units::CentiCelsius;
use serde_json::Value;
use tests::depot::{Depot, fact};
use tests::peer::{Peer, product, wait_for};
use tests::tracker::{Carried, Flash};

const DEVICE: &str = "set-1";

/// A gateway in a folder of its own.
struct Yard {
    depot: Depot,
    folder: tempfile::TempDir,
}

impl Yard {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut depot = Depot::create(folder.path(), &data, "version = 1\n", "").unwrap();
        depot.start().unwrap();
        Self { depot, folder }
    }

    fn set(&self, changes: &[&str]) -> (Value, String) {
        let (mut rows, said) = self
            .depot
            .settings(&[&["set", DEVICE], changes].concat())
            .unwrap();
        assert_eq!(rows.len(), 1);
        (rows.remove(0), said)
    }

    /// Where the settings stand, and the row of one of them.
    fn show(&self, key: &str) -> (Value, Value) {
        let (mut rows, _) = self.depot.settings(&["show", DEVICE]).unwrap();
        let setting = rows.iter().find(|row| row["key"] == key).unwrap().clone();
        (rows.remove(0), setting)
    }

    fn stop(&mut self) {
        assert!(self.depot.stop().unwrap().success());
    }
}

fn boot(flash: &Flash) -> Carried {
    Carried::boot(DEVICE, CentiCelsius::saturating(400), flash).unwrap()
}

/// Connect, and hear what the gateway has to say: how many settings it sends.
fn visit(tracker: &mut Carried, depot: &Depot) -> usize {
    let before = tracker.settings.len();
    tracker.connect(depot.mqtt).unwrap();
    tracker.hear_all().unwrap();
    tracker.settings.len() - before
}

#[test]
fn settings_set_while_the_tracker_is_away_outlive_a_kill_are_applied_and_not_sent_again() {
    let mut yard = Yard::open();
    let (stored, said) = yard.set(&["sample_moving=30s", "temperature_above=6.5"]);
    assert_eq!(
        (&stored["state"], &stored["heard"]),
        (&"waiting".into(), &false.into())
    );
    assert!(said.contains("asking the gateway that runs on"), "{said}");
    assert!(said.contains("has not been heard yet"), "{said}");
    yard.depot.kill().unwrap();
    let (standing, setting) = yard.show("sample_moving");
    assert_eq!(
        (&standing["state"], &standing["version"]),
        (&"waiting".into(), &stored["version"])
    );
    assert_eq!(
        (&setting["wanted"], &setting["default"]),
        (&30.into(), &60.into())
    );
    assert!(setting.get("in_force").is_none());

    yard.depot.start().unwrap();
    let flash = Flash::default();
    let mut tracker = boot(&flash);
    tracker.connect(yard.depot.mqtt).unwrap();
    tracker.obey(1).unwrap();
    assert_eq!(tracker.in_force().sample_moving.get(), 30);
    assert_eq!(tracker.in_force().temperature_above.unwrap().get(), 650);
    assert_eq!(Value::from(tracker.in_force().version), stored["version"]);
    let (standing, setting) = yard.show("temperature_above");
    assert_eq!(
        (&standing["state"], &standing["version"]),
        (&"reported".into(), &stored["version"])
    );
    assert!(standing["since"].is_string());
    assert_eq!(
        (&setting["wanted"], &setting["in_force"]),
        (&6.5.into(), &6.5.into())
    );
    let recorded = yard.depot.export("records").unwrap();
    let recorded = recorded.iter().filter(|row| row["kind"] == "settings");
    let versions: Vec<_> = recorded
        .map(|row| row["settings_version"].clone())
        .collect();
    assert_eq!(versions, [0.into(), stored["version"].clone()]);

    // Neither on this connection, nor on the next, nor by the gateway's next life, nor in the tracker's.
    tracker.hear_all().unwrap();
    tracker.disconnect().unwrap();
    let mut again = visit(&mut tracker, &yard.depot);
    yard.stop();
    tracker.lose();
    yard.depot.start().unwrap();
    again += visit(&mut tracker, &yard.depot);
    let mut reborn = boot(&flash);
    again += visit(&mut reborn, &yard.depot);
    assert_eq!((tracker.settings.len(), again), (1, 0));
    assert_eq!(reborn.in_force().sample_moving.get(), 30);
    assert_eq!(yard.show("sample_moving").0["state"], "reported");
    yard.stop();
}

#[test]
fn settings_set_while_the_tracker_is_connected_reach_it_at_once_and_those_set_without_a_gateway_later()
 {
    let mut yard = Yard::open();
    let mut tracker = boot(&Flash::default());
    assert_eq!(visit(&mut tracker, &yard.depot), 0);
    let (stored, said) = yard.set(&["battery_low=20%"]);
    assert_eq!(
        (&stored["connected"], &stored["heard"]),
        (&true.into(), &true.into())
    );
    assert!(said.contains("is connected and is told now"), "{said}");
    tracker.obey(1).unwrap();
    assert_eq!(yard.show("battery_low").0["state"], "reported");

    yard.stop();
    tracker.lose();
    let (later, said) = yard.set(&["sample_moving=45s"]);
    assert!(said.contains("no gateway runs on"), "{said}");
    assert!(later["version"].as_u64() > stored["version"].as_u64());
    yard.depot.start().unwrap();
    tracker.connect(yard.depot.mqtt).unwrap();
    tracker.obey(2).unwrap();
    let in_force = tracker.in_force();
    assert_eq!(
        (in_force.sample_moving.get(), in_force.battery_low.get()),
        (45, 20)
    );
    let (standing, setting) = yard.show("sample_moving");
    assert_eq!(
        (&standing["state"], &setting["in_force"]),
        (&"reported".into(), &45.into())
    );
    assert_eq!(tracker.settings.len(), 2, "each was sent once");
    yard.stop();
}

#[test]
fn refused_settings_are_shown_with_their_reason_and_sent_again_only_when_they_are_set_again() {
    let mut yard = Yard::open();
    let flash = Flash::default();
    let mut tracker = boot(&flash);
    assert_eq!(visit(&mut tracker, &yard.depot), 0);
    flash.set_broken(true);
    let (stored, _) = yard.set(&["sample_moving=30s"]);
    tracker.obey(1).unwrap();
    assert_eq!(tracker.in_force().sample_moving.get(), 60);
    yard.depot.kill().unwrap();
    tracker.lose();
    yard.depot.start().unwrap();
    assert_eq!(
        visit(&mut tracker, &yard.depot),
        0,
        "sent again though it was refused"
    );
    let (standing, setting) = yard.show("sample_moving");
    let why = "the device could not store them";
    assert_eq!(
        (&standing["state"], &standing["reason"]),
        (&"refused".into(), &why.into())
    );
    assert_eq!(
        (&setting["wanted"], &setting["in_force"]),
        (&30.into(), &60.into())
    );
    let status = yard.depot.status().unwrap();
    assert_eq!(fact(&status, "settings_refused", &[]), Some(1));
    let told = status
        .iter()
        .find(|row| row["name"] == "settings_refusal")
        .unwrap();
    assert_eq!(
        (&told["device"], &told["value"]),
        (&DEVICE.into(), &why.into())
    );
    let log = yard.depot.log().unwrap();
    assert!(log.contains(&format!("settings refused: {why}")), "{log}");

    flash.set_broken(false);
    let (again, _) = yard.set(&["sample_moving=30s"]);
    assert!(again["version"].as_u64() > stored["version"].as_u64());
    tracker.obey(2).unwrap();
    assert_eq!(tracker.in_force().sample_moving.get(), 30);
    assert_eq!(yard.show("sample_moving").0["state"], "reported");
    yard.stop();
}

#[test]
fn settings_that_cannot_be_wanted_end_with_2_and_every_fault_and_nothing_is_stored() {
    let mut yard = Yard::open();
    let refused = |arguments: &[&str]| {
        let mut command = Command::new(product("supercargo").unwrap());
        command.args(["settings", "--json", "set"]).args(arguments);
        let output = command
            .arg("--config")
            .arg(yard.depot.config())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let rows = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.collect::<Vec<_>>()
    };
    let faults = refused(&[
        DEVICE,
        "sample_movin=30",
        "battery_low=95",
        "light_above=off",
    ]);
    assert_eq!(faults.len(), 2);
    assert_eq!(faults[0]["did_you_mean"], "sample_moving");
    assert_eq!(faults[1]["allowed"], "0 to 90 %");
    assert!(refused(&["no/device", "battery_low=20"]).is_empty());
    let (rows, said) = yard.depot.settings(&["show"]).unwrap();
    assert!(rows.is_empty(), "{rows:?}");
    assert!(
        said.contains("no settings are wanted of any tracker"),
        "{said}"
    );
    yard.stop();
}

/// The link of the firmware, over real TCP, while the gateway is killed in between.
#[test]
fn settings_reach_a_simulated_tracker_through_its_own_link() {
    let mut yard = Yard::open();
    let mut command = Command::new(product("supercargo-sim").unwrap());
    let address = yard.depot.mqtt.to_string();
    command.args(["fleet", "--addr", &address, "--seed", "3", "--speed", "60"]);
    let log = yard.folder.path().join("fleet.log");
    let mut fleet = Peer::start("supercargo-sim", &mut command, &log).unwrap();

    let device = wait_for("a tracker's own record of its settings", || {
        let records = yard.depot.export("records")?;
        let recorded = records.into_iter().find(|row| row["settings_version"] == 1);
        Ok(recorded.and_then(|row| row["device"].as_str().map(ToOwned::to_owned)))
    })
    .unwrap();
    let show = |depot: &Depot| depot.settings(&["show", &device]).map(|(rows, _)| rows);
    let of = |rows: &[Value], key: &str| rows.iter().find(|row| row["key"] == key).unwrap().clone();
    let before = show(&yard.depot).unwrap();
    let set = ["set", &device, "sample_resting=123s"];
    let (stored, _) = yard.depot.settings(&set).unwrap();
    yard.depot.kill().unwrap();
    yard.depot.start().unwrap();
    let after = wait_for("the tracker to report its settings", || {
        let rows = show(&yard.depot)?;
        Ok((rows[0]["state"] == "reported").then_some(rows))
    })
    .unwrap();
    assert_eq!(after[0]["version"], stored[0]["version"]);
    assert_eq!(of(&after, "sample_resting")["in_force"], 123);
    for key in ["temperature_above", "temperature_below", "shock_peak"] {
        let kept = &of(&before, key)["in_force"];
        assert_eq!(&of(&after, key)["in_force"], kept, "{key} was not named");
    }
    fleet.stop().unwrap();
    yard.stop();
}
