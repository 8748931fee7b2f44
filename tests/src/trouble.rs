//! A device in trouble: every kind of record with every kind of value, numbers that never come, losses that
//! it tells, payloads that are no records. It knows exactly what a gateway must say of it.
//!
//! It waits for each PUBACK before it goes on, so nothing of it is in flight when the gateway is killed:
//! a refused payload has no key by which a second copy could be told from the first.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use protocol::batch::{BATCH_MAX_BYTES, BatchEncoder, BatchHeader};
use protocol::downlink::Settings;
use protocol::key::{DeviceId, RecordKey, Seq};
use protocol::reading::{
    Battery, Door, FixQuality, Measured, Missing, Position, Reading, TEMPERATURE_PROBES_MAX,
};
use protocol::record::{
    Alarm, AlarmKind, Anchor, BootRecord, Loss, LossReason, Numbered, Record, ResetCause,
    SettingsRecord, Shock, TimeSource,
};
use protocol::units::{Unit, UptimeMs, UtcMs};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;

use crate::device::{BOOT_UTC_MS, INTERVAL_S};
use crate::ledger::{Ledger, Name};
use crate::mqtt::{Client, Incoming, Login, Version};

/// Its name; it rides with no shipment, so its wild values raise no events.
const NAME: &str = "trouble-0000";

/// Records in one of its batches, at least and at most.
const BATCH_RECORDS: std::ops::Range<u32> = 3..12;

/// Numbers that never come, at each occasion.
const GAP_NUMBERS: std::ops::Range<u32> = 1..5;

/// Numbers of a boot before, as the device says; none of them ever comes.
const PREVIOUS_NUMBERS: u32 = 78;

/// First byte of a payload that is no CBOR: a break without a beginning.
const NO_CBOR: u8 = 0xff;

/// Offset of the wire version in a batch, and one that nobody speaks.
const WIRE_VERSION: (usize, u8) = (1, 9);

/// What the gateway must say of the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Numbers that the device has told to be lost.
    pub lost: u64,
    /// Numbers that it says it still holds.
    pub pending: u64,
    /// Numbers that nobody explains.
    pub unexplained: u64,
    /// Payloads that are no CBOR.
    pub undecodable: u64,
    /// Payloads of a wire version that nobody speaks.
    pub wire_version: u64,
    /// Bytes of all refused payloads.
    pub refused_bytes: u64,
}

/// The device.
#[derive(Debug)]
pub struct Trouble {
    id: DeviceId,
    epoch: u64,
    next_seq: u32,
    packet_id: u16,
    noise: Pcg32,
    known: Known,
}

impl Trouble {
    /// The device grown from `seed`.
    ///
    /// # Errors
    /// Never: its name is a device id.
    pub fn new(seed: u64) -> Result<Self> {
        let mut noise = Pcg32::seed_from_u64(seed);
        Ok(Self {
            id: NAME.parse()?,
            epoch: noise.random(),
            next_seq: 0,
            packet_id: 0,
            noise,
            known: Known {
                unexplained: PREVIOUS_NUMBERS.into(),
                ..Known::default()
            },
        })
    }

    /// What the gateway must say by now.
    #[must_use]
    pub const fn known(&self) -> Known {
        self.known
    }

    /// Records around a gap, a loss and how it was told, and two payloads to refuse.
    ///
    /// # Errors
    /// When the gateway does not acknowledge.
    pub fn stir(&mut self, gateway: SocketAddr, ledger: &Ledger) -> Result<()> {
        let mut client = self.connect(gateway)?;
        self.batch(&mut client, ledger, None, None)?;
        self.known.unexplained += u64::from(self.skip());
        self.batch(&mut client, ledger, None, None)?;
        let first = self.key();
        let count = self.skip();
        self.known.lost += u64::from(count);
        let loss = self.loss(first, count);
        self.batch(&mut client, ledger, None, Some(loss))?;
        self.refused(&mut client)?;
        Ok(client.disconnect()?)
    }

    /// Publish newer records and say that some older ones are still queued.
    ///
    /// # Errors
    /// When the gateway does not acknowledge.
    pub fn hold_back(&mut self, gateway: SocketAddr, ledger: &Ledger) -> Result<()> {
        let mut client = self.connect(gateway)?;
        let oldest = self.key();
        self.known.pending += u64::from(self.skip());
        self.batch(&mut client, ledger, Some(oldest), None)?;
        Ok(client.disconnect()?)
    }

    fn connect(&self, gateway: SocketAddr) -> Result<Client> {
        let login = Login {
            client_id: self.id.as_str(),
            version: Version::V5,
            clean: true,
            credentials: None,
        };
        Client::connect(gateway, &login)
    }

