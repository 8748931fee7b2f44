//! What a record says, as bytes: protocol's standalone encoding of one record.
//!
//! ```text
//! length u8   record, as protocol::entry::encode_record writes it   unknown fields, as they came
//! ```
//! Values are absolute and the encoding is canonical, and unknown fields of newer devices are never delta
//! coded. So two arrivals of a key have the same content exactly when these bytes are equal, however
//! each was batched and delta coded on its way.

use protocol::batch::{Entry, UNKNOWN_FIELDS_MAX};
use protocol::entry::{self, RECORD_MAX_BYTES, decode_record, encode_record};
use protocol::record::Numbered;
use protocol::wire::{Full, WireError};

/// Largest content, in bytes: the longest record, and as many unknown integers as a batch may add.
pub const CONTENT_MAX_BYTES: usize = 1 + RECORD_MAX_BYTES + 9 * UNKNOWN_FIELDS_MAX;

/// One record with the unknown fields it came with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Content(Vec<u8>);

impl Content {
    /// The content of an entry of a batch.
    ///
    /// # Errors
    /// Never in practice: the buffer holds the longest record.
    pub fn of(entry: &Entry<'_>) -> Result<Self, Full> {
        let mut buffer = [0; 1 + RECORD_MAX_BYTES];
        let [length, record @ ..] = &mut buffer;
        let used = encode_record(&entry.numbered, record)?;
        *length = u8::try_from(used).map_err(|_| Full)?;
        let mut bytes = buffer[..=used].to_vec();
        bytes.extend_from_slice(entry.unknown);
        Ok(Self(bytes))
    }

    /// Bytes that the journal or the history gave back.
    pub(crate) const fn from_stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// As stored.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The record.
    ///
    /// # Errors
    /// When the bytes are no record: the row they came from is damaged.
    pub fn decode(&self) -> Result<Numbered, WireError> {
        decode_record(self.record())
    }

    /// Whether the record is an alarm, without decoding all of it.
    #[must_use]
    pub fn is_alarm(&self) -> bool {
        entry::is_alarm(self.record())
    }

    fn record(&self) -> &[u8] {
        let (length, rest) = self.0.split_first().unwrap_or((&0, &[]));
        rest.get(..usize::from(*length)).unwrap_or(rest)
    }

    /// The fields this version does not know: CBOR integers, as they came.
    #[must_use]
    pub fn unknown(&self) -> &[u8] {
        let behind = self.0.first().map_or(0, |length| 1 + usize::from(*length));
        self.0.get(behind..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::key::Seq;
    use protocol::reading::Reading;
    use protocol::record::Record;
    use protocol::units::UptimeMs;

    #[test]
    fn a_record_and_its_unknown_fields_come_back() {
        let reading = Reading::empty(UptimeMs::saturating(42));
        let numbered = Numbered {
            seq: Seq(u32::MAX),
            record: Record::Reading(reading),
        };
        let unknown = [0x01, 0x18, 0x2A];
        let content = Content::of(&Entry {
            numbered,
            unknown: &unknown,
        })
        .unwrap();
        assert_eq!(content.decode().unwrap(), numbered);
        assert_eq!(content.unknown(), unknown);
        let plain = Content::of(&Entry {
            numbered,
            unknown: &[],
        })
        .unwrap();
        assert_ne!(plain, content, "an unknown field is part of the content");
        assert!(content.bytes().len() <= CONTENT_MAX_BYTES);
    }

    #[test]
    fn damaged_bytes_are_an_error() {
        assert!(Content::from_stored(Vec::new()).decode().is_err());
        assert!(Content::from_stored(vec![9, 1]).decode().is_err());
    }
}
