//! What the store has by name, and removing what no name leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::choose::{DOCUMENT_MAX, Document, platform_of_config};
use crate::error::{NotFound, WithHint, is_not_found};
use crate::oci::{Config, Descriptor, Digest};
use crate::store::{Store, is_damage};

/// How deep indexes may be nested.
const DEPTH_MAX: usize = 4;

/// An image of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its full name.
    pub name: String,
    /// Digest of its index or manifest.
    pub digest: Digest,
    /// The platforms that are there, whole.
    pub platforms: Vec<String>,
    /// Bytes of its blobs that are there. Images may share some.
    pub size: u64,
}

/// Lists the images of a store by name.
pub fn list(store: &Store) -> Result<Vec<Listed>> {
    let images = store.names()?;
    images
        .into_iter()
        .map(|(name, image)| {
            let mut seen = Seen::default();
            seen.visit(store, &image, 0)?;
            Ok(Listed {
                name,
                digest: image.digest,
                platforms: seen.platforms.into_iter().collect(),
                size: seen.blobs.values().sum(),
            })
        })
        .collect()
}

/// Takes names away; it is an error if there is none of that name.
pub fn remove(store: &Store, names: &[String]) -> Result<()> {
    let all = store.names()?;
    for name in names {
        let missing = || NotFound { what: name.clone(), place: "the cache".into() };
        let found = all.contains_key(name).then_some(()).ok_or_else(missing);
        found.hint(|| "`moby cache ls` shows the names".into())?;
    }
    store.unname(names).map(drop)
}

/// Removes all content that no name leads to. Waits for builds at work.
pub fn collect(root: &Path) -> Result<()> {
    // What is named meanwhile would not be seen.
    let store = Store::alone(root)?;
    let mut seen = Seen::default();
    for image in store.names()?.values() {
        seen.visit(&store, image, 0)?;
    }
    store.keep_only(&seen.blobs.keys().map(Digest::hex).collect())
}

/// What images lead to, as far as it is there.
#[derive(Debug, Default)]
struct Seen {
    blobs: BTreeMap<Digest, u64>,
    platforms: BTreeSet<String>,
}

impl Seen {
    fn visit(&mut self, store: &Store, at: &Descriptor, depth: usize) -> Result<()> {
        ensure!(depth < DEPTH_MAX, "expected at most {DEPTH_MAX} indexes within each other");
        let bytes = match store.read(&at.digest, DOCUMENT_MAX) {
            // Platforms that were not fetched, or must be again.
            Err(error) if is_not_found(&error) || is_damage(&error) => return Ok(()),
            other => other?,
        };
        self.blobs.insert(at.digest, bytes.len() as u64);
        match Document::parse(&bytes)? {
            Document::Index(index) => {
                index.manifests.iter().try_for_each(|entry| self.visit(store, entry, depth + 1))
            }
            Document::Manifest(manifest) => {
                let mut whole = true;
                for blob in manifest.layers.iter().chain([&manifest.config]) {
                    if store.has(&blob.digest) {
                        self.blobs.insert(blob.digest, blob.size);
                    } else {
                        whole = false;
                    }
                }
                if whole {
                    let config = store.read(&manifest.config.digest, DOCUMENT_MAX)?;
                    let config: Config = serde_json::from_slice(&config).unwrap_or_default();
                    let stated = at.platform.clone().or_else(|| platform_of_config(config));
                    self.platforms.extend(stated.map(|platform| platform.to_string()));
                }
                Ok(())
            }
        }
    }
}
