//! What a file holds: bytes at hand, a span of a file on disk, or what an image
//! holds in a form of its own.
//!
//! Contents are read in pieces; nothing here gathers a whole span.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::held::{Held, Hold, Part};
use crate::oci::{Digest, Hasher};

/// How much is read at once, in bytes.
const CHUNK: usize = 256 * 1024;

/// The contents of a regular file.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes at hand.
    Bytes(Arc<[u8]>),
    /// A span of a file, such as an unpacked layer in the store.
    Span {
        /// The file that holds the span.
        file: Arc<File>,
        /// Where the span begins, in bytes.
        offset: u64,
        /// Length of the span in bytes.
        len: u64,
        /// Digest of the span's bytes: two spans of one digest are equal.
        digest: Digest,
    },
    /// Contents of an image that was read.
    Held(Held),
}

impl Content {
    /// Describes a whole file by reading it once. Its bytes must not change
    /// afterwards.
    pub fn of_file(file: File) -> Result<Self> {
        let mut hasher = Hasher::new(io::sink());
        let mut reader = &file;
        io::copy(&mut reader, &mut hasher).context("reading a file to digest it")?;
        let (_, digest, len) = hasher.finish();
        Ok(Self::Span { file: Arc::new(file), offset: 0, len, digest })
    }

    /// Describes `len` bytes of contents that an image holds.
    pub fn held(len: u64, hold: Box<dyn Hold>) -> Self {
        Self::Held(Held::new(len, hold))
    }

    /// Describes `len` bytes of a file that was read in an image.
    pub fn part(file: Arc<File>, offset: u64, len: u64) -> Self {
        Self::held(len, Box::new(Part { file, offset }))
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Span { len, .. } => *len,
            Self::Held(held) => held.len(),
        }
    }

    /// Says whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the digest of the bytes. A span is not read for it; what an
    /// image holds is, the first time.
    pub fn digest(&self) -> Result<Digest> {
        match self {
            Self::Bytes(bytes) => Ok(Digest::of(bytes)),
            Self::Span { digest, .. } => Ok(*digest),
            Self::Held(held) => held.digest(),
        }
    }

    fn known_digest(&self) -> Option<Digest> {
        match self {
            Self::Bytes(_) => None,
            Self::Span { digest, .. } => Some(*digest),
            Self::Held(held) => held.known_digest(),
        }
    }

    /// Returns where the bytes stand in one piece of a file, if so.
    pub fn place(&self) -> Option<(&Arc<File>, u64)> {
        match self {
            Self::Bytes(_) => None,
            Self::Span { file, offset, .. } => Some((file, *offset)),
            Self::Held(held) => held.place(),
        }
    }

    /// Says whether two are equal, and reads no more of them than that takes.
    pub fn equals(&self, other: &Self) -> Result<bool> {
        if self.len() != other.len() {
            return Ok(false);
        }
        match (self, other) {
            (Self::Held(one), Self::Held(other)) if one.is(other) => return Ok(true),
            (Self::Bytes(one), Self::Bytes(other)) => return Ok(one == other),
            _ => {}
        }
        match (self.known_digest(), other.known_digest()) {
            (None, None) => self.equals_by_byte(other),
            _ => Ok(self.digest()? == other.digest()?),
        }
    }

    fn equals_by_byte(&self, other: &Self) -> Result<bool> {
        let size = self.len().min(CHUNK as u64) as usize;
        let (mut one, mut two) = (vec![0; size], vec![0; size]);
        let mut at = 0;
        while at < self.len() {
            let n = (self.len() - at).min(size as u64) as usize;
            self.read_exact_at(&mut one[..n], at)?;
            other.read_exact_at(&mut two[..n], at)?;
            if one[..n] != two[..n] {
                return Ok(false);
            }
            at += n as u64;
        }
        Ok(true)
    }

    /// Fills `buf` from `offset` on. Fewer bytes than that are an error: the
    /// file was cut after it was indexed.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len());
        ensure!(
            end.is_some(),
            "expected to read within {} bytes, got an offset beyond",
            self.len()
        );
        match self {
            Self::Bytes(bytes) => {
                // In range by the check above.
                let from = offset as usize;
                buf.copy_from_slice(&bytes[from..from + buf.len()]);
                Ok(())
            }
            Self::Span { file, offset: base, .. } => file
                .read_exact_at(buf, base + offset)
                .context("reading file contents from the store"),
            Self::Held(held) => held.read_exact_at(buf, offset),
        }
    }

    /// Reads the contents from the beginning.
    pub fn reader(&self) -> Reader<'_> {
        Reader { content: self, at: 0 }
    }

    /// Writes the contents to `out`.
    pub fn copy_to(&self, out: &mut dyn Write) -> Result<()> {
        if let Self::Bytes(bytes) = self {
            return out.write_all(bytes).context("writing file contents");
        }
        let mut buf = vec![0; CHUNK.min(usize::try_from(self.len()).unwrap_or(CHUNK)).max(1)];
        let mut at = 0;
        while at < self.len() {
            let n = (self.len() - at).min(buf.len() as u64) as usize;
            self.read_exact_at(&mut buf[..n], at)?;
            out.write_all(&buf[..n]).context("writing file contents")?;
            at += n as u64;
        }
        Ok(())
    }

    /// Gathers the contents, which must not be longer than `limit` bytes.
    pub fn gather(&self, limit: u64) -> Result<Vec<u8>> {
        ensure!(self.len() <= limit, "expected at most {limit} bytes, got {}", self.len());
        let mut bytes = vec![0; self.len() as usize];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

/// Tells whether `word` is among the bytes of a stream.
pub fn holds(from: &mut dyn Read, word: &[u8]) -> Result<bool> {
    let mut held = Vec::with_capacity(CHUNK + word.len());
    loop {
        let read = from.take(CHUNK as u64).read_to_end(&mut held)?;
        if held.windows(word.len().max(1)).any(|found| found == word) {
            return Ok(true);
        }
        if read == 0 {
            return Ok(false);
        }
        // It may begin in this piece and end in the next one.
        held.drain(..held.len().saturating_sub(word.len().saturating_sub(1)));
    }
}

/// Reads contents in order.
#[derive(Debug)]
pub struct Reader<'a> {
    content: &'a Content,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = (self.content.len() - self.at).min(buf.len() as u64) as usize;
        self.content.read_exact_at(&mut buf[..n], self.at).map_err(io::Error::other)?;
        self.at += n as u64;
        Ok(n)
    }
}
