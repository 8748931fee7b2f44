//! A fence: a place on the map with a name.

use geo::MultiPolygon;

/// A point on the ellipsoid, in degrees (WGS 84).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatLon {
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
}

/// A place on the map with a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Fence {
    /// Unique in the plan.
    pub id: String,
    /// For people: "Rotterdam cold store".
    pub name: String,
    /// Where it is.
    pub shape: Shape,
    /// How deep inside a position must be to count as inside, in metres.
    pub inside_m: f64,
    /// How far outside a position must be to count as outside, in metres.
    pub outside_m: f64,
}

/// The area of a fence.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// All points within a radius.
    Circle {
        /// Middle.
        centre: LatLon,
        /// Metres.
        radius_m: f64,
    },
    /// Polygons with holes; x is longitude and y latitude in degrees, edges are straight in
    /// longitude and latitude (RFC 7946 3.1.1), exterior rings counterclockwise.
    Area(MultiPolygon<f64>),
}
