//! The options that every command takes.

use std::path::PathBuf;

use anyhow::Result;

use super::ui::Ui;
use crate::env;
use crate::store::Store;

/// Options of every command.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// Folder that keeps what was fetched and made; `$MOBY_CACHE`, or
    /// `~/.cache/moby`, by default.
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub(super) cache: Option<PathBuf>,
    /// Print data as JSON, and progress as JSON lines.
    #[arg(long, global = true, help_heading = "Global options")]
    pub(super) json: bool,
    /// Print errors only.
    #[arg(long, short, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub(super) quiet: bool,
    /// Print what is done in detail. `--verbose=N` is taken as LinuxKit does.
    #[arg(long, short, global = true, num_args = 0..=1, default_missing_value = "1",
          require_equals = true, value_name = "N", help_heading = "Global options")]
    pub(super) verbose: Option<u8>,
}

impl Global {
    /// Opens the cache.
    pub(super) fn store(&self) -> Result<Store> {
        Store::open(&self.cache_dir())
    }

    /// Returns the folder of the cache.
    pub(super) fn cache_dir(&self) -> PathBuf {
        self.cache.clone().unwrap_or_else(env::cache_dir)
    }

    /// Returns how to talk to the user.
    pub(super) fn ui(&self) -> Ui {
        // LinuxKit: 0 is quiet, 1 informs, 2 debugs.
        let quiet = self.quiet || self.verbose == Some(0);
        Ui::new(self.json, quiet, self.verbose.is_some_and(|level| level > 0))
    }
}
