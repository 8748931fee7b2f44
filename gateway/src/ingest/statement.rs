//! What devices say of themselves, on its way into the group's batch: connection, settings, what is gone.

use std::collections::HashMap;

use protocol::downlink::SettingsRefusal;
use protocol::key::{Boot, DeviceId, RecordKey};
use protocol::record::{BootRecord, Numbered, Record};
use protocol::status::{SettingsAck, Status};
use protocol::units::UtcMs;
use rules::doubt::is_possible_loss;

use super::decode::Statement;
use crate::account::Tally;
use crate::store::device::{self, Field, Lost, Stated};
use crate::store::seen::BootId;
use crate::store::settings::{self, Answer, InForce};
use crate::store::{Batch, Store, StoreError};

/// Keeps what a device says outside its records.
pub(super) fn note(
    store: &Store,
    batch: &mut Batch,
    device: &DeviceId,
    said: &Statement,
    stated: &Stated,
) -> Result<(), StoreError> {
    match said {
        Statement::Presence(status) => {
            if matches!(status, Status::Birth(_)) {
                device::state(batch, device, Field::Birth, stated)?;
            }
            device::state(batch, device, Field::Presence, stated)
        }
        Statement::Answer(ack) => {
            let received_at = UtcMs::saturating(stated.received_at_ms);
            note_answer(store, batch, device, *ack, received_at)?;
            device::state(batch, device, Field::SettingsAnswer, stated)
        }
    }
}

/// Only an answer to the settings wanted now is kept as theirs: a device may still owe one to another
/// gateway, or to settings that are not wanted any more.
fn note_answer(
    store: &Store,
    batch: &mut Batch,
    device: &DeviceId,
    ack: SettingsAck,
    received_at: UtcMs,
) -> Result<(), StoreError> {
    let Some(version) = answered(store, device, &ack)? else {
        return Ok(());
    };
    let answer = Answer {
        version,
        received_at,
        outcome: ack.outcome,
    };
    settings::note_answer(batch, device, &answer)
}

/// The wanted version that `ack` is about. A device that could not read the payload cannot know its
/// version; what it could not read is what it was sent, which is what is wanted and not answered yet.
fn answered(
    store: &Store,
    device: &DeviceId,
    ack: &SettingsAck,
) -> Result<Option<u32>, StoreError> {
    let Some(version) = settings::asked_version(store, device)? else {
        return Ok(None);
    };
    if ack.outcome != Err(SettingsRefusal::Undecodable) {
        return Ok((ack.version == version).then_some(version));
    }
    let before = settings::answer(store, device)?;
    let unanswered = before.is_none_or(|before| before.version != version);
    Ok(unanswered.then_some(version))
}

/// Counts what a new record says is gone.
pub(super) fn count(record: &Record, tally: &mut Tally) {
    if let Record::Loss(loss) = record
        && is_possible_loss(loss)
    {
        *tally.declared_lost.entry(loss.reason).or_default() += u64::from(loss.count);
    }
}

/// Newest settings in force of devices that recorded some in the open group: the store does not show
/// them yet.
#[derive(Debug, Default)]
pub(super) struct Register(HashMap<DeviceId, InForce>);

impl Register {
    /// Keeps what a new record says about other records, where the account of missing ones looks for it,
    /// and about settings in force. It is written into the batch of the group, received then.
    pub(super) fn note(
        &mut self,
        store: &Store,
        (batch, received_at): (&mut Batch, UtcMs),
        boot: &BootId,
        numbered: &Numbered,
    ) -> Result<(), StoreError> {
        match &numbered.record {
            Record::Loss(loss) if is_possible_loss(loss) => {
                let lost = Lost {
                    first: loss.first,
                    last: loss.last.seq,
                    count: loss.count,
                };
                device::note_lost(batch, &boot.device, lost)
            }
            Record::Boot(started) => note_end(batch, boot, started),
            Record::Settings(record) => {
                let in_force = InForce {
                    key: RecordKey {
                        epoch: boot.epoch,
                        boot: boot.boot,
                        seq: numbered.seq,
                    },
                    received_at,
                    settings: record.settings,
                };
                self.note_in_force(store, batch, &boot.device, in_force)
            }
            Record::Reading(_) | Record::Alarm(_) | Record::Anchor(_) | Record::Loss(_) => Ok(()),
        }
    }

    /// Records may come late, so only the newest is kept.
    fn note_in_force(
        &mut self,
        store: &Store,
        batch: &mut Batch,
        device: &DeviceId,
        in_force: InForce,
    ) -> Result<(), StoreError> {
        let before = match self.0.get(device) {
            Some(before) => Some(*before),
            None => settings::in_force(store, device)?,
        };
        if before.is_some_and(|before| !in_force.follows(&before)) {
            return Ok(());
        }
        self.0.insert(device.clone(), in_force);
        settings::note_in_force(batch, device, &in_force)
    }
}

