//! Exceptions: goods, impacts, batteries, trackers that go dark.

use super::{Certainty, MOVING_INTERVAL_S, Notes, PLACE_AGE_S, RESTING_INTERVAL_S, Window};
use crate::world::goods::{Impact, Interval, STEP_S};
use crate::world::{
    BATTERY_LOW_PERCENT, GAP_MAX_S, Limit, SETTLING_S, SHOCK_DURATION_S, SILENT_AFTER_S, Tracker,
};

/// Temperatures are sent in hundredths.
const ROUNDING_C: f64 = 0.005;

/// Excursions closer together than this may be told as one, in seconds.
const MERGE_S: f64 = 900.0;

/// An impact this far from its threshold is measured on the right side of it, as a share: sampling
/// loses up to 0.5 % of the peak, and gravity and rounding little more.
const SHOCK_MARGIN: f64 = 0.08;

/// Share of a half-sine's length during which it is above a tenth of its peak.
const LOUD_SHARE: f64 = 0.936;

/// How long a routine reading waits for its batch, in seconds; the settings of a depot leave it as is.
const PUBLISH_INTERVAL_S: f64 = 300.0;

pub(super) fn expect(notes: &mut Notes<'_>) {
    let world = notes.world;
    for tracker in &world.trackers[notes.shipment.trackers.clone()] {
        for limit in notes.shipment.cargo.limits() {
            excursions(notes, tracker, limit);
        }
        for impact in &tracker.impacts {
            shock(notes, impact);
        }
        battery(notes, tracker);
        for dark in &tracker.radio_off {
            silence(notes, dark);
        }
        for asleep in &tracker.asleep {
            gap(notes, asleep);
        }
    }
}

/// Every stretch in which a reading may be beyond the bound.
fn excursions(notes: &mut Notes<'_>, tracker: &Tracker, limit: &Limit) {
    let margin_c = notes.world.scenario.temperature.probe_noise_c + ROUNDING_C;
    let air = &notes.shipment.air;
    let until_s = notes.until_s;
    let possible = merged(air.intervals(until_s, |celsius| limit.excess_c(celsius) > -margin_c));
    let sure = air.intervals(until_s, |celsius| limit.excess_c(celsius) > margin_c);
    for run in possible {
        let settled_s = tracker.boot_s + SETTLING_S;
        let inside = |sure: &&Interval| sure.from_s >= run.from_s && sure.to_s <= run.to_s;
        let clip = |run: Interval| Interval {
            from_s: run.from_s.max(settled_s),
            ..run
        };
        let sure = sure.iter().filter(inside).map(|sure| clip(*sure));
        let longest = sure.max_by(|a, b| a.length_s().total_cmp(&b.length_s()));
        excursion(notes, limit, clip(run), longest);
    }
}

fn excursion(notes: &mut Notes<'_>, limit: &Limit, run: Interval, sure: Option<Interval>) {
    let side = if limit.above { "above" } else { "below" };
    let minutes = run.length_s() / 60.0;
    let why = format!("it is {side} {} C for {minutes:.0} min", limit.bound_c);
    if run.length_s() < limit.delay_s - MOVING_INTERVAL_S {
        notes.near_miss("EX_TEMPERATURE", run.from_s, why);
        return;
    }
    let seen_s = sure.map_or(run.to_s, |sure| sure.from_s) + RESTING_INTERVAL_S;
    // A run that is not long enough when event time stops is not expected to be known, so whatever
    // is expected here is known at once.
    let window = Window::new(
        run.from_s - STEP_S,
        seen_s + RESTING_INTERVAL_S,
        f64::NEG_INFINITY,
    );
    // Longest time between a truth and a reading that shows it: the last one before an interval of
    // rest ends, and one near the limit.
    let needed_s = limit.delay_s + RESTING_INTERVAL_S + MOVING_INTERVAL_S;
    let long = sure.is_some_and(|sure| sure.length_s() >= needed_s);
    let certainty = if long {
        Certainty::Must
    } else {
        Certainty::May
    };
    notes.expect("EX_TEMPERATURE", window, certainty, why);
}

