//! A small value kept in two pages of flash, so that a power cut leaves the old or the new one.
//!
//! ```text
//!   0      4            8         12                 12+n   padded to 4
//!   | SC01 | generation | length n | payload, n bytes | 0..3 | CRC-32 of all before |
//! ```
//! All little-endian. The valid page with the higher generation counts; the other is written next.

use crate::port::{Flash, PAGE_BYTES, Page};

const MAGIC: [u8; 4] = *b"SC01";
const HEADER_BYTES: usize = 12;
const CRC_BYTES: usize = 4;

/// Largest value, in bytes.
pub const VALUE_MAX_BYTES: usize = PAGE_BYTES - HEADER_BYTES - CRC_BYTES;

/// A value as it is kept.
pub type Value = heapless::Vec<u8, VALUE_MAX_BYTES>;

/// Two pages that hold one value.
#[derive(Clone, Debug)]
pub struct Slot {
    pages: [Page; 2],
    /// Generation last written, and which page holds it.
    newest: Option<(u32, usize)>,
}

/// What was found in flash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The newest valid value.
    pub value: Option<Value>,
    /// A page holds something that is not a value: a torn write, or decay.
    pub damaged: bool,
}

/// What one page holds.
#[expect(
    clippy::large_enum_variant,
    reason = "lives for a moment on the stack; no allocator to box with"
)]
enum Content {
    Blank,
    Damaged,
    Value(u32, Value),
}

impl Slot {
    /// Look at both pages.
    pub fn open<F: Flash>(pages: [Page; 2], flash: &mut F) -> (Self, Found) {
        let mut slot = Self {
            pages,
            newest: None,
        };
        let mut found = Found {
            value: None,
            damaged: false,
        };
        for (index, page) in pages.into_iter().enumerate() {
            match content(page, flash) {
                Content::Blank => {}
                Content::Damaged => found.damaged = true,
                Content::Value(generation, value) => {
                    if slot.newest.is_none_or(|(known, _)| known < generation) {
                        slot.newest = Some((generation, index));
                        found.value = Some(value);
                    }
                }
            }
        }
        (slot, found)
    }

    /// Make `value` the newest; true when it was read back as written.
    #[must_use]
    pub fn write<F: Flash>(&mut self, value: &[u8], flash: &mut F) -> bool {
        let (generation, index) = self.newest.map_or((1, 0), |(generation, index)| {
            (generation.saturating_add(1), 1 - index)
        });
        let page = self.pages[index];
        let Some(bytes) = encode(generation, value) else {
            return false;
        };
        let written = flash.erase(page).is_ok() && flash.write(page, &bytes).is_ok();
        let good = written
            && matches!(content(page, flash), Content::Value(read, kept)
                if read == generation && kept == value);
        if good {
            self.newest = Some((generation, index));
        }
        good
    }
}

fn encode(generation: u32, value: &[u8]) -> Option<heapless::Vec<u8, PAGE_BYTES>> {
    let length = u32::try_from(value.len()).ok()?;
    let mut bytes = heapless::Vec::new();
    bytes.extend_from_slice(&MAGIC).ok()?;
    bytes.extend_from_slice(&generation.to_le_bytes()).ok()?;
    bytes.extend_from_slice(&length.to_le_bytes()).ok()?;
    bytes.extend_from_slice(value).ok()?;
    bytes.resize_default(bytes.len().next_multiple_of(4)).ok()?;
    let sum = crc32(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes()).ok()?;
    Some(bytes)
}

fn content<F: Flash>(page: Page, flash: &mut F) -> Content {
    let mut bytes = [0; PAGE_BYTES];
    if flash.read(page, &mut bytes).is_err() {
        return Content::Damaged;
    }
    let blank = |filler: u8| bytes.iter().all(|byte| *byte == filler);
    if blank(0xff) || blank(0) {
        return Content::Blank;
    }
    decode(&bytes).map_or(Content::Damaged, |(generation, value)| {
        Content::Value(generation, value)
    })
}

