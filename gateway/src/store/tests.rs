//! One suite for every engine, and what opening, failing and copying do.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use super::memory::Memory;
use super::table::Table;
use super::*;

fn put_meta(batch: &mut Batch, name: &str, value: u64) {
    table::put(batch, Table::Audit, name, &value).unwrap();
}

fn audit(store: &Store) -> Vec<(String, u64)> {
    let mut rows = Vec::new();
    table::each(store, Table::Audit, "", |name, value| {
        rows.push((name, value));
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    rows
}

/// What every engine must do. `reopen` gives the store again as after an orderly end.
fn suite(store: Store, reopen: impl FnOnce(Store) -> Store) {
    let mut batch = Batch::default();
    for number in 0..600_u64 {
        put_meta(&mut batch, &format!("{number:03}"), number);
    }
    store.apply(batch).unwrap();
    let mut batch = Batch::default();
    table::remove(&mut batch, Table::Audit, "000");
    put_meta(&mut batch, "001", 1_001);
    store.apply(batch).unwrap();
    assert_eq!(audit(&store).len(), 599);

    let prefix = Key::of(key::Kind::Audit);
    let mut span = Span {
        from: prefix.bytes().to_vec(),
        until: prefix.after_all(),
        order: Order::Descending,
        limit_rows: 2,
    };
    let keys = |rows: Vec<Row>| rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(
        keys(store.scan(&span).unwrap()),
        [b"a|599".to_vec(), b"a|598".to_vec()]
    );
    span.order = Order::Ascending;
    assert_eq!(
        keys(store.scan(&span).unwrap()),
        [b"a|001".to_vec(), b"a|002".to_vec()]
    );
    span.until = Some(b"a|".to_vec());
    assert!(store.scan(&span).unwrap().is_empty());

    let mut batch = Batch::default();
    journal::append(&mut batch, Commit(9), &[]).unwrap();
    store.apply(batch).unwrap();
    assert_eq!(store.barrier().unwrap().commit(), Commit(9));
    assert!(store.size_bytes().unwrap() > 0);

    let store = reopen(store);
    assert_eq!(audit(&store).len(), 599);
    assert_eq!(audit(&store)[0], ("001".to_owned(), 1_001));
    assert_eq!(store.newest_commit(), Commit(9));
}

#[test]
fn the_engine_in_memory_passes_the_suite() {
    let disk = Memory::default();
    suite(disk.open(), |store| {
        drop(store);
        disk.open()
    });
}

#[test]
fn sled_passes_the_suite() {
    let folder = tempfile::tempdir().unwrap();
    suite(Store::open(folder.path()).unwrap(), |store| {
        drop(store);
        Store::open(folder.path()).unwrap()
    });
}

#[test]
fn a_store_in_use_is_refused_and_the_error_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let first = Store::open(folder.path()).unwrap();
    let refused = Store::open(folder.path()).unwrap_err();
    assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains("control socket"), "{refused}");
    drop(first);
    Store::open(folder.path()).unwrap();
}

#[test]
fn a_damaged_store_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut batch = Batch::default();
    put_meta(&mut batch, "row", 1);
    store.apply(batch).unwrap();
    store.barrier().unwrap();
    drop(store);
    let conf = folder.path().join("conf");
    std::fs::write(
        &conf,
        b"segment_size: nonsense\nuse_compression: false\nversion: 0.34\nxxxx",
    )
    .unwrap();
    let refused = Store::open(folder.path()).unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
    let text = refused.to_string();
    assert!(
        text.contains(&folder.path().display().to_string()),
        "{text}"
    );
    assert!(text.contains("restore a backup"), "{text}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let refused = Store::open(&file.join("store")).unwrap_err();
    assert!(matches!(refused, StoreError::Io { .. }), "{refused}");
    assert!(
        refused.to_string().contains("create store folder"),
        "{refused}"
    );
}

