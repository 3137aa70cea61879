//! Where formats write: files beside their targets until all are whole.
//!
//! Nothing takes its final name before [`Output::commit`]; a failed build
//! leaves what was there before.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rayon::prelude::*;
use tempfile::NamedTempFile;

use super::Compression;
use crate::error::WithHint;
use crate::oci::{Digest, Hasher};
use crate::store::Store;

/// What formats may be asked for beyond their name.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How initial roots are compressed.
    pub compression: Compression,
    /// Size of a disk image in bytes; what is needed by default.
    pub size: Option<u64>,
}

/// A file that was written.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Written {
    /// The format that wrote it.
    pub format: &'static str,
    /// Its path.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// Makes the path of a file out of its ending.
pub type Target<'a> = &'a (dyn Fn(&str) -> PathBuf + Sync);

/// Where the files of one format go.
pub struct Output<'a> {
    format: &'static str,
    target: Target<'a>,
    files: Vec<(NamedTempFile, PathBuf)>,
    /// Holds what formats derive, so that the next build need not.
    pub store: &'a Store,
    /// What was asked for.
    pub options: &'a Options,
}

impl std::fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("format", &self.format).field("files", &self.files).finish()
    }
}

impl<'a> Output<'a> {
    /// Starts the output of a format.
    pub fn new(
        format: &'static str,
        target: Target<'a>,
        store: &'a Store,
        options: &'a Options,
    ) -> Self {
        Self { format, target, files: Vec::new(), store, options }
    }

    /// Writes one file, whose name is the build's and `ending`.
    pub fn file(
        &mut self,
        ending: &str,
        write: impl FnOnce(&mut BufWriter<File>) -> Result<()>,
    ) -> Result<()> {
        let target = (self.target)(ending);
        let shown = || format!("writing {}", target.display());
        let pending = start(&target)
            .with_context(shown)
            .hint(|| "choose a folder that you may write to, with --dir".to_owned())?;
        let handle = pending.as_file().try_clone().with_context(shown)?;
        let mut out = BufWriter::with_capacity(1 << 20, handle);
        write(&mut out).with_context(shown)?;
        out.flush().with_context(shown)?;
        self.files.push((pending, target));
        Ok(())
    }

    /// Gives all files their names, digested.
    pub fn commit(self) -> Result<Vec<Written>> {
        let digested: Vec<(Digest, u64)> =
            self.files.par_iter().map(|(file, _)| digest(file.path())).collect::<Result<_>>()?;
        let mut written = Vec::new();
        for ((file, path), (digest, size)) in self.files.into_iter().zip(digested) {
            file.persist(&path)
                .map_err(|error| error.error)
                .with_context(|| format!("renaming a finished file to {}", path.display()))?;
            written.push(Written { format: self.format, path, size, digest });
        }
        Ok(written)
    }
}

fn start(target: &Path) -> Result<NamedTempFile> {
    let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let name = target.file_name().context("expected a file name")?.to_string_lossy();
    tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        // Less the umask: who may read an image is the user's to choose.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(dir)
        .with_context(|| format!("making a file in {}", dir.display()))
}

fn digest(path: &Path) -> Result<(Digest, u64)> {
    let reading = || format!("digesting {}", path.display());
    let mut file = File::open(path).with_context(reading)?;
    let mut hasher = Hasher::new(io::sink());
    let mut buf = vec![0; 1 << 18];
    loop {
        match file.read(&mut buf).with_context(reading)? {
            0 => break,
            n => hasher.write_all(&buf[..n]).with_context(reading)?,
        }
    }
    let (_, digest, len) = hasher.finish();
    Ok((digest, len))
}
