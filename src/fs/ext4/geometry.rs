//! Block groups and where their own structures lie: superblock copies, group
//! descriptors, bitmaps and inode tables.
//!
//! Groups of sixteen keep their bitmaps and tables together (`flex_bg`).
//! Follows "ext4 Data Structures and Algorithms", sections "Layout" and
//! "Flexible Block Groups".

use std::ops::Range;

use super::{BLOCK, group, inode};

/// Blocks of a group.
pub(super) const GROUP_BLOCKS: u64 = 8 * BLOCK as u64;
/// Groups that keep their bitmaps and tables together.
pub(super) const FLEX: u32 = 16;
/// Inodes of a group at most.
const GROUP_INODES_MAX: u64 = 8 * BLOCK as u64;
/// Inodes in a block.
const BLOCK_INODES: u64 = (BLOCK / inode::SIZE) as u64;
/// Blocks that a last, shorter group must have beside its own structures.
const LAST_GROUP_MIN: u64 = 50;
/// Group descriptors in a block.
const DESCRIPTORS: u64 = (BLOCK / group::SIZE) as u64;
/// How large the image can grow without moving anything: so many times...
const GROWTH: u64 = 1024;
/// ... and at least to so many blocks (256 GiB) ...
const GROWTH_MIN: u64 = 1 << 26;
/// ... with at most so many blocks of descriptors kept free.
const RESERVED_MAX: u64 = 1024;

/// More blocks would be needed: at least so many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Short(pub(super) u64);

/// Where the structures of one group lie, as block numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) block_bitmap: u64,
    pub(super) inode_bitmap: u64,
    pub(super) table: u64,
}

/// How a number of blocks is divided.
#[derive(Clone, Debug)]
pub(super) struct Geometry {
    /// Blocks in all.
    pub(super) blocks: u64,
    /// Groups.
    pub(super) groups: u32,
    /// Inodes of each group.
    pub(super) group_inodes: u32,
    /// Blocks of each inode table.
    pub(super) table_blocks: u64,
    /// Blocks of group descriptors, in each copy.
    pub(super) descriptor_blocks: u64,
    /// Blocks kept for more descriptors, in each copy; 0 without a resize inode.
    pub(super) reserved_blocks: u64,
    /// Where each group's structures lie.
    pub(super) places: Vec<Place>,
    /// What all that occupies, in order and disjoint.
    pub(super) used: Vec<Range<u64>>,
}

impl Geometry {
    /// Makes one of no blocks, to be replaced.
    pub(super) fn empty() -> Self {
        Self {
            blocks: 0,
            groups: 0,
            group_inodes: 0,
            table_blocks: 0,
            descriptor_blocks: 0,
            reserved_blocks: 0,
            places: Vec::new(),
            used: Vec::new(),
        }
    }

    /// Divides at most `blocks` blocks for at least `inodes` inodes. A
    /// remainder too short for a group is left off. Descriptors find room up
    /// to `grown` blocks at least, as far as possible.
    pub(super) fn new(blocks: u64, inodes: u64, grown: u64) -> Result<Self, Short> {
        let mut geometry = Self::divide(blocks, inodes, grown)?;
        let rest = blocks % GROUP_BLOCKS;
        if rest > 0 {
            let last = geometry.groups - 1;
            let own = if last.is_multiple_of(FLEX) { 2 + geometry.table_blocks } else { 0 };
            let needed = geometry.overhead(last) + own + LAST_GROUP_MIN;
            if rest < needed && last == 0 {
                return Err(Short(needed - rest));
            }
            if rest < needed {
                geometry = Self::divide(blocks - rest, inodes, grown)?;
            }
        }
        geometry.lay()?;
        Ok(geometry)
    }

    fn divide(blocks: u64, inodes: u64, grown: u64) -> Result<Self, Short> {
        let groups = blocks.div_ceil(GROUP_BLOCKS).max(1);
        let group_inodes = inodes.div_ceil(groups).next_multiple_of(BLOCK_INODES);
        if group_inodes > GROUP_INODES_MAX {
            let needed = inodes.div_ceil(GROUP_INODES_MAX) * GROUP_BLOCKS;
            return Err(Short(needed.saturating_sub(blocks).max(1)));
        }
        let descriptor_blocks = groups.div_ceil(DESCRIPTORS);
        let most =
            blocks.saturating_mul(GROWTH).max(GROWTH_MIN).max(grown).min(u64::from(u32::MAX));
        let most = most.div_ceil(GROUP_BLOCKS).div_ceil(DESCRIPTORS);
        let reserved_blocks = most.saturating_sub(descriptor_blocks).min(RESERVED_MAX);
        Ok(Self {
            blocks,
            groups: u32::try_from(groups).unwrap_or(u32::MAX),
            group_inodes: group_inodes as u32,
            table_blocks: group_inodes / BLOCK_INODES,
            descriptor_blocks,
            reserved_blocks,
            places: Vec::new(),
            used: Vec::new(),
        })
    }