fn decode(bytes: &[u8]) -> Option<(u32, Value)> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (generation, rest) = word(rest)?;
    let (length, rest) = word(rest)?;
    let length = usize::try_from(length).ok()?;
    let payload = rest.get(..length)?;
    let padded = HEADER_BYTES + length.next_multiple_of(4);
    let (sum, _) = word(bytes.get(padded..)?)?;
    let valid = crc32(bytes.get(..padded)?) == sum;
    let value = Value::from_slice(payload).ok()?;
    valid.then_some((generation, value))
}

fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*word), rest))
}

/// CRC-32 as in Ethernet and zip (reflected polynomial 0xEDB88320), a bit at a time: the values are
/// small and rare.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::port::{FlashError, FlashOperation};

    /// Flash in memory that loses power after `budget` more bytes written or pages erased.
    #[derive(Clone, Debug)]
    pub(crate) struct MemoryFlash {
        pub(crate) pages: [[u8; PAGE_BYTES]; 4],
        pub(crate) budget: usize,
    }

    impl MemoryFlash {
        pub(crate) const fn blank() -> Self {
            Self {
                pages: [[0xff; PAGE_BYTES]; 4],
                budget: usize::MAX,
            }
        }

        fn spend(&mut self, page: Page, operation: FlashOperation) -> Result<(), FlashError> {
            let rest = self.budget.checked_sub(1);
            self.budget = rest.ok_or(FlashError { page, operation })?;
            Ok(())
        }
    }

    impl Flash for MemoryFlash {
        fn read(&mut self, page: Page, buffer: &mut [u8]) -> Result<(), FlashError> {
            buffer.copy_from_slice(&self.pages[page as usize][..buffer.len()]);
            Ok(())
        }

        fn erase(&mut self, page: Page) -> Result<(), FlashError> {
            self.spend(page, FlashOperation::Erase)?;
            self.pages[page as usize].fill(0xff);
            Ok(())
        }

        fn write(&mut self, page: Page, bytes: &[u8]) -> Result<(), FlashError> {
            assert_eq!(bytes.len() % 4, 0);
            for (index, byte) in bytes.iter().enumerate() {
                self.spend(page, FlashOperation::Write)?;
                // NOR flash only clears bits.
                self.pages[page as usize][index] &= byte;
            }
            Ok(())
        }
    }

    const PAGES: [Page; 2] = [Page::CounterA, Page::CounterB];

    #[test]
    fn the_checksum_is_that_of_the_catalogue() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn the_newest_of_two_values_counts() {
        let mut flash = MemoryFlash::blank();
        let (mut slot, found) = Slot::open(PAGES, &mut flash);
        assert_eq!((found.value, found.damaged), (None, false));
        for value in [&b"one"[..], b"two", b"three"] {
            assert!(slot.write(value, &mut flash));
        }
        let (_, found) = Slot::open(PAGES, &mut flash);
        assert_eq!(found.value.as_deref(), Some(&b"three"[..]));
    }

    #[test]
    fn a_power_cut_at_any_byte_leaves_the_old_or_the_new_value() {
        let mut before = MemoryFlash::blank();
        let (mut slot, _) = Slot::open(PAGES, &mut before);
        assert!(slot.write(b"zero", &mut before) && slot.write(b"old", &mut before));
        for budget in 0..40 {
            let mut flash = before.clone();
            flash.budget = budget;
            let (mut slot, _) = Slot::open(PAGES, &mut flash);
            let written = slot.write(b"new", &mut flash);
            let (_, found) = Slot::open(PAGES, &mut flash);
            let value = found.value.unwrap();
            let expected: &[u8] = if written { b"new" } else { b"old" };
            // A cut after the last byte leaves the new value although nobody was told.
            assert!(
                value == expected || (value == b"new" && budget >= 21),
                "{budget}"
            );
        }
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused() {
        let mut flash = MemoryFlash::blank();
        let (mut slot, _) = Slot::open(PAGES, &mut flash);
        assert!(slot.write(&[7; VALUE_MAX_BYTES], &mut flash));
        assert!(!slot.write(&[7; VALUE_MAX_BYTES + 1], &mut flash));
    }
}
