//! The house test: reads every source and manifest and holds the house rules of ARCHITECTURE.md.
//!
//! Rules are data ([`plan`]); this file walks the workspace and compares. Every fault names file and
//! line, the rule and, where there is one, its reason.

mod manifest;
mod plan;
mod source;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use plan::{Only, Package};
use source::Mention;

/// Folders that hold no source of ours.
const SKIPPED_FOLDERS: [&str; 3] = ["target", ".git", "corpus"];

/// A broken house rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Path from the workspace root.
    file: String,
    /// Counted from 1.
    line: usize,
    /// What is wrong.
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Every fault of the workspace at `root`.
///
/// # Errors
/// When a folder or file cannot be read.
pub(crate) fn inspect(root: &Path) -> io::Result<Vec<Fault>> {
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    let mut faults = Vec::new();
    for path in files {
        let name = name_from(root, &path);
        faults.extend(inspect_file(&name, &fs::read_to_string(&path)?));
    }
    Ok(faults)
}

/// The faults of one file, `name` being its path from the workspace root.
fn inspect_file(name: &str, text: &str) -> Vec<Fault> {
    let mut faults = leftovers(name, text);
    faults.extend(room_name(name));
    if name.ends_with("Cargo.toml") {
        faults.extend(manifest_faults(name, text));
    }
    if name.ends_with(".rs") {
        faults.extend(length(name, text));
        faults.extend(import_faults(name, text));
        faults.extend(forged_proofs(name, text));
    }
    faults
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !SKIPPED_FOLDERS.contains(&&*name) {
                collect(&path, files)?;
            }
        } else if name.ends_with(".rs") || name.ends_with(".md") || name == "Cargo.toml" {
            files.push(path);
        }
    }
    Ok(())
}

fn name_from(root: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(root).unwrap_or(path);
    relative.to_string_lossy().replace('\\', "/")
}

fn fault(file: &str, line: usize, what: String) -> Fault {
    Fault {
        file: file.to_owned(),
        line,
        what,
    }
}

fn leftovers(name: &str, text: &str) -> Vec<Fault> {
    let is_left = |word: &str| plan::LEFTOVERS.iter().any(|left| left.concat() == word);
    let words = |line: &str| {
        line.split(|c: char| !c.is_ascii_alphanumeric())
            .any(is_left)
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| words(line))
        .map(|(index, _)| fault(name, index + 1, "work left behind: do it or drop it".into()))
        .collect()
}

fn room_name(name: &str) -> Option<Fault> {
    let room = name
        .split(['/', '.'])
        .find(|part| plan::BANNED_ROOMS.contains(part))?;
    let what = format!("no room is called `{room}`: name the noun that lives there");
    Some(fault(name, 1, what))
}

fn length(name: &str, text: &str) -> Option<Fault> {
    let is_test = name.ends_with("/tests.rs") || name.contains("/tests/");
    if !name.contains("src/") || (is_test && !name.starts_with("tests/")) {
        return None;
    }
    let lines = source::lines_without_tests(text);
    let bound = plan::FILE_LINES_MAX;
    (lines > bound).then(|| {
        let what = format!("{lines} lines without tests, {bound} are allowed: split by noun");
        fault(name, bound + 1, what)
    })
}

fn manifest_faults(name: &str, text: &str) -> Vec<Fault> {
    let Some(package) = plan::package_of(name) else {
        return Vec::new();
    };
    let judge = |dependency: manifest::Dependency| {
        let what = manifest_fault(package, &dependency)?;
        Some(fault(name, dependency.line, what))
    };
    manifest::dependencies(text)
        .into_iter()
        .filter_map(judge)
        .collect()
}

fn manifest_fault(package: &Package, dependency: &manifest::Dependency) -> Option<String> {
    let (own, other) = (package.name, dependency.name.as_str());
    if plan::is_ours(other) && !package.imports.contains(&other) {
        return Some(format!("`{own}` must not depend on `{other}`"));
    }
    let listed = package.foreign.is_none_or(|list| list.contains(&other));
    (!listed && !plan::is_ours(other) && !dependency.for_tests)
        .then(|| format!("`{other}` is not on the dependency allow-list of `{own}`"))
}

fn import_faults(name: &str, text: &str) -> Vec<Fault> {
    let Some(package) = plan::package_of(name) else {
        return Vec::new();
    };
    let inside = name.strip_prefix(package.folder).unwrap_or(name);
    let module = source::module_of(inside.trim_start_matches('/'));
    let judge = |mention: Mention| {
        let what = import_fault(package, name, &module, &mention)?;
        Some(fault(name, mention.line, what))
    };
    let mut faults: Vec<_> = source::mentions(text, package.name, &module)
        .into_iter()
        .filter_map(judge)
        .collect();
    faults.dedup();
    faults
}

