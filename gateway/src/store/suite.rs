//! One suite for every engine: what the store asks of it, and what follows when it fails.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::memory::Memory;
use super::table::Table;
use super::*;

/// Where a store is kept, by which engine.
enum Place {
    Memory(Memory),
    Folder(StoreEngine, TempDir),
}

impl Place {
    /// One of each engine.
    fn each() -> impl Iterator<Item = Self> {
        let folders = StoreEngine::ALL
            .into_iter()
            .map(|engine| Self::Folder(engine, tempfile::tempdir().unwrap()));
        folders.chain([Self::Memory(Memory::default())])
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::Folder(engine, _) => engine.as_str(),
        }
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::Memory(_) => "memory".into(),
            Self::Folder(_, folder) => folder.path().to_owned(),
        }
    }

    /// Opens the engine, for the first time or again.
    fn engine(&self) -> Box<dyn Engine> {
        match self {
            Self::Memory(disk) => Box::new(disk.clone()),
            Self::Folder(engine, folder) => folder::open(*engine, folder.path()).unwrap(),
        }
    }

    fn open(&self) -> Store {
        Store::with_engine(self.engine(), &self.path()).unwrap()
    }

    /// A store whose engine fails when it is told to.
    fn open_faulty(&self) -> (Store, Switch) {
        let switch = Switch::default();
        let engine = Faulty {
            inner: self.engine(),
            switch: switch.clone(),
        };
        let store = Store::with_engine(Box::new(engine), &self.path()).unwrap();
        (store, switch)
    }
}

/// Tells a [`Faulty`] what to do, and counts what it was asked.
#[derive(Clone, Default)]
struct Switch(Arc<Mutex<Asked>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asked {
    writes: u64,
    syncs: u64,
    fails: bool,
}

impl Switch {
    fn asked(&self) -> Asked {
        *self.0.lock().unwrap()
    }

    fn fail(&self, fails: bool) {
        self.0.lock().unwrap().fails = fails;
    }

    fn count(&self, count: impl FnOnce(&mut Asked)) -> Result<(), EngineError> {
        let mut asked = self.0.lock().unwrap();
        count(&mut asked);
        if asked.fails {
            return Err("input/output error".into());
        }
        Ok(())
    }
}

/// An engine that fails while its switch says so.
struct Faulty {
    inner: Box<dyn Engine>,
    switch: Switch,
}

impl Engine for Faulty {
    fn apply(&self, batch: &Batch) -> Result<(), EngineError> {
        self.switch.count(|asked| asked.writes += 1)?;
        self.inner.apply(batch)
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.inner.value(key)
    }

    fn scan(&self, span: &Span) -> Result<Vec<Row>, EngineError> {
        self.inner.scan(span)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.switch.count(|asked| asked.syncs += 1)?;
        self.inner.sync()
    }

    fn size_bytes(&self) -> Result<u64, EngineError> {
        self.inner.size_bytes()
    }

    fn live_bytes(&self) -> Result<u64, EngineError> {
        self.inner.live_bytes()
    }
}

fn writes(rows: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>) -> Batch {
    Batch {
        writes: rows.into_iter().collect(),
        ..Batch::default()
    }
}

fn put(key: &[u8], value: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    (key.to_vec(), Some(value.to_vec()))
}

fn span(from: &[u8], until: Option<&[u8]>, order: Order, limit_rows: usize) -> Span {
    Span {
        from: from.to_vec(),
        until: until.map(<[u8]>::to_vec),
        order,
        limit_rows,
    }
}

fn keys(engine: &dyn Engine, span: &Span) -> Vec<Vec<u8>> {
    let rows = engine.scan(span).unwrap();
    rows.into_iter().map(|(key, _)| key).collect()
}

#[test]
fn rows_come_in_byte_order_from_either_end_and_only_those_of_the_range() {
    for place in Place::each() {
        let engine = place.engine();
        let unordered = [&b"b"[..], b"a\0", b"a", b"b\xFF\xFF", b"c", b"a\xFF"];
        let ordered = [&b"a"[..], b"a\0", b"a\xFF", b"b", b"b\xFF\xFF", b"c"];
        engine
            .apply(&writes(unordered.map(|key| put(key, b""))))
            .unwrap();
        let all = |order| keys(&*engine, &span(b"", None, order, 10));
        assert_eq!(all(Order::Ascending), ordered, "{}", place.name());
        let mut reversed = ordered;
        reversed.reverse();
        assert_eq!(all(Order::Descending), reversed, "{}", place.name());
        let within = |until, order, limit| keys(&*engine, &span(b"a\0", until, order, limit));
        assert_eq!(within(Some(b"b"), Order::Ascending, 10), ordered[1..3]);
        assert_eq!(within(Some(b"c"), Order::Descending, 1), ordered[4..5]);
        assert!(within(Some(b"a\0"), Order::Ascending, 10).is_empty());
        assert!(within(Some(b"a"), Order::Descending, 10).is_empty());
        assert!(within(None, Order::Ascending, 0).is_empty());
    }
}

#[test]
fn a_batch_replaces_and_deletes_and_what_is_deleted_is_gone_after_reopening() {
    for place in Place::each() {
        let store = place.open();
        let rows = (0..600_u32).map(|number| put(&number.to_be_bytes(), b"first"));
        store.apply(writes(rows)).unwrap();
        let deletes = (0..600_u32)
            .step_by(2)
            .map(|number| (number.to_be_bytes().to_vec(), None));
        store.apply(writes(deletes)).unwrap();
        let replaced = [
            put(&1_u32.to_be_bytes(), b"second"),
            (b"never there".to_vec(), None),
        ];
        store.apply(writes(replaced)).unwrap();
        store.barrier().unwrap();
        drop(store);
        let engine = place.engine();
        let left = engine
            .scan(&span(&[0], Some(&[1]), Order::Ascending, 600))
            .unwrap();
        assert_eq!(left.len(), 300, "{}", place.name());
        assert_eq!(
            engine.value(&1_u32.to_be_bytes()).unwrap(),
            Some(b"second".to_vec())
        );
        assert_eq!(engine.value(&2_u32.to_be_bytes()).unwrap(), None);
    }
}

/// A writer keeps two rows equal in every batch; whoever reads meanwhile with one scan must find them so.
#[test]
fn a_barrier_beside_a_writer_covers_what_was_applied_before_it() {
    for place in Place::each() {
        let store = place.open();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for number in 1..=200 {
                    let mut batch = writes([put(b"z", &[7])]);
                    journal::append(&mut batch, Commit(number), &[]).unwrap();
                    store.apply(batch).unwrap();
                }
            });
            while !writer.is_finished() {
                let before = store.newest_commit();
                assert!(
                    store.barrier().unwrap().commit() >= before,
                    "{}",
                    place.name()
                );
            }
        });
        assert_eq!(store.barrier().unwrap().commit(), Commit(200));
        drop(store);
        assert_eq!(
            place.open().newest_commit(),
            Commit(200),
            "{}",
            place.name()
        );
    }
}

