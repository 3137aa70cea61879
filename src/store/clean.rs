//! Removing what a store holds, and counting it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::{Store, lock};
use crate::env;

/// How long derived artefacts are kept that nothing reads: most are of systems
/// that have changed since.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How much a store holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blobs as they were fetched.
    pub blobs: u64,
    /// Unpacked layers and their indexes.
    pub layers: u64,
    /// Derived artefacts.
    pub derived: u64,
    /// Downloads that were broken off.
    pub partial: u64,
}

impl Store {
    /// Counts what the store holds.
    pub fn usage(&self) -> Result<Usage> {
        let size = |dir: &str| folder_size(&self.root.join(dir));
        Ok(Usage {
            blobs: size("blobs")?,
            layers: size("layers")?,
            derived: size("derived")?,
            partial: size("partial")?,
        })
    }

    /// Removes all content and all names, once no build is at work; waits
    /// for those that are.
    pub fn clean(root: &Path) -> Result<()> {
        if !root.exists() {
            return Ok(());
        }
        let _alone = lock::exclusive(&root.join("lock"))?;
        for dir in ["blobs/sha256", "layers", "derived", "partial", "tmp", "locks"] {
            empty_folder(&root.join(dir))?;
        }
        remove(&root.join("index.json"))
    }

    /// Removes the blobs and layers whose digests are not in `used`, given as
    /// hex digits, and all derived artefacts. The store is one of
    /// [`Store::alone`]: what `used` was found out from is still so.
    pub fn keep_only(self, used: &BTreeSet<String>) -> Result<()> {
        let root = self.root();
        for dir in ["blobs/sha256", "layers"] {
            for entry in read_dir(&root.join(dir))? {
                let name = entry.file_name().to_string_lossy().into_owned();
                let stem = name.split('.').next().unwrap_or_default();
                if !used.contains(stem) {
                    remove(&entry.path())?;
                }
            }
        }
        for dir in ["derived", "partial", "tmp", "locks"] {
            empty_folder(&root.join(dir))?;
        }
        Ok(())
    }
}

/// Removes what a killed process left. The caller is alone in the store.
pub(super) fn remove_litter(root: &Path) -> Result<()> {
    empty_folder(&root.join("tmp"))?;
    empty_folder(&root.join("locks"))
}

/// Removes the derived artefacts that nothing has asked for in long. The caller
/// is alone in the store.
pub(super) fn remove_unused(root: &Path) -> Result<()> {
    let Some(since) = env::now().checked_sub(UNUSED) else { return Ok(()) };
    let since = SystemTime::UNIX_EPOCH + since;
    for kind in read_dir(&root.join("derived"))? {
        for entry in read_dir(&kind.path())? {
            let path = entry.path();
            let meta = entry.metadata().with_context(|| format!("reading {}", path.display()))?;
            let used = [meta.modified(), meta.accessed()].into_iter().filter_map(io::Result::ok);
            if used.max().is_some_and(|used| used < since) {
                remove(&path)?;
            }
        }
    }
    Ok(())
}

fn read_dir(dir: &Path) -> Result<Vec<fs::DirEntry>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", dir.display())),
    };
    entries.collect::<io::Result<_>>().with_context(|| format!("reading {}", dir.display()))
}

fn empty_folder(dir: &Path) -> Result<()> {
    for entry in read_dir(dir)? {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        } else {
            remove(&path)?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn folder_size(dir: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in read_dir(dir)? {
        let meta = entry.metadata().with_context(|| format!("reading {}", dir.display()))?;
        total += if meta.is_dir() { folder_size(&entry.path())? } else { meta.len() };
    }
    Ok(total)
}
