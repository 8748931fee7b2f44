//! One check: a command with a name, its time, and how to repeat it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::tally::Tally;
use crate::tool::Tool;

/// One check.
pub(crate) struct Stage {
    /// As people call it.
    pub(crate) name: &'static str,
    /// What it runs.
    pub(crate) command: Command,
    /// What it cannot do without.
    pub(crate) needs: Option<&'static Tool>,
}

/// How a stage ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All well.
    Passed,
    /// A tool is not there; elsewhere than on a build server that is no failure.
    Skipped,
    /// The command said no.
    Failed,
}

/// A stage that has run.
pub(crate) struct Report {
    /// Which.
    pub(crate) name: &'static str,
    /// How it ended.
    pub(crate) ending: Ending,
    /// How long it took.
    pub(crate) took: Duration,
    /// Test results seen in its output.
    pub(crate) tally: Tally,
}

impl Stage {
    /// A call of cargo.
    pub(crate) fn cargo(name: &'static str, arguments: &str) -> Self {
        let mut command = Command::new("cargo");
        command.args(arguments.split_whitespace());
        Self {
            name,
            command,
            needs: None,
        }
    }

    /// The same, with an environment variable.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    /// The same, with one more argument.
    pub(crate) fn told(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    /// The same, impossible without `tool`.
    pub(crate) fn needing(mut self, tool: &'static Tool) -> Self {
        self.needs = Some(tool);
        self
    }

    /// Run it in `root`, passing its output on.
    pub(crate) fn run(mut self, root: &Path) -> Report {
        println!("\n==> {}: {}", self.name, shown(&self.command));
        let start = monotonic();
        let (ending, tally) = match self.needs.filter(|tool| !tool.is_there()) {
            Some(tool) => (without(tool), Tally::default()),
            None => self.follow(root),
        };
        let took = start.elapsed();
        match ending {
            Ending::Failed => self.blame(root),
            Ending::Passed => println!("<== {}: {:.1} s", self.name, took.as_secs_f64()),
            Ending::Skipped => {}
        }
        Report {
            name: self.name,
            ending,
            took,
            tally,
        }
    }

    /// Standard output is read line by line to count test results; errors go straight through.
    fn follow(&mut self, root: &Path) -> (Ending, Tally) {
        let mut tally = Tally::default();
        self.command.current_dir(root).stdout(Stdio::piped());
        let mut child = match self.command.spawn() {
            Ok(child) => child,
            Err(error) => {
                println!("could not start: {error}");
                return (Ending::Failed, tally);
            }
        };
        let output = child.stdout.take().map(BufReader::new);
        for line in output
            .into_iter()
            .flat_map(BufRead::lines)
            .map_while(Result::ok)
        {
            println!("{line}");
            tally.read(&line);
        }
        let passed = child.wait().is_ok_and(|status| status.success());
        (
            if passed {
                Ending::Passed
            } else {
                Ending::Failed
            },
            tally,
        )
    }

    fn blame(&self, root: &Path) {
        println!("\nFAILED: {}", self.name);
        println!(
            "repeat with: cd {} && {}",
            root.display(),
            shown(&self.command)
        );
    }
}

/// A command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(key, value)| {
        let value = value?.to_string_lossy();
        Some(format!("{}={} ", key.to_string_lossy(), quoted(&value)))
    });
    let mut text: String = variables.collect();
    text.push_str(&command.get_program().to_string_lossy());
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&quoted(&argument.to_string_lossy()));
    }
    text
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn without(tool: &Tool) -> Ending {
    println!(
        "skipped: needs {}, install with: {}",
        tool.name,
        tool.remedy()
    );
    if crate::in_ci() {
        Ending::Failed
    } else {
        Ending::Skipped
    }
}

/// The stop watch of the stages.
pub(crate) fn monotonic() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "stage times; no verdict depends on them"
    )]
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let stage = Stage::cargo("doc", "doc --no-deps").with("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(
            shown(&stage.command),
            "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps"
        );
    }

    #[test]
    fn a_failing_command_fails_its_stage_and_its_tests_are_counted() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            let stage = Stage {
                name: "probe",
                command,
                needs: None,
            };
            stage.run(Path::new("."))
        };
        assert_eq!(shell("exit 3").ending, Ending::Failed);
        let report = shell("echo 'test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured'");
        assert_eq!(report.ending, Ending::Passed);
        assert_eq!(report.tally.to_string(), "4 passed, 0 failed, 1 ignored");
    }
}
