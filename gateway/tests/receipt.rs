//! The Receipt law against the operating system: what is on disk before an acknowledgement leaves, and
//! what is left when the process dies.
//!
//! Both tests start this test binary again as a child: `child_that_commits` is that child, and does
//! nothing unless its folder is named in the environment.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};

use gateway::clock::Clock;
use gateway::ingest::commit::{self, Committer, Parts};
use gateway::receipt::{Commit, Due, Origin, Publication};
use gateway::store::Store;
use gateway::store::journal::{self, Entry};
use protocol::batch::{BatchEncoder, BatchHeader};
use protocol::key::{Boot, Epoch, RecordKey, Seq};
use protocol::reading::{Measured, Reading};
use protocol::record::{Numbered, Record};
use protocol::topic::{Channel, Topic};
use protocol::units::{CentiCelsius, UptimeMs, UtcMs};
use tokio::sync::mpsc;

/// Names the child's store folder.
const FOLDER: &str = "SUPERCARGO_TEST_FOLDER";
/// How many readings the child acknowledges before it aborts.
const ACKNOWLEDGED: &str = "SUPERCARGO_TEST_ACKNOWLEDGED";

/// How many readings the child has on their way at once.
const IN_FLIGHT: &str = "SUPERCARGO_TEST_IN_FLIGHT";

fn number(name: &str) -> u32 {
    std::env::var(name).unwrap().parse().unwrap()
}

fn temperature(seq: u32) -> i16 {
    i16::try_from(seq % 1_000).unwrap()
}

fn publication(seq: u32, acknowledge: &mpsc::Sender<u16>) -> Publication {
    let header = BatchHeader {
        epoch: Epoch(1),
        boot: Boot(0),
        oldest_pending: RecordKey::new(1, 0, seq),
    };
    let mut buffer = [0; 256];
    let mut encoder = BatchEncoder::new(&mut buffer, header).unwrap();
    let mut reading = Reading::empty(UptimeMs::saturating(i64::from(seq)));
    reading.temperatures[0] = Measured::Value(CentiCelsius::new(temperature(seq)).unwrap());
    let record = Record::Reading(reading);
    encoder
        .push(&Numbered {
            seq: Seq(seq),
            record,
        })
        .unwrap();
    let packet_id = u16::try_from(seq % 65_535 + 1).unwrap();
    Publication {
        topic: Topic::new("t-1".parse().unwrap(), Channel::Readings),
        payload: encoder.finish().to_vec(),
        origin: Origin::Endpoint,
        due: Some(Due::new(packet_id, acknowledge.clone())),
    }
}

/// Commits readings, and writes a line for each one acknowledged; then dies without any farewell.
#[tokio::test]
async fn child_that_commits() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let (last, in_flight) = (number(ACKNOWLEDGED), number(IN_FLIGHT));
    let store = Store::open(Path::new(&folder)).unwrap();
    let (publications, receiver) = commit::queue();
    let account = commit::account(&store).unwrap();
    let clock = Clock::scaled(UtcMs::saturating(0), 0);
    let parts = Parts {
        store,
        account,
        clock,
        publications: receiver,
    };
    let _committer = Committer::spawn(parts).unwrap();
    let (acknowledge, mut acknowledged) = mpsc::channel(64);
    let mut next = 0;
    for count in 0..last {
        while next < count + in_flight {
            publications
                .send(publication(next, &acknowledge))
                .await
                .unwrap();
            next += 1;
        }
        let packet_id = acknowledged.recv().await.unwrap();
        let line = format!("PUBACK {}\n", u32::from(packet_id) - 1);
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
    std::process::abort();
}

