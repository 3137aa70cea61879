//! Artefacts that were dear to make, under a key that names their inputs: a
//! compressed segment of an initrd, a digest of a large output.

use std::fs::{self, File};
use std::io::{BufWriter, Seek, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Store, keep, lock};
use crate::oci::Digest;

/// Where an artefact is written: in order, or by seeking back to what was
/// left open. Seeking forward leaves a hole of zeros.
pub trait Out: Write + Seek {}

impl<T: Write + Seek> Out for T {}

impl Store {
    /// Returns the artefact of a key, made by `make` where it is missing.
    /// `kind` names what made it, with a version: `cpio-zstd-1`. Processes
    /// that want the same one wait for the first.
    pub fn derived(
        &self,
        kind: &str,
        key: &Digest,
        make: impl FnOnce(&mut dyn Out) -> Result<()>,
    ) -> Result<File> {
        let path = self.derived_path(kind, key);
        if let Ok(file) = File::open(&path) {
            return Ok(file);
        }
        let name = format!("{kind}-{}", key.hex());
        let _held = lock::exclusive(&self.root.join("locks").join(name))?;
        if let Ok(file) = File::open(&path) {
            return Ok(file);
        }
        let mut writer = BufWriter::with_capacity(1 << 20, self.temporary()?);
        make(&mut writer)?;
        let file = writer
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .with_context(|| format!("writing {}", path.display()))?;
        let dir = path.parent().expect("a derived path has a parent");
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        keep(file, &path)?;
        File::open(&path).with_context(|| format!("opening {}", path.display()))
    }

    fn derived_path(&self, kind: &str, key: &Digest) -> PathBuf {
        self.root.join("derived").join(kind).join(key.hex())
    }
}