fn forged_proofs(name: &str, text: &str) -> Vec<Fault> {
    let (proof, mint) = plan::PROOF;
    if name == mint {
        return Vec::new();
    }
    let what = format!("`{proof}` is made by the barrier in {mint} alone");
    let forged = source::makes(text, proof).into_iter();
    forged.map(|line| fault(name, line, what.clone())).collect()
}

fn import_fault(
    package: &Package,
    file: &str,
    module: &[String],
    mention: &Mention,
) -> Option<String> {
    let path = mention.segments.join("::");
    let first = mention.segments.first()?.as_str();
    if plan::is_ours(first) && first != package.name && !package.imports.contains(&first) {
        return Some(format!("`{}` must not import `{path}`", package.name));
    }
    if let Some(only) = plan::ONLY.iter().find(|only| breaks(only, file, &path)) {
        return Some(format!("`{path}` has no place here: {}", only.why));
    }
    if package.name != "gateway" || first != "gateway" || !file.contains("gateway/src/") {
        return None;
    }
    let own = module.first()?.as_str();
    let other = mention.segments.get(1)?.as_str();
    floor_fault(own, other)
}

fn breaks(only: &Only, file: &str, path: &str) -> bool {
    // A word at the end or in the middle of the path: `use std::time;` does not hide `time::Instant`.
    let named = format!("::{path}::").contains(&format!("::{}::", only.path));
    named && file.starts_with(only.room) && !only.except.iter().any(|room| file.starts_with(room))
}

