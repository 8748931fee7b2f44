//! What a tracker sends that is wrong, through the shipped binary: refused or not believed, named where a
//! person looks, counted once, and accounted for.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use protocol::batch::{BATCH_MAX_BYTES, BatchEncoder, BatchHeader};
use protocol::key::{RecordKey, Seq};
use protocol::reading::{FixQuality, Measured, Missing, Position, Reading};
use protocol::record::{Anchor, BootRecord, Numbered, Record, ResetCause, TimeSource};
use protocol::units::{
    Decimetres, DecimetresPerSecond, Latitude, Longitude, Milliseconds, Seconds, UptimeMs, UtcMs,
};
use serde_json::Value;
use tests::depot::{Depot, fact, fleet_plan};
use tests::mqtt::{Client, Incoming, Login, Version};
use tests::peer::{product, wait_for};

const DEVICE: &str = "bad-1";

/// When its firmware was built: 2026-03-01T00:00:00Z.
const BUILT_MS: i64 = 1_772_323_200_000;

/// What its clock chip says: 2020-01-01T00:00:00Z.
const CLOCK_MS: i64 = 1_577_836_800_000;

const JUNK: &[u8] = b"\xffnonsense";

/// A boot, a time long before the build, the point 0, 0, and a reading behind a number that never comes.
fn batch() -> Result<Vec<u8>> {
    let uptime = UptimeMs::saturating(60_000);
    let boot = BootRecord {
        uptime,
        build_time: UtcMs::saturating(BUILT_MS),
        previous_last: None,
        cause: ResetCause::PowerOn,
        version: [1, 0, 0],
    };
    let anchor = Anchor {
        uptime,
        utc: UtcMs::saturating(CLOCK_MS),
        source: TimeSource::ClockChip,
        uncertainty: Milliseconds::saturating(1_000),
        rollover_corrected: false,
    };
    let mut nowhere = Reading::empty(uptime);
    nowhere.position = Measured::Value(Position {
        latitude: Latitude::saturating(0),
        longitude: Longitude::saturating(0),
        accuracy: Decimetres::saturating(50),
        speed: DecimetresPerSecond::saturating(0),
        course: Measured::Missing(Missing::NotSampled),
        quality: FixQuality::Gnss3d,
        satellites: 8,
        age: Seconds::saturating(1),
    });
    let records = [
        (0, Record::Boot(boot)),
        (1, Record::Anchor(anchor)),
        (2, Record::Reading(nowhere)),
        (4, Record::Reading(Reading::empty(uptime))),
    ];
    let newest = RecordKey::new(1, 0, 4);
    let header = BatchHeader {
        epoch: newest.epoch,
        boot: newest.boot,
        oldest_pending: newest,
    };
    let mut buffer = vec![0; BATCH_MAX_BYTES];
    let mut encoder = BatchEncoder::new(&mut buffer, header)
        .ok()
        .context("batch")?;
    for (seq, record) in records {
        let seq = Seq(seq);
        encoder
            .push(&Numbered { seq, record })
            .ok()
            .context("batch is full")?;
    }
    Ok(encoder.finish().to_vec())
}

/// Publish each payload and see each acknowledged with success.
fn send(depot: &Depot, payloads: &[&[u8]]) -> Result<()> {
    let login = Login {
        client_id: DEVICE,
        version: Version::V5,
        clean: true,
        credentials: None,
    };
    let mut client = Client::connect(depot.mqtt, &login)?;
    for (payload, packet_id) in payloads.iter().zip(1..) {
        client.publish(&format!("sc/1/{DEVICE}/readings"), packet_id, payload)?;
        let answer = client.receive()?;
        let good = matches!(answer, Incoming::PubAck { packet_id: of, reason } if of == packet_id && reason < 0x80);
        ensure!(good, "{answer:?}");
    }
    Ok(client.disconnect()?)
}

/// Run a command of the shipped binary on the depot, whatever its exit code.
fn ask(depot: &Depot, arguments: &[&str]) -> Result<(Option<i32>, Vec<Value>, String)> {
    let mut command = Command::new(product("supercargo")?);
    command.args(arguments).arg("--config").arg(depot.config());
    let Output {
        status,
        stdout,
        stderr,
    } = command.output()?;
    let rows = String::from_utf8(stdout)?;
    let rows = rows.lines().map(serde_json::from_str);
    let rows = rows.collect::<Result<_, _>>()?;
    Ok((status.code(), rows, String::from_utf8(stderr)?))
}

