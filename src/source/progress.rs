//! What a source tells while it works. The command line renders it; nothing
//! here prints.

use std::fmt;

use crate::oci::{Descriptor, Digest, ImageRef, Reference};

/// What is being done with a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It comes from elsewhere.
    Fetch,
    /// It is a layer that is being unpacked and indexed.
    Unpack,
}

/// A piece of work that takes long enough to be shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// The image, as the manifest names it.
    pub image: String,
    /// The blob.
    pub digest: Digest,
    /// What is being done with it.
    pub stage: Stage,
    /// Its size in bytes, as fetched.
    pub total: u64,
}

impl Item {
    pub(super) fn fetch(reference: &Reference, blob: &Descriptor) -> Self {
        Self::new(reference, blob, Stage::Fetch)
    }

    pub(super) fn unpack(reference: &Reference, blob: &Descriptor) -> Self {
        Self::new(reference, blob, Stage::Unpack)
    }

    fn new(reference: &Reference, blob: &Descriptor, stage: Stage) -> Self {
        // A digest beside a tag is the lock's, and too long for people.
        let image = match reference {
            Reference::Image(image) if image.tag.is_some() => {
                ImageRef { digest: None, ..image.clone() }.to_string()
            }
            other => other.to_string(),
        };
        Self { image, digest: blob.digest, stage, total: blob.size }
    }
}

/// Hears what happens, from any thread. Each item is started and finished
/// once, unless an error ends the run.
pub trait Progress: fmt::Debug + Send + Sync {
    /// Work on an item begins.
    fn started(&self, _item: &Item) {}
    /// An item has come to `done` bytes in all; it may go back to 0.
    fn advanced(&self, _item: &Item, _done: u64) {}
    /// Work on an item is done.
    fn finished(&self, _item: &Item) {}
    /// Something that people want to know, such as a second attempt.
    fn note(&self, _text: &str) {}
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
