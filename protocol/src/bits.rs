//! Integers side by side without regard to bytes, from the highest bit of the first byte on.
//!
//! ```text
//! order k   v = zigzag(difference) + 2^k, of n bits: n - 1 - k zeros, then v
//!           order 0: 0 is `1`, -1 is `010`, 1 is `011`, -2 is `00100`
//!           order 3: 0 is `1000`, -4 is `1111`, 4 is `010000`
//! ```
//!
//! This is the exponential Golomb code: a value near 2^k takes about k bits, one twice as large two
//! more. The rest of the last byte is zeros.

use crate::wire::{Fault, Full, WireError, error};

/// Room for one difference, in bytes: a routine one takes about 10. What does not fit stands absolute.
pub(crate) const BITS_MAX_BYTES: usize = 64;

/// Bits of the largest value: 2^40 is some way above the greatest difference of coordinates, and of
/// uptimes it is 17 years.
const VALUE_BITS_MAX: u32 = 41;

/// Writes bits into a buffer of its own.
pub(crate) struct BitWriter {
    bytes: [u8; BITS_MAX_BYTES],
    length: usize,
}

impl BitWriter {
    /// No bits yet.
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; BITS_MAX_BYTES],
            length: 0,
        }
    }

    /// The lowest `width` bits of `value`, the highest of them first.
    pub(crate) fn bits(&mut self, value: u64, width: u32) -> Result<(), Full> {
        for shift in (0..width).rev() {
            let byte = self.bytes.get_mut(self.length / 8).ok_or(Full)?;
            let bit = u8::from(value >> shift & 1 != 0);
            *byte |= bit << (7 - self.length % 8);
            self.length += 1;
        }
        Ok(())
    }

    /// One bit.
    pub(crate) fn flag(&mut self, value: bool) -> Result<(), Full> {
        self.bits(u64::from(value), 1)
    }

    /// A difference, in the code of this order.
    pub(crate) fn difference(&mut self, value: i64, order: u32) -> Result<(), Full> {
        let value = zigzag(value).checked_add(1 << order).ok_or(Full)?;
        let width = u64::BITS - value.leading_zeros();
        if width > VALUE_BITS_MAX {
            return Err(Full);
        }
        self.bits(0, width - 1 - order)?;
        self.bits(value, width)
    }

    /// Whole bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length.div_ceil(8)]
    }
}

/// Reads what [`BitWriter`] wrote.
pub(crate) struct BitReader<'b> {
    bytes: &'b [u8],
    position: usize,
    offset: usize,
}

impl<'b> BitReader<'b> {
    /// A reader at the start of `bytes`, which stand at `offset` of the payload.
    pub(crate) const fn new(bytes: &'b [u8], offset: usize) -> Self {
        Self {
            bytes,
            position: 0,
            offset,
        }
    }

    /// An unsigned integer of `width` bits.
    pub(crate) fn bits(&mut self, what: &'static str, width: u32) -> Result<u64, WireError> {
        let mut value = 0;
        for _ in 0..width {
            value = value << 1 | u64::from(self.flag(what)?);
        }
        Ok(value)
    }

    /// One bit.
    pub(crate) fn flag(&mut self, what: &'static str) -> Result<bool, WireError> {
        let byte = self.bytes.get(self.position / 8);
        let byte = byte.ok_or(error(what, self.at(), Fault::Truncated))?;
        let flag = byte >> (7 - self.position % 8) & 1 != 0;
        self.position += 1;
        Ok(flag)
    }

    /// A difference, in the code of this order.
    pub(crate) fn difference(&mut self, what: &'static str, order: u32) -> Result<i64, WireError> {
        let mut width = order;
        while !self.flag(what)? {
            width += 1;
            if width == VALUE_BITS_MAX {
                let max = i64::from(VALUE_BITS_MAX);
                let range = Fault::Range {
                    got: i128::from(max) + 1,
                    min: 1,
                    max,
                };
                return Err(error(what, self.at(), range));
            }
        }
        let value = 1 << width | self.bits(what, width)?;
        Ok(unzigzag(value - (1 << order)))
    }

    /// Nothing may be left but the zeros that fill the last byte.
    pub(crate) fn end(mut self) -> Result<(), WireError> {
        let bytes = self.bytes.len() - self.position.div_ceil(8);
        if bytes > 0 {
            return Err(error("difference", self.at(), Fault::Trailing { bytes }));
        }
        let at = self.at();
        let width = (self.bytes.len() * 8 - self.position) as u32;
        match self.bits("filling", width)? {
            0 => Ok(()),
            got => {
                let got = i128::from(got);
                let range = Fault::Range {
                    got,
                    min: 0,
                    max: 0,
                };
                Err(error("filling", at, range))
            }
        }
    }

    /// Offset of the next bit's byte in the payload.
    const fn at(&self) -> usize {
        self.offset + self.position / 8
    }
}

/// 0, -1, 1, -2, 2 ... as 0, 1, 2, 3, 4 ...
const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
const fn unzigzag(code: u64) -> i64 {
    (code >> 1) as i64 ^ -((code & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_differences_have_the_bits_of_the_description() {
        for (value, order, bits) in [
            (0, 0, "1"),
            (-1, 0, "010"),
            (1, 0, "011"),
            (-2, 0, "00100"),
            (0, 3, "1000"),
            (-4, 3, "1111"),
            (4, 3, "010000"),
        ] {
            let mut writer = BitWriter::new();
            writer.difference(value, order).unwrap();
            let written: String = (0..writer.length)
                .map(|bit| char::from(b'0' + (writer.bytes[bit / 8] >> (7 - bit % 8) & 1)))
                .collect();
            assert_eq!(written, bits, "{value} of order {order}");
        }
    }

    #[test]
    fn every_difference_up_to_the_bound_comes_back_in_every_order() {
        for order in 0..=20 {
            let powers = (0..39).flat_map(|power| [1_i64 << power, (1 << power) - 1]);
            for value in powers.flat_map(|value| [value, -value]) {
                let mut writer = BitWriter::new();
                writer.difference(value, order).unwrap();
                let mut reader = BitReader::new(writer.bytes(), 0);
                assert_eq!(reader.difference("value", order), Ok(value));
                assert_eq!(reader.end(), Ok(()));
            }
            for value in [1 << 40, i64::MIN, i64::MAX] {
                assert_eq!(BitWriter::new().difference(value, order), Err(Full));
            }
        }
    }

    #[test]
    fn surplus_bits_and_missing_bits_are_refused() {
        let read = |bytes: &[u8]| {
            let mut reader = BitReader::new(bytes, 10);
            reader.difference("value", 3)?;
            reader.end()
        };
        let range = |got, min, max| Fault::Range { got, min, max };
        assert_eq!(read(&[0b1000_0000]), Ok(()));
        assert_eq!(
            read(&[0b1000_0010]),
            Err(error("filling", 10, range(2, 0, 0)))
        );
        let trailing = Fault::Trailing { bytes: 1 };
        assert_eq!(read(&[0x80, 0]), Err(error("difference", 10, trailing)));
        assert_eq!(read(&[1]), Err(error("value", 11, Fault::Truncated)));
        assert_eq!(
            read(&[0; BITS_MAX_BYTES]),
            Err(error("value", 14, range(42, 1, 41)))
        );
    }
}
