//! The process whose calls are noted: it sends, folds and delivers on a store, and says on standard output what
//! was sent and what was acknowledged.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use gateway::config::StoreEngine;
use gateway::store::Store;
use tests::sim_cut::call::Call;
use tests::sim_cut::{Arguments, voyage};

fn main() -> Result<()> {
    let Arguments {
        engine,
        folder,
        told,
        seed,
    } = Arguments::parse();
    let mut engines = StoreEngine::ALL.into_iter();
    let engine = engines.find(|known| known.as_str() == engine);
    let engine = engine.context("no such engine")?;
    let open = || Ok(Store::open_on(engine, &folder)?);
    voyage::sail(seed, &told, open, |word| {
        // A word that cannot be said is missed by who listens.
        let _ = say(&word);
    })
}

/// One line, one write: the words are found between the other calls.
fn say(word: &Call) -> Result<()> {
    let line = match word {
        Call::Sent(number) => format!("sent {number}\n"),
        Call::Acknowledged(number) => format!("acknowledged {number}\n"),
        other => bail!("{other:?} is no word"),
    };
    Ok(io::stdout().write_all(line.as_bytes())?)
}
