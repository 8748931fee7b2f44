//! nats-server with `JetStream` and its MQTT listener, built from its Go module.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use tests::peer::{Peer, free_address, run, say, wait_for};

use crate::subject::{Running, first_line, subscribe_and_leave};

/// Pinned, so that two measurements compare the same thing.
const MODULE: &str = "github.com/nats-io/nats-server/v2";
const VERSION: &str = "v2.15.2";

/// Started and ready; `None` when it cannot be built here.
pub(crate) fn start(folder: &Path, store_settings: &str) -> Result<Option<Running>> {
    let Some(program) = program()? else {
        return Ok(None);
    };
    let (mqtt, client) = (free_address()?, free_address()?);
    let file = folder.join("nats.conf");
    let text = format!(
        "server_name: n1\nhost: 127.0.0.1\nport: {}\n\
         jetstream {{ store_dir: {:?}, max_file_store: 8GB, max_memory_store: 256MB{store_settings} }}\n\
         mqtt {{ host: 127.0.0.1, port: {}, max_ack_pending: 20000 }}\n",
        client.port(),
        folder.join("natsd"),
        mqtt.port()
    );
    fs::write(&file, text)?;
    let mut command = Command::new(&program);
    let log = folder.join("nats.log");
    let mut peer = Peer::start("nats-server", command.arg("-c").arg(&file), &log)?;
    peer.wait_until("to listen", || TcpStream::connect(mqtt).is_ok())?;
    // An open port is not readiness: its streams come a little later.
    wait_for("nats to take a subscription", || {
        Ok(subscribe_and_leave(mqtt).ok())
    })?;
    let version = first_line(&program, "--version")?;
    let version = version.rsplit(['v', ' ']).next().unwrap_or("?").to_owned();
    Ok(Some((peer, mqtt, version)))
}

fn program() -> Result<Option<PathBuf>> {
    let program = crate::cache()?.join(format!("nats-server-{VERSION}"));
    if program.is_file() {
        return Ok(Some(program));
    }
    if Command::new("go").arg("version").output().is_err() {
        say("skipped: nats, needs go, install with: apt-get install -y golang");
        return Ok(None);
    }
    say(&format!("building {MODULE}@{VERSION}"));
    let module = tempfile::tempdir()?;
    let go = |arguments: &[&str]| {
        let mut command = Command::new("go");
        command.args(arguments).current_dir(module.path());
        run(command.env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=mod"))
    };
    go(&["mod", "init", "peer"])?;
    go(&["get", &format!("{MODULE}@{VERSION}")])?;
    let built = program.display().to_string();
    go(&[
        "build",
        "-trimpath",
        "-ldflags",
        "-s -w",
        "-o",
        &built,
        MODULE,
    ])?;
    Ok(Some(program))
}
