//! Content by digest on disk.
//!
//! ```text
//! CACHE/
//!   oci-layout, index.json, blobs/sha256/HEX   an OCI layout of what was fetched
//!   layers/HEX.tar, layers/HEX.index           each layer once more, unpacked
//!   derived/KIND/HEX                           artefacts by a key of their inputs
//!   partial/HEX                                downloads that can be resumed
//!   tmp/                                       what is being written
//!   lock, locks/                               who is at work
//! ```
//!
//! Whatever has its final name is whole: files are written below `tmp/` and
//! renamed. So a kill at any moment leaves at worst litter, which
//! [`Store::clean`] or the next [`Store::open`] that finds itself alone
//! removes, along with derived artefacts that nothing has read for a month.
//! Locks are `flock`s and die with their holder.
//!
//! Follows OCI Image Layout Specification 1.1 for the first line above.

mod blob;
mod clean;
mod compression;
mod derived;
mod index;
mod layer;
mod lock;
mod names;
mod tar;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

pub use blob::BlobWriter;
pub use clean::Usage;
pub use compression::Compression;
pub use derived::Out;
pub(crate) use derived::may_be_lent;
pub use index::{Entry, EntryKind, decode_index};
pub use layer::{Layer, decompress, is_damage, read_entries};

use crate::error::WithHint;

const OCI_LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";

/// A cache folder, open. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    // Held for as long as any clone lives: keeps cleaners away.
    _lock: Arc<File>,
}

impl Store {
    /// Opens a cache folder, making it where it is missing.
    pub fn open(root: &Path) -> Result<Self> {
        let opened = Self::open_or_explain(root);
        opened.with_context(|| format!("opening the cache {}", root.display())).hint(|| {
            "choose a folder that you may write to with --cache DIR or MOBY_CACHE".to_owned()
        })
    }

    /// Opens a cache folder once nobody else is at work in it, and lets nobody
    /// in as long as any clone lives.
    pub fn alone(root: &Path) -> Result<Self> {
        let root = Self::open(root)?.root;
        let held = lock::exclusive(&root.join("lock"))?;
        Ok(Self { root, _lock: Arc::new(held) })
    }

    fn open_or_explain(root: &Path) -> Result<Self> {
        for dir in ["blobs/sha256", "layers", "derived", "partial", "tmp", "locks"] {
            let dir = root.join(dir);
            fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        }
        let root = root.canonicalize().context("finding its real path")?;
        let alone = lock::try_exclusive(&root.join("lock"))?;
        if let Some(file) = alone {
            // Nobody else is at work: what lies in tmp/ was left by the dead.
            clean::remove_litter(&root)?;
            clean::remove_unused(&root)?;
            drop(file);
        }
        let shared = lock::shared(&root.join("lock"))?;
        let store = Self { root, _lock: Arc::new(shared) };
        let layout = store.root.join("oci-layout");
        if !layout.exists() {
            store.write_atomically(&layout, OCI_LAYOUT.as_bytes())?;
        }
        Ok(store)
    }

    /// Returns the cache folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a file below `tmp/` that vanishes unless it is kept by name.
    pub fn temporary(&self) -> Result<tempfile::NamedTempFile> {
        let dir = self.root.join("tmp");
        tempfile::Builder::new()
            .prefix("")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(&dir)
            .with_context(|| format!("making a file in {}", dir.display()))
    }

    fn write_atomically(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let mut file = self.temporary()?;
        std::io::Write::write_all(&mut file, bytes)
            .with_context(|| format!("writing {}", path.display()))?;
        keep(file, path).map(drop)
    }
}

/// Gives a finished temporary file its final name and returns it open for
/// reading.
fn keep(file: tempfile::NamedTempFile, path: &Path) -> Result<File> {
    let file = file
        .persist(path)
        .map_err(|error| error.error)
        .with_context(|| format!("renaming a finished file to {}", path.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests;
