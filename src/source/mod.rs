//! Where images come from: each source answers with an OCI descriptor, so
//! that nothing after this folder knows which one it was.

mod base;
pub mod debian;
mod image;

use std::fmt;

use anyhow::Result;

pub use debian::Debian;
pub use image::put_image;

use crate::oci::{Descriptor, Platform, Reference};
use crate::store::Store;

/// One place that images come from.
pub trait Source: fmt::Debug + Send + Sync {
    /// Pins a reference to the manifest of one platform, which the store has
    /// afterwards, or `None` to let the next source answer.
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Option<Descriptor>>;

    /// Brings everything that `descriptor`, a manifest or an index, names
    /// into the store.
    fn fetch(&self, reference: &Reference, descriptor: &Descriptor, store: &Store) -> Result<()>;
}
