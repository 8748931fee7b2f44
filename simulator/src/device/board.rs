//! The board of a simulated tracker: sensors that measure the world, flash in memory or in a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use firmware::port::{
    ClockChip, Entropy, Flash, FlashError, FlashOperation, PAGE_BYTES, Page, Sample, Sensors,
};
use protocol::reading::{Battery, Door, Measured};
use protocol::units::{CentiCelsius, Dbm, DeciPercent, Millivolts, Percent, UptimeMs, UtcMs};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;

use crate::world::noise::Channel;
use crate::world::{Tracker, World};

/// Mean received power, and how far it swings, in dBm.
const RADIO_DBM: (f64, f64) = (-92.0, 14.0);

/// How fast reception and humidity change.
const WEATHER_KNOT_MS: i64 = 10 * 60_000;

/// Mean relative humidity in a closed box, and how far it swings, in tenths of a percent.
const HUMIDITY_DECI: (f64, f64) = (550.0, 80.0);

/// What erased flash reads as.
const ERASED: u8 = 0xFF;

/// Sensors, flash and entropy of one tracker.
#[derive(Debug)]
pub struct SimBoard {
    world: Arc<World>,
    index: usize,
    flash: FlashMemory,
    entropy: Pcg64,
}

/// Where the pages of the flash are.
#[derive(Debug)]
pub enum FlashMemory {
    /// Gone with the process.
    Memory(Box<[[u8; PAGE_BYTES]; Page::ALL.len()]>),
    /// Page after page in a file.
    File(File),
}

impl FlashMemory {
    /// Erased flash that is gone with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::Memory(Box::new([[ERASED; PAGE_BYTES]; Page::ALL.len()]))
    }

    /// Flash in the file at `path`, made and erased when there is none.
    ///
    /// # Errors
    /// When the file cannot be opened or is not of the flash's size and cannot be made so.
    pub fn in_file(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let bytes = PAGE_BYTES * Page::ALL.len();
        if file.metadata()?.len() != bytes as u64 {
            file.write_all(&vec![ERASED; bytes])?;
            file.set_len(bytes as u64)?;
            file.sync_all()?;
        }
        Ok(Self::File(file))
    }

    fn fetch(&mut self, page: Page, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Memory(pages) => {
                let bytes = pages[page as usize].get(..buffer.len());
                buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::InvalidInput)?);
                Ok(())
            }
            Self::File(file) => {
                file.seek(offset(page))?;
                file.read_exact(buffer)
            }
        }
    }

    /// Returns only when the bytes survive a power cut, as far as a file can promise.
    fn store(&mut self, page: Page, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Memory(pages) => {
                let target = pages[page as usize].get_mut(..bytes.len());
                target
                    .ok_or(io::ErrorKind::InvalidInput)?
                    .copy_from_slice(bytes);
                Ok(())
            }
            Self::File(file) => {
                file.seek(offset(page))?;
                file.write_all(bytes)?;
                file.sync_data()
            }
        }
    }
}

const fn offset(page: Page) -> SeekFrom {
    SeekFrom::Start((page as usize * PAGE_BYTES) as u64)
}

impl SimBoard {
    /// The board of the tracker with this index. `life` makes its entropy differ from that of the
    /// same tracker in another life of the same world.
    #[must_use]
    pub fn new(world: Arc<World>, index: usize, flash: FlashMemory, life: u64) -> Self {
        let seed = world.scenario.seed ^ life.rotate_left(32) ^ ((index as u64) << 16);
        Self {
            world,
            index,
            flash,
            entropy: Pcg64::seed_from_u64(seed),
        }
    }

    fn tracker(&self) -> &Tracker {
        &self.world.trackers[self.index]
    }
}

/// The world's second at a tracker's uptime.
pub(crate) fn second_at(tracker: &Tracker, uptime: UptimeMs) -> f64 {
    tracker.boot_s + uptime.get() as f64 / 1_000.0
}

