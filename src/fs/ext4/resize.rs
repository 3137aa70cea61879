//! The resize inode: a file that owns the blocks kept for more group
//! descriptors, so that the kernel finds them when the file system grows.
//!
//! It is mapped the old way. Its double-indirect block lists the kept blocks
//! of the first copy; each of these lists the same block of each other copy.

use super::BLOCK;
use super::field::put32;
use super::geometry::Geometry;
use super::inode;

/// The resize inode.
pub(super) const INODE: u32 = 7;
/// Block numbers in a block.
const NUMBERS: u64 = BLOCK as u64 / 4;
/// Where the double-indirect block's number lies in the inode.
const DOUBLE: usize = 13 * 4;

/// The inode's size in bytes: all that double-indirect mapping reaches.
pub(super) const SIZE: u64 = (NUMBERS * NUMBERS + NUMBERS + 12) * BLOCK as u64;

/// Returns the space that the inode takes, in blocks.
pub(super) fn blocks(geometry: &Geometry) -> u64 {
    1 + geometry.reserved_blocks * (1 + geometry.copies().count() as u64)
}

/// Encodes the inode's body.
pub(super) fn body(double: u64) -> [u8; inode::BODY] {
    let mut body = [0; inode::BODY];
    // There is no resize inode where block numbers exceed 32 bits.
    put32(&mut body, DOUBLE, double as u32);
    body
}

/// Encodes the double-indirect block.
pub(super) fn double_block(geometry: &Geometry) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    for kept in 0..geometry.reserved_blocks {
        let slot = (geometry.descriptor_blocks + kept) % NUMBERS;
        put32(&mut block, slot as usize * 4, kept_block(geometry, kept) as u32);
    }
    block
}

/// Encodes one of the kept blocks of the first copy.
pub(super) fn kept(geometry: &Geometry, kept: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    for (slot, group) in geometry.copies().enumerate() {
        let number = kept_block(geometry, kept) + geometry.start(group);
        put32(&mut block, slot * 4, number as u32);
    }
    block
}

fn kept_block(geometry: &Geometry, kept: u64) -> u64 {
    1 + geometry.descriptor_blocks + kept
}
