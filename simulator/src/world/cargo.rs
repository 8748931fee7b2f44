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

    /// Smallest peak of a shock that matters, in g: electronics 25, boxed pallets 50.
    #[must_use]
    pub const fn shock_g(self) -> f64 {
        match self {
            Self::Chilled | Self::Frozen => 50.0,
            Self::Dry => 25.0,
        }
    }
}

/// Smallest velocity change of a shock that matters, in m/s.
pub const SHOCK_DELTA_V_MPS: f64 = 1.0;

/// Or smallest time above a tenth of the peak, in seconds.
pub const SHOCK_DURATION_S: f64 = 0.020;