#[test]
fn a_row_read_beside_a_writer_and_its_barriers_is_one_of_those_written() {
    for place in Place::each() {
        let engine = place.engine();
        let row = |number: u8| writes([put(b"row", &[number; 2_000])]);
        engine.apply(&row(0)).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for number in 1..=200 {
                    engine.apply(&row(number)).unwrap();
                    engine.sync().unwrap();
                }
            });
            while !writer.is_finished() {
                let value = engine.value(b"row").unwrap().unwrap();
                assert_eq!(value, [value[0]; 2_000], "{}", place.name());
            }
        });
    }
}

#[test]
fn live_bytes_are_those_of_the_keys_and_values_that_are_there() {
    for place in Place::each() {
        let engine = place.engine();
        let before = engine.live_bytes().unwrap();
        assert_eq!(before, 0, "{}", place.name());
        let rows = (0..100_u32).map(|number| put(&number.to_be_bytes(), &[7; 1_000]));
        engine.apply(&writes(rows)).unwrap();
        assert_eq!(
            engine.live_bytes().unwrap(),
            100 * 1_004,
            "{}",
            place.name()
        );
        let deletes = (0..99_u32).map(|number| (number.to_be_bytes().to_vec(), None));
        engine.apply(&writes(deletes)).unwrap();
        engine.sync().unwrap();
        assert_eq!(engine.live_bytes().unwrap(), 1_004, "{}", place.name());
        assert!(engine.size_bytes().unwrap() >= 1_004, "{}", place.name());
    }
}

