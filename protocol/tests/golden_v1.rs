//! The bytes of wire version 1, frozen. If this fails, do not change the test: the wire changed,
//! and devices in the field speak the old one. A new wire gets a new version and a new file.
#![allow(clippy::unwrap_used, reason = "a test may end at the first surprise")]

use ciborium::Value;
use protocol::batch::{Batch, BatchEncoder, BatchHeader};
use protocol::downlink::{Settings, SettingsField, SettingsRefusal, TimeReply, TimeRequest};
use protocol::entry::{RECORD_MAX_BYTES, decode_record, encode_record};
use protocol::key::{Boot, Epoch, RecordKey, Seq};
use protocol::reading::{Battery, Door, FixQuality, Measured, Missing, Position, Reading};
use protocol::record::{
    Alarm, AlarmKind, Anchor, BootRecord, Loss, LossReason, Numbered, Record, ResetCause,
    SettingsRecord, Shock, TimeSource,
};
use protocol::status::{Birth, SettingsAck, Status};
use protocol::units::{
    CentiCelsius, CourseDegrees, Dbm, DeciPercent, Decimetres, DecimetresPerSecond, Latitude,
    Longitude, Lux, MilliG, MillimetresPerSecond, Milliseconds, Millivolts, Percent, Seconds,
    TiltDegrees, UptimeMs, UtcMs,
};

const EPOCH: u64 = 0x0123_4567_89ab_cdef;

fn uptime() -> UptimeMs {
    UptimeMs::saturating(3_600_000)
}

fn numbered(seq: u32, record: Record) -> Numbered {
    Numbered {
        seq: Seq(seq),
        record,
    }
}

fn reading(minute: i64) -> Reading {
    let mut reading = Reading::empty(UptimeMs::saturating(3_600_000 + 60_000 * minute));
    reading.position = Measured::Value(Position {
        latitude: Latitude::saturating(485_123_456 + 12_000 * minute),
        longitude: Longitude::saturating(-93_456_789 + 9_000 * minute),
        accuracy: Decimetres::saturating(45),
        speed: DecimetresPerSecond::saturating(234 + minute),
        course: Measured::Value(CourseDegrees::saturating(87)),
        quality: FixQuality::Gnss3d,
        satellites: 11,
        age: Seconds::saturating(0),
    });
    reading.temperatures[0] = Measured::Value(CentiCelsius::saturating(-415 + 2 * minute));
    reading.temperatures[1] = Measured::Missing(Missing::SensorFault);
    reading.battery = Measured::Value(Battery {
        voltage: Millivolts::saturating(3_912),
        charge: Percent::saturating(83),
    });
    reading.radio = Measured::Value(Dbm::saturating(-87));
    reading
}

fn full_reading() -> Reading {
    let mut full = reading(0);
    full.temperatures = [Measured::Value(CentiCelsius::saturating(512)); 4];
    full.humidity = Measured::Value(DeciPercent::saturating(455));
    full.tilt = Measured::Value(TiltDegrees::saturating(3));
    full.light = Measured::Value(Lux::saturating(120));
    full.door = Measured::Value(Door::Open);
    full
}

fn alarm(shock: Option<Shock>) -> Alarm {
    Alarm {
        uptime: uptime(),
        kind: if shock.is_some() {
            AlarmKind::Shock
        } else {
            AlarmKind::TemperatureBelow(2)
        },
        limit: -50,
        since: UptimeMs::saturating(3_000_000),
        extreme: -415,
        count: 3,
        shock,
    }
}

fn shock() -> Shock {
    Shock {
        peak: [-31_000, 1_200, 980].map(MilliG::saturating),
        duration: Some(Milliseconds::saturating(11)),
        delta_v: Some(MillimetresPerSecond::saturating(1_560)),
    }
}

