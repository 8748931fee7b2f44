//! Recorded output of real receivers, through the real device code into the real gateway: positions are
//! where the recording says, and receivers that stood still neither move nor flap a fence.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::depot::Depot;
use tests::peer::{self, Peer};

/// Recordings whose receiver stood still, by their headers and, but for [`SETTLING`], by their
/// noise-sized extent.
const STATIONARY: [&str; 10] = [
    "gp-320fw-2019-04-06-overflow",
    "haicom-305N",
    "mt3339",
    "neo-m8n",
    "nmea-fuzzy-cases",
    "nokia-ld-4w",
    "quectel-eg25-g",
    "rx210",
    "telit-he910",
    "ublox-8",
];

/// Stood still as well, but its first fixes are 200 m off and settle. That is a way across an edge, so
/// it gets none.
const SETTLING: &str = "quectel-eg25-g";

/// The recording without a single fix.
const WITHOUT_FIX: &str = "bu303-nofix";

/// How far a stored position may lie outside the extent of the recording's own fixes, in degrees: a
/// metre and a half, for the rounding of both sides.
const ROUNDING_DEGREES: f64 = 1.5e-5;

/// Degrees of latitude in 150 m.
const HALF_FENCE_DEGREES: f64 = 150.0 / 111_195.0;

/// Smallest and largest latitude and longitude.
#[derive(Clone, Copy, Debug)]
struct Extent {
    lat: (f64, f64),
    lon: (f64, f64),
}

#[test]
fn every_recording_arrives_where_it_was_made_and_what_stood_still_stays() {
    let recordings = recordings().unwrap();
    assert_eq!(recordings.len(), 12);
    let extents: BTreeMap<_, _> = recordings
        .iter()
        .map(|(name, file)| (name.clone(), extent(file).unwrap()))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut depot = Depot::create(folder.path(), &data, &plan(&extents), "").unwrap();
    depot.start().unwrap();
    play(&depot, folder.path(), &recordings).unwrap();

    let rows = depot.export("readings").unwrap();
    for (device, extent) in &extents {
        check_positions(device, *extent, &rows);
    }
    let events = depot.drained().unwrap();
    for device in STATIONARY {
        check_stillness(device, &events);
    }
    assert!(depot.stop().unwrap().success());
}

#[test]
fn a_receiver_behind_a_week_rollover_is_corrected_by_the_build_time() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/nmea/bt451.log");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut depot = Depot::create(folder.path(), &data, "version = 1\n", "").unwrap();
    depot.start().unwrap();
    // The receiver says 2009-12-09; 1024 weeks later it is 2029-07-25.
    for (device, arguments, day, corrected) in [
        ("as-recorded", [].as_slice(), "2009-12-09", false),
        (
            "built-before",
            &["--build-time", "2009-06-01"],
            "2009-12-09",
            false,
        ),
        (
            "built-after",
            &["--build-time", "2029-01-01T06:30:00Z"],
            "2029-07-25",
            true,
        ),
    ] {
        let mut simulator = Command::new(peer::product("supercargo-sim").unwrap());
        simulator.args(["nmea", "--pace", "100", "--addr", &depot.mqtt.to_string()]);
        simulator
            .args(["--device", device])
            .args(arguments)
            .arg(&file);
        peer::run(&mut simulator).unwrap();
        let mut rows = depot.export("records").unwrap();
        rows.retain(|row| row["device"] == device);
        check_dates(&rows, day, corrected);
    }
    assert!(depot.stop().unwrap().success());
}

/// What the receiver told has this date, and says how it came about. (The gateway may have told its own
/// time before, from years later.)
fn check_dates(rows: &[Value], day: &str, corrected: bool) {
    let told = |row: &&Value| row["anchor_source"] == "gnss";
    let anchors: Vec<_> = rows.iter().filter(told).collect();
    assert!(!anchors.is_empty(), "{rows:?}");
    for anchor in anchors {
        let utc = anchor["anchor_utc"].as_str().unwrap_or_default();
        assert!(utc.starts_with(day), "{anchor}");
        assert_eq!(anchor["anchor_rollover_corrected"], corrected, "{anchor}");
    }
}

/// Every reading of `device` lies within its recording; a device without fixes has no position.
fn check_positions(device: &str, extent: Option<Extent>, rows: &[Value]) {
    let own = |row: &&Value| row["device"] == device && row["kind"] == "reading";
    let readings: Vec<_> = rows.iter().filter(own).collect();
    assert!(!readings.is_empty(), "{device} sampled nothing");
    let placed: Vec<_> = readings.iter().filter(|row| row["lat"].is_f64()).collect();
    let Some(extent) = extent else {
        assert_eq!(device, WITHOUT_FIX);
        return assert!(placed.is_empty(), "{device}: {placed:?}");
    };
    assert!(!placed.is_empty(), "{device} has no position: {readings:?}");
    for row in placed {
        for (column, (least, most)) in [("lat", extent.lat), ("lon", extent.lon)] {
            let value = row[column].as_f64().unwrap_or(f64::NAN);
            let allowed = least - ROUNDING_DEGREES..=most + ROUNDING_DEGREES;
            assert!(
                allowed.contains(&value),
                "{device}: {column} outside {allowed:?}: {row}"
            );
        }
    }
}