fn doubted(depot: &Depot) -> Result<[Option<u64>; 2]> {
    let status = depot.status()?;
    Ok(["clock_refused", "position_nowhere"].map(|reason| {
        let labels = [("device", DEVICE), ("reason", reason)];
        fact(&status, "records_doubted", &labels)
    }))
}

fn check_ledger(depot: &Depot, received: u64, duplicate: u64) -> Result<()> {
    let (code, rows, _) = ask(depot, &["ledger", DEVICE, "--json"])?;
    assert_eq!(code, Some(1), "a number is unexplained: {rows:?}");
    assert_eq!(rows.len(), 1, "{rows:?}");
    for (name, expected) in [
        ("received", received),
        ("stored", 4),
        ("duplicate", duplicate),
        ("contested", 0),
        ("refused", 1),
        ("refused_undecodable", 1),
        ("lost_on_device", 0),
        ("pending", 0),
        ("unexplained", 1),
        ("doubted_clock_refused", 1),
        ("doubted_position_nowhere", 1),
    ] {
        assert_eq!(rows[0][name], expected, "{name}: {rows:?}");
    }
    assert_eq!(rows[0]["balanced"], true);
    Ok(())
}

fn depot(folder: &Path) -> Result<Depot> {
    let plan = fleet_plan(&[DEVICE.to_owned()]);
    let mut depot = Depot::create(folder, &folder.join("data"), &plan, "")?;
    depot.start()?;
    Ok(depot)
}

#[test]
fn what_is_not_believed_is_stored_named_told_and_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut depot = depot(folder.path()).unwrap();
    let batch = batch().unwrap();
    send(&depot, &[JUNK, &batch, &batch]).unwrap();
    assert_eq!(doubted(&depot).unwrap(), [Some(1), Some(1)]);
    check_ledger(&depot, 9, 4).unwrap();
    let told = wait_for("EX_CLOCK", || {
        let events = depot.export("events")?;
        Ok(events.into_iter().find(|event| event["code"] == "EX_CLOCK"))
    });
    let told = told.unwrap();
    assert_eq!(told["clock_problem"], "refused", "{told}");
    assert!(told["as_of"].is_string(), "{told}");
    let log = depot.log().unwrap();
    for part in ["clock_refused", "position_nowhere", "payload refused"] {
        assert!(log.contains(part), "{part} in {log}");
    }
    depot.kill().unwrap();
    depot.start().unwrap();
    send(&depot, &[&batch]).unwrap();
    assert_eq!(doubted(&depot).unwrap(), [Some(1), Some(1)]);
    let counted = "supercargo_records_doubted_total{reason=\"clock_refused\"}";
    assert!((depot.metric(counted).unwrap() - 1.0).abs() < 0.5);
    check_ledger(&depot, 13, 8).unwrap();
    depot.stop().unwrap();
    check_ledger(&depot, 13, 8).unwrap();
    assert_eq!(depot.records().unwrap().len(), 4, "all of it is stored");
    let clocks = depot.export("events").unwrap().into_iter();
    assert_eq!(
        clocks.filter(|event| event["code"] == "EX_CLOCK").count(),
        1
    );
}

/// Connect, be heard, and try to publish where it must not; the gateway hangs up.
fn trespass(depot: &Depot) -> Result<()> {
    let login = Login {
        client_id: DEVICE,
        version: Version::V5,
        clean: true,
        credentials: None,
    };
    let mut client = Client::connect(depot.mqtt, &login)?;
    client.publish("sc/1/another/readings", 1, JUNK)?;
    while client.receive().is_ok() {}
    Ok(())
}

fn turned_away(depot: &Depot) -> Result<Option<u64>> {
    let (_, rows, _) = ask(depot, &["ledger", DEVICE, "--json"])?;
    Ok(rows
        .first()
        .and_then(|row| row["turned_away_foreign_topic"].as_u64()))
}

