//! The rows of store format 1, frozen. If this fails, do not change the fixture: stores out there hold these
//! bytes. A new format gets a new `FORMAT_VERSION`, a new fixture, and code that still reads this one.
//!
//! `rows.hex` has one row a line: key and value as the engine has them. Frozen are journal
//! (`j|`), copies of what of it is urgent (`u|`), seen runs (`d|`), history (`h|`: a record, a contested key, a run), view (`e|`), outbox (`o|`, `x|`), quarantine (`q|`), devices (`i|`),
//! wanted and temporary settings (`w|`, `t|`), plan revisions (`p|`), seals (`z|`), audit (`a|`) and the cursors (`m|`); the fold's cache (`s|`) may be
//! removed at any time and needs no freezing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod sample;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::{Arc, Mutex};

use gateway::fold::posted::Posted;
use gateway::store::audit;
use gateway::store::device::{self, Field};
use gateway::store::history::{self, Kept};
use gateway::store::outbox::{self, Tails};
use gateway::store::pressure;
use gateway::store::quarantine::{self, Fill, Overflow};
use gateway::store::revision;
use gateway::store::seal;
use gateway::store::seen::{self, Run};
use gateway::store::settings;
use gateway::store::{
    Batch, Commit, Engine, EngineError, FORMAT_VERSION, Order, Row, Span, Store, journal, view,
};
use protocol::key::Seq;
use protocol::record::Record;

use sample::{
    NOON, act, boot, contents, cover, entries, key, known, late, lost, pending, plan, pointer,
    posted, presence, records, refused, revision_of_plan, run_of_records, sealed, settings,
    tracker,
};

const FIXTURE: &str = include_str!("rows.hex");

type Tree = BTreeMap<Vec<u8>, Vec<u8>>;

/// Shows what the store hands to its engine.
#[derive(Clone, Default)]
struct Rows(Arc<Mutex<Tree>>);

