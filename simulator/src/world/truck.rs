//! Vehicles: how far along its lane a truck is, at every moment.
//!
//! A journey is planned once, as phases of constant acceleration between halts, and then only looked
//! up: position and speed are continuous by construction, and any moment may be asked in any order.
//! Distances are metres along the lane, times are seconds since the world's start.

/// How a laden truck gathers speed, in m/s2.
pub const ACCELERATION_MPS2: f64 = 0.35;

/// How a laden truck slows down in traffic, in m/s2.
pub const BRAKING_MPS2: f64 = 0.6;

/// Speed limit around a yard, in m/s (30 km/h).
pub const YARD_SPEED_MPS: f64 = 8.3;

/// How far the yard limit reaches on either side of a yard, in metres.
pub const YARD_REACH_M: f64 = 1_500.0;

/// Cruising speed where no zone says otherwise, in m/s (79 km/h).
const CRUISE_MPS: f64 = 22.0;

/// Why a truck stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// At the pickup stop.
    Loading,
    /// At a hub.
    Handling,
    /// The driver's break at the roadside.
    Resting,
    /// Before the gate of the delivery stop, outside its fence.
    Queueing,
    /// At the delivery stop, for good.
    Unloading,
}

impl Purpose {
    /// Whether it happens in a yard, with its speed limit around it.
    #[must_use]
    pub const fn in_yard(self) -> bool {
        !matches!(self, Self::Resting)
    }

    /// In words, for people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Handling => "at the dock",
            Self::Resting => "driver resting",
            Self::Queueing => "queueing at the gate",
            Self::Unloading => "unloading",
        }
    }
}

/// A stand still.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Halt {
    /// Where.
    pub along_m: f64,
    /// For how many seconds; the last halt of a journey lasts for ever.
    pub for_s: f64,
    /// Why.
    pub purpose: Purpose,
}

/// A stretch of the lane with its own speed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Zone {
    /// From, metres along the lane.
    pub from_m: f64,
    /// To, metres along the lane.
    pub to_m: f64,
    /// Fastest speed within it, in m/s.
    pub limit_mps: f64,
}

/// Where a truck is at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Motion {
    /// Metres along the lane.
    pub along_m: f64,
    /// Speed in m/s.
    pub speed_mps: f64,
    /// The halt it is at, if it stands.
    pub halt: Option<Halt>,
}

/// A halt with its place in time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stay {
    /// The halt.
    pub halt: Halt,
    /// Standing from this second on.
    pub from_s: f64,
    /// Until this second; infinite for the last.
    pub to_s: f64,
}

/// A truck's way along its lane.
#[derive(Clone, Debug, PartialEq)]
pub struct Journey {
    phases: Vec<Phase>,
    stays: Vec<Stay>,
}

/// Constant acceleration from a moment on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Phase {
    from_s: f64,
    at_m: f64,
    speed_mps: f64,
    acceleration: f64,
    halt: Option<Halt>,
}

/// A stretch between two limits, while planning.
#[derive(Clone, Copy, Debug)]
struct Piece {
    length_m: f64,
    limit_mps: f64,
}

impl Journey {
    /// Plan the way from `start_m` through `halts` (rising, at least one, the last one for ever).
    #[must_use]
    pub fn plan(start_m: f64, halts: &[Halt], zones: &[Zone]) -> Self {
        let mut planner = Planner {
            now_s: 0.0,
            at_m: start_m,
            journey: Self {
                phases: Vec::new(),
                stays: Vec::new(),
            },
        };
        let mut yard_behind = false;
        for (index, halt) in halts.iter().enumerate() {
            let limits = Limits {
                zones,
                yard_behind: yard_behind.then_some(planner.at_m),
                yard_ahead: halt.purpose.in_yard().then_some(halt.along_m),
            };
            planner.drive(halt.along_m, &limits);
            planner.stay(*halt, index + 1 == halts.len());
            yard_behind = halt.purpose.in_yard();
        }
        planner.journey
    }

    /// Where the truck is at that second; before the start it stands at the start.
    #[must_use]
    pub fn at(&self, at_s: f64) -> Motion {
        let next = self.phases.partition_point(|phase| phase.from_s <= at_s);
        let phase = &self.phases[next.saturating_sub(1)];
        let dt = (at_s - phase.from_s).max(0.0);
        Motion {
            along_m: phase.at_m + phase.speed_mps * dt + phase.acceleration * dt * dt / 2.0,
            speed_mps: (phase.speed_mps + phase.acceleration * dt).max(0.0),
            halt: phase.halt,
        }
    }

