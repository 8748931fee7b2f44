//! A full disk: nothing is acknowledged while it is full, everything else goes on, a restart works,
//! and readings are taken again within a second of space.

use gateway::config::StoreEngine;
use tests::fault::full::{Strike, strike};
use tests::peer::say;
use tests::small_disk::Resource;

/// Seed of the load.
const SEED: u64 = 0xf011;

#[test]
fn a_full_disk_stops_readings_and_nothing_else_and_space_brings_them_back() {
    for (resource, left, sudden, restart) in [
        (Resource::Bytes, 24 << 20, false, false),
        (Resource::Bytes, 0, false, true),
        (Resource::Bytes, 0, true, false),
        (Resource::Inodes, 0, false, true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let point = Strike {
            engine: StoreEngine::Sled,
            seed: SEED,
            after_publications: 40,
            resource,
            left,
            sudden,
            restart,
        };
        let audit = strike(folder.path(), &point).unwrap_or_else(|error| {
            let log = std::fs::read_to_string(folder.path().join("gateway.log"));
            panic!("{point:?}: {error:#}\n{}", log.unwrap_or_default())
        });
        let Some(audit) = audit else {
            return;
        };
        say(&format!("{point:?}: {audit}"));
        assert!(audit.holds(), "{audit}");
        assert_eq!(audit.acknowledged, audit.sent, "the load has drained");
    }
}
