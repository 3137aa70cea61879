//! An image as an ordered list of extents: bytes at hand, spans of files, and
//! zeros wherever there is neither.
//!
//! Laying out an image touches no contents: a FAT volume, the disk around it
//! and the virtual disk around that are each a pure function from extents to
//! extents, and the bytes move once, when the last one is written. Holes of
//! the files stay holes all the way.

mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustix::fs::SeekFrom;

use crate::oci::{Digest, Hasher};
use crate::tree::{Content, Hold};

/// Zero blocks of this size are left out of bytes at hand.
const BLOCK: usize = 4096;

/// Where the bytes of an extent come from.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Bytes at hand, from `from` on.
    Bytes {
        /// The bytes.
        bytes: Arc<[u8]>,
        /// Where the extent begins in them.
        from: u64,
    },
    /// A span of a file.
    Span {
        /// The file.
        file: Arc<File>,
        /// Where the extent begins in it.
        from: u64,
    },
    /// Contents that an image holds in a form of its own.
    Held {
        /// The contents.
        content: Content,
        /// Where the extent begins in them.
        from: u64,
    },
}

impl Piece {
    fn skip(&self, n: u64) -> Self {
        match self {
            Self::Bytes { bytes, from } => Self::Bytes { bytes: bytes.clone(), from: from + n },
            Self::Span { file, from } => Self::Span { file: file.clone(), from: from + n },
            Self::Held { content, from } => Self::Held { content: content.clone(), from: from + n },
        }
    }

    fn read(&self, buf: &mut [u8], skip: u64) -> io::Result<()> {
        match self {
            Self::Bytes { bytes, from } => {
                let at = (from + skip) as usize;
                buf.copy_from_slice(&bytes[at..at + buf.len()]);
                Ok(())
            }
            Self::Span { file, from } => file.read_exact_at(buf, from + skip),
            Self::Held { content, from } => {
                content.read_exact_at(buf, from + skip).map_err(io::Error::other)
            }
        }
    }

    /// Says whether `next` goes on where `self` ends after `len` bytes.
    fn continues(&self, len: u64, next: &Self) -> bool {
        match (self, next) {
            (Self::Span { file: a, from }, Self::Span { file: b, from: then }) => {
                Arc::ptr_eq(a, b) && from + len == *then
            }
            (Self::Bytes { bytes: a, from }, Self::Bytes { bytes: b, from: then }) => {
                Arc::ptr_eq(a, b) && from + len == *then
            }
            _ => false,
        }
    }
}

#[derive(Clone, Debug)]
struct Extent {
    len: u64,
    piece: Piece,
}

/// An image: so many bytes, of which the extents are known and the rest is
/// zero.
#[derive(Clone, Debug, Default)]
pub struct Extents {
    len: u64,
    // By offset; they never overlap, are never empty, and end within `len`.
    runs: BTreeMap<u64, Extent>,
}

impl Hold for Extents {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.read_exact_at(buf, offset)
    }
}

impl From<&Content> for Extents {
    fn from(content: &Content) -> Self {
        let mut all = Self::default();
        all.push_content(content);
        all
    }
}

impl Extents {
    /// Makes an image of so many zeros.
    pub fn zeros(len: u64) -> Self {
        Self { len, runs: BTreeMap::new() }
    }

