//! Container images: an OCI layout in a folder or an archive, and what
//! `docker save` writes.
//!
//! Follows OCI Image Layout Specification 1.1, and "Docker Image
//! Specification" 1.2 for the latter. Layers that are no tar archives, such as
//! attestations, are listed and not looked into.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};

use super::archive::add_layer;
use super::span::{Span, Unpacked};
use super::{Image, content, within};
use crate::error::WithHint;
use crate::oci::{ANNOTATION_REF_NAME, Descriptor, Digest, Index, Manifest};
use crate::store;
use crate::tree::{Content, Tree};

/// The largest document that is read, in bytes.
const DOCUMENT_MAX: u64 = 8 << 20;
/// The most images that are looked into.
const IMAGES_MAX: usize = 64;
/// How deep indexes may lie in each other.
const DEPTH_MAX: u32 = 3;

/// A container image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name, where it has one.
    pub name: Option<String>,
    /// The platform that it is for.
    pub platform: Option<String>,
    /// The digest of its manifest.
    pub digest: Option<Digest>,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
}

/// A layer of a container image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// The digest of its blob.
    pub digest: Option<Digest>,
    /// The size of its blob in bytes.
    pub size: u64,
    /// What it is.
    pub media_type: String,
}

/// Where the files of a layout are.
pub(super) trait Files {
    /// Returns a file's contents by its path.
    fn file(&self, path: &str) -> Result<Content>;
}

/// A layout in a tree.
pub(super) struct InTree<'a>(pub(super) &'a Tree);

impl Files for InTree<'_> {
    fn file(&self, path: &str) -> Result<Content> {
        let found = content(self.0, path.as_bytes()).cloned();
        found.with_context(|| format!("expected {path} in the layout, found none"))
    }
}

/// A layout in a folder on disk.
struct InFolder<'a>(&'a Path);

impl Files for InFolder<'_> {
    fn file(&self, path: &str) -> Result<Content> {
        let full = self.0.join(path);
        ensure!(full.is_file(), "expected {path} in the layout, found none");
        let file = File::open(full).with_context(|| format!("opening {path}"))?;
        Content::of_file(file)
    }
}

/// Looks at a folder, which must be an OCI layout.
pub(super) fn folder(path: &Path) -> Result<Image> {
    if !path.join("index.json").is_file() {
        return Err(anyhow!("expected a file or an OCI layout, got some other folder"))
            .hint(|| "name a file in it".to_owned());
    }
    let mut image = Image { kinds: vec!["OCI layout".to_owned()], ..Image::default() };
    let blobs = path.join("blobs/sha256");
    for entry in fs::read_dir(&blobs).with_context(|| format!("reading {}", blobs.display()))? {
        let meta = entry.and_then(|entry| entry.metadata()).context("measuring a blob")?;
        image.size += meta.len();
        image.allocated += meta.blocks() * 512;
    }
    image.add_layout(&InFolder(path))?;
    Ok(image)
}

/// Layers by digest, unpacked already.
type Known = BTreeMap<Digest, Span>;

impl Image {
    /// Adds the images of a layout.
    pub(super) fn add_layout(&mut self, files: &dyn Files) -> Result<()> {
        let bytes = files.file("index.json")?.gather(DOCUMENT_MAX)?;
        let index: Index = serde_json::from_slice(&bytes).context("reading index.json")?;
        let mut known = Known::new();
        self.add_index(files, &index, None, 0, &mut known)?;
        ensure!(!self.images.is_empty(), "expected images in the layout, found none");
        Ok(())
    }

    fn add_index(
        &mut self,
        files: &dyn Files,
        index: &Index,
        name: Option<&str>,
        depth: u32,
        known: &mut Known,
    ) -> Result<()> {
        ensure!(depth < DEPTH_MAX, "expected at most {DEPTH_MAX} indexes in each other");
        for found in &index.manifests {
            let given = found.annotations.get(ANNOTATION_REF_NAME).map(String::as_str);
            let name = given.or(name);
            let bytes = files.file(&blob(&found.digest))?.gather(DOCUMENT_MAX)?;
            ensure!(Digest::of(&bytes) == found.digest, "expected {} by its digest", found.digest);
            let reading = || format!("reading {}", found.digest);
            if found.is_index() {
                let inner: Index = serde_json::from_slice(&bytes).with_context(reading)?;
                self.add_index(files, &inner, name, depth + 1, known)?;
            } else {
                let manifest: Manifest = serde_json::from_slice(&bytes).with_context(reading)?;
                self.add_image(files, found, &manifest, name, known).with_context(reading)?;
            }
        }
        Ok(())
    }

