//! Fills a block of a given size with as much input as fits it, compressed as
//! LZ4: erofs wants compressed data in whole blocks, and room left over in
//! the last one is lost.
//!
//! A greedy matcher with one candidate for each hash, as fast LZ4 encoders
//! are. Follows the LZ4 Block Format Description: the last match begins at
//! least 12 bytes before the end, the last 5 bytes are literals.

/// Log of the number of hashed positions: as many as fit the fastest memory.
/// Twice as many find 2 % more and take a sixth longer.
const HASH_LOG: u32 = 12;
/// How far back a match may begin.
const DISTANCE: usize = 65_535;
/// The shortest match.
const MATCH_MIN: usize = 4;
/// The last match begins this far before the end.
const MATCH_LIMIT: usize = 12;
/// Bytes at the end that are literals.
const LITERALS_MIN: usize = 5;
/// What the last sequence needs: a token and literals.
const RESERVE: usize = 1 + MATCH_LIMIT;
/// After how many misses the search makes longer steps, as a log.
const PATIENCE: usize = 6;

/// How many literals are copied without asking how many they are.
const SHORT: usize = 16;

/// The number of hashed positions.
const POSITIONS: usize = 1 << HASH_LOG;

/// Positions of the input by hash. Kept for the next call.
#[derive(Debug)]
pub(super) struct Table(Box<[u32; POSITIONS]>);

impl Table {
    /// Makes a table.
    pub(super) fn new() -> Self {
        Self(Box::new([0; POSITIONS]))
    }
}

/// Compresses the beginning of `input` into `out`, as much as fits, and returns
/// how many bytes of the input those are, and how many of the output.
pub(super) fn fill(input: &[u8], out: &mut [u8], table: &mut Table) -> (usize, usize) {
    // What nothing is known of is looked for at the very beginning.
    table.0.fill(0);
    let mut filler = Filler { input, out, used: 0 };
    let mut anchor = 0;
    let mut at = 1;
    while let Some((start, from)) = filler.search(&mut table.0, anchor, at) {
        let len = filler.match_len(start, from);
        let Some(taken) = filler.sequence(anchor, start, start - from, len) else {
            break;
        };
        anchor = start + taken;
        at = anchor;
        if taken < len {
            break;
        }
        if let Some(word) = at.checked_sub(2).and_then(|before| word(input, before)) {
            table.0[hash(word)] = (at - 2) as u32;
        }
    }
    let taken = filler.last(anchor);
    (taken, filler.used)
}

struct Filler<'a> {
    input: &'a [u8],
    out: &'a mut [u8],
    used: usize,
}

