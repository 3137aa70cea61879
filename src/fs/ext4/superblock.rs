//! The superblock: what the file system is like, in a kilobyte.
//!
//! Follows "ext4 Data Structures and Algorithms", section "Super Block".

use anyhow::{Result, ensure};

use super::extent::Mapping;
use super::field::{get, get16, get32, get32_split, put16, put32, put32_split};
use super::plan::Layout;
use super::{BLOCK, Options, geometry, group, htree, inode, journal};

/// Where the first copy lies, in bytes.
pub(super) const OFFSET: u64 = 1024;
/// Its length in bytes.
pub(super) const SIZE: usize = 1024;
/// Where its checksum lies.
const CHECKSUM: usize = 0x3fc;
const MAGIC: u16 = 0xef53;
/// The first inode that is not for the file system's own use.
pub(super) const FIRST_INODE: u32 = 11;

// Features that others may ignore.
const HAS_JOURNAL: u32 = 0x4;
const EXT_ATTR: u32 = 0x8;
const RESIZE_INODE: u32 = 0x10;
const DIR_INDEX: u32 = 0x20;
// Features that others must know.
const FILETYPE: u32 = 0x2;
const RECOVER: u32 = 0x4;
const META_BG: u32 = 0x10;
const HAS_EXTENTS: u32 = 0x40;
const BITS_64: u32 = 0x80;
const FLEX_BG: u32 = 0x200;
const CSUM_SEED: u32 = 0x2000;
// Features that others must know to write.
const SPARSE_SUPER: u32 = 0x1;
const LARGE_FILE: u32 = 0x2;
const HUGE_FILE: u32 = 0x8;
const DIR_NLINK: u32 = 0x20;
const EXTRA_ISIZE: u32 = 0x40;
const METADATA_CSUM: u32 = 0x400;

/// What the reader can do with, of the features that others must know.
const READABLE: u32 = FILETYPE | RECOVER | META_BG | HAS_EXTENTS | BITS_64 | FLEX_BG | CSUM_SEED;

/// Encodes the copy of a group.
pub(super) fn encode(layout: &Layout, options: &Options, group: u32) -> [u8; SIZE] {
    let geometry = &layout.geometry;
    let mut raw = [0; SIZE];
    let reserved = geometry.blocks / 100 * u64::from(options.reserved_percent.min(50));
    // At most 2^31 inodes are made.
    put32(&mut raw, 0x00, geometry.inodes() as u32);
    put32_split(&mut raw, 0x04, 0x150, geometry.blocks);
    put32_split(&mut raw, 0x08, 0x154, reserved);
    put32_split(&mut raw, 0x0c, 0x158, layout.free_blocks());
    put32(&mut raw, 0x10, geometry.inodes() as u32 - layout.last_inode());
    let block_log = BLOCK.ilog2() - 10;
    put32(&mut raw, 0x18, block_log);
    put32(&mut raw, 0x1c, block_log);
    put32(&mut raw, 0x20, geometry::GROUP_BLOCKS as u32);
    put32(&mut raw, 0x24, geometry::GROUP_BLOCKS as u32);
    put32(&mut raw, 0x28, geometry.group_inodes);
    // No check is forced by the number of mounts or by time.
    put16(&mut raw, 0x36, 0xffff);
    put16(&mut raw, 0x38, MAGIC);
    // Clean; errors are noted and work goes on.
    put16(&mut raw, 0x3a, 1);
    put16(&mut raw, 0x3c, 1);
    // Revision 1: inodes of a size of our choice.
    put32(&mut raw, 0x4c, 1);
    put32(&mut raw, 0x54, FIRST_INODE);
    put16(&mut raw, 0x58, inode::SIZE as u16);
    put16(&mut raw, 0x5a, group as u16);
    put_features(&mut raw, layout);
    raw[0x68..0x78].copy_from_slice(&options.uuid);
    raw[0x78..0x78 + options.label.len()].copy_from_slice(options.label.as_bytes());
    raw[0xec..0xfc].copy_from_slice(&options.uuid);
    raw[0xfc] = htree::HALF_MD4;
    put16(&mut raw, 0xfe, group::SIZE as u16);
    // Mounted with user attributes and access control lists by default.
    put32(&mut raw, 0x100, 0x0c);
    put16(&mut raw, 0x15c, inode::EXTRA);
    put16(&mut raw, 0x15e, inode::EXTRA);
    // Names are hashed as unsigned bytes.
    put32(&mut raw, 0x160, 2);
    raw[0x174] = geometry::FLEX.ilog2() as u8;
    // The one kind of checksum that there is.
    raw[0x175] = 1;
    put_times(&mut raw, options.time);
    if let Some(journal) = &layout.journal {
        put_journal(&mut raw, journal);
    }
    let sum = super::checksum::crc32c(!0, &raw[..CHECKSUM]);
    put32(&mut raw, CHECKSUM, sum);
    raw
}

