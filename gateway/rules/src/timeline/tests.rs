use protocol::reading::Reading;
use protocol::record::{Anchor, BootRecord, ResetCause, TimeSource};
use protocol::units::Milliseconds;

use super::*;
use crate::rig;

fn anchor(uptime_ms: u64, utc_ms: i64) -> Record {
    Record::Anchor(Anchor {
        uptime: UptimeMs::new(uptime_ms).unwrap(),
        utc: UtcMs::new(utc_ms).unwrap(),
        source: TimeSource::Gnss,
        uncertainty: Milliseconds::new(50).unwrap(),
        rollover_corrected: false,
    })
}

fn boot(build_ms: i64) -> Record {
    Record::Boot(BootRecord {
        uptime: UptimeMs::saturating(0),
        build_time: UtcMs::new(build_ms).unwrap(),
        previous_last: None,
        cause: ResetCause::PowerOn,
        version: [1, 0, 0],
    })
}

fn timeline(records: &[(u32, u32, Record)]) -> Timeline {
    let key = |boot, seq| RecordKey::new(1, boot, seq);
    Timeline::of(records.iter().map(|(b, s, record)| (key(*b, *s), record)))
}

fn dated(timeline: &Timeline, boot: u32, uptime_ms: u64) -> Option<Dated> {
    let uptime = UptimeMs::new(uptime_ms).unwrap();
    let stamp = timeline.stamp(RecordKey::new(1, boot, 0), uptime)?;
    Some(stamp.dated)
}

fn utc(timeline: &Timeline, boot: u32, uptime_ms: u64) -> Option<i64> {
    dated(timeline, boot, uptime_ms).map(|dated| dated.at.get())
}

#[test]
fn two_anchors_of_50_ppm_interpolate_and_extrapolate() {
    let timeline = timeline(&[
        (1, 1, anchor(1_000_000, 1_773_480_413_000)),
        (1, 2, anchor(8_200_000, 1_773_487_613_360)),
    ]);
    assert_eq!(utc(&timeline, 1, 4_600_000), Some(1_773_484_013_180));
    assert_eq!(utc(&timeline, 1, 400_000), Some(1_773_479_812_970));
    assert_eq!(utc(&timeline, 1, 8_200_000), Some(1_773_487_613_360));
}

#[test]
fn one_anchor_or_a_close_pair_extrapolates_at_rate_one_with_20_ppm() {
    let one = timeline(&[(1, 1, anchor(1_000, 1_000_000_000_000))]);
    assert_eq!(utc(&one, 1, 86_401_000), Some(1_000_086_400_000));
    let uncertainty_ms = dated(&one, 1, 86_401_000).unwrap().uncertainty_ms;
    assert_eq!(uncertainty_ms, 50 + 1_728, "1.7 s a day");
    let pair = timeline(&[
        (1, 1, anchor(0, 1_000_000_000_000)),
        (1, 2, anchor(60_000, 1_000_000_060_500)),
    ]);
    assert_eq!(utc(&pair, 1, 3_660_000), Some(1_000_003_660_500));
}

#[test]
fn a_rate_beyond_1000_ppm_is_not_believed() {
    let timeline = timeline(&[
        (1, 1, anchor(0, 1_000_000_000_000)),
        (1, 2, anchor(7_200_000, 1_000_007_210_000)),
    ]);
    assert_eq!(utc(&timeline, 1, 8_200_000), Some(1_000_008_210_000));
}

#[test]
fn an_anchor_long_before_the_build_is_refused() {
    let built = 1_772_000_000_000;
    let old = anchor(500, built - 366 * 86_400_000);
    let refused = timeline(&[(1, 0, boot(built)), (1, 1, old)]);
    assert_eq!(utc(&refused, 1, 1_000), None);
    let fair = anchor(500, built - 364 * 86_400_000);
    let accepted = timeline(&[(1, 0, boot(built)), (1, 1, fair)]);
    assert!(utc(&accepted, 1, 1_000).is_some());
}

#[test]
fn records_before_the_first_anchor_are_dated_afterwards() {
    let mut timeline = timeline(&[(1, 0, boot(0))]);
    assert_eq!(utc(&timeline, 1, 0), None);
    let redated = timeline.learn(RecordKey::new(1, 1, 1), &anchor(60_000, 1_000_000_060_000));
    let from_the_start = Redated {
        epoch: Epoch(1),
        boot: Boot(1),
        from_uptime_ms: i64::MIN,
        reordered: false,
    };
    assert_eq!(redated, Some(from_the_start));
    assert_eq!(utc(&timeline, 1, 0), Some(1_000_000_000_000));
    assert_eq!(timeline.learn(RecordKey::new(1, 1, 2), &boot(0)), None);
}

