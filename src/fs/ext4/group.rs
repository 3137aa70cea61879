//! Group descriptors and the bitmaps that they tell of.
//!
//! Follows "ext4 Data Structures and Algorithms", sections "Block Group
//! Descriptors" and "Block and Inode Bitmaps".

use std::ops::Range;

use super::BLOCK;
use super::field::{put16, put16_split, put32_split};
use super::geometry::GROUP_BLOCKS;
use super::plan::Layout;

/// Size of a descriptor in bytes, with the fields for 64 bits.
pub(super) const SIZE: usize = 64;
const CHECKSUM: usize = 0x1e;

/// Flag: no inode of the group is in use, and its bitmap is not written.
const INODE_UNINIT: u16 = 1;
/// Flag: the group holds nothing but copies, and its bitmap is not written.
const BLOCK_UNINIT: u16 = 2;
/// Flag: the inode table beyond what is in use is zero.
const TABLE_ZEROED: u16 = 4;

/// Encodes all descriptors, in whole blocks.
pub(super) fn descriptors(layout: &Layout) -> Vec<u8> {
    let folders = folders(layout);
    let mut bytes = vec![0; layout.geometry.descriptor_blocks as usize * BLOCK];
    for (group, raw) in (0..layout.geometry.groups).zip(bytes.as_chunks_mut::<SIZE>().0) {
        encode(layout, group, folders[group as usize], raw);
    }
    bytes
}

fn encode(layout: &Layout, group: u32, folders: u32, raw: &mut [u8; SIZE]) {
    let geometry = &layout.geometry;
    let place = geometry.places[group as usize];
    put32_split(raw, 0x00, 0x20, place.block_bitmap);
    put32_split(raw, 0x04, 0x24, place.inode_bitmap);
    put32_split(raw, 0x08, 0x28, place.table);
    let range = geometry.range(group);
    let free = range.end - range.start - used_blocks(layout, &range);
    put16_split(raw, 0x0c, 0x2c, free as u32);
    let unused = geometry.group_inodes - used_inodes(layout, group);
    put16_split(raw, 0x0e, 0x2e, unused);
    put16_split(raw, 0x10, 0x30, folders);
    put16_split(raw, 0x1c, 0x32, unused);
    let mut flags = TABLE_ZEROED;
    if has_block_bitmap(layout, group) {
        let sum = layout.seed.sum(&[&block_bitmap(layout, group)]);
        put16_split(raw, 0x18, 0x38, sum);
    } else {
        flags |= BLOCK_UNINIT;
    }
    if has_inodes(layout, group) {
        let bitmap = inode_bitmap(layout, group);
        let sum = layout.seed.sum(&[&bitmap[..geometry.group_inodes as usize / 8]]);
        put16_split(raw, 0x1a, 0x3a, sum);
    } else {
        flags |= INODE_UNINIT;
    }
    put16(raw, 0x12, flags);
    let sum = layout.seed.sum(&[&group.to_le_bytes(), &raw[..]]);
    put16(raw, CHECKSUM, sum as u16);
}

/// Says whether a group's block bitmap is written. Where it holds no more
/// than copies of superblock and descriptors, the kernel makes it up.
pub(super) fn has_block_bitmap(layout: &Layout, group: u32) -> bool {
    let last = group + 1 == layout.geometry.groups;
    let used = used_blocks(layout, &layout.geometry.range(group));
    group == 0 || last || used != layout.geometry.overhead(group)
}

/// Says whether inodes of a group are in use.
pub(super) fn has_inodes(layout: &Layout, group: u32) -> bool {
    used_inodes(layout, group) > 0
}

/// Returns how many inodes of a group are in use: always its first ones.
pub(super) fn used_inodes(layout: &Layout, group: u32) -> u32 {
    let before = u64::from(group) * u64::from(layout.geometry.group_inodes);
    let used = u64::from(layout.last_inode()).saturating_sub(before);
    used.min(layout.geometry.group_inodes.into()) as u32
}

/// Returns the used ranges that meet a range, cut to it.
fn used_within<'l>(
    layout: &'l Layout,
    range: &Range<u64>,
) -> impl Iterator<Item = Range<u64>> + use<'l> {
    let range = range.clone();
    let from = layout.used.partition_point(|used| used.end <= range.start);
    layout.used[from..]
        .iter()
        .take_while(move |used| used.start < range.end)
        .map(move |used| used.start.max(range.start)..used.end.min(range.end))
}

fn used_blocks(layout: &Layout, range: &Range<u64>) -> u64 {
    used_within(layout, range).map(|used| used.end - used.start).sum()
}

/// Encodes a group's block bitmap. What lies beyond the image's end counts
/// as used.
pub(super) fn block_bitmap(layout: &Layout, group: u32) -> Vec<u8> {
    let mut bitmap = vec![0; BLOCK];
    let range = layout.geometry.range(group);
    for used in used_within(layout, &range) {
        set(&mut bitmap, used.start - range.start..used.end - range.start);
    }
    set(&mut bitmap, range.end - range.start..GROUP_BLOCKS);
    bitmap
}

/// Encodes a group's inode bitmap. What lies beyond the group's inodes
/// counts as used.
pub(super) fn inode_bitmap(layout: &Layout, group: u32) -> Vec<u8> {
    let mut bitmap = vec![0; BLOCK];
    set(&mut bitmap, 0..used_inodes(layout, group).into());
    set(&mut bitmap, layout.geometry.group_inodes.into()..8 * BLOCK as u64);
    bitmap
}

fn set(bitmap: &mut [u8], bits: Range<u64>) {
    let (mut at, end) = (bits.start, bits.end);
    while at < end {
        // Bits of one bitmap: far below 2^32.
        let byte = (at / 8) as usize;
        if at.is_multiple_of(8) && end - at >= 8 {
            let whole = ((end - at) / 8) as usize;
            bitmap[byte..byte + whole].fill(0xff);
            at += whole as u64 * 8;
        } else {
            bitmap[byte] |= 1 << (at % 8);
            at += 1;
        }
    }
}

/// Counts the folders of each group.
fn folders(layout: &Layout) -> Vec<u32> {
    let mut counts = vec![0; layout.geometry.groups as usize];
    for node in layout.nodes.iter().filter(|node| node.is_folder()) {
        counts[layout.geometry.group_of_inode(node.number) as usize] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_bits_in_any_range() {
        for (from, to) in [(0, 0), (3, 5), (0, 8), (5, 29), (8, 24), (7, 9), (31, 32)] {
            let mut bitmap = [0; 4];
            set(&mut bitmap, from..to);
            let word = u32::from_le_bytes(bitmap);
            let wanted = (from..to).fold(0u32, |word, bit| word | 1 << bit);
            assert_eq!(word, wanted, "{from}..{to}");
        }
    }
}
