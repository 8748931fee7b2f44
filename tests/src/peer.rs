//! Real processes: started on free ports with data in temporary folders, waited for by what they
//! answer, and ended by the handle that started them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use gateway::clock::monotonic;
use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for a peer to become ready or to end: ten times what a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks while waiting; never the length of a wait.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Most lines of a log shown when a test fails.
const LOG_LINES_SHOWN: usize = 60;

/// First and last port the kernel gives to clients that do not ask for one.
const EPHEMERAL_PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Lowest port given out: below are the well-known services.
const FIRST_PORT: u16 = 10_000;

/// How far apart two processes begin to look for a port: more than one test process takes.
const PORTS_PER_PROCESS: u32 = 64;

/// How many ports this process has looked at; none is given out twice.
static PORTS_TRIED: AtomicU32 = AtomicU32::new(0);

/// Where daemons are besides `PATH`.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// A running child. Dropping it kills it, and shows the end of its log if the test is failing.
#[derive(Debug)]
pub struct Peer {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Peer {
    /// Start `command` with both outputs appended to `log`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {name}: {command:?}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kill it as a power switch would: no signal handler, no last words.
    ///
    /// # Errors
    /// When it could not be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ask it to end (SIGTERM) and wait until it has.
    ///
    /// # Errors
    /// When it does not end within [`PATIENCE`].
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let raw = i32::try_from(self.child.id()).context("process id")?;
        let pid = Pid::from_raw(raw).context("process id")?;
        kill_process(pid, Signal::TERM)?;
        self.wait()
    }

    /// Whether it has not ended yet.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn is_alive(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Wait until it has ended by itself.
    ///
    /// # Errors
    /// When it does not end within [`PATIENCE`].
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let name = self.name.clone();
        wait_for(&format!("{name} to end"), || Ok(self.child.try_wait()?))
    }

    /// Wait until `ready` says so; a peer that ends meanwhile is an error.
    ///
    /// # Errors
    /// When it ends or [`PATIENCE`] is over.
    pub fn wait_until(&mut self, what: &str, mut ready: impl FnMut() -> bool) -> Result<()> {
        let name = self.name.clone();
        wait_for(&format!("{name} {what}"), || {
            if let Some(status) = self.child.try_wait()? {
                bail!("{name} ended early: {status}\n{}", self.log_end());
            }
            Ok(ready().then_some(()))
        })
    }

    /// What it has written so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    fn log_end(&self) -> String {
        let text = self.log().unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.kill();
        if thread::panicking() {
            let shown = format!("--- log of {}\n{}\n---\n", self.name, self.log_end());
            let _ = io::stderr().write_all(shown.as_bytes());
        }
    }
}

/// Look again and again until `look` finds something.
///
/// # Errors
/// Its own, or when [`PATIENCE`] is over.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = monotonic();
    while start.elapsed() < PATIENCE {
        if let Some(found) = look()? {
            return Ok(found);
        }
        thread::sleep(LOOK_AGAIN);
    }
    bail!("waited {} s for {what}", PATIENCE.as_secs())
}

/// A loopback address that nobody listens at, and that stays free while a killed peer is away: its port
/// lies outside the range the kernel hands out, so no client can be given it, and this process gives
/// it out once.
///
/// # Errors
/// When the machine has no such port.
pub fn free_address() -> Result<SocketAddr> {
    let handed_out = fs::read_to_string(EPHEMERAL_PORTS)?;
    let first: Option<u16> = handed_out.split_whitespace().next().and_then(parsed);
    let reserved = FIRST_PORT..first.with_context(|| format!("{EPHEMERAL_PORTS}: {handed_out}"))?;
    let count = u32::from(reserved.end.saturating_sub(reserved.start));
    for _ in 0..count {
        // Spread over the range by process, so that two runs at once seldom meet.
        let turn = PORTS_TRIED.fetch_add(1, Ordering::Relaxed);
        let step = process::id()
            .wrapping_mul(PORTS_PER_PROCESS)
            .wrapping_add(turn)
            % count;
        let port = reserved.start.saturating_add(u16::try_from(step)?);
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return Ok(listener.local_addr()?);
        }
    }
    bail!("no free port in {reserved:?}, below those of {EPHEMERAL_PORTS}")
}

fn parsed(number: &str) -> Option<u16> {
    number.parse().ok()
}

/// A binary of the workspace, built in the same profile as the running test.
///
/// # Errors
/// When it has not been built, with the command that builds it.
pub fn product(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folders = own.ancestors().skip(1).take(2);
    let found = folders
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    found.with_context(|| {
        format!(
            "{name} is not built beside {}: run the end-to-end tests with `cargo xtask test`, or first \
             `cargo build --release -p gateway -p simulator` and then `cargo test --release -p tests`",
            own.display()
        )
    })
}

