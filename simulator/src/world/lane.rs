//! Lanes: named waypoints joined by straight lines in longitude and latitude.
//!
//! The shipped lanes are illustrative (about 5 km accuracy against the real roads). What matters is
//! that route, fences and ground truth use one geometry, so that truth is exact within this world.

use std::fmt;

use serde::Deserialize;

/// Mean radius of the Earth in metres (IUGG), as used for local distances.
pub const EARTH_RADIUS_M: f64 = 6_371_008.8;

/// Closer than this to a named place, a truck is "at" it.
const AT_PLACE_M: f64 = 1_000.0;

const SHIPPED_LANES: &str = include_str!("../../data/lanes.json");

/// A point on the Earth in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
}

impl Point {
    /// Metres east and north of `origin`, in the plane that touches it; good below about 50 km.
    #[must_use]
    pub fn metres_from(self, origin: Self) -> (f64, f64) {
        let east = (self.lon - origin.lon).to_radians() * origin.lat.to_radians().cos();
        let north = (self.lat - origin.lat).to_radians();
        (east * EARTH_RADIUS_M, north * EARTH_RADIUS_M)
    }

    /// The point `east` and `north` metres away.
    #[must_use]
    pub fn offset_m(self, east: f64, north: f64) -> Self {
        let metres_per_radian_east = EARTH_RADIUS_M * self.lat.to_radians().cos();
        Self {
            lat: self.lat + (north / EARTH_RADIUS_M).to_degrees(),
            lon: self.lon + (east / metres_per_radian_east).to_degrees(),
        }
    }

    /// Great-circle distance in metres (haversine).
    #[must_use]
    pub fn distance_m(self, other: Self) -> f64 {
        let half_lat = ((other.lat - self.lat).to_radians() / 2.0).sin();
        let half_lon = ((other.lon - self.lon).to_radians() / 2.0).sin();
        let cosines = self.lat.to_radians().cos() * other.lat.to_radians().cos();
        let root = half_lat * half_lat + cosines * half_lon * half_lon;
        2.0 * EARTH_RADIUS_M * root.sqrt().min(1.0).asin()
    }
}

/// A named point of a lane.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waypoint {
    /// What people call it.
    pub name: String,
    lat: f64,
    lon: f64,
}

impl Waypoint {
    /// Where it is.
    #[must_use]
    pub const fn point(&self) -> Point {
        Point {
            lat: self.lat,
            lon: self.lon,
        }
    }
}

/// A road between two places, as a line through waypoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    /// Stable name.
    pub id: String,
    /// Road numbers, for people.
    pub road: String,
    waypoints: Vec<Waypoint>,
    /// Distance of each waypoint from the first, in metres; strictly rising.
    along_m: Vec<f64>,
}

/// Why a lane file is refused.
#[derive(Debug)]
pub enum LaneError {
    /// No lane file.
    Undecodable(serde_json::Error),
    /// A lane needs two waypoints or more.
    TooShort {
        /// Its id.
        lane: String,
    },
    /// Two neighbours at the same place, or a coordinate outside the Earth.
    BadWaypoint {
        /// Lane.
        lane: String,
        /// Waypoint.
        waypoint: String,
    },
}

impl fmt::Display for LaneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecodable(_) => f.write_str("lanes cannot be decoded"),
            Self::TooShort { lane } => write!(f, "lane {lane} has fewer than 2 waypoints"),
            Self::BadWaypoint { lane, waypoint } => write!(
                f,
                "lane {lane}: waypoint {waypoint} repeats its neighbour's place or lies outside \
                 latitude -85..85, longitude -180..180"
            ),
        }
    }
}

impl std::error::Error for LaneError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Undecodable(source) => Some(source),
            Self::TooShort { .. } | Self::BadWaypoint { .. } => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LaneFile {
    id: String,
    road: String,
    points: Vec<Waypoint>,
}

impl Lane {
    /// The lanes that come with the simulator.
    ///
    /// # Panics
    /// Never: a test parses the shipped file.
    #[must_use]
    pub fn shipped() -> Vec<Self> {
        Self::parse_all(SHIPPED_LANES).expect("the shipped lanes parse, as a test shows")
    }

