//! The journal: empty, with nothing to replay.
//!
//! Follows "ext4 Data Structures and Algorithms", section "Journal (jbd2)".

use super::BLOCK;
use super::field::put32_be;

/// The journal's inode.
pub(super) const INODE: u32 = 8;
/// The shortest journal that the kernel takes, in blocks.
pub(super) const BLOCKS_MIN: u64 = 1024;
/// Images below this many blocks have no journal unless asked for.
const IMAGE_MIN: u64 = 2048;

const MAGIC: u32 = 0xc03b_3998;
const SUPERBLOCK_V2: u32 = 4;

/// The longest journal for the sake of growth to come, in blocks.
pub(super) const GROWN_MAX: u64 = 8192;

/// Returns the length of a journal in blocks by the length of the image.
pub(super) fn default_blocks(image: u64) -> u64 {
    match image {
        0..IMAGE_MIN => 0,
        IMAGE_MIN..32_768 => BLOCKS_MIN,
        32_768..262_144 => 4096,
        262_144..524_288 => 8192,
        524_288..4_194_304 => 16_384,
        _ => 32_768,
    }
}

/// Encodes the journal's first block; the rest is zeros.
pub(super) fn superblock(blocks: u32, uuid: &[u8; 16]) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    put32_be(&mut block, 0x00, MAGIC);
    put32_be(&mut block, 0x04, SUPERBLOCK_V2);
    put32_be(&mut block, 0x0c, BLOCK as u32);
    put32_be(&mut block, 0x10, blocks);
    // The log begins at block 1 with transaction 1; a start of 0 is clean.
    put32_be(&mut block, 0x14, 1);
    put32_be(&mut block, 0x18, 1);
    block[0x30..0x40].copy_from_slice(uuid);
    put32_be(&mut block, 0x40, 1);
    block
}
