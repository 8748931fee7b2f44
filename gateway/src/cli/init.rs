//! `supercargo init`: a configuration and a plan to start from.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::output::{self, Output};
use super::{Exit, complain};
use crate::config;

/// The sample plan, as `init` writes it.
const PLAN: &str = include_str!("plan.toml");

/// Write a configuration with every key explained, and a sample plan with fences.
#[derive(Args, Debug)]
pub(super) struct Init {
    /// Folder to write to; it is made when it is not there, and nothing in it is overwritten
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error("{path} is there already and is not overwritten")]
    There { path: PathBuf },
    #[error("write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

pub(super) fn init(asked: &Init, output: &Output) -> Exit {
    match write_all(&asked.folder) {
        Ok(paths) => report(&paths, output),
        Err(error @ InitError::There { .. }) => complain(Exit::Usage, &error),
        Err(error @ InitError::Write { .. }) => complain(Exit::Environment, &error),
    }
}

fn report(paths: &[PathBuf; 2], output: &Output) -> Exit {
    if let Err(error) = output.written(paths) {
        return complain(Exit::Environment, &error);
    }
    let [config, _] = paths;
    output::say(&format!(
        "next: supercargo run --config {}",
        config.display()
    ));
    Exit::Good
}

/// Both files or none: a file that is there already is noticed before anything is written.
fn write_all(folder: &Path) -> Result<[PathBuf; 2], InitError> {
    let files = [
        ("supercargo.toml", config::sample()),
        ("plan.toml", PLAN.to_owned()),
    ];
    for (name, _) in &files {
        let path = folder.join(name);
        if path.symlink_metadata().is_ok() {
            return Err(InitError::There { path });
        }
    }
    fs::create_dir_all(folder).map_err(|source| InitError::Write {
        path: folder.to_owned(),
        source,
    })?;
    for (name, text) in &files {
        let path = folder.join(name);
        write_new(&path, text).map_err(|source| InitError::Write { path, source })?;
    }
    Ok(files.map(|(name, _)| folder.join(name)))
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_init_writes_passes_check_with_its_plan_and_without_warnings() {
        let folder = tempfile::tempdir().unwrap();
        let depot = folder.path().join("new").join("depot");
        let [config, _] = write_all(&depot).unwrap();
        let data = format!("gateway.data={}", folder.path().join("data").display());
        let loaded = Config::load(Some(&config), &[data]).unwrap();
        assert_eq!(loaded.warnings, []);
        let plan = fs::read_to_string(loaded.config.rules.plan.unwrap()).unwrap();
        let plan = rules::plan::Plan::parse(&plan).unwrap();
        assert_eq!((plan.fences.len(), plan.shipments.len()), (2, 1));
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_half_written() {
        let folder = tempfile::tempdir().unwrap();
        let plan = folder.path().join("plan.toml");
        fs::write(&plan, "mine").unwrap();
        let refused = write_all(folder.path()).unwrap_err();
        assert!(matches!(refused, InitError::There { path } if path == plan));
        assert_eq!(fs::read_to_string(&plan).unwrap(), "mine");
        assert!(!folder.path().join("supercargo.toml").exists());
    }
}
