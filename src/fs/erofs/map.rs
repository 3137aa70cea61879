//! Which blocks hold which bytes of a compressed or chunked file, read out of
//! an image. The compact form of the index is what mkfs.erofs writes.

use anyhow::{Context, Result, ensure};

use super::format::{
    ADVISE_BIG, BLOCK, COMPRESSED_FULL, INDEX_AT, INDEX_BLOCKS, INDEX_ENTRY, INDEX_HEAD,
    INDEX_PLAIN, INDEX_REST,
};
use super::image::{Image, Inode};
use crate::fs::window::Fields;

/// In a compressed file's header: what is stored as it is stands at the
/// offset that it has in its block of the file; some index entries are short.
const ADVISE_IN_PLACE: u16 = 0x10;
const ADVISE_SHORT: u16 = 0x1;
/// How long an extent may be, in bytes of the file.
const EXTENT_MAX: u64 = 12 << 20;
/// How many index entries a file may have: 64 GiB of it.
const ENTRIES_MAX: u64 = 1 << 24;

/// A run of a compressed file.
#[derive(Debug)]
pub(super) struct Run {
    /// Where it begins in the file.
    pub(super) at: u64,
    pub(super) len: u64,
    pub(super) block: u64,
    pub(super) blocks: u32,
    pub(super) raw: bool,
    /// How far the bytes of a raw block are rotated.
    pub(super) rotated: usize,
}

#[derive(Clone, Copy, Debug)]
enum Entry {
    Head {
        raw: bool,
        offset: u16,
        block: u64,
    },
    /// With the number of blocks, where it is told.
    Rest(Option<u32>),
}

/// Returns the algorithm and the runs of a compressed file.
pub(super) fn runs(image: &Image, inode: &Inode) -> Result<(u8, Vec<Run>)> {
    let count = inode.size.div_ceil(BLOCK as u64);
    ensure!(count <= ENTRIES_MAX, "expected at most {ENTRIES_MAX} index entries, got {count}");
    let at = inode.after_xattrs().next_multiple_of(8);
    let header = image.window.read(at, 8)?;
    let mut header = Fields(&header[4..]);
    let (advise, algorithm, bits) = (header.u16()?, header.u8()?, header.u8()?);
    ensure!(bits == 0, "expected clusters of one block, got {bits:#x}");
    let known = ADVISE_BIG | ADVISE_BIG << 1 | ADVISE_IN_PLACE | ADVISE_SHORT;
    ensure!(advise & !known == 0, "expected no advice beyond {known:#x}, got {advise:#x}");
    let entries = match inode.layout {
        COMPRESSED_FULL => full(image, at + INDEX_AT as u64, count as usize)?,
        _ => compact(image, at + 8, count as usize, advise)?,
    };
    let mut runs = Vec::new();
    let starts = |(number, entry): (usize, &Entry)| match *entry {
        Entry::Head { raw, offset, block } => {
            Some((number, (number * BLOCK) as u64 + u64::from(offset), raw, block))
        }
        Entry::Rest(_) => None,
    };
    let mut heads = entries.iter().enumerate().filter_map(starts).peekable();
    ensure!(heads.peek().is_some_and(|head| head.1 == 0), "expected an extent at the beginning");
    while let Some((number, at, raw, block)) = heads.next() {
        let end = heads.peek().map_or(inode.size, |next| next.1).min(inode.size);
        let Some(len) = end.checked_sub(at).filter(|len| *len > 0) else {
            continue; // It tells where the one before it ends.
        };
        ensure!(len <= EXTENT_MAX, "expected an extent of up to {EXTENT_MAX} bytes, got {len}");
        let blocks = match entries.get(number + 1) {
            Some(Entry::Rest(Some(blocks))) => *blocks,
            _ => 1,
        };
        let rotated = if advise & ADVISE_IN_PLACE != 0 { (at % BLOCK as u64) as usize } else { 0 };
        runs.push(Run { at, len, block, blocks, raw, rotated });
    }
    Ok((algorithm & 0xf, runs))
}

fn full(image: &Image, at: u64, count: usize) -> Result<Vec<Entry>> {
    let bytes = image.window.read(at, count * INDEX_ENTRY).context("reading an index")?;
    let decode = |entry: &[u8]| {
        let mut fields = Fields(entry);
        let (kind, offset, low) = (fields.u16()? & 3, fields.u16()?, fields.u16()?);
        let block = u64::from(low) | u64::from(fields.u16()?) << 16;
        Ok(match kind {
            INDEX_REST => rest(low.into()),
            kind => head(kind, offset, block)?,
        })
    };
    bytes.chunks_exact(INDEX_ENTRY).map(decode).collect()
}

fn rest(distance: u32) -> Entry {
    let blocks = u32::from(INDEX_BLOCKS);
    Entry::Rest((distance & blocks != 0).then_some(distance & !blocks))
}

fn head(kind: u16, offset: u16, block: u64) -> Result<Entry> {
    let known = kind == INDEX_PLAIN || kind == INDEX_HEAD;
    ensure!(known && usize::from(offset) < BLOCK, "expected a head, got {kind} at {offset}");
    Ok(Entry::Head { raw: kind == INDEX_PLAIN, offset, block })
}

/// Reads the compact index: packs of 2 or 16 entries of some bits each, with
/// the block before the pack's first one at the end.
fn compact(image: &Image, at: u64, count: usize, advise: u16) -> Result<Vec<Entry>> {
    // Entries of four bytes until packs are aligned, then of two, then of four.
    let before = ((32 - at % 32) / 4 % 8) as usize;
    let short = advise & ADVISE_SHORT != 0 && before < count;
    let short = if short { (count - before) / 16 * 16 } else { 0 };
    let mut entries = Vec::new();
    let mut at = at;
    while entries.len() < count {
        let narrow = (before..before + short).contains(&entries.len());
        let (size, number) = if narrow { (32, 16) } else { (8, 2) };
        let bytes = image.window.read(at, size as usize).context("reading an index")?;
        pack(&bytes, number, advise, &mut entries)?;
        at += size;
    }
    entries.truncate(count);
    Ok(entries)
}

fn pack(bytes: &[u8], number: usize, advise: u16, entries: &mut Vec<Entry>) -> Result<()> {
    let big = advise & ADVISE_BIG != 0;
    let (bits, base) = bytes.split_at(bytes.len() - 4);
    let width = bits.len() * 8 / number;
    let mut block = u64::from(Fields(base).u32()?);
    // Without big extents the base is the block before the first one.
    block += u64::from(!big);
    for place in 0..number {
        let from = place * width;
        let window =
            (0..4).map(|n| u32::from(bytes.get(from / 8 + n).copied().unwrap_or(0)) << (8 * n));
        let value = window.sum::<u32>() >> (from % 8);
        let (low, kind) = (value & 0xfff, (value >> 12 & 3) as u16);
        let entry = if kind == INDEX_REST { rest(low) } else { head(kind, low as u16, block)? };
        match entry {
            Entry::Head { .. } => block += 1,
            // The head before it was counted as one block.
            Entry::Rest(Some(blocks)) => {
                let head_here = place > 0;
                block += u64::from(blocks) - u64::from(head_here && blocks > 0);
            }
            Entry::Rest(None) => {}
        }
        entries.push(entry);
    }
    Ok(())
}
