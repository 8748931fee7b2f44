//! Records written one by one, in runs, late, twice and contested are read as one map.

use proptest::prelude::*;

use super::*;
use crate::store::damage;
use crate::store::memory::{self, Memory};

fn device(name: &str) -> DeviceId {
    name.parse().unwrap()
}

fn known(byte: u8) -> Known {
    Known {
        received_at: UtcMs::saturating(-5),
        qos: 1,
        content: Content::from_stored(vec![byte; 3]),
    }
}

#[test]
fn records_of_a_device_come_back_in_key_order_across_pages_and_from_a_key_on() {
    let store = memory::store();
    for seq in (0..1_000_u32).rev() {
        let mut batch = Batch::default();
        put(
            &mut batch,
            &device("t"),
            RecordKey::new(1, 0, seq),
            &known(1),
        );
        put(
            &mut batch,
            &device("t-2"),
            RecordKey::new(1, 0, seq),
            &known(2),
        );
        store.apply(batch).unwrap();
    }
    let mut keys = Vec::new();
    each(
        &store,
        &device("t"),
        Some(RecordKey::new(1, 0, 10)),
        |key, kept| {
            assert_eq!(kept, Kept::Known(known(1)));
            keys.push(key.seq.0);
            Ok(ControlFlow::Continue(()))
        },
    )
    .unwrap();
    assert_eq!(keys, (10..1_000).collect::<Vec<u32>>());
}

#[test]
fn a_contested_key_is_a_tombstone_in_its_place() {
    let store = memory::store();
    let key = RecordKey::new(u64::MAX, 1, 2);
    let mut batch = Batch::default();
    put(&mut batch, &device("t"), key, &known(1));
    store.apply(batch).unwrap();
    let mut batch = Batch::default();
    contest(&mut batch, &device("t"), key);
    store.apply(batch).unwrap();
    assert_eq!(
        value(&store, &device("t"), key).unwrap(),
        Some(Kept::Contested)
    );
}

