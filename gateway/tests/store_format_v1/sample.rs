//! What the frozen rows say: one value of every kind, with every field set.

use std::collections::BTreeMap;

use gateway::fold::posted::Posted;
use gateway::pki::digest::Digest;
use gateway::store::audit::{Act, Who};
use gateway::store::content::Content;
use gateway::store::device::{Lost, Pending, Stated};
use gateway::store::history::{Kept, Known};
use gateway::store::journal::{Entry, Records, Stored};
use gateway::store::outbox::Pointer;
use gateway::store::pressure::Slowed;
use gateway::store::quarantine::{Octets, Refused};
use gateway::store::revision::{self as plans, Offered, Source};
use gateway::store::seal::{Cover, EndedBy, Late, Seal};
use gateway::store::seen::BootId;
use gateway::store::settings::{Answer, InForce, Known as KnownSettings, Wanted};
use protocol::batch::{BatchEncoder, BatchHeader};
use protocol::downlink::{Settings, SettingsField, SettingsRefusal};
use protocol::key::{Boot, DeviceId, Epoch, RecordKey, Seq};
use protocol::reading::{Battery, FixQuality, Measured, Missing, Position, Reading};
use protocol::record::{
    Anchor, BootRecord, Loss, LossReason, Numbered, Record, ResetCause, TimeSource,
};
use protocol::units::{
    CentiCelsius, Dbm, Decimetres, DecimetresPerSecond, Latitude, Longitude, Milliseconds,
    Millivolts, Percent, Seconds, UptimeMs, UtcMs,
};
use rules::code::Code;
use rules::event::{
    CaseId, Confidence, Detail, Event, EventId, Evidence, Excursion, Phase, Place, Revision,
    Severity, ShockDetail, Side, TimeQuality,
};
use rules::quantity::Quantity;

const EPOCH: u64 = 0x0123_4567_89ab_cdef;

/// 2026-03-02T00:00:00Z.
pub(crate) const NOON: UtcMs = UtcMs::saturating(1_772_409_600_000);

pub(crate) fn tracker() -> DeviceId {
    "t-1".parse().unwrap()
}

pub(crate) fn key(seq: u32) -> RecordKey {
    RecordKey::new(EPOCH, 2, seq)
}

pub(crate) fn boot() -> BootId {
    BootId {
        device: tracker(),
        epoch: Epoch(EPOCH),
        boot: Boot(2),
    }
}

fn reading() -> Reading {
    let mut reading = Reading::empty(UptimeMs::saturating(3_600_000));
    reading.position = Measured::Value(Position {
        latitude: Latitude::saturating(519_225_000),
        longitude: Longitude::saturating(-44_791_000),
        accuracy: Decimetres::saturating(45),
        speed: DecimetresPerSecond::saturating(12),
        course: Measured::Missing(Missing::NotSampled),
        quality: FixQuality::Gnss3d,
        satellites: 9,
        age: Seconds::saturating(1),
    });
    reading.temperatures[0] = Measured::Value(CentiCelsius::saturating(-1_850));
    reading.battery = Measured::Value(Battery {
        voltage: Millivolts::saturating(3_900),
        charge: Percent::saturating(88),
    });
    reading.radio = Measured::Value(Dbm::saturating(-90));
    reading
}

/// A record of each kind that the journal carries, from 0 on.
pub(crate) fn records() -> Vec<Record> {
    let uptime = UptimeMs::saturating(1_000);
    vec![
        Record::Boot(BootRecord {
            uptime,
            build_time: UtcMs::saturating(1_769_904_000_000),
            previous_last: Some(Seq(41)),
            cause: ResetCause::PowerOn,
            version: [0, 1, 0],
        }),
        Record::Anchor(Anchor {
            uptime,
            utc: NOON,
            source: TimeSource::Gnss,
            uncertainty: Milliseconds::saturating(50),
            rollover_corrected: false,
        }),
        Record::Reading(reading()),
        Record::Loss(Loss {
            uptime,
            first: key(3),
            last: key(9),
            count: 5,
            reason: LossReason::RoutineFull,
        }),
    ]
}

pub(crate) fn contents() -> Vec<Stored> {
    let header = BatchHeader {
        epoch: Epoch(EPOCH),
        boot: Boot(2),
        oldest_pending: key(0),
    };
    let mut buffer = [0; 1_024];
    let mut encoder = BatchEncoder::new(&mut buffer, header).unwrap();
    for (seq, record) in (0..).zip(records()) {
        let seq = Seq(seq);
        encoder.push(&Numbered { seq, record }).unwrap();
    }
    let batch = protocol::batch::Batch::decode(encoder.finish()).unwrap();
    let stored = batch.iter().map(|entry| Stored {
        seq: entry.numbered.seq,
        content: Content::of(&entry).unwrap(),
    });
    stored.collect()
}

