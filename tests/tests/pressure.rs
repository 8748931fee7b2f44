//! A disk that slowly runs out: trackers are asked to send less, before anything is refused, and get their
//! settings back; by the shipped binary on a disk of its own, through kills.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use protocol::units::CentiCelsius;
use serde_json::Value;
use tests::depot::{Depot, fact, fleet_plan};
use tests::peer::{http_get, product, wait_for};
use tests::small_disk::{Resource, SmallDisk};
use tests::tracker::{Carried, Flash};

/// Size of the disk, in bytes: the store, the 64 MiB it holds back, other people's files, and more than three
/// watermarks without these.
const DISK_BYTES: u64 = 256 << 20;

/// Names on the disk.
const DISK_INODES: u64 = 200;

/// What other people leave, in bytes: between one watermark, where readings are refused, and two.
const LEFT_BYTES: u64 = 52 << 20;

/// The least that the configuration allows.
const SETTINGS: &str = "[store]\nwatermark = \"32MiB\"\nreserve = \"32MiB\"\nballast = \"32MiB\"\n";

/// A tracker of a shipment whose temperature may be wrong for 5 minutes, and one that is in no plan.
const PLANNED: &str = "slow-1";
const FREE: &str = "slow-2";

fn boot(device: &str) -> Carried {
    Carried::boot(device, CentiCelsius::saturating(400), &Flash::default()).unwrap()
}

/// Rows of a command, which ends well.
fn ask(depot: &Depot, arguments: &[&str]) -> Vec<Value> {
    let mut command = Command::new(product("supercargo").unwrap());
    command
        .args(arguments)
        .args(["--json", "--config"])
        .arg(depot.config());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let rows = text.lines().map(serde_json::from_str);
    rows.collect::<Result<_, _>>().unwrap()
}

fn says(status: &[Value], name: &str, value: &Value) -> bool {
    let mut rows = status.iter();
    rows.any(|row| row["name"] == name && row["value"] == *value)
}

fn await_slowed(depot: &Depot, devices: u64) {
    wait_for("the trackers to be asked for less", || {
        let status = depot.status()?;
        Ok((fact(&status, "devices_slowed", &[]) == Some(devices)).then_some(()))
    })
    .unwrap();
}

struct Yard {
    depot: Depot,
    disk: SmallDisk,
    planned: Carried,
    free: Carried,
}

#[test]
fn trackers_send_less_while_space_runs_out_and_get_back_what_people_want() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::create(folder.path(), DISK_BYTES, DISK_INODES).unwrap();
    let Some(disk) = disk else { return };
    let plan = fleet_plan(&[PLANNED.to_owned()]);
    let data = disk.path().join("data");
    let mut depot = Depot::create(folder.path(), &data, &plan, SETTINGS).unwrap();
    depot.start().unwrap();
    let (mut planned, mut free) = (boot(PLANNED), boot(FREE));
    for tracker in [&mut planned, &mut free] {
        tracker.connect(depot.mqtt).unwrap();
        tracker.flush().unwrap();
    }
    depot
        .settings(&["set", PLANNED, "sample_moving=30s"])
        .unwrap();
    planned.obey(1).unwrap();
    let status = depot.status().unwrap();
    assert!(says(&status, "store_pressure", &false.into()));
    let mut yard = Yard {
        depot,
        disk,
        planned,
        free,
    };
    yard.begins();
    yard.outlives_a_kill();
    yard.ends();
    yard.is_told();
    assert!(yard.depot.stop().unwrap().success());
}

impl Yard {
    /// One tracker is connected when it begins, the other is away.
    fn begins(&mut self) {
        self.free.lose();
        self.disk.fill(Resource::Bytes, LEFT_BYTES).unwrap();
        await_slowed(&self.depot, 2);
        self.planned.obey(2).unwrap();
        let slow = self.planned.in_force();
        let intervals = [
            slow.sample_moving,
            slow.sample_resting,
            slow.sample_near_limit,
        ];
        // Four times slower; at rest it is slower already than half of 5 minutes.
        assert_eq!(intervals.map(|interval| interval.get()), [120, 300, 60]);
        let rows = ask(&self.depot, &["settings", "show", PLANNED]);
        assert_eq!(rows[0]["state"], "reported");
        assert_eq!(rows[0]["slowed"], true);
        let mut rows = rows.iter();
        let row = rows.find(|row| row["key"] == "sample_moving").unwrap();
        assert_eq!(
            (&row["wanted"], &row["in_force"]),
            (&30.into(), &120.into())
        );
    }

    fn outlives_a_kill(&mut self) {
        self.depot.kill().unwrap();
        self.planned.lose();
        self.depot.start().unwrap();
        self.free.connect(self.depot.mqtt).unwrap();
        self.free.obey(1).unwrap();
        assert_eq!(self.free.in_force().sample_resting.get(), 1_200);
        self.planned.connect(self.depot.mqtt).unwrap();
        self.planned.hear_all().unwrap();
        assert_eq!(self.planned.settings.len(), 2, "nothing is sent twice");
        let status = self.depot.status().unwrap();
        assert!(says(&status, "store_pressure", &true.into()), "{status:?}");
        assert_eq!(self.depot.metric("supercargo_store_pressure").unwrap(), 1.0);
        let (ready, why) = http_get(self.depot.http, "/readyz").unwrap();
        assert_eq!(ready, 200, "nothing is refused: {why}");
    }

    fn ends(&mut self) {
        self.disk.clear().unwrap();
        self.planned.obey(3).unwrap();
        self.free.obey(2).unwrap();
        assert_eq!(self.planned.in_force().sample_moving.get(), 30);
        assert_eq!(self.free.in_force().sample_resting.get(), 300);
        wait_for("pressure to be over", || {
            let status = self.depot.status()?;
            let over = says(&status, "store_pressure", &false.into());
            let slowed = fact(&status, "devices_slowed", &[]);
            Ok((over && slowed.is_none()).then_some(()))
        })
        .unwrap();
        let row = &ask(&self.depot, &["settings", "show", PLANNED])[0];
        assert_eq!(row["state"], "reported");
        assert_eq!(row["slowed"], Value::Null);
    }

    fn is_told(&self) {
        let acts = ask(&self.depot, &["audit"]);
        let told: Vec<_> = acts.iter().map(|act| (&act["by"], &act["what"])).collect();
        let [user, gateway] = ["socket", "gateway"].map(Value::from);
        let [set, begins, ends] =
            ["settings set", "pressure begins", "pressure ends"].map(Value::from);
        assert_eq!(
            told,
            [(&user, &set), (&gateway, &begins), (&gateway, &ends)]
        );
        let log = self.depot.log().unwrap();
        let why = "trackers are asked to sample and report more slowly";
        assert!(log.contains(why), "{log}");
        // Everything that was sent is there: the command fails otherwise.
        assert_eq!(ask(&self.depot, &["ledger"]).len(), 2);
    }
}
