//! What the tracker does over time, on a rig without sockets.

mod rig;

use firmware::port::WINDOW_MESSAGES;
use firmware::tracker::{Burst, Input};
use protocol::downlink::{Settings, SettingsRefusal, TimeReply};
use protocol::key::{Boot, Seq};
use protocol::reading::{Measured, Missing};
use protocol::record::{AlarmKind, Loss, LossReason, Record, TimeSource};
use protocol::topic::Channel;
use protocol::units::{MilliG, Milliseconds, Seconds, UtcMs};
use rig::{BUILD_MS, Board, Rig, at, config};

fn reading_times(rig: &Rig) -> Vec<u64> {
    rig.gateway.all(|record| match record {
        Record::Reading(reading) => Some(reading.uptime.get() / 1_000),
        _ => None,
    })
}

fn alarms(rig: &Rig) -> Vec<protocol::record::Alarm> {
    rig.gateway.all(|record| match record {
        Record::Alarm(alarm) => Some(*alarm),
        _ => None,
    })
}

fn anchors(rig: &Rig) -> Vec<protocol::record::Anchor> {
    rig.gateway.all(|record| match record {
        Record::Anchor(anchor) => Some(*anchor),
        _ => None,
    })
}

fn losses(rig: &Rig) -> Vec<Loss> {
    rig.gateway.all(|record| match record {
        Record::Loss(loss) => Some(*loss),
        _ => None,
    })
}

#[test]
fn every_boot_begins_with_a_boot_record_and_the_settings_in_force() {
    let mut rig = Rig::connected();
    rig.run_to(4_000);
    rig.reboot();
    rig.up();
    let boots = rig.gateway.all(|record| match record {
        Record::Boot(boot) => Some(*boot),
        _ => None,
    });
    assert_eq!(boots.len(), 2);
    assert_eq!(boots[0].previous_last, None);
    // The checkpoint after an hour: boot, settings and thirteen samples were numbered by then.
    assert_eq!(boots[1].previous_last, Some(Seq(14)));
    let first_of = |boot: u32| {
        let of_boot = |(key, _): &(&protocol::key::RecordKey, &Record)| key.boot == Boot(boot);
        rig.gateway
            .records
            .iter()
            .find(of_boot)
            .map(|(key, record)| (key.seq, *record))
    };
    assert!(matches!(first_of(0), Some((Seq(0), Record::Boot(_)))));
    assert!(matches!(first_of(1), Some((Seq(0), Record::Boot(_)))));
    let settings = rig.gateway.all(|record| match record {
        Record::Settings(settings) => Some(settings.settings),
        _ => None,
    });
    assert_eq!(settings, [Settings::DEFAULT; 2]);
    assert_eq!(rig.gateway.births, 2);
}

#[test]
fn a_stop_in_good_order_makes_the_last_number_known() {
    let mut rig = Rig::connected();
    rig.run_to(700);
    rig.handle(Input::Stop);
    let last = rig.gateway.records.keys().last().map(|key| key.seq);
    rig.run_to(5_000);
    assert_eq!(rig.counters().records.pending, 0);
    rig.reboot();
    rig.up();
    let previous = rig.gateway.all(|record| match record {
        Record::Boot(boot) => boot.previous_last,
        _ => None,
    });
    assert_eq!(previous, [last.unwrap()]);
}

#[test]
fn a_time_told_after_a_stop_is_published_at_once() {
    let mut rig = Rig::connected();
    rig.run_to(310);
    rig.handle(Input::Stop);
    let newest = rig.gateway.time_requests.last().unwrap().nonce;
    tell_time(&mut rig, newest);
    assert_eq!(anchors(&rig)[0].source, TimeSource::Gateway);
    assert_eq!(rig.counters().records.pending, 0);
}

#[test]
fn routine_readings_wait_for_a_full_batch_or_the_publish_interval() {
    let mut rig = Rig::connected();
    rig.run_to(1_000);
    rig.gateway.batches.clear();
    rig.set_temperature(750);
    rig.run_to(3_000);
    // Near the limit there is a sample a minute, and five minutes is the publish interval.
    let sizes: Vec<usize> = rig.gateway.batches.iter().map(|batch| batch.2).collect();
    assert!(sizes.len() >= 5, "{sizes:?}");
    assert!(
        sizes[1..].iter().all(|size| (5..=6).contains(size)),
        "{sizes:?}"
    );
}

