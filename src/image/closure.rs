//! All blobs that belong to an image, as far as the store has them.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use super::manifest;
use crate::oci::{Descriptor, Digest, Index};
use crate::store::Store;

/// The largest index that is read, in bytes.
const INDEX_MAX: u64 = 8 << 20;
/// How deep indexes may stand within indexes.
const DEPTH_MAX: usize = 4;

/// Lists the digests of an image or index and of all that it names, itself
/// first, each once. What an index names and the store lacks is left out: an
/// index is fetched for some platforms only.
pub fn closure(store: &Store, descriptor: &Descriptor) -> Result<Vec<Digest>> {
    let (mut all, mut met) = (Vec::new(), BTreeSet::new());
    collect(store, descriptor, 0, &mut |digest| {
        if met.insert(digest) {
            all.push(digest);
        }
    })?;
    Ok(all)
}

fn collect(
    store: &Store,
    descriptor: &Descriptor,
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
    for inner in index.manifests.iter().filter(|inner| store.has(&inner.digest)) {
        collect(store, inner, depth + 1, found)?;
    }
    Ok(())
}
