//! `moby man`: manual pages out of the definition of the command line.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Global, definition, ui};

/// Write the manual pages, moby(1) and one for each command.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder to write the pages to; moby(1) goes to standard output without.
    dir: Option<PathBuf>,
}

pub(super) fn run(args: Args, _: &Global) -> Result<()> {
    let mut command = definition();
    command.build();
    let Some(dir) = args.dir else {
        return ui::data(&String::from_utf8(page(&command)?).context("writing the page")?);
    };
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    write(&command, &dir)
}

fn write(command: &clap::Command, dir: &Path) -> Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let path = dir.join(format!("{name}.1"));
    fs::write(&path, page(command)?).with_context(|| format!("writing {}", path.display()))?;
    command.get_subcommands().try_for_each(|inner| write(inner, dir))
}

fn page(command: &clap::Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page).context("writing a manual page")?;
    Ok(page)
}
