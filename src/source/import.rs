//! `moby cache import`: images of a file or folder into the store, by name.

use std::path::Path;

use anyhow::{Context, Result};

use super::files::Files;
use super::{archive, content, layout};
use crate::error::{WithHint, is_not_found};
use crate::oci::{Descriptor, Reference};
use crate::store::Store;

/// Brings all images of an OCI layout (a folder, a tar, or a tar under gzip,
/// zstd or xz) or of a docker archive into the store, and names them as they
/// are named there, spelled out in full. Names are given once all is there.
pub fn import(path: &Path, store: &Store) -> Result<Vec<(String, Descriptor)>> {
    let images = read(path, store).with_context(|| format!("importing {}", path.display()))?;
    store.name(images.iter().cloned())?;
    Ok(images)
}

fn read(path: &Path, store: &Store) -> Result<Vec<(String, Descriptor)>> {
    let files = Files::open(path, store)?;
    let images = match files.file("index.json") {
        Ok(_) => import_layout(files, store)?,
        Err(error) if is_not_found(&error) => import_archive(&files, store)?,
        Err(error) => return Err(error),
    };
    if images.is_empty() {
        return Err(anyhow::anyhow!("expected named images, found none")).hint(|| {
            "name them in index.json by the annotation org.opencontainers.image.ref.name".into()
        });
    }
    Ok(images)
}

fn import_layout(files: Files, store: &Store) -> Result<Vec<(String, Descriptor)>> {
    let layout = layout::Opened::new(files, store)?;
    let images = layout.named()?;
    for (name, image) in &images {
        let reference: Reference = name.parse()?;
        content::bring_all(&layout, &reference, image, store, &|_| Ok(()), true)
            .with_context(|| format!("importing {name}"))?;
    }
    Ok(images)
}

fn import_archive(files: &Files, store: &Store) -> Result<Vec<(String, Descriptor)>> {
    let saved =
        archive::list(files).hint(|| "give an OCI layout or what `docker save` writes".into())?;
    let mut images = Vec::new();
    for image in &saved {
        let names = image.names();
        let found = archive::convert(image, files, store)
            .with_context(|| format!("importing {}", names.join(", ")))?;
        images.extend(names.into_iter().map(|name| (name, found.clone())));
    }
    Ok(images)
}