#[test]
fn what_the_endpoint_turned_away_is_in_the_ledger_of_its_device_over_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut depot = depot(folder.path()).unwrap();
    send(&depot, &[&batch().unwrap()]).unwrap();
    let (_, before, _) = ask(&depot, &["ledger", DEVICE, "--json"]).unwrap();
    assert_eq!(before[0]["turned_away"], 0);
    for _ in 0..3 {
        trespass(&depot).unwrap();
    }
    wait_for("the ledger to have all of them", || {
        Ok((turned_away(&depot)? == Some(3)).then_some(()))
    })
    .unwrap();
    // What is counted lies in the store; the next barrier, which this PUBACK waits for, makes it durable.
    send(&depot, &[&batch().unwrap()]).unwrap();
    let (_, before, _) = ask(&depot, &["ledger", DEVICE, "--json"]).unwrap();
    depot.kill().unwrap();
    assert_eq!(turned_away(&depot).unwrap(), Some(3));
    let (_, after, _) = ask(&depot, &["ledger", DEVICE, "--json"]).unwrap();
    assert_eq!(
        after[0]["received"], before[0]["received"],
        "it is no part of the book"
    );
    assert_eq!(after[0]["balanced"], true);
    let (_, others, _) = ask(&depot, &["ledger", "another", "--json"]).unwrap();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn what_was_refused_is_listed_taken_away_and_dropped_running_and_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let mut depot = depot(folder.path()).unwrap();
    send(&depot, &[JUNK, b"more"]).unwrap();
    let (code, rows, said) = ask(&depot, &["quarantine", "list", "--json"]).unwrap();
    assert_eq!((code, rows.len()), (Some(0), 2), "{rows:?}");
    assert!(said.contains("asking the gateway that runs on"), "{said}");
    assert_eq!(rows[0]["topic"], format!("sc/1/{DEVICE}/readings"));
    assert_eq!(rows[0]["reason"], "undecodable");
    assert_eq!(rows[0]["bytes"], JUNK.len());

    let to = folder.path().join("taken");
    let to = to.to_str().unwrap();
    let (code, rows, _) = ask(&depot, &["quarantine", "export", "--to", to, "--json"]).unwrap();
    assert_eq!((code, &rows[0]["payloads"]), (Some(0), &Value::from(2)));
    assert_eq!(fs::read(format!("{to}/0-{DEVICE}.bin")).unwrap(), JUNK);
    assert_eq!(fs::read(format!("{to}/1-{DEVICE}.bin")).unwrap(), b"more");
    let index = fs::read_to_string(format!("{to}/index.jsonl")).unwrap();
    assert_eq!(index.lines().count(), 2, "{index}");
    let (code, _, said) = ask(&depot, &["quarantine", "export", "--to", to]).unwrap();
    assert!(code == Some(3) && said.contains("File exists"), "{said}");

    let (code, _, said) = ask(&depot, &["quarantine", "drop", "--all"]).unwrap();
    assert!(code == Some(2) && said.contains("--yes"), "{said}");
    let drop_first = ["quarantine", "drop", "--id", "0", "--yes", "--json"];
    let (code, rows, _) = ask(&depot, &drop_first).unwrap();
    assert_eq!((code, &rows[0]["value"]), (Some(0), &Value::from(1)));
    assert_eq!(ask(&depot, &drop_first).unwrap().0, Some(1), "it is gone");
    depot.stop().unwrap();
    let (_, rows, said) = ask(&depot, &["quarantine", "list", "--json"]).unwrap();
    assert!(said.contains("no gateway runs on"), "{said}");
    assert_eq!((rows.len(), &rows[0]["id"]), (1, &Value::from(1)));
    let by_device = ["quarantine", "drop", "--device", DEVICE, "--yes", "--json"];
    let (code, rows, _) = ask(&depot, &by_device).unwrap();
    assert_eq!((code, &rows[0]["value"]), (Some(0), &Value::from(1)));
    let status = depot.status().unwrap();
    let left = ["quarantine_rows", "quarantine_dropped"].map(|name| fact(&status, name, &[]));
    assert_eq!(left, [Some(0), Some(2)]);
}
