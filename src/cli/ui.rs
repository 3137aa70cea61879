//! What people see: progress, notes and errors on standard error; and what
//! programs read, on standard output.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the one place")]

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;

use crate::error::{self, Several};

/// How a command talks.
#[derive(Clone, Debug)]
pub(super) struct Ui {
    json: bool,
    quiet: bool,
    verbose: bool,
    /// Draws bars, and makes room for lines between them.
    pub(super) bars: MultiProgress,
}

impl Ui {
    /// Decides how to talk by the options and the terminal.
    pub(super) fn new(json: bool, quiet: bool, verbose: bool) -> Self {
        let drawn = io::stderr().is_terminal() && !quiet && !json;
        let target =
            if drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { json, quiet, verbose, bars: MultiProgress::with_draw_target(target) }
    }

    /// Says whether bars are drawn.
    pub(super) fn draws(&self) -> bool {
        !self.bars.is_hidden()
    }

    /// Says whether data is wanted as JSON.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// Says whether a person is told anything but errors.
    pub(super) fn notes(&self) -> bool {
        !self.quiet && !self.json
    }

    /// Tells a person what happens.
    pub(super) fn note(&self, text: &str) {
        if self.notes() {
            self.bars.suspend(|| eprintln!("{text}"));
        }
    }

    /// Tells a person what happens in detail.
    pub(super) fn detail(&self, text: &str) {
        if self.verbose {
            self.note(text);
        }
    }

    /// Prints an event for a program that follows along.
    pub(super) fn event(&self, event: &impl Serialize) {
        if self.json
            && !self.quiet
            && let Ok(line) = serde_json::to_string(event)
        {
            eprintln!("{line}");
        }
    }
}

/// Prints text that a program may read.
pub(super) fn data(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("writing standard output")
}

/// Prints JSON that a program may read.
pub(super) fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context("writing JSON")?;
    data(&format!("{text}\n"))
}

/// Prints an error, its causes and the way out; of several errors, each way out
/// once.
pub(super) fn error(error: &anyhow::Error) {
    let errors = match error.downcast_ref::<Several>() {
        Some(Several(errors)) => errors.iter().collect(),
        None => vec![error],
    };
    let mut hints: Vec<String> = Vec::new();
    for error in errors {
        causes(error);
        if let Some(hint) = error::hint(error).filter(|hint| !hints.contains(hint)) {
            hints.push(hint);
        }
    }
    for hint in hints {
        eprintln!("\nhint: {hint}");
    }
}

fn causes(error: &anyhow::Error) {
    let mut chain = error.chain().map(ToString::to_string);
    eprintln!("error: {}", chain.next().unwrap_or_default());
    let mut last = String::new();
    for cause in chain.filter(|cause| !cause.is_empty()) {
        if cause != last {
            eprintln!("  caused by: {}", cause.replace('\n', "\n    "));
        }
        last = cause;
    }
}

/// Prints what clap has to say: help to standard output, errors elsewhere.
pub(super) fn clap(error: &clap::Error) {
    // A closed pipe leaves nobody to tell.
    let _ = error.print();
}

/// Says whether the reader of standard output went away.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(broken))
}
