//! Power cuts.

use std::fs::{self, File};
use std::io::Write;

use tests::power::Disk;

#[test]
fn a_cut_takes_what_was_written_and_leaves_what_was_synced() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut disk) = Disk::create(folder.path()).unwrap() else {
        return;
    };
    let mut synced = File::create(disk.path().join("synced")).unwrap();
    synced.write_all(b"kept").unwrap();
    synced.sync_all().unwrap();
    File::open(disk.path()).unwrap().sync_all().unwrap();
    fs::write(disk.path().join("written"), b"gone").unwrap();
    disk.cut().unwrap();
    assert!(fs::write(disk.path().join("late"), b"refused").is_err());
    drop(synced);
    disk.restore().unwrap();
    assert_eq!(fs::read(disk.path().join("synced")).unwrap(), b"kept");
    assert!(!disk.path().join("written").exists());
    assert!(!disk.path().join("late").exists());
}