    /// Parse a lane file: a JSON array of `{id, road, points: [{name, lat, lon}]}`.
    ///
    /// # Errors
    /// When it is no such array, or a lane has no length.
    pub fn parse_all(json: &str) -> Result<Vec<Self>, LaneError> {
        let files: Vec<LaneFile> = serde_json::from_str(json).map_err(LaneError::Undecodable)?;
        files.into_iter().map(Self::build).collect()
    }

    fn build(file: LaneFile) -> Result<Self, LaneError> {
        if file.points.len() < 2 {
            return Err(LaneError::TooShort { lane: file.id });
        }
        let mut along_m = Vec::with_capacity(file.points.len());
        let mut total_m = 0.0;
        for (index, waypoint) in file.points.iter().enumerate() {
            let leg_m = match index.checked_sub(1) {
                Some(before) => file.points[before].point().distance_m(waypoint.point()),
                None => 0.0,
            };
            let on_earth = waypoint.lat.abs() <= 85.0 && waypoint.lon.abs() <= 180.0;
            if !on_earth || (index > 0 && leg_m < 1.0) {
                return Err(LaneError::BadWaypoint {
                    lane: file.id,
                    waypoint: waypoint.name.clone(),
                });
            }
            total_m += leg_m;
            along_m.push(total_m);
        }
        Ok(Self {
            id: file.id,
            road: file.road,
            waypoints: file.points,
            along_m,
        })
    }

    /// Its waypoints with their distances from the start in metres, in order.
    pub fn waypoints(&self) -> impl Iterator<Item = (&Waypoint, f64)> {
        self.waypoints.iter().zip(self.along_m.iter().copied())
    }

    /// The waypoint with this index, and its distance from the start in metres.
    #[must_use]
    pub fn waypoint(&self, index: usize) -> Option<(&Waypoint, f64)> {
        Some((self.waypoints.get(index)?, *self.along_m.get(index)?))
    }

    /// Whole length in metres.
    #[must_use]
    pub fn length_m(&self) -> f64 {
        self.along_m.last().copied().unwrap_or(0.0)
    }

    /// The point at this distance from the start; the ends hold beyond them.
    #[must_use]
    pub fn at(&self, distance_m: f64) -> Point {
        let (from, to, share) = self.segment(distance_m);
        let (a, b) = (self.waypoints[from].point(), self.waypoints[to].point());
        Point {
            lat: a.lat + (b.lat - a.lat) * share,
            lon: a.lon + (b.lon - a.lon) * share,
        }
    }

    /// Direction of travel there, in degrees clockwise from north.
    #[must_use]
    pub fn course_at(&self, distance_m: f64) -> f64 {
        let (from, to, _) = self.segment(distance_m);
        let (east, north) = self.waypoints[to]
            .point()
            .metres_from(self.waypoints[from].point());
        east.atan2(north).to_degrees().rem_euclid(360.0)
    }

    /// The distance from the start at which the lane comes nearest to `point`, in metres.
    #[must_use]
    pub fn nearest_m(&self, point: Point) -> f64 {
        let mut nearest = (f64::INFINITY, 0.0);
        for (ends, along) in self.waypoints.windows(2).zip(self.along_m.windows(2)) {
            let (start, end) = (ends[0].point(), ends[1].point());
            let (east, north) = end.metres_from(start);
            let (x, y) = point.metres_from(start);
            let share = (x * east + y * north) / (east * east + north * north);
            let share = share.clamp(0.0, 1.0);
            let off_m = (x - share * east).hypot(y - share * north);
            if off_m < nearest.0 {
                nearest = (off_m, along[0] + share * (along[1] - along[0]));
            }
        }
        nearest.1
    }

    /// Where that is, in words: "at Gary" or "12 km after Lafayette towards Lebanon".
    #[must_use]
    pub fn describe(&self, distance_m: f64) -> String {
        let (from, to, _) = self.segment(distance_m);
        let (after_m, before_m) = (
            distance_m - self.along_m[from],
            self.along_m[to] - distance_m,
        );
        let (a, b) = (&self.waypoints[from].name, &self.waypoints[to].name);
        if before_m <= AT_PLACE_M {
            format!("at {b}")
        } else if after_m <= AT_PLACE_M {
            format!("at {a}")
        } else {
            format!("{:.0} km after {a} towards {b}", after_m / 1_000.0)
        }
    }

