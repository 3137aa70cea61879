//! Initial roots: cpio archives one behind the other, each as it is or packed
//! by itself, as the kernel unpacks them.
//!
//! Follows the kernel's "initramfs buffer format" and lib/decompress*.c. What
//! is packed by bzip2, lzma or lzo is left out.

use std::io::{self, BufRead, Read, Write};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::span::{Counted, Span, Unpacked};
use crate::fs::cpio;
use crate::tree::{Content, Tree};

/// The most segments that are read.
const SEGMENTS_MAX: usize = 100_000;
/// Begins a legacy LZ4 frame, the only one that the kernel knows.
const LZ4_MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// What a block of such a frame holds at most, in bytes.
const LZ4_BLOCK: usize = 8 << 20;
/// What it takes at most, in bytes.
const LZ4_PACKED: u32 = (LZ4_BLOCK + LZ4_BLOCK / 255 + 16) as u32;
/// Bytes of a cpio header.
const HEADER: usize = 110;
/// The longest name of a cpio archive, in bytes.
const NAME_MAX: u64 = 4096;
/// Where the kernel looks for microcode.
const MICROCODE: &[u8] = b"kernel/x86/microcode";

/// A part of an initrd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Segment {
    /// How it is packed: `none`, `gzip`, `zstd`, `xz` or `lz4`.
    pub compression: &'static str,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How many bytes it takes.
    pub size: u64,
    /// How many bytes it comes to.
    pub unpacked: u64,
    /// Whether it is microcode, which the kernel takes before all else.
    pub microcode: bool,
}

/// An initrd, read.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) segments: Vec<Segment>,
    /// The root that it comes to, without microcode.
    pub(super) tree: Tree,
}

/// Says how bytes that begin so are packed; `None` where they are not.
pub(super) fn compression(head: &[u8]) -> Option<&'static str> {
    Some(match head {
        [0x1f, 0x8b, ..] => "gzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "xz",
        _ if head.starts_with(&LZ4_MAGIC) => "lz4",
        _ => return None,
    })
}

/// Unpacks what begins at `at` into `out`; returns how many bytes it took.
pub(super) fn unpack(span: &Span, at: u64, with: &str, out: &mut dyn Write) -> Result<u64> {
    let mut from = span.reader(at);
    let unpacked = match with {
        "gzip" => copy(&mut flate2::bufread::GzDecoder::new(&mut from), out),
        "zstd" => zstd::Decoder::with_buffer(&mut from)
            .map_err(Into::into)
            .and_then(|decoder| copy(&mut decoder.single_frame(), out)),
        "xz" => copy(&mut liblzma::bufread::XzDecoder::new(&mut from), out),
        _ => return lz4(span, at, out).with_context(|| format!("unpacking lz4 from byte {at} on")),
    };
    unpacked.with_context(|| format!("unpacking {with} from byte {at} on"))?;
    Ok(from.position() - at)
}

fn copy(from: &mut dyn Read, out: &mut dyn Write) -> Result<()> {
    let mut buf = vec![0; 256 << 10];
    loop {
        let n = from.read(&mut buf)?;
        if n == 0 {
            return Ok(());
        }
        out.write_all(&buf[..n])?;
    }
}

/// Unpacks the blocks of a legacy LZ4 frame: up to what cannot be a block.
fn lz4(span: &Span, begin: u64, out: &mut dyn Write) -> Result<u64> {
    let mut at = begin + LZ4_MAGIC.len() as u64;
    loop {
        let word: Option<[u8; 4]> = span.bytes(at, 4)?.try_into().ok();
        let len = word.map_or(0, u32::from_le_bytes);
        if len == 0 || len > LZ4_PACKED {
            return Ok(at - begin);
        }
        let packed = span.bytes(at + 4, len as usize)?;
        ensure!(packed.len() == len as usize, "expected a block of {len} bytes, got its end");
        out.write_all(&lz4_flex::block::decompress(&packed, LZ4_BLOCK)?)?;
        at += 4 + u64::from(len);
    }
}

