//! The socket from both ends.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};

use chrono_tz::Tz;
use protocol::batch::Entry;
use protocol::key::{DeviceId, RecordKey, Seq};
use protocol::reading::{Battery, Measured, Missing, Reading};
use protocol::record::{Anchor, Numbered, Record, TimeSource};
use protocol::units::{CentiCelsius, Milliseconds, Millivolts, Percent, UptimeMs, UtcMs};
use tokio::sync::watch;

use super::desk::Running;
use super::*;
use crate::config::Control;
use crate::mqtt::endpoint::Handle;
use crate::store::content::Content;
use crate::store::device::{self, Lost};
use crate::store::history::{self, Known};
use crate::store::journal::{self, Records, Stored};
use crate::store::quarantine::{Fill, Octets, Overflow, Refused};
use crate::store::seen::BootId;
use crate::store::{Batch, Commit, Store, memory, view};

fn content(seq: u32, record: Record) -> Content {
    let numbered = Numbered {
        seq: Seq(seq),
        record,
    };
    Content::of(&Entry {
        numbered,
        unknown: &[],
    })
    .unwrap()
}

fn reading(uptime_ms: i64) -> Record {
    let mut reading = Reading::empty(UptimeMs::saturating(uptime_ms));
    reading.temperatures[0] = Measured::Value(CentiCelsius::saturating(412));
    reading.temperatures[1] = Measured::Missing(Missing::SensorFault);
    reading.position = Measured::Missing(Missing::NoFix);
    reading.battery = Measured::Value(Battery {
        voltage: Millivolts::saturating(3_700),
        charge: Percent::saturating(81),
    });
    Record::Reading(reading)
}

fn anchor(uptime_ms: i64, utc_ms: i64) -> Record {
    Record::Anchor(Anchor {
        uptime: UptimeMs::saturating(uptime_ms),
        utc: UtcMs::saturating(utc_ms),
        source: TimeSource::Gnss,
        uncertainty: Milliseconds::saturating(10),
        rollover_corrected: false,
    })
}

/// A store with an anchor, a reading and a contested key in the history, and one more reading that
/// waits in the journal beside one that the history has already.
fn store() -> Store {
    let store = memory::store();
    let device = "t-1".parse().unwrap();
    let known = |content| Known {
        received_at: UtcMs::saturating(0),
        qos: 1,
        content,
    };
    let mut batch = Batch::default();
    let utc = 1_773_480_413_000;
    history::put(
        &mut batch,
        &device,
        RecordKey::new(7, 0, 1),
        &known(content(1, anchor(1_000, utc))),
    );
    history::put(
        &mut batch,
        &device,
        RecordKey::new(7, 0, 2),
        &known(content(2, reading(61_000))),
    );
    history::contest(&mut batch, &device, RecordKey::new(7, 0, 3));
    let stored = |seq, uptime| Stored {
        seq: Seq(seq),
        content: content(seq, reading(uptime)),
    };
    let waiting = journal::Entry::Records(Records {
        device,
        epoch: RecordKey::new(7, 0, 0).epoch,
        boot: RecordKey::new(7, 0, 0).boot,
        received_at: UtcMs::saturating(0),
        qos: 1,
        oldest_pending: RecordKey::new(7, 0, 2),
        records: vec![stored(2, 61_000), stored(4, 121_000)],
    });
    journal::append(&mut batch, Commit(1), &[waiting]).unwrap();
    store.apply(batch).unwrap();
    store
}

fn desk(running: Option<Running>) -> Desk {
    Desk {
        store: store(),
        zone: Tz::Europe__Berlin,
        sinks: vec!["file".to_owned()],
        running,
        changing: Mutex::default(),
    }
}

fn running() -> (Running, watch::Sender<u64>) {
    let (sender, posted) = watch::channel(0);
    let facts: Facts = Arc::new(|| {
        let mut row = Row::new();
        row.put("name", "connections");
        row.put("value", 3);
        vec![row]
    });
    let running = Running {
        facts,
        posted,
        endpoint: Handle::default(),
    };
    (running, sender)
}

fn answers(desk: &Desk, request: &Request) -> Vec<Row> {
    let mut rows = Vec::new();
    let count = desk.answer(request, &mut |row| {
        rows.push(row);
        ControlFlow::Continue(())
    });
    assert_eq!(count.unwrap(), rows.len() as u64);
    rows
}

