//! Statements about images: what BuildKit attests beside them.
//!
//! Follows BuildKit's "Image Attestation Storage": an entry of the index that
//! points to the image by annotations. Only bills of materials are of use.

use anyhow::Result;

use super::choose;
use crate::oci::{Descriptor, Digest, Index};
use crate::store::Store;

/// The annotation that says what an entry of an index is about.
const TYPE: &str = "vnd.docker.reference.type";
const ATTESTATION: &str = "attestation-manifest";
const SUBJECT: &str = "vnd.docker.reference.digest";
/// The annotation of a layer that says what it states.
const PREDICATE: &str = "in-toto.io/predicate-type";
const SPDX: &str = "https://spdx.dev/Document";
/// Under which a pinned image remembers its statements.
const REMEMBERED: &str = "moby.attestation";

/// Notes on a pinned image where its index keeps the statements about it.
pub(super) fn remember(pinned: &mut Descriptor, index: &Index) {
    let about = |entry: &&Descriptor| {
        let note = |key: &str| entry.annotations.get(key).map(String::as_str);
        note(TYPE) == Some(ATTESTATION) && note(SUBJECT) == Some(&pinned.digest.to_string())
    };
    let found = index.manifests.iter().find(about);
    let text = found.and_then(|entry| serde_json::to_string(entry).ok());
    if let Some(text) = text {
        pinned.annotations.insert(REMEMBERED.into(), text);
    }
}

/// Returns where the statements about a pinned image are kept.
pub(super) fn remembered(pinned: &Descriptor) -> Option<Descriptor> {
    serde_json::from_str(pinned.annotations.get(REMEMBERED)?).ok()
}

/// Lists the store's blobs that state what is in an image.
pub fn statements(store: &Store, pinned: &Descriptor) -> Result<Vec<Digest>> {
    let Some(kept) = remembered(pinned).filter(|kept| store.has(&kept.digest)) else {
        return Ok(Vec::new());
    };
    let manifest = choose::manifest(store, &kept.digest)?;
    let about = |layer: &&Descriptor| {
        layer.annotations.get(PREDICATE).is_some_and(|predicate| predicate == SPDX)
    };
    let there = |layer: &&Descriptor| store.has(&layer.digest);
    Ok(manifest.layers.iter().filter(about).filter(there).map(|layer| layer.digest).collect())
}