impl Filler<'_> {
    /// Finds the next match at or after `at`: where it begins, and where the
    /// same bytes are. Looks up a position before it compares the one before
    /// it, for memory takes its time.
    #[inline]
    fn search(
        &self,
        table: &mut [u32; POSITIONS],
        anchor: usize,
        mut at: usize,
    ) -> Option<(usize, usize)> {
        let limit = self.input.len().checked_sub(MATCH_LIMIT)?;
        // Beyond, the literals alone would fill the room.
        let room = self.out.len().checked_sub(self.used + RESERVE)?;
        let limit = limit.min(anchor.saturating_add(room));
        if at >= limit {
            return None;
        }
        let input = &self.input[..limit + 8];
        let mut misses = 1 << PATIENCE;
        let mut here = word(input, at)?;
        let mut key = hash(here);
        loop {
            let next = at + (misses >> PATIENCE);
            misses += 1;
            let from = table[key] as usize;
            table[key] = at as u32;
            let found = input.get(from..)?.first_chunk()?;
            if u32::from_le_bytes(*found) == here as u32 && at - from <= DISTANCE {
                return Some(self.backwards(anchor, at, from));
            }
            if next >= limit {
                return None;
            }
            at = next;
            here = word(input, at)?;
            key = hash(here);
        }
    }

    #[inline]
    fn backwards(&self, anchor: usize, at: usize, from: usize) -> (usize, usize) {
        let here = self.input[anchor..at].iter().rev();
        let there = self.input[..from].iter().rev();
        let same = here.zip(there).take_while(|(a, b)| a == b).count();
        (at - same, from - same)
    }

    #[inline]
    fn match_len(&self, start: usize, from: usize) -> usize {
        let here = &self.input[start..self.input.len() - LITERALS_MIN];
        let there = &self.input[from..from + here.len()];
        let mut len = MATCH_MIN;
        while let (Some(a), Some(b)) = (word(here, len), word(there, len)) {
            let differing = a ^ b;
            if differing != 0 {
                return len + (differing.trailing_zeros() / 8) as usize;
            }
            len += 8;
        }
        let rest = here[len..].iter().zip(&there[len..]);
        len + rest.take_while(|(a, b)| a == b).count()
    }

    /// Appends literals and a match, shortened where the room demands it, and
    /// returns how much of the match there was room for.
    fn sequence(&mut self, anchor: usize, start: usize, back: usize, len: usize) -> Option<usize> {
        let literals = start - anchor;
        let fixed = 1 + extra(literals) + literals + 2;
        let left = self.out.len().checked_sub(self.used + fixed + RESERVE)?;
        let len = len.min(MATCH_MIN + 14 + 255 * left);
        let beyond = len - MATCH_MIN;
        self.push((literals.min(15) << 4 | beyond.min(15)) as u8);
        self.lengthen(literals);
        self.copy(anchor, literals);
        let [low, high] = (back as u16).to_le_bytes();
        self.push(low);
        self.push(high);
        self.lengthen(beyond);
        Some(len)
    }

    /// Appends the last literals, as many as there is room for, and returns
    /// where in the input the block ends.
    fn last(&mut self, anchor: usize) -> usize {
        let room = self.out.len().saturating_sub(self.used + 1);
        let mut literals = (self.input.len() - anchor).min(room);
        literals -= extra(literals).saturating_sub(room - literals).min(literals);
        self.push((literals.min(15) << 4) as u8);
        self.lengthen(literals);
        self.copy(anchor, literals);
        anchor + literals
    }

    fn lengthen(&mut self, len: usize) {
        if let Some(mut rest) = len.checked_sub(15) {
            while rest >= 255 {
                self.push(255);
                rest -= 255;
            }
            self.push(rest as u8);
        }
    }

    fn push(&mut self, byte: u8) {
        self.out[self.used] = byte;
        self.used += 1;
    }

    fn copy(&mut self, from: usize, len: usize) {
        // Most runs are short: a copy of a fixed length needs no call.
        let fixed = self.input.get(from..from + SHORT).filter(|_| len <= SHORT);
        let room = self.out.get_mut(self.used..self.used + SHORT);
        if let (Some(fixed), Some(room)) = (fixed, room) {
            room.copy_from_slice(fixed);
        } else {
            let to = &mut self.out[self.used..self.used + len];
            to.copy_from_slice(&self.input[from..from + len]);
        }
        self.used += len;
    }
}

/// Returns how many bytes a length takes beyond the token's four bits.
fn extra(len: usize) -> usize {
    len.checked_sub(15).map_or(0, |rest| rest / 255 + 1)
}

#[inline]
fn word(input: &[u8], at: usize) -> Option<u64> {
    input.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[inline]
fn hash(word: u64) -> usize {
    // Five bytes, as a longer match is worth more.
    ((word << 24).wrapping_mul(889_523_592_379) >> (64 - HASH_LOG)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::sample::{noise, prose};

    fn check(input: &[u8], room: usize) -> (usize, usize) {
        let mut out = vec![0; room];
        let (taken, used) = fill(input, &mut out, &mut Table::new());
        let mut plain = vec![0; taken];
        assert_eq!(lz4_flex::block::decompress_into(&out[..used], &mut plain).unwrap(), taken);
        assert!(plain == input[..taken]);
        (taken, used)
    }

    #[test]
    fn fills_the_room() {
        for room in [4096, 8192, 65_536] {
            for input in [prose(1 << 20, 1), noise(1 << 20, 1), vec![0; 1 << 25]] {
                let (taken, len) = check(&input, room);
                assert!(taken < input.len() && len > room - 2, "{taken} in {len} of {room}");
            }
        }
    }

    #[test]
    fn takes_all_there_is() {
        for len in (0..300).chain([4000, 40_000]) {
            for input in [prose(len, 1), noise(len, 1), vec![7; len], b"abcde".repeat(len / 5)] {
                assert_eq!(check(&input, 65_536).0, input.len());
            }
        }
    }

    #[test]
    fn compresses_what_repeats() {
        let (taken, len) = check(&prose(100_000, 3), 65_536);
        assert!(taken == 100_000 && len < 50_000, "{taken} in {len}");
    }

    proptest::proptest! {
        #[test]
        fn fills_any_room(len in 0_usize..3000, alphabet in 1_u8..200, room in 13_usize..2000) {
            let input: Vec<u8> = noise(len, 5).into_iter().map(|b| b % alphabet).collect();
            check(&input, room);
        }
    }
}