#[test]
fn neither_a_silent_receiver_nor_a_dead_link_nor_dead_flash_stops_sampling() {
    let mut board = Board::new();
    board.flash_works = false;
    let mut rig = Rig::with(board);
    rig.run_to(10 * 300);
    assert_eq!(rig.counters().readings.made, 11);
    rig.up();
    let positions = rig.gateway.all(|record| match record {
        Record::Reading(reading) => Some(reading.position),
        _ => None,
    });
    assert_eq!(positions[0], Measured::Missing(Missing::NotSampled));
    let silent = Measured::Missing(Missing::SensorFault);
    assert_eq!(positions[1..], [silent; 10]);
}

#[test]
fn moving_brings_samples_every_minute_and_rest_every_five() {
    let mut rig = Rig::connected();
    for s in 0..1_200 {
        let knots = if (300..600).contains(&s) { 30.0 } else { 0.0 };
        rig.run_to(s);
        rig.hear(s, 10.0, knots);
    }
    rig.handle(Input::Flush);
    let times = reading_times(&rig);
    assert_eq!(
        times,
        [0, 300, 360, 420, 480, 540, 600, 660, 720, 780, 1_080]
    );
}

#[test]
fn an_alarm_overtakes_the_backlog_and_holds_what_is_known() {
    let mut rig = Rig::new();
    rig.run_to(7_000);
    rig.set_temperature(900);
    rig.run_to(7_300);
    rig.up();
    let (channel, _, count) = rig.gateway.batches[0];
    assert_eq!((channel, count), (Channel::Alarms, 1));
    assert_eq!(rig.gateway.batches[1].0, Channel::Readings);
    let alarm = alarms(&rig)[0];
    assert_eq!(alarm.kind, AlarmKind::TemperatureAbove(0));
    assert_eq!(
        (alarm.since, alarm.extreme, alarm.count),
        (at(7_200), 900, 1)
    );
}

#[test]
fn only_a_confirmation_frees_a_record_and_a_lost_connection_brings_all_back() {
    let mut rig = Rig::new();
    rig.prompt = false;
    rig.run_to(9_000);
    rig.up();
    rig.run_to(9_100);
    let made = rig.counters().records.made;
    assert_eq!(rig.counters().records.pending, made);
    let first = rig.open.clone();
    rig.confirm(1);
    let confirmed = rig.counters().records.confirmed;
    rig.down();
    assert_eq!(rig.counters().records.pending, made - confirmed);
    rig.prompt = true;
    rig.up();
    assert_eq!(rig.counters().records.pending, 0);
    assert_eq!(rig.gateway.records.len() as u64, made);
    assert!(first.len() >= 2);
}

#[test]
fn a_confirmation_of_the_connection_before_frees_nothing() {
    let mut rig = Rig::connected();
    rig.prompt = false;
    rig.run_to(700);
    let stale = rig.open.last().unwrap().token;
    rig.down();
    rig.up();
    let pending = rig.counters().records.pending;
    rig.handle(Input::Link(&firmware::port::LinkEvent::Confirmed(stale)));
    assert_eq!(rig.counters().records.pending, pending);
}

#[test]
fn no_more_than_a_window_is_open_and_alarms_find_a_place_in_it() {
    let mut rig = Rig::new();
    rig.prompt = false;
    rig.run_to(250 * 300);
    rig.up();
    rig.confirm(0);
    rig.confirm(0);
    let open = rig.open.len();
    assert_eq!(open, firmware::outbox::ROUTINE_WINDOW_MESSAGES);
    rig.set_temperature(900);
    rig.run_to(251 * 300);
    assert_eq!(rig.open.last().unwrap().channel, Channel::Alarms);
    assert!(rig.open.len() <= WINDOW_MESSAGES);
}

