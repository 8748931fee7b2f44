//! Without a data folder in the configuration, data lies where the user's data belongs.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The binary as a user without any other variable has it.
fn supercargo(home: &Path, xdg: Option<&str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_supercargo"));
    command.env_clear().env("HOME", home).current_dir(home);
    command.envs(xdg.map(|folder| ("XDG_DATA_HOME", folder)));
    command
}

/// What `status` says, and how it ends.
fn status(home: &Path, xdg: Option<&str>) -> (String, Option<i32>) {
    let output = supercargo(home, xdg).arg("status").output().unwrap();
    (
        String::from_utf8(output.stderr).unwrap(),
        output.status.code(),
    )
}

struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Run one until it says that it is ready.
fn start(home: &Path, xdg: Option<&str>) -> Gateway {
    let mut command = supercargo(home, xdg);
    command.args(["run", "--config", "depot.toml"]);
    let mut gateway = Gateway(command.stderr(Stdio::piped()).spawn().unwrap());
    let log = BufReader::new(gateway.0.stderr.take().unwrap());
    let mut lines = log.lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("gateway ready")));
    gateway
}

#[test]
fn a_command_looks_where_the_user_keeps_data() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let elsewhere = home.join("elsewhere");
    let own = home.join(".local/share/supercargo");
    for (xdg, expected) in [
        (None, &own),
        (Some(""), &own),
        (Some("relative/share"), &own),
        (elsewhere.to_str(), &elsewhere.join("supercargo")),
    ] {
        let (said, code) = status(home, xdg);
        assert_eq!(code, Some(3), "{said}");
        let expected = format!("there is no store in {}:", expected.display());
        assert!(said.contains(&expected), "{xdg:?}: {said}");
    }
}

#[test]
fn a_gateway_keeps_its_data_there_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let config = "[mqtt]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n";
    fs::write(home.join("depot.toml"), config).unwrap();
    let elsewhere = home.join("elsewhere");
    for (xdg, share) in [
        (Some("relative/share"), home.join(".local/share")),
        (elsewhere.to_str(), elsewhere.clone()),
    ] {
        let gateway = start(home, xdg);
        let (said, code) = status(home, xdg);
        let data = share.join("supercargo");
        assert_eq!(code, Some(0), "{said}");
        let running = format!("asking the gateway that runs on {}", data.display());
        assert!(said.contains(&running), "{said}");
        let socket = fs::metadata(data.join("control.sock")).unwrap();
        assert_eq!(socket.permissions().mode() & 0o777, 0o600);
        assert!(data.join("store").is_dir());
        drop(gateway);
    }
    assert!(
        !home.join("relative").exists(),
        "a relative folder is ignored"
    );
}
