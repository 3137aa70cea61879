//! All blobs that belong to an image, as far as the store has them.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use super::manifest;
use crate::oci::{Descriptor, Digest, Index, Platform};
use crate::store::Store;

/// The largest index that is read, in bytes.
const INDEX_MAX: u64 = 8 << 20;
/// How deep indexes may stand within indexes.
const DEPTH_MAX: usize = 4;

/// Lists the digests of an image or index and of all that it names, itself
/// first, each once. Of an index, only the images for `platforms` count, all
/// without it; what the store lacks is left out.
pub fn closure(
    store: &Store,
    descriptor: &Descriptor,
    platforms: Option<&[Platform]>,
) -> Result<Vec<Digest>> {
    let (mut all, mut met) = (Vec::new(), BTreeSet::new());
    collect(store, descriptor, platforms, 0, &mut |digest| {
        if met.insert(digest) {
            all.push(digest);
        }
    })?;
    Ok(all)
}

fn collect(
    store: &Store,
    descriptor: &Descriptor,
    platforms: Option<&[Platform]>,
    depth: usize,
    found: &mut dyn FnMut(Digest),
) -> Result<()> {
    ensure!(depth <= DEPTH_MAX, "expected indexes at most {DEPTH_MAX} deep, got more");
    found(descriptor.digest);
    if !descriptor.is_index() {
        let manifest = manifest(store, descriptor)?;
        found(manifest.config.digest);
        manifest.layers.iter().for_each(|layer| found(layer.digest));
        return Ok(());
    }
    let bytes = store.read(&descriptor.digest, INDEX_MAX)?;
    let index: Index = serde_json::from_slice(&bytes)
        .with_context(|| format!("reading image index {}", descriptor.digest))?;
    let wanted = |inner: &&Descriptor| match (platforms, &inner.platform) {
        (Some(wanted), Some(offered)) => wanted.iter().any(|wanted| wanted.accepts(offered)),
        _ => true,
    };
    let there = |inner: &&Descriptor| store.has(&inner.digest);
    for inner in index.manifests.iter().filter(wanted).filter(there) {
        collect(store, inner, platforms, depth + 1, found)?;
    }
    Ok(())
}