impl Sensors for SimBoard {
    fn sample(&mut self, now: UptimeMs) -> Sample {
        let tracker = self.tracker();
        let at_s = second_at(tracker, now);
        let at_ms = self.world.utc_at(at_s).get();
        let wander = |channel, (mean, swing): (f64, f64)| {
            mean + swing * tracker.noise.wander(channel, at_ms, WEATHER_KNOT_MS)
        };
        let celsius = self.world.probe_celsius(tracker, at_s);
        let open = self.world.shipment_of(tracker).air.door_open_at(at_s);
        let mut sample = Sample::NOTHING_FITTED;
        sample.temperatures[0] = Measured::Value(CentiCelsius::saturating(whole(celsius * 100.0)));
        let humidity = wander(Channel::Humidity, HUMIDITY_DECI);
        sample.humidity = Measured::Value(DeciPercent::saturating(whole(humidity)));
        sample.battery = Measured::Value(Battery {
            voltage: Millivolts::saturating(whole(tracker.cell.volts_at(at_s) * 1_000.0)),
            // A gauge never shows more than is there.
            charge: Percent::saturating(whole(tracker.cell.percent_at(at_s).floor())),
        });
        sample.door = Measured::Value(if open { Door::Open } else { Door::Closed });
        sample.radio = Measured::Value(Dbm::saturating(whole(wander(Channel::Radio, RADIO_DBM))));
        sample
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "units saturate at their ranges, far inside those of an i64"
)]
fn whole(value: f64) -> i64 {
    value.round() as i64
}

impl Flash for SimBoard {
    fn read(&mut self, page: Page, buffer: &mut [u8]) -> Result<(), FlashError> {
        self.flash.read(page, buffer)
    }

    fn erase(&mut self, page: Page) -> Result<(), FlashError> {
        self.flash.erase(page)
    }

    fn write(&mut self, page: Page, bytes: &[u8]) -> Result<(), FlashError> {
        self.flash.write(page, bytes)
    }
}

impl Flash for FlashMemory {
    fn read(&mut self, page: Page, buffer: &mut [u8]) -> Result<(), FlashError> {
        let done = self.fetch(page, buffer);
        done.map_err(|source| failed(page, FlashOperation::Read, &source))
    }

    fn erase(&mut self, page: Page) -> Result<(), FlashError> {
        let done = self.store(page, &[ERASED; PAGE_BYTES]);
        done.map_err(|source| failed(page, FlashOperation::Erase, &source))
    }

    fn write(&mut self, page: Page, bytes: &[u8]) -> Result<(), FlashError> {
        let done = self.store(page, bytes);
        done.map_err(|source| failed(page, FlashOperation::Write, &source))
    }
}

/// The port cannot carry the cause, so it is told here.
fn failed(page: Page, operation: FlashOperation, source: &io::Error) -> FlashError {
    tracing::error!(?page, ?operation, %source, "simulated flash failed");
    FlashError { page, operation }
}

impl Entropy for SimBoard {
    fn random(&mut self) -> u64 {
        self.entropy.next_u64()
    }
}

impl ClockChip for SimBoard {
    fn utc(&mut self) -> Option<UtcMs> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn board(flash: FlashMemory) -> SimBoard {
        let world = World::generate(&Scenario::default()).unwrap();
        SimBoard::new(Arc::new(world), 0, flash, 0)
    }

    #[test]
    fn flash_in_a_file_survives_the_board() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.flash");
        let mut first = board(FlashMemory::in_file(&path).unwrap());
        first.write(Page::SettingsB, &[1, 2, 3, 4]).unwrap();
        drop(first);
        let mut second = board(FlashMemory::in_file(&path).unwrap());
        let mut read = [0; 8];
        second.read(Page::SettingsB, &mut read).unwrap();
        assert_eq!(read, [1, 2, 3, 4, 0xFF, 0xFF, 0xFF, 0xFF]);
        second.erase(Page::SettingsB).unwrap();
        second.read(Page::SettingsB, &mut read).unwrap();
        assert_eq!(read, [0xFF; 8]);
    }

    #[test]
    fn a_sample_is_the_truth_to_within_the_probes_error() {
        let mut board = board(FlashMemory::in_memory());
        let now = UptimeMs::saturating(3_600_000);
        let sample = board.sample(now);
        let tracker = board.tracker().clone();
        let truth = &board.world.shipment_of(&tracker).air;
        let truth = truth.celsius_at(second_at(&tracker, now));
        let celsius = sample.temperatures[0].value().unwrap().celsius();
        assert!((celsius - truth).abs() <= board.world.scenario.temperature.probe_noise_c + 0.005);
        assert!(sample.temperatures[1].value().is_none());
    }
}
