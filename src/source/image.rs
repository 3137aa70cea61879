//! Writes an image's own documents for layers that are in the store.
//!
//! Follows OCI Image Format Specification 1.1. Layers are uncompressed, so
//! that a layer's digest is its diff ID as well.

use anyhow::{Context, Result};

use crate::oci::{
    Config, Descriptor, MEDIA_CONFIG, MEDIA_MANIFEST, Manifest, Platform, Process, RootFs,
};
use crate::store::Store;

/// Puts the config and the manifest of an image into the store and returns
/// the manifest's descriptor, with its platform. The same parts always come
/// to the same digest.
pub fn put_image(
    store: &Store,
    platform: &Platform,
    process: Process,
    layers: Vec<Descriptor>,
) -> Result<Descriptor> {
    let diff_ids = layers.iter().map(|layer| layer.digest).collect();
    let config = Config {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        config: process,
        rootfs: RootFs { kind: "layers".into(), diff_ids },
    };
    let config = serde_json::to_vec(&config).context("writing an image's config")?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MEDIA_MANIFEST.into()),
        config: Descriptor::new(MEDIA_CONFIG, store.put(&config)?, config.len() as u64),
        layers,
        annotations: std::collections::BTreeMap::new(),
    };
    let manifest = serde_json::to_vec(&manifest).context("writing an image's manifest")?;
    let digest = store.put(&manifest)?;
    let mut made = Descriptor::new(MEDIA_MANIFEST, digest, manifest.len() as u64);
    made.platform = Some(platform.clone());
    Ok(made)
}

/// Says whether an image is in the store with all its parts.
pub fn is_whole(store: &Store, image: &Descriptor) -> bool {
    let Ok(bytes) = store.read(&image.digest, 16 << 20) else {
        return false;
    };
    let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else {
        return false;
    };
    let layer = |blob: &Descriptor| store.has(&blob.digest) || store.has_layer(&blob.digest);
    store.has(&manifest.config.digest) && manifest.layers.iter().all(layer)
}
