//! Faults against a gateway under load: no promise may break, and gateways that lie must be found out.
#![expect(clippy::print_stdout, reason = "a campaign answers on standard output")]

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use gateway::clock::monotonic;
use gateway::config::StoreEngine;
use serde_json::Value;
use tests::fault::{CONTROLS, FAULTS, Report};
use tests::peer::say;

/// Seed when none is given.
const SEED: u64 = 0x5ca1_ab1e;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask faults receipt")]
struct Arguments {
    /// The long campaign.
    #[arg(long)]
    full: bool,
    /// Seed of all moments and contents.
    #[arg(long, default_value_t = SEED)]
    seed: u64,
    /// Print rows as JSON Lines.
    #[arg(long)]
    json: bool,
    /// Only this fault or control; may be repeated.
    #[arg(long = "fault", value_name = "NAME")]
    only: Vec<String>,
    /// Only on this engine.
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,
    /// This many tries of each fault.
    #[arg(long)]
    tries: Option<u32>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    arguments.check()?;
    let start = monotonic();
    let mut good = true;
    let mut faults = Vec::new();
    arguments.run(|report| {
        good &= report.good;
        faults.extend_from_slice(&report.faults);
        print(&report.row, arguments.json);
    });
    // Once more, where the reader of a long output looks first.
    faults.iter().for_each(|fault| say(fault));
    say(&format!(
        "seed {}, {:.0} s{}",
        arguments.seed,
        start.elapsed().as_secs_f64(),
        if good { "" } else { ": FAILED" }
    ));
    Ok(ExitCode::from(u8::from(!good)))
}

impl Arguments {
    /// A name that nothing has would pass with nothing tried.
    fn check(&self) -> Result<()> {
        let faults = FAULTS.iter().map(|fault| fault.name);
        let names: Vec<_> = faults
            .chain(CONTROLS.iter().map(|control| control.name))
            .collect();
        for name in &self.only {
            ensure!(
                names.contains(&name.as_str()),
                "no fault or control is called `{name}`; there are {}",
                names.join(", ")
            );
        }
        let known = StoreEngine::ALL.map(StoreEngine::as_str);
        if let Some(engine) = &self.engine {
            let there_are = known.join(", ");
            ensure!(
                known.contains(&engine.as_str()),
                "no engine is called `{engine}`; there are {there_are}"
            );
        }
        Ok(())
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    fn run(&self, mut tell: impl FnMut(&Report)) {
        for fault in FAULTS.iter().filter(|fault| self.wants(fault.name)) {
            let usual = if self.full { fault.full } else { fault.quick };
            let engines = fault.engines.iter().copied();
            for engine in engines.filter(|name| {
                self.engine
                    .as_deref()
                    .is_none_or(|only| only == name.as_str())
            }) {
                tell(&fault.run(engine, self.tries.unwrap_or(usual), self.seed));
            }
        }
        for control in CONTROLS.iter().filter(|control| self.wants(control.name)) {
            tell(&control.run(self.seed));
        }
    }
}

fn print(row: &Value, json: bool) {
    if json {
        println!("{row}");
        return;
    }
    let fields = row.as_object().into_iter().flatten();
    let words: Vec<_> = fields
        .map(|(key, value)| format!("{key} {value}"))
        .collect();
    println!("{}", words.join(", "));
}
