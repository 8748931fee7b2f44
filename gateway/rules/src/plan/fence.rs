//! A fence: a place on the map with a name.

use std::ops::RangeInclusive;

use geo::MultiPolygon;
use serde::{Deserialize, Serialize};

use super::area;
use super::fault::{Faults, Problem};
use super::reader::{Node, Table};
use super::value::{self, ID_ALLOWED};
use crate::place::distance;

/// Default of [`Fence::inside_m`].
const INSIDE_M: f64 = 0.0;

/// Default of [`Fence::outside_m`]: twice the error of a good fix, so that noise does not flap.
const OUTSIDE_M: f64 = 30.0;

/// Accuracy of an ordinary fix in metres, for the warning about small fences.
const ORDINARY_ACCURACY_M: f64 = 15.0;

/// Radius of a circle: from a gate to 50 km, beyond which local metres are no longer good.
const RADIUS_M: RangeInclusive<f64> = 10.0..=50_000.0;

/// Hysteresis distances.
const HYSTERESIS_M: RangeInclusive<f64> = 0.0..=5_000.0;

/// A point on the ellipsoid, in degrees (WGS 84).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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

impl Fence {
    pub(super) fn read(table: &Table<'_, '_>, faults: &mut Faults<'_>) -> Option<Self> {
        table.check_keys(
            &[
                "id",
                "name",
                "lat",
                "lon",
                "radius_m",
                "polygon",
                "geojson",
                "inside_m",
                "outside_m",
            ],
            faults,
        );
        let id = table.required("id", ID_ALLOWED, faults, value::id);
        let name = table.optional("name", faults, value::text);
        let metres = || value::number(HYSTERESIS_M, "m");
        let inside_m = table.optional("inside_m", faults, metres());
        let outside_m = table.optional("outside_m", faults, metres());
        let shape = Shape::read(table, faults);
        let id = id?;
        let fence = Self {
            name: name.unwrap_or_else(|| id.clone()),
            id,
            shape: shape?,
            inside_m: inside_m.unwrap_or(INSIDE_M),
            outside_m: outside_m.unwrap_or(OUTSIDE_M),
        };
        fence.warn_if_small(table, faults);
        Some(fence)
    }

    /// A fix of ordinary accuracy can never be surely inside a fence that is smaller than its error.
    fn warn_if_small(&self, table: &Table<'_, '_>, faults: &mut Faults<'_>) {
        let needed = self.inside_m + ORDINARY_ACCURACY_M;
        let inradius = distance::inradius_m(&self.shape);
        if inradius < needed {
            let problem = format!("only {inradius:.0} m from its middle to its edge");
            let allowed = format!("at least {needed:.0} m, or arrivals go unnoticed");
            table.refuse(Problem::warning(problem, allowed), faults);
        }
    }
}

impl Shape {
    fn read(table: &Table<'_, '_>, faults: &mut Faults<'_>) -> Option<Self> {
        let polygon = table.node("polygon");
        let geojson = table.node("geojson");
        let circle = ["lat", "lon", "radius_m"]
            .iter()
            .any(|key| table.node(key).is_some());
        match (polygon, geojson, circle) {
            (Some(node), None, false) => Self::polygon(&node, faults),
            (None, Some(node), false) => Self::geojson(&node, faults),
            (None, None, true) => Self::circle(table, faults),
            _ => {
                let allowed = "one of: lat, lon and radius_m; polygon; geojson";
                table.refuse(Problem::new("no shape, or several", allowed), faults);
                None
            }
        }
    }

    fn circle(table: &Table<'_, '_>, faults: &mut Faults<'_>) -> Option<Self> {
        let degrees = |limit: f64| value::number(-limit..=limit, "degrees");
        let lat = table.required("lat", "degrees north", faults, degrees(90.0));
        let lon = table.required("lon", "degrees east", faults, degrees(180.0));
        let radius_m = value::number(RADIUS_M, "m");
        let radius_m = table.required("radius_m", "metres", faults, radius_m);
        Some(Self::Circle {
            centre: LatLon {
                lat: lat?,
                lon: lon?,
            },
            radius_m: radius_m?,
        })
    }

    /// One ring of `[longitude, latitude]` pairs, the order of GeoJSON; it need not be closed.
    fn polygon(node: &Node<'_, '_>, faults: &mut Faults<'_>) -> Option<Self> {
        let mut ring = Vec::new();
        for position in node.elements(area::RING_POSITIONS_MAX, faults) {
            let numbers = position.elements(2, faults);
            let number = value::number(-180.0..=180.0, "degrees");
            let mut read = numbers.iter().map(|node| node.read(faults, &number));
            match (read.next().flatten(), read.next().flatten()) {
                (Some(lon), Some(lat)) => ring.push([lon, lat]),
                _ => {
                    drop(read);
                    position.refuse(Problem::new("no position", "[longitude, latitude]"), faults);
                    return None;
                }
            }
        }
        if ring.first() != ring.last() {
            ring.extend(ring.first().copied());
        }
        Self::area(node, area::build(vec![vec![ring]]), faults)
    }

    fn geojson(node: &Node<'_, '_>, faults: &mut Faults<'_>) -> Option<Self> {
        let text = node.read(faults, |value| {
            value::string(value, "GeoJSON text").map(str::to_owned)
        })?;
        let rings = area::rings_of_geojson(&text);
        Self::area(node, rings.and_then(area::build), faults)
    }

    fn area(
        node: &Node<'_, '_>,
        area: Result<area::Area, Problem>,
        faults: &mut Faults<'_>,
    ) -> Option<Self> {
        let area = area.map_err(|problem| node.refuse(problem, faults)).ok()?;
        if area.turned > 0 {
            let problem = format!("{} ring(s) in the wrong direction, turned", area.turned);
            let allowed = "exterior counterclockwise, holes clockwise (RFC 7946 3.1.6)";
            node.refuse(Problem::warning(problem, allowed), faults);
        }
        Some(Self::Area(area.polygons))
    }
}