/// Run `talk` against a served socket in a fresh folder.
async fn served<T: Send + 'static>(
    desk: Desk,
    connections_max: u32,
    talk: impl FnOnce(&Path) -> T + Send + 'static,
) -> T {
    let folder = tempfile::tempdir().unwrap();
    let server = bind(folder.path()).unwrap();
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(server.serve(Arc::new(desk), connections_max, stopped));
    let data = folder.path().to_owned();
    let talked = tokio::task::spawn_blocking(move || talk(&data))
        .await
        .unwrap();
    stop.send(true).unwrap();
    serving.await.unwrap();
    let left = Control::socket_in(folder.path()).exists();
    assert!(!left, "the socket must be removed at the end");
    talked
}

fn ask(data: &Path, request: &Request) -> Result<Vec<Row>, ClientError> {
    let client = Client::connect(data)?.expect("the socket is served");
    let mut rows = Vec::new();
    client.ask(request, |row| {
        rows.push(row);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(rows)
}

#[test]
fn every_stored_record_is_exported_once_with_its_time_and_reasons() {
    let rows = answers(&desk(None), &Request::ExportRecords);
    let readings = answers(&desk(None), &Request::ExportReadings);
    assert_eq!(
        readings,
        [rows[1].clone(), rows[3].clone()],
        "readings alone"
    );
    let lines: Vec<_> = rows.iter().map(ToString::to_string).collect();
    assert_eq!(rows.len(), 4, "{lines:#?}");
    assert!(lines[0].contains(r#""seq":1,"kind":"anchor","utc":"2026-03-14T09:26:53.000Z""#));
    assert!(lines[1].contains(r#""seq":2,"kind":"reading","utc":"2026-03-14T09:27:53.000Z""#));
    let expected = r#""temperature_1_c":4.12,"temperature_2_missing":"sensor_fault""#;
    assert!(lines[1].contains(expected), "{}", lines[1]);
    assert!(lines[1].contains(r#""position_missing":"no_fix""#));
    assert!(lines[1].contains(r#""battery_v":3.7,"battery_percent":81"#));
    assert!(
        lines[2].ends_with(r#""epoch":"0000000000000007","boot":0,"seq":3,"kind":"contested"}"#)
    );
    assert!(lines[3].contains(r#""seq":4,"kind":"reading","utc":"2026-03-14T09:28:53.000Z""#));
}

#[test]
fn a_table_has_a_column_for_every_value_of_every_row() {
    for row in answers(&desk(None), &Request::ExportRecords) {
        for (name, _) in row.iter() {
            assert!(READING_COLUMNS.contains(&name), "{name} has no column");
        }
    }
}

#[tokio::test]
async fn the_socket_is_the_owners_alone_and_answers_what_the_store_says() {
    let (running, _posted) = running();
    let rows = served(desk(Some(running)), 4, |data| {
        let mode = std::fs::metadata(Control::socket_in(data)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        ask(data, &Request::Status).unwrap()
    })
    .await;
    let text: Vec<_> = rows.iter().map(ToString::to_string).collect();
    assert!(
        text.contains(&r#"{"name":"running","value":true}"#.to_owned()),
        "{text:?}"
    );
    assert!(
        text.contains(&r#"{"name":"devices","value":1}"#.to_owned()),
        "{text:?}"
    );
    assert!(
        text.contains(&r#"{"name":"connections","value":3}"#.to_owned()),
        "{text:?}"
    );
}

#[test]
fn status_tells_what_is_missing_and_of_whom_and_what_the_quarantine_holds() {
    let desk = desk(None);
    let device: DeviceId = "t-9".parse().unwrap();
    let boot = BootId {
        device: device.clone(),
        epoch: RecordKey::new(7, 0, 0).epoch,
        boot: RecordKey::new(7, 0, 0).boot,
    };
    let lost = Lost {
        first: RecordKey::new(7, 0, 1),
        last: Seq(2),
        count: 2,
    };
    let refused = Refused {
        device: device.to_string(),
        channel: "readings".to_owned(),
        received_at_ms: 0,
        reason: "undecodable".to_owned(),
        detail: "decode batch at byte 0".to_owned(),
        payloads: vec![Octets(vec![7; 12])],
    };
    let mut batch = Batch::default();
    device::note_end(&mut batch, &boot, Seq(5)).unwrap();
    device::note_lost(&mut batch, &device, lost).unwrap();
    let mut fill = Fill::load(&desk.store).unwrap();
    fill.keep(&mut batch, &device, &refused, &mut Overflow::default())
        .unwrap();
    desk.store.apply(batch).unwrap();
    let rows = answers(&desk, &Request::Status);
    let lines: Vec<_> = rows.iter().map(ToString::to_string).collect();
    for expected in [
        r#"{"name":"records_lost","value":2}"#,
        r#"{"name":"records_pending","value":0}"#,
        r#"{"name":"records_unexplained","value":4}"#,
        r#"{"name":"records_missing","value":6,"device":"t-9","lost":2,"pending":0,"unexplained":4}"#,
        r#"{"name":"quarantine_rows","value":1}"#,
        r#"{"name":"quarantine_bytes","value":12}"#,
        r#"{"name":"quarantine_overflow","value":0}"#,
    ] {
        assert!(
            lines.iter().any(|line| line == expected),
            "{expected} in {lines:#?}"
        );
    }
}

#[tokio::test]
async fn a_refusal_is_an_error_with_its_reason() {
    let refused = served(desk(None), 4, |data| {
        let to = "relative/folder".into();
        ask(data, &Request::Backup { to }).unwrap_err().to_string()
    })
    .await;
    assert!(
        refused.contains("path relative/folder is not absolute"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_request_that_is_none_or_too_long_is_refused_and_read_no_further() {
    let answers = served(desk(None), 4, |data| {
        let say = |text: &str| {
            let mut stream = UnixStream::connect(Control::socket_in(data)).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        [
            say("{\"op\":\"reboot\"}\n"),
            say(&"x".repeat(REQUEST_MAX_BYTES as usize)),
        ]
    })
    .await;
    assert!(answers[0].starts_with(r#"["error","request not understood: unknown variant"#));
    assert!(answers[1].starts_with(r#"["error","request is no line of at most 32768"#));
}

#[tokio::test]
async fn one_connection_more_than_allowed_is_closed_unread() {
    let (running, _posted) = running();
    served(desk(Some(running)), 1, |data| {
        let mut following = UnixStream::connect(Control::socket_in(data)).unwrap();
        let request = "{\"op\":\"events\",\"after\":0,\"follow\":true}\n";
        following.write_all(request.as_bytes()).unwrap();
        // Connections are accepted in order, so the first has its slot when the second is looked at.
        let cut = ask(data, &Request::Status).unwrap_err();
        let closed = matches!(
            cut,
            ClientError::Cut { rows: 0 } | ClientError::Socket { .. }
        );
        assert!(closed, "{cut}");
    })
    .await;
}

/// Change what is stated about an event, as the fold does.
fn post(store: &Store, event: &str, sequence: u64) {
    let detail = rules::event::Detail::Stop {
        stop: "delivery".to_owned(),
        index: 1,
    };
    let mut batch = Batch::default();
    let posted = super::episode::tests::posted(event, sequence, detail);
    view::put(&mut batch, "S-1", event, &posted).unwrap();
    store.apply(batch).unwrap();
}

fn sequences(rows: &[Row]) -> Vec<u64> {
    let sequence = |row: &Row| row.value("sequence").and_then(serde_json::Value::as_u64);
    rows.iter().filter_map(sequence).collect()
}

#[test]
fn events_come_in_the_order_of_their_last_change_however_many_there_are() {
    let desk = desk(None);
    for event in 0..3_000_u64 {
        post(&desk.store, &format!("e-{event}"), 10_000 - event);
    }
    let request = |after| Request::Events {
        after,
        follow: false,
    };
    let all = sequences(&answers(&desk, &request(0)));
    assert_eq!(all, (7_001..=10_000).collect::<Vec<u64>>());
    assert_eq!(sequences(&answers(&desk, &request(9_998))), [9_999, 10_000]);
    assert_eq!(answers(&desk, &Request::ExportEvents).len(), 3_000);
}

#[tokio::test]
async fn a_follower_is_told_every_later_change_once() {
    let (running, changed) = running();
    let desk = desk(Some(running));
    let store = desk.store.clone();
    post(&store, "old", 1);
    let told = served(desk, 4, move |data| {
        let client = Client::connect(data).unwrap().unwrap();
        let request = Request::Events {
            after: 0,
            follow: true,
        };
        let mut told = Vec::new();
        // Each change is made when the one before has been told: nothing depends on the clock.
        client
            .ask(&request, |row| {
                told.push(row);
                let next = told.len() as u64 + 1;
                if next > 4 {
                    return Ok(ControlFlow::Break(()));
                }
                post(&store, &format!("new-{next}"), next);
                changed.send_replace(next);
                Ok(ControlFlow::Continue(()))
            })
            .unwrap();
        told
    })
    .await;
    assert_eq!(sequences(&told), [1, 2, 3, 4]);
}

#[test]
fn without_a_socket_no_gateway_runs() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Client::connect(folder.path()).unwrap().is_none());
    drop(std::os::unix::net::UnixListener::bind(Control::socket_in(folder.path())).unwrap());
    let stale = Client::connect(folder.path()).unwrap();
    assert!(
        stale.is_none(),
        "a socket that a killed gateway left behind is no gateway"
    );
}
