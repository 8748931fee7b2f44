//! What is missing of the whole fleet, and of whom most.

use std::cmp::Reverse;
use std::ops::ControlFlow;

use protocol::key::DeviceId;

use super::missing::{Missing, missing};
use crate::store::{Store, StoreError, device};

/// Most devices looked at by one census: the fleet a gateway is built for, some ten reads each.
pub const DEVICES_MAX: usize = 10_000;

/// Most devices named: what a person looks into at once.
pub const WORST_MAX: usize = 5;

/// Numbers missing of all devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// In all.
    pub total: Missing,
    /// Devices of which something is missing, the worst first, at most [`WORST_MAX`]: by what is
    /// unexplained, then by what is lost, then by what is pending.
    pub worst: Vec<(DeviceId, Missing)>,
    /// Whether there were more devices than one census looks at.
    pub cut: bool,
}

/// Looks at every device, at most [`DEVICES_MAX`].
///
/// # Errors
/// When the store cannot be read.
pub fn census(store: &Store) -> Result<Census, StoreError> {
    census_of(store, DEVICES_MAX)
}

fn census_of(store: &Store, devices_max: usize) -> Result<Census, StoreError> {
    let mut census = Census::default();
    let mut devices = 0;
    device::each(store, |device| {
        if devices == devices_max {
            census.cut = true;
            return Ok(ControlFlow::Break(()));
        }
        devices += 1;
        let missing = missing(store, &device)?;
        census.add(device, missing);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(census)
}

impl Census {
    fn add(&mut self, device: DeviceId, missing: Missing) {
        if missing == Missing::default() {
            return;
        }
        self.total.lost += missing.lost;
        self.total.pending += missing.pending;
        self.total.unexplained += missing.unexplained;
        self.worst.push((device, missing));
        // Stable, so devices alike stay in order of their names.
        self.worst
            .sort_by_key(|(_, of)| Reverse((of.unexplained, of.lost, of.pending)));
        self.worst.truncate(WORST_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::device::Lost;
    use crate::store::seen::{self, BootId, Run};
    use crate::store::{Batch, memory};
    use protocol::key::{Boot, Epoch, RecordKey, Seq};

    /// A device that was heard up to number 9 and of which `unexplained` numbers in front are not there.
    fn gap(batch: &mut Batch, name: &str, unexplained: u32) {
        let boot = BootId {
            device: name.parse().unwrap(),
            epoch: Epoch(1),
            boot: Boot(0),
        };
        let run = Run {
            first: Seq(unexplained),
            last: Seq(9),
        };
        seen::put(batch, &boot, run);
        // A statement of the next boot: it makes the device known, as any batch does.
        device::note_end(batch, &boot, Seq(9)).unwrap();
    }

    #[test]
    fn everything_missing_is_summed_and_the_worst_devices_come_first() {
        let store = memory::store();
        let mut batch = Batch::default();
        for (name, unexplained) in [("a", 0), ("b", 2), ("c", 5), ("d", 2), ("e", 1), ("f", 1)] {
            gap(&mut batch, name, unexplained);
        }
        gap(&mut batch, "g", 7);
        let lost = Lost {
            first: RecordKey::new(1, 0, 0),
            last: Seq(6),
            count: 7,
        };
        device::note_lost(&mut batch, &"g".parse().unwrap(), lost).unwrap();
        store.apply(batch).unwrap();
        let census = census(&store).unwrap();
        let of = |census: &Census| (census.total.lost, census.total.unexplained);
        assert_eq!(of(&census), (7, 11));
        let worst: Vec<_> = census.worst.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(worst, ["c", "b", "d", "e", "f"]);
        assert!(!census.cut);
        let cut = census_of(&store, 3).unwrap();
        assert_eq!((of(&cut), cut.cut), ((0, 7), true));
    }
}
