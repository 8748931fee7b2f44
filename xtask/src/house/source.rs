//! The paths a Rust source mentions, found without a compiler.
//!
//! A scanner drops comments and literals, then every path (`a::b`), every `use` tree and every
//! `mod` block is read from the remaining words. Paths through `crate`, `self` and `super` are made
//! absolute, so that an import cannot hide behind braces or relative names, with or without `use`.

/// A path as it stands in a source, made absolute.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mention {
    /// Counted from 1.
    pub(super) line: usize,
    /// `["gateway", "store", "Store"]`.
    pub(super) segments: Vec<String>,
}

/// The module path of a file within its package: `src/store/key.rs` is `["store", "key"]`.
pub(super) fn module_of(file: &str) -> Vec<String> {
    let inside = file.strip_prefix("src/").unwrap_or(file);
    let stem = inside.strip_suffix(".rs").unwrap_or(inside);
    let mut parts: Vec<_> = stem.split('/').map(ToOwned::to_owned).collect();
    if parts.len() > 1 && parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// Lines before the unit tests, which stand last.
pub(super) fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let tests = lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod "));
    tests.unwrap_or(lines.len())
}

/// Every path of `text`, a file of `package` at `module`.
pub(super) fn mentions(text: &str, package: &str, module: &[String]) -> Vec<Mention> {
    let words = words(text);
    let mut reader = Reader {
        words: &words,
        at: 0,
        found: Vec::new(),
    };
    reader.read(package, module);
    reader.found
}

/// Lines on which a value of the tuple struct `name` is made or taken apart.
pub(super) fn makes(text: &str, name: &str) -> Vec<usize> {
    let words = words(text);
    let is_made = |at: &usize| {
        let before = at.checked_sub(1).map_or("", |before| words[before].text);
        let after = words.get(at + 1).map_or("", |word| word.text);
        words[*at].text == name && after == "(" && before != "struct"
    };
    let found = (0..words.len()).filter(is_made);
    found.map(|at| words[at].line).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word<'a> {
    line: usize,
    /// An identifier, `::`, or one other character.
    text: &'a str,
}

struct Reader<'a> {
    words: &'a [Word<'a>],
    at: usize,
    found: Vec<Mention>,
}

