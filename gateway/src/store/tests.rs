//! What opening and copying do; what every engine must do is in the suite beside it.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

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
    for engine in StoreEngine::ALL {
        back_up_under_load(engine);
    }
}

fn back_up_under_load(engine: StoreEngine) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_on(engine, &folder.path().join("store")).unwrap();
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
    let copied = audit(&Store::open_on(engine, &copy).unwrap());
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
