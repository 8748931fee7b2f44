//! Plans for the devices of a load.

use std::fmt::Write;

/// Fences of the wide plan.
pub const FENCES: u32 = 1_000;

/// Trackers of one shipment of the wide plan.
pub const TRACKERS_PER_SHIPMENT: u32 = 10;

/// A thousand fences, the yard of the load among them, and a shipment for every ten trackers, whose goods
/// break when they are dropped.
#[must_use]
pub fn wide_plan(trackers: u32) -> String {
    let mut plan = fleet_plan(&[]);
    plan = plan.replace(
        "settling = \"0s\"\n",
        "settling = \"0s\"\nshock = { class = \"electronics\" }\n",
    );
    for fence in 1..FENCES {
        let (row, column) = (fence / 40, fence % 40);
        // Writing to a String cannot fail.
        let _ = write!(
            plan,
            "[[fence]]\nid = \"f{fence}\"\nname = \"F{fence}\"\nlat = {}\nlon = {}\nradius_m = 300\n",
            50.0 + f64::from(row) * 0.1,
            4.0 + f64::from(column) * 0.1
        );
    }
    for first in (0..trackers).step_by(TRACKERS_PER_SHIPMENT as usize) {
        let last = (first + TRACKERS_PER_SHIPMENT).min(trackers);
        let devices: Vec<_> = (first..last)
            .map(|index| format!("\"load-{index:04}\""))
            .collect();
        let _ = write!(
            plan,
            "[[shipment]]\nid = \"S-{first}\"\nprofile = \"cool\"\n\
             [[shipment.unit]]\nid = \"box\"\ntrackers = [{}]\n\
             [[shipment.stop]]\nid = \"pickup\"\nfence = \"yard\"\nrole = \"pickup\"\n",
            devices.join(", ")
        );
    }
    plan
}

/// A plan for the devices of a load: one shipment each, inside one fence, too warm after 5 minutes
/// above 8 degrees.
#[must_use]
pub fn fleet_plan(devices: &[String]) -> String {
    let mut plan = "version = 1\n[[fence]]\nid = \"yard\"\nname = \"Yard\"\n\
         lat = 51.9225\nlon = 4.4791\nradius_m = 300\n\
         [[profile]]\nname = \"cool\"\nsettling = \"0s\"\n[[profile.temperature]]\nname = \"hot\"\nabove = 8.0\n\
         inclusive = false\ndelay = \"5min\"\nclear_delay = \"0s\"\nseverity = \"critical\"\n"
        .to_owned();
    for device in devices {
        // Writing to a String cannot fail.
        let _ = write!(
            plan,
            "[[shipment]]\nid = \"S-{device}\"\nprofile = \"cool\"\n\
             [[shipment.unit]]\nid = \"box\"\ntrackers = [\"{device}\"]\n\
             [[shipment.stop]]\nid = \"pickup\"\nfence = \"yard\"\nrole = \"pickup\"\n"
        );
    }
    plan
}
