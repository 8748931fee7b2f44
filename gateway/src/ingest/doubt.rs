//! What new records say that is not believed: counted once, kept per device, told in the log.
//!
//! A record is looked at when it is stored for the first time, in the batch that stores it, so neither
//! a duplicate nor a refold nor a restart counts it again. Only the counts are made here; the rules
//! leave the same things out by the same tests (`rules::doubt`), whether anybody counts or not.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::ControlFlow;

use protocol::key::{DeviceId, RecordKey, Seq};
use protocol::record::{Anchor, Numbered, Record};
use protocol::units::UtcMs;
use rules::doubt::{self as rule, Doubt};
use rules::timeline::is_refused;

use super::census::DEVICES_MAX;
use crate::account::Tally;
use crate::store::doubt::{self, ClockNote, Doubted, Doubts};
use crate::store::seen::BootId;
use crate::store::{Batch, Store, StoreError};

/// How far a device's time may be ahead of the gateway's when it comes, in milliseconds: a day forgives
/// every error of a time zone and most errors of the gateway's own clock.
const AHEAD_MAX_MS: i64 = 86_400_000;

/// Anchors of one boot that wait for its build time. They come hourly and the boot's first record comes
/// first, so more means that it is lost.
const UNJUDGED_MAX: usize = 64;

/// Most devices named by `status`: what a person looks into at once.
pub const WORST_MAX: usize = 5;

/// One doubt about one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) doubt: Doubt,
    pub(super) key: RecordKey,
    pub(super) detail: String,
}

/// The doubts of a group that is open.
#[derive(Debug, Default)]
pub(super) struct Register {
    devices: HashMap<DeviceId, Doubts>,
    clocks: HashMap<BootId, ClockNote>,
}

impl Register {
    /// Looks at a record that is stored for the first time. Returns what is doubted of it.
    pub(super) fn note(
        &mut self,
        store: &Store,
        boot: &BootId,
        numbered: &Numbered,
        received_at: UtcMs,
    ) -> Result<Vec<Case>, StoreError> {
        let mut cases = self.clock(store, boot, numbered, received_at)?;
        cases.extend(rule::of(&numbered.record).map(|doubt| Case {
            doubt,
            key: key(boot, numbered.seq),
            detail: detail(&numbered.record),
        }));
        for case in &cases {
            let doubts = match self.devices.get_mut(&boot.device) {
                Some(doubts) => doubts,
                None => self
                    .devices
                    .entry(boot.device.clone())
                    .or_insert(doubt::of(store, &boot.device)?),
            };
            let known = doubts.entry(case.doubt.as_str().to_owned()).or_default();
            *known = Doubted {
                count: known.count + 1,
                last_received_at_ms: received_at.get(),
                last_key: case.key.to_string(),
                last_detail: case.detail.clone(),
            };
        }
        Ok(cases)
    }

    /// Writes what the group added.
    pub(super) fn write(&self, batch: &mut Batch) -> Result<(), StoreError> {
        for (device, doubts) in &self.devices {
            doubt::put(batch, device, doubts)?;
        }
        for (boot, note) in &self.clocks {
            doubt::put_clock(batch, boot, note)?;
        }
        Ok(())
    }

