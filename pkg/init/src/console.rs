//! What people at the console are told.

use std::fmt::Display;
use std::io::{Write, stderr};

/// Writes one line in init's name.
pub fn say(text: impl Display) {
    line(&format!("moby: {text}"));
}

/// Writes one line as it is, in one write so that lines of others do not mix in.
pub fn line(text: &str) {
    // A console that is gone is no reason to stop, and there is nobody else to tell.
    let _gone = stderr().write_all(format!("{text}\n").as_bytes());
}

/// Tells that `name` failed, with the last lines of its output.
pub fn failure(name: &str, what: &str, output: &[String]) {
    say(format_args!("{name}: {what}"));
    for text in output {
        line(&format!("moby: {name} | {text}"));
    }
}