/// A receiver that stands in the middle of one fence and on the edge of another arrives in the first,
/// once, and perhaps in the second, and nothing else is told of it, but that it falls silent.
fn check_stillness(device: &str, events: &[Value]) {
    let shipment = format!("S-{device}");
    let mut told: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for event in events
        .iter()
        .filter(|event| event["subject"] == shipment.as_str())
    {
        let code = event["data"]["code"].as_str().unwrap_or_default();
        told.entry(code).or_default().push(event);
    }
    // The end of the recording is the tracker's last word.
    told.remove("EX_SILENT");
    let arrived = told.remove("ARRIVED_PICKUP").unwrap_or_default();
    assert_eq!(arrived.len(), 1, "{device} has one arrival: {arrived:?}");
    let on_edge = told.remove("ARRIVED_HUB").unwrap_or_default();
    assert!(on_edge.len() <= 1, "{device} flaps: {on_edge:?}");
    assert!(told.is_empty(), "{device} stood still: {told:?}");
}

fn recordings() -> Result<BTreeMap<String, PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/nmea");
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "log") {
            let name = path.file_stem().context("file name")?.to_string_lossy();
            found.insert(name.into_owned(), path);
        }
    }
    Ok(found)
}

/// Two fences around each still receiver: one that holds it, one whose edge runs through it.
fn plan(extents: &BTreeMap<String, Option<Extent>>) -> String {
    let mut plan = "version = 1\n".to_owned();
    for device in STATIONARY {
        let Some(Some(extent)) = extents.get(device) else {
            continue;
        };
        let lat = f64::midpoint(extent.lat.0, extent.lat.1);
        let lon = f64::midpoint(extent.lon.0, extent.lon.1);
        // Writing to a String cannot fail.
        let _ = write!(
            plan,
            "[[fence]]\nid = \"{device}-home\"\nlat = {lat}\nlon = {lon}\nradius_m = 150\n\
             [[shipment]]\nid = \"S-{device}\"\nprofile = \"vaccine_2_8\"\n\
             [[shipment.unit]]\nid = \"box\"\ntrackers = [\"{device}\"]\n\
             [[shipment.stop]]\nid = \"home\"\nfence = \"{device}-home\"\nrole = \"pickup\"\n"
        );
        if device != SETTLING {
            let beside = lat + HALF_FENCE_DEGREES;
            let _ = write!(
                plan,
                "[[shipment.stop]]\nid = \"edge\"\nfence = \"{device}-edge\"\nrole = \"hub\"\n\
                 [[fence]]\nid = \"{device}-edge\"\nlat = {beside}\nlon = {lon}\nradius_m = 150\n"
            );
        }
    }
    plan
}

/// All recordings at once, each by a simulator of its own.
fn play(depot: &Depot, folder: &Path, recordings: &BTreeMap<String, PathBuf>) -> Result<()> {
    let program = peer::product("supercargo-sim")?;
    let start = |(name, file): (&String, &PathBuf)| {
        let mut simulator = Command::new(&program);
        simulator.args(["nmea", "--pace", "100", "--addr", &depot.mqtt.to_string()]);
        // Longer than this test waits: a simulator ends when all is confirmed, not when patience does.
        simulator.args(["--patience", "10min"]);
        Peer::start(
            name,
            simulator.arg(file),
            &folder.join(format!("{name}.out")),
        )
    };
    let peers: Result<Vec<Peer>> = recordings.iter().map(start).collect();
    for mut peer in peers? {
        let status = peer.wait()?;
        ensure!(status.success(), "{status}\n{}", peer.log()?);
    }
    Ok(())
}

/// Extent of all valid fixes of a recording, by a parser of its own; `None` without any.
fn extent(file: &Path) -> Result<Option<Extent>> {
    let bytes = fs::read(file)?;
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    let mut extent: Option<Extent> = None;
    for (lat, lon) in text.split(['\r', '\n']).filter_map(fix) {
        let seen = extent.get_or_insert(Extent {
            lat: (lat, lat),
            lon: (lon, lon),
        });
        seen.lat = (seen.lat.0.min(lat), seen.lat.1.max(lat));
        seen.lon = (seen.lon.0.min(lon), seen.lon.1.max(lon));
    }
    Ok(extent)
}

/// Latitude and longitude of a valid GGA, GNS or RMC sentence with a right checksum.
fn fix(line: &str) -> Option<(f64, f64)> {
    let (body, sum) = line.get(line.find('$')? + 1..)?.rsplit_once('*')?;
    let found = body.chars().fold(0, |sum, c| sum ^ u32::from(c));
    (u32::from_str_radix(sum.get(..2)?, 16).ok()? == found).then_some(())?;
    let fields: Vec<_> = body.split(',').collect();
    let valid = |index: usize, bad: &[&str]| {
        let value = fields.get(index).copied().unwrap_or_default();
        (!bad.contains(&value)).then_some(())
    };
    let first = match fields.first()?.get(2..)? {
        "GGA" => valid(6, &["", "0"]).map(|()| 2)?,
        "GNS" => valid(6, &["", "N", "NN", "NNN", "NNNN"]).map(|()| 2)?,
        "RMC" => valid(2, &["", "V"]).map(|()| 3)?,
        _ => return None,
    };
    let degrees = |index: usize| {
        let value: f64 = fields.get(index)?.parse().ok()?;
        let sign = if matches!(*fields.get(index + 1)?, "S" | "W") {
            -1.0
        } else {
            1.0
        };
        Some(sign * ((value / 100.0).trunc() + value % 100.0 / 60.0))
    };
    Some((degrees(first)?, degrees(first + 2)?))
}