    /// The second at which the truck first is this far along its lane; `None` when it never gets there.
    #[must_use]
    pub fn reaches(&self, along_m: f64) -> Option<f64> {
        let reached = self.phases.partition_point(|phase| phase.at_m < along_m);
        let Some(before) = reached.checked_sub(1) else {
            return Some(0.0);
        };
        let end_s = self.phases.get(reached)?.from_s;
        let (mut low, mut high) = (self.phases[before].from_s, end_s);
        // A phase is shorter than 2^40 ms: forty halvings end below a millisecond.
        for _ in 0..40 {
            let middle = f64::midpoint(low, high);
            if self.at(middle).along_m < along_m {
                low = middle;
            } else {
                high = middle;
            }
        }
        Some(high)
    }

    /// Its halts with their times, in order.
    #[must_use]
    pub fn stays(&self) -> &[Stay] {
        &self.stays
    }
}

/// What bounds the speed between two halts.
struct Limits<'a> {
    zones: &'a [Zone],
    yard_behind: Option<f64>,
    yard_ahead: Option<f64>,
}

impl Limits<'_> {
    fn at(&self, along_m: f64) -> f64 {
        let in_yard = |yard: Option<f64>| yard.is_some_and(|m| (along_m - m).abs() < YARD_REACH_M);
        if in_yard(self.yard_behind) || in_yard(self.yard_ahead) {
            return YARD_SPEED_MPS;
        }
        let here = |zone: &&Zone| (zone.from_m..zone.to_m).contains(&along_m);
        let limits = self.zones.iter().filter(here).map(|zone| zone.limit_mps);
        limits.min_by(f64::total_cmp).unwrap_or(CRUISE_MPS)
    }

    /// Stretches of constant limit between two points.
    fn pieces(&self, from_m: f64, to_m: f64) -> Vec<Piece> {
        let yards = [self.yard_behind, self.yard_ahead].into_iter().flatten();
        let yard_edges = yards.flat_map(|m| [m - YARD_REACH_M, m + YARD_REACH_M]);
        let zone_edges = self.zones.iter().flat_map(|zone| [zone.from_m, zone.to_m]);
        let mut edges: Vec<f64> = yard_edges.chain(zone_edges).collect();
        edges.retain(|edge| *edge > from_m && *edge < to_m);
        edges.extend([from_m, to_m]);
        edges.sort_by(f64::total_cmp);
        edges.dedup();
        let piece = |pair: &[f64]| Piece {
            length_m: pair[1] - pair[0],
            limit_mps: self.at(f64::midpoint(pair[0], pair[1])),
        };
        edges.windows(2).map(piece).collect()
    }
}

struct Planner {
    now_s: f64,
    at_m: f64,
    journey: Journey,
}

impl Planner {
    fn stay(&mut self, halt: Halt, forever: bool) {
        self.push(0.0, 0.0, Some(halt));
        let to_s = if forever {
            f64::INFINITY
        } else {
            self.now_s + halt.for_s
        };
        self.journey.stays.push(Stay {
            halt,
            from_s: self.now_s,
            to_s,
        });
        self.now_s = to_s;
    }

    fn drive(&mut self, to_m: f64, limits: &Limits<'_>) {
        let pieces = limits.pieces(self.at_m, to_m);
        let speeds = border_speeds(&pieces);
        for (piece, ends) in pieces.iter().zip(speeds.windows(2)) {
            self.cross(piece, ends[0], ends[1]);
        }
        // Rounding of the phases must not add up over a long lane.
        self.at_m = self.at_m.max(to_m);
    }

    /// Accelerate, cruise, brake: one piece.
    fn cross(&mut self, piece: &Piece, enter: f64, leave: f64) {
        let (a, b) = (ACCELERATION_MPS2, BRAKING_MPS2);
        let reachable = 2.0 * a * b * piece.length_m + b * enter * enter + a * leave * leave;
        let peak = piece.limit_mps.min((reachable / (a + b)).sqrt());
        let peak = peak.max(enter).max(leave);
        let gather_m = (peak * peak - enter * enter) / (2.0 * a);
        let brake_m = (peak * peak - leave * leave) / (2.0 * b);
        let cruise_m = (piece.length_m - gather_m - brake_m).max(0.0);
        let end_m = self.at_m + piece.length_m;
        self.advance(enter, a, (peak - enter) / a);
        self.advance(peak, 0.0, cruise_m / peak);
        self.advance(peak, -b, (peak - leave) / b);
        self.at_m = end_m;
    }