#[test]
fn a_storm_of_readings_evicts_no_alarm_and_its_losses_are_told_exactly() {
    let mut rig = Rig::new();
    rig.set_temperature(900);
    rig.run_to(400 * 60);
    let counters = rig.counters().records;
    assert!(counters.lost > 100, "{counters:?}");
    rig.up();
    assert_eq!(alarms(&rig)[0].since, at(0));
    let losses = losses(&rig);
    assert_eq!(losses.len(), 1);
    assert_eq!(losses[0].reason, LossReason::RoutineFull);
    assert_eq!(
        losses[0].first.seq,
        Seq(0),
        "even the boot record had to go"
    );
    let lost = rig.counters().records.lost;
    assert_eq!(u64::from(losses[0].count), lost);
    // The first alarm is among the lost numbers and was not lost.
    let span = u64::from(losses[0].last.seq.0 - losses[0].first.seq.0) + 1;
    assert_eq!(span, lost + 1);
    let loss_batch = rig
        .gateway
        .batches
        .iter()
        .find(|batch| batch.0 == Channel::Readings);
    assert_eq!(loss_batch.unwrap().2, 20);
}

#[test]
fn settings_are_obeyed_reported_and_kept() {
    let mut rig = Rig::connected();
    let settings = Settings {
        version: 5,
        sample_resting: Seconds::saturating(30),
        ..Settings::DEFAULT
    };
    let mut buffer = [0; Settings::MAX_BYTES];
    let length = settings.encode(&mut buffer).unwrap();
    rig.run_to(10);
    rig.downlink(Channel::Settings, &buffer[..length]);
    assert_eq!(
        (rig.gateway.acks[0].version, rig.gateway.acks[0].outcome),
        (5, Ok(()))
    );
    rig.run_to(100);
    assert_eq!(rig.counters().readings.made, 4);
    let stale = Settings {
        version: 4,
        ..settings
    };
    let length = stale.encode(&mut buffer).unwrap();
    rig.downlink(Channel::Settings, &buffer[..length]);
    let refusal = SettingsRefusal::Stale { in_force: 5 };
    assert_eq!(rig.gateway.acks[1].outcome, Err(refusal));
    rig.reboot();
    assert_eq!(rig.tracker.settings(), &settings);
}

#[test]
fn an_answer_to_settings_survives_a_lost_connection() {
    let mut rig = Rig::connected();
    rig.prompt = false;
    rig.downlink(Channel::Settings, b"nonsense");
    rig.down();
    rig.prompt = true;
    rig.up();
    assert_eq!(rig.gateway.acks.len(), 1);
    assert_eq!(
        rig.gateway.acks[0].outcome,
        Err(SettingsRefusal::Undecodable)
    );
}

#[test]
fn the_gateway_is_asked_for_the_time_until_somebody_tells_it() {
    let mut rig = Rig::connected();
    rig.run_to(310);
    let requests = &rig.gateway.time_requests;
    assert_eq!(requests.len(), 2);
    assert_ne!(requests[0].nonce, requests[1].nonce);
    let (oldest, newest) = (requests[0].nonce, requests[1].nonce);
    tell_time(&mut rig, oldest);
    rig.handle(Input::Flush);
    assert!(anchors(&rig).is_empty(), "the answer to an old question");
    tell_time(&mut rig, newest);
    rig.handle(Input::Flush);
    assert_eq!(anchors(&rig)[0].source, TimeSource::Gateway);
    rig.run_to(3_000);
    assert_eq!(rig.gateway.time_requests.len(), 2);
    rig.hear(3_001, 10.0, 0.0);
    rig.handle(Input::Flush);
    let gnss = anchors(&rig)[1];
    assert_eq!((gnss.source, gnss.uptime), (TimeSource::Gnss, at(3_000)));
    assert_eq!(gnss.utc.get(), BUILD_MS + 3_001_000);
}

/// Answers the question with this nonce.
fn tell_time(rig: &mut Rig, nonce: u64) {
    let reply = TimeReply {
        nonce,
        utc: UtcMs::saturating(BUILD_MS),
        uncertainty: Milliseconds::saturating(5),
    };
    let mut buffer = [0; TimeReply::MAX_BYTES];
    let length = reply.encode(&mut buffer).expect("room for a reply");
    rig.downlink(Channel::Time, &buffer[..length]);
}

#[test]
fn a_plausible_clock_chip_dates_the_boot_and_a_dead_one_does_not() {
    let told = |utc_ms| {
        let mut board = Board::new();
        board.utc = Some(UtcMs::saturating(utc_ms));
        let mut rig = Rig::with(board);
        rig.up();
        anchors(&rig)
            .first()
            .map(|anchor| (anchor.source, anchor.uptime))
    };
    assert_eq!(told(BUILD_MS + 1_000), Some((TimeSource::ClockChip, at(0))));
    assert_eq!(
        told(946_684_800_000),
        None,
        "2000-01-01: its battery was empty"
    );
}

