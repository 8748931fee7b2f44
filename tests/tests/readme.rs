//! The commands of README.md, run as a stranger would: every fenced block tagged `sh`, in order, in one
//! shell and one empty home, with our binaries on the path and free ports in the variables it names.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use tests::peer::{self, Peer, free_address};

/// The first command that fails ends the script; what runs in the background ends with it. `settle`
/// stands between blocks: nobody types faster than a gateway opens its control socket.
const PREAMBLE: &str = r#"set -eu
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
settle() {
    while [ -n "$(jobs -pr)" ] && [ -z "$(find . -name control.sock)" ]; do sleep 0.05; done
}
"#;

#[test]
fn every_command_block_of_the_readme_runs() {
    if peer::foreign("mosquitto_pub", "mosquitto-clients").is_none() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let blocks = blocks(&readme);
    assert!(blocks.len() > 1, "the README has no commands to run");
    let folder = tempfile::tempdir().unwrap();
    let passed = run(folder.path(), &blocks.join("settle\n")).unwrap();
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(passed, "{log}");
}

fn run(folder: &Path, commands: &str) -> Result<bool> {
    let script = folder.join("readme.sh");
    fs::write(&script, format!("{PREAMBLE}{commands}"))?;
    let home = folder.join("home");
    fs::create_dir(&home)?;
    let binaries = peer::product("supercargo")?;
    let binaries = binaries.parent().context("folder of the binaries")?;
    let path = std::env::var("PATH")?;
    let mut shell = Command::new("bash");
    shell.arg("-x").arg(&script).current_dir(&home);
    shell.env("PATH", format!("{}:{path}", binaries.display()));
    shell.env("HOME", &home).env_remove("XDG_DATA_HOME");
    for variable in ["MQTT_PORT", "MQTTS_PORT", "HTTP_PORT"] {
        shell.env(variable, free_address()?.port().to_string());
    }
    let mut peer = Peer::start("readme", &mut shell, &folder.join("log"))?;
    Ok(peer.wait()?.success())
}

fn blocks(readme: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in readme.lines() {
        match (&mut open, line.trim_end()) {
            (None, "```sh") => open = Some(String::new()),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(block), line) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, _) => {}
        }
    }
    blocks
}

#[test]
fn only_blocks_tagged_sh_are_commands() {
    let text = "a\n```sh\nx\ny\n```\n```text\nz\n```\n    indented\n```sh\nw\n```\n";
    assert_eq!(blocks(text), ["x\ny\n", "w\n"]);
}
