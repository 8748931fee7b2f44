//! A device of the load generator: a repeatable stream of records, cut into batches.
//!
//! It is no simulation of the tracker (the simulator runs the real one); it shows the gateway a known
//! content under known keys. Once in [`PERIOD_READINGS`] readings the goods are warm for long enough
//! to be an excursion, so that rules, outbox and sinks are under load too.

use anyhow::{Context, Result};
use protocol::batch::{BATCH_MAX_BYTES, BatchEncoder, BatchHeader};
use protocol::key::{DeviceId, RecordKey, Seq};
use protocol::reading::{Battery, FixQuality, Measured, Position, Reading};
use protocol::record::{
    Alarm, AlarmKind, Anchor, BootRecord, Numbered, Record, ResetCause, Shock, TimeSource,
};
use protocol::units::{
    CentiCelsius, Dbm, Decimetres, DecimetresPerSecond, Latitude, Longitude, MilliG,
    MillimetresPerSecond, Milliseconds, Millivolts, Percent, Seconds, UptimeMs, UtcMs,
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;

use crate::ledger::Name;

/// Readings from one warm spell to the next.
pub const PERIOD_READINGS: u32 = 60;

/// Readings of a period that are warm: the middle ones.
pub const WARM_READINGS: std::ops::Range<u32> = 20..40;

/// Time between two readings of a device.
pub const INTERVAL_S: u32 = 60;

/// 2026-03-02T00:00:00Z: when every device boots.
pub const BOOT_UTC_MS: i64 = 1_772_409_600_000;

/// 2026-02-01T00:00:00Z: when the firmware says it was built.
const BUILD_UTC_MS: i64 = 1_769_904_000_000;

/// Records before the first reading: boot and anchor.
const PREAMBLE_RECORDS: u32 = 2;

/// Records of one boot, encoded and named.
#[derive(Clone, Debug)]
pub struct Payload {
    /// As it goes into the publication.
    pub bytes: Vec<u8>,
    /// What it carries.
    pub records: Vec<(Name, Record)>,
}

/// A stream of records.
#[derive(Debug)]
pub struct Device {
    id: DeviceId,
    epoch: u64,
    next_seq: u32,
    noise: Pcg32,
}

impl Device {
    /// Device number `index` of the fleet grown from `seed`.
    ///
    /// # Errors
    /// Never: the name made from an index is a device id.
    pub fn new(seed: u64, index: u32) -> Result<Self> {
        let mut noise = Pcg32::seed_from_u64(seed.wrapping_add(u64::from(index) << 32));
        Ok(Self {
            id: format!("load-{index:04}").parse()?,
            epoch: noise.random(),
            next_seq: 0,
            noise,
        })
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> &DeviceId {
        &self.id
    }

    /// The next `count` records as one payload.
    ///
    /// # Errors
    /// When they do not fit in one batch.
    pub fn batch(&mut self, count: u32) -> Result<Payload> {
        let seqs = self.next_seq..self.next_seq + count;
        let records: Vec<_> = seqs.map(|seq| (seq, self.record(seq))).collect();
        self.payload(&records)
    }

    /// A blow, `later` records after what it has sent so far: those are still on the device.
    ///
    /// # Errors
    /// Never: one record fits in a batch.
    pub fn blow(&mut self, later: u32) -> Result<Payload> {
        let seq = self.next_seq + later;
        let uptime = uptime(seq);
        let g = MilliG::saturating(40_000);
        let blow = Record::Alarm(Alarm {
            uptime,
            kind: AlarmKind::Shock,
            limit: 25_000,
            since: uptime,
            extreme: 40_000,
            count: 1,
            shock: Some(Shock {
                peak: [g, MilliG::saturating(0), MilliG::saturating(0)],
                duration: Some(Milliseconds::saturating(11)),
                delta_v: Some(MillimetresPerSecond::saturating(2_700)),
            }),
        });
        self.payload(&[(seq, blow)])
    }

    /// Records with their numbers; what it sends next comes behind them.
    fn payload(&mut self, numbered: &[(u32, Record)]) -> Result<Payload> {
        let first = RecordKey::new(self.epoch, 1, self.next_seq);
        let mut buffer = vec![0; BATCH_MAX_BYTES];
        let header = BatchHeader {
            epoch: first.epoch,
            boot: first.boot,
            oldest_pending: first,
        };
        let mut encoder = BatchEncoder::new(&mut buffer, header)
            .ok()
            .context("batch")?;
        let mut records = Vec::new();
        for (seq, record) in numbered.iter().copied() {
            let numbered = Numbered {
                seq: Seq(seq),
                record,
            };
            encoder.push(&numbered).ok().context("batch is full")?;
            records.push((self.name(seq), record));
            self.next_seq = seq + 1;
        }
        Ok(Payload {
            bytes: encoder.finish().to_vec(),
            records,
        })
    }

    fn name(&self, seq: u32) -> Name {
        Name {
            device: self.id.clone(),
            key: RecordKey::new(self.epoch, 1, seq),
        }
    }

    fn record(&mut self, seq: u32) -> Record {
        let uptime = uptime(seq);
        match seq {
            0 => Record::Boot(BootRecord {
                uptime,
                build_time: UtcMs::saturating(BUILD_UTC_MS),
                previous_last: None,
                cause: ResetCause::PowerOn,
                version: [0, 1, 0],
            }),
            1 => Record::Anchor(Anchor {
                uptime,
                utc: UtcMs::saturating(BOOT_UTC_MS + i64::from(INTERVAL_S) * 1_000),
                source: TimeSource::Gnss,
                uncertainty: Milliseconds::saturating(50),
                rollover_corrected: false,
            }),
            _ => Record::Reading(self.reading(seq, uptime)),
        }
    }

    fn reading(&mut self, seq: u32, uptime: UptimeMs) -> Reading {
        let jitter = self.noise.random_range(-20_i64..=20);
        let warm = is_warm(seq);
        let celsius = if warm { 1_200 } else { 400 } + jitter;
        let mut reading = Reading::empty(uptime);
        reading.position = Measured::Value(Position {
            latitude: Latitude::saturating(519_225_000 + jitter * 10),
            longitude: Longitude::saturating(44_791_000 - jitter * 10),
            accuracy: Decimetres::saturating(50),
            speed: DecimetresPerSecond::saturating(0),
            course: Measured::Missing(protocol::reading::Missing::NotSampled),
            quality: FixQuality::Gnss3d,
            satellites: 9,
            age: Seconds::saturating(1),
        });
        reading.temperatures[0] = Measured::Value(CentiCelsius::saturating(celsius));
        reading.battery = Measured::Value(Battery {
            voltage: Millivolts::saturating(3_900 + jitter),
            charge: Percent::saturating(88),
        });
        reading.radio = Measured::Value(Dbm::saturating(-90 + jitter));
        reading
    }
}

/// When a record is made.
fn uptime(seq: u32) -> UptimeMs {
    UptimeMs::saturating(i64::from(seq) * i64::from(INTERVAL_S) * 1_000)
}

/// Whether the reading with this sequence number is warm.
#[must_use]
pub fn is_warm(seq: u32) -> bool {
    let reading = seq.saturating_sub(PREAMBLE_RECORDS);
    WARM_READINGS.contains(&(reading % PERIOD_READINGS))
}

/// Warm spells that have both begun and ended within the first `records` records of a boot.
#[must_use]
pub const fn whole_spells(records: u32) -> u32 {
    let readings = records.saturating_sub(PREAMBLE_RECORDS);
    (readings + PERIOD_READINGS - WARM_READINGS.end - 1) / PERIOD_READINGS
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::batch::Batch;

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_they_decode_to_what_is_named() {
        let mut device = Device::new(7, 3).unwrap();
        let payload = device.batch(20).unwrap();
        assert_eq!(
            payload.bytes,
            Device::new(7, 3).unwrap().batch(20).unwrap().bytes
        );
        let batch = Batch::decode(&payload.bytes).unwrap();
        let decoded: Vec<_> = batch.iter().map(|entry| entry.numbered.record).collect();
        let named: Vec<_> = payload.records.iter().map(|(_, record)| *record).collect();
        assert_eq!(decoded, named);
    }

    #[test]
    fn a_spell_is_whole_when_a_cool_reading_has_followed_it() {
        assert!(is_warm(22) && is_warm(41) && !is_warm(21) && !is_warm(42));
        assert_eq!(whole_spells(42), 0);
        assert_eq!(whole_spells(43), 1);
        assert_eq!(whole_spells(102), 1);
        assert_eq!(whole_spells(103), 2);
    }
}