impl Engine for Rows {
    fn apply(&self, batch: &Batch) -> Result<(), EngineError> {
        let mut tree = self.0.lock().unwrap();
        for (key, value) in batch.writes() {
            match value {
                Some(value) => tree.insert(key.to_vec(), value.to_vec()),
                None => tree.remove(key),
            };
        }
        Ok(())
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    fn scan(&self, span: &Span) -> Result<Vec<Row>, EngineError> {
        let until = span.until.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let tree = self.0.lock().unwrap();
        let range = tree.range((Bound::Included(span.from.clone()), until));
        let row = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        Ok(match span.order {
            Order::Ascending => range.take(span.limit_rows).map(row).collect(),
            Order::Descending => range.rev().take(span.limit_rows).map(row).collect(),
        })
    }

    fn sync(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn size_bytes(&self) -> Result<u64, EngineError> {
        self.live_bytes()
    }

    fn live_bytes(&self) -> Result<u64, EngineError> {
        let tree = self.0.lock().unwrap();
        let sizes = tree.iter().map(|(key, value)| key.len() + value.len());
        Ok(sizes.sum::<usize>() as u64)
    }
}

fn open(rows: &Rows) -> Store {
    Store::with_engine(Box::new(rows.clone()), Path::new("fixture")).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

/// One row a line, keys readable behind them.
fn lines(rows: &Rows) -> Vec<String> {
    let tree = rows.0.lock().unwrap();
    let line = |(key, value): (&Vec<u8>, &Vec<u8>)| {
        format!("{} {} # {}", hex(key), hex(value), key.escape_ascii())
    };
    tree.iter().map(line).collect()
}

fn frozen() -> Rows {
    let rows = Rows::default();
    for line in FIXTURE.lines() {
        let mut words = line.split(' ');
        let (key, value) = (words.next().unwrap(), words.next().unwrap());
        rows.0.lock().unwrap().insert(bytes(key), bytes(value));
    }
    rows
}

/// Everything that the fixture holds, written by today's code.
fn written() -> Rows {
    let rows = Rows::default();
    let store = open(&rows);
    let mut batch = Batch::default();
    journal::append(&mut batch, Commit(7), &entries()).unwrap();
    history::put(&mut batch, &tracker(), key(2), &known());
    history::contest(&mut batch, &tracker(), key(3));
    history::keep(&store, &mut batch, &tracker(), &run_of_records()).unwrap();
    let run = Run {
        first: Seq(0),
        last: Seq(3),
    };
    seen::put(&mut batch, &boot(), run);
    device::state(&mut batch, &tracker(), Field::Presence, &presence()).unwrap();
    device::note_pending(&mut batch, &tracker(), pending()).unwrap();
    device::note_end(&mut batch, &boot(), Seq(41)).unwrap();
    device::note_lost(&mut batch, &tracker(), lost()).unwrap();
    let known = settings();
    settings::want(&mut batch, &tracker(), &known.wanted.unwrap(), 8).unwrap();
    pressure::slow(&mut batch, &tracker(), &known.slowed.unwrap(), 8).unwrap();
    settings::note_answer(&mut batch, &tracker(), &known.answer.unwrap()).unwrap();
    settings::note_in_force(&mut batch, &tracker(), &known.in_force.unwrap()).unwrap();
    for posted in posted() {
        let event = posted.revision.event.id.to_string();
        view::put(&mut batch, "SHP-1", &event, &posted).unwrap();
    }
    let mut fill = Fill::load(&store).unwrap();
    let mut overflow = Overflow::default();
    fill.keep(&mut batch, &tracker(), &refused(), &mut overflow)
        .unwrap();
    let mut tails = Tails::default();
    tails.push(&store, &mut batch, "file", &pointer()).unwrap();
    tails.push(&store, &mut batch, "file", &pointer()).unwrap();
    store.apply(batch).unwrap();
    let mut batch = Batch::default();
    let first = &outbox::pending(&store, "file", 0, 1).unwrap()[0];
    outbox::confirm(&mut batch, "file", first).unwrap();
    store.apply(batch).unwrap();
    let mut batch = Batch::default();
    assert_eq!(audit::note(&store, &mut batch, &act()).unwrap(), 0);
    store.apply(batch).unwrap();
    assert_eq!(revision::keep(&store, &plan(), NOON).unwrap(), (1, true));
    seal::write(&store, "SHP-1", &sealed(), &[(tracker(), cover())]).unwrap();
    let mut batch = Batch::default();
    let late = (tracker(), "SHP-1".to_owned(), late());
    seal::note_late(&store, &mut batch, &[late]).unwrap();
    store.apply(batch).unwrap();
    rows
}

#[test]
fn todays_code_writes_the_frozen_bytes() {
    assert_eq!(FORMAT_VERSION, 1, "a new version gets a fixture of its own");
    let written = lines(&written());
    let frozen: Vec<String> = FIXTURE.lines().map(str::to_owned).collect();
    let new = written.iter().find(|line| !frozen.contains(line));
    let all = written.join("\n");
    assert_eq!(
        new, None,
        "today's code writes another row; all of them:\n{all}"
    );
    assert_eq!(written, frozen);
}

#[test]
fn the_fixture_has_rows_of_every_kind_that_outlives_a_restart() {
    let frozen = frozen();
    let tree = frozen.0.lock().unwrap();
    for kind in [
        "j|", "u|", "d|", "h|", "e|", "o|", "x|", "q|", "i|", "w|", "t|", "p|", "z|", "a|", "m|",
    ] {
        assert!(
            tree.keys().any(|key| key.starts_with(kind.as_bytes())),
            "{kind}"
        );
    }
}

#[test]
fn todays_code_reads_the_frozen_bytes() {
    let store = open(&frozen());
    assert_eq!(store.newest_commit(), Commit(7));
    let chunk = journal::chunk(&store, Commit(7)).unwrap().unwrap();
    assert_eq!(chunk.entries, entries());
    let decoded: Vec<Record> = contents()
        .iter()
        .map(|stored| stored.content.decode().unwrap().record)
        .collect();
    assert_eq!(decoded, records());
    let kept = |seq| history::value(&store, &tracker(), key(seq)).unwrap();
    assert_eq!(kept(2), Some(Kept::Known(known())));
    assert_eq!(kept(3), Some(Kept::Contested));
    for (key, expected) in run_of_records() {
        assert_eq!(kept(key.seq.0), Some(expected));
    }
    let runs = seen::at_or_after(&store, &boot(), Seq(0), 9).unwrap();
    assert_eq!(
        runs,
        [Run {
            first: Seq(0),
            last: Seq(3)
        }]
    );
    let mut found = Vec::new();
    view::each(&store, "SHP-1", |_, posted: Posted| {
        found.push(posted);
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    assert_eq!(found, posted());
    let queued = outbox::pending(&store, "file", 0, 9).unwrap();
    assert_eq!(queued.len(), 1);
    assert_eq!(queued[0].pointer, pointer());
    assert_eq!(
        outbox::last_sent(&store, "file", &pointer().event).unwrap(),
        Some(2)
    );
    let mut kept = Vec::new();
    quarantine::each(&store, |refused| {
        kept.push(refused);
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    assert_eq!(kept, [refused()]);
    assert_eq!(
        device::pending(&store, &tracker()).unwrap(),
        Some(pending())
    );
    assert_eq!(device::end(&store, &boot()).unwrap(), Some(Seq(41)));
    let mut told = Vec::new();
    device::each_lost(&store, &tracker(), |lost| {
        told.push(lost);
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    assert_eq!(told, [lost()]);
    let presence_row = device::stated(&store, &tracker(), Field::Presence).unwrap();
    assert_eq!(presence_row, Some(presence()));
    let known = settings::Known::load(&store, &tracker()).unwrap();
    assert_eq!(known, settings());
    assert_eq!(settings::newest_given(&store).unwrap(), 8);
}

#[test]
fn todays_code_reads_the_frozen_plans_and_acts() {
    let store = open(&frozen());
    let mut acts = Vec::new();
    audit::each(&store, |number, act| {
        acts.push((number, act));
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    assert_eq!(acts, [(0, act())]);
    let kept = revision::numbered(&store, 1).unwrap();
    assert_eq!(kept, Some(revision_of_plan()));
    let texts = revision::texts(&store, &revision_of_plan())
        .unwrap()
        .unwrap();
    let read: Vec<String> = plan().sources.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, read);
}

#[test]
fn todays_code_reads_the_frozen_seal() {
    let store = open(&frozen());
    assert_eq!(seal::of(&store, "SHP-1").unwrap(), Some(sealed()));
    let covers = seal::of_device(&store, &tracker()).unwrap();
    assert_eq!(covers, [("SHP-1".to_owned(), cover())]);
    let counted = seal::late_of(&store, &tracker()).unwrap();
    assert_eq!(counted, [("SHP-1".to_owned(), late())]);
    let totals = seal::totals(&store).unwrap();
    assert_eq!((totals.shipments, totals.late_records), (1, 4));
}
