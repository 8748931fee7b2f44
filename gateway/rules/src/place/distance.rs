//! Distances in local metres.
//!
//! Around a point the Earth is taken as flat: `x = dlon * cos(lat0) * R`, `y = dlat * R` with the mean
//! radius of the Earth, which is good to a few parts in a thousand below about 50 km. Fences are
//! judged by their distance near the edge, where that is millimetres.

use geo::{Contains, Coord, Line, LineString, MultiPolygon, Polygon};

use crate::plan::fence::{LatLon, Shape};

/// Mean radius of the Earth (IUGG), in metres.
pub const EARTH_RADIUS_M: f64 = 6_371_008.8;

/// Steps per axis in the search for the point of a polygon that is farthest from its edge.
const INRADIUS_STEPS: u32 = 24;

/// Metres east and north from `origin` to `point`, the short way around the Earth.
#[must_use]
pub fn metres_from(origin: LatLon, point: LatLon) -> (f64, f64) {
    let east_deg = (point.lon - origin.lon + 540.0).rem_euclid(360.0) - 180.0;
    let east = east_deg.to_radians() * origin.lat.to_radians().cos() * EARTH_RADIUS_M;
    let north = (point.lat - origin.lat).to_radians() * EARTH_RADIUS_M;
    (east, north)
}

/// Metres between two points.
#[must_use]
pub fn between_m(a: LatLon, b: LatLon) -> f64 {
    let (east, north) = metres_from(a, b);
    east.hypot(north)
}

/// Metres from `point` to the edge of `shape`; negative inside.
#[must_use]
pub fn signed_m(shape: &Shape, point: LatLon) -> f64 {
    match shape {
        Shape::Circle { centre, radius_m } => between_m(*centre, point) - radius_m,
        Shape::Area(polygons) => area_m(polygons, point),
    }
}

/// Metres from the middle of `shape` to its edge: the radius of the largest circle in it. For
/// polygons a lower estimate from a grid of points.
#[must_use]
pub fn inradius_m(shape: &Shape) -> f64 {
    match shape {
        Shape::Circle { radius_m, .. } => *radius_m,
        Shape::Area(polygons) => {
            let deepest = grid(polygons).map(|point| -area_m(polygons, point));
            deepest.fold(0.0, f64::max)
        }
    }
}

/// South-west and north-east corner, in degrees, of a box around each part of `shape`. Parts on both
/// sides of the antimeridian have boxes of their own.
#[must_use]
pub fn bounds(shape: &Shape) -> Vec<(LatLon, LatLon)> {
    match shape {
        Shape::Circle { centre, radius_m } => vec![around(*centre, *radius_m)],
        Shape::Area(polygons) => polygons.iter().map(polygon_bounds).collect(),
    }
}

/// Corners of a box that holds everything within `radius_m` of `centre`.
#[must_use]
pub fn around(centre: LatLon, radius_m: f64) -> (LatLon, LatLon) {
    let north = (radius_m / EARTH_RADIUS_M).to_degrees();
    // Near a pole every longitude is close; elsewhere the cosine is well above this floor.
    let east = north / centre.lat.to_radians().cos().max(1e-3);
    let corner = |sign: f64| LatLon {
        lat: centre.lat + sign * north,
        lon: centre.lon + sign * east,
    };
    (corner(-1.0), corner(1.0))
}

fn polygon_bounds(polygon: &Polygon<f64>) -> (LatLon, LatLon) {
    let corners = || polygon.exterior().0.iter();
    let least = |of: fn(&Coord<f64>) -> f64| corners().map(of).fold(f64::MAX, f64::min);
    let most = |of: fn(&Coord<f64>) -> f64| corners().map(of).fold(f64::MIN, f64::max);
    let south_west = LatLon {
        lat: least(|c| c.y),
        lon: least(|c| c.x),
    };
    let north_east = LatLon {
        lat: most(|c| c.y),
        lon: most(|c| c.x),
    };
    (south_west, north_east)
}

fn area_m(polygons: &MultiPolygon<f64>, point: LatLon) -> f64 {
    let coord = Coord {
        x: point.lon,
        y: point.lat,
    };
    let edges = polygons.iter().flat_map(edges);
    let nearest = edges.map(|edge| edge_m(edge, point));
    let nearest = nearest.fold(f64::INFINITY, f64::min);
    if polygons.contains(&coord) {
        -nearest
    } else {
        nearest
    }
}

