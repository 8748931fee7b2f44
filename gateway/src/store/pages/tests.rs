use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::super::key::{Key, Kind};
use super::super::{Batch, Store, journal};
use super::*;

/// A store with branches above its leaves, and with pages that are no longer its own.
fn make(folder: &Path) {
    let store = Store::open_on(StoreEngine::Redb, folder).unwrap();
    for number in 1..=300_u64 {
        let mut batch = Batch::default();
        let value = number.to_be_bytes().repeat(64);
        let part = u8::try_from(number % 200).unwrap();
        batch.put(Key::of(Kind::View).u8(part), value);
        journal::append(&mut batch, Commit(number), &[]).unwrap();
        store.apply(batch).unwrap();
        store.barrier().unwrap();
    }
}

fn found(folder: &Path) -> BTreeSet<Row> {
    let mut rows = BTreeMap::new();
    replay(folder, &mut |change| {
        match change {
            Change::Page { lo, hi, rows: all } => {
                rows.retain(|key, _| *key < lo || (!hi.is_empty() && *key >= hi));
                rows.extend(all);
            }
            Change::Set((key, sealed)) => drop(rows.insert(key, sealed)),
            Change::Spare((key, sealed)) => drop(rows.entry(key).or_insert(sealed)),
            Change::Remove(_) | Change::Unplaced => panic!("{change:?} of a sound file"),
        }
        Ok(())
    })
    .unwrap();
    rows.into_iter().collect()
}

#[test]
fn a_sound_file_is_read_as_redb_reads_it_and_any_damage_to_its_tree_is_seen_before_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let ours = found(folder.path());
    let promised = Commit(300);
    before_opening(folder.path(), promised).unwrap();
    let store = Store::open_on(StoreEngine::Redb, folder.path()).unwrap();
    let mut theirs = BTreeSet::new();
    store
        .walk(&Key::all(), None, |key, value| {
            theirs.insert((key.to_vec(), damage::seal(key, value)));
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    assert_eq!(ours, theirs);
    drop(store);
    let path = folder.path().join(StoreEngine::Redb.file());
    let whole = std::fs::read(&path).unwrap();
    let mut paged = Paged::open(folder.path()).unwrap();
    let header = paged.bytes(0, PAGE_BYTES).unwrap();
    let primary = usize::from(header[MAGIC.len()] & PRIMARY != 0);
    let tables = pointer(&header[SLOTS[primary] + 8..]).unwrap();
    let (leaf, sound) = paged.page(tables).unwrap();
    assert!(sound);
    let root = roots(&leaf).pop().unwrap();
    let (branch, _) = paged.page(root).unwrap();
    let pages = children(&branch).into_iter().map(|(child, _)| child);
    let mut damaged = 0;
    for pointer in pages.chain([root, tables]) {
        let (at, _) = paged.place(pointer.page).unwrap();
        let mut bytes = whole.clone();
        bytes[usize::try_from(at).unwrap() + 5] ^= 0x10;
        std::fs::write(&path, bytes).unwrap();
        before_opening(folder.path(), promised).unwrap_err();
        damaged += 1;
    }
    assert!(damaged > 3, "the tree has branches: {damaged}");
}
