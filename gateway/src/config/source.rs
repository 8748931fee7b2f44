//! A configuration file and its overrides, flattened to keys with the place each came from.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Place, Problem};
use super::schema::Section;
use super::value::{Literal, Setting};

/// Largest configuration file: a generous one has a few KiB; more was named by mistake.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// A value and where it came from.
#[derive(Clone, Debug)]
struct Entry {
    literal: Literal,
    written: String,
    place: Place,
    /// What relative paths in it start at.
    base: PathBuf,
}

/// Where a key of a section is kept: table, index among its repetitions, name.
type Slot = (&'static str, usize, &'static str);

/// All values given, and all faults found so far.
pub(super) struct Source {
    sections: &'static [&'static Section],
    entries: BTreeMap<Slot, Entry>,
    /// How often each repeated table stands in the file, and where.
    repeated: BTreeMap<(&'static str, usize), Place>,
    faults: Vec<Fault>,
}

impl Source {
    /// No values at all.
    pub(super) fn new(sections: &'static [&'static Section]) -> Self {
        Self {
            sections,
            entries: BTreeMap::new(),
            repeated: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    /// Add the values of the file at `path`.
    pub(super) fn open(&mut self, path: &Path) {
        match text_of(path, FILE_MAX_BYTES) {
            Ok(text) => self.file(path, &text),
            Err(error) => {
                let problem = Problem::Unusable(format!("cannot be read: {error}"));
                self.note(Fault::new(Place::start_of(path), "", problem));
            }
        }
    }

    /// Add the values of a file with this text.
    pub(super) fn file(&mut self, path: &Path, text: &str) {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut reader = Reader {
            source: self,
            path,
            text,
            broken_lines: BTreeSet::new(),
        };
        for error in errors {
            reader.syntax(error.span().unwrap_or_default(), error.message());
        }
        reader.table(root.get_ref(), "");
    }

    /// Override one key: `KEY=VALUE` from the command line.
    pub(super) fn set(&mut self, assignment: &str) {
        let (path, value) = assignment.split_once('=').unwrap_or((assignment, ""));
        let (path, value) = (path.trim(), value.trim());
        let slot = path.rsplit_once('.').and_then(|(table, name)| {
            let section = self
                .sections
                .iter()
                .find(|s| s.table == table && !s.repeated)?;
            section
                .key(name)
                .map(|key| ((section.table, 0, key.name), key))
        });
        let Some((slot, key)) = slot else {
            let fault = self.unknown(Place::Set, path, Some(value.to_owned()));
            return self.faults.push(fault);
        };
        let literal = match (key.bare, value.parse()) {
            (true, Ok(number)) => Literal::Integer(number),
            (true, Err(_)) => Literal::Other,
            (false, _) => Literal::Text(value.trim_matches('"').to_owned()),
        };
        let entry = Entry {
            literal,
            written: value.to_owned(),
            place: Place::Set,
            base: PathBuf::new(),
        };
        self.entries.insert(slot, entry);
    }

    /// How many `[[table]]` the file holds.
    pub(super) fn count(&self, table: &'static str) -> usize {
        self.repeated
            .range((table, 0)..=(table, usize::MAX))
            .count()
    }

    /// The value of a key, or its default; a fault is noted when there is neither.
    pub(super) fn take<T: Setting>(
        &mut self,
        section: &Section,
        index: usize,
        name: &'static str,
    ) -> Option<T> {
        let key = section.key(name)?;
        let Some(entry) = self.entries.get(&(section.table, index, name)) else {
            let fallback = match key.default {
                Some(text) if T::BARE => T::read(&Literal::Integer(text.parse().ok()?)),
                Some(text) => T::read(&Literal::Text(text.to_owned())),
                None => T::unset(),
            };
            if fallback.is_none() {
                let fault = self.fault(section, index, name, Problem::Missing);
                self.faults.push(fault);
            }
            return fallback;
        };
        let value = T::read(&entry.literal).filter(|value| within(value, key.range));
        if let Some(value) = value {
            return Some(value.settle(&entry.base));
        }
        let meant = meant::<T>(&entry.literal, key.range);
        let fault = self.fault(section, index, name, Problem::NotAllowed);
        self.faults.push(Fault { meant, ..fault });
        None
    }

    /// Whether the key was given, in the file or on the command line.
    pub(super) fn is_given(&self, section: &Section, index: usize, name: &'static str) -> bool {
        self.entries.contains_key(&(section.table, index, name))
    }

    /// A fault of a key, with the place and the value it was given.
    pub(super) fn fault(
        &self,
        section: &Section,
        index: usize,
        name: &'static str,
        problem: Problem,
    ) -> Fault {
        let entry = self.entries.get(&(section.table, index, name));
        let whole = || self.repeated.get(&(section.table, index)).cloned();
        let allowed = match problem {
            Problem::Unusable(_) => None,
            _ => section.key(name).map(super::schema::Key::allowed),
        };
        Fault {
            place: entry.map_or_else(|| whole().unwrap_or(Place::Default), |e| e.place.clone()),
            key: shown(section, index, name),
            value: entry.map(|entry| entry.written.clone()),
            problem,
            allowed: allowed.unwrap_or_default(),
            meant: None,
            warning: false,
        }
    }

    /// Note a fault.
    pub(super) fn note(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Everything noted, warnings apart from the rest, both in the order of the places.
    pub(super) fn into_faults(mut self) -> (Vec<Fault>, Vec<Fault>) {
        self.faults.sort_by(|a, b| a.place.cmp(&b.place));
        self.faults.into_iter().partition(|fault| fault.warning)
    }

    fn unknown(&self, place: Place, path: &str, value: Option<String>) -> Fault {
        let known: Vec<String> = self.sections.iter().flat_map(|s| full_names(s)).collect();
        Fault {
            value,
            meant: nearest(path, known.iter().map(String::as_str)).map(str::to_owned),
            ..Fault::new(place, path, Problem::Unknown)
        }
    }
}

/// The text of a file that is small enough to be a configuration or a plan.
pub(super) fn text_of(path: &Path, bytes_max: u64) -> std::io::Result<String> {
    let bytes = std::fs::metadata(path)?.len();
    if bytes > bytes_max {
        let why = format!("it has {bytes} bytes, at most {bytes_max} are read");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, why));
    }
    std::fs::read_to_string(path)
}