    /// Waypoints before and behind, and the share of the way between them, 0..=1.
    fn segment(&self, distance_m: f64) -> (usize, usize, f64) {
        let last = self.along_m.len() - 1;
        let to = self.along_m.partition_point(|along| *along <= distance_m);
        let to = to.clamp(1, last);
        let (start, end) = (self.along_m[to - 1], self.along_m[to]);
        let share = ((distance_m - start) / (end - start)).clamp(0.0, 1.0);
        (to - 1, to, share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_legs() -> Lane {
        let json = r#"[{"id":"x","road":"A1","points":[
            {"name":"A","lat":0,"lon":0},{"name":"B","lat":0,"lon":1},{"name":"C","lat":1,"lon":1}]}]"#;
        Lane::parse_all(json).unwrap().remove(0)
    }

    #[test]
    fn the_shipped_lanes_parse_and_have_the_length_of_real_roads() {
        let lanes = Lane::shipped();
        assert_eq!(lanes.len(), 8);
        for lane in lanes {
            let km = lane.length_m() / 1_000.0;
            assert!((100.0..2_000.0).contains(&km), "{}: {km} km", lane.id);
        }
    }

    #[test]
    fn a_degree_along_the_equator_is_111_km() {
        let lane = two_legs();
        let degree_m = EARTH_RADIUS_M * 1.0_f64.to_radians();
        assert!((lane.length_m() - 2.0 * degree_m).abs() < 1.0);
        let middle = lane.at(degree_m * 1.5);
        assert!((middle.lat - 0.5).abs() < 1e-6 && (middle.lon - 1.0).abs() < 1e-9);
        assert!((lane.course_at(10.0) - 90.0).abs() < 1e-9);
        assert!(lane.course_at(degree_m * 1.5).abs() < 1e-9);
    }

    #[test]
    fn beyond_its_ends_a_lane_stays_at_its_ends() {
        let lane = two_legs();
        assert_eq!(lane.at(-5.0), lane.at(0.0));
        assert_eq!(lane.at(lane.length_m() + 5.0), lane.at(lane.length_m()));
    }

    #[test]
    fn a_place_is_told_in_words() {
        let lane = two_legs();
        assert_eq!(lane.describe(0.0), "at A");
        assert_eq!(lane.describe(12_300.0), "12 km after A towards B");
        assert_eq!(lane.describe(110_900.0), "at B");
        assert_eq!(lane.describe(lane.length_m()), "at C");
    }

    #[test]
    fn an_offset_is_undone_by_the_distance_back() {
        let origin = Point {
            lat: 50.0,
            lon: 8.0,
        };
        let (east, north) = origin.offset_m(300.0, -400.0).metres_from(origin);
        assert!((east - 300.0).abs() < 1e-3 && (north + 400.0).abs() < 1e-3);
        assert!((origin.offset_m(300.0, -400.0).distance_m(origin) - 500.0).abs() < 0.1);
    }

    #[test]
    fn a_point_beside_the_lane_is_named_by_the_nearest_place_on_it() {
        for lane in Lane::shipped() {
            for share in [0.0, 0.13, 0.5, 0.77, 1.0] {
                let along_m = lane.length_m() * share;
                let beside = lane.at(along_m).offset_m(20.0, -20.0);
                let off_m = lane.at(lane.nearest_m(beside)).distance_m(lane.at(along_m));
                assert!(off_m < 60.0, "{off_m} m off at {share} of {}", lane.id);
            }
        }
    }

    #[test]
    fn a_lane_without_length_is_refused_by_name() {
        let error = Lane::parse_all(
            r#"[{"id":"x","road":"","points":[{"name":"A","lat":1,"lon":1},{"name":"B","lat":1,"lon":1}]}]"#,
        );
        assert!(error.unwrap_err().to_string().contains("waypoint B"));
    }
}
