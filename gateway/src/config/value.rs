//! What a key's value can be: names, durations and sizes with units, addresses, paths, choices.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use chrono_tz::{TZ_VARIANTS, Tz};

/// A value as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Literal {
    /// Quoted text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Anything else; no key takes it.
    Other,
}

/// A type that a key can have.
pub(super) trait Setting: Sized {
    /// What is allowed, in words; a range is added where the key has one.
    const FORM: &'static str;
    /// Whether values stand without quotes.
    const BARE: bool = false;
    /// What happens while the key is not set, for the manual.
    const UNSET: &'static str = "must be set";

    /// The value, if it has the right form.
    fn read(literal: &Literal) -> Option<Self>;

    /// Where the value lies on the scale of its type; ranges are compared by it.
    fn rank(&self) -> Option<u128> {
        None
    }

    /// All names allowed, when there is a list.
    fn choices() -> Vec<&'static str> {
        Vec::new()
    }

    /// The nearest thing that would be allowed, when that can be guessed from the form alone.
    fn guess(_literal: &Literal) -> Option<String> {
        None
    }

    /// Paths are relative to the file that names them.
    fn settle(self, _base: &Path) -> Self {
        self
    }

    /// The value when the key is not there and has no default.
    fn unset() -> Option<Self> {
        None
    }
}

impl<T: Setting> Setting for Option<T> {
    const FORM: &'static str = T::FORM;
    const BARE: bool = T::BARE;
    const UNSET: &'static str = "not set";

    fn read(literal: &Literal) -> Option<Self> {
        T::read(literal).map(Some)
    }

    fn rank(&self) -> Option<u128> {
        self.as_ref().and_then(T::rank)
    }

    fn choices() -> Vec<&'static str> {
        T::choices()
    }

    fn guess(literal: &Literal) -> Option<String> {
        T::guess(literal)
    }

    fn settle(self, base: &Path) -> Self {
        self.map(|value| value.settle(base))
    }

    fn unset() -> Option<Self> {
        Some(None)
    }
}

/// Units of a duration, in milliseconds.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Units of a size, in bytes.
const SIZE_UNITS: [(&str, u64); 5] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A whole number followed by one of `units`; `None` too when it does not fit.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A number that lacks its unit.
fn bare_number(literal: &Literal) -> Option<String> {
    match literal {
        Literal::Integer(number) if *number >= 0 => Some(number.to_string()),
        Literal::Text(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            Some(text.clone())
        }
        _ => None,
    }
}

impl Setting for Duration {
    const FORM: &'static str = "a duration with a unit (ms, s, min, h, d), such as \"90s\"";

    fn read(literal: &Literal) -> Option<Self> {
        let Literal::Text(text) = literal else {
            return None;
        };
        with_unit(text, &DURATION_UNITS).map(Self::from_millis)
    }

    fn rank(&self) -> Option<u128> {
        Some(self.as_millis())
    }

    fn guess(literal: &Literal) -> Option<String> {
        bare_number(literal).map(|number| format!("\"{number}s\""))
    }
}

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// The size in memory; what does not fit the machine is as good as its largest size.
    #[must_use]
    pub fn in_memory(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Setting for Bytes {
    const FORM: &'static str = "a size with a unit (B, KiB, MiB, GiB, TiB), such as \"64KiB\"";

    fn read(literal: &Literal) -> Option<Self> {
        let Literal::Text(text) = literal else {
            return None;
        };
        with_unit(text, &SIZE_UNITS).map(Self)
    }

    fn rank(&self) -> Option<u128> {
        Some(u128::from(self.0))
    }

    fn guess(literal: &Literal) -> Option<String> {
        bare_number(literal).map(|number| format!("\"{number}KiB\""))
    }
}

macro_rules! counts {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            const FORM: &'static str = "a whole number";
            const BARE: bool = true;

            fn read(literal: &Literal) -> Option<Self> {
                let Literal::Integer(number) = literal else {
                    return None;
                };
                Self::try_from(*number).ok()
            }

            fn rank(&self) -> Option<u128> {
                Some(u128::from(*self))
            }
        }
    )*};
}
counts!(u16, u32);

/// Longest name, in bytes: fits a topic level, a metric label and a log line.
const NAME_MAX_BYTES: usize = 64;

