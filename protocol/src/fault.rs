//! Why something was not written or not accepted.

use core::fmt;

/// The buffer has no room for the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("encode: buffer is full")
    }
}

impl core::error::Error for Full {}

/// Why a payload was refused: which element, where, and what would have been allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireError {
    /// The element, by its name in `wire.cddl`.
    pub what: &'static str,
    /// Offset of the element in the payload, in bytes.
    pub offset: usize,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with an element of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The payload ends inside it.
    Truncated,
    /// Another CBOR type, or no CBOR at all.
    Kind {
        /// The type that belongs here.
        expected: &'static str,
    },
    /// An integer or length in more bytes than it needs.
    NotShortest,
    /// An array with too few or too many elements.
    Count {
        /// Elements of the array.
        got: u64,
        /// Fewest allowed.
        min: u64,
        /// Most allowed.
        max: u64,
    },
    /// An integer outside its range.
    Range {
        /// The integer.
        got: i128,
        /// Smallest allowed.
        min: i64,
        /// Largest allowed.
        max: i64,
    },
    /// Text or payload longer than allowed.
    TooLong {
        /// Its length in bytes.
        got: u64,
        /// Most allowed, in bytes.
        max: u64,
    },
    /// Text that is not UTF-8.
    NotText,
    /// Bytes after the end of the payload's array.
    Trailing {
        /// How many.
        bytes: usize,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "decode {} at byte {}: ", self.what, self.offset)?;
        match self.fault {
            Fault::Truncated => f.write_str("payload ends inside it"),
            Fault::Kind { expected } => write!(f, "expected {expected}"),
            Fault::NotShortest => f.write_str("not in its shortest form"),
            Fault::Count { got, min, max } => write!(f, "{got} elements, allowed {min} to {max}"),
            Fault::Range { got, min, max } => write!(f, "{got}, allowed {min} to {max}"),
            Fault::TooLong { got, max } => write!(f, "{got} bytes long, allowed {max}"),
            Fault::NotText => f.write_str("text is not UTF-8"),
            Fault::Trailing { bytes } => write!(f, "{bytes} bytes after the end"),
        }
    }
}

impl core::error::Error for WireError {}

/// Shorthand for an error.
pub(crate) const fn error(what: &'static str, offset: usize, fault: Fault) -> WireError {
    WireError {
        what,
        offset,
        fault,
    }
}