    /// A boot's times are judged by its build time, whichever comes first.
    fn clock(
        &mut self,
        store: &Store,
        boot: &BootId,
        numbered: &Numbered,
        received_at: UtcMs,
    ) -> Result<Vec<Case>, StoreError> {
        let seq = numbered.seq;
        match &numbered.record {
            Record::Anchor(anchor) => {
                let note = self.noted(store, boot)?;
                let built = note.build_ms.map(UtcMs::saturating);
                if built.is_none() && note.unjudged.len() < UNJUDGED_MAX {
                    note.unjudged.push((seq.0, anchor.utc.get()));
                }
                let refused = is_refused(anchor.utc, built);
                let refused = refused.then(|| refused_case(boot, seq, anchor.utc, built));
                let ahead = ahead_case(boot, seq, anchor, received_at);
                Ok(refused.into_iter().chain(ahead).collect())
            }
            Record::Boot(started) => {
                let note = self.noted(store, boot)?;
                let built = Some(started.build_time);
                note.build_ms = built.map(UtcMs::get);
                let waited = std::mem::take(&mut note.unjudged);
                let times = waited
                    .into_iter()
                    .map(|(seq, ms)| (Seq(seq), UtcMs::saturating(ms)));
                let refused = times.filter(|(_, utc)| is_refused(*utc, built));
                Ok(refused
                    .map(|(seq, utc)| refused_case(boot, seq, utc, built))
                    .collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    fn noted(&mut self, store: &Store, boot: &BootId) -> Result<&mut ClockNote, StoreError> {
        if !self.clocks.contains_key(boot) {
            self.clocks.insert(boot.clone(), doubt::clock(store, boot)?);
        }
        Ok(self.clocks.entry(boot.clone()).or_default())
    }
}

/// Adds cases to the counters.
pub(super) fn count(cases: &[Case], tally: &mut Tally) {
    for case in cases {
        *tally.doubted.entry(case.doubt).or_default() += 1;
    }
}

/// What is doubted of one device for one reason.
pub type Named = (DeviceId, String, Doubted);

/// What is doubted, most records first, at most [`WORST_MAX`]; the first [`DEVICES_MAX`] devices are
/// looked at.
///
/// # Errors
/// When the store cannot be read.
pub fn worst(store: &Store) -> Result<Vec<Named>, StoreError> {
    let mut devices = 0;
    let mut worst: Vec<Named> = Vec::new();
    doubt::each(store, |device, doubts| {
        devices += 1;
        let named = doubts.into_iter();
        worst.extend(named.map(|(label, of)| (device.clone(), label, of)));
        // Stable, so devices alike stay in order of their names.
        worst.sort_by_key(|(_, _, of)| Reverse(of.count));
        worst.truncate(WORST_MAX);
        Ok(if devices == DEVICES_MAX {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    Ok(worst)
}

fn refused_case(boot: &BootId, seq: Seq, utc: UtcMs, built: Option<UtcMs>) -> Case {
    let built = built.map(text).unwrap_or_default();
    Case {
        doubt: Doubt::ClockRefused,
        key: key(boot, seq),
        detail: format!(
            "time {}, firmware built {built}, allowed from 365 days before",
            text(utc)
        ),
    }
}

fn ahead_case(boot: &BootId, seq: Seq, anchor: &Anchor, received_at: UtcMs) -> Option<Case> {
    let ahead_ms = anchor.utc.get().saturating_sub(received_at.get());
    (ahead_ms > AHEAD_MAX_MS).then(|| Case {
        doubt: Doubt::ClockAhead,
        key: key(boot, seq),
        detail: format!("time {}, gateway's {}", text(anchor.utc), text(received_at)),
    })
}

/// The doubtful part of a record, for a person.
fn detail(record: &Record) -> String {
    match record {
        Record::Reading(reading) => match reading.position.value() {
            Some(at) => format!(
                "reading at uptime {} ms, position {}, {}",
                reading.uptime.get(),
                at.latitude.degrees(),
                at.longitude.degrees()
            ),
            None => format!("reading at uptime {} ms", reading.uptime.get()),
        },
        Record::Alarm(alarm) => format!(
            "alarm {:?}, limit {}, extreme {}",
            alarm.kind, alarm.limit, alarm.extreme
        ),
        Record::Loss(loss) => format!(
            "loss of {} from {} to {}",
            loss.count, loss.first, loss.last
        ),
        Record::Boot(_) | Record::Anchor(_) | Record::Settings(_) => {
            format!("uptime {} ms", record.uptime().get())
        }
    }
}

fn text(utc: UtcMs) -> String {
    chrono::DateTime::from_timestamp_millis(utc.get())
        .map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
        .unwrap_or_default()
}

fn key(boot: &BootId, seq: Seq) -> RecordKey {
    RecordKey {
        epoch: boot.epoch,
        boot: boot.boot,
        seq,
    }
}

#[cfg(test)]
mod tests {
    use protocol::batch::{BatchEncoder, BatchHeader};
    use protocol::key::{Boot, Epoch};
    use protocol::reading::{FixQuality, Measured, Missing, Position, Reading};
    use protocol::record::{
        Alarm, AlarmKind, BootRecord, Loss, LossReason, ResetCause, TimeSource,
    };
    use protocol::topic::{Channel, Topic};
    use protocol::units::{
        Decimetres, DecimetresPerSecond, Latitude, Longitude, Milliseconds, Seconds, UptimeMs,
    };

    use super::*;
    use crate::ingest::admit::Admission;
    use crate::ingest::missing::{Missing as Gone, missing};
    use crate::store::memory;

    const DAY_MS: i64 = 86_400_000;
    const BUILT_MS: i64 = 1_772_323_200_000;
    const NOW_MS: i64 = BUILT_MS + 30 * DAY_MS;

    fn device() -> DeviceId {
        "t-1".parse().unwrap()
    }

    fn anchor(utc_ms: i64) -> Record {
        Record::Anchor(Anchor {
            uptime: UptimeMs::saturating(1_000),
            utc: UtcMs::saturating(utc_ms),
            source: TimeSource::ClockChip,
            uncertainty: Milliseconds::saturating(10),
            rollover_corrected: false,
        })
    }

    fn boot() -> Record {
        Record::Boot(BootRecord {
            uptime: UptimeMs::saturating(0),
            build_time: UtcMs::saturating(BUILT_MS),
            previous_last: None,
            cause: ResetCause::PowerOn,
            version: [1, 0, 0],
        })
    }

    fn nowhere() -> Record {
        let mut reading = Reading::empty(UptimeMs::saturating(5_000));
        reading.temperatures[0] = Measured::Missing(Missing::OutOfRange);
        reading.position = Measured::Value(Position {
            latitude: Latitude::new(0).unwrap(),
            longitude: Longitude::new(0).unwrap(),
            accuracy: Decimetres::saturating(50),
            speed: DecimetresPerSecond::saturating(0),
            course: Measured::Missing(Missing::NotSampled),
            quality: FixQuality::Gnss3d,
            satellites: 8,
            age: Seconds::saturating(1),
        });
        Record::Reading(reading)
    }

    fn payload(records: &[(u32, Record)]) -> Vec<u8> {
        let header = BatchHeader {
            epoch: Epoch(1),
            boot: Boot(0),
            oldest_pending: RecordKey::new(1, 0, 999),
        };
        let mut buffer = [0; 4_096];
        let mut encoder = BatchEncoder::new(&mut buffer, header).unwrap();
        for (seq, record) in records {
            let (seq, record) = (Seq(*seq), *record);
            encoder.push(&Numbered { seq, record }).unwrap();
        }
        encoder.finish().to_vec()
    }

    /// A gateway that may start anew at any time, and its counters.
    struct Rig {
        store: Store,
        admission: Admission,
        tally: Tally,
    }

    impl Rig {
        fn new() -> Self {
            let store = memory::store();
            Self {
                admission: Admission::open(&store).unwrap(),
                store,
                tally: Tally::default(),
            }
        }

        fn admit(&mut self, records: &[(u32, Record)]) {
            self.admission.begin(UtcMs::saturating(NOW_MS)).unwrap();
            let topic = Topic::new(device(), Channel::Readings);
            self.admission.admit(&topic, &payload(records), 1).unwrap();
            let sealed = self.admission.seal().unwrap();
            self.store.apply(sealed.batch).unwrap();
            self.tally.add(&sealed.tally);
            self.admission.settle(sealed.commit);
        }

        fn restart(&mut self) {
            self.admission = Admission::open(&self.store).unwrap();
        }

        /// The counters, which must agree with the device's row.
        fn doubted(&self) -> Vec<(&'static str, u64)> {
            self.tally.assert_balanced();
            let row = doubt::of(&self.store, &device()).unwrap();
            let counted: Vec<_> = self.tally.doubted.iter().collect();
            assert_eq!(row.len(), counted.len(), "{row:?}");
            for (doubt, count) in &counted {
                assert_eq!(row[doubt.as_str()].count, **count, "{row:?}");
            }
            let labels = counted.into_iter();
            labels
                .map(|(doubt, count)| (doubt.as_str(), *count))
                .collect()
        }
    }

    #[test]
    fn a_refused_time_is_stored_and_counted_once_whatever_comes_again() {
        let mut rig = Rig::new();
        let records = [(0, boot()), (1, anchor(BUILT_MS - 366 * DAY_MS))];
        rig.admit(&records);
        assert_eq!(rig.doubted(), [("clock_refused", 1)]);
        rig.admit(&records);
        rig.restart();
        rig.admit(&records);
        assert_eq!(rig.doubted(), [("clock_refused", 1)]);
        assert_eq!(
            (rig.tally.records.stored, rig.tally.records.duplicate),
            (2, 4)
        );
        assert!(rig.tally.records.refused.is_empty(), "it is no refusal");
        let of = &doubt::of(&rig.store, &device()).unwrap()["clock_refused"];
        assert_eq!(of.last_key, RecordKey::new(1, 0, 1).to_string());
        assert_eq!(of.last_received_at_ms, NOW_MS);
        let told = "time 2025-02-28T00:00:00Z, firmware built 2026-03-01T00:00:00Z, ";
        assert!(of.last_detail.starts_with(told), "{}", of.last_detail);
        rig.admit(&[(2, anchor(BUILT_MS - 365 * DAY_MS))]);
        assert_eq!(
            rig.doubted(),
            [("clock_refused", 1)],
            "the bound is allowed"
        );
    }

    #[test]
    fn a_time_that_comes_before_the_build_time_is_judged_when_that_comes_also_after_a_restart() {
        let mut rig = Rig::new();
        let early = BUILT_MS - 400 * DAY_MS;
        rig.admit(&[(1, anchor(early)), (2, anchor(NOW_MS)), (3, anchor(early))]);
        assert_eq!(rig.doubted(), []);
        rig.restart();
        rig.admit(&[(0, boot())]);
        assert_eq!(rig.doubted(), [("clock_refused", 2)]);
        rig.restart();
        rig.admit(&[(0, boot()), (4, anchor(early))]);
        assert_eq!(rig.doubted(), [("clock_refused", 3)]);
    }

    #[test]
    fn a_time_more_than_a_day_ahead_of_the_gateway_is_doubted() {
        let mut rig = Rig::new();
        rig.admit(&[(0, boot()), (1, anchor(NOW_MS + DAY_MS))]);
        assert_eq!(rig.doubted(), []);
        rig.admit(&[(2, anchor(NOW_MS + DAY_MS + 1))]);
        assert_eq!(rig.doubted(), [("clock_ahead", 1)]);
    }

    #[test]
    fn a_group_that_power_took_back_is_counted_when_it_comes_again() {
        let mut rig = Rig::new();
        let records = [(0, nowhere())];
        rig.admission.begin(UtcMs::saturating(NOW_MS)).unwrap();
        let topic = Topic::new(device(), Channel::Readings);
        rig.admission.admit(&topic, &payload(&records), 1).unwrap();
        drop(rig.admission.seal().unwrap());
        rig.restart();
        rig.admit(&records);
        assert_eq!(
            rig.doubted(),
            [("position_nowhere", 1), ("value_out_of_range", 1)]
        );
        assert_eq!(rig.tally.records.stored, 1);
    }

    #[test]
    fn an_impossible_loss_explains_nothing_and_an_impossible_alarm_is_named() {
        let mut rig = Rig::new();
        let loss = |first, last, count| {
            Record::Loss(Loss {
                uptime: UptimeMs::saturating(0),
                first: RecordKey::new(1, 0, first),
                last: RecordKey::new(1, 0, last),
                count,
                reason: LossReason::RoutineFull,
            })
        };
        let alarm = Record::Alarm(Alarm {
            uptime: UptimeMs::saturating(0),
            kind: AlarmKind::Battery,
            limit: 15,
            since: UptimeMs::saturating(0),
            extreme: 101,
            count: 1,
            shock: None,
        });
        rig.admit(&[(0, boot()), (8, loss(1, 3, u32::MAX)), (9, alarm)]);
        assert_eq!(
            rig.doubted(),
            [("alarm_impossible", 1), ("loss_impossible", 1)]
        );
        assert!(rig.tally.declared_lost.is_empty());
        let gone = |lost, unexplained| Gone {
            lost,
            pending: 0,
            unexplained,
        };
        assert_eq!(missing(&rig.store, &device()).unwrap(), gone(0, 7));
        rig.admit(&[(10, loss(1, 3, 3))]);
        assert_eq!(missing(&rig.store, &device()).unwrap(), gone(3, 4));
    }

    #[test]
    fn status_names_the_devices_with_most_doubts_first() {
        let store = memory::store();
        let mut batch = Batch::default();
        for (number, count) in [(1, 3), (2, 9), (3, 1), (4, 2), (5, 4), (6, 5)] {
            let device: DeviceId = format!("t-{number}").parse().unwrap();
            let doubted = Doubted {
                count,
                ..Doubted::default()
            };
            let doubts = Doubts::from([("clock_refused".to_owned(), doubted)]);
            doubt::put(&mut batch, &device, &doubts).unwrap();
        }
        store.apply(batch).unwrap();
        let worst = worst(&store).unwrap();
        let counts: Vec<_> = worst.iter().map(|(_, _, of)| of.count).collect();
        assert_eq!(counts, [9, 5, 4, 3, 2]);
        assert_eq!(worst[0].0.as_str(), "t-2");
    }
}
