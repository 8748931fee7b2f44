//! Settings of devices: what is wanted, what each device answered, what it says is in force.
//!
//! ```text
//! w| device              wanted: set at, payload as sent        written by people's commands
//! i| device 0 0 r        answer to what is wanted               written by the committer
//! i| device 0 0 s        newest record of settings in force     written by the committer
//! i| device 0 0 b        last birth, with a settings version    written by the committer
//! t| device              asked for the time being: see [`super::pressure`]
//! m| settings_version    newest version given out               written by both, in turn
//! ```
//! Each row has one writer, and where a device stands is derived from all of them when somebody asks:
//! there is no state that a crash between two writes could leave half changed.

use std::ops::ControlFlow;

use protocol::downlink::{Settings, SettingsRefusal};
use protocol::key::{DeviceId, RecordKey};
use protocol::status::{SettingsAck, Status};
use protocol::units::UtcMs;
use serde::de::IgnoredAny;

use super::device::{self, Field, Octets};
use super::key::{Key, Kind};
use super::pressure::{self, Slowed};
use super::table::{self, Table, encode, of_device};
use super::{Batch, Store, StoreError, row_error};

/// Most devices for which settings are wanted: as many as may be connected. A row has 100 B, and
/// `status` looks at every one of them.
pub const WANTED_MAX_DEVICES: usize = 100_000;

const KIND: &str = "settings";

/// Name of the row that holds the newest version given out.
const VERSION_ROW: &str = "settings_version";

/// Settings that people want a device to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The whole of them; their version was never given to any others.
    pub settings: Settings,
    /// When they were set.
    pub set_at: UtcMs,
}

/// What a device said to the settings wanted of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Version that was wanted then.
    pub version: u32,
    /// Gateway's time at admission.
    pub received_at: UtcMs,
    /// Accepted, or why not.
    pub outcome: Result<(), SettingsRefusal>,
}

/// Settings that a device has put in force, as a record of its sequence says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce {
    /// Key of the record.
    pub key: RecordKey,
    /// Gateway's time at admission.
    pub received_at: UtcMs,
    /// The whole of them.
    pub settings: Settings,
}

impl InForce {
    /// Whether this is known later than `other`: by key within an epoch, which devices count up. Epochs
    /// are drawn at random, so across them it is the one that arrived later.
    #[must_use]
    pub fn follows(&self, other: &Self) -> bool {
        self.key.epoch != other.key.epoch || self.key > other.key
    }
}

/// What a device said when it last connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Born {
    /// Version in force then.
    pub version: u32,
    /// Gateway's time at admission.
    pub received_at: UtcMs,
}

/// Everything known of the settings of one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// What people want.
    pub wanted: Option<Wanted>,
    /// What the device said to it.
    pub answer: Option<Answer>,
    /// What the device has put in force, as far as its record arrived.
    pub in_force: Option<InForce>,
    /// What it said when it last connected.
    pub born: Option<Born>,
    /// What it is asked to have for the time being, to send less.
    pub slowed: Option<Slowed>,
}

/// Where wanted settings stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is wanted.
    Unwanted,
    /// To be sent until the device answers.
    Waiting,
    /// The device has them in force.
    Reported {
        /// Since when that is known.
        at: UtcMs,
    },
    /// The device had them in force and has said since that it has others.
    Replaced {
        /// When it said so.
        at: UtcMs,
        /// Version it has instead.
        version: u32,
    },
    /// The device does not take them.
    Refused {
        /// When it said so.
        at: UtcMs,
        /// Why not.
        why: SettingsRefusal,
    },
}

impl Known {
    /// What the store knows of `device`.
    ///
    /// # Errors
    /// When a row cannot be read or is damaged.
    pub fn load(store: &Store, device: &DeviceId) -> Result<Self, StoreError> {
        Ok(Self {
            wanted: wanted(store, device)?,
            answer: answer(store, device)?,
            in_force: in_force(store, device)?,
            born: born(store, device)?,
            slowed: pressure::slowed(store, device)?,
        })
    }

    /// The settings that the device shall have now: those for the time being, unless people have set
    /// others since.
    #[must_use]
    pub fn asked(&self) -> Option<Settings> {
        newer(
            self.wanted.map(|wanted| wanted.settings),
            self.slowed.map(|slowed| slowed.settings),
        )
    }

    /// Where the settings asked of the device stand.
    #[must_use]
    pub fn state(&self) -> State {
        let Some(version) = self.asked().map(|asked| asked.version) else {
            return State::Unwanted;
        };
        let answer = self.answer.filter(|answer| answer.version == version);
        match (self.reported_at(), answer) {
            (Some(at), _) => self
                .replaced_after(at, version)
                .unwrap_or(State::Reported { at }),
            (
                None,
                Some(Answer {
                    received_at: at,
                    outcome: Err(why),
                    ..
                }),
            ) => State::Refused { at, why },
            (None, _) => State::Waiting,
        }
    }

