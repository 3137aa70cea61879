//! The index of a compressed file: for each block's length of it, where the
//! extent begins that holds it. In the format's full form, eight bytes each.

use super::codec::Extent;
use super::data::Stored;
use super::format::{
    ADVISE_BIG, BLOCK, INDEX_AT, INDEX_BLOCKS, INDEX_ENTRY, INDEX_HEAD, INDEX_PLAIN, INDEX_REST,
};

/// Returns the length of header and index of a compressed file, in bytes.
pub(super) fn len(stored: &Stored) -> usize {
    INDEX_AT + stored.len.div_ceil(BLOCK as u64) as usize * INDEX_ENTRY
}

/// Encodes header and index.
pub(super) fn encode(stored: &Stored, extents: &[Extent], algorithm: u8) -> Vec<u8> {
    let mut index = Index { bytes: Vec::with_capacity(len(stored)), at: 0, block: stored.start };
    index.bytes.extend([0; 4]);
    index.bytes.extend(ADVISE_BIG.to_le_bytes());
    index.bytes.extend([algorithm, 0]);
    index.bytes.resize(INDEX_AT, 0);
    for extent in extents {
        if !extent.raw {
            index.extent(u64::from(extent.len), extent.blocks, INDEX_HEAD);
            continue;
        }
        // What is stored as it is has an extent for each block.
        let mut left = u64::from(extent.len);
        while left > 0 {
            let len = left.min(BLOCK as u64);
            index.extent(len, 1, INDEX_PLAIN);
            left -= len;
        }
    }
    index.end();
    index.bytes
}

struct Index {
    bytes: Vec<u8>,
    // Where in the file the next extent begins, and its first block.
    at: u64,
    block: u32,
}

impl Index {
    fn extent(&mut self, len: u64, blocks: u32, kind: u16) {
        let size = BLOCK as u64;
        let (first, end) = (self.at / size, self.at + len);
        let next = end / size;
        self.entry(kind, (self.at % size) as u16, self.block.to_le_bytes());
        for place in first + 1..next {
            // From here back to the head, and forward to the next one.
            let mut back = (place - first) as u16;
            if back == 1 {
                back = INDEX_BLOCKS | blocks as u16;
            }
            let forward = ((next - place) as u16).to_le_bytes();
            let [low, high] = back.to_le_bytes();
            self.entry(INDEX_REST, 0, [low, high, forward[0], forward[1]]);
        }
        self.at = end;
        self.block += blocks;
    }

    /// Tells where the last extent ends, if the place is not taken by its head.
    fn end(&mut self) {
        let wanted = INDEX_AT + self.at.div_ceil(BLOCK as u64) as usize * INDEX_ENTRY;
        if self.bytes.len() < wanted {
            self.entry(INDEX_PLAIN, (self.at % BLOCK as u64) as u16, [0; 4]);
        }
    }

    fn entry(&mut self, kind: u16, offset: u16, rest: [u8; 4]) {
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(offset.to_le_bytes());
        self.bytes.extend(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::erofs::data::Form;

    fn entries(extents: &[(u32, u32, bool)]) -> Vec<(u16, u16, [u16; 2])> {
        let len = extents.iter().map(|extent| u64::from(extent.0)).sum();
        let stored = Stored { len, start: 100, form: Form::Flat, ..Stored::default() };
        let extents = extents.iter().map(|(len, blocks, raw)| Extent {
            len: *len,
            blocks: *blocks,
            raw: *raw,
        });
        let bytes = encode(&stored, &extents.collect::<Vec<_>>(), 0);
        assert_eq!(bytes.len(), super::len(&stored));
        let halves = bytes[INDEX_AT..].chunks(2).map(|half| u16::from_le_bytes([half[0], half[1]]));
        let halves: Vec<u16> = halves.collect();
        halves.chunks(4).map(|entry| (entry[0], entry[1], [entry[2], entry[3]])).collect()
    }

    #[test]
    fn covers_each_block_of_the_file() {
        // Two compressed extents, one of two blocks; the end is told.
        assert_eq!(
            entries(&[(13_000, 2, false), (5000, 1, false)]),
            [
                (INDEX_HEAD, 0, [100, 0]),
                (INDEX_REST, 0, [INDEX_BLOCKS | 2, 2]),
                (INDEX_REST, 0, [2, 1]),
                (INDEX_HEAD, 13_000 % 4096, [102, 0]),
                (INDEX_PLAIN, 18_000 % 4096, [0, 0]),
            ]
        );
        // What is stored as it is may begin anywhere, and end with the file.
        assert_eq!(
            entries(&[(4196, 1, false), (5096, 2, true)]),
            [(INDEX_HEAD, 0, [100, 0]), (INDEX_PLAIN, 100, [101, 0]), (INDEX_PLAIN, 100, [102, 0]),]
        );
        // A file that ends with a block needs no end.
        assert_eq!(
            entries(&[(8192, 1, false)]),
            [(INDEX_HEAD, 0, [100, 0]), (INDEX_REST, 0, [INDEX_BLOCKS | 1, 1])]
        );
    }
}
