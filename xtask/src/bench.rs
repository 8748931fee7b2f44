//! `cargo xtask bench` and `cargo xtask faults`: start the measuring and the fault binaries of `tests/`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Outcome;

/// A kind of binaries.
pub(crate) struct Kind {
    /// The word of the command line.
    word: &'static str,
    /// Where their sources are, from the root.
    folder: &'static str,
    /// What their names begin with.
    prefix: &'static str,
}

/// What measures.
pub(crate) const BENCHES: Kind = Kind {
    word: "bench",
    folder: "tests/src/bin",
    prefix: "",
};

/// What harms, and looks what came of it.
pub(crate) const FAULTS: Kind = Kind {
    word: "faults",
    folder: "tests/src/bin/faults",
    prefix: "faults-",
};

/// Say what there is.
pub(crate) fn list(root: &Path, kind: &Kind) -> Outcome {
    match binaries(root, kind) {
        Ok(found) => {
            println!(
                "cargo xtask {} NAME [arguments of the binary], NAME being one of:",
                kind.word
            );
            found
                .iter()
                .for_each(|(name, about)| println!("  {name:12} {about}"));
        }
        Err(error) => return Outcome::Usage(format!("cannot read {}: {error}", kind.folder)),
    }
    Outcome::Done
}

/// Build one and run it with the rest of the command line.
pub(crate) fn run(root: &Path, kind: &Kind, name: &str, arguments: &[&str]) -> Outcome {
    let known = binaries(root, kind).unwrap_or_default();
    if !known.iter().any(|(known, _)| known == name) {
        list(root, kind);
        return Outcome::Usage(format!("no {} is called `{name}`", kind.word));
    }
    let product = cargo(
        root,
        &["build", "-p", "gateway", "-p", "simulator", "-p", "tests"],
        &[],
    );
    let binary = format!("{}{name}", kind.prefix);
    if product
        && cargo(
            root,
            &["run", "-p", "tests", "--bin", &binary, "--"],
            arguments,
        )
    {
        Outcome::Done
    } else {
        Outcome::Failed
    }
}

fn cargo(root: &Path, words: &[&str], rest: &[&str]) -> bool {
    let mut command = Command::new("cargo");
    command
        .args([words[0], "--release", "--quiet"])
        .args(&words[1..])
        .args(rest);
    let status = command.current_dir(root).status();
    status.is_ok_and(|status| status.success())
}

/// Name and first line of documentation of each binary: a file, or a folder with a `main.rs`.
fn binaries(root: &Path, kind: &Kind) -> std::io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join(kind.folder))? {
        let path = entry?.path();
        let source = if path.is_dir() {
            path.join("main.rs")
        } else {
            path.clone()
        };
        if !source.is_file() {
            continue;
        }
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        found.push((name, first_sentence(&fs::read_to_string(source)?)));
    }
    found.sort();
    Ok(found)
}

fn first_sentence(source: &str) -> String {
    let line = source.lines().find_map(|line| line.strip_prefix("//! "));
    line.unwrap_or_default().to_owned()
}
