//! Every counter and its reason.
//!
//! Two books are kept, one of records and one of statements (presence, answers to settings), and each
//! balances: received = stored + duplicate + contested + refused, by reason. A payload that cannot be
//! decoded counts as one received and one refused, because nobody knows how many records it held.
//! The committer writes the books in the batch that stores what they count, so they survive a crash
//! together. What is turned away before ingest (a connection, a foreign topic) is counted by reason
//! beside the books. Why something is refused, dropped or evicted is
//! listed in [`reason`]. What a stored record says and is not believed ([`Doubt`]) is counted beside the
//! books too: such a record is stored, so it is in its book already.

pub mod reason;
pub mod throttle;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::record::LossReason;
use rules::doubt::Doubt;

pub use self::reason::{Cost, Reason, manual};

/// Which book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Readings, alarms and the device's records about itself.
    Records,
    /// Presence and answers to settings.
    Statements,
}

/// Received, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// Everything that came.
    pub received: u64,
    /// New, and in the store.
    pub stored: u64,
    /// Known already, with the same content.
    pub duplicate: u64,
    /// Known already, with another content.
    pub contested: u64,
    /// Not stored, and why.
    pub refused: BTreeMap<Reason, u64>,
}

impl Book {
    /// Whether everything received is explained.
    #[must_use]
    pub fn balances(&self) -> bool {
        let refused: u64 = self.refused.values().sum();
        self.received == self.stored + self.duplicate + self.contested + refused
    }

    /// One thing came and was refused.
    pub fn refuse(&mut self, reason: Reason) {
        self.received += 1;
        *self.refused.entry(reason).or_default() += 1;
    }

    /// What was counted since `earlier`, which this one grew from.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let refused = self.refused.iter();
        let refused = refused.map(|(reason, count)| {
            let before = earlier.refused.get(reason).copied().unwrap_or_default();
            (*reason, count - before)
        });
        Self {
            received: self.received - earlier.received,
            stored: self.stored - earlier.stored,
            duplicate: self.duplicate - earlier.duplicate,
            contested: self.contested - earlier.contested,
            refused: refused.filter(|(_, count)| *count > 0).collect(),
        }
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.stored += other.stored;
        self.duplicate += other.duplicate;
        self.contested += other.contested;
        for (reason, count) in &other.refused {
            *self.refused.entry(*reason).or_default() += count;
        }
    }
}

/// Counts, of one commit or since the store began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The book of records.
    pub records: Book,
    /// The book of statements.
    pub statements: Book,
    /// Records that came without a promise (`QoS` 0), whatever became of them.
    pub records_unpromised: u64,
    /// Records that came by a broker, whatever became of them.
    pub records_by_broker: u64,
    /// Stored records whose row had been set aside as damaged: they came again.
    pub records_again: u64,
    /// Records that devices say are gone, by the device's reason.
    pub declared_lost: BTreeMap<LossReason, u64>,
    /// Stored records that say something that is not believed, once per record and doubt.
    pub doubted: BTreeMap<Doubt, u64>,
    /// Refused, dropped or evicted outside the books, by reason.
    pub elsewhere: BTreeMap<Reason, u64>,
}

impl Tally {
    /// The book of a subject.
    pub const fn book(&mut self, subject: Subject) -> &mut Book {
        match subject {
            Subject::Records => &mut self.records,
            Subject::Statements => &mut self.statements,
        }
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Self) {
        self.records.add(&other.records);
        self.statements.add(&other.statements);
        self.records_unpromised += other.records_unpromised;
        self.records_by_broker += other.records_by_broker;
        self.records_again += other.records_again;
        for (reason, count) in &other.declared_lost {
            *self.declared_lost.entry(*reason).or_default() += count;
        }
        for (doubt, count) in &other.doubted {
            *self.doubted.entry(*doubt).or_default() += count;
        }
        for (reason, count) in &other.elsewhere {
            *self.elsewhere.entry(*reason).or_default() += count;
        }
    }

    /// For tests and checks: every book balances.
    ///
    /// # Panics
    /// When one does not, naming it.
    pub fn assert_balanced(&self) {
        assert!(self.records.balances(), "records: {:?}", self.records);
        assert!(
            self.statements.balances(),
            "statements: {:?}",
            self.statements
        );
    }
}

/// The counters of a running gateway. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Account(Arc<Mutex<Tally>>);

