//! The dependencies a manifest names.

/// One dependency.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dependency {
    /// Counted from 1.
    pub(super) line: usize,
    /// The key it stands under.
    pub(super) name: String,
    /// Whether only tests see it.
    pub(super) for_tests: bool,
}

/// Every dependency of a package's manifest, of all three kinds and for every target.
pub(super) fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut section = Section::default();
    let mut found = Vec::new();
    for (index, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            section = Section::of(header.trim_matches(['[', ']']));
            found.extend(
                section
                    .named
                    .take()
                    .map(|name| (index, name, section.for_tests)),
            );
        } else if section.lists && !line.is_empty() && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            found.push((index, name.trim_matches('"').to_owned(), section.for_tests));
        }
    }
    let dependency = |(index, name, for_tests)| Dependency {
        line: index + 1,
        name,
        for_tests,
    };
    found.into_iter().map(dependency).collect()
}

/// Where in the manifest a line stands.
#[derive(Debug, Default)]
struct Section {
    /// Each line names a dependency.
    lists: bool,
    /// The header itself names one: `[dependencies.tokio]`.
    named: Option<String>,
    for_tests: bool,
}

impl Section {
    fn of(header: &str) -> Self {
        // `[workspace.dependencies]` only sets versions.
        if header.starts_with("workspace") {
            return Self::default();
        }
        let (kind, named) = match header.find("dependencies.") {
            Some(at) => header.split_at(at + "dependencies".len()),
            None => (header, ""),
        };
        let named = named.strip_prefix('.').map(ToOwned::to_owned);
        Self {
            lists: named.is_none() && kind.ends_with("dependencies"),
            named,
            for_tests: kind.contains("dev-dependencies"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_dependency_is_read() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\n# c\na.workspace = true\n\"b\" = \"1\"\n[target.'cfg(unix)'.dependencies]\nc = { path = \"c\" }\n[dev-dependencies.d]\nversion = \"1\"\n[features]\ne = []\n";
        let found: Vec<_> = dependencies(manifest)
            .into_iter()
            .map(|d| (d.line, d.name, d.for_tests))
            .collect();
        let named = |line, name: &str, tests| (line, name.to_owned(), tests);
        assert_eq!(
            found,
            [
                named(5, "a", false),
                named(6, "b", false),
                named(8, "c", false),
                named(9, "d", true)
            ]
        );
    }
}
