//! A limit: which value of which quantity goods stand for how long.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::fault::{Faults, Problem};
use super::profile::{DURATION_MAX, SEVERITIES};
use super::reader::{Table, Unique};
use super::value::{self, ID_ALLOWED};
use crate::event::{Severity, Side};
use crate::quantity::Quantity;

/// One bound on one quantity; values are in the quantity's unit.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitRule {
    /// What is bounded.
    pub quantity: Quantity,
    /// Unique among the profile's limits of the quantity; part of event ids.
    pub name: String,
    /// The bound. Of a door, 0: it is open or not.
    pub bound: f64,
    /// Which side is bad.
    pub side: Side,
    /// Whether the bound itself is bad.
    pub inclusive: bool,
    /// Continuous time beyond the bound that opens an event.
    pub delay: Duration,
    /// How far inside the bound an open episode must come back to end.
    pub hysteresis: f64,
    /// How long it must stay there.
    pub clear_delay: Duration,
    /// Severity of the event.
    pub severity: Severity,
}

/// What a quantity's limits may be, and what they are when a plan does not say.
struct Manner {
    /// Most limits of one profile.
    rules_max: usize,
    /// Lowest and highest bound: what the wire can carry.
    bound: RangeInclusive<f64>,
    /// Largest hysteresis.
    hysteresis_max: f64,
    /// Hysteresis unless stated: above the noise of a sensor, below what matters.
    hysteresis: f64,
    /// Severity unless stated.
    severity: Severity,
}

/// Clear delay unless stated.
const CLEAR_DELAY: Duration = Duration::from_secs(5 * 60);

const fn manner(quantity: Quantity) -> Manner {
    match quantity {
        Quantity::Temperature => Manner {
            rules_max: 8,
            bound: -273.15..=327.67,
            hysteresis_max: 5.0,
            hysteresis: 0.3,
            severity: Severity::Critical,
        },
        Quantity::Humidity => Manner {
            rules_max: 4,
            bound: 0.0..=100.0,
            hysteresis_max: 20.0,
            hysteresis: 2.0,
            severity: Severity::Warning,
        },
        Quantity::Tilt => Manner {
            rules_max: 2,
            bound: 0.0..=180.0,
            hysteresis_max: 45.0,
            hysteresis: 5.0,
            severity: Severity::Warning,
        },
        Quantity::Light => Manner {
            rules_max: 2,
            bound: 0.0..=200_000.0,
            hysteresis_max: 200_000.0,
            hysteresis: 0.0,
            severity: Severity::Warning,
        },
        Quantity::Door => Manner {
            rules_max: 1,
            bound: 0.0..=0.0,
            hysteresis_max: 0.0,
            hysteresis: 0.0,
            severity: Severity::Warning,
        },
    }
}

impl LimitRule {
    /// All limits of a profile, quantity by quantity.
    pub(super) fn read_all(profile: &Table<'_, '_>, faults: &mut Faults<'_>) -> Vec<Self> {
        let mut rules = Vec::new();
        for quantity in Quantity::ALL {
            let mut seen = Unique::new("of the profile's limits of this kind");
            for table in &profile.tables(quantity.as_str(), manner(quantity).rules_max, faults) {
                if let Some(rule) = Self::read(quantity, table, faults) {
                    seen.check(table, "name", &rule.name, faults);
                    rules.push(rule);
                }
            }
        }
        rules
    }

    fn read(quantity: Quantity, table: &Table<'_, '_>, faults: &mut Faults<'_>) -> Option<Self> {
        let manner = manner(quantity);
        let is_door = quantity == Quantity::Door;
        let common = ["name", "delay", "clear_delay", "severity"];
        let bounded = ["above", "below", "inclusive", "hysteresis"];
        let keys: Vec<&str> = common
            .into_iter()
            .chain(bounded.into_iter().filter(|_| !is_door))
            .collect();
        table.check_keys(&keys, faults);
        let name = table.required("name", ID_ALLOWED, faults, value::id);
        let bound = if is_door {
            Some((0.0, Side::Above))
        } else {
            read_bound(quantity, &manner, table, faults)
        };
        let inclusive = table.optional("inclusive", faults, value::flag);
        let delay = value::duration(DURATION_MAX);
        let delay = table.required("delay", "a duration, such as \"10h\"", faults, delay);
        let hysteresis = value::number(0.0..=manner.hysteresis_max, quantity.unit());
        let hysteresis = table.optional("hysteresis", faults, hysteresis);
        let clear_delay = table.optional("clear_delay", faults, value::duration(DURATION_MAX));
        let severity = table.optional("severity", faults, value::choice(&SEVERITIES));
        let hysteresis = hysteresis.unwrap_or(manner.hysteresis);
        let (bound, side) = bound?;
        let clear = match side {
            Side::Above => bound - hysteresis,
            Side::Below => bound + hysteresis,
        };
        if !manner.bound.contains(&clear) {
            let unit = quantity.unit();
            let allowed = format!(
                "a hysteresis that leaves the clear level within {} to {} {unit}",
                manner.bound.start(),
                manner.bound.end()
            );
            let problem =
                format!("an episode would end at {clear} {unit}, which cannot be measured");
            table.refuse(Problem::new(problem, allowed), faults);
        }
        Some(Self {
            quantity,
            name: name?,
            bound,
            side,
            inclusive: inclusive.unwrap_or(false),
            delay: delay?,
            hysteresis,
            clear_delay: clear_delay.unwrap_or(CLEAR_DELAY),
            severity: severity.unwrap_or(manner.severity),
        })
    }
}

fn read_bound(
    quantity: Quantity,
    manner: &Manner,
    table: &Table<'_, '_>,
    faults: &mut Faults<'_>,
) -> Option<(f64, Side)> {
    let mut side = |key| {
        let number = value::number(manner.bound.clone(), quantity.unit());
        table.optional(key, faults, number)
    };
    match (side("above"), side("below")) {
        (Some(bound), None) => Some((bound, Side::Above)),
        (None, Some(bound)) => Some((bound, Side::Below)),
        _ => {
            // A bound that is there and no number was told already.
            let there = ["above", "below"].map(|key| table.node(key).is_some());
            if there[0] == there[1] {
                let allowed = "one of above and below";
                table.refuse(Problem::new("no bound, or two", allowed), faults);
            }
            None
        }
    }
}
