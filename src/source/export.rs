//! `moby cache export`: an image of the store as one tar, the same bytes
//! every time.
//!
//! Follows OCI Image Layout Specification 1.1 or, for `docker load`, Docker
//! Image Specification 1.2.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use serde_json::json;

use super::choose::{self, DOCUMENT_MAX, Document};
use crate::error::{NotFound, WithHint, is_not_found};
use crate::oci::{
    ANNOTATION_REF_NAME, Config, Descriptor, Digest, ImageRef, Index, MEDIA_INDEX, Platform,
    Reference,
};
use crate::store::Store;

/// How an image is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// An OCI layout, of all platforms unless one is asked for.
    Oci,
    /// What `docker load` reads, of one platform.
    Docker,
}

/// Writes an image of the store as a tar. Without a platform, `Oci` takes
/// all that the store has and `Docker` the host's.
pub fn export(
    store: &Store,
    name: &ImageRef,
    format: ExportFormat,
    platform: Option<&Platform>,
    out: &mut dyn Write,
) -> Result<()> {
    let full = name.to_string();
    let missing = || NotFound { what: full.clone(), place: "the cache".into() };
    let root = store.named(&full)?.ok_or_else(missing);
    let root = root.hint(|| format!("fetch it with `moby cache pull {full}`"))?;
    let reference = Reference::Image(name.clone());
    let read = |blob: &Descriptor| store.read(&blob.digest, DOCUMENT_MAX);
    let host = Platform::host();
    let platform = match format {
        ExportFormat::Oci => platform,
        ExportFormat::Docker => platform.or(Some(&host)),
    };
    let chosen = match platform {
        None => root,
        Some(platform) => choose::choose(&reference, &root, platform, &read)?,
    };
    let mut tar = tar::Builder::new(out);
    match format {
        ExportFormat::Oci => write_layout(store, &full, chosen, &mut tar),
        ExportFormat::Docker => write_archive(store, &full, &chosen, &mut tar),
    }
    .with_context(|| format!("exporting {full}"))?;
    tar.into_inner().and_then(Write::flush).with_context(|| format!("exporting {full}"))
}

type Tar<'a> = tar::Builder<&'a mut dyn Write>;

fn write_layout(store: &Store, name: &str, mut root: Descriptor, tar: &mut Tar<'_>) -> Result<()> {
    let mut blobs = BTreeSet::new();
    gather(store, &root, true, &mut blobs)?;
    root.annotations = BTreeMap::from([(ANNOTATION_REF_NAME.to_owned(), name.to_owned())]);
    let index =
        Index { schema_version: 2, media_type: Some(MEDIA_INDEX.into()), manifests: vec![root] };
    append(tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(tar, "index.json", &serde_json::to_vec(&index).context("writing an index")?)?;
    for digest in blobs {
        append_file(tar, &format!("blobs/sha256/{}", digest.hex()), &store.open_blob(&digest)?)?;
    }
    Ok(())
}

fn gather(
    store: &Store,
    at: &Descriptor,
    is_root: bool,
    blobs: &mut BTreeSet<Digest>,
) -> Result<()> {
    let bytes = match store.read(&at.digest, DOCUMENT_MAX) {
        // Platforms that were never fetched stay behind.
        Err(error) if !is_root && is_not_found(&error) => return Ok(()),
        other => other?,
    };
    if !blobs.insert(at.digest) {
        return Ok(());
    }
    match Document::parse(&bytes)? {
        Document::Index(index) => {
            index.manifests.iter().try_for_each(|entry| gather(store, entry, false, blobs))
        }
        Document::Manifest(manifest) => {
            let whole = manifest.layers.iter().chain([&manifest.config]);
            blobs.extend(whole.map(|blob| blob.digest));
            Ok(())
        }
    }
}

fn write_archive(store: &Store, name: &str, image: &Descriptor, tar: &mut Tar<'_>) -> Result<()> {
    let manifest = choose::manifest(store, &image.digest)?;
    let config = store.read(&manifest.config.digest, DOCUMENT_MAX)?;
    let parsed: Config = serde_json::from_slice(&config).context("reading the image config")?;
    let config_name = format!("{}.json", manifest.config.digest.hex());
    append(tar, &config_name, &config)?;
    let (mut names, mut written) = (Vec::new(), BTreeSet::new());
    for (layer, diff_id) in manifest.layers.iter().zip(&parsed.rootfs.diff_ids) {
        // Uncompressed: every version of Docker reads that.
        let file_name = format!("{}.tar", diff_id.hex());
        if written.insert(*diff_id) {
            append_file(tar, &file_name, &store.layer(layer)?.tar)?;
        }
        names.push(file_name);
    }
    let list = json!([{ "Config": config_name, "RepoTags": [name], "Layers": names }]);
    append(tar, "manifest.json", list.to_string().as_bytes())
}

fn append(tar: &mut Tar<'_>, name: &str, bytes: &[u8]) -> Result<()> {
    append_from(tar, name, bytes.len() as u64, bytes)
}

fn append_file(tar: &mut Tar<'_>, name: &str, file: &File) -> Result<()> {
    let len = file.metadata().with_context(|| format!("reading {name}"))?.len();
    // Others may read the same file: its position is not ours to move.
    append_from(tar, name, len, Whole { file, at: 0 })
}

/// Reads a file from its start, wherever its own position is.
struct Whole<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Whole<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

fn append_from(tar: &mut Tar<'_>, name: &str, len: u64, from: impl Read) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(len);
    tar.append_data(&mut header, name, from).with_context(|| format!("writing {name}"))
}
