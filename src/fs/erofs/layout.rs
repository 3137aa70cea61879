//! Where inodes stand: packed into blocks so that little room is lost, with
//! the ends of files beside them.

use std::collections::BTreeSet;

use super::format::{BLOCK, SLOT};

/// How long an end of a file may be that an inode holds: however the inode
/// stands, so much fits into one block.
pub(super) const INLINE_MAX: usize = BLOCK - 2 * SLOT;

/// Gives out room in blocks that are numbered from 0.
#[derive(Debug, Default)]
pub(super) struct Room {
    blocks: u64,
    // Free bytes at the end of a block, and the block.
    open: BTreeSet<(usize, u64)>,
}

impl Room {
    /// Finds room for `head` bytes and then `tail` bytes, and returns where it
    /// begins, in bytes. The tail stands in a single block; so does all of it
    /// where it is not longer than one.
    pub(super) fn place(&mut self, head: usize, tail: usize) -> u64 {
        let len = (head + tail).next_multiple_of(SLOT);
        if len <= BLOCK {
            // The block that it fills best.
            let best = self.open.range((len, 0)..).next().copied();
            let (free, block) = best.unwrap_or((BLOCK, self.blocks));
            if best.is_some() {
                self.open.remove(&(free, block));
            } else {
                self.blocks += 1;
            }
            self.leave(free - len, block);
            return block * BLOCK as u64 + (BLOCK - free) as u64;
        }
        let fits = |skip: &usize| (skip + head) % BLOCK + tail <= BLOCK;
        let skip = (0..BLOCK).step_by(SLOT).find(fits).expect("a tail of INLINE_MAX bytes fits");
        let start = self.blocks * BLOCK as u64 + skip as u64;
        let used = skip + len;
        self.blocks += used.div_ceil(BLOCK) as u64;
        self.leave(used.next_multiple_of(BLOCK) - used, self.blocks - 1);
        start
    }

    fn leave(&mut self, free: usize, block: u64) {
        if free >= SLOT {
            self.open.insert((free, block));
        }
    }

    /// Returns how many blocks there are.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_tails_within_a_block_and_everything_apart() {
        let mut room = Room::default();
        let mut taken: Vec<(u64, u64)> = Vec::new();
        for n in 0..2000_usize {
            let head = 32 + (n * 7919 % 9000) / 4 * 4;
            let tail = if n % 3 == 0 { 0 } else { n * 104_729 % (INLINE_MAX + 1) };
            let start = room.place(head, tail);
            assert_eq!(start % SLOT as u64, 0);
            let at = start + head as u64;
            assert!(at % BLOCK as u64 + tail as u64 <= BLOCK as u64, "{head} {tail} at {start}");
            taken.push((start, at + tail as u64));
        }
        taken.sort_unstable();
        assert!(taken.windows(2).all(|pair| pair[0].1 <= pair[1].0));
        let used: u64 = taken.iter().map(|(start, end)| end - start).sum();
        let all = room.blocks() * BLOCK as u64;
        assert!(used * 100 / all > 80, "{used} of {all}");
    }
}