fn put_features(raw: &mut [u8], layout: &Layout) {
    let mut compatible = EXT_ATTR | DIR_INDEX;
    if layout.journal.is_some() {
        compatible |= HAS_JOURNAL;
    }
    if layout.resize.is_some() {
        compatible |= RESIZE_INODE;
        // At most 1024.
        put16(raw, 0xce, layout.geometry.reserved_blocks as u16);
    }
    put32(raw, 0x5c, compatible);
    put32(raw, 0x60, FILETYPE | HAS_EXTENTS | BITS_64 | FLEX_BG);
    let to_write = SPARSE_SUPER | LARGE_FILE | HUGE_FILE | DIR_NLINK | EXTRA_ISIZE | METADATA_CSUM;
    put32(raw, 0x64, to_write);
}

/// Written, checked and made at one time; 32 bits and 8 more elsewhere.
fn put_times(raw: &mut [u8], time: i64) {
    let time = time.clamp(0, (1 << 40) - 1);
    for (low, high) in [(0x30, 0x274), (0x40, 0x277), (0x108, 0x276)] {
        put32(raw, low, time as u32);
        raw[high] = (time >> 32) as u8;
    }
}

/// Names the journal's inode and keeps a copy of its mapping and size.
fn put_journal(raw: &mut [u8], mapping: &Mapping) {
    put32(raw, 0xe0, journal::INODE);
    raw[0xfd] = 1;
    raw[0x10c..0x10c + inode::BODY].copy_from_slice(&mapping.root());
    let size = mapping.data_blocks() * BLOCK as u64;
    put32_split(raw, 0x10c + 16 * 4, 0x10c + 15 * 4, size);
}

/// What the reader needs to know.
#[derive(Clone, Debug)]
pub(super) struct Superblock {
    pub(super) blocks: u64,
    pub(super) free_blocks: u64,
    pub(super) inodes: u32,
    pub(super) free_inodes: u32,
    pub(super) first_block: u32,
    pub(super) block_size: usize,
    pub(super) group_blocks: u32,
    pub(super) group_inodes: u32,
    pub(super) inode_size: usize,
    pub(super) descriptor_size: usize,
    pub(super) first_meta_group: Option<u32>,
    pub(super) features: [u32; 3],
    pub(super) reserved_descriptors: u16,
    pub(super) uuid: [u8; 16],
    pub(super) label: [u8; 16],
    pub(super) hash_seed: [u8; 16],
    pub(super) time: u32,
}

impl Superblock {
    /// Decodes and checks a superblock.
    pub(super) fn decode(raw: &[u8]) -> Result<Self> {
        let magic = get16(raw, 0x38);
        ensure!(magic == MAGIC, "expected an ext4 file system, got magic {magic:#06x}");
        let features = [get32(raw, 0x5c), get32(raw, 0x60), get32(raw, 0x64)];
        let unknown = features[1] & !READABLE;
        ensure!(unknown == 0, "expected ext4 features that moby reads, got {unknown:#x}, too");
        let log = get32(raw, 0x18);
        ensure!(log <= 6, "expected blocks of 1 to 64 KiB, got 2^{log} KiB");
        let wide = features[1] & BITS_64 != 0;
        let split = |low: usize, high: usize| {
            if wide { get32_split(raw, low, high) } else { u64::from(get32(raw, low)) }
        };
        let superblock = Self {
            blocks: split(0x04, 0x150),
            free_blocks: split(0x0c, 0x158),
            inodes: get32(raw, 0x00),
            free_inodes: get32(raw, 0x10),
            first_block: get32(raw, 0x14),
            block_size: 1024 << log,
            group_blocks: get32(raw, 0x20),
            group_inodes: get32(raw, 0x28),
            inode_size: if get32(raw, 0x4c) == 0 { 128 } else { get16(raw, 0x58).into() },
            descriptor_size: if wide { get16(raw, 0xfe).into() } else { 32 },
            first_meta_group: (features[1] & META_BG != 0).then(|| get32(raw, 0x104)),
            features,
            reserved_descriptors: get16(raw, 0xce),
            uuid: get(raw, 0x68),
            label: get(raw, 0x78),
            hash_seed: get(raw, 0xec),
            time: get32(raw, 0x108),
        };
        superblock.check()?;
        Ok(superblock)
    }

    fn check(&self) -> Result<()> {
        let size = self.inode_size;
        ensure!(
            size.is_power_of_two() && (128..=self.block_size).contains(&size),
            "expected inodes of 128 bytes to one block, got {size}"
        );
        let size = self.descriptor_size;
        ensure!(
            size.is_power_of_two() && (32..=1024).contains(&size),
            "expected group descriptors of 32 to 1024 bytes, got {size}"
        );
        ensure!(
            self.group_blocks > 0 && self.group_inodes > 0,
            "expected groups of blocks and inodes, got empty ones"
        );
        ensure!(
            u64::from(self.first_block) < self.blocks,
            "expected at least one block, got {}",
            self.blocks
        );
        Ok(())
    }
}
