//! An archive that `docker save` wrote, old style or new: `docker-archive:FILE[:REF]`.
//!
//! Its `manifest.json` names a config and the layers as files, which are made
//! into an OCI manifest. Follows Docker Image Specification 1.2, "Combined
//! Image JSON + Filesystem Changeset Format".

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::choose::{self, DOCUMENT_MAX, platform_of_config};
use super::files::Files;
use super::layout::split_tag;
use super::{Source, limited};
use crate::error::{WithHint, WrongPlatform};
use crate::oci::{
    Config, Descriptor, ImageRef, MEDIA_CONFIG, MEDIA_LAYER, MEDIA_MANIFEST, Manifest, Platform,
    Reference,
};
use crate::store::Store;

/// Answers references to docker archives.
#[derive(Clone, Debug)]
pub struct Archive {
    store: Store,
}

impl Archive {
    /// Brings images from archives into a store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    fn find(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        let Reference::Archive(place) = reference else {
            return Ok(None);
        };
        let (path, name) = split_tag(place);
        let files = Files::open(&path, &self.store)?;
        let images = list(&files)?;
        let full = name.map(|name| name.parse::<ImageRef>()).transpose()?;
        let full = full.map(|name| name.to_string());
        let fits = |image: &&Saved| full.as_ref().is_none_or(|name| image.names().contains(name));
        let fitting: Vec<&Saved> = images.iter().filter(fits).collect();
        let names = || {
            let names: Vec<String> = images.iter().flat_map(Saved::names).collect();
            format!("it has {}", names.join(", "))
        };
        ensure_one(&fitting, &path.display().to_string()).hint(names)?;
        convert(fitting[0], &files, &self.store).map(Some)
    }
}

fn ensure_one(fitting: &[&Saved], place: &str) -> Result<()> {
    ensure!(
        fitting.len() == 1,
        "expected one image of that name in {place}, found {}",
        fitting.len()
    );
    Ok(())
}

impl Source for Archive {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Option<Descriptor>> {
        let found = self.find(reference)?;
        if let Some(offered) = found.as_ref().and_then(|found| found.platform.as_ref())
            && !platform.accepts(offered)
        {
            let (what, wanted) = (reference.to_string(), platform.to_string());
            return Err(WrongPlatform { what, wanted, offered: vec![offered.to_string()] }.into());
        }
        Ok(found)
    }

    // Digests are known only once all was read: nothing is left to fetch.
    fn fetch(&self, _reference: &Reference, descriptor: &Descriptor, store: &Store) -> Result<()> {
        choose::manifest(store, &descriptor.digest).map(drop)
    }

    fn resolve_index(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        self.find(reference)
    }
}

/// An image of the archive's `manifest.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

impl Saved {
    /// Returns the full names.
    pub(super) fn names(&self) -> Vec<String> {
        let tags = self.repo_tags.iter().flatten();
        tags.filter_map(|tag| tag.parse::<ImageRef>().ok()).map(|name| name.to_string()).collect()
    }
}

/// Reads what images an archive has.
pub(super) fn list(files: &Files) -> Result<Vec<Saved>> {
    let bytes = files.read("manifest.json", DOCUMENT_MAX)?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("reading manifest.json of {}", files.path().display()))
}

/// Brings an image of an archive into the store under an OCI manifest.
pub(super) fn convert(image: &Saved, files: &Files, store: &Store) -> Result<Descriptor> {
    limited(&image.layers, "layers in an image")?;
    let bytes = files.read(&image.config, DOCUMENT_MAX)?;
    let config: Config = serde_json::from_slice(&bytes)
        .with_context(|| format!("reading {} of {}", image.config, files.path().display()))?;
    let diff_ids = &config.rootfs.diff_ids;
    ensure!(
        diff_ids.len() == image.layers.len(),
        "{}: expected {} layers, as its config says, got {}",
        image.config,
        diff_ids.len(),
        image.layers.len()
    );
    let mut layers = Vec::new();
    for (name, expected) in image.layers.iter().zip(diff_ids) {
        let mut file = files.file(name)?;
        let mut head = Vec::new();
        file.by_ref().take(6).read_to_end(&mut head).context("reading a layer")?;
        let ending = compression(&head);
        let mut whole = head.as_slice().chain(file);
        let (digest, size) =
            store.put_from(&mut whole).with_context(|| format!("copying layer {name}"))?;
        ensure!(
            !ending.is_empty() || digest == *expected,
            "layer {name}: expected {expected}, as its config says, got {digest}"
        );
        layers.push(Descriptor::new(&format!("{MEDIA_LAYER}{ending}"), digest, size));
    }
    let size = bytes.len() as u64;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MEDIA_MANIFEST.into()),
        config: Descriptor::new(MEDIA_CONFIG, store.put(&bytes)?, size),
        layers,
        annotations: BTreeMap::new(),
    };
    let bytes = serde_json::to_vec(&manifest).context("writing a manifest")?;
    let mut found = Descriptor::new(MEDIA_MANIFEST, store.put(&bytes)?, bytes.len() as u64);
    found.platform = platform_of_config(config);
    Ok(found)
}

/// The ending of a layer's media type, by its first bytes.
fn compression(head: &[u8]) -> &'static str {
    match head {
        [0x1f, 0x8b, ..] => "+gzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "+zstd",
        _ => "",
    }
}
