//! File contents out of an image: a span of the image itself where they stand
//! there in one piece, otherwise unpacked into a nameless file.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::format::{
    BLOCK, BLOCK_LOG, CHUNKED, COMPRESSED_COMPACT, COMPRESSED_FULL, FLAT_INLINE, FLAT_PLAIN, HOLE,
    LZ4, ZSTD,
};
use super::image::{Image, Inode};
use super::map::{self, Run};
use crate::fs::scratch::{Scratch, Unpacking};
use crate::fs::window::Fields;
use crate::tree::Content;

/// How many blocks of the image an extent may have: 1 MiB.
const EXTENT_BLOCKS_MAX: u32 = 256;
/// How much plain data is read at once, in bytes.
const READ: u64 = 1 << 20;
/// In a chunk's format: entries of eight bytes that name a device too.
const CHUNK_INDEXES: u32 = 0x20;

/// Unpacks the contents of one image.
#[derive(Debug)]
pub(super) struct Extractor<'a> {
    image: &'a Image,
    scratch: Scratch,
    // What stands in the image alone, by its first block and length.
    known: BTreeMap<(u32, u64), Content>,
}

impl<'a> Extractor<'a> {
    /// Begins with nothing unpacked.
    pub(super) fn new(image: &'a Image) -> Result<Self> {
        Ok(Self { image, scratch: Scratch::new(image.window.len())?, known: BTreeMap::new() })
    }

    /// Returns a file's contents.
    pub(super) fn content(&mut self, inode: &Inode) -> Result<Content> {
        if inode.size == 0 {
            return Ok(Content::Bytes(Arc::from([])));
        }
        match inode.layout {
            FLAT_PLAIN => self.plain(inode),
            FLAT_INLINE => self.inline(inode),
            COMPRESSED_FULL | COMPRESSED_COMPACT => self.compressed(inode),
            CHUNKED => self.chunked(inode),
            other => bail!("expected a data layout of 0 to 4, got {other}"),
        }
    }

    /// Lets all contents returned so far be read.
    pub(super) fn finish(self) -> Result<()> {
        self.scratch.finish()
    }

    fn plain(&mut self, inode: &Inode) -> Result<Content> {
        let key = (inode.place, inode.size);
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let at = u64::from(inode.place) * BLOCK as u64;
        let mut unpacking = self.scratch.begin(inode.size)?;
        read(self.image, at, inode.size, &mut |bytes| unpacking.pass(bytes))?;
        let content = unpacking.end(Some(self.image.window.place(at)));
        self.known.insert(key, content.clone());
        Ok(content)
    }

    fn inline(&mut self, inode: &Inode) -> Result<Content> {
        let number = (inode.size - 1) / BLOCK as u64;
        let tail = self.image.flat_block(inode, number)?;
        if number == 0 {
            return Ok(Content::Bytes(tail.into()));
        }
        let at = u64::from(inode.place) * BLOCK as u64;
        let mut unpacking = self.scratch.begin(inode.size)?;
        read(self.image, at, number * BLOCK as u64, &mut |bytes| unpacking.append(bytes))?;
        unpacking.append(&tail)?;
        Ok(unpacking.end(None))
    }

    fn compressed(&mut self, inode: &Inode) -> Result<Content> {
        let (algorithm, runs) = map::runs(self.image, inode)?;
        let mut unpacking = self.scratch.begin(inode.size)?;
        for run in &runs {
            unpacking.append(&self::run(self.image, run, algorithm)?)?;
        }
        let len = unpacking.len();
        ensure!(len == inode.size, "expected {} bytes in extents, got {len}", inode.size);
        Ok(unpacking.end(None))
    }

    fn chunked(&mut self, inode: &Inode) -> Result<Content> {
        let chunk = chunk_len(inode);
        let wide = inode.place & CHUNK_INDEXES != 0;
        let entry = if wide { 8 } else { 4 };
        let mut at = inode.after_xattrs().next_multiple_of(entry);
        let mut unpacking = self.scratch.begin(inode.size)?;
        while unpacking.len() < inode.size {
            let bytes = self.image.window.read(at, entry as usize).context("reading chunks")?;
            let mut fields = Fields(&bytes);
            if wide {
                let (_, device) = (fields.u16()?, fields.u16()?);
                ensure!(device == 0, "expected chunks in the image itself, got device {device}");
            }
            let len = chunk.min(inode.size - unpacking.len());
            match fields.u32()? {
                HOLE => unpacking.skip(len)?,
                block => append(self.image, u64::from(block), len, &mut unpacking)?,
            }
            at += entry;
        }
        Ok(unpacking.end(None))
    }
}

/// Returns how long a file's chunks are, in bytes.
pub(super) fn chunk_len(inode: &Inode) -> u64 {
    1 << (u32::from(BLOCK_LOG) + (inode.place & 0x1f))
}

fn append(image: &Image, block: u64, len: u64, unpacking: &mut Unpacking<'_>) -> Result<()> {
    read(image, block * BLOCK as u64, len, &mut |bytes| unpacking.append(bytes))
}

fn read(
    image: &Image,
    mut at: u64,
    mut len: u64,
    take: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    while len > 0 {
        let n = len.min(READ);
        take(&image.window.read(at, n as usize)?)?;
        at += n;
        len -= n;
    }
    Ok(())
}

fn run(image: &Image, run: &Run, algorithm: u8) -> Result<Vec<u8>> {
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
