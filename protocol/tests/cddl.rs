//! `wire.cddl` says what the code does: counts and ranges that stand in it are those of the code,
//! and the arrays it shows have as many elements as the payloads.
#![allow(clippy::unwrap_used, reason = "a test may end at the first surprise")]

use ciborium::Value;
use protocol::WIRE_VERSION;
use protocol::batch::{BATCH_MAX_BYTES, RECORDS_MAX, UNKNOWN_FIELDS_MAX};
use protocol::downlink::{Settings, TimeReply, TimeRequest};
use protocol::entry::{RECORD_MAX_BYTES, encode_record};
use protocol::key::{RecordKey, Seq};
use protocol::record::{
    Alarm, AlarmKind, Anchor, BootRecord, Loss, LossReason, Numbered, Record, ResetCause,
    SettingsRecord, TimeSource,
};
use protocol::status::{SettingsAck, Status};
use protocol::units::{Milliseconds, UptimeMs, UtcMs};

const SPECIFICATION: &str = include_str!("../wire.cddl");

/// Elements of the first array that the rule shows; `3*3 x` counts three times.
fn elements_in_rule(rule: &str) -> usize {
    let start = SPECIFICATION.find(&format!("\n{rule} = [")).unwrap();
    let body = &SPECIFICATION[start..];
    let array = &body[body.find('[').unwrap() + 1..body.find(']').unwrap()];
    let count = |element: &str| match element.trim().split_once('*') {
        Some((times, _)) => times.parse().unwrap(),
        None => 1,
    };
    array.split(',').map(count).sum()
}

fn array(bytes: &[u8]) -> Vec<Value> {
    ciborium::from_reader::<Value, _>(bytes)
        .unwrap()
        .into_array()
        .unwrap()
}

fn records() -> [(&'static str, Record); 5] {
    let (uptime, utc) = (UptimeMs::saturating(1), UtcMs::saturating(2));
    let uncertainty = Milliseconds::saturating(3);
    let key = RecordKey::new(1, 2, 3);
    let alarm = Alarm {
        uptime,
        kind: AlarmKind::Door,
        limit: 0,
        since: uptime,
        extreme: 0,
        count: 1,
        shock: None,
    };
    let boot = BootRecord {
        uptime,
        build_time: utc,
        previous_last: None,
        cause: ResetCause::Pin,
        version: [1, 2, 3],
    };
    let anchor = Anchor {
        uptime,
        utc,
        source: TimeSource::Gnss,
        uncertainty,
        rollover_corrected: false,
    };
    let settings = SettingsRecord {
        uptime,
        settings: Settings::DEFAULT,
    };
    let loss = Loss {
        uptime,
        first: key,
        last: key,
        count: 1,
        reason: LossReason::Corrupt,
    };
    [
        ("alarm", Record::Alarm(alarm)),
        ("boot", Record::Boot(boot)),
        ("anchor", Record::Anchor(anchor)),
        ("settings-in-force", Record::Settings(settings)),
        ("loss", Record::Loss(loss)),
    ]
}

#[test]
fn every_record_has_the_elements_and_the_kind_of_its_rule() {
    for (rule, record) in records() {
        let mut buffer = [0; RECORD_MAX_BYTES];
        let length = encode_record(
            &Numbered {
                seq: Seq(1),
                record,
            },
            &mut buffer,
        )
        .unwrap();
        let entry = array(&buffer[..length])[1].clone().into_array().unwrap();
        assert_eq!(entry.len(), elements_in_rule(rule), "{rule}");
        let kind: i128 = entry[0].as_integer().unwrap().into();
        assert!(
            SPECIFICATION.contains(&format!("\n{rule} = [{kind}, ")),
            "{rule}"
        );
    }
}

#[test]
fn every_message_has_the_elements_of_its_rule() {
    let mut buffer = [0; 128];
    let check = |rule: &str, length: usize, buffer: &[u8]| {
        assert_eq!(
            array(&buffer[..length]).len(),
            elements_in_rule(rule),
            "{rule}"
        );
    };
    let length = Settings::DEFAULT.encode(&mut buffer).unwrap();
    check("settings", length, &buffer);
    let length = SettingsAck {
        version: 1,
        outcome: Ok(()),
    }
    .encode(&mut buffer)
    .unwrap();
    check("ack", length, &buffer);
    let uptime = UptimeMs::saturating(1);
    let length = TimeRequest { nonce: 1, uptime }
        .encode(&mut buffer)
        .unwrap();
    check("time-request", length, &buffer);
    let (utc, uncertainty) = (UtcMs::saturating(1), Milliseconds::saturating(1));
    let length = TimeReply {
        nonce: 1,
        utc,
        uncertainty,
    }
    .encode(&mut buffer)
    .unwrap();
    check("time-reply", length, &buffer);
    let length = Status::Offline.encode(&mut buffer).unwrap();
    assert_eq!(
        array(&buffer[..length]).len(),
        2,
        "status = ... / [version, 1]"
    );
}

#[test]
fn the_limits_in_the_specification_are_those_of_the_code() {
    for stated in [
        format!("version = {WIRE_VERSION}\n"),
        format!("at most {RECORDS_MAX} entries, {BATCH_MAX_BYTES} bytes"),
        format!("fields: 20..{}", 20 + UNKNOWN_FIELDS_MAX),
        format!("at most {RECORD_MAX_BYTES} bytes"),
    ] {
        assert!(SPECIFICATION.contains(&stated), "{stated}");
    }
}
