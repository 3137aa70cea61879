//! An OCI layout on disk, a folder or a tar of one: `oci:DIR[:TAG]`.
//!
//! Follows OCI Image Layout Specification 1.1.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::content::Content;
use super::files::Files;
use super::limited;
use super::parallel::Permits;
use crate::error::WithHint;
use crate::oci::{
    ANNOTATION_REF_NAME, Descriptor, Digest, ImageRef, Index, MEDIA_INDEX, Reference,
};
use crate::store::Store;

/// The largest `index.json` that is read, in bytes.
const INDEX_MAX: u64 = 64 << 20;
/// Where containerd and Docker put the full name of an image.
const ANNOTATION_IMAGE_NAME: &str = "io.containerd.image.name";

/// Answers references to OCI layouts.
#[derive(Debug)]
pub struct Layout {
    store: Store,
    permits: Permits,
}

impl Layout {
    /// Brings images from layouts into a store.
    pub fn new(store: Store) -> Self {
        Self { store, permits: Permits::new(2) }
    }

    fn opened(&self, place: &str) -> Result<(Opened, Option<String>)> {
        let (path, tag) = split_tag(place);
        Ok((Opened::open(&path, &self.store)?, tag))
    }
}

impl Content for Layout {
    fn root(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        let Reference::Layout(place) = reference else {
            return Ok(None);
        };
        let (layout, tag) = self.opened(place)?;
        layout.find(tag.as_deref()).map(Some)
    }

    fn bring(&self, reference: &Reference, blob: &Descriptor, store: &Store) -> Result<()> {
        let Reference::Layout(place) = reference else {
            bail!("{reference}: expected a layout");
        };
        self.opened(place)?.0.bring(reference, blob, store)
    }

    fn fetched(&self, _reference: &Reference, _store: &Store) -> Result<()> {
        Ok(())
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn permits(&self) -> &Permits {
        &self.permits
    }
}

/// A layout, open.
#[derive(Debug)]
pub(super) struct Opened {
    files: Files,
    index: Index,
    store: Store,
    permits: Permits,
}

impl Opened {
    pub(super) fn open(path: &Path, store: &Store) -> Result<Self> {
        Self::new(Files::open(path, store)?, store)
    }

    pub(super) fn new(files: Files, store: &Store) -> Result<Self> {
        let reading = || format!("reading index.json of {}", files.path().display());
        let bytes = files.read("index.json", INDEX_MAX)?;
        let index: Index = serde_json::from_slice(&bytes).with_context(reading)?;
        // An index.json with thousands of images is a shared layout, not an attack.
        let permits = Permits::new(2);
        Ok(Self { files, index, store: store.clone(), permits })
    }

    /// Returns the images and their full names.
    pub(super) fn named(&self) -> Result<Vec<(String, Descriptor)>> {
        let named = self.index.manifests.iter().filter_map(|image| Some((name_of(image)?, image)));
        named
            .map(|(name, image)| {
                let full: ImageRef = name.parse().with_context(|| {
                    format!("reading a name of {}", self.files.path().display())
                })?;
                let mut image = image.clone();
                image.annotations.clear();
                Ok((full.to_string(), image))
            })
            .collect()
    }

    fn find(&self, tag: Option<&str>) -> Result<Descriptor> {
        let all = &self.index.manifests;
        let names: BTreeSet<&str> = all.iter().filter_map(name_of).collect();
        let place = self.files.path().display();
        if let Some(tag) = tag {
            let found = all.iter().find(|image| name_of(image).is_some_and(|name| is(name, tag)));
            let names =
                || format!("it has {}", names.iter().copied().collect::<Vec<_>>().join(", "));
            return found
                .cloned()
                .with_context(|| format!("expected an image `{tag}` in {place}, found none"))
                .hint(names);
        }
        match all.as_slice() {
            [] => bail!("expected an image in {place}, found none"),
            [one] => Ok(one.clone()),
            _ if names.len() > 1 => Err(anyhow::anyhow!("{place} has {} images", all.len()))
                .hint(|| format!("name one as oci:{place}:NAME, such as {}", first(&names))),
            // Several images of one name, or of none, are one for each platform.
            _ => {
                limited(all, "images in an index")?;
                let mut index = self.index.clone();
                index.manifests.iter_mut().for_each(|image| image.annotations.clear());
                let bytes = serde_json::to_vec(&index).context("writing an index")?;
                let digest = self.store.put(&bytes)?;
                Ok(Descriptor::new(MEDIA_INDEX, digest, bytes.len() as u64))
            }
        }
    }
}

impl Content for Opened {
    fn root(&self, _reference: &Reference) -> Result<Option<Descriptor>> {
        Ok(None)
    }

    fn bring(&self, _reference: &Reference, blob: &Descriptor, store: &Store) -> Result<()> {
        let mut file = self.files.file(&blob_name(&blob.digest))?;
        let Some(mut writer) = store.download(blob)? else {
            return Ok(());
        };
        if writer.position() > 0 {
            writer.restart()?;
        }
        let mut buffer = vec![0; 1 << 18];
        loop {
            let n = file
                .read(&mut buffer)
                .with_context(|| format!("reading {}", self.files.path().display()))?;
            if n == 0 {
                break;
            }
            writer.write(&buffer[..n])?;
        }
        writer.finish().with_context(|| format!("copying from {}", self.files.path().display()))
    }

    fn fetched(&self, _reference: &Reference, _store: &Store) -> Result<()> {
        Ok(())
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn permits(&self) -> &Permits {
        &self.permits
    }
}

fn name_of(image: &Descriptor) -> Option<&str> {
    let name = |key| image.annotations.get(key).map(String::as_str);
    name(ANNOTATION_IMAGE_NAME).or_else(|| name(ANNOTATION_REF_NAME))
}

// `ref.name` is a tag to some tools and a full reference to others.
fn is(name: &str, tag: &str) -> bool {
    let full = |text: &str| text.parse::<ImageRef>().ok();
    name == tag
        || full(name).is_some_and(|name| {
            name.tag.as_deref() == Some(tag) || full(tag).is_some_and(|tag| tag == name)
        })
}

fn first<'a>(names: &BTreeSet<&'a str>) -> &'a str {
    names.first().copied().unwrap_or_default()
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Splits `PATH[:TAG]` where only the shorter one is there.
pub(super) fn split_tag(place: &str) -> (PathBuf, Option<String>) {
    let whole = PathBuf::from(place);
    if whole.exists() {
        return (whole, None);
    }
    for (at, _) in place.match_indices(':') {
        let path = PathBuf::from(&place[..at]);
        if path.exists() && at + 1 < place.len() {
            return (path, Some(place[at + 1..].to_owned()));
        }
    }
    (whole, None)
}
