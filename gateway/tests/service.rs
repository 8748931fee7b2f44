//! The binary as a service: it runs, answers commands, stops in good order, and its store answers after.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn supercargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_supercargo"));
    command.args(arguments);
    command
}

/// Run a command that ends by itself; its output, its messages and its exit code.
fn ask(arguments: &[&str]) -> (String, String, Option<i32>) {
    let Output {
        status,
        stdout,
        stderr,
    } = supercargo(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(stdout), text(stderr), status.code())
}

/// A gateway that has said it is ready.
struct Gateway {
    process: Child,
    log: BufReader<ChildStderr>,
    http: String,
}

impl Drop for Gateway {
    /// A test that fails leaves no gateway behind; one that was waited for is gone already.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start(config: &str, data: &Path) -> Gateway {
    let data = format!("gateway.data={}", data.display());
    let sets = [
        "mqtt.listen=127.0.0.1:0",
        "http.listen=127.0.0.1:0",
        "log.format=json",
        &data,
    ];
    let mut command = supercargo(&["run", "--config", config]);
    for set in sets {
        command.args(["--set", set]);
    }
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(process.stderr.take().unwrap());
    let mut gateway = Gateway {
        process,
        log,
        http: String::new(),
    };
    while gateway.http.is_empty() {
        let mut line = String::new();
        let read = gateway.log.read_line(&mut line).unwrap();
        assert_ne!(read, 0, "the gateway ended before it was ready");
        let line: Value = serde_json::from_str(&line).unwrap();
        if line["message"] == "gateway ready" {
            gateway.http = line["http"].as_str().unwrap().to_owned();
        }
    }
    gateway
}

#[test]
fn a_gateway_answers_commands_stops_on_sigterm_and_its_store_answers_after() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (depot, data, copy) = (path("depot"), path("data"), path("copy"));
    assert_eq!(ask(&["init", &depot]).2, Some(0));
    let config = format!("{depot}/supercargo.toml");
    assert_eq!(ask(&["check", &config]).2, Some(0));

    let mut gateway = start(&config, Path::new(&data));
    let mut stream = TcpStream::connect(&gateway.http).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    // A plan of which nothing has been judged yet may be pending; that is said and is ready all the same.
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200"), "{answer}");
    assert!(body.starts_with("ready"), "{answer}");

    let (rows, said, code) = ask(&["status", "--json", "--data", &data]);
    assert_eq!(code, Some(0));
    assert!(said.contains("asking the gateway that runs on"), "{said}");
    assert!(
        rows.contains("{\"name\":\"running\",\"value\":true}\n"),
        "{rows}"
    );
    assert_eq!(ask(&["export", "readings", "--data", &data]).0, "");
    assert_eq!(ask(&["backup", &copy, "--data", &data]).2, Some(0));
    let (_, said, code) = ask(&["backup", &copy, "--data", &data]);
    assert!(code == Some(3) && said.contains("File exists"), "{said}");

    let process = Pid::from_child(&gateway.process);
    kill_process(process, Signal::TERM).unwrap();
    let mut rest = String::new();
    gateway.log.read_to_string(&mut rest).unwrap();
    assert_eq!(gateway.process.wait().unwrap().code(), Some(0), "{rest}");
    assert!(rest.contains("SIGTERM"), "{rest}");

    for folder in [&data, &copy] {
        let (rows, said, code) = ask(&["status", "--json", "--data", folder]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("no gateway runs on"), "{said}");
        assert!(
            rows.contains("{\"name\":\"running\",\"value\":false}\n"),
            "{rows}"
        );
    }
}

#[test]
fn a_plan_that_judged_is_shown_after_another_replaced_it_by_socket_store_and_backup() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (depot, data, copy) = (path("depot"), path("data"), path("copy"));
    assert_eq!(ask(&["init", &depot]).2, Some(0));
    let config = format!("{depot}/supercargo.toml");
    let plan = format!("{depot}/plan.toml");
    let first = std::fs::read_to_string(&plan).unwrap();
    let second = format!("{first}\n# The second of March.\n");
    let list = |data: &str| -> Vec<Value> {
        let (rows, said, code) = ask(&["plan", "list", "--json", "--data", data]);
        assert_eq!(code, Some(0), "{said}");
        let rows = rows.lines().map(serde_json::from_str);
        rows.collect::<Result<_, _>>().unwrap()
    };
    let text = |data: &str, number: &[&str]| {
        let arguments = [&["plan", "show", "--json", "--data", data], number].concat();
        let (rows, said, code) = ask(&arguments);
        assert_eq!(code, Some(0), "{said}");
        let source = rows.lines().nth(1).unwrap();
        let source: Value = serde_json::from_str(source).unwrap();
        source["text"].as_str().unwrap().to_owned()
    };
    // Killed each time, and started once more with the same plan.
    for (written, revisions) in [(&first, 1), (&second, 2), (&second, 2)] {
        std::fs::write(&plan, written).unwrap();
        let gateway = start(&config, Path::new(&data));
        assert_eq!(list(&data).len(), revisions, "by socket");
        assert_eq!(text(&data, &[]), *written);
        if !Path::new(&copy).exists() {
            assert_eq!(ask(&["backup", &copy, "--data", &data]).2, Some(0));
        }
        drop(gateway);
        assert_eq!(list(&data).len(), revisions, "by store");
    }
    let rows = list(&data);
    assert_eq!(rows[1]["differs_in"], "plan");
    assert!(rows[0]["first_used_at"].as_str() < rows[1]["first_used_at"].as_str());
    assert_eq!(text(&data, &["1"]), first);
    let (shown, _, _) = ask(&["plan", "show", "1", "--data", &data]);
    assert!(shown.contains(first.trim_end()), "{shown}");
    assert_eq!((list(&copy).len(), text(&copy, &["1"])), (1, first));
    assert_eq!(ask(&["plan", "show", "3", "--data", &data]).2, Some(1));
}

