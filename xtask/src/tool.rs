//! What the checks need beyond Rust and a C compiler, how to see it and how to get it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Pinned, so that a new release never changes a verdict.
pub(crate) const CARGO_DENY: &str = "cargo-deny@0.20.2";

/// Where system programs are, besides `PATH`: Debian keeps daemons out of a user's path.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// Something a check needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    /// As people know it.
    pub(crate) name: &'static str,
    /// What it is for.
    pub(crate) purpose: &'static str,
    /// How to get it.
    pub(crate) source: Source,
}

/// Where a tool comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A program of this Debian package.
    System {
        /// The package.
        package: &'static str,
    },
    /// A part of the Rust toolchain: `rustup <arguments>`, present when the sysroot has the path.
    Rustup {
        /// Arguments of rustup.
        arguments: [&'static str; 3],
        /// Path that is there when it is installed, from the sysroot.
        path: &'static str,
    },
    /// cargo-deny, built once into a cache that outlives `cargo clean` and this clone.
    CargoDeny,
}

/// Everything that is needed.
pub(crate) const TOOLS: [Tool; 9] = [
    Tool {
        name: "rustfmt",
        purpose: "the format of the sources",
        source: Source::Rustup {
            arguments: ["component", "add", "rustfmt"],
            path: "bin/cargo-fmt",
        },
    },
    Tool {
        name: "clippy",
        purpose: "the lints",
        source: Source::Rustup {
            arguments: ["component", "add", "clippy"],
            path: "bin/cargo-clippy",
        },
    },
    THUMB,
    Tool {
        name: "mosquitto",
        purpose: "a foreign broker as upstream",
        source: Source::System {
            package: "mosquitto",
        },
    },
    Tool {
        name: "mosquitto_pub",
        purpose: "a foreign client",
        source: Source::System {
            package: "mosquitto-clients",
        },
    },
    Tool {
        name: "strace",
        purpose: "fault injection into system calls",
        source: Source::System { package: "strace" },
    },
    Tool {
        name: "mkfs.ext4",
        purpose: "a disk whose power can be cut",
        source: Source::System {
            package: "e2fsprogs",
        },
    },
    Tool {
        name: "perl",
        purpose: "the cut of that disk's power",
        source: Source::System { package: "perl" },
    },
    DENY,
];

/// The target the device's crates are linked for.
pub(crate) const THUMB: Tool = Tool {
    name: "thumbv7em-none-eabihf",
    purpose: "the allocator-less link of the device's crates",
    source: Source::Rustup {
        arguments: ["target", "add", "thumbv7em-none-eabihf"],
        path: "lib/rustlib/thumbv7em-none-eabihf",
    },
};

/// The judge of licences and sources.
pub(crate) const DENY: Tool = Tool {
    name: "cargo-deny",
    purpose: "licences, sources and advisories of what we depend on",
    source: Source::CargoDeny,
};

impl Tool {
    /// Whether it is there.
    pub(crate) fn is_there(&self) -> bool {
        match self.source {
            Source::System { .. } => find_program(self.name).is_some(),
            Source::Rustup { path, .. } => sysroot().is_some_and(|root| root.join(path).exists()),
            Source::CargoDeny => cargo_deny().is_some(),
        }
    }

    /// The command that installs it.
    pub(crate) fn remedy(&self) -> String {
        match self.source {
            Source::System { package } => format!("apt-get install -y {package}"),
            Source::Rustup { arguments, .. } => format!("rustup {}", arguments.join(" ")),
            Source::CargoDeny => {
                let root = cache_folder();
                format!(
                    "cargo install --locked {CARGO_DENY} --root {}",
                    root.display()
                )
            }
        }
    }
}

/// The pinned cargo-deny, if it has been built.
pub(crate) fn cargo_deny() -> Option<PathBuf> {
    let program = cache_folder().join("bin/cargo-deny");
    program.exists().then_some(program)
}

/// Where cargo-deny is built into: the version is part of the name.
pub(crate) fn cache_folder() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = from("XDG_CACHE_HOME")
        .or_else(|| Some(from("HOME")?.join(".cache")))
        .unwrap_or_else(std::env::temp_dir);
    cache.join("supercargo").join(CARGO_DENY)
}

/// Whether this process may install system packages.
pub(crate) fn is_root() -> bool {
    answer("id", &["-u"]).is_some_and(|user| user == "0")
}

/// The full path of a program.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = SYSTEM_FOLDERS.iter().map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn sysroot() -> Option<PathBuf> {
    answer("rustc", &["--print", "sysroot"]).map(PathBuf::from)
}

/// What a short command prints, when it succeeds.
fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    let output = command
        .args(arguments)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// Whether an advisory database has been fetched before.
pub(crate) fn advisories_at_hand() -> bool {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")));
    home.and_then(|home| home.join("advisory-dbs").read_dir().ok())
        .is_some_and(|mut databases| databases.next().is_some())
}
