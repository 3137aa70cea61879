//! The index of a folder too large for one block: a tree of one or two
//! levels that leads from a name's hash to the block of its entry.
//!
//! Follows "ext4 Data Structures and Algorithms", section "Hash Tree
//! Directories". The first block is the root, then come the nodes between,
//! if any, then the leaves in order of hash.

use std::ops::Range;

use anyhow::{Result, ensure};

use super::BLOCK;
use super::checksum::Seed;
use super::directory::{self, Entry, Listing, ROOM};
use super::field::{put16, put32};
use super::hash::{Hash, half_md4};

/// The number of the hash in the root block and in the superblock.
pub(super) const HALF_MD4: u8 = 1;
/// Where the entries of the root begin: behind `.`, `..` and the root's info.
const ROOT_HEADER: usize = 32;
/// Where the entries of a node begin: behind an empty directory entry.
const NODE_HEADER: usize = 8;
/// An entry, and also the tail with the checksum.
const ENTRY: usize = 8;
/// Entries in the root and in a node.
const ROOT_ENTRIES: usize = (BLOCK - ROOT_HEADER) / ENTRY - 1;
const NODE_ENTRIES: usize = (BLOCK - NODE_HEADER) / ENTRY - 1;

/// Entries by hash and how they divide into leaves.
#[derive(Debug)]
pub(super) struct Packed<'a> {
    entries: Vec<(Hash, Entry<'a>)>,
    leaves: Vec<Leaf>,
}

#[derive(Debug)]
struct Leaf {
    /// The first hash, with the lowest bit set where the leaf before ends
    /// with the same one.
    hash: u32,
    range: Range<usize>,
}

impl Packed<'_> {
    /// Nodes between the root and the leaves.
    fn nodes(&self) -> usize {
        if self.leaves.len() <= ROOT_ENTRIES { 0 } else { self.leaves.len().div_ceil(NODE_ENTRIES) }
    }

    /// Returns the length in blocks.
    pub(super) fn blocks(&self) -> usize {
        1 + self.nodes() + self.leaves.len()
    }
}

/// Divides entries into leaves by hash.
pub(super) fn pack<'a>(entries: &[Entry<'a>], hash_seed: &[u8; 16]) -> Result<Packed<'a>> {
    let hashed = entries.iter().map(|entry| (half_md4(entry.name, hash_seed), *entry));
    let mut entries: Vec<_> = hashed.collect();
    entries.sort_unstable_by_key(|(hash, entry)| (*hash, entry.name));
    let mut leaves: Vec<Leaf> = Vec::new();
    let mut room = 0;
    for (at, (hash, entry)) in entries.iter().enumerate() {
        if let Some(leaf) = leaves.last_mut()
            && entry.len() <= room
        {
            leaf.range.end = at + 1;
        } else {
            let continued = at > 0 && entries[at - 1].0.major == hash.major;
            let hash = hash.major | u32::from(continued);
            leaves.push(Leaf { hash, range: at..at + 1 });
            room = ROOM;
        }
        room -= entry.len();
    }
    let most = ROOT_ENTRIES * NODE_ENTRIES;
    ensure!(
        leaves.len() <= most,
        "expected a folder of at most {most} blocks of entries, got {}",
        leaves.len()
    );
    Ok(Packed { entries, leaves })
}

/// Encodes all blocks of a folder.
pub(super) fn encode(listing: &Listing<'_>, packed: &Packed<'_>, seed: Seed) -> Result<Vec<u8>> {
    let nodes = packed.nodes();
    let mut bytes = Vec::with_capacity(packed.blocks() * BLOCK);
    let hashes: Vec<u32> = packed.leaves.iter().map(|leaf| leaf.hash).collect();
    // Block numbers within the folder, far below 2^32.
    let leaf_block = |nth: usize| (1 + nodes + nth) as u32;
    let leaves: Vec<_> =
        hashes.iter().enumerate().map(|(nth, hash)| (*hash, leaf_block(nth))).collect();
    if nodes == 0 {
        bytes.extend(root(listing, 0, &leaves, seed));
    } else {
        let groups: Vec<_> = leaves.chunks(NODE_ENTRIES).collect();
        let firsts: Vec<_> =
            groups.iter().enumerate().map(|(nth, group)| (group[0].0, 1 + nth as u32)).collect();
        bytes.extend(root(listing, 1, &firsts, seed));
        groups.iter().for_each(|group| bytes.extend(node(group, seed)));
    }
    for leaf in &packed.leaves {
        let entries: Vec<_> =
            packed.entries[leaf.range.clone()].iter().map(|(_, entry)| *entry).collect();
        bytes.extend(directory::block(&entries, seed));
    }
    Ok(bytes)
}

fn root(listing: &Listing<'_>, levels: u8, entries: &[(u32, u32)], seed: Seed) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let [own, parent] = listing.dots();
    directory::put_entry(&mut block, &own, own.len());
    // To readers without an index the rest of the block is one long entry.
    directory::put_entry(&mut block[own.len()..], &parent, BLOCK - own.len());
    block[0x1c] = HALF_MD4;
    block[0x1d] = 8;
    block[0x1e] = levels;
    fill(&mut block, ROOT_HEADER, ROOT_ENTRIES, entries, seed);
    block
}

fn node(entries: &[(u32, u32)], seed: Seed) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    put16(&mut block, 4, BLOCK as u16);
    fill(&mut block, NODE_HEADER, NODE_ENTRIES, entries, seed);
    block
}

/// Writes entries and the checksum behind the room for them.
fn fill(block: &mut [u8], header: usize, limit: usize, entries: &[(u32, u32)], seed: Seed) {
    for (slot, (hash, child)) in entries.iter().enumerate() {
        let entry = &mut block[header + slot * ENTRY..];
        put32(entry, 0, *hash);
        put32(entry, 4, *child);
    }
    // The first entry has no hash: it stands for all below the second.
    put16(block, header, limit as u16);
    put16(block, header + 2, entries.len() as u16);
    let used = header + entries.len() * ENTRY;
    let tail = header + limit * ENTRY;
    let sum = seed.sum(&[&block[..used], &[0; ENTRY]]);
    put32(block, tail + 4, sum);
}