    fn advance(&mut self, speed_mps: f64, acceleration: f64, for_s: f64) {
        if for_s <= 0.0 {
            return;
        }
        self.push(speed_mps, acceleration, None);
        self.now_s += for_s;
        self.at_m += speed_mps * for_s + acceleration * for_s * for_s / 2.0;
    }

    fn push(&mut self, speed_mps: f64, acceleration: f64, halt: Option<Halt>) {
        self.journey.phases.push(Phase {
            from_s: self.now_s,
            at_m: self.at_m,
            speed_mps,
            acceleration,
            halt,
        });
    }
}

/// Fastest speeds at the borders of the pieces that both sides' limits, acceleration and braking
/// allow; standing at both ends.
fn border_speeds(pieces: &[Piece]) -> Vec<f64> {
    let mut speeds = vec![0.0; pieces.len() + 1];
    for index in 1..pieces.len() {
        let (before, after) = (pieces[index - 1], pieces[index]);
        let gathered = speeds[index - 1] * speeds[index - 1];
        let gathered = (gathered + 2.0 * ACCELERATION_MPS2 * before.length_m).sqrt();
        speeds[index] = before.limit_mps.min(after.limit_mps).min(gathered);
    }
    for index in (0..pieces.len()).rev() {
        let stopping = speeds[index + 1] * speeds[index + 1];
        let stopping = (stopping + 2.0 * BRAKING_MPS2 * pieces[index].length_m).sqrt();
        speeds[index] = speeds[index].min(stopping);
    }
    speeds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halt(along_m: f64, for_s: f64, purpose: Purpose) -> Halt {
        Halt {
            along_m,
            for_s,
            purpose,
        }
    }

    fn journey() -> Journey {
        let halts = [
            halt(5_000.0, 1_200.0, Purpose::Loading),
            halt(60_000.0, 2_700.0, Purpose::Resting),
            halt(99_700.0, 900.0, Purpose::Queueing),
            halt(100_000.0, 0.0, Purpose::Unloading),
        ];
        let zones = [Zone {
            from_m: 20_000.0,
            to_m: 23_000.0,
            limit_mps: 12.0,
        }];
        Journey::plan(0.0, &halts, &zones)
    }

    #[test]
    fn a_truck_never_teleports_and_keeps_to_speed_and_acceleration() {
        let journey = journey();
        let mut before = journey.at(0.0);
        for tenth in 1..200_000 {
            let now = journey.at(f64::from(tenth) / 10.0);
            let step_m = now.along_m - before.along_m;
            let fastest = now.speed_mps.max(before.speed_mps);
            assert!(
                (-1e-3..=fastest * 0.1 + 0.02).contains(&step_m),
                "{step_m} m"
            );
            assert!((0.0..=CRUISE_MPS + 1e-9).contains(&now.speed_mps));
            let change = (now.speed_mps - before.speed_mps).abs();
            assert!(change <= BRAKING_MPS2 * 0.1 + 1e-6, "{change} m/s in 0.1 s");
            before = now;
        }
        assert!((before.along_m - 100_000.0).abs() < 1e-6);
    }

    #[test]
    fn a_slow_zone_is_driven_slowly() {
        let journey = journey();
        let inside_s = journey.reaches(21_000.0).unwrap();
        assert!((journey.at(inside_s).speed_mps - 12.0).abs() < 1e-6);
    }

    #[test]
    fn halts_last_as_long_as_they_say() {
        let journey = journey();
        let [loading, resting, queueing, unloading] = journey.stays() else {
            panic!("four halts");
        };
        assert!((loading.to_s - loading.from_s - 1_200.0).abs() < 1e-9);
        assert_eq!(journey.at(resting.from_s + 60.0).speed_mps, 0.0);
        assert_eq!(
            journey.at(queueing.from_s + 1.0).halt.map(|h| h.purpose),
            Some(Purpose::Queueing)
        );
        assert!(unloading.to_s.is_infinite());
    }

    #[test]
    fn reaching_a_place_is_the_inverse_of_being_there() {
        let journey = journey();
        for along_m in [1.0, 4_999.0, 5_001.0, 47_000.0, 99_800.0] {
            let at_s = journey.reaches(along_m).unwrap();
            assert!((journey.at(at_s).along_m - along_m).abs() < 0.05);
        }
        assert_eq!(journey.reaches(100_001.0), None);
    }
}
