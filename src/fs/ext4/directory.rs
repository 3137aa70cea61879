//! Folders: entries in one block, or in the leaves of a hashed index.
//!
//! Follows "ext4 Data Structures and Algorithms", section "Directory
//! Entries", with the checksum tail of each block.

use anyhow::Result;

use super::checksum::Seed;
use super::field::{put16, put32};
use super::{BLOCK, htree};
use crate::tree::Kind;

/// An entry without its name.
const HEADER: usize = 8;
/// The entry at the end of each block that holds its checksum.
const TAIL: usize = 12;
/// `.` and `..` together.
const DOTS: usize = 2 * 12;
/// Room for entries in a block.
pub(super) const ROOM: usize = BLOCK - TAIL;

/// An entry of a folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) inode: u32,
    /// The entry's own copy of the inode's type.
    pub(super) kind: u8,
}

impl Entry<'_> {
    /// Returns its length on disk.
    pub(super) fn len(&self) -> usize {
        (HEADER + self.name.len()).next_multiple_of(4)
    }
}

/// Returns the type that an entry of a folder has for an inode.
pub(super) fn kind(kind: &Kind) -> u8 {
    match kind {
        Kind::File(_) => 1,
        Kind::Directory(_) => 2,
        Kind::Char(..) => 3,
        Kind::Block(..) => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
        Kind::Symlink(_) => 7,
    }
}

/// The type of an entry for a folder.
pub(super) const FOLDER: u8 = 2;

/// A folder's contents.
#[derive(Debug)]
pub(super) struct Listing<'a> {
    /// Its own inode.
    pub(super) own: u32,
    /// The inode of the folder that holds it.
    pub(super) parent: u32,
    /// Entries without `.` and `..`.
    pub(super) entries: Vec<Entry<'a>>,
    /// How many blocks it has at least, for entries to come.
    pub(super) min_blocks: usize,
}

impl Listing<'_> {
    /// Says whether one block holds all of it.
    fn is_linear(&self) -> bool {
        DOTS + self.entries.iter().map(Entry::len).sum::<usize>() <= ROOM
    }

    /// Returns its length in blocks, and whether it has an index.
    pub(super) fn measure(&self, hash_seed: &[u8; 16]) -> Result<(usize, bool)> {
        if self.is_linear() {
            return Ok((self.min_blocks.max(1), false));
        }
        Ok((htree::pack(&self.entries, hash_seed)?.blocks(), true))
    }

    /// Encodes all blocks. `seed` is that of its inode.
    pub(super) fn encode(&self, hash_seed: &[u8; 16], seed: Seed) -> Result<Vec<u8>> {
        if !self.is_linear() {
            return htree::encode(self, &htree::pack(&self.entries, hash_seed)?, seed);
        }
        let mut all = self.dots().to_vec();
        all.extend_from_slice(&self.entries);
        let mut bytes = block(&all, seed);
        for _ in 1..self.min_blocks {
            bytes.extend_from_slice(&block(&[], seed));
        }
        Ok(bytes)
    }

    /// Returns the entries for the folder itself and for its parent.
    pub(super) fn dots(&self) -> [Entry<'static>; 2] {
        [
            Entry { name: b".", inode: self.own, kind: FOLDER },
            Entry { name: b"..", inode: self.parent, kind: FOLDER },
        ]
    }
}

/// Encodes one block of entries that fit, the last one reaching to the tail.
pub(super) fn block(entries: &[Entry<'_>], seed: Seed) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    for (nth, entry) in entries.iter().enumerate() {
        let len = if nth + 1 == entries.len() { ROOM - at } else { entry.len() };
        put_entry(&mut block[at..], entry, len);
        at += len;
    }
    if entries.is_empty() {
        put16(&mut block, 4, ROOM as u16);
    }
    put16(&mut block, ROOM + 4, TAIL as u16);
    block[ROOM + 7] = 0xde;
    let sum = seed.sum(&[&block[..ROOM]]);
    put32(&mut block, ROOM + 8, sum);
    block
}

/// Encodes an entry that occupies `len` bytes.
pub(super) fn put_entry(buf: &mut [u8], entry: &Entry<'_>, len: usize) {
    put32(buf, 0, entry.inode);
    put16(buf, 4, len as u16);
    buf[6] = entry.name.len() as u8;
    buf[7] = entry.kind;
    buf[HEADER..HEADER + entry.name.len()].copy_from_slice(entry.name);
}
