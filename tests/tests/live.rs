//! The demo's live view as a stranger sees it, in the first seconds: who is where, how the goods are, what
//! happened and what to do next.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gateway::clock::monotonic;
use tests::peer;

/// Time from the start of the process within which the view stands. It takes about two seconds.
const STANDS_WITHIN: Duration = Duration::from_secs(10);

/// Trackers of the demo, at least.
const TRACKERS: usize = 20;

/// Lines read ahead of the test: a screen and a half; then the demo waits for its reader.
const LINES_MAX: usize = 100;

/// Control sequences that clear the screen and begin in its corner.
const REDRAW: &str = "\u{1b}[1;1H\u{1b}[2J";

/// A demo and what it prints, line by line.
struct Show {
    child: Child,
    lines: Receiver<String>,
    started: Instant,
}

impl Drop for Show {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Show {
    fn start(command: &mut Command) -> Result<Self> {
        let started = monotonic();
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.context("start the demo")?;
        let output = child.stdout.take().context("its output")?;
        Ok(Self {
            child,
            lines: lines(output),
            started,
        })
    }

    /// Its lines until `enough` of them have come, or the time is over.
    fn until(&self, mut enough: impl FnMut(&[String]) -> bool) -> Vec<String> {
        let mut seen = Vec::new();
        while !enough(&seen) {
            let left = STANDS_WITHIN.saturating_sub(self.started.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => seen.push(line),
                Err(_) => return seen,
            }
        }
        seen
    }
}

fn lines(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = sync_channel(LINES_MAX);
    thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        lines
            .map(|line| sender.send(line))
            .take_while(Result::is_ok)
            .count()
    });
    receiver
}

/// A tracker of which everything is known: temperature, battery, age of data, place in words.
fn is_tracker(line: &str) -> bool {
    let words: Vec<_> = line.split_whitespace().collect();
    let [device, celsius, "C", percent, "%", age, unit, place @ ..] = words.as_slice() else {
        return false;
    };
    device.starts_with("trk-")
        && celsius.parse::<f64>().is_ok()
        && percent.parse::<u8>().is_ok()
        && age.parse::<u32>().is_ok()
        && ["s", "min", "h"].contains(unit)
        && place.len() >= 3
}

/// An event in plain language, and what to do next.
fn is_event(line: &str) -> bool {
    let Some((told, next)) = line.split_once("  -> ") else {
        return false;
    };
    told.contains(" open ") && told.contains("SHP-") && !next.trim().is_empty()
}

fn count(lines: &[String], of: impl Fn(&str) -> bool) -> usize {
    lines.iter().filter(|line| of(line)).count()
}

fn stands(lines: &[String]) -> bool {
    count(lines, is_tracker) >= TRACKERS && count(lines, is_event) >= 1
}

#[test]
fn plain_lines_show_trackers_and_events_within_ten_seconds() {
    let mut command = Command::new(peer::product("supercargo").unwrap());
    let show = Show::start(command.arg("demo")).unwrap();
    let seen = show.until(stands);
    assert!(stands(&seen), "{}", seen.join("\n"));
    assert!(
        !seen.concat().contains('\u{1b}'),
        "plain lines have no control sequences"
    );
}

#[test]
fn a_terminal_shows_the_same_on_a_screen_that_is_redrawn() {
    let Some(script) = peer::foreign("script", "bsdutils") else {
        return;
    };
    // The terminal is made by `script`; without a size of its own the view assumes one.
    let supercargo = peer::product("supercargo").unwrap();
    let mut command = Command::new(script);
    command.args(["-q", "-e", "-f", "-c"]);
    command
        .arg(format!("'{}' demo --for 8s", supercargo.display()))
        .arg("/dev/null");
    let show = Show::start(&mut command).unwrap();
    let screen_stands = |lines: &[String]| {
        let newest = lines.iter().rposition(|line| line.contains(REDRAW));
        newest.is_some_and(|first| stands(&lines[first..]))
    };
    let seen = show.until(screen_stands);
    assert!(screen_stands(&seen), "{}", seen.join("\n"));
    let whole = seen.join("\n");
    for heading in [
        "Supercargo demo",
        "TRACKER",
        "DATA AGE",
        "EVENTS (newest last)",
    ] {
        assert!(whole.contains(heading), "{whole}");
    }
}
