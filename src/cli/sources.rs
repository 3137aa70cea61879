//! The options by which a command finds images, and the sources they give.

use std::sync::Arc;

use anyhow::Result;

use super::progress::Shown;
use super::ui::Ui;
use crate::source::{self, Sources};
use crate::store::Store;

/// Options by which images are found.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Image options")]
pub(super) struct SourceArgs {
    /// Ask registries even for what the cache has by name.
    #[arg(long)]
    pub(super) pull: bool,
    /// Ask nobody: take only what the cache has.
    #[arg(long, conflicts_with = "pull")]
    offline: bool,
    /// Ask a mirror first: HOST=ADDRESS, or ADDRESS for all.
    #[arg(long, value_name = "MIRROR")]
    mirror: Vec<String>,
}

impl SourceArgs {
    /// Makes the sources, in the order of asking.
    pub(super) fn open(&self, store: &Store, ui: &Ui) -> Result<Sources> {
        let list: Vec<Box<dyn source::Source>> = vec![
            Box::new(source::Named::new(store.clone())),
            Box::new(source::Layout::new(store.clone())),
            Box::new(source::Archive::new(store.clone())),
            Box::new(source::Debian::new(store.clone(), source::debian::Options::from_env())),
        ];
        Ok(Sources::new(store.clone(), Arc::new(Shown::new(ui)), list))
    }

    /// Gets a manifest by its address.
    pub(super) fn get(&self, address: &str, _ui: &Ui) -> Result<Vec<u8>> {
        anyhow::bail!("cannot get {address}")
    }
}
