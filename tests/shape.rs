//! Holds the source against the shape that DESIGN.md gives it: folders import
//! downwards only, every file says what it is, and only the command line prints.
//!
//! Clippy and rustc keep the other rules (`.clippy.toml`, the workspace's lints).

#![allow(clippy::print_stderr, reason = "what was skipped is told")]

use std::fs;
use std::path::{Path, PathBuf};

/// What every folder may use, and what uses no folder but `oci`.
const COMMON: [&str; 2] = ["env", "error"];
/// The folders of `src/`, the lower first: each may use those before it.
const ORDER: [&str; 16] = [
    "oci", "tree", "store", "fs", "disk", "boot", "manifest", "source", "image", "system",
    "format", "package", "push", "inspect", "run", "cli",
];

/// Finds every file below a folder whose name ends so, in order.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.expect("a folder's entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files(&path, ending));
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Says whether a file holds nothing but tests.
fn is_test(path: &Path) -> bool {
    let path = path.strip_prefix(root()).expect("below the repository");
    path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests")
}

/// The code of a file: without comments, and without its tests, which may use
/// whatever they like.
fn code(text: &str) -> String {
    let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
    lines
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The folders that a file names behind `crate::`, alone or in braces.
fn used(code: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let mut found = Vec::new();
    for (at, before) in code.match_indices("crate::") {
        let rest = &code[at + before.len()..];
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(group) => found.extend(members(group).iter().map(|member| word(member))),
        }
    }
    found.retain(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    found
}

/// The members of a group of imports, whose opening brace was read.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut from, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.push(&group[from..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&group[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    found
}

#[test]
fn imports_are_read_alone_and_in_groups() {
    let cases: [(&str, &[&str]); 4] = [
        ("use crate::tree::Tree;", &["tree"]),
        ("use crate::{env, store::{Store, Out}, fs};", &["env", "store", "fs"]),
        ("fn a() { crate::cli::run(crate::env::EPOCH) }", &["cli", "env"]),
        ("use crate::Type;", &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(used(text), expected, "{text}");
    }
}

#[test]
fn folders_import_downwards_only() {
    let place = |name: &str| ORDER.iter().position(|known| *known == name);
    let mut wrong = Vec::new();
    for path in files(&root().join("src"), ".rs") {
        let inside = path.strip_prefix(root().join("src")).expect("below src");
        let first = inside.components().next().expect("a name").as_os_str().to_string_lossy();
        let folder = first.strip_suffix(".rs").unwrap_or(&first);
        if ["lib", "main"].contains(&folder) || is_test(&path) {
            continue;
        }
        let Some(own) = place(folder).or(COMMON.contains(&folder).then_some(0)) else {
            wrong.push(format!("{}: DESIGN.md has no folder `{folder}`", path.display()));
            continue;
        };
        let text = fs::read_to_string(&path).expect("a source file");
        for name in used(&code(&text)) {
            if !COMMON.contains(&name.as_str()) && place(&name).is_none_or(|used| used > own) {
                wrong.push(format!("{}: `{folder}` may not use `{name}`", path.display()));
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(
        wrong.is_empty(),
        "folders use only those before them in {ORDER:?}:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_file_says_what_it_is() {
    let mut wrong = Vec::new();
    for folder in ["src", "pkg", "tests", "benches"] {
        for path in files(&root().join(folder), ".rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            if !text.starts_with("//!") {
                wrong.push(path.display().to_string());
            }
        }
    }
    assert!(wrong.is_empty(), "expected `//!` at the top of:\n{}", wrong.join("\n"));
}

#[test]
fn only_the_command_line_prints() {
    let mut wrong = Vec::new();
    for path in files(&root().join("src"), ".rs") {
        let printer = path.starts_with(root().join("src/cli"));
        if printer || is_test(&path) {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source file");
        for (number, line) in code(&text).lines().enumerate() {
            if ["println!(", "print!(", "dbg!("].iter().any(|call| line.contains(call)) {
                wrong.push(format!("{}: about line {}: {line}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "only src/cli prints:\n{}", wrong.join("\n"));
}

#[test]
fn scripts_stop_at_the_first_error() {
    let mut wrong = Vec::new();
    let mut scripts = files(&root().join("tools"), "");
    scripts.push(root().join(".ci/run"));
    for path in scripts {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let shell =
            text.lines().next().is_some_and(|line| line.starts_with("#!") && line.ends_with("sh"));
        if shell && !text.contains("set -euo pipefail") && !text.contains("set -eu\n") {
            wrong.push(path.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "expected `set -euo pipefail` in:\n{}", wrong.join("\n"));
}
