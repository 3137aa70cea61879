//! The names of the store's images: `index.json` of the OCI layout.
//!
//! A name is the full reference in the annotation that the OCI layout
//! specification gives for it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;

use anyhow::{Context, Result};

use super::{Store, lock};
use crate::oci::{ANNOTATION_REF_NAME, Descriptor, Index, MEDIA_INDEX};

/// The largest `index.json` that is read, in bytes.
const INDEX_MAX: u64 = 64 << 20;

impl Store {
    /// Returns all named images.
    pub fn names(&self) -> Result<BTreeMap<String, Descriptor>> {
        let path = self.root.join("index.json");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(error).with_context(|| format!("opening {}", path.display())),
        };
        let reader = io::BufReader::new(io::Read::take(file, INDEX_MAX));
        let index: Index = serde_json::from_reader(reader)
            .with_context(|| format!("reading {}", path.display()))?;
        let named = index.manifests.into_iter().filter_map(|descriptor| {
            let name = descriptor.annotations.get(ANNOTATION_REF_NAME)?.clone();
            Some((name, descriptor))
        });
        Ok(named.collect())
    }

    /// Returns the image of a name.
    pub fn named(&self, name: &str) -> Result<Option<Descriptor>> {
        Ok(self.names()?.remove(name))
    }

    /// Names images, in place of those that had the names.
    pub fn name(&self, images: impl IntoIterator<Item = (String, Descriptor)>) -> Result<()> {
        self.change_names(|names| {
            for (name, mut descriptor) in images {
                descriptor.annotations.insert(ANNOTATION_REF_NAME.into(), name.clone());
                names.insert(name, descriptor);
            }
        })
    }

    /// Takes names away; says which there were.
    pub fn unname(&self, gone: &[String]) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        self.change_names(|names| {
            removed = gone.iter().filter(|name| names.remove(*name).is_some()).cloned().collect();
        })?;
        Ok(removed)
    }

    fn change_names(&self, change: impl FnOnce(&mut BTreeMap<String, Descriptor>)) -> Result<()> {
        let _held = lock::exclusive(&self.root.join("locks/index"))?;
        let mut names = self.names()?;
        change(&mut names);
        let index = Index {
            schema_version: 2,
            media_type: Some(MEDIA_INDEX.into()),
            manifests: names.into_values().collect(),
        };
        let bytes = serde_json::to_vec_pretty(&index).context("writing the index")?;
        self.write_atomically(&self.root.join("index.json"), &bytes)
    }

    /// Removes all names.
    pub fn forget_names(&self) -> Result<()> {
        let _held = lock::exclusive(&self.root.join("locks/index"))?;
        match fs::remove_file(self.root.join("index.json")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).context("removing index.json")
            }
            _ => Ok(()),
        }
    }
}
