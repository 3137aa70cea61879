//! From a descriptor to an image: its layers applied in order, its config.

use anyhow::{Context, Result};

use super::apply;
use crate::oci::{Config, Descriptor, Manifest};
use crate::store::Store;
use crate::tree::Tree;

/// The largest manifest or config that is read, in bytes.
const DOCUMENT_MAX: u64 = 8 << 20;

/// An image, flattened.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest that it came from.
    pub descriptor: Descriptor,
    /// Its config.
    pub config: Config,
    /// Its files.
    pub tree: Tree,
}

/// Reads the manifest that a descriptor points to.
pub fn manifest(store: &Store, descriptor: &Descriptor) -> Result<Manifest> {
    let bytes = store.read(&descriptor.digest, DOCUMENT_MAX)?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("reading image manifest {}", descriptor.digest))
}

/// Flattens an image of the store.
pub fn flatten(store: &Store, descriptor: &Descriptor) -> Result<Image> {
    let manifest = manifest(store, descriptor)?;
    let bytes = store.read(&manifest.config.digest, DOCUMENT_MAX)?;
    let config = serde_json::from_slice(&bytes)
        .with_context(|| format!("reading image config {}", manifest.config.digest))?;
    let mut tree = Tree::new();
    for blob in &manifest.layers {
        let layer = store.layer(blob)?;
        apply(&mut tree, &layer).with_context(|| format!("applying layer {}", blob.digest))?;
    }
    Ok(Image { descriptor: descriptor.clone(), config, tree })
}
