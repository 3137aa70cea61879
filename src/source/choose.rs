//! Index and manifest documents, and which one of an index is for a platform.
//!
//! Follows OCI Image Format Specification 1.1, "Image Index"; Docker's
//! manifest lists and nested indexes read the same. Schema 1 is refused.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{limited, statements};
use crate::error::WrongPlatform;
use crate::oci::{Config, Descriptor, Digest, Index, Manifest, Platform, Reference};
use crate::store::Store;

/// The largest index, manifest or config that is read, in bytes: the limit
/// that the Distribution specification suggests.
pub const DOCUMENT_MAX: u64 = 4 << 20;
/// How deep indexes may be nested.
const DEPTH_MAX: usize = 4;

/// What a digest of a registry or a layout can lead to.
#[derive(Clone, Debug)]
pub enum Document {
    /// Many platforms.
    Index(Index),
    /// One image.
    Manifest(Manifest),
}

impl Document {
    /// Reads either kind, told apart by their fields: media types are
    /// optional, and some registries answer with wrong ones.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Probe {
            #[serde(default)]
            schema_version: u32,
            manifests: Option<IgnoredAny>,
            layers: Option<IgnoredAny>,
            config: Option<IgnoredAny>,
        }
        let probe: Probe = serde_json::from_slice(bytes).context("reading an image manifest")?;
        ensure!(
            probe.schema_version == 2,
            "expected an image manifest of schema version 2, got {}",
            probe.schema_version
        );
        let image = probe.layers.is_some() || probe.config.is_some();
        match (probe.manifests.is_some(), image) {
            (true, false) => {
                let index: Index =
                    serde_json::from_slice(bytes).context("reading an image index")?;
                limited(&index.manifests, "images in an index")?;
                Ok(Self::Index(index))
            }
            (false, true) => {
                let manifest: Manifest =
                    serde_json::from_slice(bytes).context("reading an image manifest")?;
                limited(&manifest.layers, "layers in an image")?;
                Ok(Self::Manifest(manifest))
            }
            // Both at once would be read otherwise by another tool.
            _ => bail!("expected either an image index or an image manifest"),
        }
    }
}

/// How the bytes of a small blob are had.
pub(super) type Read<'a> = dyn Fn(&Descriptor) -> Result<Vec<u8>> + 'a;

/// Returns the manifest for a platform below `root`, an index or a manifest.
pub(super) fn choose(
    reference: &Reference,
    root: &Descriptor,
    platform: &Platform,
    read: &Read<'_>,
) -> Result<Descriptor> {
    let mut offered = BTreeSet::new();
    let found = search(root, platform, read, &mut offered, 0)?;
    found.ok_or_else(|| {
        WrongPlatform {
            what: reference.to_string(),
            wanted: platform.to_string(),
            offered: offered.into_iter().collect(),
        }
        .into()
    })
}

fn search(
    at: &Descriptor,
    platform: &Platform,
    read: &Read<'_>,
    offered: &mut BTreeSet<String>,
    depth: usize,
) -> Result<Option<Descriptor>> {
    ensure!(depth < DEPTH_MAX, "expected at most {DEPTH_MAX} indexes within each other");
    if let Some(given) = &at.platform
        && !at.is_index()
    {
        offered.insert(given.to_string());
        return Ok(platform.accepts(given).then(|| pinned(at, Some(given))));
    }
    let bytes = read(at)?;
    match Document::parse(&bytes).with_context(|| format!("reading {}", at.digest))? {
        Document::Index(index) => {
            for entry in &index.manifests {
                if let Some(mut found) = search(entry, platform, read, offered, depth + 1)? {
                    statements::remember(&mut found, &index);
                    return Ok(Some(found));
                }
            }
            Ok(None)
        }
        Document::Manifest(manifest) => {
            let given = platform_of(&manifest, read)?;
            let Some(given) = given else { return Ok(Some(pinned(at, None))) };
            offered.insert(given.to_string());
            Ok(platform.accepts(&given).then(|| pinned(at, Some(&given))))
        }
    }
}

/// The platform that an image's config states, if it states one.
fn platform_of(manifest: &Manifest, read: &Read<'_>) -> Result<Option<Platform>> {
    let bytes = read(&manifest.config)?;
    let config: Config = serde_json::from_slice(&bytes)
        .with_context(|| format!("reading the image config {}", manifest.config.digest))?;
    Ok(platform_of_config(config))
}

/// The platform that a config states, if it states one.
pub(super) fn platform_of_config(config: Config) -> Option<Platform> {
    let stated = !config.architecture.is_empty();
    let os = if config.os.is_empty() { "linux".into() } else { config.os };
    stated.then_some(Platform { architecture: config.architecture, os, variant: None })
}

// Annotations of an index's entry are its business, not the image's.
fn pinned(at: &Descriptor, platform: Option<&Platform>) -> Descriptor {
    let mut found = Descriptor::new(&at.media_type, at.digest, at.size);
    found.platform = platform.cloned();
    found
}

/// Reads a manifest of the store.
pub(super) fn manifest(store: &Store, digest: &Digest) -> Result<Manifest> {
    match Document::parse(&store.read(digest, DOCUMENT_MAX)?)? {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(_) => bail!("{digest}: expected an image manifest, got an index"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_documents_apart() {
        let digest = Digest::of(b"");
        let blob = format!(r#"{{"digest":"{digest}","size":0}}"#);
        let manifest = format!(r#"{{"schemaVersion":2,"config":{blob},"layers":[{blob}]}}"#);
        let parse = |text: &str| Document::parse(text.as_bytes());
        assert!(matches!(parse(&manifest), Ok(Document::Manifest(_))));
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{blob}]}}"#);
        assert!(matches!(parse(&index), Ok(Document::Index(_))));
        let both = format!(r#"{{"schemaVersion":2,"manifests":[],"config":{blob},"layers":[]}}"#);
        for bad in ["", "[]", "{}", r#"{"schemaVersion":1}"#, &both, r#"{"schemaVersion":2}"#] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
