//! Entries of the journal and their CBOR.

use core::convert::Infallible;

use minicbor::encode::Error as Unwritten;
use minicbor::{Decoder, Encoder};
use protocol::key::{Boot, DeviceId, Epoch, RecordKey, Seq};
use protocol::units::UtcMs;

use super::content::Content;
use super::journal::outline::Line;
use super::seen::{BootId, Run};

/// One thing the committer tells the fold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Records that were new.
    Records(Records),
    /// A key that arrived with two different contents: the record is unknown, whichever came first.
    Contested {
        /// Whose.
        device: DeviceId,
        /// Which.
        key: RecordKey,
    },
}

impl Entry {
    /// The boot that this entry speaks of.
    pub(super) fn boot(&self) -> BootId {
        let (device, epoch, boot) = match self {
            Self::Records(records) => (&records.device, records.epoch, records.boot),
            Self::Contested { device, key } => (device, key.epoch, key.boot),
        };
        BootId {
            device: device.clone(),
            epoch,
            boot,
        }
    }

    /// How many numbers it speaks of.
    pub(super) const fn len(&self) -> usize {
        match self {
            Self::Records(records) => records.records.len(),
            Self::Contested { .. } => 1,
        }
    }

    /// The numbers that it speaks of.
    pub(super) fn numbers(&self) -> Vec<Seq> {
        match self {
            Self::Records(records) => records.records.iter().map(|stored| stored.seq).collect(),
            Self::Contested { key, .. } => vec![key.seq],
        }
    }
}

/// New records of one payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    /// Whose.
    pub device: DeviceId,
    /// Life of the counters.
    pub epoch: Epoch,
    /// Reset within the epoch.
    pub boot: Boot,
    /// Gateway's time at admission; a label, never part of a verdict.
    pub received_at: UtcMs,
    /// How they came, as a byte of `receipt::Reception`: 0 and 1 are the endpoint's quality of service.
    pub qos: u8,
    /// Oldest key still queued on the device, as stated in the payload.
    pub oldest_pending: RecordKey,
    /// The records, as they came.
    pub records: Vec<Stored>,
}

/// A record in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Place in the boot's sequence.
    pub seq: Seq,
    /// What it says.
    pub content: Content,
}

/// Room a record takes besides its content: array, sequence number, and the length of the content.
const RECORD_HEAD_BYTES: usize = 1 + 5 + 3;

const RECORDS: u8 = 0;
const CONTESTED: u8 = 1;

/// How many of `records` fit into `room` bytes, but at least one, so that every part gets on.
pub(super) fn fitting(records: &[Stored], room: usize) -> usize {
    let mut used = 0;
    let too_many = records.iter().position(|record| {
        used += record.content.bytes().len() + RECORD_HEAD_BYTES;
        used > room
    });
    too_many.unwrap_or(records.len()).max(1).min(records.len())
}

/// Writes an entry of `now`, some of the records of `records`.
pub(super) fn write_records(to: &mut Vec<u8>, records: &Records, now: &[Stored]) {
    let mut encoder = Encoder::new(to);
    infallible(write_records_to(&mut encoder, records, now));
}

fn write_records_to(
    encoder: &mut Encoder<&mut Vec<u8>>,
    records: &Records,
    now: &[Stored],
) -> Result<(), Unwritten<Infallible>> {
    encoder
        .array(10)?
        .u8(RECORDS)?
        .str(records.device.as_str())?;
    encoder.u64(records.epoch.0)?.u32(records.boot.0)?;
    encoder.i64(records.received_at.get())?.u8(records.qos)?;
    let oldest = records.oldest_pending;
    encoder
        .u64(oldest.epoch.0)?
        .u32(oldest.boot.0)?
        .u32(oldest.seq.0)?;
    encoder.array(now.len() as u64)?;
    for record in now {
        encoder
            .array(2)?
            .u32(record.seq.0)?
            .bytes(record.content.bytes())?;
    }
    Ok(())
}

/// Writes an entry about a contested key.
pub(super) fn write_contested(to: &mut Vec<u8>, device: &DeviceId, key: RecordKey) {
    let mut encoder = Encoder::new(to);
    let written = (|| {
        encoder.array(5)?.u8(CONTESTED)?.str(device.as_str())?;
        encoder.u64(key.epoch.0)?.u32(key.boot.0)?.u32(key.seq.0)?;
        Ok(())
    })();
    infallible(written);
}

