//! The store as the first source: what it has under a name is used without
//! asking anyone.

use anyhow::Result;

use super::Source;
use super::choose::{self, DOCUMENT_MAX, Document};
use crate::error::{NotFound, WithHint, is_not_found};
use crate::oci::{Descriptor, MEDIA_INDEX, MEDIA_MANIFEST, Platform, Reference};
use crate::store::{Store, is_damage};

/// Images that were fetched or imported before.
#[derive(Clone, Debug)]
pub struct Named {
    store: Store,
}

impl Named {
    /// Answers from a store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    fn root(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        let Reference::Image(image) = reference else {
            return Ok(None);
        };
        let Some(digest) = image.digest else {
            return self.store.named(&reference.to_string());
        };
        // A digest is its own proof: whatever name it came under will do.
        if !self.store.has(&digest) {
            return Ok(None);
        }
        let bytes = self.store.read(&digest, DOCUMENT_MAX)?;
        let kind = match Document::parse(&bytes)? {
            Document::Index(_) => MEDIA_INDEX,
            Document::Manifest(_) => MEDIA_MANIFEST,
        };
        Ok(Some(Descriptor::new(kind, digest, bytes.len() as u64)))
    }

    fn read(&self, blob: &Descriptor) -> Result<Vec<u8>> {
        self.store.read(&blob.digest, DOCUMENT_MAX)
    }

    fn check(&self, at: &Descriptor) -> Result<()> {
        match Document::parse(&self.read(at)?)? {
            Document::Index(index) => {
                index.manifests.iter().try_for_each(|entry| self.check(entry))
            }
            Document::Manifest(manifest) => {
                let blobs = manifest.layers.iter().chain([&manifest.config]);
                let missing = blobs.map(|blob| blob.digest).find(|digest| !self.store.has(digest));
                missing.map_or(Ok(()), |digest| {
                    let place = format!("the cache {}", self.store.root().display());
                    Err(NotFound { what: digest.to_string(), place }.into())
                })
            }
        }
    }
}

impl Source for Named {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Option<Descriptor>> {
        let resolve = || {
            let Some(root) = self.root(reference)? else {
                return Ok(None);
            };
            let chosen =
                choose::choose(reference, &root, platform, &|blob: &Descriptor| self.read(blob));
            let chosen = chosen.hint(|| {
                "build for one of these with --arch, or ask the registry again with --pull".into()
            })?;
            self.check(&chosen)?;
            Ok(Some(chosen))
        };
        match resolve() {
            // Half an image is no image: the next source completes it.
            Err(error) if is_not_found(&error) || is_damage(&error) => Ok(None),
            other => other,
        }
    }

    fn fetch(&self, _reference: &Reference, descriptor: &Descriptor, _store: &Store) -> Result<()> {
        self.check(descriptor)
    }

    fn resolve_index(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        match self.root(reference) {
            Err(error) if is_not_found(&error) || is_damage(&error) => Ok(None),
            other => other,
        }
    }
}
