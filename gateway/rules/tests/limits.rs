//! Limits of every quantity, from records to view.

mod rig;

use std::sync::Arc;

use protocol::reading::{Door, Measured, Reading};
use protocol::record::{AlarmKind, Record};
use protocol::units::{DeciPercent, Lux, TiltDegrees};
use rig::{Scribe, fleet, second_of, with_code};
use rules::code::Code;
use rules::event::{Detail, Severity, View};
use rules::plan::Plan;
use rules::quantity::Quantity;
use rules::{Context, Options, verdict_of};

/// A tracker that is switched on at second 0 and knows the time at once.
fn scribe() -> Scribe {
    let mut scribe = Scribe::new(1);
    scribe.boot(0);
    scribe.anchor(1, 0);
    scribe
}

/// A reading every minute until second 3,600; `complete` adds what is measured at a second.
fn hour(mut complete: impl FnMut(i64, &mut Reading)) -> Scribe {
    let mut scribe = scribe();
    for s in (60..=3_600).step_by(60) {
        let mut reading = Reading::empty(scribe.uptime(s));
        complete(s, &mut reading);
        scribe.write(Record::Reading(reading));
    }
    scribe
}

fn view(scribe: Scribe) -> View {
    verdict_of(&rig::context(), "S", &fleet(scribe, Scribe::new(2)))
}

#[test]
fn humidity_is_judged_in_percent_on_both_sides() {
    let view = view(hour(|s, reading| {
        let deci = match s {
            600..1_300 => 751,
            2_000..2_900 => 199,
            _ => 500,
        };
        reading.humidity = Measured::Value(DeciPercent::saturating(deci));
    }));
    let events = with_code(&view, Code::Humidity);
    assert_eq!(events.len(), 2, "{events:#?}");
    let damp = events.iter().find(|event| event.rule == "humidity/damp");
    let damp = damp.expect("it was damp for twelve minutes");
    assert_eq!(damp.title, "Humidity above 75 % for 10 min or longer");
    assert_eq!((damp.severity, damp.probe), (Severity::Warning, None));
    let Detail::Excursion(excursion) = &damp.detail else {
        panic!("{damp:#?}");
    };
    assert_eq!(excursion.quantity, Quantity::Humidity);
    assert_eq!((excursion.max, excursion.mean), (75.1, 75.1));
    assert_eq!((excursion.duration_s, excursion.alarm_s), (720, 120));
}

#[test]
fn exactly_the_bound_is_bad_only_where_the_limit_includes_it() {
    let of = |humidity, lux| {
        view(hour(|_, reading| {
            reading.humidity = Measured::Value(DeciPercent::saturating(humidity));
            reading.light = Measured::Value(Lux::saturating(lux));
        }))
    };
    let codes = |view: &View| view.values().map(|event| event.code).collect::<Vec<_>>();
    assert_eq!(codes(&of(750, 19)), []);
    assert_eq!(codes(&of(750, 20)), [Code::Light]);
}

#[test]
fn goods_that_lie_for_two_minutes_are_told_and_a_bump_is_not() {
    let tilted = |minutes: i64| {
        view(hour(|s, reading| {
            let angle = if (600..600 + minutes * 60).contains(&s) {
                85
            } else {
                3
            };
            reading.tilt = Measured::Value(TiltDegrees::saturating(angle));
        }))
    };
    assert_eq!(second_of(&tilted(1), Code::Tilt), None);
    let view = tilted(2);
    assert_eq!(second_of(&view, Code::Tilt), Some(600));
    let event = with_code(&view, Code::Tilt)[0];
    assert_eq!(event.title, "Tilt above 60° for 2 min or longer");
    assert_eq!(event.severity, Severity::Critical);
}

#[test]
fn a_door_is_told_when_it_stays_open() {
    let view = view(hour(|s, reading| {
        let open = (600..720).contains(&s) || (1_200..1_800).contains(&s);
        let door = if open { Door::Open } else { Door::Closed };
        reading.door = Measured::Value(door);
    }));
    assert_eq!(second_of(&view, Code::DoorOpen), Some(1_200));
    let event = with_code(&view, Code::DoorOpen)[0];
    assert_eq!(event.title, "Door open for 5 min or longer");
    assert!(event.closed);
}

