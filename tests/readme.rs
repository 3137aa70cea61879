//! The README says what there is: every format, every command.

#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::Path;

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

#[test]
fn has_a_row_for_each_format() {
    let readme = readme();
    for format in moby::format::FORMATS {
        let row = format!("| `{}` | {} |", format.name, format.about);
        assert!(readme.contains(&row), "README.md lacks the row:\n{row}");
    }
}

#[test]
fn stays_short() {
    let lines = readme().lines().count();
    assert!(lines <= 150, "README.md has {lines} lines");
}
