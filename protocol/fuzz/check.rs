//! Every byte string decodes or is refused, and what decodes means the same when written again.
//!
//! The fuzz target `decode` and `tests/decode.rs` both run this body.

use protocol::batch::{BATCH_MAX_BYTES, Batch, BatchEncoder};
use protocol::downlink::{Settings, TimeReply, TimeRequest};
use protocol::entry::{RECORD_MAX_BYTES, decode_record, encode_record};
use protocol::record::Numbered;
use protocol::status::{SettingsAck, Status};

/// The body; returns how many decoders accepted the bytes.
pub(crate) fn check(bytes: &[u8]) -> usize {
    let accepted = [
        check_batch(bytes),
        check_record(bytes),
        check_message(bytes, Status::decode, Status::encode),
        check_message(bytes, SettingsAck::decode, SettingsAck::encode),
        check_message(bytes, Settings::decode, Settings::encode),
        check_message(bytes, TimeRequest::decode, TimeRequest::encode),
        check_message(bytes, TimeReply::decode, TimeReply::encode),
    ];
    accepted.into_iter().filter(|accepted| *accepted).count()
}

fn check_batch(bytes: &[u8]) -> bool {
    let Ok(batch) = Batch::decode(bytes) else {
        return false;
    };
    let records: Vec<Numbered> = batch.iter().map(|entry| entry.numbered).collect();
    assert_eq!(
        records.len(),
        batch.len(),
        "a checked batch gives all its records"
    );
    let mut buffer = [0; BATCH_MAX_BYTES];
    let mut encoder = BatchEncoder::new(&mut buffer, *batch.header()).expect("a header fits");
    for record in &records {
        encoder
            .push(record)
            .expect("what was decoded fits the largest batch");
    }
    let again = Batch::decode(encoder.finish()).expect("what was encoded decodes");
    assert_eq!(again.header(), batch.header());
    assert!(again.iter().map(|entry| entry.numbered).eq(records));
    true
}

fn check_record(bytes: &[u8]) -> bool {
    let Ok(record) = decode_record(bytes) else {
        return false;
    };
    let mut buffer = [0; RECORD_MAX_BYTES];
    let length = encode_record(&record, &mut buffer).expect("a record fits its bound");
    // There is one way to write a record alone, so the bytes are the same too.
    assert_eq!(&buffer[..length], bytes);
    true
}

fn check_message<T, D, E>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, D>,
    encode: impl Fn(&T, &mut [u8]) -> Result<usize, E>,
) -> bool
where
    E: core::fmt::Debug,
{
    let Ok(message) = decode(bytes) else {
        return false;
    };
    let mut buffer = [0; 128];
    let length = encode(&message, &mut buffer).expect("a message fits its bound");
    assert_eq!(&buffer[..length], bytes);
    true
}
