//! The content of a simulated file, sector by sector.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::Result;

/// What a disk writes whole or not at all.
pub const SECTOR_BYTES: u64 = 512;

/// So many bytes.
pub type Sector = Vec<u8>;

/// A change of a file.
#[derive(Clone, Debug)]
pub enum Change {
    /// Bytes at an offset.
    Write(u64, Vec<u8>),
    /// Another length.
    SetLength(u64),
}

/// A file as it was found.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// In bytes.
    pub length: u64,
    /// The sectors that were ever written, by number.
    pub sectors: BTreeMap<u64, Sector>,
}

impl Change {
    /// The length behind it, when it was `before`.
    #[must_use]
    pub fn length_after(&self, before: u64) -> u64 {
        match self {
            Self::Write(offset, bytes) => before.max(offset + bytes.len() as u64),
            Self::SetLength(length) => *length,
        }
    }
}

impl Content {
    /// Takes a change.
    pub fn change(&mut self, change: &Change) {
        if let Change::Write(offset, bytes) = change {
            let end = offset + bytes.len() as u64;
            for number in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
                self.change_sector(change, number);
            }
        }
        self.length = change.length_after(self.length);
        self.clip();
    }

    /// Takes as much of a change as concerns one sector.
    pub fn change_sector(&mut self, change: &Change, number: u64) {
        let start = number * SECTOR_BYTES;
        match change {
            Change::Write(offset, bytes) => {
                let (from, to) = (
                    start.max(*offset),
                    (start + SECTOR_BYTES).min(offset + bytes.len() as u64),
                );
                if from < to {
                    let sector = self.sectors.entry(number).or_insert_with(blank);
                    let written = &bytes[place(from - offset)..place(to - offset)];
                    sector[place(from - start)..place(to - start)].copy_from_slice(written);
                }
            }
            Change::SetLength(length) if *length < start + SECTOR_BYTES => {
                if let Some(sector) = self.sectors.get_mut(&number) {
                    sector[place(length.saturating_sub(start))..].fill(0);
                }
            }
            Change::SetLength(_) => {}
        }
    }

    /// What lies behind the end is gone; it reads as zero when the file grows again.
    pub fn clip(&mut self) {
        let kept = self.length.div_ceil(SECTOR_BYTES);
        drop(self.sectors.split_off(&kept));
        let cut = Change::SetLength(self.length);
        if kept > 0 {
            self.change_sector(&cut, kept - 1);
        }
    }

    /// The whole of it.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; place(self.length)];
        for (number, sector) in &self.sectors {
            let from = place(number * SECTOR_BYTES);
            let to = bytes.len().min(from + sector.len());
            if from < to {
                bytes[from..to].copy_from_slice(&sector[..to - from]);
            }
        }
        bytes
    }

    /// Writes it to `path`, leaving holes where nothing was ever written.
    ///
    /// # Errors
    /// When the machine does not let it.
    pub fn write(&self, path: &Path) -> Result<()> {
        let file = fs::File::create(path)?;
        file.set_len(self.length)?;
        for (number, sector) in &self.sectors {
            let from = number * SECTOR_BYTES;
            let inside = place((self.length - from.min(self.length)).min(SECTOR_BYTES));
            file.write_all_at(&sector[..inside], from)?;
        }
        Ok(())
    }
}

/// A sector that was never written.
#[must_use]
pub fn blank() -> Sector {
    vec![0; place(SECTOR_BYTES)]
}

/// Simulated files are far smaller than the memory they are simulated in.
fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
