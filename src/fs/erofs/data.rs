//! File contents: packed piece by piece, in parallel, into whole blocks.

use std::io::Write;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Options;
use super::codec::{Compression, Extent, PIECE, Packed};
use super::format::{BLOCK, CHUNK, HOLE};
use super::layout::INLINE_MAX;
use crate::fs::contents::Group;
use crate::fs::hole::next_data;
use crate::fs::ordered::Ordered;
use crate::tree::Content;

/// From how many pieces on a file is looked at for holes.
const LARGE: u64 = 8;

/// Where one file's contents ended up. Blocks are counted from the pack's
/// beginning until the writer moves them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Stored {
    /// Length in bytes.
    pub(super) len: u64,
    /// The first block.
    pub(super) start: u32,
    /// How many blocks.
    pub(super) blocks: u32,
    /// How many bytes at the end are for the inode to hold.
    pub(super) tail: u32,
    /// How the blocks make up the file.
    pub(super) form: Form,
}

/// How blocks make up a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Form {
    /// One after another.
    #[default]
    Flat,
    /// In extents, some of them compressed.
    Extents(Vec<Extent>),
    /// In chunks, some of them [`HOLE`]s.
    Chunks(Vec<u32>),
}

/// Where a group's contents ended up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Pack {
    /// One for each of the group's contents.
    pub(super) files: Vec<Stored>,
    /// Length of the pack in blocks.
    pub(super) blocks: u32,
}

/// A piece of a file, ready.
struct Piece {
    file: usize,
    last: bool,
    packed: Packed,
    /// Which of its chunks hold anything; the bytes are theirs only.
    chunks: Vec<bool>,
}

struct Packer<'a> {
    options: &'a Options,
    out: &'a mut dyn Write,
    jobs: Ordered<Result<Piece>>,
    pack: Pack,
    // Of the file whose pieces come in.
    parts: Parts,
}

/// What a file is made of, as its pieces come in: extents or chunks.
#[derive(Default)]
struct Parts {
    extents: Vec<Extent>,
    chunks: Vec<u32>,
    compressed: bool,
    holes: bool,
}

/// Packs a group's contents and writes them to `out`.
pub(super) fn pack(group: &Group, options: &Options, out: &mut dyn Write) -> Result<Pack> {
    let pack = Pack { files: vec![Stored::default(); group.contents.len()], blocks: 0 };
    let jobs = Ordered::new(PIECE * 2);
    let mut packer = Packer { options, out, jobs, pack, parts: Parts::default() };
    for (file, content) in group.contents.iter().enumerate() {
        packer.file(file, content)?;
    }
    while let Some(done) = packer.jobs.next() {
        packer.store(done?)?;
    }
    Ok(packer.pack)
}

impl Packer<'_> {
    fn file(&mut self, file: usize, content: &Content) -> Result<()> {
        let len = content.len();
        self.pack.files[file].len = len;
        let zeros = zeros(content)?;
        let mut options = self.options.clone();
        if zeros.iter().filter(|zero| **zero).count() * 4 > zeros.len() * 3 {
            // Better stored in chunks, as compressed files have no holes.
            options.compression = Compression::None;
        }
        let mut at = 0;
        while at < len {
            let size = (len - at).min(PIECE as u64) as usize;
            let (content, options) = (content.clone(), options.clone());
            let last = at + size as u64 == len;
            let is_zeros = zeros.get((at / PIECE as u64) as usize).copied().unwrap_or_default();
            let done = self.jobs.push(move || {
                let mut bytes = vec![0; size];
                if !is_zeros {
                    content.read_exact_at(&mut bytes, at)?;
                }
                let (packed, chunks) = prepare(bytes, &options)?;
                Ok(Piece { file, last, packed, chunks })
            });
            at += size as u64;
            done.map_or(Ok(()), |done| self.store(done?))?;
        }
        Ok(())
    }

    fn store(&mut self, mut piece: Piece) -> Result<()> {
        if self.parts.is_empty() {
            self.pack.files[piece.file].start = self.pack.blocks;
        }
        self.parts.add(&piece, self.pack.blocks);
        let file = &mut self.pack.files[piece.file];
        let tail = (file.len % BLOCK as u64) as usize;
        let bytes = &mut piece.packed.bytes;
        if piece.last && self.parts.is_flat() && (1..=INLINE_MAX).contains(&tail) {
            bytes.truncate(bytes.len() - BLOCK);
            file.tail = tail as u32;
        }
        self.out.write_all(bytes).context("writing file contents")?;
        let blocks = (bytes.len() / BLOCK) as u32;
        file.blocks += blocks;
        let total = self.pack.blocks.checked_add(blocks);
        self.pack.blocks = total.context("expected contents of less than 16 TiB")?;
        if piece.last {
            file.form = std::mem::take(&mut self.parts).form();
        }
        Ok(())
    }
}

