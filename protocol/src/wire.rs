//! CBOR primitives with limits: definite arrays, shortest integers, short byte strings and texts.
//!
//! Everything is written in the one canonical way (RFC 8949 section 4.2.1), and nothing else is
//! accepted: a payload therefore has the same bytes from any CBOR library, and a length or count is
//! compared with its limit before anything is done with it. Nesting is bounded by construction: the
//! readers below never recurse, the deepest payload is batch / entry / optional / value.

use minicbor::data::Int;
use minicbor::encode::write::Cursor;
use minicbor::{Decoder, Encoder};

use crate::WIRE_VERSION;
pub(crate) use crate::fault::error;
pub use crate::fault::{Fault, Full, WireError};
use crate::units::Unit;

/// Writes canonical CBOR into a borrowed buffer.
pub(crate) struct Writer<'a>(Encoder<Cursor<&'a mut [u8]>>);

impl<'a> Writer<'a> {
    /// A writer at the start of `buffer`.
    pub(crate) fn new(buffer: &'a mut [u8]) -> Self {
        Self(Encoder::new(Cursor::new(buffer)))
    }

    /// Bytes written.
    pub(crate) fn position(&self) -> usize {
        self.0.writer().position()
    }

    /// Opens an array of `count` elements.
    pub(crate) fn array(&mut self, count: usize) -> Result<(), Full> {
        self.0.array(count as u64).map(drop).map_err(|_| Full)
    }

    /// An integer of any size CBOR knows.
    pub(crate) fn int(&mut self, value: impl Into<Int>) -> Result<(), Full> {
        self.0.int(value.into()).map(drop).map_err(|_| Full)
    }

    /// A quantity by its raw integer.
    pub(crate) fn unit(&mut self, value: impl Unit) -> Result<(), Full> {
        self.int(value.raw())
    }

    /// `[]` or `[value]`.
    pub(crate) fn optional(&mut self, value: Option<i64>) -> Result<(), Full> {
        match value {
            None => self.array(0),
            Some(value) => self.array(1).and_then(|()| self.int(value)),
        }
    }

    /// A byte string.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.0.bytes(bytes).map(drop).map_err(|_| Full)
    }

    /// A text.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Full> {
        self.0.str(text).map(drop).map_err(|_| Full)
    }
}

/// Reads canonical CBOR and refuses everything else.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'b>(Decoder<'b>);

/// Major types of CBOR (RFC 8949 section 3.1).
const MAJOR_NEGATIVE: u8 = 1;
const MAJOR_BYTES: u8 = 2;
const MAJOR_TEXT: u8 = 3;
const MAJOR_ARRAY: u8 = 4;

impl<'b> Reader<'b> {
    /// A reader at the start of `payload`.
    pub(crate) fn new(payload: &'b [u8]) -> Self {
        Self(Decoder::new(payload))
    }

    /// Opens a payload: an array of `min..=max` elements, the first of which is our wire version.
    /// Returns the reader behind the version, and the number of elements.
    pub(crate) fn payload(
        what: &'static str,
        payload: &'b [u8],
        min: usize,
        max: usize,
    ) -> Result<(Self, usize), WireError> {
        let mut reader = Self::new(payload);
        // The version comes first: a payload of another version may have any number of elements.
        let count = reader.array(what, 1, usize::MAX)?;
        let version = i64::from(WIRE_VERSION);
        reader.int("wire version", version, version)?;
        check_count(what, 0, count as u64, min, max)?;
        Ok((reader, count))
    }

    /// Offset of the next element, in bytes.
    pub(crate) fn position(&self) -> usize {
        self.0.position()
    }

