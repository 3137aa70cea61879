//! Volumes: folders that containers share, empty, filled with an image's
//! files, or holding an image as an OCI layout.

use anyhow::{Context, Result};
use serde_json::json;

use super::rootfs::{Resolver, prepare};
use super::{Assembly, generated};
use crate::image::closure;
use crate::manifest::Volume;
use crate::oci::{ANNOTATION_REF_NAME, Descriptor, Digest, MEDIA_INDEX};
use crate::tree::{Content, Inode, Kind, Metadata};

/// LinuxKit's words for sources that are no image.
const EMPTY: &str = "empty";
const VOLUMES: &str = "linuxkit.volumes";
const OCI_LAYOUT: &[u8] = b"{\n\t\t\"imageLayoutVersion\": \"1.0.0\"\n\t}";

/// Returns the folder of a volume, from the root without a slash.
fn folder(name: &str) -> String {
    format!("{}/{name}", moby_bundle::path::VOLUMES.trim_start_matches('/'))
}

impl Assembly<'_> {
    /// Makes the volumes.
    pub(super) fn add_volumes(&mut self) -> Result<()> {
        for (index, volume) in self.manifest.volumes.iter().enumerate() {
            self.add_volume(volume, format!("volume[{index}]"))
                .with_context(|| format!("making volume {}", volume.name))?;
        }
        Ok(())
    }

    /// Returns where containers find a volume, by its name.
    pub(super) fn volume_path(&self, name: &str) -> Option<String> {
        self.manifest.volume(name).map(|volume| format!("/{}/merged", folder(&volume.name)))
    }

    fn add_volume(&mut self, volume: &Volume, location: String) -> Result<()> {
        let folder = folder(&volume.name);
        let lower = format!("{folder}/lower");
        match (volume.layout(), volume.files()) {
            (None, None) => {
                let part = self.part(EMPTY, location.clone());
                self.add_folders(&lower, part)?;
            }
            (Some(reference), _) => {
                let name = reference.value.to_string();
                let part = self.part(&name, location.clone());
                self.add_folders(&lower, part)?;
                let descriptor = self.inputs.layouts.get(volume.name.as_str());
                let descriptor = descriptor.context("expected its image to be fetched")?;
                let platforms = volume.platforms.iter().flatten();
                let platforms: Vec<_> = platforms.map(|platform| platform.value.clone()).collect();
                let platforms = volume.platforms.is_some().then_some(&platforms[..]);
                let blobs = closure(self.inputs.store, descriptor, platforms)?;
                self.add_layout(&lower, &name, descriptor, &blobs, part)?;
            }
            (None, Some(reference)) => {
                let named = self.image(reference)?;
                let part = self.part(&named.name, location.clone());
                self.add_folders(&lower, part)?;
                self.inventory.push((lower.clone(), named));
                let tree = prepare(&named.image.tree, Resolver::Host)?;
                self.tree.graft(lower.as_bytes(), &tree, part)?;
            }
        }
        let part = self.part(VOLUMES, location);
        for name in ["tmp", "merged"] {
            let path = format!("{folder}/{name}");
            self.tree.insert(path.as_bytes(), generated(0o755, Kind::directory(), part))?;
        }
        Ok(())
    }

    /// Writes an image as an OCI layout: the blobs as they were fetched.
    fn add_layout(
        &mut self,
        dir: &str,
        name: &str,
        image: &Descriptor,
        blobs: &[Digest],
        part: u32,
    ) -> Result<()> {
        let meta = |mode| Metadata::root(mode, 0);
        for sub in ["blobs", "blobs/sha256"] {
            let path = format!("{dir}/{sub}");
            let inode = Inode { meta: meta(0o755), kind: Kind::directory(), part };
            self.tree.insert(path.as_bytes(), inode)?;
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": MEDIA_INDEX,
            "manifests": [{
                "mediaType": image.media_type,
                "size": image.size,
                "digest": image.digest,
                "annotations": { ANNOTATION_REF_NAME: name },
            }],
        });
        let index = indented(&index, b"   ")?;
        let mut files = vec![
            ("oci-layout".to_owned(), Content::Bytes(OCI_LAYOUT.into())),
            ("index.json".to_owned(), Content::Bytes(index.into())),
        ];
        for digest in blobs {
            let file = self.inputs.store.open_blob(digest)?;
            files.push((format!("blobs/sha256/{}", digest.hex()), Content::of_file(file)?));
        }
        for (name, content) in files {
            let inode = Inode { meta: meta(0o644), kind: Kind::File(content), part };
            self.tree.insert(format!("{dir}/{name}").as_bytes(), inode)?;
        }
        Ok(())
    }
}

/// Writes JSON with an indentation of LinuxKit's choice.
pub(super) fn indented(value: &impl serde::Serialize, indent: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).context("writing JSON")?;
    Ok(bytes)
}
