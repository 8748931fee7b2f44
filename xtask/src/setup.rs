//! Finds what is missing and installs it where it may; never asks for more rights.

use std::path::Path;
use std::process::Command;

use crate::tool::{self, Source, TOOLS, Tool};

/// Install what is missing. True when everything is there afterwards.
pub(crate) fn run(root: &Path) -> bool {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| !tool.is_there()).collect();
    if missing.is_empty() {
        println!("setup: everything is there");
        return true;
    }
    for tool in &missing {
        println!("setup: {} is missing ({})", tool.name, tool.purpose);
    }
    install_system(&missing);
    for tool in &missing {
        install_user(root, tool);
    }
    report(&missing)
}

/// One call for all system packages, as root only.
fn install_system(missing: &[&Tool]) {
    let packages: Vec<&str> = missing.iter().filter_map(|tool| package(tool)).collect();
    if packages.is_empty() {
        return;
    }
    if !tool::is_root() || tool::find_program("apt-get").is_none() {
        println!(
            "setup: needs root: apt-get update && apt-get install -y {}",
            packages.join(" ")
        );
        return;
    }
    let mut update = Command::new("apt-get");
    attempt(update.args(["-q", "update"]));
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install.args(["-q", "install", "-y", "--no-install-recommends"]);
    attempt(install.args(&packages));
}

fn package(tool: &Tool) -> Option<&'static str> {
    match tool.source {
        Source::System { package } => Some(package),
        Source::Rustup { .. } | Source::CargoDeny => None,
    }
}

fn install_user(root: &Path, tool: &Tool) {
    match tool.source {
        Source::System { .. } => {}
        Source::Rustup { arguments, .. } => {
            attempt(Command::new("rustup").args(arguments).current_dir(root));
        }
        Source::CargoDeny => install_cargo_deny(),
    }
}

/// Built outside the workspace, in a folder of its own, and with little optimisation: it runs for
/// seconds, and a fully optimised build takes longer than all our tests.
fn install_cargo_deny() {
    let mut install = Command::new("cargo");
    install.args(["install", "--quiet", "--locked", tool::CARGO_DENY, "--root"]);
    install
        .arg(tool::cache_folder())
        .current_dir(std::env::temp_dir());
    install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    install.env("CARGO_PROFILE_RELEASE_LTO", "off");
    install.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    install.env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    attempt(&mut install);
}

/// Run and say what runs; a failure shows in the report, because the tool is still missing then.
fn attempt(command: &mut Command) {
    println!("setup: {}", crate::stage::shown(command));
    if let Err(error) = command.status() {
        println!("setup: could not start: {error}");
    }
}

fn report(wanted: &[&Tool]) -> bool {
    let missing: Vec<_> = wanted.iter().filter(|tool| !tool.is_there()).collect();
    for tool in &missing {
        println!(
            "setup: {} is still missing; install with: {}",
            tool.name,
            tool.remedy()
        );
    }
    missing.is_empty()
}
