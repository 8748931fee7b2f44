//! Fences as they are drawn in the plan, and where a lane crosses them.

use super::lane::{Lane, Point};

/// How finely a lane is searched for the edge of a fence, in metres; half of the smallest fence's
/// width is many times this.
const SEARCH_STEP_M: f64 = 10.0;

/// No fence of a world reaches further along its lane, in metres.
const SEARCH_REACH_M: f64 = 20_000.0;

/// An area on the map.
#[derive(Clone, Debug, PartialEq)]
pub enum Fence {
    /// All points within a radius.
    Circle {
        /// Middle.
        centre: Point,
        /// Metres.
        radius_m: f64,
    },
    /// A simple polygon, counterclockwise, first corner not repeated.
    Polygon(Vec<Point>),
}

/// Which way to look along a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Towards the start: where a truck enters.
    Before,
    /// Towards the end: where a truck leaves.
    After,
}

impl Fence {
    /// Distance to the edge in metres, negative inside; exact to a few centimetres near the fence.
    #[must_use]
    pub fn signed_distance_m(&self, point: Point) -> f64 {
        match self {
            Self::Circle { centre, radius_m } => {
                let (east, north) = point.metres_from(*centre);
                east.hypot(north) - radius_m
            }
            Self::Polygon(corners) => polygon_distance_m(corners, point),
        }
    }

    /// How far along `lane` the truck is when it is `distance_m` from the edge (negative: inside),
    /// nearest to `inside_m` on the given side; `None` when the lane ends before.
    #[must_use]
    pub fn edge_on(&self, lane: &Lane, inside_m: f64, side: Side, distance_m: f64) -> Option<f64> {
        let step_m = match side {
            Side::Before => -SEARCH_STEP_M,
            Side::After => SEARCH_STEP_M,
        };
        let beyond = |along_m: f64| self.signed_distance_m(lane.at(along_m)) > distance_m;
        let mut inner = inside_m;
        while (inner - inside_m).abs() < SEARCH_REACH_M {
            let outer = inner + step_m;
            if !(0.0..=lane.length_m()).contains(&outer) {
                return None;
            }
            if beyond(outer) {
                return Some(bisect(inner, outer, beyond));
            }
            inner = outer;
        }
        None
    }
}

/// Distance of `point` from the straight line between two others, in metres.
#[must_use]
pub fn segment_distance_m(from: Point, to: Point, point: Point) -> f64 {
    edge_distance_m(from.metres_from(point), to.metres_from(point))
}

/// Where `beyond` turns true between `inner` (false) and `outer` (true), to a millimetre.
fn bisect(mut inner: f64, mut outer: f64, beyond: impl Fn(f64) -> bool) -> f64 {
    while (outer - inner).abs() > 1e-3 {
        let middle = f64::midpoint(inner, outer);
        if beyond(middle) {
            outer = middle;
        } else {
            inner = middle;
        }
    }
    outer
}

fn polygon_distance_m(corners: &[Point], point: Point) -> f64 {
    let local: Vec<(f64, f64)> = corners.iter().map(|c| c.metres_from(point)).collect();
    let next = local.iter().cycle().skip(1);
    let edges: Vec<_> = local.iter().copied().zip(next.copied()).collect();
    let nearest = edges.iter().map(|(a, b)| edge_distance_m(*a, *b));
    let nearest = nearest.fold(f64::INFINITY, f64::min);
    let crossings = edges.iter().filter(|(a, b)| crosses_ray(*a, *b)).count();
    if crossings % 2 == 1 {
        -nearest
    } else {
        nearest
    }
}

/// Distance of the origin from the segment between two points of the plane.
fn edge_distance_m(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let length2 = dx * dx + dy * dy;
    if length2 == 0.0 {
        return a.0.hypot(a.1);
    }
    let share = (-(a.0 * dx + a.1 * dy) / length2).clamp(0.0, 1.0);
    (a.0 + share * dx).hypot(a.1 + share * dy)
}

/// Whether the segment crosses the ray from the origin towards the east.
fn crosses_ray(a: (f64, f64), b: (f64, f64)) -> bool {
    (a.1 > 0.0) != (b.1 > 0.0) && a.0 - a.1 * (b.0 - a.0) / (b.1 - a.1) > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Point = Point {
        lat: 48.0,
        lon: 11.0,
    };

    fn square() -> Fence {
        let corners = [
            (-500.0, -500.0),
            (500.0, -500.0),
            (500.0, 500.0),
            (-500.0, 500.0),
        ];
        Fence::Polygon(corners.map(|(e, n)| ORIGIN.offset_m(e, n)).to_vec())
    }

    #[test]
    fn distance_is_negative_inside_and_positive_outside() {
        let circle = Fence::Circle {
            centre: ORIGIN,
            radius_m: 500.0,
        };
        for fence in [circle, square()] {
            for (east, expected) in [(0.0, -500.0), (400.0, -100.0), (530.0, 30.0)] {
                let distance = fence.signed_distance_m(ORIGIN.offset_m(east, 0.0));
                assert!((distance - expected).abs() < 0.2, "{east}: {distance}");
            }
        }
        let corner = square().signed_distance_m(ORIGIN.offset_m(530.0, 540.0));
        assert!((corner - 50.0).abs() < 0.2, "{corner}");
    }

    #[test]
    fn a_lane_crosses_a_fence_where_its_distance_is_zero() {
        let lane = Lane::shipped().remove(0);
        let (waypoint, along_m) = lane.waypoint(4).unwrap();
        let fence = Fence::Circle {
            centre: waypoint.point(),
            radius_m: 600.0,
        };
        for (side, sign) in [(Side::Before, -1.0), (Side::After, 1.0)] {
            let edge_m = fence.edge_on(&lane, along_m, side, 0.0).unwrap();
            assert!(fence.signed_distance_m(lane.at(edge_m)).abs() < 0.01);
            assert!((edge_m - along_m - sign * 600.0).abs() < 2.0);
        }
        assert_eq!(fence.edge_on(&lane, 0.0, Side::Before, -1e9), None);
    }
}
