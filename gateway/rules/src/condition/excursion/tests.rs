use std::time::Duration;

use super::*;
use crate::event::{Severity, Side};
use crate::plan::limit::LimitRule;
use crate::quantity::Quantity;
use crate::rig;

fn limit(bound: f64, side: Side, inclusive: bool, delay_s: u64) -> Limit {
    Limit::of(&LimitRule {
        quantity: Quantity::Temperature,
        name: "r".to_owned(),
        bound,
        side,
        inclusive,
        delay: Duration::from_secs(delay_s),
        hysteresis: 0.3,
        clear_delay: Duration::from_secs(300),
        severity: Severity::Critical,
    })
}

/// The rule of `vaccine_2_8`: above 8.0 for 10 h, exclusive.
fn vaccine_hot() -> Limit {
    limit(8.0, Side::Above, false, 36_000)
}

/// Feeds (second, steps of the wire); returns the machine and the episodes that ended.
fn feed(limit: &Limit, samples: &[(i64, i32)], max_gap_s: i64) -> (Excursion, Vec<Episode>) {
    let mut excursion = Excursion::default();
    let mut ended = Vec::new();
    for ((s, value), seq) in samples.iter().zip(0..) {
        let sample = Sample {
            at: rig::stamp(*s),
            key: RecordKey::new(1, 1, seq),
            value: *value,
        };
        ended.extend(excursion.observe(limit, sample, max_gap_s * 1_000));
    }
    (excursion, ended)
}

#[test]
fn the_worked_case_of_vaccine_2_8_holds() {
    let limit = vaccine_hot();
    let samples = [
        (0, 400),
        (900, 801),
        (1_800, 801),
        (28_800, 801),
        (39_600, 801),
    ];
    let (excursion, ended) = feed(&limit, &samples, 28_000);
    assert_eq!(ended, []);
    let open = excursion.open_episode(&limit).unwrap();
    assert_eq!(open.began, rig::stamp(900), "hot since 900 s");
    assert_eq!(
        open.alarm_ms, 2_700_000,
        "alarm from 36900 s, so 2700 s at 39600 s"
    );
    assert_eq!(open.confidence, Confidence::Certain);
}

#[test]
fn exactly_the_bound_for_11_hours_is_no_alarm_when_exclusive() {
    let samples: Vec<(i64, i32)> = (0..=44).map(|i| (i * 900, 800)).collect();
    let (excursion, _) = feed(&vaccine_hot(), &samples, 900);
    assert!(excursion.is_in_range());
    let inclusive = limit(8.0, Side::Above, true, 36_000);
    let (excursion, _) = feed(&inclusive, &samples, 900);
    assert!(excursion.open_episode(&inclusive).is_some());
}

#[test]
fn nine_hours_hot_46_minutes_missing_nine_hours_hot_is_a_possible_alarm() {
    let limit = vaccine_hot();
    let resumed = 32_400 + 46 * 60;
    let before = (0..=36).map(|i| (i * 900, 900));
    let after = (0..=36).map(|i| (resumed + i * 900, 900));
    let samples: Vec<(i64, i32)> = before.chain(after).collect();
    let (excursion, _) = feed(&limit, &samples, 2_700);
    let open = excursion.open_episode(&limit).unwrap();
    assert_eq!(open.confidence, Confidence::Possible);
    assert_eq!(open.began, rig::stamp(0));
    assert_eq!(open.figures.unobserved_ms, 46 * 60_000);
    // Ten hours hot after the gap make it certain.
    let longer: Vec<(i64, i32)> = samples
        .into_iter()
        .chain((37..=40).map(|i| (resumed + i * 900, 900)))
        .collect();
    let (excursion, _) = feed(&limit, &longer, 2_700);
    let open = excursion.open_episode(&limit).unwrap();
    assert_eq!(open.confidence, Confidence::Certain);
}

#[test]
fn an_unknown_stretch_counts_only_between_two_readings_beyond() {
    let limit = vaccine_hot();
    let samples = [(0, 900), (900, 900), (40_000, 500), (40_900, 900)];
    let (excursion, ended) = feed(&limit, &samples, 2_700);
    assert_eq!(ended, []);
    assert_eq!(excursion.open_episode(&limit), None);
}

#[test]
fn one_second_less_than_the_delay_is_no_alarm() {
    let limit = limit(8.0, Side::Above, false, 1_800);
    let excursion_of = |seconds: i64| {
        let hot = (0..)
            .map(|i| i * 60)
            .take_while(|s| *s < seconds)
            .map(|s| (s, 900));
        let samples: Vec<(i64, i32)> = hot.chain([(seconds, 500), (seconds + 300, 500)]).collect();
        feed(&limit, &samples, 900).1
    };
    assert_eq!(excursion_of(1_799), []);
    let ended = excursion_of(1_800);
    assert_eq!(ended.len(), 1, "the duration reaches the delay");
    assert_eq!(ended[0].ended, Some(rig::stamp(1_800)));
}

