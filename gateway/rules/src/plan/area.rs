//! Polygons from GeoJSON or from a list of positions, checked and oriented (RFC 7946).

use geo::line_intersection::{LineIntersection, line_intersection};
use geo::{Coord, Line, LineString, MultiPolygon, Polygon};
use serde_json::Value;

use super::fault::Problem;

/// Most positions of one area, all rings together: the check for crossings compares all pairs of edges.
pub(super) const RING_POSITIONS_MAX: usize = 2_000;

/// Largest width or height of an area in degrees. A wider one is a mistake in the order of longitude
/// and latitude, an area across the antimeridian that was not cut (RFC 7946 3.1.9), or around a pole.
const EXTENT_MAX_DEG: f64 = 20.0;

/// A ring of `[longitude, latitude]`, first and last equal.
pub(super) type Ring = Vec<[f64; 2]>;

/// Checked polygons.
#[derive(Debug)]
pub(super) struct Area {
    pub(super) polygons: MultiPolygon<f64>,
    /// Rings that had the wrong direction.
    pub(super) turned: usize,
}

/// The polygons of a GeoJSON text, as rings; the first ring of each polygon is its exterior.
///
/// Accepted: a Polygon or `MultiPolygon`, a Feature with one, or a `FeatureCollection` of one Feature.
pub(super) fn rings_of_geojson(text: &str) -> Result<Vec<Vec<Ring>>, Problem> {
    let json: Value = serde_json::from_str(text).map_err(|error| {
        let problem = format!("no JSON: {error}");
        Problem::new(problem, "a GeoJSON object")
    })?;
    let geometry = geometry(&json)?;
    let coordinates = geometry.get("coordinates").cloned().unwrap_or_default();
    let wrong = |error: serde_json::Error| {
        let problem = format!("coordinates are not those of a polygon: {error}");
        Problem::new(problem, "rings of [longitude, latitude]")
    };
    match geometry.get("type").and_then(Value::as_str) {
        Some("Polygon") => {
            let rings: Vec<Vec<Vec<f64>>> = serde_json::from_value(coordinates).map_err(wrong)?;
            Ok(vec![positions(&rings)?])
        }
        Some("MultiPolygon") => {
            let polygons: Vec<Vec<Vec<Vec<f64>>>> =
                serde_json::from_value(coordinates).map_err(wrong)?;
            polygons.iter().map(|rings| positions(rings)).collect()
        }
        other => {
            let problem = format!("geometry is a {}", other.unwrap_or("thing without type"));
            Err(Problem::new(problem, "Polygon or MultiPolygon"))
        }
    }
}

fn geometry(json: &Value) -> Result<&Value, Problem> {
    match json.get("type").and_then(Value::as_str) {
        Some("Feature") => Ok(&json["geometry"]),
        Some("FeatureCollection") => match json["features"].as_array().map(Vec::as_slice) {
            Some([feature]) => Ok(&feature["geometry"]),
            _ => Err(Problem::new(
                "not exactly one feature",
                "one feature per fence",
            )),
        },
        _ => Ok(json),
    }
}

/// Positions may carry an altitude, which has no meaning here.
fn positions(rings: &[Vec<Vec<f64>>]) -> Result<Vec<Ring>, Problem> {
    let position = |numbers: &Vec<f64>| match numbers[..] {
        [lon, lat] | [lon, lat, _] => Ok([lon, lat]),
        _ => Err(Problem::new(
            "a position without longitude and latitude",
            "[longitude, latitude]",
        )),
    };
    let ring = |ring: &Vec<Vec<f64>>| ring.iter().map(position).collect();
    rings.iter().map(ring).collect()
}

/// Check `polygons` and put their rings in the right direction.
pub(super) fn build(polygons: Vec<Vec<Ring>>) -> Result<Area, Problem> {
    let count: usize = polygons.iter().flatten().map(Vec::len).sum();
    if count > RING_POSITIONS_MAX {
        let problem = format!("{count} positions are too many");
        return Err(Problem::new(
            problem,
            format!("at most {RING_POSITIONS_MAX}"),
        ));
    }
    let built = polygons.into_iter().map(|rings| {
        let mut lines = rings.into_iter().map(checked_ring);
        let none = || Problem::new("no ring", "at least one ring");
        let exterior = lines.next().ok_or_else(none)??;
        Ok(Polygon::new(exterior, lines.collect::<Result<_, _>>()?))
    });
    let polygons = MultiPolygon::new(built.collect::<Result<_, Problem>>()?);
    check_extent(&polygons)?;
    check_crossings(&polygons)?;
    Ok(oriented(polygons))
}

fn checked_ring(ring: Ring) -> Result<LineString<f64>, Problem> {
    if ring.first() != ring.last() {
        return Err(Problem::new(
            "a ring that is not closed",
            "last position equal to the first",
        ));
    }
    for [lon, lat] in &ring {
        if !(-180.0..=180.0).contains(lon) || !(-90.0..=90.0).contains(lat) {
            let problem = format!("position [{lon}, {lat}] is not on Earth");
            return Err(Problem::new(
                problem,
                "longitude -180 to 180, latitude -90 to 90",
            ));
        }
    }
    let mut line: Vec<Coord<f64>> = ring.into_iter().map(Coord::from).collect();
    line.dedup();
    if line.len() < 4 {
        return Err(Problem::new(
            "a ring without area",
            "at least three different positions",
        ));
    }
    Ok(LineString::new(line))
}

