//! The `moby` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    moby::cli::main()
}
