//! Writes an image in order: small pieces gathered, long gaps left as holes.

use std::io::SeekFrom;

use anyhow::{Context, Result};

use crate::store::Out;
use crate::tree::Content;

/// How much is gathered before it is written, in bytes.
const CAPACITY: usize = 1 << 20;
/// Gaps from this length on become holes, in bytes.
const HOLE: u64 = 64 * 1024;

/// An output that is written forward only.
pub(super) struct Stream<'o> {
    out: &'o mut dyn Out,
    /// Always of [`CAPACITY`]; its first `filled` bytes count.
    buffer: Vec<u8>,
    filled: usize,
    /// Where the buffer begins, in bytes of the image.
    base: u64,
}

impl<'o> Stream<'o> {
    /// Starts at byte 0 of the image, wherever `out` stands.
    pub(super) fn new(out: &'o mut dyn Out) -> Self {
        Self { out, buffer: vec![0; CAPACITY], filled: 0, base: 0 }
    }

    fn position(&self) -> u64 {
        self.base + self.filled as u64
    }

    /// Goes forward to a byte of the image; what lies between is zero.
    pub(super) fn go(&mut self, to: u64) -> Result<()> {
        let gap = to.checked_sub(self.position()).context("expected an image in order")?;
        if gap < HOLE {
            // Below 64 KiB.
            self.room(gap as usize)?.fill(0);
            return Ok(());
        }
        self.flush()?;
        // Images are far below 2^63 bytes.
        self.out.seek(SeekFrom::Current(gap as i64)).context("seeking in the image")?;
        self.base = to;
        Ok(())
    }

    /// Writes bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() >= CAPACITY {
            self.flush()?;
            self.base += bytes.len() as u64;
            return self.out.write_all(bytes).context("writing the image");
        }
        self.room(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Copies a part of some contents.
    pub(super) fn copy(&mut self, content: &Content, mut offset: u64, len: u64) -> Result<()> {
        let end = offset + len;
        while offset < end {
            if self.filled == CAPACITY {
                self.flush()?;
            }
            let n = (end - offset).min((CAPACITY - self.filled) as u64) as usize;
            content.read_exact_at(self.room(n)?, offset)?;
            offset += n as u64;
        }
        Ok(())
    }

    /// Writes what is gathered, and the image's last byte if it is missing.
    pub(super) fn finish(mut self, len: u64) -> Result<()> {
        if self.position() < len {
            self.go(len - 1)?;
            self.write(&[0])?;
        }
        self.flush()?;
        self.out.flush().context("writing the image")
    }

    /// Makes room for bytes that are filled in by the caller, at most
    /// [`CAPACITY`].
    fn room(&mut self, len: usize) -> Result<&mut [u8]> {
        if self.filled + len > CAPACITY {
            self.flush()?;
        }
        let from = self.filled;
        self.filled += len;
        Ok(&mut self.buffer[from..from + len])
    }

    fn flush(&mut self) -> Result<()> {
        self.out.write_all(&self.buffer[..self.filled]).context("writing the image")?;
        self.base += self.filled as u64;
        self.filled = 0;
        Ok(())
    }
}
