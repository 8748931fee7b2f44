//! Which fences are near a point: an R-tree over their boxes.

use rstar::primitives::{GeomWithData, Rectangle};
use rstar::{AABB, RTree};

use super::distance;
use crate::event::{Place, quantise};
use crate::plan::fence::{Fence, LatLon};

/// Farthest fence that names a place, in metres: "12 km from X" helps, "400 km from X" does not.
const NAMING_REACH_M: f64 = 50_000.0;

type Boxed = GeomWithData<Rectangle<[f64; 2]>, usize>;

/// The fences of a plan by place. Fences are named by their position in the plan.
#[derive(Clone, Debug, Default)]
pub struct FenceIndex(RTree<Boxed>);

impl FenceIndex {
    /// The index of `fences`.
    #[must_use]
    pub fn of(fences: &[Fence]) -> Self {
        let boxes = fences.iter().enumerate().flat_map(|(index, fence)| {
            let bounds = distance::bounds(&fence.shape);
            let boxed = move |(low, high): (LatLon, LatLon)| {
                let corners = Rectangle::from_corners([low.lon, low.lat], [high.lon, high.lat]);
                GeomWithData::new(corners, index)
            };
            bounds.into_iter().map(boxed)
        });
        Self(RTree::bulk_load(boxes.collect()))
    }

    /// Fences whose box comes within `reach_m` of `point`; a fence with several parts may come twice.
    pub fn near(&self, point: LatLon, reach_m: f64) -> impl Iterator<Item = usize> {
        let (low, high) = distance::around(point, reach_m);
        // A box that leaves the map on one side comes in again on the other.
        [-360.0, 0.0, 360.0].into_iter().flat_map(move |turn| {
            let corners = ([low.lon + turn, low.lat], [high.lon + turn, high.lat]);
            let around = AABB::from_corners(corners.0, corners.1);
            self.0
                .locate_in_envelope_intersecting(&around)
                .map(|boxed| boxed.data)
        })
    }

    /// `point` in words and numbers: the fence it lies in, or how far it is from the nearest one.
    #[must_use]
    pub fn place(&self, fences: &[Fence], point: LatLon, accuracy_m: f64) -> Place {
        let nearest = self.nearest(fences, point);
        let within = nearest.filter(|(_, metres)| *metres <= 0.0);
        Place {
            lat: quantise(point.lat, 1e6),
            lon: quantise(point.lon, 1e6),
            accuracy_m: quantise(accuracy_m, 10.0),
            fence: within.map(|(fence, _)| fence.id.clone()),
            name: in_words(nearest, point),
        }
    }

    /// The fence nearest to `point` with its signed distance in metres; of equal ones the first.
    fn nearest<'f>(&self, fences: &'f [Fence], point: LatLon) -> Option<(&'f Fence, f64)> {
        [0.0, NAMING_REACH_M].into_iter().find_map(|reach_m| {
            let near = self.near(point, reach_m);
            let measured = near.filter_map(|index| {
                let metres = distance::signed_m(&fences.get(index)?.shape, point);
                (metres <= reach_m).then_some((index, metres))
            });
            let (index, metres) =
                measured.min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)))?;
            Some((fences.get(index)?, metres))
        })
    }
}

fn in_words(nearest: Option<(&Fence, f64)>, point: LatLon) -> String {
    match nearest {
        Some((fence, metres)) if metres <= 0.0 => fence.name.clone(),
        Some((fence, metres)) if metres < 1_000.0 => {
            format!(
                "{:.0} m from {}",
                (metres / 100.0).ceil() * 100.0,
                fence.name
            )
        }
        Some((fence, metres)) => format!("{:.0} km from {}", metres / 1_000.0, fence.name),
        None => format!("{:.4}, {:.4}", point.lat, point.lon),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fence::Shape;

    fn circle(id: &str, lat: f64, lon: f64) -> Fence {
        Fence {
            id: id.to_owned(),
            name: format!("the {id}"),
            shape: Shape::Circle {
                centre: LatLon { lat, lon },
                radius_m: 500.0,
            },
            inside_m: 0.0,
            outside_m: 30.0,
        }
    }

    #[test]
    fn a_place_is_named_by_the_fence_around_it_or_near_it() {
        let fences = [circle("depot", 51.9, 4.5), circle("island", 0.0, 179.999)];
        let index = FenceIndex::of(&fences);
        let name = |lat, lon| index.place(&fences, LatLon { lat, lon }, 5.0).name;
        assert_eq!(name(51.9, 4.5), "the depot");
        assert_eq!(name(51.95, 4.5), "5 km from the depot");
        assert_eq!(name(51.906, 4.5), "200 m from the depot");
        assert_eq!(name(40.0, 4.5), "40.0000, 4.5000");
        assert_eq!(name(0.0, -179.999), "the island", "across the antimeridian");
    }
}
