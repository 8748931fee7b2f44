//! Recorded output of real receivers through the parser: see `tests/data/nmea` at the root.

use std::collections::BTreeMap;
use std::path::PathBuf;

use firmware::gnss::fix::{Fix, Receiver, Time};
use protocol::reading::{FixQuality, Measured, Missing};
use protocol::units::{UptimeMs, UtcMs};

/// What came out of a log: each fix and time once.
struct Replay {
    fixes: Vec<Fix>,
    times: Vec<Time>,
    receiver: Receiver,
    end: UptimeMs,
}

fn log(name: &str) -> Vec<u8> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/nmea");
    std::fs::read(root.join(name)).expect("the logs are part of the repository")
}

/// Feed `bytes` in pieces of `cut` bytes, 10 ms apart.
fn replay(bytes: &[u8], build_time: UtcMs, cut: usize) -> Replay {
    let mut receiver = Receiver::new(build_time);
    let (mut fixes, mut times) = (BTreeMap::new(), BTreeMap::new());
    let mut now = UptimeMs::saturating(0);
    for piece in bytes.chunks(cut) {
        now = UptimeMs::saturating((now.get() + 10).cast_signed());
        receiver.push(piece, now);
        fixes.extend(receiver.current(now).map(|fix| (fix.received, fix)));
        times.extend(receiver.time().map(|time| (time.utc, time)));
    }
    Replay {
        fixes: fixes.into_values().collect(),
        times: times.into_values().collect(),
        receiver,
        end: now,
    }
}

/// Midnight of a day.
fn day(year: i64, month: i64, day: i64) -> UtcMs {
    let date = firmware::gnss::field::Date::new(year, month, day).expect("a day of the calendar");
    UtcMs::saturating(date.utc_ms())
}

/// Metres between two places in degrees; plane, good for short distances.
fn metres(a: (f64, f64), b: (f64, f64)) -> f64 {
    let north = (a.0 - b.0).to_radians() * 6_371_008.8;
    let east = (a.1 - b.1).to_radians() * 6_371_008.8 * a.0.to_radians().cos();
    north.hypot(east)
}

fn place(fix: &Fix) -> (f64, f64) {
    let coordinates = fix.coordinates;
    (
        coordinates.latitude.degrees(),
        coordinates.longitude.degrees(),
    )
}

/// Largest distance of any fix from the first.
fn reach(fixes: &[Fix]) -> f64 {
    let first = place(&fixes[0]);
    let far = fixes.iter().map(|fix| metres(place(fix), first));
    far.fold(0.0, f64::max)
}

struct Expected {
    name: &'static str,
    /// As the header says, in degrees.
    location: (f64, f64),
    /// How exactly the header says it, in metres.
    within_m: f64,
    /// Day of the first time.
    date: (i64, i64, i64),
    /// Fewest fixes.
    fixes: usize,
    /// How far the fixes may and must reach from the first, in metres.
    reach_m: (f64, f64),
}

const EXPECTED: [Expected; 11] = [
    Expected {
        name: "bt451.log",
        location: (55.8, 23.6),
        within_m: 10_000.0,
        date: (2009, 12, 9),
        fixes: 13,
        reach_m: (100.0, 5_000.0),
    },
    Expected {
        name: "gp-320fw-2019-04-06-overflow.log",
        location: (48.15, 11.585),
        within_m: 1_000.0,
        date: (2019, 4, 6),
        fixes: 20,
        reach_m: (0.0, 10.0),
    },
    Expected {
        name: "haicom-305N.log",
        location: (-27.0, 153.0),
        within_m: 60_000.0,
        date: (2007, 4, 8),
        fixes: 68,
        reach_m: (8.0, 60.0),
    },
    Expected {
        name: "mt3339.log",
        location: (44.04, -121.18),
        within_m: 15_000.0,
        date: (2015, 4, 13),
        fixes: 30,
        reach_m: (0.0, 20.0),
    },
    Expected {
        name: "neo-m8n.log",
        location: (44.069, -121.314),
        within_m: 1_000.0,
        date: (2015, 3, 18),
        fixes: 23,
        reach_m: (0.0, 20.0),
    },
    Expected {
        name: "nmea-fuzzy-cases.log",
        location: (41.575, -93.7505),
        within_m: 1_000.0,
        date: (2020, 3, 18),
        fixes: 14,
        reach_m: (0.0, 20.0),
    },
    Expected {
        name: "nokia-ld-4w.log",
        location: (65.0, 25.0),
        within_m: 60_000.0,
        date: (2009, 12, 5),
        fixes: 19,
        reach_m: (0.0, 30.0),
    },
    Expected {
        name: "quectel-eg25-g.log",
        location: (36.763_803_983, 31.410_876_25),
        within_m: 500.0,
        date: (2022, 9, 11),
        fixes: 23,
        // A phone just after its first fix, without a view of the sky: it wanders.
        reach_m: (0.0, 250.0),
    },
    Expected {
        name: "rx210.log",
        location: (50.002_45, 8.643_77),
        within_m: 1_000.0,
        date: (2016, 4, 3),
        fixes: 40,
        reach_m: (0.0, 50.0),
    },
    Expected {
        name: "telit-he910.log",
        location: (50.840_21, 4.347_047),
        within_m: 1_000.0,
        date: (2019, 3, 12),
        fixes: 187,
        reach_m: (0.0, 100.0),
    },
    Expected {
        name: "ublox-8.log",
        location: (44.06, -121.31),
        within_m: 3_000.0,
        date: (2017, 1, 10),
        fixes: 72,
        reach_m: (0.0, 20.0),
    },
];