    fn add_image(
        &mut self,
        files: &dyn Files,
        found: &Descriptor,
        manifest: &Manifest,
        name: Option<&str>,
        known: &mut Known,
    ) -> Result<()> {
        ensure!(self.images.len() < IMAGES_MAX, "expected at most {IMAGES_MAX} images");
        let layer = |blob: &Descriptor| Layer {
            digest: Some(blob.digest),
            size: blob.size,
            media_type: blob.media_type.clone(),
        };
        let platform = found.platform.as_ref().map(ToString::to_string);
        self.images.push(Listed {
            name: name.map(str::to_owned),
            platform: platform.clone(),
            digest: Some(found.digest),
            layers: manifest.layers.iter().map(layer).collect(),
        });
        if !manifest.layers.iter().all(|layer| layer.media_type.contains(".tar")) {
            return Ok(());
        }
        let mut tree = Tree::new();
        for layer in &manifest.layers {
            let span = match known.get(&layer.digest) {
                Some(span) => span.clone(),
                None => {
                    let content = files.file(&blob(&layer.digest))?;
                    let got = content.digest()?;
                    let wanted = layer.digest;
                    ensure!(got == wanted, "layer {wanted}: expected its digest, got {got}");
                    unpacked(&Span::of_content(&content)?)?
                }
            };
            add_layer(&mut tree, &span).with_context(|| format!("layer {}", layer.digest))?;
            known.insert(layer.digest, span);
        }
        let place = within("image", name.unwrap_or(&found.digest.short()));
        let taken = self.volumes.iter().any(|volume| volume.place == place);
        let more = platform.unwrap_or_else(|| found.digest.short());
        let place = if taken { format!("{place} ({more})") } else { place };
        self.add_root(place, "OCI image", tree)
    }

    /// Adds the images of what `docker save` wrote.
    pub(super) fn add_docker(&mut self, tree: &Tree, manifest: &Content) -> Result<()> {
        let bytes = manifest.gather(DOCUMENT_MAX)?;
        let all: Vec<Saved> = serde_json::from_slice(&bytes).context("reading manifest.json")?;
        ensure!(all.len() <= IMAGES_MAX, "expected at most {IMAGES_MAX} images");
        for saved in all {
            let (mut root, mut layers) = (Tree::new(), Vec::new());
            for path in &saved.layers {
                let blob = InTree(tree).file(path)?;
                let media_type = "tar".to_owned();
                layers.push(Layer { digest: Some(blob.digest()?), size: blob.len(), media_type });
                let span = unpacked(&Span::of_content(&blob)?)?;
                add_layer(&mut root, &span).with_context(|| format!("layer {path}"))?;
            }
            let name = saved.tags.and_then(|tags| tags.into_iter().next());
            let number = (self.images.len() + 1).to_string();
            let place = within("image", name.as_deref().unwrap_or(&number));
            self.images.push(Listed { name, platform: None, digest: None, layers });
            self.add_root(place, "OCI image", root)?;
        }
        Ok(())
    }
}

/// An image of `manifest.json`.
#[derive(Deserialize)]
struct Saved {
    #[serde(rename = "RepoTags")]
    tags: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Unpacks a layer; one that is not packed stays where it is.
fn unpacked(span: &Span) -> Result<Span> {
    if super::initrd::compression(&span.bytes(0, 6)?).is_none() {
        return Ok(span.clone());
    }
    let mut plain = Unpacked::new(span.len())?;
    let mut stream = store::decompress(BufReader::with_capacity(1 << 18, span.reader(0)))?;
    io::copy(&mut stream, &mut plain).context("unpacking a layer")?;
    plain.finish()
}