#[test]
fn light_between_two_dark_readings_is_known_from_the_alarm() {
    let mut scribe = scribe();
    let dark = |scribe: &mut Scribe, s| {
        let mut reading = Reading::empty(scribe.uptime(s));
        reading.light = Measured::Value(Lux::saturating(0));
        scribe.write(Record::Reading(reading));
    };
    dark(&mut scribe, 60);
    scribe.alarm(85, AlarmKind::Light, 5_000, [20, 900]);
    dark(&mut scribe, 120);
    let view = view(scribe);
    assert_eq!(second_of(&view, Code::Light), Some(80));
    let event = with_code(&view, Code::Light)[0];
    let Detail::Excursion(excursion) = &event.detail else {
        panic!("{event:#?}");
    };
    assert_eq!((excursion.min, excursion.max), (20.0, 900.0));
    assert!(event.closed);
}

#[test]
fn a_temperature_alarm_says_nothing_where_a_reading_of_late_knows_better() {
    let mut scribe = scribe();
    scribe.reading(60, None, Some(500));
    scribe.alarm(70, AlarmKind::TemperatureAbove(0), 70_000, [800, 900]);
    scribe.reading(3_000, None, Some(500));
    assert_eq!(second_of(&view(scribe), Code::Temperature), None);
}

#[test]
fn a_fall_is_an_event_from_its_height_on() {
    let fallen = |ms: i64| {
        let mut scribe = scribe();
        scribe.alarm(60, AlarmKind::FreeFall, ms, [300, 40]);
        view(scribe)
    };
    // Half a metre takes sqrt(2 * 0.5 / g0) = 319.3 ms.
    assert_eq!(second_of(&fallen(319), Code::FreeFall), None);
    let view = fallen(452);
    let event = with_code(&view, Code::FreeFall)[0];
    assert_eq!(event.title, "Dropped from 1 m");
    let Detail::Fall {
        height_m, limit_m, ..
    } = event.detail
    else {
        panic!("{event:#?}");
    };
    assert_eq!((height_m, limit_m), (1.0, 0.5));
}

#[test]
fn what_is_not_limited_is_not_judged() {
    let mut scribe = hour(|_, reading| {
        reading.humidity = Measured::Value(DeciPercent::saturating(999));
        reading.tilt = Measured::Value(TiltDegrees::saturating(180));
        reading.light = Measured::Value(Lux::saturating(100_000));
        reading.door = Measured::Value(Door::Open);
    });
    scribe.alarm(70, AlarmKind::FreeFall, 5_000, [300, 0]);
    let (before, behind) = rig::PLAN.split_once("free_fall").expect("a fall rule");
    let (_, behind) = behind.split_once("[[shipment]]").expect("a shipment");
    let plan = Plan::parse(&format!("{before}\n[[shipment]]{behind}")).expect("sound");
    let context = Context::new(Arc::new(plan), Options::default());
    let view = verdict_of(&context, "S", &fleet(scribe, Scribe::new(2)));
    assert!(view.is_empty(), "{view:#?}");
}

#[test]
fn limits_that_could_never_end_or_have_no_side_are_refused() {
    let refused = |limit: &str| {
        let text = format!("version = 1\n[[profile]]\nname = \"p\"\n{limit}");
        let faults = Plan::parse(&text).expect_err(limit);
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults[0].to_string()
    };
    let never = refused("[[profile.humidity]]\nname = \"h\"\nabove = 1\ndelay = \"1h\"");
    assert!(never.contains("would end at -1 %"), "{never}");
    let sides = refused("[[profile.tilt]]\nname = \"t\"\nabove = 10\nbelow = 5\ndelay = \"1h\"");
    assert!(sides.contains("one of above and below"), "{sides}");
    let door = refused("[[profile.door]]\nname = \"d\"\nabove = 1\ndelay = \"1h\"");
    assert!(door.contains("unknown key"), "{door}");
    let beyond = refused("[[profile.light]]\nname = \"l\"\nabove = 300000\ndelay = \"1h\"");
    assert!(beyond.contains("200000"), "{beyond}");
}
