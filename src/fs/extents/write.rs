//! Writes an image: to a file by `copy_file_range`, to whatever else by
//! reading and writing, with holes left out by seeking.

use std::fs::File;
use std::io::{SeekFrom, Write};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;

use super::{Extents, Piece};
use crate::store::Out;

/// How much is copied at once through memory, in bytes.
const CHUNK: usize = 1 << 20;

impl Extents {
    /// Writes the image from where `out` stands, seeking over its holes.
    pub fn copy_to(&self, out: &mut dyn Out) -> Result<()> {
        let base = out.stream_position().context("finding where an image is written")?;
        let mut at = 0;
        for (start, len, piece) in self.runs() {
            if start != at {
                out.seek(SeekFrom::Start(base + start)).context("leaving a hole in an image")?;
            }
            write_piece(piece, len, out)?;
            at = start + len;
        }
        if at < self.len {
            // The length of the file tells the length of the image.
            out.seek(SeekFrom::Start(base + self.len - 1)).context("leaving a hole in an image")?;
            out.write_all(&[0]).context("writing the end of an image")?;
        }
        Ok(())
    }

    /// Writes the image to what cannot seek, holes as zeros.
    pub fn copy_into(&self, out: &mut dyn Write) -> Result<()> {
        let mut at = 0;
        for (start, len, piece) in self.runs() {
            write_zeros(start - at, out)?;
            write_piece(piece, len, out)?;
            at = start + len;
        }
        write_zeros(self.len - at, out)
    }

    /// Writes the image to an empty file. The kernel copies the spans, and
    /// shares their blocks where the file system can.
    pub fn write_file(&self, out: &File) -> Result<()> {
        out.set_len(self.len).context("setting the length of an image")?;
        for (start, len, piece) in self.runs() {
            match piece {
                Piece::Bytes { bytes, from } => {
                    let from = *from as usize;
                    out.write_all_at(&bytes[from..from + len as usize], start)
                        .context("writing an image")?;
                }
                Piece::Span { file, from } => copy_range(file, *from, out, start, len)?,
            }
        }
        Ok(())
    }
}

fn write_piece(piece: &Piece, len: u64, out: &mut dyn Write) -> Result<()> {
    if let Piece::Bytes { bytes, from } = piece {
        let from = *from as usize;
        return out.write_all(&bytes[from..from + len as usize]).context("writing an image");
    }
    let mut buf = vec![0; len.min(CHUNK as u64) as usize];
    let mut at = 0;
    while at < len {
        let n = (len - at).min(CHUNK as u64) as usize;
        piece.read(&mut buf[..n], at).context("reading what an image is made of")?;
        out.write_all(&buf[..n]).context("writing an image")?;
        at += n as u64;
    }
    Ok(())
}

fn write_zeros(len: u64, out: &mut dyn Write) -> Result<()> {
    let zeros = [0; 64 * 1024];
    let mut left = len;
    while left > 0 {
        let n = left.min(zeros.len() as u64) as usize;
        out.write_all(&zeros[..n]).context("writing an image")?;
        left -= n as u64;
    }
    Ok(())
}

fn copy_range(file: &File, from: u64, out: &File, to: u64, len: u64) -> Result<()> {
    let (mut read, mut written) = (from, to);
    while written < to + len {
        let left = (to + len - written).min(1 << 30) as usize;
        match rustix::fs::copy_file_range(file, Some(&mut read), out, Some(&mut written), left) {
            Ok(n) => ensure!(n > 0, "expected {left} more bytes of a file, got its end"),
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                return copy_by_hand(file, read, out, written, to + len - written);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("copying a span into an image"),
        }
    }
    Ok(())
}

/// Copies between file systems that the kernel does not copy between.
fn copy_by_hand(file: &File, from: u64, out: &File, to: u64, len: u64) -> Result<()> {
    let mut buf = vec![0; len.min(CHUNK as u64) as usize];
    let mut at = 0;
    while at < len {
        let n = (len - at).min(CHUNK as u64) as usize;
        file.read_exact_at(&mut buf[..n], from + at).context("reading what an image is made of")?;
        out.write_all_at(&buf[..n], to + at).context("writing an image")?;
        at += n as u64;
    }
    Ok(())
}
