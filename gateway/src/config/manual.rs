//! The configuration explained: docs/config.md and the file that `init` writes, from the one table.

use std::fmt::Write as _;

use super::SECTIONS;
use super::schema::{Key, Section};

/// Keys that `init` sets, with values that make a first run show something.
const STARTER: [(&str, &str, &str); 4] = [
    ("rules", "plan", "plan.toml"),
    ("sink", "name", "events"),
    ("sink", "kind", "file"),
    ("sink", "path", "events.jsonl"),
];

/// Columns at which comments are wrapped.
const WIDTH_CHARS: usize = 96;

/// The whole of docs/config.md.
#[must_use]
pub fn manual() -> String {
    let mut text = String::from(INTRODUCTION);
    for section in SECTIONS {
        let header = header(section);
        // Writing to a string cannot fail.
        let _ = write!(text, "\n## `{header}`\n\n{}\n\n", section.about.trim());
        text.push_str("| key | meaning | allowed | default |\n|---|---|---|---|\n");
        for key in section.keys {
            let default = key.default.map_or_else(
                || key.unset.to_owned(),
                |value| format!("`{}`", key.quoted(value)),
            );
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {default} |",
                key.name,
                key.sentence.trim(),
                key.allowed().replace('|', "\\|"),
            );
        }
    }
    text
}

/// A configuration with every key: those of a first run set, all others commented out with their
/// defaults.
#[must_use]
pub fn sample() -> String {
    let mut text = String::from(
        "# Configuration of a Supercargo gateway. `supercargo check FILE` finds every fault in it.\n\
         # A line such as `# key = value` shows a default. docs/config.md has the same table.\n",
    );
    for section in SECTIONS {
        text.push('\n');
        comment(&mut text, section.about);
        let mark = if is_started(section) { "" } else { "# " };
        let _ = writeln!(text, "{mark}{}", header(section));
        for key in section.keys {
            text.push('\n');
            comment(&mut text, key.sentence);
            comment(&mut text, &format!("Allowed: {}.", key.allowed()));
            let _ = writeln!(text, "{}", assignment(section, key));
        }
    }
    text
}

fn header(section: &Section) -> String {
    if section.repeated {
        format!("[[{}]]", section.table)
    } else {
        format!("[{}]", section.table)
    }
}

/// Whether the section stands in the file as it is; a repeated one would be there with nothing in it.
fn is_started(section: &Section) -> bool {
    !section.repeated || STARTER.iter().any(|(table, ..)| *table == section.table)
}

fn assignment(section: &Section, key: &Key) -> String {
    let starter = STARTER
        .iter()
        .find(|(table, name, _)| *table == section.table && *name == key.name);
    match (starter, key.default) {
        (Some((_, name, value)), _) => format!("{name} = {}", key.quoted(value)),
        (None, Some(value)) => format!("# {} = {}", key.name, key.quoted(value)),
        (None, None) => format!("# {}: {}.", key.name, key.unset.replace('`', "")),
    }
}

fn comment(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in words.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH_CHARS {
            let _ = writeln!(text, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}

const INTRODUCTION: &str = "\
# Configuration

<!-- Generated from the table in gateway/src/config; run the gateway's tests with UPDATE_DOCS=1 to write it anew. -->

`supercargo run --config FILE` reads one TOML file. Every key below has a default unless it says otherwise,
so an empty file is a configuration. `supercargo init DIR` writes one with every key explained,
`supercargo check FILE` names every fault at once with line, column, key, value and what is allowed.

- Durations and sizes carry their unit; a bare number is refused.
- Unknown keys are errors.
- Secrets stand in files of their own, named by keys that end in `_file`.
- Relative paths start at the folder of the configuration file.
- `--set KEY=VALUE` overrides one key and goes through the same checks; it does not reach `[[sink]]` and\n  `[[ingest.broker]]`.
";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Config, SinkKind};
    use super::*;

    #[test]
    fn the_manual_in_docs_is_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, manual()).unwrap();
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            stored == manual(),
            "docs/config.md is not what the table says; run the test with UPDATE_DOCS=1"
        );
    }

    #[test]
    fn the_sample_is_the_defaults_and_a_plan_and_a_sink() {
        let file = Path::new("/depot/supercargo.toml");
        let mut sample = Config::parse(file, &sample(), &[]).unwrap();
        assert_eq!(sample.rules.plan.take(), Some("/depot/plan.toml".into()));
        let sink = sample.sinks.pop().unwrap();
        assert_eq!(sink.kind, SinkKind::File("/depot/events.jsonl".into()));
        assert_eq!(sample, Config::parse(file, "", &[]).unwrap());
    }

    #[test]
    fn every_default_the_sample_comments_out_can_be_put_in_force() {
        let sample: String = sample()
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if is_assignment(rest) => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let given = Config::parse(Path::new("all.toml"), &sample, &[]).unwrap();
        let defaults = Config::parse(Path::new("none.toml"), "", &[]).unwrap();
        assert_eq!(given.mqtt, defaults.mqtt);
        assert_eq!(given.store, defaults.store);
        assert!(sample.contains("\nkeep_alive_max = \"1h\"\n"), "{sample}");
    }

    fn is_assignment(line: &str) -> bool {
        let key = line.split_once(" = ").map(|(key, _)| key);
        key.is_some_and(|key| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    }
}