#[test]
fn one_reading_in_range_resets_pending() {
    let limit = limit(8.0, Side::Above, false, 1_800);
    let samples: Vec<(i64, i32)> = (0..60)
        .map(|i| (i * 60, if i % 29 == 28 { 800 } else { 900 }))
        .collect();
    let (excursion, ended) = feed(&limit, &samples, 900);
    assert_eq!(ended, []);
    assert_eq!(excursion.open_episode(&limit), None);
}

#[test]
fn an_open_episode_ends_only_beyond_the_clear_level_for_the_clear_delay() {
    let limit = limit(8.0, Side::Above, false, 600);
    let hot = (0..=10).map(|i| (i * 60, 900 + i32::try_from(i).unwrap()));
    let within_hysteresis = [(660, 771), (720, 790)];
    let back = [(780, 770), (840, 800), (900, 770), (960, 700), (1_200, 600)];
    let samples: Vec<(i64, i32)> = hot.chain(within_hysteresis).chain(back).collect();
    let (excursion, ended) = feed(&limit, &samples, 900);
    assert!(excursion.is_in_range());
    assert_eq!(ended.len(), 1);
    let episode = ended[0];
    assert_eq!(
        episode.ended,
        Some(rig::stamp(900)),
        "first reading that stayed clear"
    );
    assert_eq!((episode.figures.min, episode.figures.max), (770, 910));
    assert_eq!(episode.figures.covered_ms, 900_000);
}

#[test]
fn an_unknown_stretch_never_ends_an_episode() {
    let limit = limit(8.0, Side::Above, false, 600);
    let hot = (0..=10).map(|i| (i * 60, 900));
    let samples: Vec<(i64, i32)> = hot.chain([(660, 500), (7_200, 500)]).collect();
    let (excursion, ended) = feed(&limit, &samples, 900);
    assert_eq!(ended, [], "clear at 660 s and at 7200 s, unknown between");
    assert!(excursion.open_episode(&limit).is_some());
}

#[test]
fn the_mean_weighs_each_reading_by_the_time_it_holds() {
    let limit = limit(8.0, Side::Above, false, 600);
    let samples = [(0, 1_000), (300, 2_000), (900, 500), (1_200, 500)];
    let (_, ended) = feed(&limit, &samples, 900);
    let mean = ended[0].figures.mean();
    assert!((mean - (1_000.0 * 300.0 + 2_000.0 * 600.0) / 900.0).abs() < 1e-6);
}

#[test]
fn a_limit_below_works_the_other_way_round() {
    let freeze = limit(-0.5, Side::Below, false, 3_600);
    let cold: Vec<(i64, i32)> = (0..=60).map(|i| (i * 60, -51)).collect();
    let (excursion, _) = feed(&freeze, &cold, 900);
    assert!(excursion.open_episode(&freeze).is_some());
    let exactly: Vec<(i64, i32)> = (0..=120).map(|i| (i * 60, -50)).collect();
    let (excursion, _) = feed(&freeze, &exactly, 900);
    assert!(excursion.is_in_range());
}

#[test]
fn an_alarm_of_a_stricter_or_equal_device_limit_proves_the_bound() {
    let hot = vaccine_hot();
    assert_eq!(hot.claimed_by(800, 950), Some((801, 950)));
    assert_eq!(hot.claimed_by(900, 950), Some((900, 950)));
    assert_eq!(
        hot.claimed_by(700, 950),
        None,
        "beyond 7.0 is not beyond 8.0"
    );
    assert_eq!(hot.claimed_by(800, 800), None);
}

#[test]
fn an_open_episode_tells_of_worsening_in_steps_not_with_every_reading() {
    let limit = limit(8.0, Side::Above, false, 600);
    let rising: Vec<(i64, i32)> = (0..=60)
        .map(|i| (i * 60, 900 + i32::try_from(i).unwrap() * 10))
        .collect();
    let told = |count: usize| {
        let (excursion, _) = feed(&limit, &rising[..count], 900);
        excursion
            .open_episode(&limit)
            .map(|episode| episode.figures.max)
    };
    let mut steps: Vec<Option<i32>> = (1..=61).map(told).collect();
    steps.dedup();
    let expected = [1_000, 1_100, 1_200, 1_300, 1_400, 1_500].map(Some);
    assert_eq!(steps[0], None);
    assert_eq!(steps[1..], expected, "once in ten minutes");
}
