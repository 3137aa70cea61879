//! The command line: one short file a command, and the only place that
//! prints. Data goes to standard output, everything for people to standard
//! error.
//!
//! Exit codes: 0 done, 1 failed, 2 the command line cannot be meant. `run`
//! gives that of the guest, `diff` 1 where something differs and 2 for an error.

mod build;
mod cache;
mod completions;
mod diff;
mod global;
mod inspect;
mod interrupt;
mod lines;
mod man;
mod picture;
mod pkg;
mod progress;
mod run;
mod schema;
mod sources;
mod table;
mod ui;
mod verify;
mod version;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

pub use global::Global;

use crate::error;

/// Assembles whole operating systems out of container images.
///
/// One YAML manifest names a kernel, an init and containers; `moby build`
/// writes a bootable system. No Docker, no root, the same bytes each time.
#[derive(Debug, Parser)]
#[command(name = "moby", version, arg_required_else_help = true)]
#[command(max_term_width = 80, help_expected = true, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(build::Args),
    Run(run::Args),
    Inspect(inspect::Args),
    Diff(diff::Args),
    Pkg(pkg::Args),
    Cache(cache::Args),
    Schema(schema::Args),
    Completions(completions::Args),
    Man(man::Args),
    Version(version::Args),
}

impl Command {
    /// Says whether a command deals with interrupts itself.
    fn minds_signals(&self) -> bool {
        matches!(self, Self::Run(_))
    }

    fn run(self, global: &Global) -> Result<ExitCode> {
        let done = |result: Result<()>| result.map(|()| ExitCode::SUCCESS);
        match self {
            Self::Build(args) => done(build::run(args, global)),
            Self::Run(args) => run::run(&args, &global.cache_dir()).map(ExitCode::from),
            Self::Inspect(args) => done(inspect::run(&args, global)),
            Self::Diff(args) => diff::run(&args, global),
            Self::Pkg(args) => done(pkg::run(args, global)),
            Self::Cache(args) => done(cache::run(args, global)),
            Self::Schema(args) => done(schema::run(args, global)),
            Self::Completions(args) => done(completions::run(args, global)),
            Self::Man(args) => done(man::run(args, global)),
            Self::Version(args) => done(version::run(args, global)),
        }
    }
}

/// Returns the whole command line's definition, for help, man pages and
/// shell completions.
fn definition() -> clap::Command {
    Cli::command()
}

/// Runs the command of this process's command line.
pub fn main() -> ExitCode {
    let words = run::spelled(std::env::args_os().collect(), &definition());
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            let code = error.exit_code();
            ui::clap(&error);
            return ExitCode::from(u8::try_from(code).unwrap_or(2));
        }
    };
    if !cli.command.minds_signals() {
        interrupt::end_cleanly();
    }
    match cli.command.run(&cli.global) {
        Ok(code) => code,
        Err(error) if ui::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            ui::error(&error);
            ExitCode::from(if error.is::<error::Usage>() { 2 } else { 1 })
        }
    }
}
