//! Extents: which blocks of the disk hold which blocks of a file.
//!
//! Up to four lie in the inode; more in a tree of blocks below it. Follows
//! "ext4 Data Structures and Algorithms", section "Extent Tree".

use super::checksum::Seed;
use super::field::{put16, put32};
use super::{BLOCK, inode};

pub(super) const MAGIC: u16 = 0xf30a;
/// The longest extent that is not marked as unwritten, in blocks.
pub(super) const LEN_MAX: u64 = 32768;
/// Header and entries have this many bytes each.
pub(super) const ENTRY: usize = 12;
/// Entries in an inode.
const ROOT_ENTRIES: usize = 4;
/// Entries in a block, which ends with a checksum of 4 bytes.
const BLOCK_ENTRIES: usize = (BLOCK - ENTRY) / ENTRY;

/// A run of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// First block of the file.
    pub(super) logical: u32,
    /// Length in blocks, at most [`LEN_MAX`].
    pub(super) len: u32,
    /// First block of the disk.
    pub(super) start: u64,
}

/// Where a file lies.
#[derive(Clone, Debug, Default)]
pub(super) struct Mapping {
    /// Its extents in order.
    pub(super) extents: Box<[Extent]>,
    /// The blocks of the tree above them, leaves first.
    pub(super) tree: Box<[u64]>,
}

/// Returns how many blocks each level of a tree has, leaves first, for a
/// number of extents.
pub(super) fn levels(extents: usize) -> Vec<usize> {
    let (mut levels, mut entries) = (Vec::new(), extents);
    while entries > ROOT_ENTRIES {
        entries = entries.div_ceil(BLOCK_ENTRIES);
        levels.push(entries);
    }
    levels
}

impl Mapping {
    /// Returns the blocks of the file itself that are there.
    pub(super) fn data_blocks(&self) -> u64 {
        self.extents.iter().map(|extent| u64::from(extent.len)).sum()
    }

    /// Returns the space that it takes, in blocks.
    pub(super) fn blocks(&self) -> u64 {
        self.data_blocks() + self.tree.len() as u64
    }

    /// Encodes the part that lies in the inode.
    pub(super) fn root(&self) -> [u8; inode::BODY] {
        let mut body = [0; inode::BODY];
        let levels = levels(self.extents.len());
        let top = levels.last().copied().unwrap_or(self.extents.len());
        self.encode(&mut body, &levels, levels.len(), 0..top, ROOT_ENTRIES);
        body
    }

    /// Encodes a block of the tree by its index in [`Mapping::tree`].
    pub(super) fn tree_block(&self, index: usize, seed: Seed) -> Vec<u8> {
        let levels = levels(self.extents.len());
        let (mut level, mut nth) = (0, index);
        while nth >= levels[level] {
            nth -= levels[level];
            level += 1;
        }
        let below = if level == 0 { self.extents.len() } else { levels[level - 1] };
        let from = nth * BLOCK_ENTRIES;
        let range = from..below.min(from + BLOCK_ENTRIES);
        let mut block = vec![0; BLOCK];
        self.encode(&mut block, &levels, level, range, BLOCK_ENTRIES);
        let tail = ENTRY + BLOCK_ENTRIES * ENTRY;
        let sum = seed.sum(&[&block[..tail]]);
        put32(&mut block, tail, sum);
        block
    }

    /// Encodes a node at `level` with those entries of the level below.
    fn encode(
        &self,
        buf: &mut [u8],
        levels: &[usize],
        level: usize,
        range: std::ops::Range<usize>,
        room: usize,
    ) {
        put16(buf, 0, MAGIC);
        put16(buf, 2, range.len() as u16);
        put16(buf, 4, room as u16);
        put16(buf, 6, level as u16);
        // Blocks of the level below come after all of those below it.
        let skipped: usize = levels.iter().take(level.saturating_sub(1)).sum();
        // How many extents one entry of the level below spans.
        let span = BLOCK_ENTRIES.pow(level as u32);
        for (slot, nth) in range.enumerate() {
            let entry = &mut buf[ENTRY * (slot + 1)..];
            let first = self.extents[nth * span];
            put32(entry, 0, first.logical);
            if level == 0 {
                put16(entry, 4, first.len as u16);
                put16(entry, 6, (first.start >> 32) as u16);
                put32(entry, 8, first.start as u32);
            } else {
                let child = self.tree[skipped + nth];
                put32(entry, 4, child as u32);
                put16(entry, 8, (child >> 32) as u16);
            }
        }
    }
}