fn records() -> Vec<(&'static str, Record)> {
    vec![
        ("reading", Record::Reading(reading(0))),
        ("reading, every sensor", Record::Reading(full_reading())),
        (
            "reading, no sensor",
            Record::Reading(Reading::empty(uptime())),
        ),
        ("alarm", Record::Alarm(alarm(None))),
        ("alarm, shock", Record::Alarm(alarm(Some(shock())))),
        (
            "boot",
            Record::Boot(BootRecord {
                uptime: UptimeMs::saturating(12),
                build_time: UtcMs::saturating(1_773_480_413_000),
                previous_last: Some(Seq(9_000)),
                cause: ResetCause::Watchdog,
                version: [1, 2, 30],
            }),
        ),
        (
            "anchor",
            Record::Anchor(Anchor {
                uptime: uptime(),
                utc: UtcMs::saturating(1_773_484_013_180),
                source: TimeSource::Gateway,
                uncertainty: Milliseconds::saturating(250),
                rollover_corrected: true,
            }),
        ),
        (
            "settings",
            Record::Settings(SettingsRecord {
                uptime: uptime(),
                settings: Settings::DEFAULT,
            }),
        ),
        (
            "loss",
            Record::Loss(Loss {
                uptime: uptime(),
                first: RecordKey::new(EPOCH, 16, 100),
                last: RecordKey::new(EPOCH, 16, 140),
                count: 41,
                reason: LossReason::RoutineFull,
            }),
        ),
    ]
}

fn batch(oldest_boot: u32) -> Vec<u8> {
    let header = BatchHeader {
        epoch: Epoch(EPOCH),
        boot: Boot(17),
        oldest_pending: RecordKey::new(EPOCH, oldest_boot, 500),
    };
    let mut missing = reading(3);
    missing.position = Measured::Missing(Missing::NoFix);
    let mut buffer = [0; 1024];
    let mut encoder = BatchEncoder::new(&mut buffer, header).unwrap();
    for entry in [
        numbered(500, Record::Reading(reading(0))),
        numbered(501, Record::Reading(reading(1))),
        numbered(502, Record::Alarm(alarm(None))),
        numbered(503, Record::Reading(reading(2))),
        numbered(510, Record::Reading(missing)),
    ] {
        encoder.push(&entry).unwrap();
    }
    encoder.finish().to_vec()
}

fn birth() -> Status {
    Status::Birth(Birth {
        version: [1, 2, 30],
        hardware: "mps2-an386".try_into().unwrap(),
        epoch: Epoch(EPOCH),
        boot: Boot(17),
        cause: ResetCause::PowerOn,
        settings_version: 4,
        pending: 120,
    })
}

fn acks() -> [SettingsAck; 4] {
    let out_of_range = SettingsRefusal::OutOfRange {
        field: SettingsField::SampleMoving,
        value: 1,
        min: 5,
        max: 3_600,
    };
    let outcomes = [
        Ok(()),
        Err(out_of_range),
        Err(SettingsRefusal::LimitsCrossed),
        Err(SettingsRefusal::Stale { in_force: 9 }),
    ];
    outcomes.map(|outcome| SettingsAck {
        version: 5,
        outcome,
    })
}

