//! Writes a layer of files that are at hand: deterministic tar, root's, with
//! one time for all.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::env::EPOCH;
use crate::tree::components;

/// A layer in the making.
pub(super) struct LayerWriter<'a> {
    tar: tar::Builder<&'a mut dyn Write>,
    folders: BTreeSet<Vec<u8>>,
}

impl<'a> LayerWriter<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { tar: tar::Builder::new(out), folders: BTreeSet::new() }
    }

    /// Adds a folder and those above it.
    pub(super) fn folder(&mut self, path: &[u8]) -> Result<()> {
        let names = components(path)?;
        for end in 1..=names.len() {
            let path = names[..end].join(&b'/');
            if self.folders.insert(path.clone()) {
                let mode =
                    if matches!(path.as_slice(), b"tmp" | b"var/tmp") { 0o1777 } else { 0o755 };
                let mut header = header(tar::EntryType::Directory, mode, 0);
                self.tar
                    .append_data(&mut header, as_path(&path), io::empty())
                    .context("writing a folder")?;
            }
        }
        Ok(())
    }

    /// Adds a file of `size` bytes.
    pub(super) fn file(
        &mut self,
        path: &[u8],
        mode: u32,
        size: u64,
        content: impl Read,
    ) -> Result<()> {
        let path = self.parents(path)?;
        let mut header = header(tar::EntryType::Regular, mode, size);
        let doing = || format!("writing {}", String::from_utf8_lossy(&path));
        self.tar.append_data(&mut header, as_path(&path), content).with_context(doing)
    }

    /// Adds a file of the host.
    pub(super) fn host_file(&mut self, path: &[u8], mode: u32, host: &Path) -> Result<()> {
        let open = || -> io::Result<(File, u64)> {
            let file = File::open(host)?;
            let size = file.metadata()?.len();
            Ok((file, size))
        };
        let (file, size) = open().with_context(|| format!("reading {}", host.display()))?;
        self.file(path, mode, size, file.take(size))
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        let path = self.parents(path)?;
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        let doing = || format!("writing {}", String::from_utf8_lossy(&path));
        self.tar.append_link(&mut header, as_path(&path), as_path(target)).with_context(doing)
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.tar.finish().context("ending a layer")
    }

    /// Adds the folders above a path, and returns it without slashes around.
    fn parents(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        let names = components(path)?;
        let above = names.len().saturating_sub(1);
        self.folder(&names[..above].join(&b'/'))?;
        Ok(names.join(&b'/'))
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(EPOCH.unsigned_abs());
    header.set_size(size);
    header
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
