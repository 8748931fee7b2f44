//! What a gateway keeps of a tracker, so as not to fold its records again.

mod rig;

use protocol::reading::Door;
use protocol::record::AlarmKind;
use rig::{Records, Scribe};
use rules::fact::Fact;
use rules::timeline::Timeline;
use rules::tracker::{Mark, STATE_VERSION};
use rules::{Context, Tracker};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// A ride with an example of everything that leaves a trace in the state: warm spells open and closed,
/// shocks, a fall, trouble around the goods, a low battery, gaps, reboots with and without the time.
fn eventful_ride() -> Records {
    let mut scribe = Scribe::new(9);
    scribe.boot(0);
    scribe.settings(0);
    scribe.anchor(1, 0);
    for minute in 0..240 {
        let s = 10 + minute * 60;
        if minute == 90 || minute == 150 {
            scribe.boot(s);
        }
        if minute % 60 == 0 && minute != 120 {
            scribe.anchor(s + 1, minute);
        }
        if minute == 40 || minute == 41 {
            scribe.shock(s, 35, 2_000);
        }
        if minute == 200 {
            scribe.battery(s, 5);
        }
        if minute == 230 {
            scribe.hot_alarm(s, s - 300, 900);
        }
        let warm = (20..70).contains(&minute) || minute >= 190;
        if !(100..125).contains(&minute) {
            let centi = if warm { 850 + minute } else { 500 };
            scribe.reading(s, Some(rig::truck(s)), Some(centi));
        }
        if (130..180).contains(&minute) {
            let door = if minute > 150 {
                Door::Open
            } else {
                Door::Closed
            };
            scribe.surroundings(s + 1, [60 + minute % 30, minute - 100, minute % 40], door);
        }
        if minute == 185 {
            scribe.alarm(s, AlarmKind::FreeFall, 500, [300, 20]);
        }
    }
    scribe.records
}

fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("a vector takes every byte");
    bytes
}

fn back<T: Serialize + DeserializeOwned>(value: &T) -> T {
    ciborium::from_reader(bytes(value).as_slice()).expect("what was written is read")
}

/// The tracker that its stored parts make.
fn resumed(context: &Context, tracker: &Tracker, mark: &Mark) -> Tracker {
    let timeline: Timeline = back(tracker.timeline());
    let facts: Vec<Fact> = back(&tracker.complete_facts().to_vec());
    let device = rig::device("t-a");
    Tracker::resume(context, &device, timeline, facts, Some(back(mark))).expect("the parts fit")
}

#[test]
fn after_every_record_a_tracker_comes_back_from_its_stored_parts() {
    let (context, device, ride) = (rig::context(), rig::device("t-a"), eventful_ride());
    let mut tracker = Tracker::new(&context, &device);
    let mut marks: Vec<Mark> = Vec::new();
    for end in 1..=ride.len() {
        tracker = Tracker::refold(&context, &device, &ride[..end]);
        let mark = tracker.mark().expect("it has records");
        assert_eq!(mark.reach.records, end as u64);
        assert_eq!(resumed(&context, &tracker, &mark), tracker, "after {end}");
        marks.push(mark);
    }
    assert!(tracker.complete_facts().len() > 8, "{tracker:#?}");
    // The whole timeline dates every record: marks made with it are those of the last fold.
    let mut again = Tracker::resume(
        &context,
        &device,
        tracker.timeline().clone(),
        Vec::new(),
        None,
    )
    .expect("the start fits");
    for (count, (key, record)) in ride.iter().enumerate() {
        again.fold(&context, *key, record);
        let mark = again.mark().expect("it has records");
        let mut behind = resumed(&context, &tracker, &mark);
        for (key, record) in &ride[count + 1..] {
            behind.fold(&context, *key, record);
        }
        assert_eq!(behind, tracker, "from {count} on");
    }
}

#[test]
fn parts_that_do_not_fit_each_other_are_refused() {
    let (context, device, ride) = (rig::context(), rig::device("t-a"), eventful_ride());
    let tracker = Tracker::refold(&context, &device, &ride);
    let (timeline, mark) = (tracker.timeline().clone(), tracker.mark());
    let fewer_facts = Tracker::resume(
        &context,
        &device,
        timeline.clone(),
        Vec::new(),
        mark.clone(),
    );
    assert_eq!(fewer_facts, None);
    let facts = tracker.complete_facts().to_vec();
    let without_duty = rig::device("t-of-nobody");
    assert_eq!(
        Tracker::resume(&context, &without_duty, timeline, facts, mark),
        None
    );
}

#[test]
fn what_decides_the_state_has_a_name_of_its_own() {
    let fingerprint = |context: &Context, name| context.fingerprint(&rig::device(name));
    let context = rig::context();
    assert_eq!(
        fingerprint(&context, "t-a"),
        fingerprint(&rig::context(), "t-a")
    );
    assert_ne!(fingerprint(&context, "t-a"), fingerprint(&context, "t-b"));
    let changed = |from: &str, to: &str| {
        let plan = rules::plan::Plan::parse(&rig::PLAN.replacen(from, to, 1)).expect("sound");
        Context::new(plan.into(), rules::Options::default())
    };
    for (from, to) in [
        ("lat = 50.0", "lat = 50.000001"),
        ("above = 8.0", "above = 8.1"),
        ("trackers = [\"t-a\"]", "trackers = [\"t-a\", \"t-c\"]"),
    ] {
        let other = changed(from, to);
        let same = fingerprint(&other, "t-a") == fingerprint(&context, "t-a");
        assert_eq!(same, from.starts_with("trackers"), "{to}");
    }
    let options = rules::Options {
        temperature_delay: Some(std::time::Duration::ZERO),
        ..rules::Options::default()
    };
    let other = Context::new(context.plan().clone().into(), options);
    assert_ne!(fingerprint(&other, "t-a"), fingerprint(&context, "t-a"));
}

#[test]
fn the_state_after_a_fixed_ride_is_that_of_its_version() {
    // If this fails, stored marks of before would go on with a state that the rules make no longer:
    // raise STATE_VERSION, and write the new digest beside it.
    let (context, device) = (rig::context(), rig::device("t-a"));
    let tracker = Tracker::refold(&context, &device, &eventful_ride());
    let parts = (tracker.timeline(), tracker.complete_facts(), tracker.mark());
    let digest: String = Sha256::digest(bytes(&parts))
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let known = "1f6ee8d2ed9f631294c57d7f9bc9f132bac1894f46117bf9351538ddadfbc646";
    assert_eq!((STATE_VERSION, digest.as_str()), (2, known));
}