#[test]
fn a_store_of_a_newer_version_is_refused_naming_both() {
    let disk = Memory::default();
    let store = disk.open();
    let mut batch = Batch::default();
    table::put(&mut batch, Table::Meta, "format", &(FORMAT_VERSION + 1)).unwrap();
    store.apply(batch).unwrap();
    let refused = Store::with_engine(Box::new(disk), Path::new("depot")).unwrap_err();
    let expected = StoreError::Newer {
        path: "depot".into(),
        found: FORMAT_VERSION + 1,
        known: FORMAT_VERSION,
    };
    assert_eq!(refused.to_string(), expected.to_string());
}

#[test]
fn after_a_failed_sync_nothing_is_written_synced_or_promised_again() {
    let disk = Memory::default();
    let store = disk.open();
    disk.fail_syncs();
    let first = store.barrier().unwrap_err();
    assert!(first.is_fatal());
    disk.heal();
    let syncs = disk.syncs();
    let second = store.barrier().unwrap_err();
    assert_eq!(second.to_string(), first.to_string());
    let mut batch = Batch::default();
    put_meta(&mut batch, "late", 1);
    assert!(store.apply(batch).unwrap_err().is_fatal());
    assert_eq!(disk.syncs(), syncs, "the engine was not asked again");
    assert!(audit(&disk.open()).is_empty());
}

#[test]
fn after_a_failed_write_no_barrier_is_given() {
    let disk = Memory::default();
    let store = disk.open();
    disk.fail_writes();
    let mut batch = Batch::default();
    put_meta(&mut batch, "row", 1);
    assert!(store.apply(batch).is_err());
    disk.heal();
    assert!(store.barrier().unwrap_err().is_fatal());
}

#[test]
fn a_barrier_covers_the_commits_applied_before_it_and_no_later_one() {
    let store = memory::store();
    for commit in 1..=3 {
        let mut batch = Batch::default();
        journal::append(&mut batch, Commit(commit), &[]).unwrap();
        store.apply(batch).unwrap();
        assert_eq!(store.barrier().unwrap().commit(), Commit(commit));
    }
}

/// A writer keeps two rows equal in every batch; a copy taken meanwhile must have them equal too, and
/// hold everything written before it began.
#[test]
fn a_backup_under_load_is_one_moment_of_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    let write = |store: &Store, number: u64| {
        let mut batch = Batch::default();
        put_meta(&mut batch, "a", number);
        put_meta(&mut batch, &format!("m{number:08}"), number);
        put_meta(&mut batch, "z", number);
        store.apply(batch).unwrap();
    };
    (1..=2_000).for_each(|number| write(&store, number));
    let (done, begun) = (AtomicBool::new(false), AtomicBool::new(false));
    let copy = folder.path().join("copy");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 2_001.. {
                write(&store, number);
                begun.store(true, Ordering::SeqCst);
                if done.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        while !begun.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        let copied = store.backup(&copy);
        done.store(true, Ordering::SeqCst);
        copied.unwrap();
    });
    let copied = audit(&Store::open(&copy).unwrap());
    let last = copied[0].1;
    assert!(last >= 2_000);
    assert_eq!(copied.last().unwrap(), &("z".to_owned(), last));
    assert_eq!(
        copied.len() as u64,
        last + 2,
        "every row up to the moment, none after it"
    );
    assert!(!folder.path().join("copy.partial").exists());
}

#[test]
fn a_backup_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    let refused = store.backup(folder.path()).unwrap_err();
    assert!(refused.to_string().contains("exists already"), "{refused}");
}

#[test]
fn a_log_that_lost_its_end_is_refused_naming_what_was_promised() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    for commit in 1..=3 {
        let mut batch = Batch::default();
        journal::append(&mut batch, Commit(commit), &[]).unwrap();
        store.apply(batch).unwrap();
        store.barrier().unwrap();
    }
    drop(store);
    drop(Store::open(folder.path()).unwrap());
    // sled takes a log whose end is gone for one that was never longer, and opens it.
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "db" || name.starts_with("snap") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let refused = Store::open(folder.path()).unwrap_err().to_string();
    assert!(
        refused.contains("ends at commit 0, but commit 3 was acknowledged"),
        "{refused}"
    );
}
