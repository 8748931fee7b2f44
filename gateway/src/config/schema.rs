//! The one table of keys: parsing, checks, `init` and docs/config.md all follow it.
//!
//! A section is written once, as a struct with a default and a range beside each field; the field's
//! sentence is both its documentation here and its sentence in the manual.

/// One key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Name within its section.
    pub(super) name: &'static str,
    /// What it decides.
    pub(super) sentence: &'static str,
    /// What is allowed.
    pub(super) form: &'static str,
    /// What happens while it is not set.
    pub(super) unset: &'static str,
    /// Whether values stand without quotes.
    pub(super) bare: bool,
    /// Value used while the key is not set, as text without quotes.
    pub(super) default: Option<&'static str>,
    /// Smallest and largest value, as text without quotes.
    pub(super) range: Option<(&'static str, &'static str)>,
}

impl Key {
    /// What is allowed, range included.
    pub(super) fn allowed(&self) -> String {
        let Some((min, max)) = self.range else {
            return self.form.to_owned();
        };
        format!(
            "{}, {} to {}",
            self.form,
            self.quoted(min),
            self.quoted(max)
        )
    }

    /// `text` as it would stand in the file.
    pub(super) fn quoted(&self, text: &str) -> String {
        if self.bare {
            text.to_owned()
        } else {
            format!("{text:?}")
        }
    }
}

/// A table of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    /// Its name, dotted.
    pub(super) table: &'static str,
    /// Whether the file can hold many of it, as `[[table]]`.
    pub(super) repeated: bool,
    /// What it is about.
    pub(super) about: &'static str,
    /// Its keys.
    pub(super) keys: &'static [Key],
}

impl Section {
    /// The key called `name`.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// Define a section: its struct, its rows of the table, and how it is read.
macro_rules! section {
    ($(#[doc = $about:literal])+ $vis:vis struct $name:ident = $table:literal $($repeated:ident)? {
        $($(#[doc = $sentence:literal])+
        $field:ident: $type:ty = $default:tt $(in $min:literal to $max:literal)?;)+
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        $vis struct $name {
            $($(#[doc = $sentence])+ $vis $field: $type,)+
        }

        impl $name {
            pub(in crate::config) const SECTION: $crate::config::schema::Section =
                $crate::config::schema::Section {
                    table: $table,
                    repeated: $crate::config::schema::section!(@repeated $($repeated)?),
                    about: concat!($($about),+),
                    keys: &[$($crate::config::schema::Key {
                        name: stringify!($field),
                        sentence: concat!($($sentence),+),
                        form: <$type as $crate::config::value::Setting>::FORM,
                        unset: <$type as $crate::config::value::Setting>::UNSET,
                        bare: <$type as $crate::config::value::Setting>::BARE,
                        default: $crate::config::schema::section!(@default $default),
                        range: $crate::config::schema::section!(@range $($min $max)?),
                    },)+],
                };

            /// Read every key, noting every fault; `None` when there was one.
            pub(in crate::config) fn read(
                source: &mut $crate::config::source::Source,
                index: usize,
            ) -> Option<Self> {
                $(let $field = source.take::<$type>(&Self::SECTION, index, stringify!($field));)+
                Some(Self { $($field: $field?,)+ })
            }
        }
    };
    (@repeated) => { false };
    (@repeated repeated) => { true };
    (@default unset) => { None };
    (@default $text:literal) => { Some($text) };
    (@range) => { None };
    (@range $min:literal $max:literal) => { Some(($min, $max)) };
}
pub(super) use section;