/// This test binary as the child, under `wrapper` if one is given.
fn child(folder: &Path, acknowledged: u32, in_flight: u32, wrapper: &[&str]) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(&this),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(&this);
            command
        }
    };
    command
        .args(["--exact", "child_that_commits", "--nocapture"])
        .env(FOLDER, folder)
        .env(ACKNOWLEDGED, acknowledged.to_string())
        .env(IN_FLIGHT, in_flight.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

fn acknowledged(output: impl std::io::Read) -> Vec<u32> {
    let lines = BufReader::new(output).lines().map(Result::unwrap);
    lines
        .filter_map(|line| line.strip_prefix("PUBACK ")?.parse().ok())
        .collect()
}

/// Temperatures by sequence number.
fn stored(folder: &Path) -> BTreeMap<u32, i16> {
    let store = Store::open(folder).unwrap();
    let mut found = BTreeMap::new();
    journal::each(&store, Commit(0), |chunk| {
        for entry in chunk.entries {
            let Entry::Records(records) = entry else {
                panic!("nothing was contested")
            };
            for stored in records.records {
                let Record::Reading(reading) = stored.content.decode().unwrap().record else {
                    panic!("only readings were sent");
                };
                found.insert(stored.seq.0, reading.temperatures[0].value().unwrap().get());
            }
        }
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    found
}

#[test]
fn a_process_that_aborts_loses_nothing_it_acknowledged_however_often() {
    let folder = tempfile::tempdir().unwrap();
    let mut promised = 0;
    for round in 1..=5 {
        let goal = round * 50;
        let mut child = child(folder.path(), goal, 8, &[]).spawn().unwrap();
        let acknowledged = acknowledged(child.stdout.take().unwrap());
        assert!(!child.wait().unwrap().success(), "the child dies by abort");
        assert_eq!(acknowledged, (0..goal).collect::<Vec<u32>>());
        promised = goal;
        let stored = stored(folder.path());
        for seq in 0..promised {
            assert_eq!(
                stored.get(&seq),
                Some(&temperature(seq)),
                "reading {seq}, round {round}"
            );
        }
        // Sent of the reading in flight at the abort, at most: stored is a subset of sent.
        assert!(stored.len() <= goal as usize + 8, "{}", stored.len());
    }
    assert_eq!(promised, 250);
}

#[test]
fn fdatasync_of_the_log_comes_between_the_write_and_the_acknowledgement() {
    if !cfg!(target_os = "linux") || Command::new("strace").arg("-V").output().is_err() {
        let why = "skipped: needs strace, install with apt-get install strace\n";
        assert!(std::env::var_os("CI").is_none(), "{why}");
        std::io::stderr().write_all(why.as_bytes()).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (store, trace) = (folder.path().join("store"), folder.path().join("trace"));
    let trace_name = trace.to_str().unwrap();
    let wrapper = [
        "strace",
        "-f",
        "-y",
        "-s",
        "16",
        "-e",
        "trace=pwrite64,fdatasync,write",
        "-o",
        trace_name,
    ];
    let output = child(&store, 20, 1, &wrapper).output().unwrap();
    assert_eq!(acknowledged(&output.stdout[..]).len(), 20);
    let calls = std::fs::read_to_string(&trace).unwrap();
    assert_eq!(promises_kept(&calls, &store.join("db")), 20, "{calls}");
}

/// Goes through the calls in the order strace saw them. Counts the acknowledgements.
///
/// One reading is on its way at a time. So between one acknowledgement and the next there must be a
/// write to the log, and a sync of it that began after the write and succeeded.
fn promises_kept(calls: &str, log: &Path) -> u32 {
    let log = format!("<{}>", log.display());
    let (mut promises, mut written, mut synced) = (0, 0_u32, 0_u32);
    let mut written_before = 0;
    let mut at_begin = BTreeMap::new();
    for call in calls.lines() {
        let (thread, call) = call.split_once(' ').unwrap();
        let on_log = call.contains(&log);
        if call.contains("pwrite64") && on_log {
            written += 1;
        } else if call.contains("fdatasync") {
            if on_log {
                at_begin.insert(thread.to_owned(), written);
            }
            if let Some(covered) = at_begin.get(thread).filter(|_| call.ends_with("= 0")) {
                synced = *covered;
            }
        } else if call.contains("write(") && call.contains("\"PUBACK ") {
            promises += 1;
            assert!(
                written > written_before,
                "acknowledgement {promises} without a write"
            );
            assert_eq!(
                synced, written,
                "acknowledgement {promises} before the sync of {log}"
            );
            written_before = written;
        }
    }
    promises
}

#[test]
fn the_trace_reader_notices_an_acknowledgement_without_a_sync_of_its_own() {
    let log = Path::new("/s/db");
    let write = "7 pwrite64(3</s/db>, \"..\", 9, 0) = 9\n";
    let other = "7 fdatasync(5</s/other>) = 0\n";
    let failed = "7 fdatasync(4</s/db>) = -1 EIO (Input/output error)\n";
    let sync = "7 fdatasync(4</s/db> <unfinished ...>\n8 write(2<pipe>, \"x\", 1) = 1\n\
                7 <... fdatasync resumed>) = 0\n";
    let promise = "7 write(1<pipe>, \"PUBACK 0\\n\", 9) = 9\n";
    let honest = [write, sync, promise, write, sync, promise].concat();
    assert_eq!(promises_kept(&honest, log), 2);
    let lies = [
        vec![write, promise],
        vec![sync, write, promise],
        vec![write, other, promise],
        vec![write, failed, promise],
        vec![write, sync, promise, write, promise],
        vec![write, sync, promise, promise],
    ];
    for lie in lies {
        let lie = lie.concat();
        assert!(
            std::panic::catch_unwind(|| promises_kept(&lie, log)).is_err(),
            "{lie}"
        );
    }
}