/// Every kind of payload with its name, written by the code of today.
fn payloads() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut add = |name: &str, bytes: &[u8]| all.push((name.to_owned(), bytes.to_vec()));
    let mut buffer = [0; 128];
    add("batch", &batch(17));
    add("batch, older boot pending", &batch(16));
    for (name, record) in records() {
        let length = encode_record(&numbered(500, record), &mut buffer[..RECORD_MAX_BYTES]);
        add(name, &buffer[..length.unwrap()]);
    }
    for (name, status) in [
        ("birth", birth()),
        ("offline", Status::Offline),
        ("lost", Status::Lost),
    ] {
        let length = status.encode(&mut buffer).unwrap();
        add(name, &buffer[..length]);
    }
    for (number, ack) in acks().iter().enumerate() {
        let length = ack.encode(&mut buffer).unwrap();
        add(&format!("ack {number}"), &buffer[..length]);
    }
    let length = Settings::DEFAULT.encode(&mut buffer).unwrap();
    add("settings, down", &buffer[..length]);
    let length = TimeRequest {
        nonce: EPOCH,
        uptime: uptime(),
    }
    .encode(&mut buffer)
    .unwrap();
    add("time request", &buffer[..length]);
    let reply = TimeReply {
        nonce: EPOCH,
        utc: UtcMs::saturating(1_773_484_013_180),
        uncertainty: Milliseconds::saturating(250),
    };
    let length = reply.encode(&mut buffer).unwrap();
    add("time reply", &buffer[..length]);
    all
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_kind_of_payload_has_its_frozen_bytes() {
    let written = payloads();
    assert_eq!(written.len(), GOLDEN.len());
    for ((name, bytes), (golden_name, golden)) in written.iter().zip(GOLDEN) {
        assert_eq!(name, golden_name);
        assert_eq!(&hex(bytes), golden, "{name}");
    }
}

#[test]
fn the_frozen_bytes_are_the_same_from_ciborium() {
    for (name, bytes) in payloads() {
        let value: Value = ciborium::from_reader(bytes.as_slice()).unwrap();
        let mut again = Vec::new();
        ciborium::into_writer(&value, &mut again).unwrap();
        assert_eq!(again, bytes, "{name}");
    }
}

/// A text in the notation of `wire.cddl`'s examples, by hand: no code of ours writes it.
fn ints(values: &[i64]) -> Value {
    Value::Array(values.iter().map(|value| Value::from(*value)).collect())
}

/// Bytes of binary digits.
fn bytes_of(bits: &str) -> Vec<u8> {
    let digits: Vec<char> = bits.chars().filter(|digit| *digit != ' ').collect();
    digits
        .chunks(8)
        .map(|byte| u8::from_str_radix(&byte.iter().collect::<String>(), 2).unwrap())
        .collect()
}

#[test]
fn a_batch_built_by_hand_from_the_specification_decodes_with_unknown_fields_kept() {
    // states: temperature 0 present (7 in bits 3 to 5), everything else not fitted.
    let absolute = ints(&[-1, 40, 60_000, 7 << 3, 400, 111, -5]);
    // The next by difference, bit by bit: 0, something is unusual; 011, seq is one further on; 0,
    // states as before; uptime 60000 more than 60000 + 0: zigzag 120000, plus 2^3, in order 3;
    // temperature +2: zigzag 4, plus 2^3; one bit to fill the byte.
    let bits = "0 011 0 0000000000000 11101010011001000 1100 0";
    let delta = Value::Array(vec![
        Value::Bytes(bytes_of(bits)),
        Value::from(112),
        Value::from(-6),
    ]);
    let payload = Value::Array(vec![
        Value::from(1),
        Value::from(EPOCH),
        Value::from(17),
        ints(&[40]),
        Value::from(22),
        absolute,
        delta,
    ]);
    let mut bytes = Vec::new();
    ciborium::into_writer(&payload, &mut bytes).unwrap();
    let batch = Batch::decode(&bytes).unwrap();
    let entries: Vec<_> = batch.iter().collect();
    let expect = |seq, uptime, centi| {
        let mut reading = Reading::empty(UptimeMs::saturating(uptime));
        reading.temperatures[0] = Measured::Value(CentiCelsius::saturating(centi));
        numbered(seq, Record::Reading(reading))
    };
    assert_eq!(entries[0].numbered, expect(40, 60_000, 400));
    assert_eq!(entries[0].unknown, [0x18, 111, 0x24]);
    assert_eq!(entries[1].numbered, expect(42, 120_000, 402));
    assert_eq!(entries[1].unknown, [0x18, 112, 0x25]);
}

