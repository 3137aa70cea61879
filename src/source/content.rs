//! Sources that hold images as blobs by digest: what they have in common.
//!
//! A registry and a layout differ in how a name becomes a digest and in how
//! the bytes of a digest arrive. The rest, choosing a platform and bringing
//! all blobs at once, is the same and stands here.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, ensure};

use super::choose::{self, DOCUMENT_MAX, Document};
use super::parallel::{Permits, each};
use super::{Arrived, Source};
use crate::error::is_not_found;
use crate::oci::{Descriptor, Digest, Platform, Reference};
use crate::store::{Store, is_damage};

/// How deep indexes may be nested.
const DEPTH_MAX: usize = 4;

/// Images as blobs by digest, somewhere else.
pub(super) trait Content: fmt::Debug + Send + Sync {
    /// Returns the index or manifest that a reference names, which the store
    /// has afterwards, or `None` to let the next source answer.
    fn root(&self, reference: &Reference) -> Result<Option<Descriptor>>;

    /// Brings one blob into the store.
    fn bring(&self, reference: &Reference, blob: &Descriptor, store: &Store) -> Result<()>;

    /// Hears that all of an image is in the store.
    fn fetched(&self, reference: &Reference, store: &Store) -> Result<()>;

    /// Returns the store that documents go to.
    fn store(&self) -> &Store;

    /// Returns how many blobs come at once.
    fn permits(&self) -> &Permits;
}

impl<C: Content> Source for C {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Option<Descriptor>> {
        let Some(root) = self.root(reference)? else {
            return Ok(None);
        };
        let read = |blob: &Descriptor| document(self, reference, blob, self.store());
        let chosen = choose::choose(reference, &root, platform, &read)?;
        document(self, reference, &chosen, self.store())?;
        Ok(Some(chosen))
    }

    fn fetch(&self, reference: &Reference, descriptor: &Descriptor, store: &Store) -> Result<()> {
        self.fetch_each(reference, descriptor, store, &|_| Ok(()))
    }

    fn fetch_each(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        store: &Store,
        arrived: &Arrived<'_>,
    ) -> Result<()> {
        bring_all(self, reference, descriptor, store, arrived, false)?;
        self.fetched(reference, store)
    }

    fn resolve_index(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        let Some(root) = self.root(reference)? else {
            return Ok(None);
        };
        document(self, reference, &root, self.store())?;
        Ok(Some(root))
    }
}

/// Returns the bytes of a small blob, brought where the store lacks it.
fn document<C: Content + ?Sized>(
    content: &C,
    reference: &Reference,
    blob: &Descriptor,
    store: &Store,
) -> Result<Vec<u8>> {
    ensure!(
        blob.size <= DOCUMENT_MAX,
        "{}: expected at most {DOCUMENT_MAX} bytes, got {}",
        blob.digest,
        blob.size
    );
    if store.has(&blob.digest) {
        match store.read(&blob.digest, DOCUMENT_MAX) {
            Err(error) if is_damage(&error) => {}
            other => return other,
        }
    }
    content.bring(reference, blob, store)?;
    store.read(&blob.digest, DOCUMENT_MAX)
}

/// Brings all that an index or a manifest names. A `sparse` index may name
/// images that are not there, though not all of them.
pub(super) fn bring_all<C: Content + ?Sized>(
    content: &C,
    reference: &Reference,
    descriptor: &Descriptor,
    store: &Store,
    arrived: &Arrived<'_>,
    sparse: bool,
) -> Result<()> {
    let mut blobs = BTreeMap::new();
    let read = |blob: &Descriptor| document(content, reference, blob, store);
    gather(descriptor, &read, sparse, &mut blobs, 0)?;
    // The largest first, so that the last one to end is a small one.
    let mut blobs: Vec<(Descriptor, bool)> = blobs.into_values().collect();
    blobs.sort_by_key(|(blob, _)| std::cmp::Reverse(blob.size));
    each(BLOBS_AT_ONCE, &blobs, |(blob, is_layer)| {
        // An unpacked layer serves as well as its blob does, but for export.
        if !store.has(&blob.digest) {
            let _permit = content.permits().take();
            content
                .bring(reference, blob, store)
                .with_context(|| format!("fetching blob {}", blob.digest))?;
        }
        if *is_layer { arrived(blob) } else { Ok(()) }
    })?;
    Ok(())
}

/// How many threads see to the blobs of one image.
const BLOBS_AT_ONCE: usize = 6;

fn gather(
    at: &Descriptor,
    read: &choose::Read<'_>,
    sparse: bool,
    blobs: &mut BTreeMap<Digest, (Descriptor, bool)>,
    depth: usize,
) -> Result<()> {
    ensure!(depth < DEPTH_MAX, "expected at most {DEPTH_MAX} indexes within each other");
    let bytes = read(at)?;
    match Document::parse(&bytes).with_context(|| format!("reading {}", at.digest))? {
        Document::Index(index) => {
            let mut absent = None;
            let mut present = index.manifests.is_empty();
            for entry in &index.manifests {
                match gather(entry, read, sparse, blobs, depth + 1) {
                    Err(error) if sparse && is_not_found(&error) => absent = Some(error),
                    other => {
                        other?;
                        present = true;
                    }
                }
            }
            absent.filter(|_| !present).map_or(Ok(()), Err)
        }
        Document::Manifest(manifest) => {
            blobs.entry(manifest.config.digest).or_insert((manifest.config, false));
            for layer in manifest.layers {
                blobs.insert(layer.digest, (layer, true));
            }
            Ok(())
        }
    }
}
