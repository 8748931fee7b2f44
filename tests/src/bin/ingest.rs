//! How many publications a second the release gateway makes durable and acknowledges.
#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use gateway::clock::monotonic;
use tests::depot::{Depot, fleet_plan};
use tests::load::{Load, Plan};

#[derive(Debug, Parser)]
struct Arguments {
    /// Connections, one device each.
    #[arg(long, default_value_t = 100)]
    connections: u32,
    /// Publications in flight per connection.
    #[arg(long, default_value_t = 10)]
    window: usize,
    /// Records in one publication.
    #[arg(long, default_value_t = 20)]
    records: u32,
    /// How long, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Seed of the content.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let mut depot = Depot::create(folder.path(), &data, &fleet_plan(&[]), "")?;
    depot.start()?;
    let load = Load::start(
        Plan {
            address: depot.mqtt,
            seed: arguments.seed,
            devices: arguments.connections,
            window: arguments.window,
            batch_records: arguments.records,
            batches: None,
            batches_per_s: None,
        },
        None,
    )?;
    let start = monotonic();
    std::thread::sleep(Duration::from_secs(arguments.seconds));
    ensure!(load.is_running(), "a device gave up");
    let (acknowledged, took) = (load.acknowledged(), start.elapsed());
    load.finish()?;
    depot.stop()?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate needs no more than 52 bits"
    )]
    let rate = acknowledged as f64 / took.as_secs_f64();
    println!(
        "{} connections x {} in flight, {} records each: {rate:.0} publications/s, {:.0} records/s",
        arguments.connections,
        arguments.window,
        arguments.records,
        rate * f64::from(arguments.records)
    );
    Ok(())
}
