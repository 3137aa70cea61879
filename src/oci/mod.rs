//! The nouns of the OCI image specification: types and parsing, no I/O.
//!
//! Follows the OCI Image Format Specification 1.1 and the Distribution
//! reference grammar. Runtime bundles are `system/`'s business.

mod digest;
mod image;
mod platform;
mod reference;

pub use digest::{Digest, Hasher};
pub use image::{
    ANNOTATION_REF_NAME, Config, Descriptor, Index, MEDIA_CONFIG, MEDIA_INDEX, MEDIA_LAYER,
    MEDIA_MANIFEST, Manifest, Process, RootFs,
};
pub use platform::Platform;
pub use reference::{ImageRef, Reference};