    /// Makes an image of bytes at hand.
    pub fn of_bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        let mut all = Self::default();
        all.push_bytes(bytes);
        all
    }

    /// Makes an image of a whole file, of whose holes nothing is read. The
    /// file must not change afterwards.
    pub fn of_file(file: &Arc<File>) -> Result<Self> {
        let len = file.metadata().context("finding the length of an image")?.len();
        let mut all = Self::zeros(len);
        let mut at = 0;
        while at < len {
            let Some(data) = data_after(file, at, len)? else { break };
            all.insert(data.start, data.end - data.start, &span(file, data.start));
            at = data.end;
        }
        Ok(all)
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Says whether the image has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds zeros at the end until the image has `len` bytes; a longer image
    /// stays as it is.
    pub fn grow(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Adds zeros at the end up to a multiple of `unit` bytes.
    pub fn align(&mut self, unit: u64) {
        self.len = self.len.next_multiple_of(unit);
    }

    /// Adds bytes at the end.
    pub fn push_bytes(&mut self, bytes: impl Into<Arc<[u8]>>) {
        self.put_bytes(self.len, bytes);
    }

    /// Adds contents at the end.
    pub fn push_content(&mut self, content: &Content) {
        self.put_content(self.len, content);
    }

    /// Adds another image at the end.
    pub fn push(&mut self, other: &Self) {
        self.put(self.len, other);
    }

    /// Lays bytes over what is at `at`; the image grows where they reach
    /// beyond its end.
    pub fn put_bytes(&mut self, at: u64, bytes: impl Into<Arc<[u8]>>) {
        let bytes = bytes.into();
        let end = at + bytes.len() as u64;
        self.clear(at..end);
        self.grow(end);
        for data in data_blocks(&bytes) {
            let piece = Piece::Bytes { bytes: bytes.clone(), from: data.start as u64 };
            self.insert(at + data.start as u64, data.len() as u64, &piece);
        }
    }

    /// Lays contents over what is at `at`, as [`Extents::put_bytes`] does.
    pub fn put_content(&mut self, at: u64, content: &Content) {
        match (content.place(), content) {
            (Some((file, offset)), _) => self.put_piece(at, content.len(), &span(file, offset)),
            (None, Content::Bytes(bytes)) => self.put_bytes(at, bytes.clone()),
            (None, content) => {
                let piece = Piece::Held { content: content.clone(), from: 0 };
                self.put_piece(at, content.len(), &piece);
            }
        }
    }

    /// Lays a piece of `len` bytes over what is at `at`.
    pub fn put_piece(&mut self, at: u64, len: u64, piece: &Piece) {
        self.clear(at..at + len);
        self.grow(at + len);
        self.insert(at, len, piece);
    }

    /// Lays another image, its zeros included, over what is at `at`.
    pub fn put(&mut self, at: u64, other: &Self) {
        self.clear(at..at + other.len);
        self.grow(at + other.len);
        for (from, extent) in &other.runs {
            self.insert(at + from, extent.len, &extent.piece);
        }
    }

    /// Cuts out a part, which must lie within the image.
    pub fn slice(&self, range: Range<u64>) -> Result<Self> {
        ensure!(
            range.start <= range.end && range.end <= self.len,
            "expected a part of an image of {} bytes, got {}..{}",
            self.len,
            range.start,
            range.end
        );
        let mut part = Self::zeros(range.end - range.start);
        for (at, len, piece) in self.within(range.clone()) {
            part.insert(at - range.start, len, &piece);
        }
        Ok(part)
    }

    /// Returns the extents in order: offset, length, where the bytes are.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64, &Piece)> {
        self.runs.iter().map(|(at, extent)| (*at, extent.len, &extent.piece))
    }

    /// Returns the extents within a range, cut to it.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = (u64, u64, Piece)> {
        let first = self.runs.range(..=range.start).next_back().map_or(range.start, |run| *run.0);
        self.runs.range(first..range.end.max(first)).filter_map(move |(at, extent)| {
            let start = (*at).max(range.start);
            let end = (at + extent.len).min(range.end);
            (start < end).then(|| (start, end - start, extent.piece.skip(start - at)))
        })
    }

    /// Says whether a range is all zeros as far as is known without reading.
    pub fn is_hole(&self, range: Range<u64>) -> bool {
        self.within(range).next().is_none()
    }

    /// Fills `buf` from `offset` on. Bytes beyond the end are an error.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len);
        ensure!(
            end.is_some(),
            "expected to read within {} bytes, got {} bytes at {offset}",
            self.len,
            buf.len()
        );
        buf.fill(0);
        for (at, len, piece) in self.within(offset..offset + buf.len() as u64) {
            let from = (at - offset) as usize;
            piece.read(&mut buf[from..from + len as usize], 0).context("reading an image")?;
        }
        Ok(())
    }

    /// Returns `len` bytes from `offset` on, which the caller has bounded.
    pub fn bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let fits = offset.checked_add(len as u64).is_some_and(|end| end <= self.len);
        ensure!(fits, "expected {len} bytes at {offset}, the image ends at {}", self.len);
        let mut bytes = vec![0; len];
        self.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Reads the image from the beginning.
    pub fn reader(&self) -> Reader<'_> {
        Reader { image: self, at: 0 }
    }

    /// Returns the digest of the bytes by reading them all.
    pub fn digest(&self) -> Result<Digest> {
        let mut hasher = Hasher::new(io::sink());
        self.copy_into(&mut hasher)?;
        Ok(hasher.finish().1)
    }

    /// Returns the image as the contents of a file, which are read when they
    /// are asked for.
    pub fn to_content(&self) -> Content {
        let mut runs = self.runs();
        if let (Some((0, len, Piece::Span { file, from })), None) = (runs.next(), runs.next())
            && len == self.len
        {
            return Content::part(file.clone(), *from, len);
        }
        match self.len {
            0 => Content::Bytes(Arc::default()),
            len => Content::held(len, Box::new(self.clone())),
        }
    }

    /// Forgets what is in a range: it is zeros afterwards.
    pub fn clear(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.runs.range(..=range.start).next_back().map_or(range.start, |run| *run.0);
        let met: Vec<u64> = self.runs.range(first..range.end).map(|run| *run.0).collect();
        for at in met {
            let Some(extent) = self.runs.remove(&at) else { continue };
            let end = at + extent.len;
            if at < range.start {
                let len = extent.len.min(range.start - at);
                self.runs.insert(at, Extent { len, piece: extent.piece.clone() });
            }
            if end > range.end {
                let from = range.end.max(at);
                let piece = extent.piece.skip(from - at);
                self.runs.insert(from, Extent { len: end - from, piece });
            }
        }
    }

    /// Enters a piece where there is a hole, as one with what ends there.
    fn insert(&mut self, at: u64, len: u64, piece: &Piece) {
        if len == 0 {
            return;
        }
        if let Some((before, extent)) = self.runs.range_mut(..at).next_back()
            && before + extent.len == at
            && extent.piece.continues(extent.len, piece)
        {
            extent.len += len;
            return;
        }
        self.runs.insert(at, Extent { len, piece: piece.clone() });
    }
}

