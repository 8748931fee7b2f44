//! A payload becomes records or a statement, or is refused whole.

use protocol::batch::{Batch, BatchHeader};
use protocol::record::Numbered;
use protocol::status::{SettingsAck, Status};
use protocol::topic::Channel;
use protocol::wire::{Fault, WireError};

use crate::account::{Reason, Subject};
use crate::store::content::Content;

/// What a payload holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Records of one boot.
    Records {
        /// What the batch says about itself.
        header: BatchHeader,
        /// Its records, each with the bytes that are stored.
        records: Vec<(Numbered, Content)>,
    },
    /// The device's word about its connection or its settings.
    Statement(Statement),
}

/// What a device says outside its records; the newest of each is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// About its connection.
    Presence(Status),
    /// Its answer to settings.
    Answer(SettingsAck),
}

/// A payload that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For the counter.
    pub reason: Reason,
    /// Which element, where, and what is allowed.
    pub detail: String,
}

/// Which book a channel's payloads are counted in.
#[must_use]
pub const fn subject(channel: Channel) -> Subject {
    match channel {
        Channel::Readings | Channel::Alarms => Subject::Records,
        Channel::Status
        | Channel::Ack
        | Channel::TimeRequest
        | Channel::Settings
        | Channel::Time => Subject::Statements,
    }
}

/// Reads the payload of a channel, checking every byte of it.
///
/// # Errors
/// When it is not what the channel carries.
pub fn decode(channel: Channel, payload: &[u8]) -> Result<Arrival, Refusal> {
    match channel {
        Channel::Readings | Channel::Alarms => records(payload),
        Channel::Status => Status::decode(payload)
            .map(|status| Arrival::Statement(Statement::Presence(status)))
            .map_err(refusal),
        Channel::Ack => SettingsAck::decode(payload)
            .map(|ack| Arrival::Statement(Statement::Answer(ack)))
            .map_err(refusal),
        Channel::TimeRequest | Channel::Settings | Channel::Time => Err(Refusal {
            reason: Reason::NotForIngest,
            detail: format!("topic {} carries nothing to store", channel.as_str()),
        }),
    }
}

fn records(payload: &[u8]) -> Result<Arrival, Refusal> {
    let batch = Batch::decode(payload).map_err(refusal)?;
    let content = |entry: protocol::batch::Entry<'_>| {
        let content = Content::of(&entry).map_err(|full| Refusal {
            reason: Reason::Undecodable,
            detail: full.to_string(),
        })?;
        Ok((entry.numbered, content))
    };
    Ok(Arrival::Records {
        header: *batch.header(),
        records: batch.iter().map(content).collect::<Result<_, _>>()?,
    })
}

fn refusal(error: WireError) -> Refusal {
    let version = error.what == "wire version" && matches!(error.fault, Fault::Range { .. });
    Refusal {
        reason: if version {
            Reason::WireVersion
        } else {
            Reason::Undecodable
        },
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(channel: Channel, payload: &[u8]) -> Reason {
        decode(channel, payload).unwrap_err().reason
    }

    #[test]
    fn a_payload_is_refused_with_its_reason() {
        assert_eq!(reason(Channel::Readings, b"\xff"), Reason::Undecodable);
        assert_eq!(reason(Channel::Readings, b""), Reason::Undecodable);
        let version_9 = [0x85, 9, 0, 0, 0x81, 0, 20];
        assert_eq!(reason(Channel::Readings, &version_9), Reason::WireVersion);
        assert_eq!(reason(Channel::Time, b""), Reason::NotForIngest);
        assert_eq!(
            reason(Channel::Status, b"\x82\x01\x07"),
            Reason::Undecodable
        );
    }

    #[test]
    fn a_status_is_a_statement() {
        let mut buffer = [0; Status::MAX_BYTES];
        let length = Status::Offline.encode(&mut buffer).unwrap();
        let arrival = decode(Channel::Status, &buffer[..length]).unwrap();
        let offline = Statement::Presence(Status::Offline);
        assert_eq!(arrival, Arrival::Statement(offline));
    }
}
