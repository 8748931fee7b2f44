//! Who was promised what, kept outside the gateway.
//!
//! Every record is entered before it is sent and ticked off when its PUBACK arrives. The ledger lives
//! in memory for the comparison and is appended to a file for the reader of a failed test.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use protocol::key::{DeviceId, RecordKey};
use protocol::record::Record;

/// Name of a record among all devices.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Whose.
    pub device: DeviceId,
    /// Which.
    pub key: RecordKey,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.device, self.key)
    }
}

/// A record on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What was sent.
    pub record: Record,
    /// How often it was sent.
    pub times_sent: u32,
    /// Whether a success PUBACK came for it.
    pub acknowledged: bool,
}

/// All records ever sent. Shared by the connections of a load.
#[derive(Debug)]
pub struct Ledger(Mutex<Book>);

#[derive(Debug)]
struct Book {
    lines: BTreeMap<Name, Line>,
    file: BufWriter<File>,
}

impl Ledger {
    /// An empty ledger, written along to `file`.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(file: &Path) -> Result<Self> {
        let opened = File::create(file).with_context(|| format!("create {}", file.display()))?;
        Ok(Self(Mutex::new(Book {
            lines: BTreeMap::new(),
            file: BufWriter::new(opened),
        })))
    }

    /// Enter a record that is about to be sent, for the first time or again.
    ///
    /// # Errors
    /// When the file cannot be written.
    ///
    /// # Panics
    /// When the key was sent before with another content: then the load generator is wrong, and
    /// nothing it shows is worth anything.
    pub fn sent(&self, name: Name, record: Record) -> Result<()> {
        let mut book = self.book();
        writeln!(book.file, "sent {name}")?;
        let line = book.lines.entry(name).or_insert(Line {
            record,
            times_sent: 0,
            acknowledged: false,
        });
        assert_eq!(line.record, record, "one key, two contents");
        line.times_sent += 1;
        Ok(())
    }

    /// Note a success PUBACK that covers `name`.
    ///
    /// # Errors
    /// When the file cannot be written, or the record was never sent.
    pub fn acknowledged(&self, name: &Name) -> Result<()> {
        let mut book = self.book();
        writeln!(book.file, "acknowledged {name}")?;
        let line = book.lines.get_mut(name);
        let line = line.with_context(|| format!("PUBACK for {name}, which was never sent"))?;
        line.acknowledged = true;
        Ok(())
    }

    /// The records acknowledged so far, and what they say.
    #[must_use]
    pub fn promised(&self) -> BTreeMap<Name, Record> {
        let book = self.book();
        let promised = book.lines.iter().filter(|(_, line)| line.acknowledged);
        promised
            .map(|(name, line)| (name.clone(), line.record))
            .collect()
    }

    /// Expect these records no longer: what held them was damaged, and the gateway has said so.
    pub fn excuse(&self, names: &[Name]) {
        let mut book = self.book();
        for name in names {
            if let Some(line) = book.lines.get_mut(name) {
                line.acknowledged = false;
            }
        }
    }

    /// Every line so far.
    #[must_use]
    pub fn lines(&self) -> BTreeMap<Name, Line> {
        self.book().lines.clone()
    }

    /// Compare with what the gateway has stored: `stored` gives each record's content as the gateway
    /// shows it, `shown` says how the gateway must show a record.
    #[must_use]
    pub fn audit<T: PartialEq + fmt::Debug>(
        &self,
        stored: &BTreeMap<Name, T>,
        shown: impl Fn(&Record) -> T,
    ) -> Audit {
        let book = self.book();
        let mut audit = Audit {
            sent: book.lines.len(),
            stored: stored.len(),
            ..Audit::default()
        };
        for (name, line) in &book.lines {
            audit.acknowledged += usize::from(line.acknowledged);
            match stored.get(name) {
                Some(content) if *content != shown(&line.record) => audit.note(format!(
                    "{name}: sent {:?}, stored {content:?}",
                    shown(&line.record)
                )),
                None if line.acknowledged => audit.note(format!("{name}: acknowledged and lost")),
                _ => {}
            }
        }
        for name in stored.keys().filter(|name| !book.lines.contains_key(name)) {
            audit.note(format!("{name}: stored and never sent"));
        }
        audit
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Result of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Records sent.
    pub sent: usize,
    /// Of these, with a success PUBACK.
    pub acknowledged: usize,
    /// Records the gateway has.
    pub stored: usize,
    /// Broken promises, in words; only the first [`FAULTS_SHOWN_MAX`].
    pub faults: Vec<String>,
    /// Broken promises in all.
    pub fault_count: usize,
}

/// Most faults kept in words: enough to see a pattern.
pub const FAULTS_SHOWN_MAX: usize = 20;

impl Audit {
    fn note(&mut self, fault: String) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_SHOWN_MAX {
            self.faults.push(fault);
        }
    }

    /// Whether acknowledged is a subset of stored, stored of sent, and contents are equal.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.fault_count == 0
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sent,
            acknowledged,
            stored,
            fault_count,
            faults,
        } = self;
        write!(
            f,
            "sent {sent}, acknowledged {acknowledged}, stored {stored}, faults {fault_count}"
        )?;
        faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::reading::Reading;
    use protocol::units::UptimeMs;

    fn name(seq: u32) -> Name {
        Name {
            device: "a".parse().unwrap(),
            key: RecordKey::new(1, 1, seq),
        }
    }

    fn record(seq: u32) -> Record {
        Record::Reading(Reading::empty(UptimeMs::saturating(i64::from(seq))))
    }

    #[test]
    fn each_way_to_break_a_promise_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::create(&folder.path().join("ledger")).unwrap();
        for seq in 0..3 {
            ledger.sent(name(seq), record(seq)).unwrap();
        }
        ledger.acknowledged(&name(0)).unwrap();
        ledger.acknowledged(&name(1)).unwrap();
        let uptime = |record: &Record| record.uptime().get();
        let good = BTreeMap::from([(name(0), 0), (name(1), 1)]);
        assert!(ledger.audit(&good, uptime).holds());
        let lost = BTreeMap::from([(name(0), 0)]);
        let altered = BTreeMap::from([(name(0), 0), (name(1), 7)]);
        let foreign = BTreeMap::from([(name(0), 0), (name(1), 1), (name(9), 9)]);
        for (stored, word) in [
            (lost, "lost"),
            (altered, "stored 7"),
            (foreign, "never sent"),
        ] {
            let audit = ledger.audit(&stored, uptime);
            assert_eq!(audit.fault_count, 1);
            assert!(audit.faults[0].contains(word), "{audit}");
        }
        assert!(ledger.acknowledged(&name(4)).is_err());
    }
}