/// A name: 1 to 64 of A-Z a-z 0-9 _ -.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name, when it is one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let fits = (1..=NAME_MAX_BYTES).contains(&text.len());
        (fits && text.bytes().all(allowed)).then(|| Self(text.to_owned()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Setting for Name {
    const FORM: &'static str = "1 to 64 of A-Z a-z 0-9 _ -";

    fn read(literal: &Literal) -> Option<Self> {
        text(literal).and_then(Self::new)
    }
}

/// Longest free text, in bytes: a host name has at most 253, MQTT user names are shorter in practice.
const TEXT_MAX_BYTES: usize = 256;

impl Setting for String {
    const FORM: &'static str = "a text of 1 to 256 bytes without control characters";

    fn read(literal: &Literal) -> Option<Self> {
        let text = text(literal)?;
        let fits = (1..=TEXT_MAX_BYTES).contains(&text.len());
        (fits && !text.chars().any(char::is_control)).then(|| text.to_owned())
    }
}

/// An MQTT topic to publish to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicName(String);

impl TopicName {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Setting for TopicName {
    const FORM: &'static str =
        "an MQTT topic of 1 to 256 bytes without + # $ at its start or control characters";

    fn read(literal: &Literal) -> Option<Self> {
        let text = String::read(literal)?;
        (!text.contains(['+', '#']) && !text.starts_with('$')).then_some(Self(text))
    }
}

impl Setting for SocketAddr {
    const FORM: &'static str =
        "an IP address and port, such as \"127.0.0.1:1883\" or \"[::]:1883\"";

    fn read(literal: &Literal) -> Option<Self> {
        text(literal)?.parse().ok()
    }

    fn guess(literal: &Literal) -> Option<String> {
        let port = bare_number(literal)?.parse::<u16>().ok()?;
        Some(format!("\"127.0.0.1:{port}\""))
    }
}

/// Where to listen, if at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

impl Listen {
    /// The address, if there is one.
    #[must_use]
    pub const fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl Setting for Listen {
    const FORM: &'static str =
        "an IP address and port, such as \"127.0.0.1:1883\" or \"[::]:1883\", or \"off\"";

    fn read(literal: &Literal) -> Option<Self> {
        match text(literal)? {
            "off" => Some(Self::Off),
            text => text.parse().ok().map(Self::At),
        }
    }

    fn guess(literal: &Literal) -> Option<String> {
        SocketAddr::guess(literal)
    }
}

impl Setting for Tz {
    const FORM: &'static str = "a zone of the IANA time zone database, such as \"Europe/Berlin\"";

    fn read(literal: &Literal) -> Option<Self> {
        text(literal)?.parse().ok()
    }

    fn choices() -> Vec<&'static str> {
        TZ_VARIANTS.iter().map(|zone| zone.name()).collect()
    }
}

/// The text of a literal that is one.
pub(super) fn text(literal: &Literal) -> Option<&str> {
    match literal {
        Literal::Text(text) => Some(text),
        _ => None,
    }
}

/// Enums whose variants have a name in the file.
macro_rules! choice {
    ($(#[doc = $about:literal])+ $vis:vis enum $name:ident {
        $($(#[doc = $means:literal])+ $variant:ident = $first:literal;)+
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name { $($(#[doc = $means])+ $variant,)+ }

        impl $name {
            /// The name in the file.
            #[must_use]
            $vis const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $first,)+ }
            }
        }

        impl $crate::config::value::Setting for $name {
            const FORM: &'static str = concat!("one of", $(" \"", $first, "\"",)+);

            fn read(literal: &$crate::config::value::Literal) -> Option<Self> {
                match literal {
                    $($crate::config::value::Literal::Text(text) if text == $first => Some(Self::$variant),)+
                    _ => None,
                }
            }

            fn choices() -> Vec<&'static str> {
                vec![$($first),+]
            }
        }
    };
}
pub(super) use choice;

#[cfg(test)]
mod tests {
    use super::*;

    fn duration(text: &str) -> Option<Duration> {
        Duration::read(&Literal::Text(text.to_owned()))
    }

    fn size(text: &str) -> Option<u64> {
        Bytes::read(&Literal::Text(text.to_owned())).map(|bytes| bytes.0)
    }

    #[test]
    fn every_unit_of_a_duration_is_read() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("90s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("15 min"), Some(Duration::from_secs(900)));
        assert_eq!(duration("1000h"), Some(Duration::from_secs(3_600_000)));
        assert_eq!(duration("30d"), Some(Duration::from_secs(2_592_000)));
    }

    #[test]
    fn every_unit_of_a_size_is_read() {
        let sizes = ["1B", "1KiB", "64 MiB", "2GiB", "1TiB"].map(size);
        assert_eq!(sizes, [1, 1 << 10, 64 << 20, 2 << 30, 1 << 40].map(Some),);
    }

    #[test]
    fn a_number_without_unit_with_a_foreign_unit_or_too_large_is_no_value() {
        for text in [
            "",
            "90",
            "s",
            "-1s",
            "1.5h",
            "90S",
            "90sec",
            "1m",
            "99999999999999999999s",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
        for text in ["64", "64KB", "64kib", "18446744073709551615KiB"] {
            assert_eq!(size(text), None, "{text}");
        }
        assert_eq!(Duration::read(&Literal::Integer(90)), None);
        assert_eq!(
            Duration::guess(&Literal::Integer(90)),
            Some("\"90s\"".into())
        );
    }
}
