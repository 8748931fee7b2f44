use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use protocol::key::{Boot, DeviceId, Epoch, RecordKey, Seq};
use protocol::units::UtcMs;

use super::*;
use crate::store::content::Content;
use crate::store::history::{self, Known};
use crate::store::journal::{self, Entry, Records, Stored};
use crate::store::key::Kind;
use crate::store::outbox::{Pointer, Tails};
use crate::store::seen::{BootId, Run};
use crate::store::{Commit, view};

/// Damaged stores for every change (two seconds each in a debug build), and in the long campaign.
const SEEDS_QUICK: u64 = 24;
const SEEDS_FULL: u64 = 1_000;

/// Commits of the store that is damaged, and by how many the fold is behind.
const COMMITS: u32 = 80;
const FOLD_LAG: u32 = 12;

/// Records of a commit, one device each.
const DEVICES: u32 = 24;

/// Most times a store is opened until it gives every row: damage that opening does not meet is met by reading,
/// and then opening salvages.
const OPENINGS_MAX: u32 = 3;

fn device(number: u32) -> DeviceId {
    format!("tracker-{number}").parse().unwrap()
}

fn boot(number: u32) -> BootId {
    BootId {
        device: device(number),
        epoch: Epoch(7),
        boot: Boot(1),
    }
}

fn content(device: u32, seq: u32) -> Content {
    let word = format!("content of record {seq} of {device}, which is as long as a reading");
    Content::from_stored(word.into_bytes())
}

fn key(seq: u32) -> RecordKey {
    RecordKey::new(7, 1, seq)
}

fn commit(store: &Store, number: u32) {
    let records = |of: u32| {
        Entry::Records(Records {
            device: device(of),
            epoch: Epoch(7),
            boot: Boot(1),
            received_at: UtcMs::saturating(0),
            qos: 1,
            oldest_pending: key(0),
            records: vec![Stored {
                seq: Seq(number),
                content: content(of, number),
            }],
        })
    };
    let entries: Vec<Entry> = (0..DEVICES).map(records).collect();
    let mut batch = Batch::default();
    journal::append(&mut batch, Commit(u64::from(number) + 1), &entries).unwrap();
    for of in 0..DEVICES {
        let (first, last) = (Seq(0), Seq(number));
        seen::put(&mut batch, &boot(of), Run { first, last });
    }
    store.apply(batch).unwrap();
    store.barrier().unwrap();
}

fn fold(store: &Store, tails: &mut Tails, number: u32) {
    let chunk = journal::chunk(store, Commit(u64::from(number) + 1)).unwrap();
    let mut batch = Batch::default();
    for of in 0..DEVICES {
        let known = Known {
            received_at: UtcMs::saturating(0),
            qos: 1,
            content: content(of, number),
        };
        history::put(&mut batch, &device(of), key(number), &known);
    }
    let event = format!("event-{}", number % 8);
    let row = BTreeMap::from([("sequence", number)]);
    view::put(&mut batch, "S-1", &event, &row).unwrap();
    let pointer = Pointer {
        shipment: "S-1".to_owned(),
        event,
        revision: number,
        critical: false,
    };
    tails.push(store, &mut batch, "file", &pointer).unwrap();
    journal::fold_taken(&mut batch, &chunk.unwrap()).unwrap();
    store.apply(batch).unwrap();
}

/// A store with a life behind it.
fn make(kind: StoreEngine, folder: &Path) {
    let store = Store::open_on(kind, folder).unwrap();
    let mut tails = Tails::default();
    for number in 0..COMMITS {
        commit(&store, number);
        if let Some(behind) = number.checked_sub(FOLD_LAG) {
            fold(&store, &mut tails, behind);
        }
    }
    store.barrier().unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
}

/// Which record, of whom.
type Name = (u32, u32);

