//! A directory's blocks: in each the records first and then the names, sorted
//! by name, with `.` and `..` among them.

use std::collections::BTreeMap;

use super::format::{BLOCK, entry_type};
use super::layout::INLINE_MAX;
use crate::tree::{Id, Tree};

const RECORD: usize = 12;
const DIRECTORY: u8 = 2;

/// A name, where it leads, and the type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    name: &'a [u8],
    id: Id,
    kind: u8,
}

/// The names of one directory, cut into blocks.
#[derive(Debug)]
pub(super) struct Listing<'a> {
    blocks: Vec<Vec<Named<'a>>>,
    /// Length in bytes.
    pub(super) len: u64,
    /// How many bytes at the end are for the inode to hold.
    pub(super) tail: usize,
}

impl<'a> Listing<'a> {
    /// Lists a directory.
    pub(super) fn of(tree: &'a Tree, id: Id, parent: Id) -> Self {
        let entries = tree.entries(id).into_iter().flatten();
        let mut names: BTreeMap<&[u8], (Id, u8)> = entries
            .map(|(name, entry)| (&**name, (entry.id, entry_type(&tree.get(entry.id).kind))))
            .collect();
        names.insert(b".", (id, DIRECTORY));
        names.insert(b"..", (parent, DIRECTORY));
        let mut blocks = vec![Vec::new()];
        let mut used = 0;
        for (name, (id, kind)) in names {
            let len = RECORD + name.len();
            if used + len > BLOCK {
                blocks.push(Vec::new());
                used = 0;
            }
            used += len;
            blocks.last_mut().expect("there is one").push(Named { name, id, kind });
        }
        let len = ((blocks.len() - 1) * BLOCK + used) as u64;
        Self { blocks, len, tail: if used <= INLINE_MAX { used } else { 0 } }
    }

    /// Returns how many blocks stand apart from the inode.
    pub(super) fn full_blocks(&self) -> usize {
        self.blocks.len() - usize::from(self.tail > 0)
    }

    /// Encodes the blocks that stand apart.
    pub(super) fn encode_full(&self, nid: impl Fn(Id) -> u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for block in &self.blocks[..self.full_blocks()] {
            encode(block, &nid, &mut bytes);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes
    }

    /// Encodes what the inode holds.
    pub(super) fn encode_tail(&self, nid: impl Fn(Id) -> u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(block) = self.blocks.last().filter(|_| self.tail > 0) {
            encode(block, &nid, &mut bytes);
        }
        bytes
    }
}

fn encode(names: &[Named<'_>], nid: &impl Fn(Id) -> u64, bytes: &mut Vec<u8>) {
    let mut at = (names.len() * RECORD) as u16;
    for named in names {
        bytes.extend(nid(named.id).to_le_bytes());
        bytes.extend(at.to_le_bytes());
        bytes.extend([named.kind, 0]);
        at += named.name.len() as u16;
    }
    for named in names {
        bytes.extend(named.name);
    }
}
