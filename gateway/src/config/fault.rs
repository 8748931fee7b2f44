//! What is wrong with a configuration: where, which key, which value, what is allowed.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A file; line and column count from 1, columns in characters.
    File {
        /// The file.
        path: PathBuf,
        /// Line.
        line: usize,
        /// Column.
        column: usize,
    },
    /// `--set` on the command line.
    Set,
    /// Nowhere: the default.
    Default,
}

impl Place {
    /// A file as a whole.
    pub(super) fn start_of(path: &Path) -> Self {
        Self::File {
            path: path.to_owned(),
            line: 1,
            column: 1,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Set => f.write_str("--set"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// What kind of fault it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The file is not TOML here.
    Syntax(String),
    /// There is no such key.
    Unknown,
    /// The key has no default and is not there.
    Missing,
    /// The value is none of those allowed.
    NotAllowed,
    /// The value is allowed, but not together with another, or not on this machine.
    Unusable(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(message) => write!(f, "not TOML: {message}"),
            Self::Unknown => f.write_str("unknown key"),
            Self::Missing => f.write_str("missing"),
            Self::NotAllowed => f.write_str("not allowed"),
            Self::Unusable(why) => f.write_str(why),
        }
    }
}

/// One thing wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// Full name of the key; empty for a syntax error.
    pub key: String,
    /// The value as written.
    pub value: Option<String>,
    /// What.
    pub problem: Problem,
    /// What would be allowed; empty when the problem says it all.
    pub allowed: String,
    /// What was probably meant.
    pub meant: Option<String>,
    /// Whether the configuration can still be used.
    pub warning: bool,
}

impl Fault {
    /// A fault of which no more is known than where and what.
    pub(super) fn new(place: Place, key: &str, problem: Problem) -> Self {
        Self {
            place,
            key: key.to_owned(),
            value: None,
            problem,
            allowed: String::new(),
            meant: None,
            warning: false,
        }
    }

    /// One flat object, for `--json`.
    #[must_use]
    pub fn row(&self) -> Map<String, Value> {
        let mut row = Map::new();
        if let Place::File { path, line, column } = &self.place {
            row.insert("file".into(), json!(path.display().to_string()));
            row.insert("line".into(), json!(line));
            row.insert("column".into(), json!(column));
        } else {
            row.insert("file".into(), json!(self.place.to_string()));
        }
        row.insert("key".into(), json!(self.key));
        row.insert("value".into(), json!(self.value));
        row.insert("problem".into(), json!(self.problem.to_string()));
        row.insert("allowed".into(), json!(self.allowed));
        row.insert("did_you_mean".into(), json!(self.meant));
        row.insert("warning".into(), json!(self.warning));
        row
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if self.warning {
            f.write_str("warning: ")?;
        }
        if !self.key.is_empty() {
            f.write_str(&self.key)?;
            if let Some(value) = &self.value {
                write!(f, " = {value}")?;
            }
            f.write_str(": ")?;
        }
        write!(f, "{}", self.problem)?;
        if !self.allowed.is_empty() {
            write!(f, "; allowed: {}", self.allowed)?;
        }
        if let Some(meant) = &self.meant {
            write!(f, "; did you mean {meant}?")?;
        }
        Ok(())
    }
}

/// Everything wrong with a configuration, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.0 {
            writeln!(f, "{fault}")?;
        }
        match self.0.len() {
            1 => f.write_str("1 fault in the configuration"),
            many => write!(f, "{many} faults in the configuration"),
        }
    }
}