    /// The settings that are to be sent.
    #[must_use]
    pub fn unreported(&self) -> Option<Settings> {
        self.asked().filter(|_| self.state() == State::Waiting)
    }

    /// The settings that a change starts from: those wanted or in force, whichever are newer. What the
    /// device has for the time being only is not meant.
    #[must_use]
    pub fn base(&self) -> Option<Settings> {
        let wanted = self.wanted.map(|wanted| wanted.settings);
        let in_force = self.in_force.map(|in_force| in_force.settings);
        let newest = newer(wanted, in_force);
        let slowed = self
            .slowed
            .filter(|slowed| newest.is_none_or(|newest| newest.version <= slowed.settings.version));
        slowed.map(|slowed| slowed.base).or(newest)
    }

    /// The newest version that the device is known to have, or to have been offered.
    #[must_use]
    pub fn newest_version(&self) -> u32 {
        let stale = match self.answer.map(|answer| answer.outcome) {
            Some(Err(SettingsRefusal::Stale { in_force })) => Some(in_force),
            _ => None,
        };
        let wanted = self.wanted.map(|wanted| wanted.settings.version);
        let in_force = self.in_force.map(|it| it.settings.version);
        let slowed = self.slowed.map(|slowed| slowed.settings.version);
        let born = self.born.map(|born| born.version);
        let all = [stale, wanted, in_force, slowed, born];
        all.into_iter().flatten().max().unwrap_or(0)
    }

    /// The version that the device last said it has in force, in whichever way.
    #[must_use]
    pub fn version_in_force(&self) -> Option<u32> {
        let born = self.born.map(|born| (born.received_at, born.version));
        let recorded = self
            .in_force
            .map(|it| (it.received_at, it.settings.version));
        let answer = self.answer.filter(|answer| answer.outcome.is_ok());
        let accepted = answer.map(|answer| (answer.received_at, answer.version));
        let said = [born, recorded, accepted].into_iter().flatten();
        said.max().map(|(_, version)| version)
    }

    /// When the gateway first knew that the settings asked for are in force: by the device's answer or by
    /// its record, whichever came first.
    fn reported_at(&self) -> Option<UtcMs> {
        let wanted = self.asked()?;
        let answer = self
            .answer
            .filter(|answer| answer.version == wanted.version);
        let accepted = answer.filter(|answer| answer.outcome.is_ok());
        let recorded = self.in_force.filter(|in_force| in_force.settings == wanted);
        let accepted = accepted.map(|answer| answer.received_at);
        let recorded = recorded.map(|in_force| in_force.received_at);
        accepted.into_iter().chain(recorded).min()
    }

    /// What the device has said of other settings since. An older record may still come out of its
    /// queue after the answer, so only a newer one counts; a birth is of the moment.
    fn replaced_after(&self, at: UtcMs, version: u32) -> Option<State> {
        let born = self.born.filter(|born| born.version != version);
        let born = born.map(|born| (born.received_at, born.version));
        let newer = self.in_force.filter(|it| it.settings.version > version);
        let newer = newer.map(|it| (it.received_at, it.settings.version));
        let others = born.into_iter().chain(newer);
        let latest = others.filter(|(said_at, _)| *said_at > at).max();
        latest.map(|(at, version)| State::Replaced { at, version })
    }
}

/// Writes what is wanted of a device, and the newest version given out to any.
///
/// # Errors
/// Never in practice: settings fit their largest encoding.
pub fn want(
    batch: &mut Batch,
    device: &DeviceId,
    wanted: &Wanted,
    newest_given: u32,
) -> Result<(), StoreError> {
    let payload = Octets(payload(device, &wanted.settings)?);
    let row = (wanted.set_at.get(), payload);
    table::put(batch, Table::Desired, device.as_str(), &row)?;
    give(batch, newest_given)
}

/// Writes the newest version given out.
pub(super) fn give(batch: &mut Batch, newest_given: u32) -> Result<(), StoreError> {
    table::put(batch, Table::Meta, VERSION_ROW, &newest_given)
}

/// The version of what is asked of a device now: of the settings for the time being or of those wanted,
/// whichever are newer.
///
/// # Errors
/// When they cannot be read or are damaged.
pub fn asked_version(store: &Store, device: &DeviceId) -> Result<Option<u32>, StoreError> {
    let wanted = wanted(store, device)?.map(|wanted| wanted.settings.version);
    let slowed = pressure::slowed(store, device)?.map(|slowed| slowed.settings.version);
    Ok(wanted.max(slowed))
}

/// Wants nothing of a device any more.
pub fn forget(batch: &mut Batch, device: &DeviceId) {
    table::remove(batch, Table::Desired, device.as_str());
}

/// What is wanted of a device.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn wanted(store: &Store, device: &DeviceId) -> Result<Option<Wanted>, StoreError> {
    let row: Option<(i64, Octets)> = table::value(store, Table::Desired, device.as_str())?;
    row.map(|(set_at, payload)| {
        Ok(Wanted {
            settings: settings(device, &payload)?,
            set_at: UtcMs::saturating(set_at),
        })
    })
    .transpose()
}

