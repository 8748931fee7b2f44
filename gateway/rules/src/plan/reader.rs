//! Reading a TOML table key by key, collecting every fault with its place.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Faults, Problem};

/// A table of the file, with the path that leads to it.
#[derive(Clone)]
pub(super) struct Table<'a, 'i> {
    entries: &'a DeTable<'i>,
    path: String,
    span: Range<usize>,
}

/// A value of the file, with the path that leads to it.
#[derive(Clone)]
pub(super) struct Node<'a, 'i> {
    pub(super) value: &'a DeValue<'i>,
    pub(super) path: String,
    pub(super) span: Range<usize>,
}

impl<'a, 'i> Table<'a, 'i> {
    pub(super) fn root(document: &'a Spanned<DeTable<'i>>) -> Self {
        Self {
            entries: document.get_ref(),
            path: String::new(),
            span: 0..0,
        }
    }

    /// Report keys that mean nothing here.
    pub(super) fn check_keys(&self, known: &[&str], faults: &mut Faults<'_>) {
        for key in self.entries.keys() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let problem = Problem::choice("unknown key", name, known.iter().copied());
                faults.add(&self.join(name), key.span(), problem);
            }
        }
    }

    /// Report that the table as a whole is wrong.
    pub(super) fn refuse(&self, problem: Problem, faults: &mut Faults<'_>) {
        faults.add(&self.path, self.span.clone(), problem);
    }

    pub(super) fn node(&self, key: &str) -> Option<Node<'a, 'i>> {
        let value = self.entries.get(key)?;
        Some(Node {
            value: value.get_ref(),
            path: self.join(key),
            span: value.span(),
        })
    }

    /// The value of `key`, if it is there and `parse` likes it; a fault if it does not.
    pub(super) fn optional<T>(
        &self,
        key: &str,
        faults: &mut Faults<'_>,
        parse: impl FnOnce(&DeValue<'i>) -> Result<T, Problem>,
    ) -> Option<T> {
        self.node(key)?.read(faults, parse)
    }

    /// Like [`Self::optional`], and a fault when it is not there; `allowed` says what should be.
    pub(super) fn required<T>(
        &self,
        key: &str,
        allowed: &str,
        faults: &mut Faults<'_>,
        parse: impl FnOnce(&DeValue<'i>) -> Result<T, Problem>,
    ) -> Option<T> {
        if self.entries.get(key).is_none() {
            let problem = Problem::new("missing", allowed);
            faults.add(&self.join(key), self.span.clone(), problem);
        }
        self.optional(key, faults, parse)
    }

    /// The table at `key`.
    pub(super) fn table(&self, key: &str, faults: &mut Faults<'_>) -> Option<Table<'a, 'i>> {
        self.node(key)?.as_table(faults)
    }

    /// The elements of the array at `key`; none when it is not there. At most `max`.
    pub(super) fn list(&self, key: &str, max: usize, faults: &mut Faults<'_>) -> Vec<Node<'a, 'i>> {
        self.node(key)
            .map_or_else(Vec::new, |node| node.elements(max, faults))
    }

    /// The tables of the array of tables at `key`. At most `max`.
    pub(super) fn tables(
        &self,
        key: &str,
        max: usize,
        faults: &mut Faults<'_>,
    ) -> Vec<Table<'a, 'i>> {
        let nodes = self.list(key, max, faults);
        nodes
            .iter()
            .filter_map(|node| node.as_table(faults))
            .collect()
    }

    /// Every key with its value.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&str, Node<'a, 'i>)> {
        self.entries.iter().map(|(key, value)| {
            let name: &str = key.get_ref();
            let node = Node {
                value: value.get_ref(),
                path: self.join(name),
                span: value.span(),
            };
            (name, node)
        })
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

impl<'a, 'i> Node<'a, 'i> {
    /// The parsed value, or a fault.
    pub(super) fn read<T>(
        &self,
        faults: &mut Faults<'_>,
        parse: impl FnOnce(&DeValue<'i>) -> Result<T, Problem>,
    ) -> Option<T> {
        match parse(self.value) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.refuse(problem, faults);
                None
            }
        }
    }

    /// Report that the value is wrong.
    pub(super) fn refuse(&self, problem: Problem, faults: &mut Faults<'_>) {
        faults.add(&self.path, self.span.clone(), problem);
    }

    /// The value as a table.
    pub(super) fn as_table(&self, faults: &mut Faults<'_>) -> Option<Table<'a, 'i>> {
        let Some(entries) = self.value.as_table() else {
            self.refuse(Problem::new("not a table", "a table of keys"), faults);
            return None;
        };
        Some(Table {
            entries,
            path: self.path.clone(),
            span: self.span.clone(),
        })
    }

    /// The elements of the value as an array of at most `max`.
    pub(super) fn elements(&self, max: usize, faults: &mut Faults<'_>) -> Vec<Node<'a, 'i>> {
        let Some(array) = self.value.as_array() else {
            self.refuse(Problem::new("not a list", "a list"), faults);
            return Vec::new();
        };
        if array.len() > max {
            let problem = format!("{} elements are too many", array.len());
            self.refuse(Problem::new(problem, format!("at most {max}")), faults);
        }
        let element = |(index, value): (usize, &'a Spanned<DeValue<'i>>)| Node {
            value: value.get_ref(),
            path: format!("{}[{index}]", self.path),
            span: value.span(),
        };
        array.iter().take(max).enumerate().map(element).collect()
    }
}

/// Names that were read, to find one that comes twice.
pub(super) struct Unique {
    among: &'static str,
    seen: BTreeSet<String>,
}

impl Unique {
    pub(super) const fn new(among: &'static str) -> Self {
        Self {
            among,
            seen: BTreeSet::new(),
        }
    }

    /// Report `name`, which stands at `key` of `table`, if it was there before.
    pub(super) fn check(
        &mut self,
        table: &Table<'_, '_>,
        key: &str,
        name: &str,
        faults: &mut Faults<'_>,
    ) {
        if self.seen.insert(name.to_owned()) {
            return;
        }
        if let Some(node) = table.node(key) {
            let allowed = format!("a name that is unique among those {}", self.among);
            node.refuse(Problem::new("used twice", allowed), faults);
        }
    }
}