fn edges(polygon: &Polygon<f64>) -> impl Iterator<Item = Line<f64>> {
    let holes = polygon.interiors().iter().flat_map(LineString::lines);
    polygon.exterior().lines().chain(holes)
}

/// Metres from `point` to the segment `edge`.
fn edge_m(edge: Line<f64>, point: LatLon) -> f64 {
    let local = |c: Coord<f64>| metres_from(point, LatLon { lat: c.y, lon: c.x });
    let (start, end) = (local(edge.start), local(edge.end));
    let (dx, dy) = (end.0 - start.0, end.1 - start.1);
    let length_squared = dx * dx + dy * dy;
    let share = if length_squared > 0.0 {
        (-(start.0 * dx + start.1 * dy) / length_squared).clamp(0.0, 1.0)
    } else {
        0.0
    };
    (start.0 + share * dx).hypot(start.1 + share * dy)
}

fn grid(polygons: &MultiPolygon<f64>) -> impl Iterator<Item = LatLon> {
    polygons.iter().flat_map(|polygon| {
        let (low, high) = polygon_bounds(polygon);
        let at = |from: f64, to: f64, step: u32| {
            from + (to - from) * (f64::from(step) + 0.5) / f64::from(INRADIUS_STEPS)
        };
        (0..INRADIUS_STEPS * INRADIUS_STEPS).map(move |cell| LatLon {
            lat: at(low.lat, high.lat, cell / INRADIUS_STEPS),
            lon: at(low.lon, high.lon, cell % INRADIUS_STEPS),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: LatLon = LatLon {
        lat: 51.9,
        lon: 4.5,
    };

    fn square(half_m: f64) -> Shape {
        let (low, high) = around(ORIGIN, half_m);
        let corners = vec![
            (low.lon, low.lat),
            (high.lon, low.lat),
            (high.lon, high.lat),
            (low.lon, high.lat),
            (low.lon, low.lat),
        ];
        let polygon = Polygon::new(LineString::from(corners), Vec::new());
        Shape::Area(MultiPolygon::new(vec![polygon]))
    }

    fn east_of_origin(metres: f64) -> LatLon {
        let degrees = (metres / EARTH_RADIUS_M / ORIGIN.lat.to_radians().cos()).to_degrees();
        LatLon {
            lon: ORIGIN.lon + degrees,
            ..ORIGIN
        }
    }

    #[test]
    fn distance_is_negative_inside_and_positive_outside() {
        let circle = Shape::Circle {
            centre: ORIGIN,
            radius_m: 500.0,
        };
        for shape in [circle, square(500.0)] {
            for (east, expected) in [(0.0, -500.0), (400.0, -100.0), (530.0, 30.0)] {
                let distance = signed_m(&shape, east_of_origin(east));
                assert!((distance - expected).abs() < 0.1, "{east}: {distance}");
            }
        }
    }

    #[test]
    fn inside_a_hole_is_outside() {
        let Shape::Area(outer) = square(500.0) else {
            unreachable!("a square is an area")
        };
        let Shape::Area(inner) = square(100.0) else {
            unreachable!("a square is an area")
        };
        let hole = inner.0[0].exterior().clone();
        let polygon = Polygon::new(outer.0[0].exterior().clone(), vec![hole]);
        let shape = Shape::Area(MultiPolygon::new(vec![polygon]));
        assert!((signed_m(&shape, ORIGIN) - 100.0).abs() < 0.1);
        assert!((signed_m(&shape, east_of_origin(150.0)) + 50.0).abs() < 0.1);
    }

    #[test]
    fn distance_goes_the_short_way_across_the_antimeridian() {
        let west = LatLon {
            lat: 0.0,
            lon: 179.9995,
        };
        let east = LatLon {
            lat: 0.0,
            lon: -179.9995,
        };
        assert!((between_m(west, east) - 111.2).abs() < 0.1);
    }

    #[test]
    fn the_inradius_of_a_square_is_half_its_side() {
        let inradius = inradius_m(&square(500.0));
        assert!((450.0..=500.0).contains(&inradius), "{inradius}");
    }
}
