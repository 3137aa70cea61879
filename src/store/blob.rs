//! Blobs: content under its own digest, as it was fetched.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::{Store, keep, lock};
use crate::error::{DigestMismatch, NotFound};
use crate::oci::{Descriptor, Digest, Hasher};

impl Store {
    /// Returns where a blob lies, or would.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// Says whether a blob is there.
    pub fn has(&self, digest: &Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// Opens a blob. Its bytes are not checked: what reads them whole does.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        match File::open(&path) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let place = format!("the cache {}", self.root.display());
                Err(NotFound { what: digest.to_string(), place }.into())
            }
            Err(error) => Err(error).with_context(|| format!("opening {}", path.display())),
        }
    }

    /// Reads a small blob, such as a manifest, and checks its digest.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = self.open_blob(digest)?;
        let path = self.blob_path(digest);
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .with_context(|| format!("reading {}", path.display()))?;
        ensure!(bytes.len() as u64 <= limit, "{}: expected at most {limit} bytes", path.display());
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(self.damaged(digest, found));
        }
        Ok(bytes)
    }

    /// Removes a blob that is not what its name says and returns the error
    /// that tells so. The next fetch brings it again.
    pub fn damaged(&self, digest: &Digest, found: Digest) -> anyhow::Error {
        let path = self.blob_path(digest);
        // Whoever reads it now sees the same damage; removal is all the cure.
        let _ = fs::remove_file(&path);
        DigestMismatch { what: path.display().to_string(), expected: *digest, found }.into()
    }

    /// Stores bytes that are at hand.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if !self.has(&digest) {
            self.write_atomically(&self.blob_path(&digest), bytes)?;
        }
        Ok(digest)
    }

    /// Stores all that `reader` gives, which need not be known before.
    pub fn put_from(&self, reader: &mut dyn Read) -> Result<(Digest, u64)> {
        let file = self.temporary()?;
        let mut hasher = Hasher::new(file);
        io::copy(reader, &mut hasher).context("copying a blob into the cache")?;
        let (file, digest, len) = hasher.finish();
        keep(file, &self.blob_path(&digest))?;
        Ok((digest, len))
    }

    /// Stores all that `make` writes.
    pub fn put_with(
        &self,
        make: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<(Digest, u64)> {
        let mut hasher = Hasher::new(io::BufWriter::with_capacity(1 << 18, self.temporary()?));
        make(&mut hasher)?;
        let (buffered, digest, len) = hasher.finish();
        let file = buffered.into_inner().map_err(io::IntoInnerError::into_error);
        let file = file.context("writing a blob into the cache")?;
        keep(file, &self.blob_path(&digest))?;
        Ok((digest, len))
    }

    /// Removes a blob that is no longer wanted.
    pub fn remove_blob(&self, digest: &Digest) -> Result<()> {
        let path = self.blob_path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Starts or resumes a download of a blob. One process at a time fetches
    /// a blob: others wait here, and find it present afterwards.
    pub fn download(&self, descriptor: &Descriptor) -> Result<Option<BlobWriter>> {
        let name = descriptor.digest.hex();
        let held = lock::exclusive(&self.root.join("locks").join(&name))?;
        if self.has(&descriptor.digest) {
            return Ok(None);
        }
        let path = self.root.join("partial").join(&name);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        let have = file.metadata().map_or(0, |meta| meta.len());
        let mut hasher = Hasher::new(io::sink());
        if have > descriptor.size {
            file.set_len(0).with_context(|| format!("emptying {}", path.display()))?;
        } else {
            io::copy(&mut file, &mut hasher)
                .with_context(|| format!("reading {}", path.display()))?;
        }
        file.seek(SeekFrom::Start(hasher.written()))
            .with_context(|| format!("seeking in {}", path.display()))?;
        let descriptor = descriptor.clone();
        Ok(Some(BlobWriter { store: self.clone(), descriptor, path, file, hasher, _held: held }))
    }
}

/// A download in progress. What was written stays for the next attempt,
/// unless it turns out wrong.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    descriptor: Descriptor,
    path: PathBuf,
    file: File,
    hasher: Hasher<io::Sink>,
    _held: File,
}

impl BlobWriter {
    /// Returns how many bytes are there already: where to resume.
    pub fn position(&self) -> u64 {
        self.hasher.written()
    }

    /// Forgets what is there, for a server that cannot resume.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).with_context(|| format!("emptying {}", self.path.display()))?;
        self.file.rewind().with_context(|| format!("seeking in {}", self.path.display()))?;
        self.hasher = Hasher::new(io::sink());
        Ok(())
    }

    /// Takes the next bytes. More than the descriptor's size are an error.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let total = self.hasher.written() + bytes.len() as u64;
        if total > self.descriptor.size {
            self.discard();
            anyhow::bail!(
                "{}: expected {} bytes, got more",
                self.descriptor.digest,
                self.descriptor.size
            );
        }
        self.file.write_all(bytes).with_context(|| format!("writing {}", self.path.display()))?;
        self.hasher.write_all(bytes).context("hashing")
    }

    /// Checks size and digest and gives the blob its name.
    pub fn finish(self) -> Result<()> {
        let (written, wanted) = (self.hasher.written(), self.descriptor.size);
        ensure!(
            written == wanted,
            "{}: expected {wanted} bytes, got {written}",
            self.descriptor.digest
        );
        let (_, found, _) = self.hasher.finish();
        let expected = self.descriptor.digest;
        if found != expected {
            // Wrong bytes are no use to the next attempt.
            let _ = fs::remove_file(&self.path);
            let what = "downloaded content".to_owned();
            return Err(DigestMismatch { what, expected, found }.into());
        }
        let target = self.store.blob_path(&expected);
        fs::rename(&self.path, &target)
            .with_context(|| format!("renaming a finished download to {}", target.display()))
    }

    fn discard(&self) {
        // A failed removal shows as a failed resume later.
        let _ = fs::remove_file(&self.path);
    }
}