#[test]
fn what_people_do_is_told_with_their_user_id_whether_a_gateway_ran_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (depot, data) = (path("depot"), path("data"));
    assert_eq!(ask(&["init", &depot]).2, Some(0));
    let gateway = start(&format!("{depot}/supercargo.toml"), Path::new(&data));
    let set = |change: &str| ask(&["settings", "set", "t-1", change, "--data", &data]).2;
    assert_eq!(set("sample_moving=30s"), Some(0));
    assert_eq!(set("sample_moving=never"), Some(2));
    // Killed: what was answered is durable.
    drop(gateway);
    assert_eq!(
        ask(&["settings", "clear", "t-1", "--data", &data]).2,
        Some(0)
    );
    let audit = |more: &[&str]| -> Vec<Value> {
        let (rows, said, code) = ask(&[&["audit", "--json", "--data", &data], more].concat());
        assert_eq!(code, Some(0), "{said}");
        let rows = rows.lines().map(serde_json::from_str);
        rows.collect::<Result<_, _>>().unwrap()
    };
    let rows = audit(&[]);
    let told = |row: &Value| {
        let word = |name: &str| row[name].as_str().unwrap().to_owned();
        (word("by"), word("what"), word("detail"), word("result"))
    };
    let told: Vec<_> = rows.iter().map(told).collect();
    let expected = [
        ("socket", "settings set", "sample_moving=30s", "done"),
        (
            "socket",
            "settings set",
            "sample_moving=never",
            "refused: 1 fault, nothing was changed",
        ),
        ("store", "settings clear", "", "done"),
    ];
    let expected = expected.map(|(by, what, detail, result)| {
        let [by, what, detail, result] = [by, what, detail, result].map(ToOwned::to_owned);
        (by, what, detail, result)
    });
    assert_eq!(told, expected);
    let uid = rustix::process::getuid().as_raw();
    assert!(
        rows.iter()
            .all(|row| row["uid"] == uid && row["device"] == "t-1")
    );
    // Times of one format compare as text.
    let last = rows[2]["at"].as_str().unwrap();
    let since = rows.iter().filter(|row| row["at"].as_str() >= Some(last));
    let since: Vec<Value> = since.cloned().collect();
    assert_eq!(audit(&["--since", last]), since);
    assert_eq!(audit(&["--since", "1d"]).len(), 3);
}

/// Every act in the audit log, as JSON.
fn acts(data: &str) -> Vec<Value> {
    let (rows, said, code) = ask(&["audit", "--json", "--data", data]);
    assert_eq!(code, Some(0), "{said}");
    let rows = rows.lines().map(serde_json::from_str);
    rows.collect::<Result<_, _>>().unwrap()
}

#[test]
fn backups_certificates_and_salvages_by_command_are_told_and_what_only_looks_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (data, copy, ca) = (path("data"), path("copy"), path("ca"));
    let unnamed = ["ca", "init", &path("elsewhere"), "--name", "depot.example"];
    assert_eq!(ask(&unnamed).2, Some(0));
    let made = [
        "ca",
        "init",
        &ca,
        "--name",
        "depot.example",
        "--data",
        &data,
    ];
    assert_eq!(ask(&made).2, Some(0));
    assert_eq!(ask(&["backup", &copy, "--data", &data]).2, Some(0));
    assert_eq!(ask(&["salvage", "--data", &data]).2, Some(0));
    assert_eq!(ask(&["salvage", "--dry-run", "--data", &data]).2, Some(0));
    let told = |row: &Value| ["by", "what", "detail", "result"].map(|name| row[name].clone());
    let names = format!("{ca} for depot.example");
    let expected = [
        ["store", "ca init", &names, "done"],
        ["store", "backup", &copy, "done"],
    ];
    let all: Vec<_> = acts(&data).iter().map(told).collect();
    assert_eq!(all, expected.map(|act| act.map(Value::from)));
    // The copy was made before it was known what came of it.
    let copied = acts(&copy).pop().unwrap();
    assert_eq!(
        told(&copied),
        ["store", "backup", &copy, "begun"].map(Value::from)
    );

    let log = Path::new(&data).join("store").join("db");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[..16].fill(0xff);
    std::fs::write(&log, bytes).unwrap();
    assert_eq!(ask(&["salvage", "--data", &data]).2, Some(0));
    let last = acts(&data).pop().unwrap();
    assert_eq!(
        told(&last),
        ["store", "salvage", "by command", "done"].map(Value::from)
    );
    assert_eq!(last["uid"], rustix::process::getuid().as_raw());
}

#[test]
fn exit_codes_tell_configuration_from_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.toml").display().to_string();
    std::fs::write(&file, "[mqtt]\nkeep_alive_max = 90\n").unwrap();
    for command in [
        vec!["check", &file],
        vec!["run", "--config", &file],
        vec!["bogus"],
    ] {
        assert_eq!(ask(&command).2, Some(2), "{command:?}");
    }
    let (rows, _, _) = ask(&["--json", "check", &file]);
    let row: Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(
        (&row["line"], &row["key"]),
        (&2.into(), &"mqtt.keep_alive_max".into())
    );
    let empty = folder.path().display().to_string();
    let (_, said, code) = ask(&["status", "--data", &empty]);
    assert!(
        code == Some(3) && said.contains("there is no store in"),
        "{said}"
    );
}