impl Reader<'_> {
    fn text(&self, ahead: usize) -> &str {
        self.words.get(self.at + ahead).map_or("", |word| word.text)
    }

    fn line(&self) -> usize {
        self.words.get(self.at).map_or(0, |word| word.line)
    }

    /// Read to the end of the block (or of the file) that stands at `module`.
    fn read(&mut self, package: &str, module: &[String]) {
        let mut open_braces = 0_usize;
        while self.at < self.words.len() {
            match self.text(0) {
                "{" => open_braces += 1,
                "}" if open_braces == 0 => return,
                "}" => open_braces -= 1,
                "mod" if is_identifier(self.text(1)) && self.text(2) == "{" => {
                    let mut inner = module.to_vec();
                    inner.push(self.text(1).to_owned());
                    self.at += 3;
                    self.read(package, &inner);
                }
                "use" => {
                    self.at += 1;
                    self.tree(package, module, &[]);
                }
                word if is_identifier(word) && self.text(1) == "::" => {
                    self.tree(package, module, &[]);
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Read one path or `use` tree below `prefix`; stops at the first word that is not part of it.
    fn tree(&mut self, package: &str, module: &[String], prefix: &[String]) {
        let line = self.line();
        let mut segments = prefix.to_vec();
        if self.text(0) == "::" {
            self.at += 1;
        }
        loop {
            if self.text(0) == "{" {
                return self.group(package, module, &segments);
            }
            if !is_identifier(self.text(0)) {
                break;
            }
            segments.push(self.text(0).to_owned());
            self.at += 1;
            if self.text(0) != "::" {
                break;
            }
            self.at += 1;
        }
        self.found.push(Mention {
            line,
            segments: absolute(segments, package, module),
        });
    }

    fn group(&mut self, package: &str, module: &[String], prefix: &[String]) {
        while self.at < self.words.len() && self.text(0) != "}" {
            self.at += 1;
            if is_identifier(self.text(0)) || matches!(self.text(0), "{" | "*") {
                self.tree(package, module, prefix);
            }
            while !matches!(self.text(0), "," | "}" | "") {
                self.at += 1;
            }
        }
        self.at += 1;
    }
}

fn is_identifier(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn absolute(segments: Vec<String>, package: &str, module: &[String]) -> Vec<String> {
    let mut base = module.to_vec();
    let mut skipped = 0;
    for segment in &segments {
        match segment.as_str() {
            "crate" => base.clear(),
            "super" => drop(base.pop()),
            "self" => {}
            _ => break,
        }
        skipped += 1;
    }
    if skipped == 0 {
        return segments;
    }
    let mut path = vec![package.to_owned()];
    path.append(&mut base);
    path.extend(segments.into_iter().skip(skipped));
    path
}

/// Identifiers and punctuation, without comments and literals.
fn words(text: &str) -> Vec<Word<'_>> {
    let bytes = text.as_bytes();
    let (mut at, mut line, mut words) = (0, 1, Vec::new());
    while at < bytes.len() {
        let rest = &text[at..];
        let (length, is_word) = measure(rest);
        if is_word {
            words.push(Word {
                line,
                text: &rest[..length],
            });
        }
        line += rest[..length].matches('\n').count();
        at += length;
    }
    words
}

/// Length in bytes of what `rest` starts with, and whether it is a word to keep.
fn measure(rest: &str) -> (usize, bool) {
    let first = rest.chars().next().map_or(1, char::len_utf8);
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), false);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), false);
    }
    if let Some(length) = literal(rest) {
        return (length, false);
    }
    if is_identifier(rest) {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        return (end.unwrap_or(rest.len()), true);
    }
    if rest.starts_with("::") {
        return (2, true);
    }
    (first, !rest.starts_with(char::is_whitespace))
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// Length of the string, character or lifetime that `rest` starts with.
fn literal(rest: &str) -> Option<usize> {
    let body = rest.trim_start_matches(['b', 'c']);
    let prefix = rest.len() - body.len();
    if prefix > 1 {
        return None;
    }
    if let Some(raw) = body.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let text = raw[hashes..].strip_prefix('"')?;
        let close = format!("\"{}", "#".repeat(hashes));
        let end = text.find(&close).unwrap_or(text.len());
        return Some(prefix + 1 + hashes + 1 + end + close.len());
    }
    if body.starts_with('"') {
        return Some(prefix + quoted(body, '"'));
    }
    let mut after = body.strip_prefix('\'')?.chars();
    let (one, two) = (after.next(), after.next());
    let is_character = one == Some('\\') || two == Some('\'');
    Some(prefix + if is_character { quoted(body, '\'') } else { 1 })
}

/// Length of a quoted text with backslash escapes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let module = module_of("src/store/key.rs");
        let found = mentions(text, "gateway", &module);
        found
            .iter()
            .map(|mention| mention.segments.join("::"))
            .collect()
    }

    #[test]
    fn a_use_tree_is_opened_up() {
        let text = "use crate::{clock::Clock, store::{self, key as k, *}};\nuse protocol;";
        let expected = [
            "gateway::clock::Clock",
            "gateway::store::self",
            "gateway::store::key",
            "gateway::store",
            "protocol",
        ];
        assert_eq!(paths(text), expected);
    }

    #[test]
    fn relative_paths_are_made_absolute_in_files_and_inner_modules() {
        assert_eq!(paths("use super::Store;"), ["gateway::store::Store"]);
        assert_eq!(
            paths("mod t { use super::*; }\nuse self::a::B;"),
            ["gateway::store::key", "gateway::store::key::a::B"]
        );
    }

    #[test]
    fn literals_and_comments_hide_their_words_only() {
        let text = "let a = ('\\'', b'x', '\"', r\"a::b\", \"a::\\\"b\"); /* /* a::b */ */ x::y();";
        assert_eq!(paths(text), ["x::y"]);
        assert_eq!(paths("fn f<'a>(x: &'a c::D) {} // z::z"), ["c::D"]);
    }

    #[test]
    fn the_tests_at_the_end_are_not_counted() {
        assert_eq!(lines_without_tests("a\nb\n#[cfg(test)]\nmod tests {}\n"), 2);
        assert_eq!(lines_without_tests("a\n#[cfg(test)]\nuse b;\n"), 3);
    }
}