/// Reads one entry, or says what is wrong with it.
pub(super) fn read(decoder: &mut Decoder<'_>) -> Result<Entry, String> {
    let fields = array(decoder)?;
    let kind = decoder.u8().map_err(text)?;
    match (kind, fields) {
        (RECORDS, 10) => read_records(decoder).map(Entry::Records),
        (CONTESTED, 5) => Ok(Entry::Contested {
            device: read_device(decoder)?,
            key: read_key(decoder)?,
        }),
        _ => Err(format!("entry of kind {kind} with {fields} fields")),
    }
}

/// Reads of one entry only which records it is about.
pub(super) fn outline(decoder: &mut Decoder<'_>) -> Result<Line, String> {
    let fields = array(decoder)?;
    let kind = decoder.u8().map_err(text)?;
    let boot = BootId {
        device: read_device(decoder)?,
        epoch: Epoch(decoder.u64().map_err(text)?),
        boot: Boot(decoder.u32().map_err(text)?),
    };
    match (kind, fields) {
        (RECORDS, 10) => Ok(Line::Records {
            boot,
            runs: read_runs(decoder)?,
        }),
        (CONTESTED, 5) => Ok(Line::Contested {
            boot,
            seq: Seq(decoder.u32().map_err(text)?),
        }),
        _ => Err(format!("entry of kind {kind} with {fields} fields")),
    }
}

/// The numbers of an entry's records, behind what it says of them all.
fn read_runs(decoder: &mut Decoder<'_>) -> Result<Vec<Run>, String> {
    let (_received_at, _qos) = (decoder.i64().map_err(text)?, decoder.u8().map_err(text)?);
    let _oldest_pending = read_key(decoder)?;
    let mut runs: Vec<Run> = Vec::new();
    for _ in 0..array(decoder)? {
        array(decoder)?;
        let seq = Seq(decoder.u32().map_err(text)?);
        let _content = decoder.bytes().map_err(text)?;
        match runs.last_mut() {
            Some(run) if run.last.0.checked_add(1) == Some(seq.0) => run.last = seq,
            _ => runs.push(Run {
                first: seq,
                last: seq,
            }),
        }
    }
    Ok(runs)
}

fn read_records(decoder: &mut Decoder<'_>) -> Result<Records, String> {
    Ok(Records {
        device: read_device(decoder)?,
        epoch: Epoch(decoder.u64().map_err(text)?),
        boot: Boot(decoder.u32().map_err(text)?),
        received_at: UtcMs::saturating(decoder.i64().map_err(text)?),
        qos: decoder.u8().map_err(text)?,
        oldest_pending: read_key(decoder)?,
        records: {
            let count = array(decoder)?;
            let records: Result<Vec<Stored>, String> =
                (0..count).map(|_| read_stored(decoder)).collect();
            records?
        },
    })
}

fn read_stored(decoder: &mut Decoder<'_>) -> Result<Stored, String> {
    array(decoder)?;
    let seq = Seq(decoder.u32().map_err(text)?);
    let content = Content::from_stored(decoder.bytes().map_err(text)?.to_vec());
    Ok(Stored { seq, content })
}

fn read_device(decoder: &mut Decoder<'_>) -> Result<DeviceId, String> {
    let device = decoder.str().map_err(text)?;
    device.parse().map_err(text)
}

fn read_key(decoder: &mut Decoder<'_>) -> Result<RecordKey, String> {
    let epoch = decoder.u64().map_err(text)?;
    let boot = decoder.u32().map_err(text)?;
    Ok(RecordKey::new(epoch, boot, decoder.u32().map_err(text)?))
}

fn array(decoder: &mut Decoder<'_>) -> Result<u64, String> {
    let count = decoder.array().map_err(text)?;
    count.ok_or_else(|| "array of indefinite length".to_owned())
}

fn text(error: impl core::fmt::Display) -> String {
    error.to_string()
}

/// Writing into a vector cannot fail.
pub(super) fn infallible<T>(written: Result<T, Unwritten<Infallible>>) -> T {
    #[expect(
        clippy::expect_used,
        reason = "the writer's own error is Infallible, and no message is made"
    )]
    written.expect("a vector takes every byte")
}
