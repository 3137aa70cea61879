//! Writes an image: to a file by `copy_file_range` or by several threads, to
//! whatever else by reading and writing, with holes left out by seeking.

use std::fs::File;
use std::io::{self, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FallocateFlags, fallocate, fstatfs};
use rustix::io::Errno;

use super::{Extents, Piece};
use crate::store::Out;

/// How much is copied at once through memory, in bytes.
const CHUNK: usize = 1 << 20;
/// The same where several threads copy: it stays in their processors' caches.
const BUFFER: u64 = 256 << 10;
/// How much of a span a thread takes at once, in bytes.
const SHARE: u64 = 4 << 20;
/// How many threads copy at most: one at a time writes.
const MOST: usize = 4;
/// The magic numbers of ext4 and tmpfs, which cannot share blocks.
const UNSHARED: [u32; 2] = [0xef53, 0x0102_1994];

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

    /// Writes the image to an empty file. Where a file system can share blocks,
    /// the kernel copies the spans; else several threads do, which is faster.
    pub fn write_file(&self, out: &File) -> Result<()> {
        out.set_len(self.len).context("setting the length of an image")?;
        self.reserve(out)?;
        let by_hand = shares_nothing(out);
        let mut copies = Vec::new();
        for (start, len, piece) in self.runs() {
            match piece {
                Piece::Bytes { bytes, from } => {
                    let from = *from as usize;
                    out.write_all_at(&bytes[from..from + len as usize], start)
                        .context("writing an image")?;
                }
                Piece::Span { file, from } if by_hand => {
                    copies.extend(shares(file, *from, start, len))
                }
                Piece::Span { file, from } => copy_range(file, *from, out, start, len)?,
                held @ Piece::Held { .. } => {
                    copy_by_hand(&|buf, at| held.read(buf, at), out, start, len)?;
                }
            }
        }
        copy_at_once(&copies, out)
    }

    /// Has the file system set room aside for what is not a hole: the copying
    /// is faster for it, and a full disk is told before anything is written.
    fn reserve(&self, out: &File) -> Result<()> {
        let mut runs = self.runs().map(|(start, len, _)| start..start + len).peekable();
        while let Some(mut range) = runs.next() {
            while let Some(next) = runs.next_if(|next| next.start == range.end) {
                range.end = next.end;
            }
            let len = range.end - range.start;
            if len < CHUNK as u64 {
                continue;
            }
            match fallocate(out, FallocateFlags::empty(), range.start, len) {
                // Not every file system can, nor what is no file.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV | Errno::INTR) => {}
                Err(error) => return Err(error).context("making room for an image"),
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
                let take = |buf: &mut [u8], at: u64| file.read_exact_at(buf, read + at);
                return copy_by_hand(&take, out, written, to + len - written);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("copying a span into an image"),
        }
    }
    Ok(())
}

/// Copies what the kernel does not copy, such as between file systems.
fn copy_by_hand(
    take: &dyn Fn(&mut [u8], u64) -> io::Result<()>,
    out: &File,
    to: u64,
    len: u64,
) -> Result<()> {
    let mut buf = vec![0; len.min(BUFFER) as usize];
    let mut at = 0;
    while at < len {
        let n = (len - at).min(BUFFER) as usize;
        take(&mut buf[..n], at).context("reading what an image is made of")?;
        out.write_all_at(&buf[..n], to + at).context("writing an image")?;
        at += n as u64;
    }
    Ok(())
}

/// A part of a span, and where it goes.
struct Share<'a> {
    file: &'a File,
    from: u64,
    to: u64,
    len: u64,
}

/// Divides a span among those who copy.
fn shares(file: &File, from: u64, to: u64, len: u64) -> impl Iterator<Item = Share<'_>> {
    (0..len).step_by(SHARE as usize).map(move |at| {
        let len = SHARE.min(len - at);
        Share { file, from: from + at, to: to + at, len }
    })
}

/// Copies by as many threads as there are processors: while one has the file
/// to write to, the others read. They are not rayon's, whose threads may all
/// be waiting for this very image.
fn copy_at_once(shares: &[Share<'_>], out: &File) -> Result<()> {
    let next = AtomicUsize::new(0);
    let copy = || {
        while let Some(share) = shares.get(next.fetch_add(1, Ordering::Relaxed)) {
            let take = |buf: &mut [u8], at| share.file.read_exact_at(buf, share.from + at);
            copy_by_hand(&take, out, share.to, share.len)?;
        }
        Ok(())
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST);
    if shares.len() < 2 || threads < 2 {
        return copy();
    }
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(copy)).collect();
        let first = copy();
        let joined = others
            .into_iter()
            .map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.fold(first, Result::and)
    })
}

/// Says whether a file lies where no two files have a block in common.
fn shares_nothing(file: &File) -> bool {
    fstatfs(file).is_ok_and(|stat| UNSHARED.contains(&(stat.f_type as u32)))
}
