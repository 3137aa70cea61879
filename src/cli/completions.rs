//! `moby completions`: completion scripts for shells.

use anyhow::{Context, Result};
use clap_complete::Shell;

use super::{Global, definition, ui};

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell to complete commands in.
    shell: Shell,
}

pub(super) fn run(args: Args, _: &Global) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition(), "moby", &mut script);
    ui::data(&String::from_utf8(script).context("writing the script")?)
}