#[test]
fn epochs_are_named_once_and_each_is_visited_alone_from_behind_a_key() {
    let store = memory::store();
    let mut batch = Batch::default();
    for epoch in [0, 7, u64::MAX] {
        for (boot, seq) in [(0, 0), (3, 1), (3, 2), (u32::MAX, u32::MAX)] {
            let key = RecordKey::new(epoch, boot, seq);
            put(&mut batch, &device("t"), key, &known(1));
        }
    }
    put(
        &mut batch,
        &device("t-"),
        RecordKey::new(8, 0, 0),
        &known(1),
    );
    store.apply(batch).unwrap();
    let all = [Epoch(0), Epoch(7), Epoch(u64::MAX)];
    assert_eq!(epochs(&store, &device("t")).unwrap(), all);
    assert_eq!(epochs(&store, &device("u")).unwrap(), []);
    for epoch in all {
        let mut keys = Vec::new();
        let behind = Some(RecordKey::new(epoch.0, 3, 1));
        each_of_epoch(&store, &device("t"), epoch, behind, |key, _| {
            keys.push((key.epoch, key.boot.0, key.seq.0));
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        assert_eq!(keys, [(epoch, 3, 2), (epoch, u32::MAX, u32::MAX)]);
    }
}

#[test]
fn every_device_is_named_once() {
    let store = memory::store();
    let mut batch = Batch::default();
    for name in ["b", "a", "a-1", "ab"] {
        for seq in 0..3 {
            put(
                &mut batch,
                &device(name),
                RecordKey::new(9, 9, seq),
                &known(0),
            );
        }
    }
    store.apply(batch).unwrap();
    let mut names = Vec::new();
    each_device(&store, |device| {
        names.push(device.to_string());
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    assert_eq!(names, ["a", "a-1", "ab", "b"]);
}

/// What happens to the history in one step: some records arrive together, and some keys become contested.
#[derive(Clone, Debug)]
struct Step {
    arrived: Vec<u32>,
    contested: Vec<u32>,
    /// Whether the same is written again in two halves, as after a crash.
    again: bool,
}

/// Numbers on both sides of two borders of windows.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        3 => 100..400_u32,
        1 => (u32::MAX - 40)..=u32::MAX,
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let alone = number().prop_map(|seq| vec![seq]);
    let together = (number(), 1..150_u32).prop_map(|(first, count)| {
        let last = first.saturating_add(count);
        (first..=last).collect()
    });
    let scattered = proptest::collection::vec(number(), 1..20);
    let contested =
        prop_oneof![3 => Just(Vec::new()), 1 => proptest::collection::vec(number(), 1..4)];
    let arrived = prop_oneof![3 => alone, 2 => together, 1 => scattered];
    (arrived, contested, any::<bool>()).prop_map(|(arrived, contested, again)| Step {
        arrived,
        contested,
        again,
    })
}

fn record(seq: u32) -> Kept {
    Kept::Known(Known {
        received_at: UtcMs::saturating(i64::from(seq % 7) * 1_000),
        qos: 1,
        content: Content::from_stored(seq.to_be_bytes().to_vec()),
    })
}

/// As the fold does it.
fn take(store: &Store, taken: &Entries) {
    let taken: Vec<(RecordKey, Kept)> = taken.clone().into_iter().collect();
    for run in runs(&taken) {
        let mut batch = Batch::default();
        keep(store, &mut batch, &device("t"), run).unwrap();
        store.apply(batch).unwrap();
    }
}

fn read(store: &Store, from: Option<RecordKey>) -> Vec<(RecordKey, Kept)> {
    let mut found = Vec::new();
    each(store, &device("t"), from, |key, kept| {
        found.push((key, kept));
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    found
}

fn read_behind(store: &Store, behind: RecordKey) -> Vec<(RecordKey, Kept)> {
    let mut found = Vec::new();
    let behind = Some(behind);
    each_of_epoch(store, &device("t"), Epoch(1), behind, |key, kept| {
        found.push((key, kept));
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_way_records_come_the_history_is_one_map_in_key_order(
        steps in proptest::collection::vec(step(), 1..25),
        from in number(),
    ) {
        let store = memory::store();
        let mut model = Entries::new();
        for step in &steps {
            let key = |seq: &u32| RecordKey::new(1, 0, *seq);
            // Admission lets a key through once, and contests only what it has seen.
            let new = step.arrived.iter().filter(|seq| !model.contains_key(&key(seq)));
            let mut taken: Entries = new.map(|seq| (key(seq), record(*seq))).collect();
            let seen: Vec<_> = model.keys().chain(taken.keys()).copied().collect();
            let contested = step.contested.iter().map(key).filter(|key| seen.contains(key));
            let contested: Vec<_> = contested.collect();
            taken.extend(contested.into_iter().map(|key| (key, Kept::Contested)));
            take(&store, &taken);
            if step.again {
                let half = taken.keys().nth(taken.len() / 2).copied();
                let behind = half.map(|half| taken.clone().split_off(&half));
                let before: Entries = taken.clone().into_iter()
                    .filter(|(key, _)| half.is_some_and(|half| *key < half)).collect();
                take(&store, &before);
                take(&store, &behind.unwrap_or_default());
            }
            model.extend(taken);
        }
        let expected: Vec<_> = model.clone().into_iter().collect();
        prop_assert_eq!(read(&store, None), expected);
        let from = RecordKey::new(1, 0, from);
        let expected: Vec<_> = model.range(from..).map(|(key, kept)| (*key, kept.clone())).collect();
        prop_assert_eq!(read(&store, Some(from)), expected.clone());
        let behind = expected.into_iter().filter(|(key, _)| *key != from).collect::<Vec<_>>();
        prop_assert_eq!(read_behind(&store, from), behind);
        for (key, kept) in &model {
            let found = value(&store, &device("t"), *key).unwrap();
            prop_assert_eq!(found.as_ref(), Some(kept));
        }
        prop_assert_eq!(value(&store, &device("t"), RecordKey::new(1, 0, 99)).unwrap(), None);
        prop_assert_eq!(value(&store, &device("t"), RecordKey::new(2, 0, 100)).unwrap(), None);
    }
}

fn of(numbers: impl IntoIterator<Item = u32>) -> Entries {
    let entry = |seq| (RecordKey::new(1, 0, seq), record(seq));
    numbers.into_iter().map(entry).collect()
}

#[test]
fn records_that_come_one_by_one_share_rows_and_so_do_those_that_come_together() {
    let disk = Memory::default();
    let store = disk.open();
    for seq in 0..64 {
        take(&store, &of([seq]));
    }
    assert_eq!(disk.keys(b"h|").len(), 64 / GROWN_RECORDS);
    take(&store, &of(128..512));
    assert_eq!(disk.keys(b"h|").len(), 64 / GROWN_RECORDS + 3);
    let all: Vec<_> = of((0..64).chain(128..512)).into_iter().collect();
    assert_eq!(read(&store, None), all);
}

#[test]
fn rows_of_the_first_stores_are_read_among_runs_and_contested_in_their_place() {
    let store = memory::store();
    let mut batch = Batch::default();
    for (key, kept) in of(0..20) {
        let Kept::Known(known) = kept else { continue };
        put(&mut batch, &device("t"), key, &known);
    }
    store.apply(batch).unwrap();
    take(&store, &of(20..200));
    let mut expected = of(0..200);
    for seq in [3, 19, 20, 77] {
        let contested = Entries::from([(RecordKey::new(1, 0, seq), Kept::Contested)]);
        take(&store, &contested);
        expected.extend(contested);
    }
    assert_eq!(read(&store, None), expected.into_iter().collect::<Vec<_>>());
}

#[test]
fn a_damaged_run_takes_its_own_records_and_is_named_and_counted() {
    let disk = Memory::default();
    let store = disk.open();
    take(&store, &of(0..300));
    let rows = disk.keys(b"h|");
    assert_eq!(rows.len(), 3);
    disk.damage(&rows[1]);
    let rest: Vec<_> = of((0..128).chain(256..300)).into_iter().collect();
    assert_eq!(read(&store, None), rest);
    assert_eq!(
        value(&store, &device("t"), RecordKey::new(1, 0, 130)).unwrap(),
        None
    );
    let counted = damage::counts(&store).unwrap();
    assert_eq!(counted.get("h"), Some(&1));
    let mut aside = b"q|\x02".to_vec();
    aside.extend_from_slice(&rows[1]);
    assert_eq!(disk.keys(b"q|\x02"), [aside]);
    // A device that still has them may send them again.
    take(&store, &of(128..256));
    assert_eq!(
        read(&store, None),
        of(0..300).into_iter().collect::<Vec<_>>()
    );
}