/// The records in journal and history, with the damage that reading meets.
fn records(store: &Store) -> Result<BTreeSet<Name>, StoreError> {
    store.check_rows()?;
    let mut found = BTreeSet::new();
    for of in 0..DEVICES {
        history::each(store, &device(of), None, |key, kept| {
            let expected = content(of, key.seq.0);
            let same = matches!(kept, history::Kept::Known(known) if known.content == expected);
            assert!(same, "record {} of {of} is another", key.seq.0);
            found.insert((of, key.seq.0));
            Ok(ControlFlow::Continue(()))
        })?;
    }
    journal::each(store, Commit(0), |chunk| {
        for entry in &chunk.entries {
            let boot = entry.boot();
            let of = (0..DEVICES).find(|of| device(*of) == boot.device).unwrap();
            found.extend(entry.numbers().into_iter().map(|seq| (of, seq.0)));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// Where the newest version of each row is in the file, by an undamaged copy.
fn places(folder: &Path) -> BTreeMap<Vec<u8>, Range<u64>> {
    let wreck = Wreck::open(folder).unwrap();
    let mut places: BTreeMap<Vec<u8>, Range<u64>> = BTreeMap::new();
    wreck
        .replay_placed(|place, change| {
            match change {
                Change::Page { lo, hi, rows } => {
                    places.retain(|key, _| *key < lo || (!hi.is_empty() && *key >= hi));
                    places.extend(rows.into_iter().map(|(key, _)| (key, place.clone())));
                }
                Change::Set((key, _)) => drop(places.insert(key, place)),
                Change::Remove(key) => drop(places.remove(&key)),
                Change::Spare(_) | Change::Unplaced => panic!("an undamaged row has no place"),
            }
            Ok::<(), io::Error>(())
        })
        .unwrap();
    places
}

#[test]
fn a_sound_log_is_read_as_sled_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    make(StoreEngine::Sled, &store);
    let ours: Vec<Vec<u8>> = places(&store).into_keys().collect();
    let store = Store::open(&store).unwrap();
    let mut theirs = Vec::new();
    store
        .walk(&Key::all(), None, |key, _| {
            theirs.push(key.to_vec());
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    assert_eq!(ours, theirs);
}

/// Damages a log; which bytes.
fn damage(log: &Path, seed: u64) -> Range<u64> {
    let mut bytes = fs::read(log).unwrap();
    let mut chance = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11;
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let at = usize::try_from(chance).unwrap() % used;
    chance >>= 7;
    let end = match seed % 3 {
        0 => {
            bytes[at] ^= 1 << (chance % 8);
            at + 1
        }
        1 => {
            let page = at - at % 4096;
            let end = (page + 4096).min(bytes.len());
            bytes[page..end].fill(0);
            fs::write(log, bytes).unwrap();
            return page as u64..end as u64;
        }
        _ => {
            let end = bytes.len();
            bytes.truncate(at);
            end
        }
    };
    fs::write(log, bytes).unwrap();
    at as u64..end as u64
}

/// Opens until every row can be read. How often it was salvaged, and what is there.
fn open_all(kind: StoreEngine, store: &Path) -> (u32, BTreeSet<Name>) {
    let mut salvages = 0;
    for _ in 0..OPENINGS_MAX {
        let (store, report) = Store::open_or_salvage(kind, store, &Patience::endless()).unwrap();
        salvages += u32::from(report.is_some());
        if let Ok(found) = records(&store) {
            let newest = store.newest_commit();
            assert!(
                newest.0 >= u64::from(COMMITS),
                "numbers would be given twice"
            );
            assert_eq!(reports(&store).unwrap().len() as u32, salvages);
            return (salvages, found);
        }
    }
    panic!("not readable after {OPENINGS_MAX} openings");
}

#[test]
fn whatever_is_damaged_the_store_opens_with_every_record_that_the_damage_did_not_touch() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    make(StoreEngine::Sled, &whole);
    let places = places(&whole);
    let full = std::env::var_os("SUPERCARGO_FULL").is_some();
    let (mut salvaged, mut lost) = (0, 0);
    let mut gone: Vec<String> = Vec::new();
    for seed in 0..if full { SEEDS_FULL } else { SEEDS_QUICK } {
        let store = folder.path().join(format!("store-{seed}"));
        copy(&whole, &store);
        let damaged = damage(&store.join("db"), seed);
        let (salvages, found) = open_all(StoreEngine::Sled, &store);
        salvaged += salvages;
        for of in 0..DEVICES {
            for seq in 0..COMMITS {
                let history = Key::record(&device(of), key(seq));
                let journal = Key::of(Kind::Journal).u64(u64::from(seq) + 1).u16(0);
                let place = places.get(history.bytes()).or(places.get(journal.bytes()));
                let place = place.unwrap();
                let touched = damaged.start < place.end && place.start < damaged.end;
                let there = found.contains(&(of, seq));
                lost += u32::from(!there);
                if !there && !touched {
                    gone.push(format!("seed {seed}, {damaged:?}: record {seq} of {of} in {place:?}, salvaged {salvages}"));
                }
            }
        }
        let kept = fs::read_dir(folder.path()).unwrap().filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy()
                .starts_with(&format!("store-{seed}.damaged-"))
        });
        assert_eq!(
            kept.count() as u32,
            salvages,
            "seed {seed}: nothing is deleted"
        );
        for entry in fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with(&format!("store-{seed}")) {
                fs::remove_dir_all(path).unwrap();
            }
        }
    }
    assert!(
        gone.is_empty(),
        "{} records: {:#?}",
        gone.len(),
        gone.iter().step_by(gone.len() / 40 + 1).collect::<Vec<_>>()
    );
    assert!(salvaged > 0, "no damage was worth a salvage");
    assert!(lost > 0, "no damage met a record");
}

/// How far from damage redb may have to give up a record, in bytes: the largest page of this store.
const REDB_REACH_BYTES: u64 = 8 * 1024;

/// The records of which a copy lies in or near a stretch of the file.
fn records_near(file: &[u8], damaged: &Range<u64>) -> BTreeSet<Name> {
    let words = b"content of record ";
    let from = usize::try_from(damaged.start.saturating_sub(REDB_REACH_BYTES)).unwrap();
    let until = usize::try_from(damaged.end + REDB_REACH_BYTES).unwrap();
    let near = &file[from..until.min(file.len())];
    let name = |at: usize| {
        let text =
            String::from_utf8_lossy(&near[at + words.len()..near.len().min(at + 40)]).into_owned();
        let (seq, rest) = text.split_once(" of ")?;
        let (of, _) = rest.split_once(',')?;
        Some((of.parse().ok()?, seq.parse().ok()?))
    };
    let found = near.windows(words.len()).enumerate();
    found
        .filter(|(_, window)| window == words)
        .filter_map(|(at, _)| name(at))
        .collect()
}

#[test]
fn whatever_is_damaged_in_a_file_of_redb_every_record_that_the_damage_did_not_touch_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    make(StoreEngine::Redb, &whole);
    let file = fs::read(whole.join(StoreEngine::Redb.file())).unwrap();
    let full = std::env::var_os("SUPERCARGO_FULL").is_some();
    let (mut salvaged, mut lost) = (0, 0);
    let mut gone = Vec::new();
    for seed in 0..if full { SEEDS_FULL } else { SEEDS_QUICK } {
        let case = tempfile::tempdir().unwrap();
        let store = case.path().join("store");
        copy(&whole, &store);
        let damaged = damage(&store.join(StoreEngine::Redb.file()), seed);
        let touched = records_near(&file, &damaged);
        let (salvages, found) = open_all(StoreEngine::Redb, &store);
        salvaged += salvages;
        for name in (0..DEVICES).flat_map(|of| (0..COMMITS).map(move |seq| (of, seq))) {
            let there = found.contains(&name);
            lost += u32::from(!there);
            if !there && !touched.contains(&name) {
                gone.push(format!(
                    "seed {seed}, {damaged:?}: record {name:?}, salvaged {salvages}"
                ));
            }
        }
    }
    let shown: Vec<_> = gone.iter().step_by(gone.len() / 40 + 1).collect();
    assert!(gone.is_empty(), "{} records: {shown:#?}", gone.len());
    assert!(salvaged > 0, "no damage was worth a salvage");
    assert!(lost > 0, "no damage met a record");
}

