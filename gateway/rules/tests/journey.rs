//! The stages of a journey and its exceptions, from records to view.

mod rig;

use protocol::reading::Measured;
use protocol::record::Record;
use protocol::units::UtcMs;
use rig::{Scribe, context, fleet, second_of, whole_ride, with_code};
use rules::code::Code;
use rules::event::{Confidence, Detail, Severity, View};
use rules::verdict_of;

fn view(a: Scribe, b: Scribe) -> View {
    verdict_of(&context(), "S", &fleet(a, b))
}

#[test]
fn a_ride_along_three_stops_reaches_every_stage_once() {
    let view = view(whole_ride(1), whole_ride(2));
    let codes = |view: &View| {
        let mut events: Vec<_> = view.values().collect();
        events.sort_by_key(|event| event.occurred_at);
        events.iter().map(|event| event.code).collect::<Vec<_>>()
    };
    assert_eq!(view.len(), 9, "{:?}", codes(&view));
    // Fences reach 500 m; leaving counts 30 m farther out, less and more 8 m of accuracy. The truck
    // passes 538 m at 3627 s and the hub's edge at 4576 s, and one minute is one sample.
    assert_eq!(second_of(&view, Code::ArrivedPickup), Some(10));
    assert_eq!(second_of(&view, Code::PickedUp), Some(3_670));
    assert_eq!(second_of(&view, Code::ArrivedHub), Some(4_630));
    assert_eq!(second_of(&view, Code::DepartedHub), Some(8_230));
    assert_eq!(second_of(&view, Code::OutForDelivery), Some(8_230));
    assert_eq!(second_of(&view, Code::ArrivedDelivery), Some(9_190));
    assert_eq!(second_of(&view, Code::Delivered), Some(9_190 + 900));
    let legs: Vec<_> = with_code(&view, Code::InTransit);
    assert_eq!(legs.len(), 2, "once per leg");
    let pickup = with_code(&view, Code::ArrivedPickup)[0];
    assert_eq!(
        pickup.confidence,
        Confidence::Inferred,
        "there from the first fix"
    );
    let hub = with_code(&view, Code::ArrivedHub)[0];
    assert_eq!(hub.confidence, Confidence::Certain);
    assert_eq!(hub.title, "Arrived at a hub: the hub");
    assert_eq!(hub.references["order"], "4711");
    assert_eq!(hub.place.as_ref().unwrap().name, "the hub");
    assert_eq!(
        hub.detail,
        Detail::Stop {
            stop: "cross".to_owned(),
            index: 1
        }
    );
    assert_eq!(hub.plan_version, 7);
}

#[test]
fn a_shipment_is_delivered_only_when_all_its_units_are() {
    let mut late = Scribe::new(2);
    late.boot(0);
    late.anchor(1, 0);
    rig::ride(&mut late, 10, 8_000);
    let view = view(whole_ride(1), late);
    assert_eq!(second_of(&view, Code::ArrivedDelivery), Some(9_190));
    assert_eq!(second_of(&view, Code::Delivered), None);
}

#[test]
fn a_quarter_of_an_hour_less_a_minute_is_no_delivery() {
    let until = |end_s| {
        let mut scribe = Scribe::new(1);
        scribe.boot(0);
        scribe.anchor(1, 0);
        rig::ride(&mut scribe, 10, end_s);
        scribe.records
    };
    let delivered = |end_s| {
        let records = [("t-a", until(end_s)), ("t-b", until(end_s))];
        let records = records.map(|(name, records)| (rig::device(name), records));
        second_of(
            &verdict_of(&context(), "S", &records.into()),
            Code::Delivered,
        )
    };
    assert_eq!(delivered(9_190 + 841), None);
    assert_eq!(delivered(9_190 + 901), Some(9_190 + 900));
}

