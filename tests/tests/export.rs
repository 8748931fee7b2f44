//! `supercargo export` in its three formats: the same rows, whether the gateway runs or not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use serde_json::{Map, Value};
use tests::depot::{Depot, fleet_plan};
use tests::device::Device;
use tests::ledger::Ledger;
use tests::load::{Load, Plan};
use tests::peer::{product, run};
use tests::trouble::Trouble;

const SEED: u64 = 23;

const DEVICES: u32 = 2;

#[test]
fn every_format_has_the_same_rows_whether_a_gateway_runs_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<_> = (0..DEVICES)
        .map(|index| Device::new(SEED, index).unwrap().id().to_string())
        .collect();
    let data = folder.path().join("data");
    let mut depot = Depot::create(folder.path(), &data, &fleet_plan(&names), "").unwrap();
    depot.start().unwrap();
    let ledger = Arc::new(Ledger::create(&folder.path().join("ledger")).unwrap());
    fill(&depot, &ledger);
    depot.drained().unwrap();

    let running = agreed(&depot);
    assert!(depot.stop().unwrap().success());
    assert_eq!(running, agreed(&depot));
    let [readings, records, events] = running;
    assert_eq!(records.len(), ledger.lines().len());
    let is_reading = |row: &&Value| row["kind"] == "reading";
    assert_eq!(records.iter().filter(is_reading).count(), readings.len());
    let unplaced = readings.iter().filter(|row| !row["lat"].is_f64());
    assert!(unplaced.count() > 5, "some have no position");
    assert!(events.iter().any(|row| row["code"] == "EX_TEMPERATURE"));
}

/// Two warm spells of each device, and records of every kind with every kind of value.
fn fill(depot: &Depot, ledger: &Arc<Ledger>) {
    let plan = Plan {
        address: depot.mqtt,
        seed: SEED,
        devices: DEVICES,
        window: 4,
        batch_records: 20,
        batches: Some(7),
        batches_per_s: None,
    };
    Load::start(plan, Some(ledger)).unwrap().join().unwrap();
    let mut trouble = Trouble::new(SEED).unwrap();
    for _ in 0..5 {
        trouble.stir(depot.mqtt, ledger).unwrap();
    }
}

/// Readings, records and events, after their three formats have been found to agree.
fn agreed(depot: &Depot) -> [Vec<Value>; 3] {
    ["readings", "records", "events"].map(|what| {
        let rows = depot.export(what).unwrap();
        assert!(!rows.is_empty(), "no {what}");
        is_csv_of(&rows, &export(depot, what, "csv"));
        is_geojson_of(&rows, &export(depot, what, "geojson"));
        rows
    })
}

fn export(depot: &Depot, what: &str, format: &str) -> String {
    let mut command = Command::new(product("supercargo").unwrap());
    command.args(["export", what, "--format", format, "--config"]);
    let output = run(command.arg(depot.config())).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Row for row the same names and values; a cell without a value is empty.
fn is_csv_of(rows: &[Value], text: &str) {
    let mut lines = parsed_csv(text).into_iter();
    let header = lines.next().unwrap();
    let lines: Vec<_> = lines.collect();
    assert_eq!(lines.len(), rows.len());
    for (cells, row) in lines.iter().zip(rows) {
        assert_eq!(cells.len(), header.len(), "{cells:?}");
        let filled = header
            .iter()
            .zip(cells)
            .filter(|(_, cell)| !cell.is_empty());
        let filled: BTreeMap<_, _> = filled
            .map(|(name, cell)| (name.clone(), cell.clone()))
            .collect();
        assert_eq!(filled, texts(row.as_object().unwrap()));
    }
}

/// A row's values as cells; an empty text looks like none.
fn texts(row: &Map<String, Value>) -> BTreeMap<String, String> {
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let texts = row.iter().map(|(name, value)| (name.clone(), text(value)));
    texts.filter(|(_, text)| !text.is_empty()).collect()
}

/// RFC 4180: lines end in CR LF, and a quoted cell may hold commas, line ends and doubled quotes.
fn parsed_csv(text: &str) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    let (mut line, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, quoted) {
            ('"', true) if rest.peek() == Some(&'"') => cell.extend(rest.next()),
            ('"', _) => quoted = !quoted,
            (',', false) => line.push(std::mem::take(&mut cell)),
            ('\r', false) => {
                assert_eq!(rest.next(), Some('\n'));
                line.push(std::mem::take(&mut cell));
                lines.push(std::mem::take(&mut line));
            }
            _ => cell.push(c),
        }
    }
    assert!(
        line.is_empty() && cell.is_empty() && !quoted,
        "an open last line"
    );
    lines
}

/// One point, longitude first, for each row that has a position, in order, with all its other values.
fn is_geojson_of(rows: &[Value], text: &str) {
    let collection: Value = serde_json::from_str(text).unwrap();
    assert_eq!(collection["type"], "FeatureCollection");
    let features = collection["features"].as_array().unwrap();
    let placed: Vec<_> = rows.iter().filter(|row| row.get("lat").is_some()).collect();
    assert!(!placed.is_empty());
    assert_eq!(features.len(), placed.len());
    for (feature, row) in features.iter().zip(placed) {
        assert_eq!(feature["type"], "Feature");
        assert_eq!(feature["geometry"]["type"], "Point");
        let place = feature["geometry"]["coordinates"].as_array().unwrap();
        let [lon, lat] = place.as_slice() else {
            panic!("{feature}");
        };
        assert!(lon.as_f64().unwrap().abs() <= 180.0, "{feature}");
        assert!(lat.as_f64().unwrap().abs() <= 90.0, "{feature}");
        let mut whole = feature["properties"].as_object().unwrap().clone();
        whole.extend([
            ("lat".to_owned(), lat.clone()),
            ("lon".to_owned(), lon.clone()),
        ]);
        assert_eq!(&whole, row.as_object().unwrap());
    }
}
