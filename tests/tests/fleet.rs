//! `supercargo-sim fleet` as a binary, against a real gateway: what it writes, what it says, how it ends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use anyhow::{Context, Result};
use serde_json::Value;
use tests::depot::{Depot, fact};
use tests::peer::{self, free_address};

/// Event seconds per second on the wall: a journey of eight hours takes eight seconds.
const JOURNEY: [&str; 4] = ["--for", "8s", "--speed", "3600"];

const SEED: [&str; 2] = ["--seed", "5"];

/// Trackers of the scenario that is built in.
const TRACKERS: usize = 24;

/// Packet types of MQTT.
const CONNECT: u8 = 1;
const SUBSCRIBE: u8 = 8;

fn fleet(address: SocketAddr, arguments: &[&str]) -> Command {
    let program = peer::product("supercargo-sim").unwrap();
    let mut command = Command::new(program);
    command.args(["fleet", "--addr", &address.to_string()]);
    command.args(arguments);
    command
}

fn ended(mut command: Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn rows(text: &str) -> Result<Vec<Value>> {
    let row = |line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}"));
    text.lines().map(row).collect()
}

/// A gateway with the plan that the fleet wrote, and all files of one run beside it.
struct Run {
    depot: Depot,
    folder: tempfile::TempDir,
}

impl Run {
    /// The plan comes before any gateway is there; the run that writes it ends as one without a gateway.
    fn prepare() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plan = folder.path().join("first-plan.toml");
        let mut command = fleet(free_address().unwrap(), &SEED);
        command.args(["--for", "100ms", "--patience", "100ms", "--plan-out"]);
        command.arg(&plan);
        let (code, told, log) = ended(command);
        assert_eq!(code, Some(3), "no gateway was there: {told}{log}");
        let plan = fs::read_to_string(plan).unwrap();
        let data = folder.path().join("data");
        let mut depot = Depot::create(folder.path(), &data, &plan, "").unwrap();
        depot.start().unwrap();
        Self { depot, folder }
    }

    /// A journey of the same world; its answers as rows.
    fn travel(&self, name: &str) -> Vec<Value> {
        let mut command = fleet(self.depot.mqtt, &SEED);
        command.args(JOURNEY).arg("--json");
        for (option, file) in [
            ("--plan-out", "plan-again.toml"),
            ("--flash", "flash"),
            ("--expect-out", name),
        ] {
            command.arg(option).arg(self.folder.path().join(file));
        }
        let (code, told, log) = ended(command);
        assert_eq!(code, Some(0), "{log}");
        rows(&told).unwrap()
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    /// Everything the gateway stored, without when it came.
    fn readings(&self) -> Vec<Value> {
        let mut rows = self.depot.export("readings").unwrap();
        for row in &mut rows {
            let row = row.as_object_mut().unwrap();
            assert!(row.remove("received_at").is_some());
        }
        rows
    }
}

#[test]
fn a_journey_is_repeatable_and_the_gateway_tells_what_the_world_expects() {
    let (here, there) = (Run::prepare(), Run::prepare());
    let (told, told_again) = thread::scope(|scope| {
        let other = scope.spawn(|| there.travel("expected.jsonl"));
        (here.travel("expected.jsonl"), other.join().unwrap())
    });

    let totals = is_shown(&told);
    assert_eq!(told.last(), told_again.last(), "two runs of one seed");
    for file in ["plan.toml", "plan-again.toml"] {
        assert_eq!(here.file(file), there.file("first-plan.toml"));
    }
    assert_eq!(here.file("expected.jsonl"), there.file("expected.jsonl"));
    let readings = here.readings();
    assert_eq!(readings, there.readings());
    assert_eq!(totals["confirmed"], readings.len());
    is_told(&here);

    // The same boards are switched on once more: their flash says that they have lived.
    let devices = flashes(&here);
    assert_eq!(devices.len(), TRACKERS);
    let again = here.travel("expected-again.jsonl");
    let both_lives = here.readings();
    assert_eq!(
        both_lives.len() as u64,
        readings.len() as u64 + again.last().unwrap()["confirmed"].as_u64().unwrap()
    );
    is_second_boot(&devices, &both_lives);
    let status = here.depot.status().unwrap();
    let contested = "supercargo_records_contested_total";
    assert_eq!(fact(&status, contested, &[]), None, "a key came twice");
}

/// Rows of the kinds that are promised, flat, and a balance that holds.
fn is_shown(told: &[Value]) -> &Value {
    let (totals, trackers) = told.split_last().unwrap();
    for row in told {
        let mut values = row.as_object().unwrap().values();
        assert!(values.all(|value| !value.is_object() && !value.is_array()));
    }
    assert!(trackers.len() >= TRACKERS, "shown every few seconds");
    for row in trackers {
        assert_eq!(row["row"], "tracker", "{row}");
        assert!(row["place"].is_string() && row["celsius"].is_f64(), "{row}");
    }
    assert_eq!(totals["row"], "totals");
    assert_eq!(totals["seed"], 5);
    assert_eq!(totals["trackers"], TRACKERS);
    assert_eq!(totals["drained"], true);
    let number = |name: &str| totals[name].as_u64().unwrap();
    assert!(number("sampled") > 1_000, "{totals}");
    assert_eq!(
        number("sampled"),
        number("confirmed") + number("lost_on_device") + number("pending")
    );
    totals
}