#[test]
fn a_survey_says_what_a_salvage_brings_back_and_changes_nothing() {
    for kind in StoreEngine::ALL {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        make(kind, &store);
        let sound = survey(kind, &store).unwrap();
        assert_eq!(sound.newest_commit, u64::from(COMMITS));
        assert_eq!(sound.promised_commit, u64::from(COMMITS));
        assert_eq!(sound.damaged, 0);
        let records = u64::from((COMMITS - FOLD_LAG) * DEVICES);
        assert_eq!(sound.rows["h"], records);
        let log = store.join(kind.file());
        let bytes = fs::read(&log).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let cut = &bytes[..used / 2];
        fs::write(&log, cut).unwrap();
        let names = |folder: &Path| {
            let names = fs::read_dir(folder).unwrap();
            let names = names.map(|entry| entry.unwrap().file_name());
            names.collect::<BTreeSet<_>>()
        };
        let before = names(&store);
        let surveyed = survey(kind, &store).unwrap();
        assert_eq!(names(&store), before);
        assert_eq!(names(folder.path()).len(), 1);
        assert_eq!(fs::read(&log).unwrap(), cut);
        let (_, report) = Store::open_or_salvage(kind, &store, &Patience::endless()).unwrap();
        let report = report.unwrap();
        assert_eq!(report.promised_commit, surveyed.promised_commit);
        // sled discards a batch that is cut short as soon as it opens its log.
        assert!(report.newest_commit <= surveyed.newest_commit);
        assert!(report.newest_commit + 1 >= surveyed.newest_commit);
        assert!(surveyed.rows.values().sum::<u64>() < sound.rows.values().sum());
    }
}

#[test]
fn a_chunk_that_comes_back_fills_gaps_of_the_history_and_unfolds_no_contested_record() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    make(StoreEngine::Sled, &store);
    let store = Store::open(&store).unwrap();
    let (missing, contested) = (key(3), key(4));
    let mut batch = Batch::default();
    batch.remove(Key::record(&device(0), missing));
    history::contest(&mut batch, &device(0), contested);
    store.apply(batch).unwrap();
    for number in [missing.seq.0, contested.seq.0] {
        commit(&store, number);
    }
    cursors::derive(&store, Commit(u64::from(COMMITS))).unwrap();
    let kept = |key| history::value(&store, &device(0), key).unwrap();
    let expected = Known {
        received_at: UtcMs::saturating(0),
        qos: 1,
        content: content(0, missing.seq.0),
    };
    assert_eq!(kept(missing), Some(history::Kept::Known(expected)));
    assert_eq!(kept(contested), Some(history::Kept::Contested));
    let (oldest, _) = journal::ends(&store).unwrap();
    assert_eq!(oldest, Some(Commit(u64::from(COMMITS - FOLD_LAG) + 1)));
}