/// Reads an initrd: its segments, and the tree that they come to.
pub(super) fn read(span: &Span) -> Result<Contents> {
    let mut plain = Unpacked::new(span.len())?;
    let mut segments: Vec<Segment> = Vec::new();
    let mut at = 0;
    while let Some(begin) = after_zeros(span, at)? {
        ensure!(segments.len() < SEGMENTS_MAX, "expected at most {SEGMENTS_MAX} segments");
        let segment = segment(span, begin, segments.is_empty(), &mut plain)?;
        at = begin + segment.size;
        segments.push(segment);
    }
    ensure!(!segments.is_empty(), "expected an initrd, got nothing but zeros");
    let tree = tree(&plain.finish()?)?;
    Ok(Contents { segments, tree })
}

/// Finds the next byte that is not zero.
fn after_zeros(span: &Span, from: u64) -> Result<Option<u64>> {
    let mut reader = span.reader(from);
    loop {
        let bytes = reader.fill_buf().context("reading an initrd")?;
        let (len, found) = (bytes.len(), bytes.iter().position(|byte| *byte != 0));
        match found {
            _ if len == 0 => return Ok(None),
            Some(zeros) => return Ok(Some(reader.position() + zeros as u64)),
            None => reader.consume(len),
        }
    }
}

fn segment(span: &Span, offset: u64, first: bool, plain: &mut Unpacked) -> Result<Segment> {
    let before = plain.len();
    let head = span.bytes(offset, 6)?;
    if let Some(with) = compression(&head) {
        let size = unpack(span, offset, with, plain)?;
        ensure!(size > 0, "expected a segment of {with} at byte {offset}");
        let unpacked = plain.len() - before;
        return Ok(Segment { compression: with, offset, size, unpacked, microcode: false });
    }
    ensure!(head.starts_with(b"0707"), "expected a segment of an initrd at byte {offset}");
    let (size, microcode) = archive(span, offset)?;
    let microcode = microcode && first;
    if !microcode {
        let archive = span.part(offset..offset + size)?;
        copy(&mut archive.reader(0), plain)?;
    }
    Ok(Segment { compression: "none", offset, size, unpacked: size, microcode })
}

/// Measures an archive that is not packed: up to the end of its last entry.
/// Says, too, whether it has microcode.
fn archive(span: &Span, begin: u64) -> Result<(u64, bool)> {
    let (mut at, mut microcode) = (begin, false);
    loop {
        let header = span.bytes(at, HEADER)?;
        if header.is_empty() && at > begin {
            return Ok((at - begin, microcode));
        }
        ensure!(
            header.len() == HEADER && header.starts_with(b"07070"),
            "expected a cpio header at byte {at}"
        );
        let field = |index: usize| -> Result<u64> {
            let digits = &header[6 + 8 * index..14 + 8 * index];
            let digits = std::str::from_utf8(digits).context("reading a cpio header")?;
            u64::from_str_radix(digits, 16).context("reading a cpio header")
        };
        let (size, name_len) = (field(6)?, field(11)?);
        ensure!(name_len <= NAME_MAX, "expected a name of at most {NAME_MAX} bytes at byte {at}");
        let name = span.bytes(at + HEADER as u64, name_len as usize)?;
        let name = name.strip_suffix(&[0]).unwrap_or(&name);
        microcode |= name.starts_with(MICROCODE);
        let padded = |len: u64| len.next_multiple_of(4);
        let next = at + padded(HEADER as u64 + name_len) + padded(size);
        ensure!(next <= span.len().next_multiple_of(4), "expected a whole cpio entry at byte {at}");
        at = next.min(span.len());
        if name == b"TRAILER!!!" {
            return Ok((at - begin, microcode));
        }
    }
}

/// Reads archives that are not packed, one behind the other.
fn tree(plain: &Span) -> Result<Tree> {
    let (file, offset, _) = plain.place();
    let position = std::cell::Cell::new(0);
    let mut stream = Positioned { reader: plain.reader(0), position: &position };
    let tree = cpio::read(&mut stream, &mut |contents, len| {
        let offset = offset + position.get();
        let got = io::copy(contents, &mut io::sink()).context("reading contents")?;
        ensure!(got == len, "expected {len} bytes of contents, got {got}");
        Ok(Content::part(file.clone(), offset, len))
    });
    tree.context("reading an initrd")
}

/// Reads, and tells somebody else how far it came.
struct Positioned<'a> {
    reader: Counted,
    position: &'a std::cell::Cell<u64>,
}

impl Read for Positioned<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buf)?;
        self.position.set(self.reader.position());
        Ok(n)
    }
}