fn floor_fault(own: &str, other: &str) -> Option<String> {
    let above = plan::floor_of(other)?;
    if own == other {
        return None;
    }
    let Some(floor) = plan::floor_of(own) else {
        return Some(format!(
            "room `{own}` stands on no floor: give it one in the plan"
        ));
    };
    (above >= floor).then(|| {
        format!("room `{own}` (floor {floor}) imports `{other}` (floor {above}): only lower floors")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(name: &str, text: &str) -> Vec<String> {
        let faults = inspect_file(name, text);
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_house_stands() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let faults = inspect(root).unwrap();
        let list: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert!(list.is_empty(), "{}", list.join("\n"));
    }

    #[test]
    fn a_crate_that_imports_upwards_is_named_with_file_and_line() {
        assert_eq!(
            faults(
                "protocol/src/key.rs",
                "use core::fmt;\nuse rules::event::Event;\n"
            ),
            ["protocol/src/key.rs:2: `protocol` must not import `rules::event::Event`"]
        );
        assert_eq!(
            faults("gateway/rules/src/fact.rs", "use gateway::clock;").len(),
            1
        );
        assert_eq!(
            faults("simulator/src/expect.rs", "fn f() { rules::code::all() }").len(),
            1
        );
        assert_eq!(
            faults("firmware/src/tracker.rs", "use protocol::key::Seq;").len(),
            0
        );
    }

    #[test]
    fn a_room_imports_lower_floors_only() {
        assert_eq!(
            faults("gateway/src/store/mod.rs", "\nuse crate::ingest::admit;"),
            [
                "gateway/src/store/mod.rs:2: room `store` (floor 3) imports `ingest` (floor 6): only lower floors"
            ]
        );
        assert_eq!(
            faults("gateway/src/mqtt/session.rs", "use crate::ingest::admit;").len(),
            1
        );
        assert_eq!(
            faults("gateway/src/ingest/commit.rs", "use crate::store::Store;").len(),
            0
        );
        assert_eq!(
            faults("gateway/src/cli/run.rs", "use gateway::pipeline::Pipeline;").len(),
            0
        );
        assert_eq!(
            faults("gateway/src/attic.rs", "use crate::store::Store;").len(),
            1
        );
    }

    #[test]
    fn neither_braces_nor_super_nor_a_path_without_use_hide_an_import() {
        let grouped = "use crate::{clock::Clock, mqtt::{self, session}};";
        assert_eq!(faults("gateway/src/fold/mod.rs", grouped).len(), 1);
        assert_eq!(
            faults("gateway/src/store/key.rs", "use super::super::fold::View;").len(),
            1
        );
        let called = "fn f() {\n    crate::mqtt::endpoint::open();\n}";
        assert_eq!(
            faults("gateway/src/fold/mod.rs", called),
            [
                "gateway/src/fold/mod.rs:2: room `fold` (floor 4) imports `mqtt` (floor 6): only lower floors"
            ]
        );
        let inner = "mod tests {\n    use super::super::mqtt::session;\n}";
        assert_eq!(faults("gateway/src/receipt.rs", inner).len(), 1);
    }

    #[test]
    fn a_comment_or_a_text_is_no_import() {
        let text = "// use crate::mqtt::x;\n/* crate::mqtt::y */\nconst A: &str = \"crate::mqtt::z\";\nconst B: &str = r#\"crate::mqtt::\"z\"#;\nfn f<'a>(c: &'a char) -> bool { *c == '\"' }";
        assert_eq!(faults("gateway/src/store/mod.rs", text).len(), 0);
    }

    #[test]
    fn sinks_do_not_know_the_store_and_only_the_demo_knows_the_simulator() {
        let sink = faults(
            "gateway/src/deliver/sink/file.rs",
            "use crate::store::Store;",
        );
        assert_eq!(sink.len(), 1);
        assert_eq!(
            faults("gateway/src/deliver/engine.rs", "use crate::store::Store;").len(),
            0
        );
        assert_eq!(
            faults("gateway/src/cli/run.rs", "use simulator::fleet;").len(),
            1
        );
        assert_eq!(
            faults("gateway/src/cli/demo.rs", "use simulator::fleet;").len(),
            0
        );
    }

    #[test]
    fn the_rules_reach_neither_files_nor_net_nor_threads_nor_clocks_nor_hash_order() {
        let verdict = |text: &str| faults("gateway/rules/src/verdict.rs", text);
        assert_eq!(
            verdict("use core::fmt;\nuse std::{collections::{BTreeMap, HashMap}, sync};"),
            [
                "gateway/rules/src/verdict.rs:2: `std::collections::HashMap` has no place here: its order differs from run to run; take the BTree kind"
            ]
        );
        for banned in [
            "use std::fs;",
            "use std::net::{TcpStream};",
            "fn f() { std::thread::spawn(g); }",
            "use std::time; fn f() { time::Instant::now(); }",
            "fn f() -> std::time::SystemTime {}",
            "use std::collections::*; fn f() { let s = HashSet::new(); }",
            "use std::collections::hash_map::Entry;",
            "mod deep { use std::fs::File; }",
        ] {
            assert_eq!(verdict(banned).len(), 1, "{banned}");
            let outside = faults("simulator/src/fleet.rs", banned);
            assert_eq!(outside.len(), 0, "{banned}");
        }
        let allowed = "use std::collections::{BTreeMap, BTreeSet};\nuse std::time::Duration;";
        assert_eq!(verdict(allowed).len(), 0);
    }

    #[test]
    fn durable_is_minted_in_the_store_alone() {
        let mint = "fn f() {\n    let d = Durable(Commit(1));\n}";
        assert_eq!(
            faults("gateway/src/store/journal.rs", mint),
            [
                "gateway/src/store/journal.rs:2: `Durable` is made by the barrier in gateway/src/store/mod.rs alone"
            ]
        );
        assert_eq!(faults("gateway/src/store/mod.rs", mint).len(), 0);
        assert_eq!(
            faults("gateway/src/receipt.rs", "fn f(d: Durable) {}").len(),
            0
        );
    }

    #[test]
    fn the_rules_crate_has_an_allow_list() {
        let manifest = "[dependencies]\nprotocol.workspace = true\ntokio = \"1\"\n[dev-dependencies]\nproptest = \"1\"\ngateway.workspace = true\n";
        assert_eq!(
            faults("gateway/rules/Cargo.toml", manifest),
            [
                "gateway/rules/Cargo.toml:3: `tokio` is not on the dependency allow-list of `rules`",
                "gateway/rules/Cargo.toml:6: `rules` must not depend on `gateway`"
            ]
        );
        assert_eq!(
            faults("xtask/Cargo.toml", "[dependencies.protocol]\n").len(),
            1
        );
    }

    #[test]
    fn long_files_banned_rooms_and_leftovers_are_found() {
        let long = "fn a() {}\n".repeat(plan::FILE_LINES_MAX + 1);
        assert_eq!(faults("rules/src/a.rs", &long).len(), 1);
        let tested = format!("{}#[cfg(test)]\nmod tests {{\n{}}}", "\n".repeat(9), long);
        assert_eq!(faults("gateway/src/route.rs", &tested).len(), 0);
        assert_eq!(faults("gateway/src/common.rs", "").len(), 1);
        assert_eq!(faults("simulator/src/util/noise.rs", "").len(), 1);
        let left = format!("fn a() {{}}\n// {}: later\n", ["TO", "DO"].concat());
        assert_eq!(
            faults("docs/x.md", &left),
            ["docs/x.md:2: work left behind: do it or drop it"]
        );
    }
}
