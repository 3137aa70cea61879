//! The options by which a command finds images, and the sources they give.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;

use super::progress::Shown;
use super::ui::Ui;
use crate::env;
use crate::package::Packages;
use crate::source::debian::{Debian, Options};
use crate::source::registry::{self, Http, Mirror};
use crate::source::{self, Registry, Sources};
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
    mirror: Vec<Mirror>,
    /// Address of the Debian archive, in place of that of the host's apt.
    #[arg(long, value_name = "ADDRESS")]
    debian_mirror: Option<String>,
    /// Speak plain http to a registry: HOST or HOST:PORT.
    #[arg(long, value_name = "HOST")]
    insecure_registry: Vec<String>,
    /// Trust the certificate authorities of a PEM file too.
    #[arg(long, value_name = "FILE")]
    cert_file: Vec<PathBuf>,
}

impl SourceArgs {
    /// Makes the sources, in the order of asking.
    pub(super) fn open(&self, store: &Store, ui: &Ui) -> Result<Sources> {
        let progress = Arc::new(Shown::new(ui));
        let debian = self.debian(store, progress.clone());
        let mut list: Vec<Box<dyn source::Source>> = vec![
            Box::new(source::Layout::new(store.clone())),
            Box::new(source::Archive::new(store.clone())),
            Box::new(Arc::clone(&debian)),
            Box::new(Packages::new(store.clone(), debian, None)),
        ];
        if !self.offline {
            let options = self.registry();
            let http = Arc::new(Http::new(&options)?);
            let registry = Registry::new(store.clone(), progress.clone(), http, options);
            list.push(Box::new(registry));
        }
        if !self.pull {
            list.insert(0, Box::new(source::Named::new(store.clone())));
        }
        Ok(Sources::new(store.clone(), progress, list))
    }

    /// Makes what builds packages.
    pub(super) fn packages(&self, store: &Store, org: Option<String>, ui: &Ui) -> Packages {
        Packages::new(store.clone(), self.debian(store, Arc::new(Shown::new(ui))), org)
    }

    fn debian(&self, store: &Store, progress: Arc<Shown>) -> Arc<Debian> {
        let mut options = Options { refresh: self.pull, ..Options::from_env() };
        options.offline = self.offline;
        if let Some(mirror) = &self.debian_mirror {
            options.archive.mirror = Some(mirror.clone());
        }
        Arc::new(Debian::new(store.clone(), progress, options))
    }

    /// Gets a manifest by its address.
    pub(super) fn get(&self, address: &str, _ui: &Ui) -> Result<Vec<u8>> {
        Http::new(&self.registry())?.get(address)
    }

    fn registry(&self) -> registry::Options {
        registry::Options {
            mirrors: self.mirror.clone(),
            insecure: self.insecure_registry.clone(),
            authorities: self.cert_file.clone(),
            docker_config: env::docker_config(),
            helper_path: env::var("PATH"),
            ..registry::Options::default()
        }
    }
}