#[test]
fn half_an_hour_of_warmth_is_an_excursion_and_a_minute_less_is_none() {
    let warm = |minutes: i64| {
        let mut scribe = Scribe::new(1);
        scribe.boot(0);
        scribe.anchor(1, 0);
        for s in (0..7_200).step_by(60) {
            let warm = (600..600 + minutes * 60).contains(&s);
            scribe.reading(s, None, Some(if warm { 850 } else { 500 }));
        }
        view(scribe, Scribe::new(2))
    };
    assert!(with_code(&warm(29), Code::Temperature).is_empty());
    let view = warm(31);
    let event = with_code(&view, Code::Temperature)[0];
    assert_eq!(second_of(&view, Code::Temperature), Some(600));
    assert_eq!(
        event.ended_at,
        Some(UtcMs::saturating(rig::START_MS + 2_460_000))
    );
    assert_eq!(
        (event.severity, event.confidence),
        (Severity::Critical, Confidence::Certain)
    );
    assert_eq!(event.title, "Temperature above 8 °C for 30 min or longer");
    let Detail::Excursion(excursion) = &event.detail else {
        panic!("{event:#?}");
    };
    assert_eq!((excursion.max, excursion.mean), (8.5, 8.5));
    assert_eq!(
        (
            excursion.duration_s,
            excursion.alarm_s,
            excursion.unobserved_s
        ),
        (1_860, 60, 0)
    );
}

#[test]
fn an_alarm_opens_an_event_before_its_backlog_and_the_readings_win_afterwards() {
    let mut alone = Scribe::new(1);
    alone.boot(0);
    alone.anchor(1, 0);
    let mut whole = Scribe::new(1);
    whole.boot(0);
    whole.anchor(1, 0);
    for s in (60..6_000).step_by(60) {
        // Warm for 25 minutes, a cold minute, warm again: never 30 minutes at a stretch.
        let warm = s > 2_400 && s % 1_500 != 0;
        whole.reading(s, None, Some(if warm { 900 } else { 500 }));
    }
    // The device's own limit has no delay and its alarm spans the cold minutes.
    let claimed = u32::try_from(whole.records.len()).unwrap();
    whole.hot_alarm(6_000, 2_460, 910);
    alone.hot_alarm(6_000, 2_460, 910);
    let alarm_key = whole.records.last().unwrap().0;
    assert_eq!(alarm_key.seq.0, claimed);
    alone.records.last_mut().unwrap().0 = alarm_key;
    let early = view(alone, Scribe::new(2));
    let event = with_code(&early, Code::Temperature)[0];
    assert_eq!(event.confidence, Confidence::Possible);
    assert_eq!(second_of(&early, Code::Temperature), Some(2_460));
    let later = view(whole, Scribe::new(2));
    assert!(
        with_code(&later, Code::Temperature).is_empty(),
        "the readings win"
    );
}

#[test]
fn a_hard_shock_is_an_event_and_a_bump_is_none() {
    let mut scribe = whole_ride(1);
    scribe.shock(12_000, 24, 9_000);
    scribe.shock(12_010, 30, 1_000);
    scribe.shock(12_020, 30, 2_000);
    scribe.shock(12_100, 40, 2_500);
    let view = view(scribe, whole_ride(2));
    let event = with_code(&view, Code::Shock)[0];
    assert_eq!(second_of(&view, Code::Shock), Some(12_020));
    let Detail::Shock(shock) = &event.detail else {
        panic!("{event:#?}");
    };
    assert_eq!(
        (shock.peak_g, shock.count, shock.delta_v),
        (40.0, 2, Some(2.5))
    );
    assert_eq!(event.place.as_ref().unwrap().name, "the shop");
}

#[test]
fn a_gap_of_hours_is_told_where_the_goods_were_when_it_began() {
    let mut scribe = Scribe::new(1);
    scribe.boot(0);
    scribe.anchor(1, 0);
    rig::ride(&mut scribe, 10, 600);
    rig::ride(&mut scribe, 9_310, 12_000);
    let view = view(scribe, Scribe::new(2));
    let gap = with_code(&view, Code::DataGap)[0];
    let place = gap.place.as_ref().expect("the fix before the gap");
    assert!((place.lat - 50.0).abs() < 1e-6, "{place:?}");
}

