//! Power cuts on a simulated disk: the shipped gateway keeps its promises on both engines, and gateways that lie
//! are found out.

use anyhow::Result;
use gateway::config::StoreEngine;
use tests::effort::repeats;
use tests::peer::{foreign, say};
use tests::sim_cut::{CONTROLS, Gateway, Lie, Outcome, cut, expose};

/// Cuts of each gateway; the campaign of `cargo xtask faults receipt` makes many more.
const CUTS: u32 = 60;

const SEED: u64 = 0x5ea;

fn kept(gateway: Gateway) -> Result<()> {
    let outcome = cut(gateway, SEED, repeats(CUTS))?;
    let Outcome {
        tried,
        failed,
        skipped,
        places,
        told,
    } = outcome;
    say(&format!(
        "{gateway:?}: {tried} cuts at {places} places, {failed} failed, {skipped} skipped"
    ));
    assert_eq!(failed, 0, "{told:#?}");
    Ok(())
}

#[test]
fn sled_keeps_its_promises_wherever_the_power_is_cut() {
    kept(Gateway::Shipped(StoreEngine::Sled)).unwrap();
}

#[test]
fn redb_keeps_its_promises_wherever_the_power_is_cut() {
    kept(Gateway::Shipped(StoreEngine::Redb)).unwrap();
}

#[test]
fn redb_on_a_storage_that_tears_and_reorders_keeps_its_promises() {
    kept(Gateway::Stored(Lie::None)).unwrap();
}

#[test]
fn every_gateway_that_lies_is_found_out() {
    for (name, gateway) in CONTROLS {
        if matches!(gateway, Gateway::Without(..)) && foreign("strace", "strace").is_none() {
            continue;
        }
        let caught = expose(gateway, SEED).unwrap();
        say(&format!("{name}: {caught:?}"));
        assert!(caught.is_some(), "{name} was not caught");
    }
}