impl Account {
    /// Goes on from counts kept earlier.
    #[must_use]
    pub fn resume(kept: Tally) -> Self {
        Self(Arc::new(Mutex::new(kept)))
    }

    /// Counts something refused, dropped or evicted outside the books.
    pub fn count(&self, reason: Reason) {
        *self.lock().elsewhere.entry(reason).or_default() += 1;
    }

    /// Adds the counts of a commit once it is applied.
    pub fn add(&self, tally: &Tally) {
        self.lock().add(tally);
    }

    /// The counts now.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        // Plain numbers: a panic while they were held left none of them half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One number for `/metrics` and for the store: name and at most one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Name, in the manner of Prometheus.
    pub name: &'static str,
    /// Label and its value.
    pub label: Option<(&'static str, &'static str)>,
    /// What it counts.
    pub help: &'static str,
    /// How many since the store began.
    pub value: u64,
}

impl Tally {
    /// Every counter, including those that are zero.
    pub fn samples(&self) -> impl Iterator<Item = Sample> {
        let mut samples = Vec::new();
        let mut records = self.records.clone();
        let mut statements = self.statements.clone();
        for (names, book) in [(&RECORDS, &mut records), (&STATEMENTS, &mut statements)] {
            each_of_book(names, book, &mut |sample, value| {
                samples.push(sample.with(*value))
            });
        }
        let mut rest = self.clone();
        each_beside(&mut rest, &mut |sample, value| {
            samples.push(sample.with(*value))
        });
        samples.into_iter()
    }

    /// The counters as they are kept in the store: name and label to value.
    #[must_use]
    pub fn kept(&self) -> BTreeMap<String, u64> {
        let samples = self.samples().filter(|sample| sample.value > 0);
        samples.map(|sample| (sample.key(), sample.value)).collect()
    }

    /// The counts that were kept. Names that this version does not know are left out.
    #[must_use]
    pub fn from_kept(kept: &BTreeMap<String, u64>) -> Self {
        let mut tally = Self::default();
        let mut read = |sample: Sample, value: &mut u64| {
            *value = kept.get(&sample.key()).copied().unwrap_or_default();
        };
        each_of_book(&RECORDS, &mut tally.records, &mut read);
        each_of_book(&STATEMENTS, &mut tally.statements, &mut read);
        each_beside(&mut tally, &mut read);
        tally
    }
}

impl Sample {
    const fn new(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            label: None,
            help,
            value: 0,
        }
    }

    const fn labelled(mut self, label: &'static str, value: &'static str) -> Self {
        self.label = Some((label, value));
        self
    }

    const fn with(mut self, value: u64) -> Self {
        self.value = value;
        self
    }

    fn key(&self) -> String {
        match self.label {
            None => self.name.to_owned(),
            Some((_, value)) => format!("{}/{value}", self.name),
        }
    }
}

/// Names and help texts of a book's counters, in the order of its fields.
type Names = [(&'static str, &'static str); 5];

const RECORDS: Names = [
    (
        "supercargo_records_received_total",
        "Records that came from devices, and payloads that could not be decoded.",
    ),
    (
        "supercargo_records_stored_total",
        "Records that were new and are in the store.",
    ),
    (
        "supercargo_records_duplicate_total",
        "Records that were known already, with the same content.",
    ),
    (
        "supercargo_records_contested_total",
        "Records that were known already, with another content.",
    ),
    (
        "supercargo_records_refused_total",
        "Payloads of records that were refused.",
    ),
];

const STATEMENTS: Names = [
    (
        "supercargo_statements_received_total",
        "Births, goodbyes, last wills and answers to settings that came from devices.",
    ),
    (
        "supercargo_statements_stored_total",
        "Statements that are in the store.",
    ),
    (
        "supercargo_statements_duplicate_total",
        "Statements that were known already; always 0, the newest is kept.",
    ),
    (
        "supercargo_statements_contested_total",
        "Contested statements; always 0, the newest is kept.",
    ),
    (
        "supercargo_statements_refused_total",
        "Payloads of statements that were refused.",
    ),
];

fn each_of_book(names: &Names, book: &mut Book, visit: &mut dyn FnMut(Sample, &mut u64)) {
    let [received, stored, duplicate, contested, refused] =
        names.map(|(name, help)| Sample::new(name, help));
    visit(received, &mut book.received);
    visit(stored, &mut book.stored);
    visit(duplicate, &mut book.duplicate);
    visit(contested, &mut book.contested);
    each_reason(&refused, &mut book.refused, visit);
}