impl Parts {
    fn is_empty(&self) -> bool {
        self.extents.is_empty() && self.chunks.is_empty()
    }

    fn is_flat(&self) -> bool {
        !self.holes && !self.compressed
    }

    /// Adds a piece, whose bytes begin at block `next`.
    fn add(&mut self, piece: &Piece, mut next: u32) {
        for extent in &piece.packed.extents {
            self.compressed |= !extent.raw;
            // In one run as long as they begin where blocks do.
            let known = self.extents.last_mut().filter(|known| known.raw && extent.raw);
            let merged = known.and_then(|known| {
                let whole = (known.len as usize).is_multiple_of(BLOCK);
                known.len = known.len.checked_add(extent.len).filter(|_| whole)?;
                known.blocks += extent.blocks;
                Some(())
            });
            if merged.is_none() {
                self.extents.push(*extent);
            }
        }
        for full in &piece.chunks {
            self.holes |= !full;
            self.chunks.push(if *full { next } else { HOLE });
            // What would go beyond is told when the blocks are counted.
            next = next.saturating_add(if *full { (CHUNK / BLOCK) as u32 } else { 0 });
        }
    }

    fn form(self) -> Form {
        match (self.compressed, self.holes) {
            (true, _) => Form::Extents(self.extents),
            (_, true) => Form::Chunks(self.chunks),
            _ => Form::Flat,
        }
    }
}

/// Says of each piece of a large file whether it is zeros, but of the last one
/// where it is shorter; nothing of a small file.
fn zeros(content: &Content) -> Result<Vec<bool>> {
    let pieces = content.len() / PIECE as u64;
    if pieces < LARGE {
        return Ok(Vec::new());
    }
    let mut buf = vec![0; PIECE];
    let mut is_zeros = |at: u64| {
        if next_data(content, at, PIECE) != Some(at) {
            return Ok(true);
        }
        // Mostly the first block tells.
        for len in [BLOCK, PIECE] {
            content.read_exact_at(&mut buf[..len], at)?;
            if !is_zero(&buf[..len]) {
                return Ok(false);
            }
        }
        Ok(true)
    };
    (0..pieces)
        .map(|piece| is_zeros(piece * PIECE as u64))
        .collect::<Result<_>>()
        .context("looking for holes")
}

/// Packs a piece; without compression, it leaves out the chunks of zeros.
fn prepare(bytes: Vec<u8>, options: &Options) -> Result<(Packed, Vec<bool>)> {
    if options.compression != Compression::None {
        return Ok((options.compression.pack(&bytes, options.cluster as usize)?, Vec::new()));
    }
    let chunks: Vec<bool> = bytes.chunks(CHUNK).map(|chunk| !is_zero(chunk)).collect();
    let mut bytes = bytes;
    if chunks.contains(&false) {
        let full = bytes.chunks(CHUNK).zip(&chunks).filter(|(_, full)| **full);
        bytes = full.flat_map(|(chunk, _)| chunk).copied().collect();
    }
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    Ok((Packed { extents: Vec::new(), bytes }, chunks))
}

fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    bytes.chunks(BLOCK).all(|chunk| *chunk == ZEROS[..chunk.len()])
}