    const fn key(&self) -> RecordKey {
        RecordKey::new(self.epoch, 1, self.next_seq)
    }

    fn skip(&mut self) -> u32 {
        let count = self.noise.random_range(GAP_NUMBERS);
        self.next_seq += count;
        count
    }

    fn loss(&self, first: RecordKey, count: u32) -> Record {
        Record::Loss(Loss {
            uptime: uptime(self.next_seq),
            first,
            last: RecordKey::new(self.epoch, 1, first.seq.0 + count - 1),
            count,
            reason: LossReason::RoutineFull,
        })
    }

    /// Some records, `first` before all others, entered in the ledger and acknowledged.
    fn batch(
        &mut self,
        client: &mut Client,
        ledger: &Ledger,
        oldest_pending: Option<RecordKey>,
        first: Option<Record>,
    ) -> Result<()> {
        let start = self.key();
        let count = self.noise.random_range(BATCH_RECORDS);
        let drawn: Vec<_> = (0..count)
            .map(|index| self.draw(self.next_seq + index))
            .collect();
        let mut records: Vec<_> = (start.seq.0..).zip(drawn).collect();
        if let (Some(record), Some((_, place))) = (first, records.first_mut()) {
            *place = record;
        }
        self.next_seq += count;
        let bytes = encoded(start, oldest_pending.unwrap_or(start), &records)?;
        let names = |seq| Name {
            device: self.id.clone(),
            key: RecordKey::new(self.epoch, 1, seq),
        };
        for (seq, record) in &records {
            ledger.sent(names(*seq), *record)?;
        }
        let names: Vec<_> = records.iter().map(|(seq, _)| names(*seq)).collect();
        self.publish(client, &bytes)?;
        names.iter().try_for_each(|name| ledger.acknowledged(name))
    }

    /// A payload that is no CBOR, and one of a version to come.
    fn refused(&mut self, client: &mut Client) -> Result<()> {
        let mut noise: Vec<u8> = (0..self.noise.random_range(1..200))
            .map(|_| self.noise.random())
            .collect();
        noise[0] = NO_CBOR;
        let start = self.key();
        let mut later = encoded(start, start, &[(start.seq.0, self.draw(start.seq.0))])?;
        let (offset, version) = WIRE_VERSION;
        later[offset] = version;
        self.known.undecodable += 1;
        self.known.wire_version += 1;
        for payload in [noise, later] {
            self.known.refused_bytes += payload.len() as u64;
            self.publish(client, &payload)?;
        }
        Ok(())
    }

    /// Publish and wait for the success PUBACK: a refused payload has one too, for it is kept.
    fn publish(&mut self, client: &mut Client, payload: &[u8]) -> Result<()> {
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        let topic = format!("sc/1/{}/readings", self.id);
        client.publish(&topic, self.packet_id, payload)?;
        loop {
            if let Incoming::PubAck { packet_id, reason } = client.receive()? {
                ensure!(packet_id == self.packet_id, "PUBACK of {packet_id}");
                ensure!(reason < 0x80, "PUBACK with {reason:#04x}");
                return Ok(());
            }
        }
    }

    fn draw(&mut self, seq: u32) -> Record {
        let at = uptime(seq);
        match (seq, self.noise.random_range(0..10)) {
            (0, _) => Record::Boot(BootRecord {
                uptime: at,
                build_time: UtcMs::saturating(BOOT_UTC_MS),
                previous_last: PREVIOUS_NUMBERS.checked_sub(1).map(Seq),
                cause: self.one_of([ResetCause::BrownOut, ResetCause::Watchdog, ResetCause::Pin]),
                version: self.noise.random(),
            }),
            (_, 0) => Record::Anchor(self.anchor(at)),
            (_, 1) => Record::Settings(self.settings(at)),
            (_, 2 | 3) => Record::Alarm(self.alarm(at)),
            _ => Record::Reading(self.reading(at)),
        }
    }

    fn reading(&mut self, at: UptimeMs) -> Reading {
        let mut reading = Reading::empty(at);
        let position = self.position();
        reading.position = self.perhaps(position);
        for probe in 0..TEMPERATURE_PROBES_MAX {
            reading.temperatures[probe] = self.measured(-4_000..6_000);
        }
        reading.humidity = self.measured(0..1_000);
        let battery = Battery {
            voltage: self.unit(2_500..4_300),
            charge: self.unit(0..100),
        };
        reading.battery = self.perhaps(battery);
        reading.tilt = self.measured(0..180);
        reading.light = self.measured(0..200_000);
        let door = self.one_of([Door::Closed, Door::Open]);
        reading.door = self.perhaps(door);
        reading.radio = self.measured(-140..-40);
        reading
    }

