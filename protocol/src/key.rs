//! The name of a record, and its order.
//!
//! A device numbers everything it says: (epoch, boot, seq). The epoch is drawn at random when the
//! counter area of its flash is blank or damaged, boot counts resets within it and seq counts records
//! within a boot. With the device id that is the identity of a record for its whole life: journal
//! key, deduplication key, evidence in an event. Order is by key, never by wall time.

use core::fmt;
use core::str::FromStr;

/// Longest device id, in bytes: fits a topic level, a file name and a log line.
pub const DEVICE_ID_MAX_BYTES: usize = 64;

/// Name of a device: `[A-Za-z0-9_-]{1,64}`. Safe in a topic; it never becomes a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(heapless::String<DEVICE_ID_MAX_BYTES>);

/// Why a text is no device id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceIdError {
    /// No characters at all.
    Empty,
    /// More than [`DEVICE_ID_MAX_BYTES`].
    TooLong,
    /// A byte outside `[A-Za-z0-9_-]`, at this index.
    Character(usize),
}

impl fmt::Display for DeviceIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("device id is empty, need 1 to 64 of A-Z a-z 0-9 _ -"),
            Self::TooLong => f.write_str("device id is longer than 64 bytes"),
            Self::Character(index) => {
                write!(
                    f,
                    "device id has a character outside A-Z a-z 0-9 _ - at byte {index}"
                )
            }
        }
    }
}

impl core::error::Error for DeviceIdError {}

impl DeviceId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for DeviceId {
    type Err = DeviceIdError;

    fn from_str(text: &str) -> Result<Self, DeviceIdError> {
        if text.is_empty() {
            return Err(DeviceIdError::Empty);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if let Some(index) = text.bytes().position(|byte| !allowed(byte)) {
            return Err(DeviceIdError::Character(index));
        }
        heapless::String::try_from(text)
            .map(Self)
            .map_err(|_| DeviceIdError::TooLong)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A random number drawn when a device starts a new life of its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Counts resets within an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boot(pub u32);

/// Counts records within a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u32);

impl Boot {
    /// The boot after this one, or `None` when the counter is used up: then a new epoch is drawn.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl Seq {
    /// The record after this one, or `None` when the counter is used up: it never wraps.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

/// A record's full key within one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// Life of the counters.
    pub epoch: Epoch,
    /// Reset within the epoch.
    pub boot: Boot,
    /// Record within the boot.
    pub seq: Seq,
}

impl RecordKey {
    /// The key of `(epoch, boot, seq)`.
    #[must_use]
    pub const fn new(epoch: u64, boot: u32, seq: u32) -> Self {
        Self {
            epoch: Epoch(epoch),
            boot: Boot(boot),
            seq: Seq(seq),
        }
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}/{}/{}", self.epoch.0, self.boot.0, self.seq.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_id_is_refused_with_the_place_of_the_fault() {
        assert_eq!(
            "../etc".parse::<DeviceId>(),
            Err(DeviceIdError::Character(0))
        );
        assert_eq!("".parse::<DeviceId>(), Err(DeviceIdError::Empty));
        let long = "a".repeat(65);
        assert_eq!(long.parse::<DeviceId>(), Err(DeviceIdError::TooLong));
        assert_eq!(
            "truck-7_A".parse::<DeviceId>().unwrap().as_str(),
            "truck-7_A"
        );
    }

    #[test]
    fn counters_end_instead_of_wrapping() {
        assert_eq!(Seq(7).next(), Some(Seq(8)));
        assert_eq!(Seq(u32::MAX).next(), None);
        assert_eq!(Boot(u32::MAX).next(), None);
    }

    #[test]
    fn keys_order_by_epoch_then_boot_then_seq() {
        assert!(RecordKey::new(1, 9, 9) < RecordKey::new(2, 0, 0));
        assert!(RecordKey::new(1, 1, 9) < RecordKey::new(1, 2, 0));
    }
}