#[test]
fn a_boot_without_an_anchor_is_bounded_by_its_neighbours() {
    let first = timeline(&[
        (1, 1, anchor(1_000, 1_000_000_000_000)),
        (2, 0, boot(0)),
        (
            2,
            9,
            Record::Boot(BootRecord {
                uptime: UptimeMs::saturating(5_000),
                ..match boot(0) {
                    Record::Boot(record) => record,
                    _ => unreachable!("boot() makes a boot record"),
                }
            }),
        ),
    ]);
    let middle = dated(&first, 2, 5_000).unwrap();
    assert_eq!(middle.at.get(), 1_000_000_005_000);
    assert_eq!(middle.quality, TimeQuality::Bounded);
    let mut both = first;
    both.learn(RecordKey::new(1, 3, 0), &anchor(2_000, 1_000_000_067_000));
    let middle = dated(&both, 2, 5_000).unwrap();
    assert_eq!(middle.at.get(), 1_000_000_005_000);
    assert_eq!(middle.uncertainty_ms, 62_000);
}

#[test]
fn epochs_order_by_their_earliest_anchor() {
    let (early, late) = (anchor(0, 1_000_000_000_000), anchor(0, 2_000_000_000_000));
    let records = [
        (RecordKey::new(7, 0, 0), &early),
        (RecordKey::new(3, 0, 0), &late),
    ];
    let timeline = Timeline::of(records);
    let place = |epoch| timeline.fold_key(RecordKey::new(epoch, 0, 0));
    assert!(
        place(7) < place(3) && place(3) < place(1),
        "unanchored last"
    );
}

/// Records that vex a timeline: few boots of few epochs, uptimes out of order, anchors that contradict
/// each other, boots that claim different builds.
fn vexing(noise: &mut rig::Noise) -> Vec<(RecordKey, Record)> {
    let mut below = |bound: u64| noise.draw() % bound;
    let record = |seq: u32| {
        let (epoch, number) = (below(3), u32::try_from(below(4)).unwrap());
        let uptime_ms = below(20) * 600_000;
        let skewed_ms = i64::try_from(uptime_ms + below(3) * 1_000).unwrap();
        let began_ms = 1_000_000_000_000 + i64::from(number) * 20_000_000;
        let record = match below(4) {
            0 => anchor(uptime_ms, began_ms + skewed_ms),
            1 => boot(i64::try_from(below(2)).unwrap() * (began_ms + 366 * 86_400_000)),
            _ => Record::Reading(Reading::empty(UptimeMs::new(uptime_ms).unwrap())),
        };
        (RecordKey::new(epoch, number, seq), record)
    };
    (0..40).map(record).collect()
}

#[test]
fn what_is_learned_one_by_one_or_twice_is_what_is_learned_at_once() {
    for seed in 0..200 {
        let records = vexing(&mut rig::Noise::seeded(seed));
        let mut one_by_one = Timeline::default();
        for (key, record) in records.iter().rev().chain(&records[..20]) {
            one_by_one.learn(*key, record);
        }
        let at_once = Timeline::of(records.iter().map(|(key, record)| (*key, record)));
        assert_eq!(one_by_one, at_once, "seed {seed}");
    }
}

#[test]
fn whatever_a_record_dates_anew_lies_behind_the_place_it_names() {
    let mut redatings = 0;
    for seed in 0..200 {
        let mut timeline = Timeline::default();
        let mut known: Vec<(RecordKey, Record)> = Vec::new();
        for (key, record) in vexing(&mut rig::Noise::seeded(seed)) {
            let before = timeline.clone();
            let redated = timeline.learn(key, &record);
            redatings += usize::from(redated.is_some());
            for (old, record) in &known {
                let (was, is) = [&before, &timeline]
                    .map(|timeline| timeline.stamp(*old, record.uptime()))
                    .into();
                let spared = redated.is_none_or(|redated| {
                    let first = timeline.boot_key(redated.epoch, redated.boot);
                    let own = timeline.boot_key(old.epoch, old.boot);
                    let uptime_ms = milliseconds(record.uptime());
                    !redated.reordered
                        && (own < first || own == first && uptime_ms < redated.from_uptime_ms)
                });
                assert!(was == is || !spared, "seed {seed}: {old} {redated:?}");
            }
            known.push((key, record));
        }
    }
    assert!(redatings > 1_000, "{redatings}");
}