/// Full names of a section and of its keys.
fn full_names(section: &Section) -> Vec<String> {
    let keys = section.keys.iter();
    let mut names: Vec<_> = keys
        .map(|k| format!("{}.{}", section.table, k.name))
        .collect();
    names.push(section.table.to_owned());
    names
}

/// A key's full name as people read it; repetitions count from 1.
fn shown(section: &Section, index: usize, name: &str) -> String {
    if section.repeated {
        format!("{}[{}].{name}", section.table, index + 1)
    } else {
        format!("{}.{name}", section.table)
    }
}

fn within<T: Setting>(value: &T, range: Option<(&str, &str)>) -> bool {
    let (Some(rank), Some((min, max))) = (value.rank(), range) else {
        return true;
    };
    let bound = |text: &str| {
        let literal = if T::BARE {
            Literal::Integer(text.parse().ok()?)
        } else {
            Literal::Text(text.to_owned())
        };
        T::read(&literal)?.rank()
    };
    bound(min).is_none_or(|min| min <= rank) && bound(max).is_none_or(|max| rank <= max)
}

/// The nearest of the names allowed, or what the form lets us guess, if that would be accepted.
fn meant<T: Setting>(literal: &Literal, range: Option<(&str, &str)>) -> Option<String> {
    if let Some(guess) = T::guess(literal) {
        let text = Literal::Text(guess.trim_matches('"').to_owned());
        let fits = T::read(&text).is_some_and(|value| within(&value, range));
        return fits.then_some(guess);
    }
    let Literal::Text(text) = literal else {
        return None;
    };
    nearest(text, T::choices()).map(|name| format!("{name:?}"))
}

/// Least similarity (Jaro-Winkler, 0 to 1) at which a name is offered: a typo or two in a word of
/// ten letters; below it suggestions read as noise.
const SIMILARITY_MIN: f64 = 0.82;

/// The name most like `text`, if there is one that may have been meant.
pub fn nearest<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_ascii_lowercase();
    let scored = names.into_iter().map(|name| {
        let score = strsim::jaro_winkler(&text, &name.to_ascii_lowercase());
        (name, score)
    });
    scored
        .filter(|(_, score)| *score >= SIMILARITY_MIN)
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(name, _)| name)
}

/// Walks one parsed file.
struct Reader<'a> {
    source: &'a mut Source,
    path: &'a Path,
    text: &'a str,
    /// Lines with a syntax error: what recovery made of them is not judged a second time.
    broken_lines: BTreeSet<usize>,
}

