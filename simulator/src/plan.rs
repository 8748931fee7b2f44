//! The shipment plan of a world, as text in the gateway's plan format.
//!
//! Only text is shared: the simulator does not know the rules, so that its expectations are a second
//! opinion.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::world::fence::Fence;
use crate::world::{
    BATTERY_LOW_PERCENT, Cargo, GAP_MAX_S, Limit, SETTLING_S, SILENT_AFTER_S, Shipment, Stop, World,
};

/// Carrier named in every shipment.
const CARRIER: &str = "Example Cold Logistics";

/// The plan of everything that moves in `world`, as TOML.
#[must_use]
pub fn plan_toml(world: &World) -> String {
    let mut text = String::from("# The plan of a simulated world.\nversion = 1\n");
    for cargo in Cargo::ALL {
        text.push_str(&profile(cargo));
    }
    let stops = world.shipments.iter().flat_map(|shipment| &shipment.stops);
    let places: BTreeMap<&str, &Stop> = stops.map(|stop| (stop.fence_id.as_str(), stop)).collect();
    for stop in places.into_values() {
        text.push_str(&fence(stop));
    }
    for shipment in &world.shipments {
        text.push_str(&shipment_table(world, shipment));
    }
    text
}

fn profile(cargo: Cargo) -> String {
    let (name, class) = (cargo.profile(), cargo.shock_class());
    let limits: String = cargo.limits().iter().map(limit).collect();
    format!(
        "\n[[profile]]\nname = \"{name}\"\nbattery_low_percent = {BATTERY_LOW_PERCENT}\n\
         max_gap = \"{GAP_MAX_S}s\"\nsilent_after = \"{SILENT_AFTER_S}s\"\n\
         settling = \"{SETTLING_S}s\"\nshock = {{ class = \"{class}\" }}\n{limits}"
    )
}

fn limit(limit: &Limit) -> String {
    let side = if limit.above { "above" } else { "below" };
    let (name, bound_c, delay_s) = (limit.name, limit.bound_c, limit.delay_s);
    format!(
        "\n[[profile.temperature]]\nname = \"{name}\"\n{side} = {bound_c:?}\n\
         inclusive = false\ndelay = \"{delay_s}s\"\nseverity = \"critical\"\n"
    )
}

fn fence(stop: &Stop) -> String {
    let mut text = format!(
        "\n[[fence]]\nid = \"{}\"\nname = {}\n",
        stop.fence_id,
        quoted(&stop.name)
    );
    // Writing to a String cannot fail.
    let _ = match &stop.fence {
        Fence::Circle { centre, radius_m } => writeln!(
            text,
            "lat = {:.7}\nlon = {:.7}\nradius_m = {radius_m:.1}",
            centre.lat, centre.lon
        ),
        Fence::Polygon(corners) => {
            let corner = |c: &crate::world::lane::Point| format!("[{:.7}, {:.7}]", c.lon, c.lat);
            let corners: Vec<String> = corners.iter().map(corner).collect();
            writeln!(text, "polygon = [{}]", corners.join(", "))
        }
    };
    text
}

fn shipment_table(world: &World, shipment: &Shipment) -> String {
    let mut text = format!(
        "\n[[shipment]]\nid = \"{}\"\nprofile = \"{}\"\n\
         references = {{ order = \"{}\", customer = {} }}\nparties = {{ carrier = {} }}\n",
        shipment.id,
        shipment.cargo.profile(),
        shipment.order,
        quoted(shipment.customer),
        quoted(CARRIER),
    );
    for tracker in &world.trackers[shipment.trackers.clone()] {
        let (unit, sscc, device) = (&tracker.unit, &tracker.sscc, &tracker.device);
        text.push_str(&format!(
            "\n[[shipment.unit]]\nid = \"{unit}\"\nsscc = \"{sscc}\"\ntrackers = [\"{device}\"]\n"
        ));
    }
    for stop in &shipment.stops {
        let (id, fence, role) = (stop.id, &stop.fence_id, stop.role.as_str());
        text.push_str(&format!(
            "\n[[shipment.stop]]\nid = \"{id}\"\nfence = \"{fence}\"\nrole = \"{role}\"\n"
        ));
    }
    text
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn the_plan_is_toml_and_names_every_shipment_tracker_and_stop() {
        let world = World::generate(&Scenario::default()).unwrap();
        let plan: toml::Table = plan_toml(&world).parse().unwrap();
        let shipments = plan["shipment"].as_array().unwrap();
        assert_eq!(shipments.len(), world.shipments.len());
        let units: usize = shipments
            .iter()
            .map(|shipment| shipment["unit"].as_array().unwrap().len())
            .sum();
        assert_eq!(units, world.trackers.len());
        let fences = plan["fence"].as_array().unwrap();
        let stops = world.shipments.iter().flat_map(|s| &s.stops);
        let places: BTreeMap<_, _> = stops.map(|stop| (&stop.fence_id, &stop.fence)).collect();
        assert_eq!(fences.len(), places.len());
        for stop in world.shipments.iter().flat_map(|s| &s.stops) {
            assert_eq!(places[&stop.fence_id], &stop.fence, "one fence per place");
        }
        assert_eq!(plan["profile"].as_array().unwrap().len(), Cargo::ALL.len());
    }

    #[test]
    fn text_that_needs_quoting_is_quoted() {
        let table: toml::Table = format!("x = {}", quoted("a \"b\" \\c")).parse().unwrap();
        assert_eq!(table["x"].as_str(), Some("a \"b\" \\c"));
    }
}
