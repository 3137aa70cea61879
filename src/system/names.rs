//! Which images a manifest names, and what they are called in records.

use std::collections::BTreeSet;

use crate::manifest::{Manifest, Volume};
use crate::oci::{ANNOTATION_REF_NAME, Descriptor, Reference};

/// Lists every image whose files a manifest needs. Volumes that hold an
/// image as a layout need no files of it.
pub fn references(manifest: &Manifest) -> BTreeSet<Reference> {
    let kernel = manifest.kernel.iter().filter_map(|kernel| kernel.image.as_ref());
    let containers = manifest.containers().map(|container| &container.image);
    let volumes = manifest.volumes.iter().filter_map(Volume::files);
    let all = kernel.chain(&manifest.init).chain(containers).chain(volumes);
    all.map(|reference| reference.value.clone()).collect()
}

/// Returns the full name of an image: the same wherever the build runs, so
/// that no path of this machine gets into a record.
pub fn name(reference: &Reference, descriptor: &Descriptor) -> String {
    match reference {
        Reference::Image(_) | Reference::Debian(_) => reference.to_string(),
        _ => match descriptor.annotations.get(ANNOTATION_REF_NAME) {
            Some(name) => name.clone(),
            None => descriptor.digest.to_string(),
        },
    }
}