    /// Finds a place for all bitmaps and tables.
    fn lay(&mut self) -> Result<(), Short> {
        let mut used = Vec::new();
        for group in 0..self.groups {
            let start = self.start(group);
            if self.overhead(group) > 0 {
                used.push(start..start + self.overhead(group));
            }
        }
        let mut places = vec![Place::default(); self.groups as usize];
        for (flex, places) in places.chunks_mut(FLEX as usize).enumerate() {
            let first = flex as u32 * FLEX;
            let mut at = self.start(first);
            let mut take = |len: u64| -> u64 {
                let start = self.fit(at, len);
                used.push(start..start + len);
                at = start + len;
                start
            };
            places.iter_mut().for_each(|place| place.block_bitmap = take(1));
            places.iter_mut().for_each(|place| place.inode_bitmap = take(1));
            places.iter_mut().for_each(|place| place.table = take(self.table_blocks));
            if at > self.blocks {
                return Err(Short(at - self.blocks));
            }
        }
        self.places = places;
        self.used = merge(used);
        Ok(())
    }

    /// Returns the first place from `at` on where `len` blocks meet no copy
    /// of the superblock.
    fn fit(&self, mut at: u64, len: u64) -> u64 {
        let mut group = at / GROUP_BLOCKS;
        loop {
            let start = group * GROUP_BLOCKS;
            if start >= at + len {
                return at;
            }
            let end = start + self.overhead(u32::try_from(group).unwrap_or(u32::MAX));
            if end > at && end > start {
                at = end;
            }
            group += 1;
        }
    }

    /// Returns the first block of a group.
    pub(super) fn start(&self, group: u32) -> u64 {
        u64::from(group) * GROUP_BLOCKS
    }

    /// Returns a group's blocks; the last group may be shorter.
    pub(super) fn range(&self, group: u32) -> Range<u64> {
        let start = self.start(group);
        start..(start + GROUP_BLOCKS).min(self.blocks)
    }

    /// Returns how many blocks a group's copy of superblock and descriptors
    /// takes, 0 where it has none.
    pub(super) fn overhead(&self, group: u32) -> u64 {
        if has_copy(group) { 1 + self.descriptor_blocks + self.reserved_blocks } else { 0 }
    }

    /// Returns the number of all inodes.
    pub(super) fn inodes(&self) -> u64 {
        u64::from(self.groups) * u64::from(self.group_inodes)
    }

    /// Returns the group that has an inode.
    pub(super) fn group_of_inode(&self, number: u32) -> u32 {
        (number - 1) / self.group_inodes
    }

    /// Returns the groups beside the first that have a copy of the superblock.
    pub(super) fn copies(&self) -> impl Iterator<Item = u32> {
        (1..self.groups).filter(|group| has_copy(*group))
    }
}

/// Says whether a group has a copy of the superblock (`sparse_super`).
pub(super) fn has_copy(group: u32) -> bool {
    let power = |base: u32| {
        let mut power = base;
        while power < group {
            power = power.saturating_mul(base);
        }
        power == group
    };
    group <= 1 || power(3) || power(5) || power(7)
}

/// Sorts ranges and joins those that touch.
pub(super) fn merge(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges.into_iter().filter(|range| !range.is_empty()) {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn puts_copies_where_the_kernel_looks() {
        let copies: Vec<u32> = (0..100).filter(|group| has_copy(*group)).collect();
        assert_eq!(copies, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81]);
    }

    #[test]
    fn lays_structures_apart() {
        for (blocks, inodes) in [(400, 16), (32768, 32768), (70_000, 60_000), (1 << 21, 1 << 20)] {
            let geometry = Geometry::new(blocks, inodes, 0).unwrap();
            let copies: u64 = (0..geometry.groups).map(|g| geometry.overhead(g)).sum();
            let own = u64::from(geometry.groups) * (2 + geometry.table_blocks);
            let used: u64 = geometry.used.iter().map(|r| r.end - r.start).sum();
            // Were any two to overlap, their union would be smaller.
            assert_eq!(used, copies + own, "{blocks} blocks");
            assert!(geometry.used.iter().all(|range| range.end <= geometry.blocks));
            assert!(geometry.inodes() >= inodes);
        }
    }

    #[test]
    fn leaves_off_a_short_last_group() {
        let geometry = Geometry::new(GROUP_BLOCKS + 20, 100, 0).unwrap();
        assert_eq!((geometry.blocks, geometry.groups), (GROUP_BLOCKS, 1));
        assert!(Geometry::new(30, 100, 0).is_err());
    }
}
