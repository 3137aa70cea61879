//! `moby version`: what this program is.

use anyhow::Result;
use serde_json::json;

use super::{Global, ui};
use crate::oci::Platform;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Print the version.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print the number alone.
    #[arg(long)]
    short: bool,
}

pub(super) fn run(args: Args, global: &Global) -> Result<()> {
    if global.json {
        return ui::json(&json!({ "version": VERSION, "platform": Platform::host().to_string() }));
    }
    match args.short {
        true => ui::data(&format!("{VERSION}\n")),
        false => ui::data(&format!("moby {VERSION} ({})\n", Platform::host())),
    }
}