    fn position(&mut self) -> Position {
        Position {
            latitude: self.unit(-900_000_000..900_000_000),
            longitude: self.unit(-1_800_000_000..1_800_000_000),
            accuracy: self.unit(10..5_000),
            speed: self.unit(0..400),
            course: self.measured(0..360),
            quality: self.one_of([
                FixQuality::Gnss2d,
                FixQuality::Gnss3d,
                FixQuality::Differential,
                FixQuality::Rtk,
                FixQuality::DeadReckoning,
            ]),
            satellites: self.noise.random_range(0..40),
            age: self.unit(0..600),
        }
    }

    fn alarm(&mut self, at: UptimeMs) -> Alarm {
        let probe = self.noise.random_range(0..4);
        let kind = self.one_of([
            AlarmKind::TemperatureAbove(probe),
            AlarmKind::TemperatureBelow(probe),
            AlarmKind::HumidityAbove,
            AlarmKind::HumidityBelow,
            AlarmKind::Shock,
            AlarmKind::FreeFall,
            AlarmKind::Tilt,
            AlarmKind::Light,
            AlarmKind::Door,
            AlarmKind::Battery,
            AlarmKind::SensorFault,
        ]);
        let shock = Shock {
            peak: [(); 3].map(|()| self.unit(-90_000..90_000)),
            duration: self.chance().then(|| self.unit(1..500)),
            delta_v: self.chance().then(|| self.unit(1..9_000)),
        };
        Alarm {
            uptime: at,
            kind,
            limit: self.noise.random_range(-3_000..40_000),
            since: at,
            extreme: self.noise.random_range(-3_000..90_000),
            count: self.noise.random_range(1..9),
            shock: (kind == AlarmKind::Shock).then_some(shock),
        }
    }

    fn anchor(&mut self, at: UptimeMs) -> Anchor {
        let elapsed_ms = at.get().cast_signed();
        Anchor {
            uptime: at,
            utc: UtcMs::saturating(BOOT_UTC_MS + elapsed_ms),
            source: self.one_of([TimeSource::Gnss, TimeSource::ClockChip, TimeSource::Gateway]),
            uncertainty: self.unit(1..5_000),
            rollover_corrected: self.chance(),
        }
    }

    fn settings(&mut self, at: UptimeMs) -> SettingsRecord {
        SettingsRecord {
            uptime: at,
            settings: Settings {
                version: self.noise.random_range(1..99),
                sample_moving: self.unit(10..300),
                temperature_above: self.chance().then(|| self.unit(500..900)),
                shock_peak: self.unit(5_000..50_000),
                light_above: self.chance().then(|| self.unit(1..1_000)),
                tilt_above: self.chance().then(|| self.unit(10..90)),
                ..Settings::DEFAULT
            },
        }
    }

    fn unit<T: Unit>(&mut self, range: std::ops::Range<i64>) -> T {
        let raw = self.noise.random_range(range);
        T::from_raw(raw).expect("ranges of this file lie within those of the units")
    }

    fn measured<T: Unit>(&mut self, range: std::ops::Range<i64>) -> Measured<T> {
        let value = self.unit(range);
        self.perhaps(value)
    }

    /// The value, or one of the reasons for there being none.
    fn perhaps<T>(&mut self, value: T) -> Measured<T> {
        let why = self.one_of([
            Missing::NotFitted,
            Missing::NotSampled,
            Missing::NoFix,
            Missing::SensorFault,
            Missing::OutOfRange,
        ]);
        if self.chance() {
            Measured::Value(value)
        } else {
            Measured::Missing(why)
        }
    }

    fn chance(&mut self) -> bool {
        self.noise.random()
    }

    fn one_of<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> T {
        choices[self.noise.random_range(0..N)]
    }
}

const fn uptime(seq: u32) -> UptimeMs {
    UptimeMs::saturating(seq as i64 * INTERVAL_S as i64 * 1_000)
}

fn encoded(
    first: RecordKey,
    oldest_pending: RecordKey,
    records: &[(u32, Record)],
) -> Result<Vec<u8>> {
    let mut buffer = vec![0; BATCH_MAX_BYTES];
    let header = BatchHeader {
        epoch: first.epoch,
        boot: first.boot,
        oldest_pending,
    };
    let mut encoder = BatchEncoder::new(&mut buffer, header)
        .ok()
        .context("batch")?;
    for (seq, record) in records {
        let (seq, record) = (Seq(*seq), *record);
        encoder
            .push(&Numbered { seq, record })
            .ok()
            .context("batch is full")?;
    }
    Ok(encoder.finish().to_vec())
}
