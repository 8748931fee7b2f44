//! The dictionary says truly which codes have a rule.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, io};

use rules::code::Code;

/// The sources of `folder` without the dictionary itself and without tests.
fn sources(folder: &Path) -> io::Result<Vec<String>> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            texts.extend(sources(&path)?);
        } else if !path.ends_with("src/code.rs") && !path.ends_with("tests.rs") {
            let text = fs::read_to_string(&path)?;
            let own = text.split("#[cfg(test)]\nmod ").next();
            texts.extend(own.map(ToOwned::to_owned));
        }
    }
    Ok(texts)
}

/// The names that stand behind `Code::`.
fn named(text: &str) -> Vec<&str> {
    let after = text.split("Code::").skip(1);
    after
        .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next())
        .collect()
}

#[test]
fn the_codes_raised_are_those_that_the_rules_name() {
    let texts = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let named: BTreeSet<&str> = texts.iter().flat_map(|text| named(text)).collect();
    let raised = Code::RAISED.iter().map(|code| format!("{code:?}"));
    let raised: Vec<String> = raised.collect();
    let raised: BTreeSet<&str> = raised.iter().map(String::as_str).collect();
    assert_eq!(named, raised);
}

#[test]
fn the_codes_raised_stand_in_the_order_of_the_dictionary() {
    let known = Code::ALL.iter().filter(|code| Code::RAISED.contains(code));
    assert!(known.eq(Code::RAISED));
}
