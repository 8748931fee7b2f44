//! What is carried, and what it bears. One table, from which follow the plan's profiles, the
//! trackers' settings and the expectations.

/// Kinds of goods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cargo {
    /// Fresh goods at 2 to 8 C, boxed on pallets.
    Chilled,
    /// Frozen goods, boxed on pallets.
    Frozen,
    /// Electronics without temperature limits.
    Dry,
}

/// A bound on the temperature and how long it may be exceeded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Name of the rule in the profile.
    pub name: &'static str,
    /// Degrees Celsius; exactly the bound is still allowed.
    pub bound_c: f64,
    /// Whether above it is bad, else below.
    pub above: bool,
    /// Continuous time beyond the bound that makes an excursion, in seconds.
    pub delay_s: f64,
}

impl Limit {
    /// How far beyond the bound a temperature is; negative when it is allowed.
    #[must_use]
    pub fn excess_c(&self, celsius: f64) -> f64 {
        if self.above {
            celsius - self.bound_c
        } else {
            self.bound_c - celsius
        }
    }
}

/// Delays are half an hour to an hour: long enough that an open door is no excursion.
const CHILLED_LIMITS: [Limit; 2] = [
    Limit {
        name: "warm",
        bound_c: 8.0,
        above: true,
        delay_s: 30.0 * 60.0,
    },
    Limit {
        name: "freeze",
        bound_c: -0.5,
        above: false,
        delay_s: 60.0 * 60.0,
    },
];

const FROZEN_LIMITS: [Limit; 2] = [
    Limit {
        name: "warm",
        bound_c: -10.0,
        above: true,
        delay_s: 60.0 * 60.0,
    },
    Limit {
        name: "cold",
        bound_c: -25.0,
        above: false,
        delay_s: 60.0 * 60.0,
    },
];

impl Cargo {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Chilled, Self::Frozen, Self::Dry];

    /// Name of its profile in the plan.
    #[must_use]
    pub const fn profile(self) -> &'static str {
        match self {
            Self::Chilled => "sim_chilled",
            Self::Frozen => "sim_frozen",
            Self::Dry => "sim_electronics",
        }
    }

    /// What the reefer is set to, in C; `None` when there is none.
    #[must_use]
    pub const fn set_point_c(self) -> Option<f64> {
        match self {
            Self::Chilled => Some(4.5),
            Self::Frozen => Some(-20.0),
            Self::Dry => None,
        }
    }

    /// Bounds on its temperature.
    #[must_use]
    pub const fn limits(self) -> &'static [Limit] {
        match self {
            Self::Chilled => &CHILLED_LIMITS,
            Self::Frozen => &FROZEN_LIMITS,
            Self::Dry => &[],
        }
    }

    /// Class of fragility, as the plan names it.
    #[must_use]
    pub const fn shock_class(self) -> &'static str {
        match self {
            Self::Chilled | Self::Frozen => "boxed_pallets",
            Self::Dry => "electronics",
        }
    }

    /// Smallest peak of a shock that matters, in g.
    #[must_use]
    pub const fn shock_g(self) -> f64 {
        match self {
            Self::Chilled | Self::Frozen => 50.0,
            Self::Dry => 25.0,
        }
    }

    /// Smallest velocity change of a shock that matters, in m/s: that of a half-sine of 11 ms.
    #[must_use]
    pub const fn shock_delta_v(self) -> f64 {
        match self {
            Self::Chilled | Self::Frozen => 3.434,
            Self::Dry => 1.561,
        }
    }
}

/// Or smallest time above a tenth of the peak, in seconds.
pub const SHOCK_DURATION_S: f64 = 0.020;

/// Charge at or below which a battery is low, in percent.
pub const BATTERY_LOW_PERCENT: u8 = 15;

/// Longest time between readings for which the first one holds, in seconds: three times the
/// longest sampling interval.
pub const GAP_MAX_S: f64 = 900.0;

/// Silence that is reported, in seconds.
pub const SILENT_AFTER_S: f64 = 7_200.0;

/// Time after attachment during which temperatures are not judged, in seconds.
pub const SETTLING_S: f64 = 600.0;