impl Expected {
    fn day(&self) -> UtcMs {
        day(self.date.0, self.date.1, self.date.2)
    }
}

#[test]
fn every_log_decodes_to_the_place_and_the_day_its_header_states() {
    for expected in &EXPECTED {
        let name = expected.name;
        let replay = replay(&log(name), expected.day(), 64);
        let fixes = replay.fixes.len();
        assert!(fixes >= expected.fixes, "{name}: {fixes} fixes");
        for fix in &replay.fixes {
            let off = metres(place(fix), expected.location);
            assert!(off <= expected.within_m, "{name}: {off} m off");
            let accuracy = fix.accuracy.metres();
            assert!((1.0..500.0).contains(&accuracy), "{name}: {accuracy} m");
        }
        let first = replay.times.first().unwrap();
        let since = first.utc.get() - expected.day().get();
        assert!((0..86_400_000).contains(&since), "{name}: {first:?}");
        assert!(!first.rollover_corrected, "{name}");
    }
}

#[test]
fn stationary_receivers_stay_and_moving_ones_move() {
    for expected in &EXPECTED {
        let replay = replay(&log(expected.name), expected.day(), 64);
        let reach = reach(&replay.fixes);
        let (least, most) = expected.reach_m;
        let name = expected.name;
        assert!((least..=most).contains(&reach), "{name}: {reach} m");
    }
}

#[test]
fn the_way_the_bytes_are_cut_changes_nothing() {
    for expected in &EXPECTED {
        let bytes = log(expected.name);
        let shape = |cut| {
            let replay = replay(&bytes, expected.day(), cut);
            let last = replay.fixes.last().map(place);
            (
                last,
                replay.receiver.time().map(|time| time.utc),
                replay.receiver.refused(),
            )
        };
        assert_eq!(shape(1), shape(7), "{}", expected.name);
        assert_eq!(shape(1), shape(bytes.len()), "{}", expected.name);
    }
}

#[test]
fn a_log_without_a_fix_gives_none() {
    let replay = replay(&log("bu303-nofix.log"), day(2005, 6, 9), 64);
    assert!(replay.fixes.is_empty() && replay.times.is_empty());
    let position = replay.receiver.position(replay.end);
    assert!(matches!(
        position,
        Measured::Missing(Missing::NotSampled | Missing::NoFix | Missing::SensorFault)
    ));
}

#[test]
fn the_parts_of_a_log_before_the_fix_give_none() {
    for name in ["bt451.log", "quectel-eg25-g.log", "telit-he910.log"] {
        let bytes = log(name);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let fixed = text.lines().position(|line| line.contains(",A,")).unwrap();
        let before: String = text.split_inclusive('\n').take(fixed).collect();
        let replay = replay(before.as_bytes(), day(2009, 1, 1), 64);
        assert!(replay.fixes.is_empty(), "{name}");
    }
}

#[test]
fn the_car_of_bt451_rests_and_then_drives() {
    let bytes = log("bt451.log");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (resting, driving) = text.split_once("# Moving in car").unwrap();
    let resting = replay(resting.as_bytes(), day(2009, 12, 9), 64);
    let driving = replay(driving.as_bytes(), day(2009, 12, 9), 64);
    assert!(reach(&resting.fixes) < 20.0);
    assert!(resting.fixes.iter().all(|fix| fix.speed.get() < 10));
    // The section starts amid an epoch whose speed is not in it.
    assert!(driving.fixes[1..].iter().all(|fix| fix.speed.get() > 150));
}

#[test]
fn a_receiver_with_eight_decimals_keeps_a_centimetre() {
    let replay = replay(&log("nmea-fuzzy-cases.log"), day(2020, 3, 18), 64);
    let last = replay.fixes.last().unwrap();
    // 41 degrees 34.50180291 minutes north, 93 degrees 45.03586858 minutes west.
    assert_eq!(last.coordinates.latitude.get(), 415_750_300);
    assert_eq!(last.coordinates.longitude.get(), -937_505_978);
    assert_eq!(last.quality, FixQuality::Rtk);
}

#[test]
fn old_receivers_are_dated_by_the_firmware_that_reads_them() {
    let week = 7 * 86_400_000;
    let times = |name: &str, build| {
        let replay = replay(&log(name), build, 64);
        let first = replay.times.first().copied().unwrap();
        (first.utc.get(), first.rollover_corrected)
    };
    // The week counter of the GP-320FW started again at 0 that night, and it shows the true day to
    // firmware of its own time; firmware built seven years later cannot take it for true.
    let overflow = "gp-320fw-2019-04-06-overflow.log";
    let (true_time, _) = times(overflow, day(2010, 10, 16));
    assert_eq!(times(overflow, day(2019, 3, 1)), (true_time, false));
    let later = (true_time + 1024 * week, true);
    assert_eq!(times(overflow, day(2026, 1, 1)), later);
    // A receiver of 2009, met by firmware of 2026, is 1024 weeks behind.
    let (nokia, _) = times("nokia-ld-4w.log", day(2009, 12, 5));
    let corrected = (nokia + 1024 * week, true);
    assert_eq!(times("nokia-ld-4w.log", day(2026, 1, 1)), corrected);
}
