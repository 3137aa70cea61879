//! The whole tree of `--help` as one golden file, 80 columns wide.
//!
//! After a change that is meant: `INSTA_UPDATE=always cargo test --test help`.

#![allow(clippy::print_stderr, reason = "what was skipped is told")]

mod support;

use std::path::Path;

/// Runs `--help` behind some words, and behind each of their subcommands.
fn gather(words: &[String], told: &mut String) {
    let mut command = support::moby(Path::new("/nowhere"));
    let output = support::succeed(command.args(words).arg("--help").env("COLUMNS", "80"));
    let text = String::from_utf8(output.stdout).expect("help of UTF-8");
    told.push_str(&format!(
        "$ moby {}\n{}\n",
        [words, &["--help".to_owned()]].concat().join(" "),
        text
    ));
    let commands = text.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in commands.take_while(|line| !line.is_empty()) {
        let name = line.strip_prefix("  ").and_then(|rest| rest.split(' ').next());
        if let Some(name) = name.filter(|name| !name.is_empty() && *name != "help") {
            gather(&[words, &[name.to_owned()]].concat(), told);
        }
    }
}

#[test]
fn the_whole_help() {
    let mut told = String::new();
    gather(&[], &mut told);
    let wide: Vec<&str> = told.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "wider than 80 columns:\n{}", wide.join("\n"));
    insta::assert_snapshot!(told);
}