impl Reader<'_> {
    fn syntax(&mut self, span: Range<usize>, message: &str) {
        let (line, column) = position(self.text, span.start);
        if !self.broken_lines.insert(line) {
            return;
        }
        let written = self.text.lines().nth(line - 1).unwrap_or_default();
        let fault = Fault {
            place: self.place(line, column),
            key: String::new(),
            value: Some(written.trim().to_owned()),
            problem: Problem::Syntax(message.to_owned()),
            allowed: String::new(),
            meant: unquoted(written),
            warning: false,
        };
        self.source.note(fault);
    }

    fn table(&mut self, table: &DeTable<'_>, prefix: &str) {
        for (key, value) in table {
            let path = if prefix.is_empty() {
                key.get_ref().to_string()
            } else {
                format!("{prefix}.{}", key.get_ref())
            };
            let (line, column) = position(self.text, key.span().start);
            if !self.broken_lines.contains(&line) {
                self.member(&path, value, self.place(line, column));
            }
        }
    }

    /// One key of a table that is itself no repetition: a section, a key or neither.
    fn member(&mut self, path: &str, value: &Spanned<DeValue<'_>>, key_place: Place) {
        let sections = self.source.sections;
        let repeated = sections.iter().find(|s| s.table == path && s.repeated);
        let inner = format!("{path}.");
        let holds_more = sections
            .iter()
            .any(|s| s.table == path || s.table.starts_with(&inner));
        match (value.get_ref(), repeated) {
            (DeValue::Array(items), Some(section)) => {
                for (index, item) in items.iter().enumerate() {
                    self.repetition(section, index, item);
                }
            }
            (DeValue::Table(inner), None) if holds_more => self.table(inner, path),
            _ if repeated.is_some() || holds_more => self.wrong_shape(path, key_place, repeated),
            _ => self.key(path, value, key_place),
        }
    }

    fn key(&mut self, path: &str, value: &Spanned<DeValue<'_>>, key_place: Place) {
        let found = path.rsplit_once('.').and_then(|(table, name)| {
            let section = self.source.sections.iter().find(|s| s.table == table)?;
            Some((section.table, section.key(name)?.name))
        });
        match found {
            Some((table, name)) => self.insert((table, 0, name), value),
            None => {
                let written = self.written(value);
                let fault = self.source.unknown(key_place, path, written);
                self.source.note(fault);
            }
        }
    }

    fn repetition(&mut self, section: &Section, index: usize, item: &Spanned<DeValue<'_>>) {
        let (line, column) = position(self.text, item.span().start);
        let place = self.place(line, column);
        let DeValue::Table(table) = item.get_ref() else {
            return self.wrong_shape(section.table, place, Some(&section));
        };
        self.source.repeated.insert((section.table, index), place);
        for (key, value) in table {
            let name = key.get_ref().to_string();
            if let Some(known) = section.key(&name) {
                self.insert((section.table, index, known.name), value);
                continue;
            }
            let (line, column) = position(self.text, key.span().start);
            let fault = Fault {
                key: shown(section, index, &name),
                meant: nearest(&name, section.keys.iter().map(|k| k.name)).map(str::to_owned),
                ..self
                    .source
                    .unknown(self.place(line, column), "", self.written(value))
            };
            self.source.note(fault);
        }
    }

    fn wrong_shape(&mut self, path: &str, place: Place, repeated: Option<&&Section>) {
        let shape = if repeated.is_some() {
            format!("a list of tables, each under [[{path}]]")
        } else {
            format!("a table under [{path}]")
        };
        self.source.note(Fault {
            place,
            key: path.to_owned(),
            value: None,
            problem: Problem::NotAllowed,
            allowed: shape,
            meant: None,
            warning: false,
        });
    }

    fn insert(&mut self, slot: Slot, value: &Spanned<DeValue<'_>>) {
        let (line, column) = position(self.text, value.span().start);
        let literal = match value.get_ref() {
            DeValue::String(text) => Literal::Text(text.to_string()),
            DeValue::Integer(number) => number
                .as_str()
                .parse()
                .map_or(Literal::Other, Literal::Integer),
            _ => Literal::Other,
        };
        let entry = Entry {
            literal,
            written: self.written(value).unwrap_or_default(),
            place: self.place(line, column),
            base: self.path.parent().unwrap_or(Path::new("")).to_owned(),
        };
        self.source.entries.insert(slot, entry);
    }

    fn place(&self, line: usize, column: usize) -> Place {
        Place::File {
            path: self.path.to_owned(),
            line,
            column,
        }
    }

    /// A value as it stands in the file; tables and long ones are left out.
    fn written(&self, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let text = self.text.get(value.span())?;
        let short = !value.get_ref().is_table() && !text.contains('\n');
        short.then(|| text.to_owned())
    }
}

/// Line and column, from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

/// `key = 90s` with its quotes: the commonest slip.
fn unquoted(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    let value = value.split('#').next()?.trim();
    let plain = !value.is_empty() && !value.contains(['"', '\'', '[', '{']);
    plain.then(|| format!("{} = \"{value}\"", key.trim()))
}