#[test]
fn frozen_records_and_batches_decode_to_what_they_were_made_from() {
    let bytes = |name: &str| {
        let (_, hex) = GOLDEN.iter().find(|(golden, _)| *golden == name).unwrap();
        let digits = hex.as_bytes().chunks(2);
        let pairs = digits.map(|pair| str::from_utf8(pair).unwrap());
        pairs
            .map(|pair| u8::from_str_radix(pair, 16).unwrap())
            .collect::<Vec<u8>>()
    };
    for (name, record) in records() {
        assert_eq!(
            decode_record(&bytes(name)),
            Ok(numbered(500, record)),
            "{name}"
        );
    }
    let payload = bytes("batch");
    let batch = Batch::decode(&payload).unwrap();
    assert_eq!(
        batch.iter().next().unwrap().numbered.record,
        Record::Reading(reading(0))
    );
    assert_eq!(Status::decode(&bytes("birth")), Ok(birth()));
    for (number, ack) in acks().iter().enumerate() {
        assert_eq!(
            SettingsAck::decode(&bytes(&format!("ack {number}"))),
            Ok(*ack)
        );
    }
    assert_eq!(
        Settings::decode(&bytes("settings, down")),
        Ok(Settings::DEFAULT)
    );
}

/// Name and bytes, in hexadecimal, of every kind of payload.
const GOLDEN: &[(&str, &str)] = &[
    (
        "batch",
        "8a011b0123456789abcdef11811901f41490201901f41a0036ee801a0001ffff1a1cea65803a05920994182d18ea1857010b0039019e190f48185338564c8003a991283a0405abf79c908a211901f61a0036ee80010238311a002dc6c039019e038049c4a0e73016c94e7240480d80000c7fd46490",
    ),
    (
        "batch, older boot pending",
        "8a011b0123456789abcdef11831b0123456789abcdef101901f41490201901f41a0036ee801a0001ffff1a1cea65803a05920994182d18ea1857010b0039019e190f48185338564c8003a991283a0405abf79c908a211901f61a0036ee80010238311a002dc6c039019e038049c4a0e73016c94e7240480d80000c7fd46490",
    ),
    (
        "reading",
        "820190201901f41a0036ee801a0001ffff1a1cea65803a05920994182d18ea1857010b0039019e190f4818533856",
    ),
    (
        "reading, every sensor",
        "820197201901f41a0036ee801b0000000fffffffff1a1cea65803a05920994182d18ea1857010b001902001902001902001902001901c7190f481853031878013856",
    ),
    ("reading, no sensor", "820184201901f41a0036ee8000"),
    (
        "alarm",
        "82018a211901f41a0036ee80010238311a002dc6c039019e0380",
    ),
    (
        "alarm, shock",
        "82018a211901f41a0036ee80040038311a002dc6c039019e03853979171904b01903d4810b81190618",
    ),
    (
        "boot",
        "820189221901f40c1b0000019cebab874881192328030102181e",
    ),
    (
        "anchor",
        "820187231901f41a0036ee801b0000019cebe2767c0218fa01",
    ),
    (
        "settings",
        "820192241901f41a0036ee8000183c19012c183c19012c148119032081383118641961a81903e8140f8080",
    ),
    (
        "loss",
        "82018b251901f41a0036ee801b0123456789abcdef1018641b0123456789abcdef10188c182900",
    ),
    (
        "birth",
        "8b01000102181e6a6d7073322d616e3338361b0123456789abcdef1101041878",
    ),
    ("offline", "820101"),
    ("lost", "820102"),
    ("ack 0", "83010580"),
    ("ack 1", "8301058500010105190e10"),
    ("ack 2", "8301058101"),
    ("ack 3", "830105820209"),
    (
        "settings, down",
        "900100183c19012c183c19012c148119032081383118641961a81903e8140f8080",
    ),
    ("time request", "83011b0123456789abcdef1a0036ee80"),
    ("time reply", "84011b0123456789abcdef1b0000019cebe2767c18fa"),
];
