//! Where formats write: files beside their targets until all are whole.
//!
//! Nothing takes its final name before [`Output::commit`]; a failed build
//! leaves what was there before.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use rayon::prelude::*;

use super::digested::{self, Digested};
use super::pending::Pending;
use super::{Compression, Packing, RootCompression};
use crate::boot::Loaders;
use crate::error::WithHint;
use crate::fs::Extents;
use crate::oci::Digest;
use crate::store::Store;

/// What formats may be asked for beyond their name.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Name of the build.
    pub name: String,
    /// How initial roots are compressed.
    pub compression: Compression,
    /// How the clusters of qcow2 disks are compressed.
    pub packing: Packing,
    /// How a root of squashfs or erofs is compressed, whatever the manifest
    /// says.
    pub root_compression: Option<RootCompression>,
    /// Size of a disk image in bytes; what is needed by default.
    pub size: Option<u64>,
    /// The boot loaders that the formats name.
    pub loaders: Loaders,
    /// Whether anybody wants the digests of what is written: they take longer
    /// than the writing.
    pub digests: bool,
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
    /// The digest of its bytes, where it was asked for.
    pub digest: Option<Digest>,
}

/// Makes the path of a file out of its ending.
pub type Target<'a> = &'a (dyn Fn(&str) -> PathBuf + Sync);

/// Where the files of one format go.
pub struct Output<'a> {
    /// The format's name.
    pub(super) format: &'static str,
    target: Target<'a>,
    files: Vec<Outgoing>,
    warnings: Vec<String>,
    /// Whether it has a root that can be compressed.
    compresses_root: bool,
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
        let (files, warnings) = (Vec::new(), Vec::new());
        Self { format, target, files, warnings, compresses_root: false, store, options }
    }

    /// Notes that it has a root that can be compressed.
    pub(super) fn compresses_root(&mut self) {
        self.compresses_root = true;
    }

    /// Tells of what may not work where the format is for.
    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    /// Returns what may not work.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Writes one file, whose name is the build's and `ending`.
    pub fn file(
        &mut self,
        ending: &str,
        write: impl FnOnce(&mut BufWriter<File>) -> Result<()>,
    ) -> Result<()> {
        let pending = pending((self.target)(ending), write)?;
        self.files.push(Outgoing { pending, digested: None });
        Ok(())
    }

    /// Writes one file from its beginning to its end. `key` names its bytes,
    /// so that a file that was written before is not digested again.
    pub fn stream(
        &mut self,
        ending: &str,
        key: Option<Digest>,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        if !self.options.digests {
            return self.file(ending, |out| write(out));
        }
        let known = key.as_ref().and_then(|key| digested::known(self.store, key));
        self.digested(ending, key, known, |file| digested::stream(file, known, write))
    }

    /// Writes one file that is laid out already.
    pub fn image(&mut self, ending: &str, image: &Extents) -> Result<()> {
        if !self.options.digests {
            return self.file(ending, |out| image.write_file(out.get_ref()));
        }
        let key = digested::key(image, "")?;
        let known = digested::known(self.store, &key).filter(|(_, len)| *len == image.len());
        self.digested(ending, Some(key), known, |file| match known {
            Some(known) => image.write_file(file).map(|()| known),
            None => digested::image(file, image),
        })
    }

    /// Writes one file by `write`, which digests it; keeps what was not known.
    fn digested(
        &mut self,
        ending: &str,
        key: Option<Digest>,
        known: Option<Digested>,
        write: impl FnOnce(&File) -> Result<Digested>,
    ) -> Result<()> {
        let mut found = None;
        let pending = pending((self.target)(ending), |out| {
            found = Some(write(out.get_ref())?);
            Ok(())
        })?;
        if let (Some(key), Some(found)) = (key, &found)
            && known.as_ref() != Some(found)
        {
            digested::keep(self.store, &key, found)?;
        }
        self.files.push(Outgoing { pending, digested: found });
        Ok(())
    }

    /// Copies the one file of a format elsewhere and drops it.
    pub fn copy_to(self, out: &mut dyn Write) -> Result<()> {
        for outgoing in &self.files {
            let mut file = outgoing.pending.file();
            file.rewind().context("reading what was written")?;
            io::copy(&mut file, out).context("copying what was written")?;
        }
        out.flush().context("copying what was written")
    }

    /// Gives all files their names; digests those that nobody did.
    pub fn commit(self) -> Result<Vec<Written>> {
        let digests = self.options.digests;
        let measured: Vec<(Option<Digest>, u64)> =
            self.files.par_iter().map(|file| file.measure(digests)).collect::<Result<_>>()?;
        let mut written = Vec::new();
        for (file, (digest, size)) in self.files.into_iter().zip(measured) {
            let path = file.pending.commit()?;
            written.push(Written { format: self.format, path, size, digest });
        }
        Ok(written)
    }
}

/// A file that is whole but has no name yet.
#[derive(Debug)]
struct Outgoing {
    pending: Pending,
    /// Digest and length, where its writer found them.
    digested: Option<Digested>,
}

impl Outgoing {
    /// Returns the length and, where it is asked for, the digest, by reading
    /// the file if its writer did not find it.
    fn measure(&self, digests: bool) -> Result<(Option<Digest>, u64)> {
        if !digests {
            let meta = self.pending.file().metadata().context("measuring what was written")?;
            return Ok((None, meta.len()));
        }
        let (digest, size) =
            self.digested.map_or_else(|| digested::file(self.pending.file()), Ok)?;
        Ok((Some(digest), size))
    }
}

/// Refuses a compression of roots that was asked for and that none of some
/// outputs has a root for.
pub fn check_root_compression(outputs: &[Output<'_>]) -> Result<()> {
    let asked = outputs.first().and_then(|output| output.options.root_compression);
    let Some(asked) = asked.filter(|_| !outputs.iter().any(|output| output.compresses_root)) else {
        return Ok(());
    };
    let formats: Vec<&str> = outputs.iter().map(|output| output.format).collect();
    let formats = formats.join(", ");
    Err(anyhow!(
        "expected a root of squashfs or erofs to compress by {asked}, got none in {formats}"
    ))
    .hint(|| {
        "leave `--root-compression` out, or take a format with such a root: `kernel+squashfs`, \
             `kernel+erofs`, a disk of a manifest that says `disk: {root: squashfs}`"
            .to_owned()
    })
}

/// Writes one file, in place of the former one at once.
pub fn write_with(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<()>,
) -> Result<()> {
    pending(path.to_owned(), write)?.commit().map(drop)
}

fn pending(
    target: PathBuf,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<()>,
) -> Result<Pending> {
    let writing = format!("writing {}", target.display());
    let writing = || writing.clone();
    let pending = Pending::start(target).with_context(writing);
    let pending = pending.hint(|| "choose a folder that you may write to".to_owned())?;
    let handle = pending.file().try_clone().with_context(writing)?;
    let mut out = BufWriter::with_capacity(1 << 20, handle);
    write(&mut out).with_context(writing)?;
    out.flush().with_context(writing)?;
    Ok(pending)
}