    /// The bytes between two offsets.
    pub(crate) fn slice(&self, from: usize, to: usize) -> &'b [u8] {
        self.0.input().get(from..to).unwrap_or_default()
    }

    /// An array's header: the number of elements, between `min` and `max`.
    pub(crate) fn array(
        &mut self,
        what: &'static str,
        min: usize,
        max: usize,
    ) -> Result<usize, WireError> {
        let at = self.expect_major(what, MAJOR_ARRAY..=MAJOR_ARRAY, "array")?;
        let count = self
            .0
            .array()
            .map_err(|error| fault_of(what, at, "array", &error))?
            .ok_or(error(
                what,
                at,
                Fault::Kind {
                    expected: "array of definite length",
                },
            ))?;
        self.check_shortest(what, at, count)?;
        check_count(what, at, count, min, max)
    }

    /// An integer in `min..=max`.
    pub(crate) fn int(&mut self, what: &'static str, min: i64, max: i64) -> Result<i64, WireError> {
        let (at, wide) = self.wide_int(what)?;
        i64::try_from(wide)
            .ok()
            .filter(|value| (min..=max).contains(value))
            .ok_or(error(
                what,
                at,
                Fault::Range {
                    got: wide,
                    min,
                    max,
                },
            ))
    }

    /// An unsigned integer of the full 64 bits.
    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        let (at, wide) = self.wide_int(what)?;
        let range = Fault::Range {
            got: wide,
            min: 0,
            max: i64::MAX,
        };
        u64::try_from(wide).map_err(|_| error(what, at, range))
    }

    /// An integer of 64 bits with sign.
    pub(crate) fn any_int(&mut self, what: &'static str) -> Result<i64, WireError> {
        self.int(what, i64::MIN, i64::MAX)
    }

    /// An integer of 32 bits with sign.
    pub(crate) fn i32(&mut self, what: &'static str) -> Result<i32, WireError> {
        self.narrow(what, i64::from(i32::MIN), i64::from(i32::MAX))
    }

    /// An unsigned integer of 8 bits.
    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        self.narrow(what, 0, i64::from(u8::MAX))
    }

    /// An unsigned integer of 32 bits.
    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        self.narrow(what, 0, i64::from(u32::MAX))
    }

    /// An integer of a narrower type whose own range is `min..=max`.
    pub(crate) fn narrow<T: TryFrom<i64>>(
        &mut self,
        what: &'static str,
        min: i64,
        max: i64,
    ) -> Result<T, WireError> {
        let at = self.position();
        let value = self.int(what, min, max)?;
        let range = Fault::Range {
            got: i128::from(value),
            min,
            max,
        };
        T::try_from(value).map_err(|_| error(what, at, range))
    }

    /// A quantity, within its range.
    pub(crate) fn unit<T: Unit>(&mut self, what: &'static str) -> Result<T, WireError> {
        let at = self.position();
        let value = self.int(what, T::MIN, T::MAX)?;
        unit_in_range(what, at, value)
    }

    /// One of `choices`, by its index.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        what: &'static str,
        choices: &[T],
    ) -> Result<T, WireError> {
        let at = self.position();
        let max = i64::try_from(choices.len()).unwrap_or(i64::MAX) - 1;
        let value = self.int(what, 0, max)?;
        let range = Fault::Range {
            got: i128::from(value),
            min: 0,
            max,
        };
        let chosen = usize::try_from(value)
            .ok()
            .and_then(|index| choices.get(index));
        chosen.copied().ok_or(error(what, at, range))
    }

    /// `[]` or `[value]`: `read` reads the value.
    pub(crate) fn optional<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, WireError>,
    ) -> Result<Option<T>, WireError> {
        match self.array(what, 0, 1)? {
            0 => Ok(None),
            _ => read(self).map(Some),
        }
    }

    /// Whether the next element is a byte string.
    pub(crate) fn is_bytes(&self) -> bool {
        let first = self.0.input().get(self.position());
        first.is_some_and(|first| first >> 5 == MAJOR_BYTES)
    }

    /// A byte string of at most `max` bytes.
    pub(crate) fn bytes(&mut self, what: &'static str, max: usize) -> Result<&'b [u8], WireError> {
        let expected = "byte string of definite length";
        let at = self.expect_major(what, MAJOR_BYTES..=MAJOR_BYTES, expected)?;
        let bytes = self.0.bytes();
        let bytes = bytes.map_err(|error| fault_of(what, at, expected, &error))?;
        self.check_string(what, at, bytes.len(), max)?;
        Ok(bytes)
    }

    /// A text of at most `max` bytes.
    pub(crate) fn text(&mut self, what: &'static str, max: usize) -> Result<&'b str, WireError> {
        let at = self.expect_major(what, MAJOR_TEXT..=MAJOR_TEXT, "text")?;
        let text = self.0.str().map_err(|error| text_fault(what, at, &error))?;
        self.check_string(what, at, text.len(), max)?;
        Ok(text)
    }

    /// The end of the payload.
    pub(crate) fn end(&self) -> Result<(), WireError> {
        let at = self.position();
        match self.0.input().len().saturating_sub(at) {
            0 => Ok(()),
            bytes => Err(error("payload", at, Fault::Trailing { bytes })),
        }
    }

    fn wide_int(&mut self, what: &'static str) -> Result<(usize, i128), WireError> {
        let at = self.expect_major(what, 0..=MAJOR_NEGATIVE, "integer")?;
        let int = self
            .0
            .int()
            .map_err(|error| fault_of(what, at, "integer", &error))?;
        let wide = i128::from(int);
        let magnitude = if wide < 0 { -1 - wide } else { wide };
        // A CBOR integer's magnitude always fits 64 bits.
        self.check_shortest(what, at, u64::try_from(magnitude).unwrap_or(u64::MAX))?;
        Ok((at, wide))
    }

    fn expect_major(
        &self,
        what: &'static str,
        majors: core::ops::RangeInclusive<u8>,
        expected: &'static str,
    ) -> Result<usize, WireError> {
        let at = self.position();
        match self.0.input().get(at) {
            None => Err(error(what, at, Fault::Truncated)),
            Some(first) if majors.contains(&(first >> 5)) => Ok(at),
            Some(_) => Err(error(what, at, Fault::Kind { expected })),
        }
    }

    fn check_shortest(&self, what: &'static str, at: usize, value: u64) -> Result<(), WireError> {
        if self.position() - at == head_bytes(value) {
            return Ok(());
        }
        Err(error(what, at, Fault::NotShortest))
    }

    /// A string of `length` bytes with its head, read from `at`.
    fn check_string(
        &self,
        what: &'static str,
        at: usize,
        length: usize,
        max: usize,
    ) -> Result<(), WireError> {
        let (got, max) = (length as u64, max as u64);
        // A string in pieces (indefinite length) is refused by the decoder: its pieces are not one slice.
        if self.position() - at != head_bytes(got) + length {
            return Err(error(what, at, Fault::NotShortest));
        }
        if got > max {
            return Err(error(what, at, Fault::TooLong { got, max }));
        }
        Ok(())
    }
}

/// The quantity of `value`, or the range it is outside of.
pub(crate) fn unit_in_range<T: Unit>(
    what: &'static str,
    offset: usize,
    value: i64,
) -> Result<T, WireError> {
    let range = Fault::Range {
        got: i128::from(value),
        min: T::MIN,
        max: T::MAX,
    };
    T::from_raw(value).ok_or(error(what, offset, range))
}

/// Bytes of the shortest head (RFC 8949 section 3) that carries `value`.
const fn head_bytes(value: u64) -> usize {
    match value {
        0..=23 => 1,
        24..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

fn check_count(
    what: &'static str,
    at: usize,
    got: u64,
    min: usize,
    max: usize,
) -> Result<usize, WireError> {
    let (min, max) = (min as u64, max as u64);
    let count = Fault::Count { got, min, max };
    usize::try_from(got)
        .ok()
        .filter(|_| (min..=max).contains(&got))
        .ok_or(error(what, at, count))
}

fn fault_of(
    what: &'static str,
    at: usize,
    expected: &'static str,
    cause: &minicbor::decode::Error,
) -> WireError {
    if cause.is_end_of_input() {
        error(what, at, Fault::Truncated)
    } else {
        error(what, at, Fault::Kind { expected })
    }
}

fn text_fault(what: &'static str, at: usize, cause: &minicbor::decode::Error) -> WireError {
    if cause.is_end_of_input() {
        error(what, at, Fault::Truncated)
    } else if cause.is_type_mismatch() {
        error(
            what,
            at,
            Fault::Kind {
                expected: "text of definite length",
            },
        )
    } else {
        error(what, at, Fault::NotText)
    }
}