/// Visits the devices of which settings are wanted, in order of their names, until `visit` breaks. What
/// is wanted is not read, so that a damaged row can be named.
///
/// # Errors
/// When a row cannot be read, or `visit` fails.
pub fn each_wanted(
    store: &Store,
    mut visit: impl FnMut(DeviceId) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    table::each(store, Table::Desired, "", |name, _: IgnoredAny| {
        let device = name.parse::<DeviceId>();
        visit(device.map_err(|error| row_error(KIND, &name, error))?)
    })
}

/// The newest version given out; 0 when none was.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn newest_given(store: &Store) -> Result<u32, StoreError> {
    Ok(table::value(store, Table::Meta, VERSION_ROW)?.unwrap_or_default())
}

/// Notes what a device said to what is wanted of it.
///
/// # Errors
/// Never in practice: an answer fits its largest encoding.
pub fn note_answer(
    batch: &mut Batch,
    device: &DeviceId,
    answer: &Answer,
) -> Result<(), StoreError> {
    let mut buffer = [0; SettingsAck::MAX_BYTES];
    let ack = SettingsAck {
        version: answer.version,
        outcome: answer.outcome,
    };
    let length = ack
        .encode(&mut buffer)
        .map_err(|full| row_error(KIND, device, full))?;
    let payload = Octets(buffer[..length].to_vec());
    let value = encode(KIND, device, &(answer.received_at.get(), payload))?;
    batch.put(answer_key(device), value);
    Ok(())
}

/// Notes the newest record of settings in force of a device.
///
/// # Errors
/// Never in practice: settings fit their largest encoding.
pub fn note_in_force(
    batch: &mut Batch,
    device: &DeviceId,
    in_force: &InForce,
) -> Result<(), StoreError> {
    let RecordKey { epoch, boot, seq } = in_force.key;
    let payload = Octets(payload(device, &in_force.settings)?);
    let row = (
        in_force.received_at.get(),
        (epoch.0, boot.0, seq.0),
        payload,
    );
    let value = encode(KIND, device, &row)?;
    batch.put(in_force_key(device), value);
    Ok(())
}

/// The newest record of settings in force of a device.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn in_force(store: &Store, device: &DeviceId) -> Result<Option<InForce>, StoreError> {
    type Row = (i64, (u64, u32, u32), Octets);
    let row: Option<Row> = of_device(store, KIND, device, &in_force_key(device))?;
    row.map(|(received_at, (epoch, boot, seq), payload)| {
        Ok(InForce {
            key: RecordKey::new(epoch, boot, seq),
            received_at: UtcMs::saturating(received_at),
            settings: settings(device, &payload)?,
        })
    })
    .transpose()
}

/// What a device said to what was wanted of it last.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn answer(store: &Store, device: &DeviceId) -> Result<Option<Answer>, StoreError> {
    let row: Option<(i64, Octets)> = of_device(store, KIND, device, &answer_key(device))?;
    row.map(|(received_at, payload)| {
        let ack = SettingsAck::decode(&payload.0);
        let ack = ack.map_err(|error| row_error(KIND, device, error))?;
        Ok(Answer {
            version: ack.version,
            received_at: UtcMs::saturating(received_at),
            outcome: ack.outcome,
        })
    })
    .transpose()
}

fn born(store: &Store, device: &DeviceId) -> Result<Option<Born>, StoreError> {
    let Some(stated) = device::stated(store, device, Field::Birth)? else {
        return Ok(None);
    };
    match Status::decode(&stated.payload.0) {
        Ok(Status::Birth(birth)) => Ok(Some(Born {
            version: birth.settings_version,
            received_at: UtcMs::saturating(stated.received_at_ms),
        })),
        Ok(_) => Err(row_error(KIND, device, "birth is none")),
        Err(error) => Err(row_error(KIND, device, error)),
    }
}

/// Settings as they are sent to a device.
///
/// # Errors
/// Never in practice: settings fit their largest encoding.
pub fn payload(device: &DeviceId, settings: &Settings) -> Result<Vec<u8>, StoreError> {
    let mut buffer = [0; Settings::MAX_BYTES];
    let length = settings
        .encode(&mut buffer)
        .map_err(|full| row_error(KIND, device, full))?;
    Ok(buffer[..length].to_vec())
}

fn newer(one: Option<Settings>, other: Option<Settings>) -> Option<Settings> {
    let both = one.into_iter().chain(other);
    both.max_by_key(|settings| settings.version)
}

pub(super) fn settings(device: &DeviceId, payload: &Octets) -> Result<Settings, StoreError> {
    Settings::decode(&payload.0).map_err(|error| row_error(KIND, device, error))
}

fn answer_key(device: &DeviceId) -> Key {
    Key::device(Kind::Device, device).tail("r")
}

fn in_force_key(device: &DeviceId) -> Key {
    Key::device(Kind::Device, device).tail("s")
}

#[cfg(test)]
mod tests;