fn each_beside(tally: &mut Tally, visit: &mut dyn FnMut(Sample, &mut u64)) {
    let unpromised = "Records that came at QoS 0, outside the promise of a PUBACK.";
    visit(
        Sample::new("supercargo_records_unpromised_total", unpromised),
        &mut tally.records_unpromised,
    );
    let by_broker = "Records that came by a broker: their receipt is the broker's word.";
    visit(
        Sample::new("supercargo_records_by_broker_total", by_broker),
        &mut tally.records_by_broker,
    );
    let again = "Stored records whose row had been set aside as damaged: they came again and were stored anew.";
    visit(
        Sample::new("supercargo_records_again_total", again),
        &mut tally.records_again,
    );
    let lost = "Records that devices say are gone, by the device's reason.";
    for reason in LOSS_REASONS {
        let sample = Sample::new("supercargo_records_declared_lost_total", lost);
        let count = tally.declared_lost.entry(reason).or_default();
        visit(sample.labelled("reason", loss_label(reason)), count);
    }
    tally.declared_lost.retain(|_, count| *count > 0);
    let doubted = "Stored records that say something that is not believed.";
    for doubt in Doubt::ALL {
        let sample = Sample::new("supercargo_records_doubted_total", doubted);
        let count = tally.doubted.entry(*doubt).or_default();
        visit(sample.labelled("reason", doubt.as_str()), count);
    }
    tally.doubted.retain(|_, count| *count > 0);
    let elsewhere = "Refused, dropped or evicted outside the books of records and statements.";
    let sample = Sample::new("supercargo_refusals_total", elsewhere);
    each_reason(&sample, &mut tally.elsewhere, visit);
}

fn each_reason(
    sample: &Sample,
    counts: &mut BTreeMap<Reason, u64>,
    visit: &mut dyn FnMut(Sample, &mut u64),
) {
    for reason in Reason::ALL {
        let sample = sample.clone().labelled("reason", reason.as_str());
        visit(sample, counts.entry(*reason).or_default());
    }
    counts.retain(|_, count| *count > 0);
}

const LOSS_REASONS: [LossReason; 4] = [
    LossReason::RoutineFull,
    LossReason::AlarmsFull,
    LossReason::Corrupt,
    LossReason::PowerCut,
];

const fn loss_label(reason: LossReason) -> &'static str {
    match reason {
        LossReason::RoutineFull => "routine_full",
        LossReason::AlarmsFull => "alarms_full",
        LossReason::Corrupt => "corrupt",
        LossReason::PowerCut => "power_cut",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        let mut tally = Tally::default();
        tally.records.received = 9;
        tally.records.stored = 4;
        tally.records.duplicate = 3;
        tally.records.contested = 2;
        tally.records.refuse(Reason::Undecodable);
        tally.statements.refuse(Reason::WireVersion);
        tally.records_unpromised = 2;
        tally.records_by_broker = 8;
        tally.records_again = 9;
        tally.declared_lost.insert(LossReason::Corrupt, 7);
        tally.doubted.insert(Doubt::ClockRefused, 6);
        tally.elsewhere.insert(Reason::ClientId, 5);
        tally
    }

    #[test]
    fn counts_survive_being_kept() {
        assert_eq!(Tally::from_kept(&tally().kept()), tally());
        assert_eq!(Tally::from_kept(&BTreeMap::new()), Tally::default());
    }

    #[test]
    fn a_record_that_nothing_explains_unbalances_its_book() {
        tally().assert_balanced();
        let mut unbalanced = tally();
        unbalanced.records.received += 1;
        assert!(!unbalanced.records.balances());
    }

    #[test]
    fn every_counter_has_a_name_of_its_own() {
        let keys: Vec<String> = tally().samples().map(|sample| sample.key()).collect();
        let unique: std::collections::BTreeSet<&String> = keys.iter().collect();
        assert_eq!(unique.len(), keys.len());
        let total: u64 = tally().samples().map(|sample| sample.value).sum();
        let expected = 10 + 4 + 3 + 2 + 1 + 1 + 1 + 2 + 8 + 9 + 7 + 6 + 5;
        assert_eq!(total, expected);
    }
}
