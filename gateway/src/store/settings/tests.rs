//! Where the settings of a device stand, whatever came of it and in which order.

use super::*;
use crate::store::memory;
use protocol::units::Seconds;

const DEVICE: &str = "t-1";

fn settings(version: u32, sample_moving: i64) -> Settings {
    Settings {
        version,
        sample_moving: Seconds::saturating(sample_moving),
        ..Settings::DEFAULT
    }
}

fn at(ms: i64) -> UtcMs {
    UtcMs::saturating(ms)
}

fn wanting(version: u32) -> Known {
    Known {
        wanted: Some(Wanted {
            settings: settings(version, 30),
            set_at: at(10),
        }),
        ..Known::default()
    }
}

fn answered(version: u32, outcome: Result<(), SettingsRefusal>) -> Option<Answer> {
    Some(Answer {
        version,
        received_at: at(20),
        outcome,
    })
}

fn recorded(settings: Settings, ms: i64) -> Option<InForce> {
    Some(InForce {
        key: RecordKey::new(1, 1, 5),
        received_at: at(ms),
        settings,
    })
}

fn born(version: u32, ms: i64) -> Option<Born> {
    Some(Born {
        version,
        received_at: at(ms),
    })
}

#[test]
fn settings_are_sent_until_the_device_answers_or_records_exactly_them() {
    let waiting = wanting(7);
    assert_eq!(waiting.state(), State::Waiting);
    assert_eq!(waiting.unreported(), Some(settings(7, 30)));
    for other in [
        Known {
            answer: answered(6, Ok(())),
            ..waiting
        },
        Known {
            in_force: recorded(settings(7, 31), 20),
            ..waiting
        },
        Known {
            in_force: recorded(settings(6, 30), 20),
            ..waiting
        },
        Known {
            born: born(7, 20),
            ..waiting
        },
    ] {
        assert_eq!(other.state(), State::Waiting, "{other:?}");
    }
    for reported in [
        Known {
            answer: answered(7, Ok(())),
            ..waiting
        },
        Known {
            in_force: recorded(settings(7, 30), 20),
            ..waiting
        },
    ] {
        assert_eq!(reported.state(), State::Reported { at: at(20) });
        assert_eq!(reported.unreported(), None);
    }
    assert_eq!(Known::default().state(), State::Unwanted);
}

#[test]
fn refused_settings_are_not_sent_again_until_others_are_wanted() {
    let why = SettingsRefusal::NotStored;
    let refused = Known {
        answer: answered(7, Err(why)),
        ..wanting(7)
    };
    assert_eq!(refused.state(), State::Refused { at: at(20), why });
    assert_eq!(refused.unreported(), None);
    let again = Known {
        wanted: wanting(8).wanted,
        ..refused
    };
    assert_eq!(again.state(), State::Waiting);
}

#[test]
fn a_device_that_says_later_that_it_has_others_has_replaced_them() {
    let reported = Known {
        answer: answered(7, Ok(())),
        ..wanting(7)
    };
    let replaced = |at_ms, version| State::Replaced {
        at: at(at_ms),
        version,
    };
    for (known, state) in [
        (
            Known {
                born: born(0, 30),
                ..reported
            },
            replaced(30, 0),
        ),
        (
            Known {
                born: born(0, 19),
                ..reported
            },
            State::Reported { at: at(20) },
        ),
        (
            Known {
                born: born(7, 30),
                ..reported
            },
            State::Reported { at: at(20) },
        ),
        (
            Known {
                in_force: recorded(settings(9, 5), 30),
                ..reported
            },
            replaced(30, 9),
        ),
        (
            Known {
                in_force: recorded(settings(6, 5), 30),
                ..reported
            },
            State::Reported { at: at(20) },
        ),
    ] {
        assert_eq!(known.state(), state, "{known:?}");
        assert_eq!(known.unreported(), None);
    }
}

#[test]
fn the_newest_version_is_that_of_anything_known_of_the_device() {
    assert_eq!(Known::default().newest_version(), 0);
    let why = SettingsRefusal::Stale { in_force: 12 };
    for (known, newest) in [
        (wanting(7), 7),
        (
            Known {
                born: born(9, 1),
                ..wanting(7)
            },
            9,
        ),
        (
            Known {
                answer: answered(7, Err(why)),
                ..wanting(7)
            },
            12,
        ),
        (
            Known {
                in_force: recorded(settings(8, 5), 1),
                ..wanting(7)
            },
            8,
        ),
    ] {
        assert_eq!(known.newest_version(), newest);
    }
    let foreign = Known {
        in_force: recorded(settings(8, 5), 1),
        ..wanting(7)
    };
    assert_eq!(foreign.base(), Some(settings(8, 5)));
}

#[test]
fn what_is_written_comes_back_and_what_is_forgotten_does_not() {
    let store = memory::store();
    let device: DeviceId = DEVICE.parse().unwrap();
    let expected = Known {
        answer: answered(7, Err(SettingsRefusal::LimitsCrossed)),
        in_force: recorded(settings(3, 40), 5),
        ..wanting(7)
    };
    let mut batch = Batch::default();
    want(&mut batch, &device, &expected.wanted.unwrap(), 7).unwrap();
    note_answer(&mut batch, &device, &expected.answer.unwrap()).unwrap();
    note_in_force(&mut batch, &device, &expected.in_force.unwrap()).unwrap();
    store.apply(batch).unwrap();
    assert_eq!(Known::load(&store, &device).unwrap(), expected);
    assert_eq!(newest_given(&store).unwrap(), 7);
    let mut batch = Batch::default();
    forget(&mut batch, &device);
    store.apply(batch).unwrap();
    let known = Known::load(&store, &device).unwrap();
    assert_eq!(
        known,
        Known {
            wanted: None,
            ..expected
        }
    );
    assert_eq!(
        newest_given(&store).unwrap(),
        7,
        "a version is never given twice"
    );
}

#[test]
fn a_record_follows_by_key_within_an_epoch_and_by_arrival_across_them() {
    let at_key = |epoch, boot, seq| InForce {
        key: RecordKey::new(epoch, boot, seq),
        ..recorded(settings(1, 30), 1).unwrap()
    };
    assert!(at_key(5, 2, 0).follows(&at_key(5, 1, 900)));
    assert!(!at_key(5, 1, 3).follows(&at_key(5, 1, 3)));
    assert!(at_key(4, 0, 0).follows(&at_key(5, 1, 3)));
}