/// A boot says where the one before it ended.
fn note_end(batch: &mut Batch, boot: &BootId, started: &BootRecord) -> Result<(), StoreError> {
    let before = boot.boot.0.checked_sub(1).map(|number| BootId {
        boot: Boot(number),
        ..boot.clone()
    });
    match (before, started.previous_last) {
        (Some(before), Some(last)) => device::note_end(batch, &before, last),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use protocol::batch::{BatchEncoder, BatchHeader};
    use protocol::downlink::Settings;
    use protocol::key::Seq;
    use protocol::record::SettingsRecord;
    use protocol::status::Birth;
    use protocol::topic::{Channel, Topic};
    use protocol::units::UptimeMs;

    use crate::ingest::admit::Admission;
    use crate::store::memory;
    use crate::store::settings::{Known, State, Wanted};

    fn device() -> DeviceId {
        "t-1".parse().unwrap()
    }

    fn settings(version: u32) -> Settings {
        Settings {
            version,
            ..Settings::DEFAULT
        }
    }

    /// Admits payloads as one group, received at `ms`.
    fn admit(store: &Store, ms: i64, payloads: &[(Channel, Vec<u8>)]) -> Known {
        let mut admission = Admission::open(store).unwrap();
        admission.begin(UtcMs::saturating(ms)).unwrap();
        for (channel, payload) in payloads {
            let topic = Topic::new(device(), *channel);
            admission.admit(&topic, payload, 1).unwrap();
        }
        store.apply(admission.seal().unwrap().batch).unwrap();
        Known::load(store, &device()).unwrap()
    }

    fn want(store: &Store, version: u32) {
        let wanted = Wanted {
            settings: settings(version),
            set_at: UtcMs::saturating(1),
        };
        let mut batch = Batch::default();
        settings::want(&mut batch, &device(), &wanted, version).unwrap();
        store.apply(batch).unwrap();
    }

    fn ack(version: u32, outcome: Result<(), SettingsRefusal>) -> (Channel, Vec<u8>) {
        let mut buffer = [0; SettingsAck::MAX_BYTES];
        let length = SettingsAck { version, outcome }
            .encode(&mut buffer)
            .unwrap();
        (Channel::Ack, buffer[..length].to_vec())
    }

    fn record(seq: u32, version: u32) -> (Channel, Vec<u8>) {
        let oldest_pending = RecordKey::new(7, 1, 0);
        let header = BatchHeader {
            epoch: oldest_pending.epoch,
            boot: oldest_pending.boot,
            oldest_pending,
        };
        let mut buffer = [0; 400];
        let mut encoder = BatchEncoder::new(&mut buffer, header).unwrap();
        let record = Record::Settings(SettingsRecord {
            uptime: UptimeMs::saturating(1),
            settings: settings(version),
        });
        encoder
            .push(&Numbered {
                seq: Seq(seq),
                record,
            })
            .unwrap();
        (Channel::Readings, encoder.finish().to_vec())
    }

    #[test]
    fn an_answer_counts_only_for_the_settings_wanted_now() {
        let store = memory::store();
        assert_eq!(
            admit(&store, 5, &[ack(7, Ok(()))]).answer,
            None,
            "nothing is wanted"
        );
        want(&store, 7);
        let stale = Err(SettingsRefusal::Stale { in_force: 9 });
        assert_eq!(
            admit(&store, 6, &[ack(6, Ok(())), ack(3, stale)]).state(),
            State::Waiting
        );
        let at = UtcMs::saturating(8);
        let known = admit(&store, 8, &[ack(7, Ok(())), ack(3, stale)]);
        assert_eq!(known.state(), State::Reported { at });
        want(&store, 8);
        let why = SettingsRefusal::NotStored;
        let known = admit(&store, 9, &[ack(7, Ok(())), ack(8, Err(why))]);
        assert_eq!(
            known.state(),
            State::Refused {
                at: UtcMs::saturating(9),
                why
            }
        );
    }

    #[test]
    fn an_unreadable_payload_is_the_one_that_waits_for_an_answer() {
        let store = memory::store();
        want(&store, 7);
        let why = SettingsRefusal::Undecodable;
        let known = admit(&store, 5, &[ack(0, Err(why))]);
        assert_eq!(
            known.state(),
            State::Refused {
                at: UtcMs::saturating(5),
                why
            }
        );
        want(&store, 8);
        admit(&store, 6, &[ack(8, Ok(()))]);
        let known = admit(&store, 7, &[ack(0, Err(why))]);
        assert_eq!(
            known.state(),
            State::Reported {
                at: UtcMs::saturating(6)
            }
        );
    }

    #[test]
    fn the_newest_record_of_settings_is_kept_whatever_order_they_come_in() {
        for orders in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
            let (one_group, many_groups) = (memory::store(), memory::store());
            let records = orders.map(|seq| record(seq, seq));
            let together = admit(&one_group, 5, &records);
            for one in records {
                admit(&many_groups, 5, &[one]);
            }
            let apart = Known::load(&many_groups, &device()).unwrap();
            for known in [together, apart] {
                let in_force = known.in_force.unwrap();
                assert_eq!((in_force.key.seq, in_force.settings), (Seq(3), settings(3)));
            }
        }
    }

    #[test]
    fn a_goodbye_does_not_hide_the_version_of_the_birth() {
        let mut buffer = [0; Status::MAX_BYTES];
        let birth = Status::Birth(Birth {
            version: [0, 1, 0],
            hardware: "bench".try_into().unwrap(),
            epoch: RecordKey::new(7, 1, 0).epoch,
            boot: RecordKey::new(7, 1, 0).boot,
            cause: protocol::record::ResetCause::PowerOn,
            settings_version: 12,
            pending: 0,
        });
        let length = birth.encode(&mut buffer).unwrap();
        let born = (Channel::Status, buffer[..length].to_vec());
        let length = Status::Offline.encode(&mut buffer).unwrap();
        let left = (Channel::Status, buffer[..length].to_vec());
        let known = admit(&memory::store(), 5, &[born, left]);
        assert_eq!(known.version_in_force(), Some(12));
    }
}