pub(crate) fn entries() -> Vec<Entry> {
    vec![
        Entry::Records(Records {
            device: tracker(),
            epoch: Epoch(EPOCH),
            boot: Boot(2),
            received_at: NOON,
            qos: 1,
            oldest_pending: key(0),
            records: contents(),
        }),
        Entry::Contested {
            device: tracker(),
            key: key(2),
        },
    ]
}

pub(crate) fn known() -> Known {
    Known {
        received_at: NOON,
        qos: 1,
        content: contents().remove(2).content,
    }
}

/// Records in one row, one of them contested.
pub(crate) fn run_of_records() -> Vec<(RecordKey, Kept)> {
    vec![
        (key(130), Kept::Known(known())),
        (key(131), Kept::Contested),
        (key(133), Kept::Known(known())),
    ]
}

/// One event with every field, for each kind of detail.
pub(crate) fn posted() -> Vec<Posted> {
    let excursion = Detail::Excursion(Excursion {
        quantity: Quantity::Temperature,
        bound: -18.0,
        side: Side::Above,
        inclusive: false,
        delay_s: 600,
        min: -17.5,
        max: -12.25,
        mean: -15.0,
        duration_s: 1_800,
        alarm_s: 1_200,
        unobserved_s: 60,
    });
    let shock = Detail::Shock(ShockDetail {
        peak_g: 25.125,
        limit_g: 20.0,
        duration_ms: Some(12),
        delta_v: Some(1.561),
        count: 1,
        decided_by: "peak and velocity change".to_owned(),
    });
    let stop = Detail::Stop {
        stop: "dc-2".to_owned(),
        index: 1,
    };
    let battery = Detail::Battery {
        charge_percent: 9,
        limit_percent: 10,
    };
    let gap = Detail::Gap {
        unobserved_s: 7_200,
        max_gap_s: 3_600,
    };
    let silence = Detail::Silence {
        last_heard: Some(NOON),
        limit_s: 900,
    };
    let humidity = Detail::Excursion(Excursion {
        quantity: Quantity::Humidity,
        bound: 75.0,
        side: Side::Above,
        inclusive: true,
        delay_s: 7_200,
        min: 75.5,
        max: 99.0,
        mean: 80.25,
        duration_s: 10_800,
        alarm_s: 3_600,
        unobserved_s: 0,
    });
    let fall = Detail::Fall {
        height_m: 1.25,
        duration_ms: 505,
        limit_m: 0.5,
        count: 2,
    };
    let all = [
        (Code::Temperature, excursion),
        (Code::Shock, shock),
        (Code::ArrivedHub, stop),
        (Code::Battery, battery),
        (Code::DataGap, gap),
        (Code::Silent, silence),
        (Code::Humidity, humidity),
        (Code::FreeFall, fall),
    ];
    (1..)
        .zip(all)
        .map(|(number, (code, detail))| posted_as(number, code, detail))
        .collect()
}

fn posted_as(number: u32, code: Code, detail: Detail) -> Posted {
    let event = Event {
        id: EventId(format!("{number:032x}")),
        code,
        shipment: "SHP-1".to_owned(),
        rule: "frozen".to_owned(),
        title: "Too warm".to_owned(),
        next_action: "Check the reefer".to_owned(),
        severity: Severity::Critical,
        confidence: Confidence::Certain,
        occurred_at: NOON,
        ended_at: Some(UtcMs::saturating(NOON.get() + 1_800_000)),
        time_quality: TimeQuality::Anchored,
        time_uncertainty_s: 1,
        closed: true,
        as_of: None,
        place: Some(Place {
            lat: 51.9225,
            lon: -4.4791,
            accuracy_m: 4.5,
            fence: Some("dc-2".to_owned()),
            name: "Rotterdam cold store".to_owned(),
        }),
        actor: tracker(),
        references: BTreeMap::from([("order".to_owned(), "4711".to_owned())]),
        unit: Some("pallet-1".to_owned()),
        probe: Some(0),
        plan_version: 3,
        detail,
        evidence: vec![Evidence {
            device: tracker(),
            key: key(2),
        }],
    };
    Posted {
        revision: Revision {
            rev: 2,
            phase: Phase::Close,
            case_id: CaseId(event.id.to_string()),
            predecessors: vec![EventId("f".repeat(32))],
            late: true,
            event,
        },
        recorded_ms: NOON.get(),
        sequence: u64::from(number),
    }
}

pub(crate) fn pointer() -> Pointer {
    Pointer {
        shipment: "SHP-1".to_owned(),
        event: format!("{:032x}", 1),
        revision: 2,
        critical: true,
    }
}