/// As many events of each shipment and code as must be, give or take those that may. Silence is left
/// out: it is judged by the gateway's own clock, and this journey happened months ago.
fn is_told(run: &Run) {
    let expected = rows(&run.file("expected.jsonl")).unwrap();
    let mut allowed: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    let mut certainties = BTreeSet::new();
    for row in &expected {
        let certainty = row["certainty"].as_str().unwrap();
        certainties.insert(certainty.to_owned());
        assert!(row["from_ms"].as_i64() <= row["to_ms"].as_i64(), "{row}");
        let (least, most) = allowed.entry(about(row)).or_default();
        *least += u64::from(certainty == "must");
        *most += u64::from(certainty != "must_not");
    }
    assert!(certainties.contains("must") && certainties.contains("must_not"));
    run.depot.drained().unwrap();
    let mut told: BTreeMap<(String, String), u64> = BTreeMap::new();
    for row in run.depot.export("events").unwrap() {
        *told.entry(about(&row)).or_default() += 1;
    }
    let of_verdict = |about: &&(String, String)| about.1 != "EX_SILENT";
    let mentioned: BTreeSet<_> = told
        .keys()
        .chain(allowed.keys())
        .filter(of_verdict)
        .collect();
    for about in mentioned {
        let (least, most) = allowed.get(about).copied().unwrap_or_default();
        let told = told.get(about).copied().unwrap_or_default();
        assert!(
            (least..=most).contains(&told),
            "{about:?}: {told} of {least} to {most}"
        );
    }
}

fn about(row: &Value) -> (String, String) {
    let text = |name: &str| row[name].as_str().unwrap().to_owned();
    (text("shipment"), text("code"))
}

/// Devices by the names of their flash files.
fn flashes(run: &Run) -> BTreeSet<String> {
    let folder = fs::read_dir(run.folder.path().join("flash")).unwrap();
    let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    folder.map(|entry| name(&entry.unwrap().path())).collect()
}

/// Every device kept its epoch and counted one boot more.
fn is_second_boot(devices: &BTreeSet<String>, readings: &[Value]) {
    let mut lives: BTreeMap<String, BTreeSet<(String, u64)>> = BTreeMap::new();
    for row in readings {
        let device = row["device"].as_str().unwrap().to_owned();
        let epoch = row["epoch"].as_str().unwrap().to_owned();
        let boot = row["boot"].as_u64().unwrap();
        lives.entry(device).or_default().insert((epoch, boot));
    }
    assert!(lives.keys().eq(devices), "{lives:?}");
    for (device, lives) in lives {
        let epochs: BTreeSet<_> = lives.iter().map(|(epoch, _)| epoch).collect();
        let boots: Vec<_> = lives.iter().map(|(_, boot)| *boot).collect();
        assert_eq!(
            (epochs.len(), boots),
            (1, vec![0, 1]),
            "{device}: {lives:?}"
        );
    }
}

#[test]
fn how_a_fleet_ends_tells_findings_usage_and_environment_apart() {
    let nobody = free_address().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("scenario.toml");
    fs::write(&scenario, "trackerz = 3\n").unwrap();
    let scenario = scenario.to_str().unwrap();
    for (arguments, code, word) in [
        (vec!["--scenario", scenario], 2, "trackerz"),
        (vec!["--for", "30"], 2, "30s"),
        (vec!["--speed", "0"], 2, "speed"),
        (vec!["--scenario", "/no/such/file"], 3, "/no/such/file"),
        (
            vec!["--for", "1s", "--plan-out", "/no/such/plan"],
            3,
            "/no/such/plan",
        ),
    ] {
        let (found, _, log) = ended(fleet(nobody, &arguments));
        assert_eq!(found, Some(code), "{arguments:?}: {log}");
        assert!(log.contains(word), "{arguments:?}: {log}");
    }
    let brief = ["--for", "1s", "--speed", "600", "--patience", "500ms"];
    let (code, told, _) = ended(fleet(deaf().unwrap(), &brief));
    assert_eq!(code, Some(1), "heard and never confirmed: {told}");
    let last = told.lines().last().unwrap();
    assert!(
        last.contains("24 trackers sampled") && last.contains(" 0 confirmed"),
        "{last}"
    );
}

/// Takes every connection and its two subscriptions, and confirms nothing that is published.
fn deaf() -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || listen(stream));
        }
    });
    Ok(address)
}

fn listen(mut stream: TcpStream) -> io::Result<()> {
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head)?;
        let mut length = usize::from(head[1] & 0x7f);
        if head[1] >= 0x80 {
            let mut more = [0];
            stream.read_exact(&mut more)?;
            length += usize::from(more[0]) << 7;
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        match head[0] >> 4 {
            CONNECT => stream.write_all(&[0x20, 3, 0, 0, 0])?,
            SUBSCRIBE => stream.write_all(&[0x90, 5, body[0], body[1], 0, 1, 1])?,
            _ => {}
        }
    }
}