#[test]
fn the_first_shock_is_reported_at_once_and_repeats_after_two_minutes() {
    let mut rig = Rig::connected();
    rig.run_to(10);
    let samples: Vec<[MilliG; 3]> = (0..64)
        .map(|index| {
            if (16..40).contains(&index) {
                31_000
            } else {
                1_000
            }
        })
        .map(|vertical| [0, 0, vertical].map(MilliG::saturating))
        .collect();
    let burst = Input::Burst(Burst {
        rate_hz: 800,
        pre_trigger: 16,
        samples: &samples,
    });
    rig.handle(burst);
    assert_eq!(alarms(&rig).len(), 1);
    rig.run_to(20);
    rig.handle(burst);
    rig.handle(Input::Peak([26_000, 0, 0].map(MilliG::saturating)));
    rig.handle(Input::Peak([24_999, 0, 0].map(MilliG::saturating)));
    rig.run_to(129);
    assert_eq!(alarms(&rig).len(), 1);
    rig.run_to(130);
    let alarms = alarms(&rig);
    let shock = alarms[0].shock.unwrap();
    assert_eq!((shock.peak[2].get(), alarms[0].count), (30_000, 1));
    assert_eq!(shock.duration.unwrap().get(), 30);
    assert_eq!((alarms[1].since, alarms[1].count), (at(20), 2));
    assert_eq!((alarms[1].extreme, alarms[1].limit), (30_000, 25_000));
}

#[test]
fn a_fall_is_reported_with_its_duration_beside_the_impact_that_ends_it() {
    let mut rig = Rig::connected();
    rig.run_to(10);
    // A quarter of a second of weightlessness at 400 Hz, 0.3 m, then 40 g for 15 ms.
    let samples: Vec<[MilliG; 3]> = (0..120)
        .map(|index| if index < 100 { 40 } else { 40_000 })
        .map(|vertical| [0, 0, vertical].map(MilliG::saturating))
        .take(106)
        .collect();
    rig.handle(Input::Burst(Burst {
        rate_hz: 400,
        pre_trigger: 100,
        samples: &samples,
    }));
    let alarms = alarms(&rig);
    let kinds: Vec<AlarmKind> = alarms.iter().map(|alarm| alarm.kind).collect();
    assert_eq!(kinds, [AlarmKind::FreeFall, AlarmKind::Shock]);
    assert_eq!(alarms[0].uptime.get() - alarms[0].since.get(), 250);
    assert_eq!((alarms[0].limit, alarms[0].extreme), (300, 40));
}

#[test]
fn a_tracker_stays_below_32_kilobytes() {
    let bytes = size_of::<firmware::tracker::Tracker<()>>();
    assert!(bytes <= 32 * 1024, "{bytes}");
}

#[test]
fn nonsense_from_the_gateway_changes_nothing() {
    let mut rig = Rig::connected();
    let mut state = 7_u32;
    for length in 0..400_usize {
        let payload: Vec<u8> = (0..length % 90)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        rig.downlink(Channel::Settings, &payload);
        rig.downlink(Channel::Time, &payload);
    }
    assert_eq!(rig.tracker.settings(), &Settings::DEFAULT);
    assert!(anchors(&rig).is_empty());
    let undecodable = |ack: &protocol::status::SettingsAck| {
        ack.version == 0 && ack.outcome == Err(SettingsRefusal::Undecodable)
    };
    assert!(rig.gateway.acks.iter().all(undecodable));
    assert_eq!(rig.gateway.acks.len(), 400);
}

#[test]
fn a_tracker_without_a_receiver_says_so() {
    let mut without = config();
    without.gnss_fitted = false;
    let mut tracker = firmware::tracker::Tracker::new(without, Board::new(), at(0));
    let mut rig = Rig::new();
    std::mem::swap(&mut rig.tracker, &mut tracker);
    rig.up();
    let positions = rig.gateway.all(|record| match record {
        Record::Reading(reading) => Some(reading.position),
        _ => None,
    });
    assert_eq!(positions, [Measured::Missing(Missing::NotFitted)]);
}