/// Neighbours that are close together become one.
fn merged(intervals: Vec<Interval>) -> Vec<Interval> {
    let mut merged: Vec<Interval> = Vec::new();
    for interval in intervals {
        match merged.last_mut() {
            Some(last) if interval.from_s - last.to_s < MERGE_S => last.to_s = interval.to_s,
            _ => merged.push(interval),
        }
    }
    merged
}

fn shock(notes: &mut Notes<'_>, impact: &Impact) {
    let cargo = notes.shipment.cargo;
    let why = format!(
        "a half-sine of {:.0} g, {:.1} ms",
        impact.peak_g,
        impact.pulse_s * 1e3
    );
    let ratios = [
        impact.peak_g / cargo.shock_g(),
        (impact.delta_v() / cargo.shock_delta_v())
            .max(impact.pulse_s * LOUD_SHARE / SHOCK_DURATION_S),
    ];
    if ratios.iter().any(|ratio| *ratio < 1.0 - SHOCK_MARGIN) {
        notes.near_miss("EX_SHOCK", impact.at_s, why);
        return;
    }
    let hard = ratios.iter().all(|ratio| *ratio > 1.0 + SHOCK_MARGIN);
    let certainty = if hard {
        Certainty::Must
    } else {
        Certainty::May
    };
    let window = Window::new(impact.at_s, impact.at_s + MOVING_INTERVAL_S, impact.at_s);
    notes.expect("EX_SHOCK", window, certainty, why);
}

fn battery(notes: &mut Notes<'_>, tracker: &Tracker) {
    // The gauge shows whole percents, rounded down.
    let Some(low_s) = tracker.cell.falls_to(f64::from(BATTERY_LOW_PERCENT) + 1.0) else {
        return;
    };
    let low_s = low_s.max(tracker.boot_s);
    let seen_s = low_s + RESTING_INTERVAL_S;
    let window = Window::new(low_s, seen_s + RESTING_INTERVAL_S, seen_s);
    let why = format!("its battery falls to {BATTERY_LOW_PERCENT} %");
    notes.expect("EX_BATTERY", window, Certainty::Must, why);
}

/// A tracker without radio is silent from its last arrival on, whatever it samples meanwhile.
fn silence(notes: &mut Notes<'_>, dark: &Interval) {
    let due_s = dark.from_s + SILENT_AFTER_S;
    let why = format!("it has no radio for {:.0} min", dark.length_s() / 60.0);
    let backlog_s = PUBLISH_INTERVAL_S + RESTING_INTERVAL_S + notes.latency_s;
    if dark.to_s < due_s - backlog_s {
        notes.near_miss("EX_SILENT", dark.from_s, why);
        return;
    }
    let sure = dark.to_s > due_s + notes.latency_s;
    let certainty = if sure {
        Certainty::Must
    } else {
        Certainty::May
    };
    let window = Window::new(due_s - backlog_s, due_s, due_s + notes.latency_s);
    // Silence is told with the last place that arrived.
    let window = window.placed(dark.from_s - backlog_s - PLACE_AGE_S, dark.from_s);
    notes.expect("EX_SILENT", window, certainty, why);
}

/// A sleeping tracker leaves its goods unobserved; known with the first reading after it.
fn gap(notes: &mut Notes<'_>, asleep: &Interval) {
    if notes.until_s < asleep.to_s {
        return;
    }
    let why = format!("its tracker sleeps for {:.0} min", asleep.length_s() / 60.0);
    if asleep.length_s() + 2.0 * RESTING_INTERVAL_S < GAP_MAX_S {
        notes.near_miss("EX_DATA_GAP", asleep.from_s, why);
        return;
    }
    let certainty = if asleep.length_s() > GAP_MAX_S {
        Certainty::Must
    } else {
        Certainty::May
    };
    let woken_s = asleep.to_s + MOVING_INTERVAL_S;
    let window = Window::new(asleep.from_s - RESTING_INTERVAL_S, asleep.from_s, woken_s);
    // The gap begins with the last reading before it, and is noticed by the first one after it.
    let window = window.placed(asleep.from_s - PLACE_AGE_S, woken_s);
    notes.expect("EX_DATA_GAP", window, certainty, why);
}
