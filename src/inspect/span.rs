//! A range of a file that holds something byte for byte, and what is
//! unpacked into a file of its own to be such a range.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::fs::Extents;
use crate::fs::extents::Piece;
use crate::tree::Content;

/// How many bytes anything may unpack to, however small; a fuzzer wants to
/// see many inputs, not large ones.
const UNPACKED_FREE: u64 = if cfg!(fuzzing) { 64 << 20 } else { 16 << 30 };
/// How many times its own size it may unpack to beyond that.
const UNPACKED_RATIO: u64 = 50;
/// Zeros of this many bytes become a hole of what is unpacked.
const BLOCK: usize = 64 << 10;

/// Returns how many bytes so many packed ones may come to.
fn limit(packed: u64) -> u64 {
    UNPACKED_FREE.saturating_add(packed.saturating_mul(UNPACKED_RATIO))
}

/// A range of a file. Reads never leave it.
#[derive(Clone, Debug)]
pub(super) struct Span {
    file: Arc<File>,
    offset: u64,
    len: u64,
}

impl Span {
    /// Describes a whole file.
    pub(super) fn of_file(file: Arc<File>) -> Result<Self> {
        let len = file.metadata().context("finding the length of a file")?.len();
        Ok(Self { file, offset: 0, len })
    }

    /// Describes an image: where it lies in one piece, else in a file without
    /// a name that it is copied to, its holes left out. `packed` is how many
    /// bytes it comes from.
    pub(super) fn of_image(image: &Extents, packed: u64) -> Result<Self> {
        let mut runs = image.runs();
        if let (Some((0, len, Piece::Span { file, from })), None) = (runs.next(), runs.next())
            && len == image.len()
        {
            return Ok(Self { file: file.clone(), offset: *from, len });
        }
        let held = image.runs().fold(0, |sum: u64, (_, len, _)| sum.saturating_add(len));
        ensure!(held <= limit(packed), "expected at most {} bytes, got more", limit(packed));
        let file = tempfile::tempfile().context("making a file for an image")?;
        image.write_file(&file)?;
        Self::of_file(Arc::new(file))
    }

    /// Describes what a file of a tree holds, which is unpacked unless it lies
    /// in one piece.
    pub(super) fn of_content(content: &Content) -> Result<Self> {
        if let Some((file, offset)) = content.place() {
            return Ok(Self { file: file.clone(), offset, len: content.len() });
        }
        let mut unpacked = Unpacked::new(0)?;
        content.copy_to(&mut unpacked)?;
        unpacked.finish()
    }

    /// Returns the length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Cuts out a part, which must lie within.
    pub(super) fn part(&self, range: Range<u64>) -> Result<Self> {
        ensure!(
            range.start <= range.end && range.end <= self.len,
            "expected a part of {} bytes, got {}..{}",
            self.len,
            range.start,
            range.end
        );
        let (offset, len) = (self.offset + range.start, range.end - range.start);
        Ok(Self { file: self.file.clone(), offset, len })
    }

    /// Returns the file, and where in it the range begins and how long it is.
    pub(super) fn place(&self) -> (Arc<File>, u64, u64) {
        (self.file.clone(), self.offset, self.len)
    }

    /// Returns the range as an image of one piece: holes are not looked for.
    pub(super) fn image(&self) -> Extents {
        let mut image = Extents::default();
        let piece = Piece::Span { file: self.file.clone(), from: self.offset };
        image.put_piece(0, self.len, &piece);
        image
    }

    /// Returns `len` bytes from `at` on, or as many as there are.
    pub(super) fn bytes(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        let len = self.len.saturating_sub(at).min(len as u64) as usize;
        let mut bytes = vec![0; len];
        let read = self.file.read_exact_at(&mut bytes, self.offset.saturating_add(at));
        read.with_context(|| format!("reading {len} bytes at {at}"))?;
        Ok(bytes)
    }

    /// Reads from `at` on, and counts what was taken.
    pub(super) fn reader(&self, at: u64) -> Counted {
        let at = at.min(self.len);
        let raw = Raw { span: self.clone(), at };
        Counted { reader: BufReader::with_capacity(256 << 10, raw), at }
    }
}

/// Reads a range in order.
#[derive(Debug)]
struct Raw {
    span: Span,
    at: u64,
}

impl Read for Raw {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = (self.span.len - self.at).min(buf.len() as u64) as usize;
        self.span.file.read_exact_at(&mut buf[..n], self.span.offset + self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Reads a range in order and knows how far it came.
#[derive(Debug)]
pub(super) struct Counted {
    reader: BufReader<Raw>,
    at: u64,
}

impl Counted {
    /// Returns the offset of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.at
    }
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buf)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl BufRead for Counted {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.at += n as u64;
        self.reader.consume(n);
    }
}

/// A file without a name that something is unpacked into, zeros as holes.
#[derive(Debug)]
pub(super) struct Unpacked {
    file: File,
    at: u64,
    limit: u64,
}

impl Unpacked {
    /// Makes the file for what takes `packed` bytes where it is packed.
    pub(super) fn new(packed: u64) -> Result<Self> {
        let file = tempfile::tempfile().context("making a file for what is unpacked")?;
        Ok(Self { file, at: 0, limit: limit(packed) })
    }

    /// Returns how many bytes there are so far.
    pub(super) fn len(&self) -> u64 {
        self.at
    }

    /// Returns what was unpacked.
    pub(super) fn finish(self) -> Result<Span> {
        self.file.set_len(self.at).context("ending what is unpacked")?;
        Span::of_file(Arc::new(self.file))
    }
}

impl Write for Unpacked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = &bytes[..bytes.len().min(BLOCK)];
        if self.at + taken.len() as u64 > self.limit {
            let text = format!("expected at most {} bytes, got more: is it a bomb?", self.limit);
            return Err(io::Error::other(text));
        }
        if taken.iter().any(|byte| *byte != 0) {
            self.file.write_all_at(taken, self.at)?;
        }
        self.at += taken.len() as u64;
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacks_with_holes_and_within_a_limit() {
        let mut unpacked = Unpacked::new(0).unwrap();
        unpacked.limit = 200_000;
        unpacked.write_all(&[0; 150_000]).unwrap();
        unpacked.write_all(b"end").unwrap();
        assert!(unpacked.write_all(&[1; 60_000]).unwrap_err().to_string().contains("bomb"));
        let span = unpacked.finish().unwrap();
        assert_eq!(span.len(), 150_003);
        assert_eq!(span.bytes(149_999, 10).unwrap(), b"\0end");
        let part = span.part(150_000..150_003).unwrap();
        let mut reader = part.reader(1);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), reader.position()), ("nd", 3));
        assert!(part.part(1..4).is_err());
        assert_eq!(part.image().bytes(0, 3).unwrap(), b"end");
    }

    #[test]
    fn copies_an_image_of_several_pieces() {
        let mut image = Extents::of_bytes(&b"begin"[..]);
        image.grow(10_000);
        image.push_bytes(&b"end"[..]);
        let span = Span::of_image(&image, 0).unwrap();
        assert_eq!((span.len(), span.bytes(9_999, 9).unwrap()), (10_003, b"\0end".to_vec()));
    }
}