pub(crate) fn refused() -> Refused {
    Refused {
        device: "t-1".to_owned(),
        channel: "readings".to_owned(),
        received_at_ms: NOON.get(),
        reason: "undecodable".to_owned(),
        detail: "ends early".to_owned(),
        payloads: vec![Octets(vec![0x84, 0x01])],
    }
}

pub(crate) fn pending() -> Pending {
    Pending {
        received_at: NOON,
        epoch: Epoch(EPOCH),
        oldest: key(1),
    }
}

pub(crate) fn lost() -> Lost {
    Lost {
        first: key(3),
        last: Seq(9),
        count: 5,
    }
}

pub(crate) fn presence() -> Stated {
    Stated {
        received_at_ms: NOON.get(),
        payload: Octets(vec![0x82, 0x01, 0x00]),
    }
}

/// Wanted, refused, and others in force.
pub(crate) fn settings() -> KnownSettings {
    let wanted = Settings {
        version: 9,
        temperature_above: None,
        ..Settings::DEFAULT
    };
    let why = SettingsRefusal::OutOfRange {
        field: SettingsField::SampleMoving,
        value: 60,
        min: 300,
        max: 3_600,
    };
    KnownSettings {
        wanted: Some(Wanted {
            settings: wanted,
            set_at: NOON,
        }),
        answer: Some(Answer {
            version: 9,
            received_at: NOON,
            outcome: Err(why),
        }),
        in_force: Some(InForce {
            key: key(5),
            received_at: NOON,
            settings: Settings::DEFAULT,
        }),
        born: None,
        slowed: Some(Slowed {
            settings: Settings {
                version: 8,
                ..Settings::DEFAULT
            },
            base: Settings::DEFAULT,
            restoring: true,
        }),
    }
}

/// A plan with a profile of the program, as a gateway starts with it.
pub(crate) fn plan() -> Offered {
    let text = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    Offered {
        sources: vec![
            text("plan", "version = 3\n"),
            text("profile frozen", "[[profile]]\n"),
        ],
        options: [("temperature_delay".to_owned(), "90 s".to_owned())].into(),
        plan_version: 3,
        effective_from_ms: Some(NOON.get()),
        program: "0.1.0".to_owned(),
    }
}

/// What is kept of it.
pub(crate) fn revision_of_plan() -> plans::Revision {
    let source = |name: &str, bytes, digest: &str| Source {
        name: name.to_owned(),
        bytes,
        digest: digest.parse().unwrap(),
    };
    plans::Revision {
        number: 1,
        digest: "df42f10e8ad93f2223ddf1dc9f2400b0ab3f068b6297760d1a7fd96a9a77a83c"
            .parse()
            .unwrap(),
        first_used_at_ms: NOON.get(),
        differs_in: Vec::new(),
        plan_version: 3,
        effective_from_ms: Some(NOON.get()),
        program: "0.1.0".to_owned(),
        options: plan().options,
        sources: vec![
            source(
                "plan",
                12,
                "a6302849064e016e520e513a22aef99a2d874333e7fcbf0b2c2260cb6ffb42f6",
            ),
            source(
                "profile frozen",
                12,
                "5954a2a20fecc60778e1dd7e54c14cb8519db3d354b1a1e087396c4197dff480",
            ),
        ],
    }
}

/// What somebody did.
pub(crate) fn act() -> Act {
    Act {
        at_ms: NOON.get(),
        who: Who {
            uid: Some(1_000),
            user: Some("eve".to_owned()),
            by: "socket".to_owned(),
        },
        what: "settings set".to_owned(),
        device: Some("t-1".to_owned()),
        detail: "sample_moving=30s".to_owned(),
        result: "done".to_owned(),
    }
}

/// The seal of a shipment.
pub(crate) fn sealed() -> Seal {
    Seal {
        ended_at_ms: NOON.get(),
        ended_by: EndedBy::Delivery,
        sealed_at_ms: NOON.get() + 30 * 86_400_000,
        definition: Digest::of(b"SHP-1"),
        trackers: 1,
        keys: 11,
    }
}

/// What it covers of its tracker.
pub(crate) fn cover() -> Cover {
    Cover {
        attached_ms: vec![(None, Some(NOON.get())), (Some(NOON.get() + 1), None)],
        sealed_at_ms: sealed().sealed_at_ms,
        runs: vec![(EPOCH, 1, 0, 4), (EPOCH, 2, 2, 7)],
    }
}

/// What came too late for it.
pub(crate) const fn late() -> Late {
    Late {
        records: 4,
        contested: 1,
        last_ms: NOON.get() + 1,
    }
}