/// Exterior rings counterclockwise, holes clockwise.
fn oriented(polygons: MultiPolygon<f64>) -> Area {
    let mut turned = 0;
    let mut turn = |mut line: LineString<f64>, exterior: bool| {
        let doubled: f64 = line.lines().map(|edge| edge.determinant()).sum();
        if (doubled > 0.0) != exterior {
            line.0.reverse();
            turned += 1;
        }
        line
    };
    let polygons = polygons.into_iter().map(|polygon| {
        let (exterior, holes) = polygon.into_inner();
        let exterior = turn(exterior, true);
        Polygon::new(
            exterior,
            holes.into_iter().map(|hole| turn(hole, false)).collect(),
        )
    });
    let polygons = polygons.collect();
    Area { polygons, turned }
}

fn check_extent(polygons: &MultiPolygon<f64>) -> Result<(), Problem> {
    let exteriors = polygons.iter().map(Polygon::exterior);
    for exterior in exteriors {
        let span = |of: fn(&Coord<f64>) -> f64| {
            let values = || exterior.0.iter().map(of);
            values().fold(f64::MIN, f64::max) - values().fold(f64::MAX, f64::min)
        };
        let widest = span(|c| c.x).max(span(|c| c.y));
        if widest > EXTENT_MAX_DEG {
            return Err(Problem::new(
                format!("a polygon {widest:.0} degrees wide"),
                "at most 20 degrees; cut it at the antimeridian (RFC 7946 3.1.9), no ring around a pole",
            ));
        }
    }
    Ok(())
}

/// Edges may touch only where one ends and the next of the same ring begins.
fn check_crossings(polygons: &MultiPolygon<f64>) -> Result<(), Problem> {
    let rings = polygons
        .iter()
        .flat_map(|polygon| std::iter::once(polygon.exterior()).chain(polygon.interiors()));
    let edges: Vec<(usize, usize, usize, Line<f64>)> = rings
        .enumerate()
        .flat_map(|(ring, line)| {
            let count = line.0.len() - 1;
            line.lines()
                .enumerate()
                .map(move |(edge, line)| (ring, edge, count, line))
        })
        .collect();
    for (index, (ring, edge, count, line)) in edges.iter().enumerate() {
        for (other_ring, other_edge, _, other) in &edges[index + 1..] {
            let next = ring == other_ring
                && (edge.abs_diff(*other_edge) == 1 || edge.abs_diff(*other_edge) == count - 1);
            if let Some(at) = touch(*line, *other, next) {
                let problem = format!(
                    "edge {edge} of ring {ring} meets edge {other_edge} of ring {other_ring} near \
                     longitude {:.6}, latitude {:.6}",
                    at.x, at.y
                );
                return Err(Problem::new(problem, "rings that neither cross nor touch"));
            }
        }
    }
    Ok(())
}

/// Where two edges meet, unless they are neighbours that meet only in their common end.
fn touch(a: Line<f64>, b: Line<f64>, neighbours: bool) -> Option<Coord<f64>> {
    match line_intersection(a, b)? {
        LineIntersection::SinglePoint { intersection, .. } => (!neighbours).then_some(intersection),
        LineIntersection::Collinear { intersection } => {
            (!neighbours || intersection.start != intersection.end).then_some(intersection.start)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(positions: &[[f64; 2]]) -> Vec<Vec<Ring>> {
        vec![vec![positions.to_vec()]]
    }

    #[test]
    fn a_clockwise_exterior_is_turned_and_reported() {
        let clockwise = [[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]];
        let area = build(ring(&clockwise)).unwrap();
        assert_eq!(area.turned, 1);
        let exterior = area.polygons.0[0].exterior();
        assert!(exterior.lines().map(|edge| edge.determinant()).sum::<f64>() > 0.0);
    }

    #[test]
    fn a_bow_tie_is_refused_with_its_place() {
        let bow_tie = [[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]];
        let problem = format!("{:?}", build(ring(&bow_tie)).unwrap_err());
        assert!(
            problem.contains("edge 0 of ring 0 meets edge 2 of ring 0"),
            "{problem}"
        );
        assert!(
            problem.contains("longitude 0.500000, latitude 0.500000"),
            "{problem}"
        );
    }

    #[test]
    fn absurd_coordinates_are_refused() {
        let swapped = [[0.0, 0.0], [1.0, 0.0], [1.0, 95.0], [0.0, 0.0]];
        let problem = format!("{:?}", build(ring(&swapped)).unwrap_err());
        assert!(problem.contains("[1, 95] is not on Earth"), "{problem}");
        let wide = [[-179.0, 0.0], [179.0, 0.0], [179.0, 1.0], [-179.0, 0.0]];
        let problem = format!("{:?}", build(ring(&wide)).unwrap_err());
        assert!(problem.contains("358 degrees wide"), "{problem}");
    }

    #[test]
    fn geojson_polygons_come_with_their_holes() {
        let text = r#"{"type":"Feature","properties":{},"geometry":{"type":"Polygon","coordinates":
            [[[0,0],[4,0],[4,4],[0,4],[0,0]],[[1,1],[1,2],[2,2],[2,1],[1,1]]]}}"#;
        let area = build(rings_of_geojson(text).unwrap()).unwrap();
        assert_eq!(area.turned, 0);
        assert_eq!(area.polygons.0[0].interiors().len(), 1);
    }
}
