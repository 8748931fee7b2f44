//! Whatever is encoded decodes to the same, in the same bytes from another CBOR library; whatever
//! else arrives is refused without a panic.
#![allow(clippy::unwrap_used, reason = "a test may end at the first surprise")]

mod any;
#[path = "../fuzz/check.rs"]
mod fuzz;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use protocol::batch::{BATCH_MAX_BYTES, Batch, BatchEncoder, BatchHeader};
use protocol::downlink::{Settings, TimeReply, TimeRequest};
use protocol::entry::{RECORD_MAX_BYTES, decode_record, encode_record};
use protocol::record::Numbered;
use protocol::status::{SettingsAck, Status};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Seed of everything random here.
const SEED: u64 = 20_260_301;

/// Damaged and random payloads that are tried.
const CASES: usize = 200_000;

fn batch_bytes(header: BatchHeader, records: &[Numbered]) -> Vec<u8> {
    let mut buffer = [0; BATCH_MAX_BYTES];
    let mut encoder = BatchEncoder::new(&mut buffer, header).unwrap();
    for record in records {
        encoder.push(record).unwrap();
    }
    encoder.finish().to_vec()
}

/// Bytes of a message within its bound.
macro_rules! bytes {
    ($kind:ty, $message:expr) => {{
        let mut buffer = [0; <$kind>::MAX_BYTES];
        let length = $message.encode(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }};
}

/// ciborium reads the payload and writes the same bytes.
fn assert_same_from_ciborium(payload: &[u8]) {
    let value: ciborium::Value = ciborium::from_reader(payload).unwrap();
    let mut again = Vec::new();
    ciborium::into_writer(&value, &mut again).unwrap();
    assert_eq!(again, payload);
}

macro_rules! round_trips {
    ($($name:ident: $kind:ty, $any:expr;)*) => {
        proptest! {
            #![proptest_config(Config {
                cases: 1_000,
                rng_algorithm: RngAlgorithm::ChaCha,
                rng_seed: proptest::test_runner::RngSeed::Fixed(SEED),
                failure_persistence: None,
                ..Config::default()
            })]
            $(#[test]
            fn $name(message in $any) {
                let payload = bytes!($kind, message);
                prop_assert_eq!(<$kind>::decode(&payload), Ok(message));
                assert_same_from_ciborium(&payload);
            })*

            #[test]
            fn any_record_round_trips(record in any::numbered()) {
                let mut buffer = [0; RECORD_MAX_BYTES];
                let length = encode_record(&record, &mut buffer).unwrap();
                prop_assert_eq!(decode_record(&buffer[..length]), Ok(record));
                assert_same_from_ciborium(&buffer[..length]);
            }

            #[test]
            fn any_batch_round_trips((header, records) in any::batch()) {
                let payload = batch_bytes(header, &records);
                let batch = Batch::decode(&payload).unwrap();
                prop_assert_eq!(*batch.header(), header);
                let decoded: Vec<_> = batch.iter().map(|entry| entry.numbered).collect();
                prop_assert_eq!(decoded, records);
                assert_same_from_ciborium(&payload);
            }
        }
    };
}

round_trips! {
    any_status_round_trips: Status, any::status();
    any_ack_round_trips: SettingsAck, any::ack();
    any_settings_round_trip: Settings, any::settings();
    any_time_request_round_trips: TimeRequest, any::time_request();
    any_time_reply_round_trips: TimeReply, any::time_reply();
}

/// Valid payloads of every kind.
fn valid_payloads() -> Vec<Vec<u8>> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut payloads = Vec::new();
    for _ in 0..200 {
        let (header, records) = any::batch().new_tree(&mut runner).unwrap().current();
        let record = any::numbered().new_tree(&mut runner).unwrap().current();
        let mut buffer = [0; RECORD_MAX_BYTES];
        let length = encode_record(&record, &mut buffer).unwrap();
        payloads.push(batch_bytes(header, &records));
        payloads.push(buffer[..length].to_vec());
        payloads.push(bytes!(
            Status,
            any::status().new_tree(&mut runner).unwrap().current()
        ));
        payloads.push(bytes!(
            SettingsAck,
            any::ack().new_tree(&mut runner).unwrap().current()
        ));
        payloads.push(bytes!(
            Settings,
            any::settings().new_tree(&mut runner).unwrap().current()
        ));
    }
    payloads
}

#[test]
fn every_byte_string_decodes_or_is_refused_and_what_decodes_encodes_to_the_same() {
    let payloads = valid_payloads();
    let mut random = Pcg64Mcg::seed_from_u64(SEED);
    let mut accepted = 0;
    for _ in 0..CASES {
        let mut payload = payloads[random.random_range(0..payloads.len())].clone();
        match random.random_range(0..4) {
            0 => payload.truncate(random.random_range(0..=payload.len())),
            1 => {
                payload = (0..random.random_range(0..64))
                    .map(|_| random.random())
                    .collect()
            }
            _ => {
                for _ in 0..random.random_range(1..4) {
                    let at = random.random_range(0..payload.len());
                    payload[at] ^= 1 << random.random_range(0..8);
                }
            }
        }
        accepted += fuzz::check(&payload);
    }
    // Some damage is in a value and passes: then writing it again was checked too.
    assert!(
        accepted > CASES / 100,
        "only {accepted} of {CASES} decoded (seed {SEED})"
    );
}

#[test]
fn every_valid_payload_is_accepted_by_the_check() {
    for payload in valid_payloads() {
        assert!(fuzz::check(&payload) >= 1);
    }
}
