//! File contents out of an image: a span of the image itself where they stand
//! there in one piece, otherwise put together or unpacked when they are read.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail, ensure};

use super::format::{
    BLOCK, BLOCK_LOG, CHUNKED, COMPRESSED_COMPACT, COMPRESSED_FULL, FLAT_INLINE, FLAT_PLAIN, HOLE,
    LZ4, ZSTD,
};
use super::image::{Image, Inode};
use super::map::{self, Run};
use crate::fs::Extents;
use crate::fs::extents::Piece;
use crate::fs::window::Fields;
use crate::tree::{Content, Hold};

/// How many blocks of the image an extent may have: 1 MiB.
const EXTENT_BLOCKS_MAX: u32 = 256;
/// In a chunk's format: entries of eight bytes that name a device too.
const CHUNK_INDEXES: u32 = 0x20;

/// Returns a file's contents.
pub(super) fn content(image: &Arc<Image>, inode: &Inode) -> Result<Content> {
    if inode.size == 0 {
        return Ok(Content::Bytes(Arc::default()));
    }
    match inode.layout {
        FLAT_PLAIN => Ok(span(image, inode.place.into(), inode.size)?.to_content()),
        FLAT_INLINE => inline(image, inode),
        COMPRESSED_FULL | COMPRESSED_COMPACT => {
            let packed =
                Packed { image: Arc::clone(image), inode: inode.clone(), runs: OnceLock::new() };
            Ok(Content::held(inode.size, Box::new(packed)))
        }
        CHUNKED => chunked(image, inode),
        other => bail!("expected a data layout of 0 to 4, got {other}"),
    }
}

/// Describes bytes from a block of the image on.
fn span(image: &Image, block: u64, len: u64) -> Result<Extents> {
    let at = block * BLOCK as u64;
    image.window.check(at, len)?;
    let (file, from) = image.window.place(at);
    let mut all = Extents::default();
    all.put_piece(0, len, &Piece::Span { file, from });
    Ok(all)
}

fn inline(image: &Image, inode: &Inode) -> Result<Content> {
    let number = (inode.size - 1) / BLOCK as u64;
    let tail = image.flat_block(inode, number)?;
    if number == 0 {
        return Ok(Content::Bytes(tail.into()));
    }
    let mut all = span(image, inode.place.into(), number * BLOCK as u64)?;
    all.push_bytes(tail);
    Ok(all.to_content())
}

fn chunked(image: &Image, inode: &Inode) -> Result<Content> {
    let chunk = chunk_len(inode);
    let wide = inode.place & CHUNK_INDEXES != 0;
    let entry = if wide { 8 } else { 4 };
    let mut at = inode.after_xattrs().next_multiple_of(entry);
    let mut all = Extents::default();
    while all.len() < inode.size {
        let bytes = image.window.read(at, entry as usize).context("reading chunks")?;
        let mut fields = Fields(&bytes);
        if wide {
            let (_, device) = (fields.u16()?, fields.u16()?);
            ensure!(device == 0, "expected chunks in the image itself, got device {device}");
        }
        let len = chunk.min(inode.size - all.len());
        match fields.u32()? {
            HOLE => all.grow(all.len() + len),
            block => all.push(&span(image, block.into(), len)?),
        }
        at += entry;
    }
    Ok(all.to_content())
}

/// Returns how long a file's chunks are, in bytes.
pub(super) fn chunk_len(inode: &Inode) -> u64 {
    1 << (u32::from(BLOCK_LOG) + (inode.place & 0x1f))
}

/// Contents in compressed extents.
#[derive(Debug)]
struct Packed {
    image: Arc<Image>,
    inode: Inode,
    /// The algorithm and the extents, once somebody reads.
    runs: OnceLock<(u8, Vec<Run>)>,
}

impl Hold for Packed {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let (algorithm, runs) = self.runs()?;
        let mut number = runs.partition_point(|run| run.at + run.len <= offset);
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let found = runs.get(number).filter(|run| run.at <= at);
            let run = found.with_context(|| format!("expected an extent for byte {at}"))?;
            let place = (run.block, run.len);
            let bytes = self.image.data.get(place, || unpack(&self.image, run, *algorithm))?;
            let from = (at - run.at) as usize;
            let n = (bytes.len() - from).min(buf.len() - done);
            buf[done..done + n].copy_from_slice(&bytes[from..from + n]);
            done += n;
            number += 1;
        }
        Ok(())
    }
}

impl Packed {
    fn runs(&self) -> Result<&(u8, Vec<Run>)> {
        if let Some(known) = self.runs.get() {
            return Ok(known);
        }
        let found = map::runs(&self.image, &self.inode).context("reading where its extents are")?;
        Ok(self.runs.get_or_init(|| found))
    }
}

fn unpack(image: &Image, run: &Run, algorithm: u8) -> Result<Vec<u8>> {
    let (blocks, len) = (run.blocks, run.len as usize);
    ensure!(blocks <= EXTENT_BLOCKS_MAX, "expected an extent of up to 256 blocks, got {blocks}");
    let mut stored = image.window.read(run.block * BLOCK as u64, blocks as usize * BLOCK)?;
    if run.raw {
        stored.rotate_left(run.rotated);
        stored.truncate(len);
        ensure!(stored.len() == len, "expected {len} bytes stored as they are");
        return Ok(stored);
    }
    let body = &stored[stored.iter().take(BLOCK).take_while(|byte| **byte == 0).count()..];
    let mut plain = vec![0; len];
    let found = match algorithm {
        LZ4 => lz4_flex::block::decompress_into(body, &mut plain)
            .context("decompressing an extent with lz4")?,
        ZSTD => {
            let mut state = zstd::bulk::Decompressor::new().context("setting up zstd")?;
            state
                .decompress_to_buffer(body, &mut plain[..])
                .context("decompressing an extent with zstd")?
        }
        other => bail!("expected lz4 or zstd in an erofs image, got algorithm {other}"),
    };
    ensure!(found == len, "expected an extent of {len} bytes, got {found}");
    Ok(plain)
}