/// Reads an image in order.
#[derive(Debug)]
pub struct Reader<'a> {
    image: &'a Extents,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = (self.image.len - self.at).min(buf.len() as u64) as usize;
        self.image.read_exact_at(&mut buf[..n], self.at).map_err(io::Error::other)?;
        self.at += n as u64;
        Ok(n)
    }
}

fn span(file: &Arc<File>, from: u64) -> Piece {
    Piece::Span { file: file.clone(), from }
}

/// Finds the next range of a file that is not a hole.
fn data_after(file: &File, at: u64, len: u64) -> Result<Option<Range<u64>>> {
    let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) if start < len => start,
        Ok(_) | Err(rustix::io::Errno::NXIO) => return Ok(None),
        // A file system without holes.
        Err(rustix::io::Errno::INVAL) => return Ok(Some(at..len)),
        Err(error) => return Err(error).context("finding the holes of a file"),
    };
    let end = rustix::fs::seek(file, SeekFrom::Hole(start)).context("finding a hole of a file")?;
    Ok(Some(start..end.min(len)))
}

/// Returns the ranges of blocks that are not all zeros.
fn data_blocks(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (index, block) in bytes.chunks(BLOCK).enumerate() {
        if block.iter().all(|byte| *byte == 0) {
            continue;
        }
        let start = index * BLOCK;
        match found.last_mut() {
            Some(last) if last.end == start => last.end += block.len(),
            _ => found.push(start..start + block.len()),
        }
    }
    found
}

#[cfg(test)]
mod tests;
