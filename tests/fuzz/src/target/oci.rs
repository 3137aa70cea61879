//! Fuzzes the readers of OCI documents: index, manifest, image config, and the
//! names of images, which come from registries and from manifests.

use moby::oci::{Config, Digest, Index, Manifest, Reference};

/// Reads an input.
pub(crate) fn run(data: &[u8]) {
    drop(serde_json::from_slice::<Config>(data));
    drop(serde_json::from_slice::<Manifest>(data));
    drop(serde_json::from_slice::<Index>(data));
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(Ok(digest), digest.to_string().parse::<Digest>().map_err(|_| ()));
    }
    if let Ok(reference) = text.parse::<Reference>() {
        let shown = reference.to_string();
        let again = shown.parse::<Reference>().unwrap_or_else(|error| panic!("{shown:?}: {error}"));
        assert_eq!(reference, again);
    }
}