/// Full path of a foreign program. Without it the caller's test is skipped, by name and with the
/// remedy; on a build server (`CI` set) it fails instead.
///
/// # Panics
/// On a build server, when the program is missing.
#[must_use]
pub fn foreign(program: &str, package: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = SYSTEM_FOLDERS.iter().map(PathBuf::from);
    let mut folders = std::env::split_paths(&path).chain(system);
    let found = folders.find_map(|folder| Some(folder.join(program)).filter(|file| file.is_file()));
    if found.is_none() {
        let reason = format!("needs {program}, install with: apt-get install -y {package}");
        assert!(std::env::var_os("CI").is_none(), "{reason}");
        skipped(&reason);
    }
    found
}

/// Say that the running test is skipped and why.
pub fn skipped(reason: &str) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("test");
    say(&format!("skipped: {name}: {reason}"));
}

/// Write a line past the test harness, which hides what passing tests print.
pub fn say(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Run a short command to its end.
///
/// # Errors
/// When it cannot be started or fails, with all it wrote.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

/// Status and body of an HTTP GET.
///
/// # Errors
/// When nobody answers, or not in HTTP.
pub fn http_get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).context("no HTTP status")?;
    Ok((status.parse()?, body.to_owned()))
}

/// A mosquitto broker.
#[derive(Debug)]
pub struct Mosquitto {
    /// Where it listens.
    pub address: SocketAddr,
    program: PathBuf,
    folder: PathBuf,
    peer: Peer,
}

impl Mosquitto {
    /// Start one, or `None` when it is not installed.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(folder: &Path) -> Result<Option<Self>> {
        Self::start_with(folder, "allow_anonymous true\n")
    }

    /// Start one with these lines of configuration besides its listener, or `None` when it is not installed.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_with(folder: &Path, lines: &str) -> Result<Option<Self>> {
        let Some(program) = foreign("mosquitto", "mosquitto") else {
            return Ok(None);
        };
        let address = free_address()?;
        let file = folder.join("mosquitto.conf");
        fs::write(
            &file,
            format!(
                // Without the second line it drops what a slow subscriber has not yet taken.
                "listener {} 127.0.0.1\nmax_queued_messages 0\n{lines}",
                address.port()
            ),
        )?;
        let mut broker = Self {
            address,
            peer: Self::spawn(&program, folder)?,
            program,
            folder: folder.to_owned(),
        };
        broker.await_listening()?;
        Ok(Some(broker))
    }

    /// Kill it and start it again at the same address. Without persistence it has forgotten
    /// sessions, subscriptions and whatever it had not delivered.
    ///
    /// # Errors
    /// When it does not come up again.
    pub fn restart(&mut self) -> Result<()> {
        self.peer.kill()?;
        self.peer = Self::spawn(&self.program, &self.folder)?;
        self.await_listening()
    }

    /// Stop it in good order and start it again at the same address; with persistence it keeps its sessions.
    ///
    /// # Errors
    /// When it does not end or come up again.
    pub fn restart_in_order(&mut self) -> Result<()> {
        self.peer.stop()?;
        self.peer = Self::spawn(&self.program, &self.folder)?;
        self.await_listening()
    }

    fn spawn(program: &Path, folder: &Path) -> Result<Peer> {
        let mut command = Command::new(program);
        command.arg("-c").arg(folder.join("mosquitto.conf"));
        Peer::start("mosquitto", &mut command, &folder.join("mosquitto.log"))
    }

    fn await_listening(&mut self) -> Result<()> {
        let address = self.address;
        let answers = || TcpStream::connect(address).is_ok();
        self.peer.wait_until("to listen", answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_ends_while_it_is_waited_for_is_an_error_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo no luck; exit 4"]);
        let mut peer = Peer::start("shell", &mut shell, &folder.path().join("log")).unwrap();
        let error = peer.wait_until("to listen", || false).unwrap_err();
        assert!(error.to_string().contains("no luck"), "{error}");
    }

    #[test]
    fn no_address_is_given_twice_and_none_to_a_client_that_asks_for_any() {
        let given: Vec<_> = (0..8).map(|_| free_address().unwrap()).collect();
        let distinct: std::collections::BTreeSet<_> = given.iter().collect();
        assert_eq!(distinct.len(), given.len());
        let any = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let lowest = any.local_addr().unwrap().port();
        assert!(given.iter().all(|own| own.port() < lowest), "{given:?}");
    }

    #[test]
    fn a_stopped_peer_has_ended_by_the_signal() {
        let folder = tempfile::tempdir().unwrap();
        let mut cat = Command::new("sleep");
        let mut peer = Peer::start("sleep", cat.arg("600"), &folder.path().join("log")).unwrap();
        assert_eq!(peer.stop().unwrap().code(), None);
    }
}