#[test]
fn the_largest_value_comes_back() {
    for place in Place::each() {
        let engine = place.engine();
        let rows = (0..20_u8).map(|key| put(&[key], &vec![key; VALUE_MAX_BYTES]));
        engine.apply(&writes(rows)).unwrap();
        engine.sync().unwrap();
        drop(engine);
        let engine = place.engine();
        for key in 0..20 {
            assert_eq!(
                engine.value(&[key]).unwrap(),
                Some(vec![key; VALUE_MAX_BYTES])
            );
        }
    }
}

#[test]
fn a_store_of_a_newer_version_is_refused_by_every_engine() {
    for place in Place::each() {
        let store = place.open();
        let mut batch = Batch::default();
        table::put(&mut batch, Table::Meta, "format", &(FORMAT_VERSION + 1)).unwrap();
        store.apply(batch).unwrap();
        store.barrier().unwrap();
        drop(store);
        let refused = Store::with_engine(place.engine(), &place.path()).unwrap_err();
        let StoreError::Newer { found, known, .. } = refused else {
            panic!("{}: {refused}", place.name());
        };
        assert_eq!((found, known), (FORMAT_VERSION + 1, FORMAT_VERSION));
    }
}

#[test]
fn after_a_failed_write_nothing_is_written_synced_or_promised_again() {
    for place in Place::each() {
        let (store, switch) = place.open_faulty();
        switch.fail(true);
        let first = store.apply(writes([put(b"lost", b"")])).unwrap_err();
        assert!(
            first.is_fatal() && first.to_string().contains("store write failed"),
            "{first}"
        );
        refuses_for_good(&place, &store, &switch, &first);
    }
}

#[test]
fn after_a_failed_sync_no_engine_is_written_synced_or_promised_again() {
    for place in Place::each() {
        let (store, switch) = place.open_faulty();
        store.apply(writes([put(b"row", b"")])).unwrap();
        switch.fail(true);
        let first = store.barrier().unwrap_err();
        assert!(
            first.is_fatal() && first.to_string().contains("store sync failed"),
            "{first}"
        );
        refuses_for_good(&place, &store, &switch, &first);
    }
}

/// Even when the disk is well again: nothing is asked of the engine any more, and everybody who asks is
/// told of the first failure.
fn refuses_for_good(place: &Place, store: &Store, switch: &Switch, first: &StoreError) {
    switch.fail(false);
    let asked = switch.asked();
    for _ in 0..3 {
        let written = store.apply(writes([put(b"late", b"")])).unwrap_err();
        let synced = store.barrier().unwrap_err();
        for refused in [written, synced] {
            assert_eq!(refused.to_string(), first.to_string(), "{}", place.name());
        }
    }
    assert_eq!(
        switch.asked(),
        asked,
        "{}: the engine was asked again",
        place.name()
    );
    assert_eq!(
        store.value(&Key::of(key::Kind::Meta).tail("late")).unwrap(),
        None
    );
}

#[test]
fn a_folder_of_the_other_engine_is_refused_naming_both_and_left_as_it_is() {
    for engine in StoreEngine::ALL {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_on(engine, folder.path()).unwrap();
        store.apply(writes([put(b"row", b"")])).unwrap();
        store.barrier().unwrap();
        drop(store);
        let other = StoreEngine::ALL
            .into_iter()
            .find(|other| *other != engine)
            .unwrap();
        let refused = Store::open_on(other, folder.path())
            .unwrap_err()
            .to_string();
        let (found, asked) = (engine.as_str(), other.as_str());
        for words in [
            format!("the engine {found} made it"),
            format!("asks for {asked}"),
            format!("set store.engine = \"{found}\""),
            folder.path().display().to_string(),
        ] {
            assert!(refused.contains(&words), "{refused}");
        }
        assert!(!folder.path().join(other.file()).exists());
        Store::open_on(engine, folder.path()).unwrap();
    }
}

#[test]
fn a_store_that_another_process_holds_is_refused_by_every_engine() {
    for engine in StoreEngine::ALL {
        let folder = tempfile::tempdir().unwrap();
        let first = Store::open_on(engine, folder.path()).unwrap();
        let refused = Store::open_on(engine, folder.path()).unwrap_err();
        assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");
        assert!(refused.to_string().contains("control socket"), "{refused}");
        drop(first);
        Store::open_on(engine, folder.path()).unwrap();
    }
}