#[test]
fn missing_readings_are_a_gap_and_critical_during_an_excursion() {
    let gap_after = |centi| {
        let mut scribe = Scribe::new(1);
        scribe.boot(0);
        scribe.anchor(1, 0);
        for s in [10, 60, 120, 180, 1_081, 1_141] {
            scribe.reading(s, None, Some(centi));
        }
        view(scribe, Scribe::new(2))
    };
    let calm = gap_after(500);
    let gap = with_code(&calm, Code::DataGap)[0];
    assert_eq!(gap.severity, Severity::Warning);
    assert_eq!(
        gap.detail,
        Detail::Gap {
            unobserved_s: 901,
            max_gap_s: 900
        }
    );
    let hot = gap_after(900);
    assert_eq!(
        with_code(&hot, Code::DataGap)[0].severity,
        Severity::Critical
    );
}

#[test]
fn a_low_battery_is_an_event() {
    let mut scribe = whole_ride(1);
    scribe.battery(12_000, 15);
    scribe.battery(12_060, 14);
    let view = view(scribe, whole_ride(2));
    assert_eq!(second_of(&view, Code::Battery), Some(12_000));
    assert!(!with_code(&view, Code::Battery)[0].closed);
}

#[test]
fn the_delay_option_replaces_the_delay_of_every_rule() {
    let mut scribe = Scribe::new(1);
    scribe.boot(0);
    scribe.anchor(1, 0);
    for s in (0..7_200).step_by(60) {
        scribe.reading(s, None, Some(900));
    }
    let plan = std::sync::Arc::new(rules::plan::Plan::parse(rig::PLAN).unwrap());
    let options = rules::Options {
        temperature_delay: Some(std::time::Duration::from_secs(1_000 * 3_600)),
        ..rules::Options::default()
    };
    let records = fleet(scribe, Scribe::new(2));
    let patient = rules::Context::new(plan, options);
    assert!(with_code(&verdict_of(&patient, "S", &records), Code::Temperature).is_empty());
    assert_eq!(
        with_code(&verdict_of(&context(), "S", &records), Code::Temperature).len(),
        1
    );
}

#[test]
fn readings_from_before_the_first_anchor_are_dated_by_it() {
    let mut scribe = Scribe::new(1);
    scribe.boot(0);
    rig::ride(&mut scribe, 10, 12_000);
    let undated = view(scribe.clone(), Scribe::new(2));
    assert!(undated.is_empty(), "nothing says when");
    scribe.anchor(12_000, 0);
    let dated = view(scribe, Scribe::new(2));
    assert_eq!(second_of(&dated, Code::ArrivedHub), Some(4_630));
}

#[test]
fn a_point_at_zero_zero_is_no_position() {
    let mut scribe = whole_ride(1);
    for (_, record) in &mut scribe.records {
        if let Record::Reading(reading) = record
            && let Measured::Value(position) = &mut reading.position
        {
            position.latitude = protocol::units::Latitude::saturating(0);
            position.longitude = protocol::units::Longitude::saturating(0);
        }
    }
    assert!(view(scribe, Scribe::new(2)).is_empty());
}

#[test]
fn an_alarm_with_an_impossible_value_opens_nothing() {
    let hot = |extreme_centi| {
        let mut scribe = Scribe::new(1);
        scribe.boot(0);
        scribe.anchor(1, 0);
        scribe.hot_alarm(14_000, 4_000, extreme_centi);
        view(scribe, Scribe::new(2))
    };
    assert_eq!(with_code(&hot(1_200), Code::Temperature).len(), 1);
    assert!(hot(i32::MAX).is_empty());
}
