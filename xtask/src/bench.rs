//! `cargo xtask bench`: starts the measuring and fault binaries of `tests/`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Outcome;

/// Say what there is.
pub(crate) fn list(root: &Path) -> Outcome {
    match binaries(root) {
        Ok(found) if found.is_empty() => println!("no binaries in tests/ yet"),
        Ok(found) => {
            println!("cargo xtask bench NAME [arguments of the binary], NAME being one of:");
            found
                .iter()
                .for_each(|(name, about)| println!("  {name:12} {about}"));
        }
        Err(error) => return Outcome::Usage(format!("cannot read tests/: {error}")),
    }
    Outcome::Done
}

/// Build one and run it with the rest of the command line.
pub(crate) fn run(root: &Path, name: &str, arguments: &[&str]) -> Outcome {
    let known = binaries(root).unwrap_or_default();
    if !known.iter().any(|(known, _)| known == name) {
        list(root);
        return Outcome::Usage(format!("no bench is called `{name}`"));
    }
    let product = cargo(
        root,
        &["build", "-p", "gateway", "-p", "simulator", "-p", "tests"],
        &[],
    );
    if product
        && cargo(
            root,
            &["run", "-p", "tests", "--bin", name, "--"],
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

/// Name and first line of documentation of each binary.
fn binaries(root: &Path) -> std::io::Result<Vec<(String, String)>> {
    let folder = root.join("tests/src/bin");
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let source = if path.is_dir() {
            path.join("main.rs")
        } else {
            path.clone()
        };
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
