//! From a descriptor to an image: its layers applied in order, its config.

use anyhow::{Context, Result, anyhow};

use super::apply;
use crate::error::WithHint;
use crate::oci::{Config, Descriptor, Digest, Manifest};
use crate::store::{Layer, Store};
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
    let config: Config = serde_json::from_slice(&bytes)
        .with_context(|| format!("reading image config {}", manifest.config.digest))?;
    let mut tree = Tree::new();
    for (index, blob) in manifest.layers.iter().enumerate() {
        let layer = store.layer(blob)?;
        check(blob, &layer, config.rootfs.diff_ids.get(index))?;
        apply(&mut tree, &layer).with_context(|| format!("applying layer {}", blob.digest))?;
    }
    Ok(Image { descriptor: descriptor.clone(), config, tree })
}

/// Holds an unpacked layer against what the config says of it, if it says.
fn check(blob: &Descriptor, layer: &Layer, stated: Option<&Digest>) -> Result<()> {
    match (stated, layer.diff_id) {
        (Some(stated), Some(found)) if *stated != found => Err(anyhow!(
            "layer {}: expected it to unpack to {stated}, as the image's config says, got {found}",
            blob.digest
        ))
        .hint(|| {
            "config and layer are not of one image: whoever made it has to push it again".to_owned()
        }),
        _ => Ok(()),
    }
}
